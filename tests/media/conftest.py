"""Fixtures of the tests of media; those of the chat's tests give a whole server.

`inputs`    media as people upload it
`studio`    tracks in a database and their files, and whoever processes them: no HTTP
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.chat.conftest import (  # noqa: F401
    Build,
    House,
    Person,
    build,
    database_url,
    house,
    settings,
    shared_database,
)
from tests.conftest import PATIENCE
from tests.media.inputs import Inputs
from veza.actors.kernel import Actor, System, open_system
from veza.actors.presence import Deliver
from veza.actors.processing import Processing
from veza.actors.track_intake import take_in
from veza.db import tracks as tracks_db
from veza.db.pool import Database
from veza.db.tracks import Track
from veza.media.checking import Checked
from veza.media.library import Library

NOW = 0.01  # seconds before another try
STOP_TIMEOUT = 60.0  # seconds: who needs them all has not heard that it is over


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()


class Ear(Actor):
    """In the place of presence: hears what people are told."""

    mailbox_capacity = 10_000

    def __init__(self, heard: list[dict[str, Any]]) -> None:
        self.heard = heard

    async def handle(self, message: Any) -> None:
        assert isinstance(message, Deliver)
        frame = msgspec.json.decode(message.blob[message.blob.index(b"{") :])
        assert frame["type"] == "notification"
        self.heard.append({**frame["data"], "to": message.user_ids})


@dataclass
class Studio:
    """Somebody's tracks on their way."""

    db: Database
    library: Library
    processing: Processing
    system: System
    owner_id: int
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def bring(self, source: Path, **words: Any) -> Track:
        """A track of a copy of this file, as an upload would make it."""
        path = self.library.incoming / f"upload-{len(list(self.library.incoming.iterdir()))}"
        shutil.copyfile(source, path)
        given: dict[str, Any] = {"title": "Given", "filename": f"given{source.suffix}", **words}
        return await take_in(
            self.db,
            self.library,
            self.processing,
            owner_id=self.owner_id,
            path=path,
            checked=Checked("audio", source.suffix[1:], "audio/x", None),
            **given,
        )

    async def track(self, track_id: int) -> Track | None:
        return await self.db.read(tracks_db.visible, track_id, self.owner_id)

    async def until(self, track_id: int, *statuses: str) -> Track:
        """Wait for its status."""
        while True:
            track = await self.track(track_id)
            assert track is not None
            if track.status in statuses:
                return track
            await trio.sleep(0.02)

    async def sql(self, statement: str, *args: Any) -> list[Any]:
        async def run(conn: Any) -> list[Any]:
            rows: list[Any] = await conn.fetch(statement, *args)
            return rows

        return await self.db.write(run)

    async def job(self, track_id: int) -> Any:
        return (await self.sql("SELECT * FROM media_jobs WHERE track_id = $1", track_id))[0]

    async def told(self, track_id: int) -> dict[str, Any]:
        """What its owner is to hear of it; nothing else is to be told."""
        (row,) = await self.sql("SELECT kind, target_id, data::text FROM outbox")
        assert (row["kind"], row["target_id"]) == ("track_ready", self.owner_id)
        data: dict[str, Any] = json.loads(row["data"])
        return data

    def leftovers(self) -> list[str]:
        return [path.name for path in self.library.incoming.iterdir()]


async def someone(conn: Any, name: str) -> int:
    owner_id: int = await conn.fetchval(
        "INSERT INTO users (username, email, password_hash) VALUES ($1, $1 || '@example.org', 'none') RETURNING id",
        name,
    )
    return owner_id


Open = Callable[..., AbstractAsyncContextManager[Studio]]


@pytest.fixture
def open_studio(postgres: Any, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens studios one after the other on the same disk and database, which is empty at first: servers that come
    after each other."""
    from veza.db.pool import open_database

    url = postgres.create()

    @asynccontextmanager
    async def studio(**how: Any) -> AsyncIterator[Studio]:
        library = Library(tmp_path)
        library.prepare()
        heard: list[dict[str, Any]] = []
        opened = open_database(url, acquire_timeout=PATIENCE, statement_timeout=PATIENCE)
        async with opened as db, open_system(stop_timeout=STOP_TIMEOUT) as system:
            ear = system.supervisor("ears").ensure("ear", lambda: Ear(heard), capacity=Ear.mailbox_capacity)
            owners = await db.read(_fetch, "SELECT id FROM users ORDER BY id LIMIT 1")
            owner_id = owners[0]["id"] if owners else await db.write(someone, "owner")
            processing = Processing(
                system.supervisor("media"),
                db=db,
                library=library,
                presence=ear,
                again=how.pop("again", (NOW,)),
                **how,
            )
            try:
                yield Studio(db, library, processing, system, owner_id, heard)
            finally:
                processing.close()

    yield studio
    postgres.drop(url)


async def _fetch(conn: Any, statement: str) -> list[Any]:
    rows: list[Any] = await conn.fetch(statement)
    return rows


@pytest.fixture
async def studio(open_studio: Open) -> AsyncIterator[Studio]:
    async with open_studio() as opened:
        yield opened
