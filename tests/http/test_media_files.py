"""Files on real sockets: pipelined and slow clients, descriptors, pages that are on the disk, files that change."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.http.house import Client, empty, get, settings, until
from tests.http.shelf import SONG, Shop, open_shop
from veza.http import files
from veza.http.files import Files
from veza.http.refusal import Refused
from veza.http.sending import Pace

BIG = random.Random(3).randbytes(8_000_000)  # more than a socket's buffers take


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings()) as shop:
            yield shop
            await empty(shop.house.door)
            assert shop.files.count == 0, "no descriptor outlives its readers"


@pytest.fixture
def big(shop: Shop) -> Path:
    return shop.add("big", "flac", "audio/flac", BIG)


async def drain(client: Client, count: int) -> bytes:
    """So many bytes, without the copying that `Client.take` does; fewer where the connection ends before."""
    data = bytearray(client.buffer)
    client.buffer = b""
    while len(data) < count:
        try:
            more = await client.stream.receive_some(1 << 20)
        except trio.BrokenResourceError:
            break
        if not more:
            break
        data += more
    return bytes(data)


async def test_pipelined_requests_are_answered_in_order(shop: Shop) -> None:
    client = await shop.house.connect()
    etag = (await client.ask(get(shop.url())))["etag"]
    wanted = [
        (("Range: bytes=0-99",), 206, SONG[:100]),
        (("Range: bytes=100-299999",), 206, SONG[100:]),
        ((f"If-None-Match: {etag}",), 304, b""),
        (("Range: bytes=900000-",), 416, None),
        ((), 200, SONG),
        (('If-Match: "x"',), 412, None),
        (("Range: bytes=-1",), 206, SONG[-1:]),
    ]
    await client.send(b"".join(get(shop.url(), *lines) for lines, _, _ in wanted))
    for lines, status, body in wanted:
        answer = await client.answer()
        assert answer.status == status, lines
        assert body is None or answer.body == body
    await client.aclose()


async def test_hundreds_of_requests_at_once_leave_room_for_others(shop: Shop) -> None:
    """However much one connection asks at once, it is one connection."""
    greedy, other = await shop.house.connect(), await shop.house.connect()
    await greedy.send(get(shop.url(), "Range: bytes=0-9") * 400)
    answer = await other.ask(get(shop.url("fresh"), "Range: bytes=0-9"))
    assert answer.body == SONG[:10]
    for at in range(400):
        assert (await greedy.answer()).body == SONG[:10], at
    await greedy.aclose()
    await other.aclose()


async def test_old_clients_and_those_that_close(shop: Shop) -> None:
    for lines, version, stays in [
        ((), "1.0", False),
        (("Connection: keep-alive",), "1.0", True),
        (("Connection: close",), "1.1", False),
    ]:
        client = await shop.house.connect()
        answer = await client.ask(get(shop.url(), *lines, version=version))
        assert (answer.status, answer.body) == (200, SONG)
        if stays:
            assert answer["connection"] == "keep-alive"
            answer = await client.ask(get(shop.url(), "Range: bytes=3-5", version=version))
            assert answer.body == SONG[3:6]
        assert await client.rest() == b""
        await client.aclose()


async def test_a_request_with_a_body_ends_its_connection(shop: Shop) -> None:
    client = await shop.house.connect()
    await client.send(get(shop.url(), "Content-Length: 3") + b"abc")
    answer = await client.answer()
    assert (answer.status, answer.body, answer["connection"]) == (200, SONG, "close")
    await client.rest()
    await client.aclose()


async def test_whole_files_arrive_whole(shop: Shop, big: Path) -> None:
    async def take(client: Client, line: str, body: bytes) -> None:
        await client.send(get(shop.url("big"), line))
        assert (await client.head())["content-length"] == str(len(body))
        assert await drain(client, len(body)) == body
        await client.aclose()

    async with trio.open_nursery() as nursery:
        for at in (0, 1, 65_535, 65_536, 1_048_576, 7_999_999):
            nursery.start_soon(take, await shop.house.connect(), f"Range: bytes={at}-", BIG[at:])


async def test_pages_that_are_not_in_memory(shop: Shop, big: Path) -> None:
    client = await shop.house.connect()
    descriptor = os.open(big, os.O_RDWR)
    try:
        os.fsync(descriptor)
        for first, last in [(0, 10), (1_000_000, 3_500_000), (6_500_000, 7_999_999)]:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            await client.send(get(shop.url("big"), f"Range: bytes={first}-{last}"))
            assert (await client.head()).status == 206
            assert await drain(client, last + 1 - first) == BIG[first : last + 1]
    finally:
        os.close(descriptor)
    await client.aclose()


async def test_a_file_system_that_never_has_it_in_memory(
    shop: Shop, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is read in threads then, and arrives all the same."""

    def cold(*_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "not in memory")

    client = await shop.house.connect()
    monkeypatch.setattr(os, "preadv", cold)
    await client.send(get(shop.url("big"), "Range: bytes=5-"))
    assert (await client.head()).status == 206
    assert await drain(client, len(BIG) - 5) == BIG[5:]
    await client.aclose()


