"""What can be seen of the tree: that the numbers are true, bounded, and never harm what they describe."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.actors.puppet import Gate, Puppet, crash, refuse
from veza.actors.kernel import ActorInfo, NoSuchActor, Restarts, System, open_system
from veza.actors.kernel.records import Meter


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system(restarts=Restarts(first=1)) as system:
        yield system


async def test_one_actor(system: System) -> None:
    class Room(Puppet):
        def summary(self) -> dict[str, Any]:
            return {"members": len(self.seen), "names": ["a", "b"]}

    ref = system.supervisor("rooms").ensure(42, Room, capacity=8)
    gate = Gate()
    await ref.ask(1)
    await ref.tell(crash)
    await ref.ask(2)
    await ref.tell(gate)
    await gate.entered.wait()
    for number in range(3):
        await ref.tell(number)
    ref.answer("lane")
    info = system.inspect("rooms/42")
    assert info.path == "rooms/42"
    assert info.kind == "Room"
    assert info.state == "running"
    assert info.summary == {"members": 1, "names": ["a", "b"]}
    assert info.mailbox is not None
    assert msgspec.to_builtins(info.mailbox) == {
        "depth": 3,
        "capacity": 8,
        "peak": 3,
        "lane": 1,
        "blocked": 0,
    }
    assert (info.handled, info.failures, info.restarts) == (3, 1, 1)
    assert info.age_s == pytest.approx(1)
    (failure,) = info.last_failures
    assert (failure.error, failure.message) == ("ValueError", "function")
    assert info.handler_ms is not None
    assert 0 < info.handler_ms.mean <= info.handler_ms.max
    assert info.handler_ms.p99 <= info.handler_ms.max
    gate.open()
    await ref.ask("end")
    mailbox = system.inspect("rooms/42").mailbox
    assert mailbox is not None
    assert (mailbox.depth, mailbox.lane, mailbox.peak) == (0, 0, 4)


async def test_the_tree(system: System) -> None:
    chat = system.supervisor("chat")
    rooms = chat.supervisor("rooms")
    for key in ("a", "b"):
        await rooms.ensure(key, Puppet).ask(1)
    await chat.ensure("presence", Puppet).ask(1)
    tree = system.inspect()
    assert (tree.path, tree.kind, tree.child_count, tree.handled) == ("", "System", 1, 3)
    (top,) = tree.children
    assert (top.path, top.kind, top.child_count) == ("chat", "Supervisor", 2)
    assert [child.path for child in top.children] == ["chat/rooms", "chat/presence"]
    assert [child.path for child in top.children[0].children] == ["chat/rooms/a", "chat/rooms/b"]
    assert system.inspect("chat/rooms").handled == 2
    # And it travels as JSON.
    assert msgspec.json.decode(msgspec.json.encode(tree), type=ActorInfo) == tree


async def test_depth_and_limit_bound_what_is_shown_not_what_is_counted(system: System) -> None:
    sessions = system.supervisor("sessions")
    rooms = system.supervisor("rooms")
    for number in range(50):
        sessions.ensure(number, Puppet)
    rooms.ensure("a", Puppet)

    assert system.inspect(depth=0).children == ()
    assert system.inspect(depth=0).child_count == 2
    shallow = system.inspect(depth=1)
    assert [(child.path, child.children, child.child_count) for child in shallow.children] == [
        ("sessions", (), 50),
        ("rooms", (), 1),
    ]
    for limit in range(60):
        tree = system.inspect(limit=limit)
        assert len(_paths(tree)) - 1 == min(limit, 53 if limit > 52 else limit)
        assert tree.children == () or tree.children[0].child_count == 50
        if limit >= 2:
            assert [child.path for child in tree.children] == ["sessions", "rooms"]


def _paths(info: ActorInfo) -> list[str]:
    return [info.path, *(path for child in info.children for path in _paths(child))]


async def test_what_is_not_there(system: System) -> None:
    system.supervisor("rooms").ensure("a/b", Puppet)
    assert system.inspect("rooms/a/b").path == "rooms/a/b"
    for path in ("nowhere", "rooms/a", "rooms/a/b/c", "rooms/", "/"):
        with pytest.raises(NoSuchActor):
            system.inspect(path)
        with pytest.raises(NoSuchActor):
            system.restart(path)
    with pytest.raises(NoSuchActor):
        system.restart("rooms")


async def test_a_summary_that_fails_harms_neither_actor_nor_tree(system: System) -> None:
    class Bad(Puppet):
        def summary(self) -> dict[str, Any]:
            raise KeyError("private")

    ref = system.supervisor("rooms").ensure("a", Bad)
    await ref.ask(1)
    assert "private" not in repr(system.inspect())
    assert system.inspect("rooms/a").summary == {"summary failed": "KeyError"}
    assert await ref.ask(2) == 2


async def test_sums_never_fall(system: System) -> None:
    rooms = system.supervisor("rooms")
    await rooms.ensure("a", Puppet).ask(1)
    await rooms.ensure("b", Puppet).tell(crash)
    await rooms.ensure("b", Puppet).ask(1)
    before = system.inspect("rooms", depth=0)
    await rooms.stop("a")
    await rooms.stop("b")
    after = system.inspect("rooms", depth=0)
    assert (after.handled, after.failures, after.restarts, after.busy_s, after.child_count) == (
        before.handled,
        before.failures,
        before.restarts,
        before.busy_s,
        0,
    )


async def test_only_the_last_failures_are_kept(system: System) -> None:
    rooms = system.supervisor("rooms", restarts=Restarts(limit=1000, window=1, first=1))
    ref = rooms.ensure("a", Puppet)
    for number in range(12):
        await ref.tell(crash if number % 2 else refuse(KeyError()))
        await trio.sleep(10)
    failures = system.inspect("rooms/a").last_failures
    assert [failure.error for failure in failures] == ["ValueError", *["KeyError", "ValueError"] * 2]


@given(st.lists(st.integers(0, 10**11), min_size=1, max_size=500))
def test_times_are_those_of_the_messages(nanoseconds: list[int]) -> None:
    meter = Meter()
    for ns in nanoseconds:
        meter.record(ns)
    times = meter.times()
    assert times is not None
    assert times.max == max(nanoseconds) / 1e6
    assert times.mean == pytest.approx(sum(nanoseconds) / len(nanoseconds) / 1e6)
    # The smallest value that at most one in a hundred exceeds; the histogram overstates it by less than an eighth.
    exact = sorted(nanoseconds)[len(nanoseconds) - 1 - len(nanoseconds) // 100] / 1e6
    assert exact <= times.p99 <= exact * 1.125 + 2e-6


@pytest.mark.parametrize(("slow", "p99"), [(15, 100), (11, 100), (10, 1), (5, 1), (0, 1)])
def test_p99_is_what_one_in_a_hundred_exceeds(slow: int, p99: int) -> None:
    meter = Meter()
    for number in range(1000):
        meter.record(100_000_000 if number < slow else 1_000_000)
    times = meter.times()
    assert times is not None and times.p99 == pytest.approx(p99, rel=0.125)


def test_p99_speaks_of_recent_messages() -> None:
    meter = Meter()
    for _ in range(50_000):
        meter.record(1000)
    for _ in range(20_000):
        meter.record(9_000_000)
    times = meter.times()
    assert times is not None and times.p99 == pytest.approx(9, rel=0.13)
    for _ in range(200_000):
        meter.record(1000)
    times = meter.times()
    assert times is not None and times.p99 < 0.002
    assert times.max == 9
    assert meter.handled == 270_000


def test_nothing_measured_is_nothing_shown() -> None:
    assert Meter().times() is None
