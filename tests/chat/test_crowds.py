"""Comings and goings at random, held against a model; readers that are too slow; rooms that cannot be mended."""

from __future__ import annotations

import random
import socket
from collections import defaultdict
from typing import Any

import pytest
import trio

from tests.chat.client import Client, eventually, fence
from tests.chat.conftest import Build, House, Person
from veza.actors.kernel import Restarts
from veza.actors.room import RoomActor

FEW = Restarts(limit=2, first=0.01)


class Watcher:
    """Who is in the room, as somebody there is told."""

    def __init__(self, client: Client, present: set[int]) -> None:
        self.client = client
        self.here = present
        self.read = 0

    def catch_up(self) -> None:
        for frame in self.client.frames[self.read :]:
            if frame.type == "user_connected":
                assert frame["user_id"] not in self.here, "came twice"
                self.here.add(frame["user_id"])
            elif frame.type == "user_disconnected":
                assert frame["user_id"] in self.here, "left twice"
                self.here.remove(frame["user_id"])
        self.read = len(self.client.frames)


@pytest.mark.parametrize("seed", [11, 12])
async def test_whoever_watches_knows_who_is_there(house: House, seed: int) -> None:
    """Several tabs, invisible spells, restarts of the room: in the end, and never twice."""
    dice = random.Random(seed)
    watcher, *people = await house.people(7)
    room = await house.room(watcher, *people)
    watch = Watcher(await house.enter(watcher, room.id), set())
    tabs: dict[int, list[tuple[Client, bool]]] = defaultdict(list)  # person → (socket, joined)
    invisible: set[int] = set()

    async def open_tab(person: Person) -> None:
        tabs[person.id].append((await house.connect(person), False))

    async def join_or_leave(person: Person) -> None:
        if tabs[person.id]:
            i = dice.randrange(len(tabs[person.id]))
            client, joined = tabs[person.id][i]
            if joined:
                await client.ask("leave_room", "leave_room_ack", room=room.id)
            else:
                await client.join(room.id)
            tabs[person.id][i] = (client, not joined)

    async def close_tab(person: Person) -> None:
        if tabs[person.id]:
            client, _ = tabs[person.id].pop(dice.randrange(len(tabs[person.id])))
            await (client.drop() if dice.random() < 0.5 else client.aclose())

    async def hide_or_show(person: Person) -> None:
        if tabs[person.id]:
            hidden = person.id not in invisible
            (invisible.add if hidden else invisible.discard)(person.id)
            client = tabs[person.id][0][0]
            await client.send("set_presence", status="invisible" if hidden else "online")
            await client.pong()

    async def restart(_: Person) -> None:
        house.app.core.system.restart(f"rooms/{room.id}")

    steps = [
        open_tab,
        open_tab,
        join_or_leave,
        join_or_leave,
        join_or_leave,
        close_tab,
        hide_or_show,
        restart,
    ]
    weights = [4, 4, 6, 6, 6, 4, 3, 1]
    with trio.fail_after(120):
        for round in range(6):
            for _ in range(25):
                await dice.choices(steps, weights)[0](dice.choice(people))
            # Everything has arrived once presence and the room have nothing left to do.
            open_tabs = 1 + sum(map(len, tabs.values()))
            await eventually(lambda: len(house.app.chat) == open_tabs)  # noqa: B023
            truth = {p.id for p in people if p.id not in invisible and any(j for _, j in tabs[p.id])}
            await eventually(lambda: house.actor(room.id).summary.get("online") == len(truth) + 1)  # noqa: B023
            await fence(watch.client, room.id)
            watch.catch_up()
            assert watch.here == truth, (round, watch.here, truth)
    assert house.app.core.system.inspect().failures == 0


async def test_who_reads_too_slowly_is_let_go_and_loses_nothing(build: Build) -> None:
    async with build(outlet_limit=32 * 1024, room_ring_messages=2000, room_ring_bytes=16 << 20) as house:
        ann, bob, cleo = await house.people(3)
        room = await house.room(ann, bob, cleo)
        a, c = await house.enter(ann, room.id), await house.enter(cleo, room.id)
        slow = await house.connect(bob, narrow=True)
        await slow.join(room.id)
        slow.pause()
        narrow(house, bob)
        total = 60  # more than the kernel takes: 16 KB each
        with trio.fail_after(120):
            # One by one: however long a commit takes, those who read are never given more than one at once.
            for i in range(total):
                await a.say(room.id, f"{i} " + "🎸" * 3900)
            await a.expect("room_message", seq=total)
            await eventually(lambda: house.actor(room.id).summary["online"] == 2)  # let go
            slow.resume()
            await slow.closed()
            got = [f["seq"] for f in slow.seen("room_message")]
            assert got == list(range(1, len(got) + 1)) and len(got) < total
            again = await house.connect(bob)
            ack = await again.join(room.id, since_seq=len(got))
            assert ack["resume"] == "ok"
            await again.expect("room_message", seq=total)
            assert [f["seq"] for f in again.seen("room_message")] == list(range(len(got) + 1, total + 1))
        await eventually(lambda: bool(c.seen("room_message", seq=total)))
        for client in (a, c):  # nobody else noticed
            assert [f["seq"] for f in client.seen("room_message")] == list(range(1, total + 1))


def narrow(house: House, person: Person) -> None:
    """Have the kernel keep little of what the server sends somebody."""
    for session in house.app.chat._sessions:
        if session.connection.user_id == person.id:
            outlet: Any = session.connection.outlet
            outlet._line._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_a_room_that_cannot_be_mended_lets_its_listeners_go(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are told to come back, and find a room that works."""
    ann, bob = await house.people(2)
    room, other = await house.room(ann, bob), await house.room(ann, bob)
    a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
    elsewhere = await house.enter(bob, other.id)
    await a.say(room.id, "before")
    monkeypatch.setattr(house.app.core.system._root._below["rooms"], "restarts", FEW)
    load = RoomActor._load

    async def broken(self: RoomActor) -> Any:
        if self.room_id == room.id:
            raise LookupError("a bug")
        return await load(self)

    monkeypatch.setattr(RoomActor, "_load", broken)
    house.app.core.system.restart(f"rooms/{room.id}")
    for client in (a, b):
        assert await client.closed() == 1013
    await elsewhere.say(other.id, "unharmed")
    monkeypatch.setattr(RoomActor, "_load", load)
    a, b = await house.connect(ann), await house.connect(bob)
    for client in (a, b):
        assert (await client.join(room.id, since_seq=0))["last_seq"] == 1
        await client.expect("room_message", content="before")
    await a.say(room.id, "after")
    await b.expect("room_message", content="after")