# Slow readers


async def _stalled(shop: Shop, count: int, name: str = "big") -> list[Client]:
    """Clients that asked for a whole file and read no more than its head."""
    clients = [await shop.house.connect(receive_buffer=65_536) for _ in range(count)]
    for client in clients:
        await client.send(get(shop.url(name)))
        answer = await client.head()
        assert answer.status == 200
    return clients


async def test_readers_of_one_file_share_its_descriptor(shop: Shop, big: Path) -> None:
    clients = await _stalled(shop, 20)
    assert shop.files.count == 1
    for client in clients:
        client.reset()


async def test_where_many_wait_they_hold_no_descriptor(
    shop: Shop, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "OPEN", 0)
    clients = await _stalled(shop, 5)
    await until(lambda: shop.files.count == 0)
    assert await drain(clients[0], len(BIG)) == BIG, "it goes on where it was"
    for client in clients:
        client.reset()


@pytest.mark.parametrize("change", ["replaced", "removed", "linked"])
async def test_a_file_that_changes_under_a_waiting_reader_cuts_it(
    shop: Shop, big: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Never the beginning of one file and the end of another."""
    monkeypatch.setattr(files, "OPEN", 0)
    (client,) = await _stalled(shop, 1)
    await until(lambda: shop.files.count == 0)
    other = big.with_name("other")
    if change == "replaced":
        os.close(os.open(other, os.O_CREAT | os.O_WRONLY))
        os.truncate(other, len(BIG))
        os.rename(other, big)
    else:
        os.rename(big, other)
        if change == "linked":
            os.symlink(other, big)
    body = await drain(client, len(BIG))
    assert len(body) < len(BIG)
    assert BIG.startswith(body)
    await client.aclose()


async def test_a_file_that_goes_is_read_to_its_end_by_who_has_it(shop: Shop, big: Path) -> None:
    (client,) = await _stalled(shop, 1)
    os.unlink(big)
    assert await drain(client, len(BIG)) == BIG
    assert (await client.ask(get(shop.url("big")))).status == 404
    await client.aclose()


async def test_a_file_that_becomes_shorter_cuts_its_readers(shop: Shop, big: Path) -> None:
    (client,) = await _stalled(shop, 1)
    os.truncate(big, 7_000_000)
    assert len(await drain(client, len(BIG))) < len(BIG)
    await client.aclose()


async def test_who_takes_nothing_is_let_go(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings(send_timeout=0.2)) as shop:
            shop.add("big", "flac", "audio/flac", BIG)
            await _stalled(shop, 10)
            await empty(shop.house.door)
            assert shop.files.count == 0


# What is open


def test_one_file_is_opened_once_and_closed_by_its_last_reader(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    held = Files()
    first, second = held.take(path), held.take(str(path))
    assert first is second
    assert held.count == 1
    held.give(first)
    assert os.pread(second.descriptor, 9, 0) == b"1"
    held.give(second)
    assert (held.count, second.descriptor) == (0, -1)


def test_a_path_that_names_another_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "FRESH", -1.0)
    monkeypatch.setattr(files, "SURE", -1.0)
    path = tmp_path / "a"
    path.write_bytes(b"old")
    held = Files()
    old = held.take(path)
    assert held.take(path) is old
    assert held.count == 1
    (tmp_path / "b").write_bytes(b"newer")
    (tmp_path / "b").rename(path)
    new = held.take(path)
    assert (new.size, old.size, held.count) == (5, 3, 2)
    assert new.lines is not old.lines
    held.give(old)
    held.give(old)
    path.unlink()
    with pytest.raises(Refused) as refused:
        held.take(path)
    assert refused.value.status == 404
    held.give(new)
    assert held.count == 0


async def test_who_asks_again_finds_the_file_open(
    shop: Shop, big: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a moment, and never longer than there is such a file."""
    monkeypatch.setattr(files, "SURE", -1.0)
    monkeypatch.setattr(files, "FRESH", 300.0)
    client = await shop.house.connect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.files.sweep)
        for at in range(3):
            assert (await client.ask(get(shop.url("big"), f"Range: bytes={at}-{at}"))).body == BIG[
                at : at + 1
            ]
            assert shop.files.count == 1
        os.unlink(big)
        assert (await client.ask(get(shop.url("big"), "Range: bytes=0-0"))).status == 404
        assert shop.files.count == 0
        assert (await client.ask(get(shop.url()))).body == SONG
        assert shop.files.count == 1
        nursery.cancel_scope.cancel()
    assert shop.files.count == 0
    monkeypatch.setattr(files, "FRESH", 0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shop.files.sweep)
        await trio.testing.wait_all_tasks_blocked()
        assert (await client.ask(get(shop.url()))).body == SONG
        await until(lambda: shop.files.count == 0)
        nursery.cancel_scope.cancel()
    await client.aclose()


