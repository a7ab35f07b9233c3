"""The server itself ends in the middle of everything: killed, or told to."""

from __future__ import annotations

import glob
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import trio

from tests.chat.books import heard, stored, until
from tests.chat.client import fence
from tests.chat.conftest import Person
from tests.chat.far_house import FarHouse, far_house, what_it_left
from tests.chat.talkers import Talker, check
from tests.cli.conftest import descendants_mentioning
from veza.db.cluster import Address
from veza.db.lock import server_lock

BOUND = 240
IN_TIME = 40.0  # seconds to end in, where some 5 are enough: not a measure, only less than what never ends would take
SHOUTS = 200  # of 4000 characters: more than all buffers between the server and somebody who does not read


def address(data: Path) -> Address:
    return msgspec.json.decode((data / "address.json").read_bytes(), type=Address)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: each server finds what the one before it left."""
    return tmp_path_factory.mktemp("home")


@dataclass
class Guest:
    """Somebody who talks in one room and listens in two."""

    person: Person
    rooms: tuple[int, int]
    talker: Talker
    heard_before: dict[int, list[tuple[int, str]]] = field(default_factory=dict)

    async def come_back(self, house: FarHouse) -> None:
        """Connect again, ask for what was missed, say again what was not answered, and go on talking."""
        self.heard_before = {room: heard(self.talker.client, room) for room in self.rooms}
        client = await house.connect(self.person)
        for room in self.rooms:
            ack = await client.join(room, since_seq=len(self.heard_before[room]))
            assert ack["resume"] == "ok"
        await self.talker.repeat(client)
        await self.talker.talk()


@dataclass
class Party:
    rooms: list[int]
    guests: list[Guest]

    @property
    def talkers(self) -> list[Talker]:
        return [guest.talker for guest in self.guests]

    @property
    def acked(self) -> int:
        return sum(len(talker.acked) for talker in self.talkers)

    async def more(self, count: int) -> None:
        """Wait until so many more posts are acknowledged."""
        before = self.acked
        await until(lambda: self.acked > before + count)

    async def over(self, house: FarHouse) -> None:
        """Everybody finishes his sentence; then what each heard is held against what is stored."""
        for talker in self.talkers:
            talker.done = True
        await until(lambda: all(talker.open is None for talker in self.talkers))
        for i, room in enumerate(self.rooms):
            ears = [guest for guest in self.guests if room in guest.rooms]
            await fence(self.talkers[i].client, room, *[ear.talker.client for ear in ears])
            everything = await stored(house, room)
            check(room, everything, self.talkers)
            for ear in ears:
                assert ear.heard_before.get(room, []) + heard(ear.talker.client, room) == everything


async def party(house: FarHouse, count: int, rooms: int) -> Party:
    people = await house.people(count)
    ids = [(await house.room(*people)).id for _ in range(rooms)]
    guests = []
    for i, person in enumerate(people):
        mine, other = ids[i % rooms], ids[(i + 1) % rooms]
        talker = Talker(person.name, await house.enter(person, mine, other), mine)
        guests.append(Guest(person, (mine, other), talker))
    return Party(ids, guests)


async def test_killed_while_fifty_post(home: Path) -> None:
    with trio.fail_after(BOUND):
        async with far_house(home) as house, trio.open_nursery() as nursery:
            everybody = await party(house, 50, 5)
            for talker in everybody.talkers:
                nursery.start_soon(talker.talk)
            await everybody.more(300)
            house.server.process.kill()
            for talker in everybody.talkers:
                assert await talker.client.closed() == 1006
        assert any(talker.open is not None for talker in everybody.talkers)
        async with far_house(home) as house, trio.open_nursery() as nursery:
            for guest in everybody.guests:
                nursery.start_soon(guest.come_back, house)
            await everybody.more(100)
            await everybody.over(house)


async def test_its_postgresql_killed_under_load_comes_back_by_itself(home: Path) -> None:
    with trio.fail_after(BOUND):
        async with far_house(home) as house, trio.open_nursery() as nursery:
            everybody = await party(house, 12, 3)
            for talker in everybody.talkers:
                nursery.start_soon(talker.talk)
            for _ in range(2):
                await everybody.more(100)
                postmaster = address(house.data).postmaster
                os.kill(postmaster, signal.SIGKILL)
                await until(lambda old=postmaster: address(house.data).postmaster != old)
            await everybody.more(100)
            await everybody.over(house)


async def test_told_to_end_under_load(home: Path) -> None:
    with trio.fail_after(BOUND):
        # So much may wait for who does not read that he is still there at the end. All others may take their time:
        # nothing is given up that is only slow.
        settings = {"OUTLET_LIMIT": "64MiB", "SHUTDOWN_TIMEOUT": f"{4 * IN_TIME:.0f}s"}
        async with far_house(home, **settings) as house, trio.open_nursery() as nursery:
            everybody = await party(house, 20, 4)
            first = everybody.rooms[0]
            deaf = await house.deaf(everybody.guests[0].person, first)
            shouter = await house.enter(everybody.guests[4].person, first)
            for i in range(SHOUTS):
                await shouter.say(first, f"{i}".ljust(4000, "!"))
            for talker in everybody.talkers:
                nursery.start_soon(talker.talk)
            await everybody.more(200)
            left = address(house.data)
            with trio.fail_after(IN_TIME):
                house.server.process.send_signal(signal.SIGTERM)
                code = await house.server.process.wait()
            assert code == 0, house.server.log
            for talker in everybody.talkers:
                assert await talker.client.closed() == 1001
            await deaf.aclose()
        await until(lambda: not list(descendants_mentioning(str(house.data))))
        with pytest.raises(ProcessLookupError):
            os.kill(left.postmaster, 0)
        assert not glob.glob(f"{left.socket}/.s.*")
        assert not (house.data / "address.json").exists()
        assert not server_lock(house.data).is_taken()
        async with what_it_left(house.data) as house:
            for room in everybody.rooms:
                messages = await stored(house, room)
                check(room, messages, everybody.talkers)
                # Nothing was stored without its sender having been told.
                told = {text for talker in everybody.talkers if talker.room == room for text in talker.acked}
                assert {text for _, text in messages if "!" not in text} == told


async def test_told_to_end_while_its_database_hangs(home: Path) -> None:
    """What became of the last posts cannot be known, and nobody waits for that: sockets end in order all the same."""
    with trio.fail_after(BOUND):
        async with far_house(home, SHUTDOWN_TIMEOUT="3s") as house, trio.open_nursery() as nursery:
            everybody = await party(house, 12, 3)
            for talker in everybody.talkers:
                nursery.start_soon(talker.talk)
            await everybody.more(100)
            with suspended(address(house.data).postmaster), trio.fail_after(IN_TIME):
                await until(lambda: all(talker.open is not None for talker in everybody.talkers))
                house.server.process.send_signal(signal.SIGTERM)
                assert await house.server.process.wait() == 0, house.server.log
            for talker in everybody.talkers:
                assert await talker.client.closed() == 1001
        async with what_it_left(house.data) as house:
            for room in everybody.rooms:
                check(room, await stored(house, room), everybody.talkers)


@contextmanager
def suspended(postmaster: int) -> Iterator[None]:
    """A PostgreSQL of which no process does anything. Whatever is left of it in the end is killed."""
    os.kill(postmaster, signal.SIGSTOP)  # the first, so that it makes no others
    family = [postmaster]
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and _parent(entry) == postmaster:
                family.append(int(entry.name))
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _parent(process: Path) -> int:
    return int((process / "stat").read_text().rpartition(")")[2].split()[1])
