"""PostgreSQL dies under load and comes back: posts are refused meanwhile, and nobody loses or hears anything twice."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.chat.books import stored, until
from tests.chat.client import PATIENCE, Client, Closed, Rejected, fence
from tests.chat.conftest import House, Person, open_house
from tests.chat.talkers import Talker, check
from veza.config import Settings
from veza.db.embedded import EmbeddedPostgres
from veza.db.migrate import migrate
from veza.db.pool import open_database

BOUND = 180


@asynccontextmanager
async def new_server() -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL with our schema, that nobody restarts but the test."""
    data = Path(tempfile.mkdtemp(prefix="veza-tests-"))
    server = EmbeddedPostgres(data)
    try:
        await server.start()
        await migrate(server.url)
        yield server
    finally:
        with trio.CancelScope(shield=True):
            await server.stop()
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedPostgres]:
    async with new_server() as server:
        yield server


@asynccontextmanager
async def house_on(server: EmbeddedPostgres, settings: Settings) -> AsyncIterator[House]:
    database = open_database(server.url, acquire_timeout=PATIENCE, statement_timeout=PATIENCE)
    async with database as db, open_house(settings, db) as house:
        yield house


async def kill(server: EmbeddedPostgres) -> None:
    """SIGKILL for the postmaster; its processes go when they notice."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await until(lambda: server.pid is None)


async def talkers_in(house: House, rooms: int, count: int) -> tuple[list[int], list[Talker], list[Person]]:
    people = await house.people(count)
    ids = [(await house.room(*people)).id for _ in range(rooms)]
    talkers = [
        Talker(person.name, await house.enter(person, *ids), ids[i % rooms], stubborn=i % 2 == 0)
        for i, person in enumerate(people)
    ]
    return ids, talkers, people


def acked(talkers: list[Talker]) -> int:
    return sum(len(talker.acked) for talker in talkers)


async def hang_up(house: House, rooms: list[int], talkers: list[Talker]) -> None:
    """Everybody finishes his sentence; then all must have heard everything."""
    for talker in talkers:
        talker.done = True
    await until(lambda: all(talker.open is None for talker in talkers))
    ears = [talker.client for talker in talkers]
    for room in rooms:
        await fence(ears[0], room, *ears)
        check(room, await stored(house, room), talkers, *ears)
    assert not [ear.code for ear in ears if ear.code is not None]


async def test_killed_under_load_and_started_again(server: EmbeddedPostgres, settings: Settings) -> None:
    with trio.fail_after(BOUND):
        async with house_on(server, settings) as house, trio.open_nursery() as nursery:
            rooms, talkers, people = await talkers_in(house, 3, 12)
            newcomer = await house.enter(people[0], rooms[0])
            for talker in talkers:
                nursery.start_soon(talker.talk)
            await until(lambda: acked(talkers) > 100)
            await kill(server)
            await until(lambda: not house.db.healthy)
            await knock(newcomer, rooms[0])
            await closed_meanwhile(house, people[0], rooms[0])
            before = acked(talkers)
            await server.stop()
            await server.start()
            await until(lambda: acked(talkers) > before + 100)
            await hang_up(house, rooms, talkers)
            async with client_of(house, people[0]) as rest:
                # Perhaps not at once: what is slow to answer counts as not ready.
                while (await rest.get("/ready")).status_code != 200:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            for room in rooms:
                assert house.actor(room).summary["in_flight"] == 0


async def knock(client: Client, room: int) -> None:
    """Speak until refused. What arrived just before the database was found missing is answered late, if at all."""
    for n in itertools.count():
        text = f"knock {n}"
        await client.send("room_message", room=room, content=text, ref=text)
        with trio.move_on_after(0.5):
            answer = await client.next(lambda f, ref=text: f.data.get("ref") == ref, "answer")
            if answer.type == "error":
                assert answer["code"] == "UNAVAILABLE"
                assert answer["details"]["retry_after"] > 0
                return


def client_of(house: House, person: Person) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{house.port}",
        headers={"Authorization": f"Bearer {person.token}"},
        timeout=BOUND,
    )


async def closed_meanwhile(house: House, person: Person, room: int) -> None:
    """How the rest of the server answers while its database is away."""
    async with client_of(house, person) as rest:
        assert (await rest.get("/health")).status_code == 200
        ready = await rest.get("/ready")
        assert (ready.status_code, ready.json()["code"]) == (503, "NOT_READY")
        assert ready.json()["details"]["database"] == "unavailable"
        post = f"/api/v1/chat/rooms/{room}/messages"
        answers = [
            await rest.get("/api/v1/chat/rooms"),
            await rest.get(post),
            await rest.post(post, json={"content": "anybody here?"}),
        ]
        for answer in answers:
            assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE"), answer.text
        for answer in [*answers, ready]:
            assert int(answer.headers["retry-after"]) >= 1
    with pytest.raises((Rejected, Closed)) as caught:
        await house.connect(person)
    match caught.value:
        case Rejected(status=status, headers=headers):
            assert status == 503
            assert int(headers["retry-after"]) >= 1
        case Closed(code=code):
            assert code == 1013


async def test_no_number_is_given_twice_after_a_crash(settings: Settings) -> None:
    """A cluster never shut down in order since its schema was made: nothing but its log says what was used."""
    with trio.fail_after(BOUND):
        async with new_server() as server:
            async with house_on(server, settings) as house:
                person = await house.person()
                rooms = [(await house.room(person)).id for _ in range(3)]
                ear = await house.enter(person, rooms[0])
                said = (await ear.say(rooms[0], "one"))["id"]
                await kill(server)
            await server.stop()
            await server.start()
            async with house_on(server, settings) as house:
                assert (await house.person()).id > person.id
                assert (await house.room(person)).id > max(rooms)
                ear = await house.enter(person, rooms[0])
                again = await ear.say(rooms[0], "two")
                assert again["id"] > said
                assert again["seq"] == 2


async def test_connections_terminated_again_and_again(server: EmbeddedPostgres, settings: Settings) -> None:
    with trio.fail_after(BOUND):
        async with house_on(server, settings) as house, trio.open_nursery() as nursery:
            rooms, talkers, _ = await talkers_in(house, 3, 12)
            async with open_database(server.url_of("veza", superuser=True), size=1) as admin:
                for talker in talkers:
                    nursery.start_soon(talker.talk)
                for _ in range(8):
                    before = acked(talkers)
                    await until(lambda before=before: acked(talkers) > before + 30)
                    assert await admin.read(terminate_all) > 0
            before = acked(talkers)
            await until(lambda: acked(talkers) > before + 30)
            await hang_up(house, rooms, talkers)
            await until(lambda: house.db.statistics().lost >= 8)


async def terminate_all(conn: object) -> int:
    count: int = await conn.fetchval(  # type: ignore[attr-defined]
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = 'veza' AND pid <> pg_backend_pid() AND usename <> current_user"
    )
    return count