def test_without_a_descriptor_left_it_is_busy_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(Refused) as refused:
        Files().take(tmp_path / "a")
    assert refused.value.status == 503


async def test_all_files_together_keep_the_pace() -> None:
    """A thousand that want to work at once get 2 ms of a pass, each in its time; other tasks run in between."""
    pace, passes, done = Pace(), 0, 0
    worked: dict[int, int] = {}

    async def tick() -> None:
        nonlocal passes
        while done < 1000:
            passes += 1
            await trio.lowlevel.checkpoint()

    async def work() -> None:
        nonlocal done
        if pace.spent:
            await pace.turn()
        pace.took(0.0005)
        worked[passes] = worked.get(passes, 0) + 1
        done += 1

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick)
            for _ in range(1000):
                nursery.start_soon(work)
    assert done == 1000
    assert max(worked.values()) <= 9, "two passes' worth where our ticks and the pace's fall apart"
    assert passes < 2500, "and nobody waits for nothing"


@pytest.mark.parametrize("doomed", range(12))
async def test_who_leaves_the_queue_holds_nobody_up(doomed: int) -> None:
    """Whoever is cancelled, the one who was to open the next pass among them: the others have their turn."""
    pace, done = Pace(), 0
    pace.took(1.0)
    later: list[trio.CancelScope] = []

    async def work(number: int) -> None:
        nonlocal done
        with trio.CancelScope() as scope:
            if number == doomed:
                scope.cancel()
            elif number == doomed // 2:
                later.append(scope)
            await pace.turn()
            pace.took(0.0015)
        done += 1

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(work, number)
            await trio.lowlevel.checkpoint()
            for scope in later:
                scope.cancel()
    assert done == 12
    assert not pace._queue
