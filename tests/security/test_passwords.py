"""Passwords: argon2id with the required costs, bcrypt for old ones, and a queue that does not grow."""

from __future__ import annotations

import threading
from typing import Any

import argon2
import bcrypt
import pytest
import trio
import trio.testing

from veza.config import Settings
from veza.security.passwords import Busy, Passwords

CHEAP: dict[str, Any] = {"memory_kib": 64, "time_cost": 1}
BOUND = 60  # seconds


async def test_the_settings_ask_for_argon2id_at_the_required_costs() -> None:
    settings = Settings()
    stored = await Passwords(settings.argon2_memory_kib, settings.argon2_time_cost).hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert settings.argon2_waiting == 50


async def test_right_and_wrong() -> None:
    passwords = Passwords(**CHEAP)
    stored = await passwords.hash("correct horse")
    assert (await passwords.verify("correct horse", stored)).right
    for wrong in ("correct horsE", "", "correct horse ", "🎻", "correct horse\x00"):
        assert not (await passwords.verify(wrong, stored)).right
    assert await passwords.hash("correct horse") != stored  # salted


async def test_weaker_hashes_are_outdated() -> None:
    stored = await Passwords(memory_kib=32, time_cost=1).hash("correct horse")
    verdict = await Passwords(**CHEAP).verify("correct horse", stored)
    assert verdict.right and verdict.outdated
    assert not (await Passwords(memory_kib=32, time_cost=1).verify("correct horse", stored)).outdated


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
async def test_bcrypt_is_verified_and_outdated(prefix: bytes) -> None:
    stored = (
        bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).replace(b"$2b$", b"$" + prefix + b"$").decode()
    )
    passwords = Passwords(**CHEAP)
    verdict = await passwords.verify("correct horse", stored)
    assert verdict.right and verdict.outdated
    assert not (await passwords.verify("wrong", stored)).right


async def test_bcrypt_reads_72_bytes_as_the_older_program_did() -> None:
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert (await Passwords(**CHEAP).verify("x" * 100, stored)).right


@pytest.mark.parametrize(
    "stored", [None, "", "!", "plain text", "$argon2id$broken", "$2b$broken", "$2b$04$short", "$1$md5$x"]
)
async def test_no_account_or_a_damaged_hash_is_simply_wrong(stored: str | None) -> None:
    passwords = Passwords(**CHEAP)
    for typed in ("correct horse", "nobody has this password", "x" * 1000, "a\x00b"):
        assert not (await passwords.verify(typed, stored)).right


async def test_an_unknown_account_costs_one_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    original = argon2.PasswordHasher.verify

    def counting(self: argon2.PasswordHasher, stored: str, password: str) -> Any:
        checked.append(stored)
        return original(self, stored, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counting)
    passwords = Passwords(**CHEAP)
    stored = await passwords.hash("correct horse")
    await passwords.verify("wrong", stored)
    await passwords.verify("wrong", None)
    assert len(checked) == 2
    # The same costs: everything before the salt is alike.
    assert checked[0].split("$")[:4] == checked[1].split("$")[:4]


async def test_two_at_a_time_some_waiting_the_rest_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(**CHEAP, workers=2, waiting=3)
    stored = await passwords.hash("correct horse")
    go = threading.Event()
    lock = threading.Lock()
    both = threading.Event()
    at_once = most = 0

    def slow(*_: Any) -> bool:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if most == 2:
                both.set()
        go.wait(BOUND)
        with lock:
            at_once -= 1
        return True

    monkeypatch.setattr(argon2.PasswordHasher, "verify", slow)
    results: list[str] = []

    async def one() -> None:
        try:
            await passwords.verify("correct horse", stored)
            results.append("done")
        except Busy:
            results.append("busy")

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            for _ in range(9):
                nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            assert results == ["busy"] * 4
            assert passwords.waiting == 3
            assert await trio.to_thread.run_sync(both.wait, BOUND)  # the threads have their own pace
            go.set()
    assert sorted(results) == ["busy"] * 4 + ["done"] * 5
    assert most == 2
    assert passwords.waiting == 0


async def test_whoever_gives_up_waiting_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(**CHEAP, workers=1, waiting=1)
    stored = await passwords.hash("correct horse")
    go = threading.Event()
    monkeypatch.setattr(argon2.PasswordHasher, "verify", lambda *_: go.wait(BOUND))
    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(passwords.verify, "correct horse", stored)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(0.01):
                await passwords.verify("correct horse", stored)
            assert passwords.waiting == 0
            go.set()


async def test_the_scheduler_goes_on_meanwhile() -> None:
    passwords = Passwords(memory_kib=1024, time_cost=60)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.sleep(0.001)
            turns += 1

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            before = 0
            # Where a hash holds everybody up there are hardly any turns during it; on a busy machine, during some.
            while turns <= before + 10:
                before = turns
                await passwords.hash("correct horse")
            nursery.cancel_scope.cancel()
