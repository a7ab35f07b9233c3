"""A whole server over a real database, people in it, and clients on real sockets.

`house`   the server with generous limits
`build`   opens further ones: `async with build(ws_idle_timeout=0.5) as house`
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.chat.client import Client, open_client
from veza.app import App, open_server
from veza.config import Settings
from veza.db import rooms as rooms_db
from veza.db.pool import Database

SECRET = "a secret for tests, long enough for HS256"
_names = itertools.count(1)


@dataclass(frozen=True)
class Person:
    """Somebody with an account and a session."""

    id: int
    name: str
    sid: str
    token: str


async def _insert_people(conn: Any, names: list[str], role: str, presence: str) -> list[tuple[int, str]]:
    ids = await conn.fetch(
        "INSERT INTO users (username, email, password_hash, role, presence)"
        " SELECT n, n || '@example.org', 'none', $2, $3 FROM unnest($1::text[]) WITH ORDINALITY AS t (n, o) ORDER BY o"
        " RETURNING id",
        names,
        role,
        presence,
    )
    sids = [str(uuid.uuid4()) for _ in ids]
    await conn.executemany(
        "INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, now() + interval '1 day')",
        [(sid, row[0]) for sid, row in zip(sids, ids, strict=True)],
    )
    return [(row[0], sid) for sid, row in zip(sids, ids, strict=True)]


@dataclass
class House:
    """A running server and who comes to it."""

    app: App
    db: Database
    nursery: trio.Nursery
    clients: list[Client] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.app.port

    async def people(self, count: int, *, role: str = "user", presence: str = "online") -> list[Person]:
        names = [f"person{next(_names)}" for _ in range(count)]
        rows = await self.db.write(_insert_people, names, role, presence)
        tokens = self.app.services.tokens
        return [
            Person(user_id, name, sid, tokens.issue(user_id, name, role, sid)[0])
            for name, (user_id, sid) in zip(names, rows, strict=True)
        ]

    async def person(self, **how: Any) -> Person:
        return (await self.people(1, **how))[0]

    async def room(
        self,
        owner: Person,
        *members: Person,
        kind: str = "public",
        name: str | None = None,
        moderators: tuple[Person, ...] = (),
    ) -> rooms_db.Room:
        """A room with these members, made in the database."""
        room: rooms_db.Room = await self.db.write(
            rooms_db.create, owner.id, kind, name or f"room {next(_names)}", None
        )
        await self.db.write(rooms_db.add_members, room.id, [p.id for p in (*members, *moderators)])
        for moderator in moderators:
            await self.db.write(rooms_db.set_role, room.id, moderator.id, "moderator")
        return room

    async def connect(self, person: Person | str | None, **how: Any) -> Client:
        token = person.token if isinstance(person, Person) else person
        client = await open_client(self.nursery, self.port, token, **how)
        self.clients.append(client)
        return client

    async def enter(self, person: Person, *rooms: str | int) -> Client:
        """Connect and join."""
        client = await self.connect(person)
        for room in rooms:
            await client.join(room)
        return client

    async def company(self, count: int) -> tuple[rooms_db.Room, list[Client]]:
        """A room, and so many people who are its members and have joined."""
        people = await self.people(count)
        room = await self.room(*people)
        return room, [await self.enter(person, room.id) for person in people]

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        async def run(conn: Any) -> list[Any]:
            rows: list[Any] = await conn.fetch(statement, *args)
            return rows

        result: list[Any] = await self.db.write(run)
        return result

    def actor(self, room_id: int) -> Any:
        """What inspection says of a room."""
        return self.app.core.system.inspect(f"rooms/{room_id}")


Build = Callable[..., AbstractAsyncContextManager[House]]


@pytest.fixture(scope="session")
def shared_database(postgres: Any) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(shared_database: str) -> str:
    """One database for all these tests: each has people and rooms of its own, and none counts what is there."""
    return shared_database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        port=0,
        data=tmp_path,
        jwt_secret=SECRET,
        secret_key=SECRET,
        argon2_memory_kib=64,
        argon2_time_cost=1,
        max_connections_per_ip=10_000,
        ws_connections_per_user=50,
        ws_connections_per_ip=10_000,
        rate_messages_per_minute=6e6,
        rate_messages_burst=100_000,
        rate_frames_per_second=1e5,
        rate_frames_burst=100_000,
        rate_statuses_per_minute=6e6,
        rate_statuses_burst=100_000,
        outlet_close_grace=1.0,
        # A pass in whose middle the machine stood still was costly, and behind a costly one nobody hears who types.
        fanout_max_wait=30.0,
        allowed_origins=("https://app.example",),
        public_url="https://veza.example",
    )


@asynccontextmanager
async def open_house(settings: Settings, db: Database) -> AsyncIterator[House]:
    async with trio.open_nursery() as nursery:
        async with open_server(settings, db) as app:
            house = House(app, db, nursery)
            yield house
            nursery.cancel_scope.cancel()  # the clients; their sockets break, and the server must not mind


@pytest.fixture
def build(settings: Settings, db: Database) -> Build:
    def make(**changed: Any) -> AbstractAsyncContextManager[House]:
        return open_house(msgspec.structs.replace(settings, **changed), db)

    return make


@pytest.fixture
async def house(build: Build) -> AsyncIterator[House]:
    async with build() as house:
        yield house
