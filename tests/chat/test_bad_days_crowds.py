"""A thousand sockets break at the same moment: the rest notice that they are gone, and nothing else."""

from __future__ import annotations

import os
import resource
import socket
import struct

import trio

from tests.chat.books import heard, stored, until
from tests.chat.client import Client, fence, request
from tests.chat.conftest import Build, House, Person
from tests.chat.talkers import Talker, check
from veza.actors.presence import Statistics

BOUND = 180
SOCKETS, PEOPLE = 1000, 50
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST


def allow(files: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))


def held(house: House) -> tuple[int, int, int]:
    """Open files, tasks and connections; the pool's own apart, each of which has a file and a task."""
    pool = house.db.statistics().open
    files = len(os.listdir("/proc/self/fd"))
    tasks = trio.lowlevel.current_statistics().tasks_living
    return files - pool, tasks - pool, house.app.door.connections


async def at_rest(house: House) -> tuple[int, int, int]:
    """What it holds once what a server does at its start is done: the same over some time, and nothing is asked of the
    database, which may take its time to answer."""
    now, same = held(house), 0
    while same < 20:
        await trio.sleep(0.01)
        pool = house.db.statistics()
        idle = pool.idle == pool.open and not pool.opening
        now, same = (now, same + 1) if idle and held(house) == now else (held(house), 0)
    return now


class Crowd:
    """Sockets that join a room, or do nothing, and never read what comes."""

    def __init__(self) -> None:
        self.lines: list[trio.SocketStream] = []

    async def arrive(self, house: House, people: list[Person], count: int, room: int) -> None:
        limit = trio.CapacityLimiter(64)

        async def one(i: int) -> None:
            async with limit:
                line = await trio.open_tcp_stream("127.0.0.1", house.port)
                self.lines.append(line)
                await line.send_all(request(people[i % len(people)].token))
                head = b""
                while b"\r\n\r\n" not in head:
                    head += await line.receive_some()
                assert head.startswith(b"HTTP/1.1 101 "), head
                if i % 2:
                    await Client(line, None, b"").send("join_room", room=room)

        async with trio.open_nursery() as nursery:
            for i in range(count):
                nursery.start_soon(one, i)

    def break_off(self) -> None:
        """All at once: nothing else runs in between."""
        for line in self.lines:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            line.socket.close()
        self.lines.clear()


async def test_a_thousand_connections_dropped_at_once(build: Build) -> None:
    allow(2 * SOCKETS + 500)
    with trio.fail_after(BOUND):
        async with build(
            max_connections=5000,
            max_connections_per_ip=5000,
            ws_connections_per_ip=5000,
            ws_idle_timeout=600.0,  # the crowd answers no pings, and may be long in coming
        ) as house:
            stay = await house.people(2)
            room = await house.room(*stay)
            one, other = [await house.enter(person, room.id) for person in stay]
            people = await house.people(PEOPLE)
            chat, door = house.app.chat, house.app.door
            # Once in small, so that whatever is made on first use has been made.
            await come_and_go(house, people[:2], 4, room.id)
            before = await at_rest(house)
            talker = Talker("talker", one, room.id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talker.talk)
                await come_and_go(house, people, SOCKETS, room.id)
                talker.done = True
            await fence(other, room.id, one)
            counts = await house.app.core.presence.ask(Statistics())
            assert (counts["people"], counts["connections"]) == (2, 2)
            summary = house.actor(room.id).summary
            assert (summary["subscribers"], summary["online"], summary["gated"]) == (2, 2, 0)
            assert len(chat) == door.open_sockets == 2
            check(room.id, await stored(house, room.id), [talker], one, other)
            assert len(heard(other, room.id)) > 1
            assert one.code is None and other.code is None and not one.seen("error") + other.seen("error")
            await until(lambda: held(house) == before)
            # Their places are free again.
            again = [
                await house.connect(people[0]) for _ in range(house.app.core.settings.ws_connections_per_user)
            ]
            for client in again:
                await client.aclose()


async def come_and_go(house: House, people: list[Person], count: int, room: int) -> None:
    """A crowd comes, half of it into the room, and breaks off; returns when the server has seen to all of it."""
    crowd = Crowd()
    were, inside = len(house.app.chat), house.actor(room).summary["subscribers"]
    await crowd.arrive(house, people, count, room)
    await until(lambda: len(house.app.chat) == were + count)
    await until(lambda: house.actor(room).summary["subscribers"] == inside + count // 2)
    crowd.break_off()
    await until(lambda: len(house.app.chat) == were)
    await until(lambda: house.actor(room).summary["subscribers"] == inside)
    while (await house.app.core.presence.ask(Statistics()))["connections"] != were:  # noqa: ASYNC110
        await trio.sleep(0.005)
