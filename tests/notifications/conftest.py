"""A whole server, people with sockets, and what the outbox is given.

`hall.cause(...)`   an event straight into the outbox, and a poke, as any cause does it
`hall.told(...)`    the next notification on a socket
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from tests.api.conftest import Api
from tests.chat.client import Client
from tests.chat.conftest import Build, House, Person, build, settings
from veza.db import outbox
from veza.db.outbox import Event
from veza.http.api.app import create_app

__all__ = ["Hall", "build", "settings"]

BOUND = 60  # seconds; what takes longer hangs
_keys = itertools.count(1)


@dataclass
class Hall:
    """What a test starts from."""

    house: House
    api: Api

    async def people(self, count: int) -> list[Person]:
        return await self.house.people(count)

    async def connect(self, person: Person) -> Client:
        return await self.house.connect(person)

    async def cause(self, *events: Event) -> None:
        await self.house.db.write(outbox.put, *events)
        self.house.app.core.notices.poke()

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        return await self.house.sql(statement, *args)

    async def nothing_else(self, *clients: Client) -> None:
        """Nobody here was told anything that he has not asked for: what is caused now comes behind all that was."""
        for client in clients:
            user_id = client.welcome["user_id"]
            await self.cause(Event("track_ready", user_id, None, f"track:{next(_keys)}:last"))
            assert (await client.expect("notification"))["kind"] == "track_ready"

    async def until_unread(self, client: Client, count: int) -> None:
        """Until so many are stored for the person on this connection; what tells of them may be asked for later."""
        while True:
            frame = await client.expect("notification")
            if frame["unread"] >= count:
                assert frame["unread"] == count
                return

    async def until_none(self, table: str, actor: Person, where: str = "") -> None:
        """Until there is no such row of his acts."""
        with trio.fail_after(BOUND):
            while await self.sql(f"SELECT FROM {table} WHERE actor_id = $1 {where}", actor.id):  # noqa: ASYNC110 - rows
                await trio.sleep(0.01)

    async def track(self, owner: Person, title: str = "A song") -> int:
        rows = await self.sql(
            "INSERT INTO tracks (owner_id, name, title, extension, content_type, size, status, duration_ms)"
            " VALUES ($1, $2, $3, 'mp3', 'audio/mpeg', 1, 'ready', 60000) RETURNING id",
            owner.id,
            f"tune{next(_keys)}",
            title,
        )
        return int(rows[0][0])

    async def block(self, blocker: Person, blocked: Person) -> None:
        await self.sql("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)", blocker.id, blocked.id)

    async def mute(self, muter: Person, muted: Person) -> None:
        await self.sql("INSERT INTO mutes (muter_id, muted_id) VALUES ($1, $2)", muter.id, muted.id)


def event(actor: Person | None, target: Person, kind: str = "follow", **more: Any) -> Event:
    """An event about `target`, with a key of its own unless one is given."""
    key = more.pop("key", None) or f"{kind}:{next(_keys)}"
    return Event(kind, target.id, None if actor is None else actor.id, key, **more)


@pytest.fixture(scope="session")
def shared_database(postgres: Any) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(shared_database: str) -> str:
    """One database for all these tests: each has people of its own, and none counts what is there."""
    return shared_database


@pytest.fixture
async def hall(build: Build) -> AsyncIterator[Hall]:
    async with build() as house:
        services = house.app.services
        yield Hall(house, Api(create_app(services), services))
