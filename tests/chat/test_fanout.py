"""Passes over the members, against a model: everybody is given each frame added since he came, once and in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio
from hypothesis import given
from hypothesis import strategies as st

from veza.actors.fanout import YIELD_EVERY, Fanout, Tally
from veza.actors.ports import Connection


class Dead(Exception):
    """What an outlet never raises; here it stands for any crash in the middle of a pass."""


@dataclass(eq=False)
class Ear:
    """An outlet that keeps what it is given."""

    got: list[bytes] = field(default_factory=list)
    writes: int = 0
    breaks: bool = False
    last_received: float = 0.0
    closed: bool = False
    queued: int = 0

    def post(self, blob: bytes, *, droppable: bool = False) -> bool:
        if self.breaks:
            raise Dead
        self.writes += 1
        self.got += [part + b"." for part in blob.split(b".")[:-1]]
        return True

    def close(self, code: int, reason: str = "") -> None:
        self.closed = True


def connection(number: int) -> tuple[Connection, Ear]:
    ear = Ear()
    return Connection(str(number), number, f"user{number}", ear), ear


def fanout() -> Fanout:
    return Fanout({}, {}, 0.01, Tally())


OPS = st.lists(st.tuples(st.sampled_from(["add", "add", "ack", "come", "go", "pass"]), st.integers(0, 3)))


@given(OPS)
def test_each_frame_reaches_each_who_was_there_once(ops: list[tuple[str, int]]) -> None:
    trio.run(_against_a_model, ops)


async def _against_a_model(ops: list[tuple[str, int]]) -> None:
    room = fanout()
    people = [connection(number) for number in range(4)]
    due: dict[int, list[bytes]] = {number: [] for number in range(4)}  # until the next pass
    acks: dict[int, list[bytes]] = {number: [] for number in range(4)}
    given_: dict[int, list[bytes]] = {number: [] for number in range(4)}
    frames = last = 0
    for op, who in [*ops, ("pass", 0)]:
        one, _ = people[who]
        match op:
            case "add":
                frames += 1
                room.add(b"frame %d." % frames)
                for number, (other, _) in enumerate(people):
                    if other in room.subscribers:
                        due[number].append(b"frame %d." % frames)
            case "ack":
                frames += 1
                room.ack(one, b"ack %d." % frames)
                acks[who].append(b"ack %d." % frames)
            case "come":
                if one not in room.subscribers:
                    assert room.subscribe(one, last, 0).since == last
                    due[who] = []
            case "go":
                room.subscribers.pop(one, None)
                due[who] = []
            case "pass":
                last = frames
                before = [ear.writes for _, ear in people]
                pending = room.statistics()["frames_waiting"] > 0
                marks = [getattr(room.subscribers.get(other), "sent", 0) for other, _ in people]
                await room.run(last, 0)
                for number, (other, ear) in enumerate(people):
                    given_[number] += acks[number] + due[number]  # acknowledgements go first
                    acks[number], due[number] = [], []
                    assert ear.got == given_[number]
                    assert ear.writes - before[number] <= 1
                    assert other not in room.subscribers or room.subscribers[other].sent == (
                        last if pending else marks[number]
                    )
                assert not room.waiting


async def test_a_crash_in_the_middle_of_a_pass_is_seen_in_what_each_was_sent() -> None:
    room = fanout()
    people = [connection(number) for number in range(5)]
    for one, _ in people:
        room.subscribe(one, 0, 0)
    people[2][1].breaks = True
    room.add(b"frame 1.")
    try:
        await room.run(1, 0)
    except Dead:
        pass
    # The next incarnation sends what is missing, by these marks: nobody is given anything twice.
    assert [subscriber.sent for subscriber in room.subscribers.values()] == [1, 1, 1, 0, 0]
    assert [ear.got for _, ear in people] == [[b"frame 1."], [b"frame 1."], [], [], []]


async def test_a_long_pass_lets_others_run() -> None:
    room = fanout()
    for number in range(3 * YIELD_EVERY):
        one, _ = connection(number)
        room.subscribe(one, 0, 0)
    room.add(b"frame 1.")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await room.run(1, 0)
        nursery.cancel_scope.cancel()
    assert turns >= 2  # trio tosses who is first


async def test_soft_frames_spare_the_one_who_caused_them_and_everybody_when_busy() -> None:
    room = fanout()
    people = [connection(number) for number in range(3)]
    for one, _ in people:
        room.subscribe(one, 0, 0)
    room.soft(b"typing.", but=1)
    assert [ear.got for _, ear in people] == [[b"typing."], [], [b"typing."]]
    room.last_cost = 1.0  # a pass took longer than the longest pause
    room.soft(b"typing.", but=1)
    assert [len(ear.got) for _, ear in people] == [1, 0, 1]
