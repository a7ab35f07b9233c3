"""A community that talks: the REST application over real actors, and ears on what sockets would be sent."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.api.conftest import SECRET, Api, Clock, Person
from veza import app
from veza.actors import commands
from veza.actors.people import follow
from veza.actors.ports import Connection
from veza.actors.presence import Connected, Disconnected
from veza.config import Settings
from veza.db.pool import Database
from veza.http.api.app import create_app
from veza.http.api.services import assemble
from veza.mail import open_mailer


class Ear:
    """The outlet of a connection that only listens: what it was sent, as frames, and how it was closed."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.closed_with: int | None = None
        self.last_received = 0.0
        self._changed = trio.Event()

    @property
    def closed(self) -> bool:
        return self.closed_with is not None

    @property
    def queued(self) -> int:
        return 0

    def post(self, blob: bytes, *, droppable: bool = False) -> bool:
        if self.closed:
            return False
        while blob:
            size, at = blob[1], 2
            if size == 126:
                size, at = int.from_bytes(blob[2:4], "big"), 4
            elif size == 127:
                size, at = int.from_bytes(blob[2:10], "big"), 10
            self.frames.append(json.loads(blob[at : at + size]))
            blob = blob[at + size :]
        self._tell()
        return True

    def close(self, code: int, reason: str = "") -> None:
        self.closed_with = self.closed_with or code
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [frame["data"] for frame in self.frames if frame["type"] == kind]

    async def heard(self, kind: str, count: int = 1) -> dict[str, Any]:
        """The `count`-th frame of this kind, once it has come."""
        with trio.fail_after(60):
            while len(self.of(kind)) < count:
                await self._changed.wait()
        return self.of(kind)[count - 1]

    async def ended(self) -> int:
        with trio.fail_after(60):
            while self.closed_with is None:
                await self._changed.wait()
        return self.closed_with


_numbers = itertools.count()


class Listener:
    """A connection of somebody's, known to presence, that may join rooms."""

    def __init__(self, core: app.Core, person: Person) -> None:
        self._core = core
        self.ear = Ear()
        self.connection = Connection(f"c{next(_numbers)}", person.id, person.username, self.ear)
        self.person = commands.Person(person.id, person.username)

    async def connect(self) -> None:
        await self._core.presence.ask(Connected(self.connection, "online", None, {}, True, frozenset()))

    async def join(self, room_id: int) -> None:
        await self._core.rooms.tell(room_id, commands.Join(person=self.person, connection=self.connection))
        await self.ear.heard("join_room_ack", len(self.ear.of("join_room_ack")) + 1)

    async def disconnect(self) -> None:
        await self._core.presence.tell(Disconnected(self.connection))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data=tmp_path,
        jwt_secret=SECRET,
        secret_key=SECRET,
        argon2_memory_kib=64,
        argon2_time_cost=1,
        rate_rest_burst=10_000,
        rate_messages_burst=1000,
        rate_messages_per_minute=60_000.0,
    )


@pytest.fixture
async def core(db: Database, settings: Settings) -> AsyncIterator[app.Core]:
    async with app.open_core(settings, db) as core:
        yield core


@pytest.fixture
async def api(core: app.Core, settings: Settings, clock: Clock) -> AsyncIterator[Api]:
    async with open_mailer(settings) as mailer:
        services = assemble(
            settings,
            core.db,
            mailer,
            clock=clock,
            system=core.system,
            rooms=core.rooms,
            presence=core.presence,
            notices=core.notices,
        )
        follow(services.registry, core.people)
        yield Api(create_app(services), services)
