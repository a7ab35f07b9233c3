"""Streams in the database, and REST over their real actors.

`make_stream`  a stream's row
`studio`       REST, rooms, streams and recordings over one database, and people; sources pour into the actors directly
`song`         the bytes of two seconds of MP3
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.api.conftest import Answer, Api, Clock, clock  # noqa: F401
from tests.api.live.conftest import core  # noqa: F401
from tests.api.live.conftest import settings as usual_settings  # noqa: F401
from tests.media.inputs import Inputs
from tests.social.conftest import Person, Town, shared_database  # noqa: F401
from veza.actors.people import follow
from veza.actors.recordings import Keeper, Recordings
from veza.actors.streams import Streams
from veza.actors.streams.messages import Claim, Pour, SourceGone
from veza.actors.streams.seat import Announced, Seat
from veza.app import Core
from veza.config import Settings
from veza.db import streams as streams_db
from veza.db.pool import Database
from veza.http.api.app import create_app
from veza.http.api.services import assemble
from veza.mail import open_mailer
from veza.media.checking import Checked
from veza.media.library import Library
from veza.security.stream_keys import hash_of

KEY = "the key of a stream"
Make = Callable[..., Awaitable[streams_db.Stream]]
_numbers = itertools.count(1)


@pytest.fixture
def database_url(shared_database: str) -> str:  # noqa: F811
    """One database for all these tests: each has people and streams of its own."""
    return shared_database


@pytest.fixture
def settings(usual_settings: Settings) -> Settings:  # noqa: F811
    return msgspec.structs.replace(usual_settings, streams_owned_max=6, tracks_owned_max=3)


@pytest.fixture(scope="session")
def song() -> bytes:
    return Inputs()["mp3_bare"].read_bytes()


async def person_row(conn: Any) -> int:
    made: int = await conn.fetchval(
        "INSERT INTO users (username, email, password_hash) VALUES ($1, $1 || '@example.org', 'none') RETURNING id",
        f"singer{next(_numbers)}",
    )
    return made


@pytest.fixture
def make_stream(db: Database) -> Make:
    """A stream in the database, of a new person unless `owner_id` says whose."""

    async def make(owner_id: int | None = None, slug: str | None = None, **fields: Any) -> streams_db.Stream:
        owner = owner_id if owner_id is not None else await db.write(person_row)
        given: dict[str, Any] = {
            "slug": slug or f"of-{owner}-{next(_numbers)}",
            "title": "Sunday tunes",
            "description": None,
            "category": "music",
            "visibility": "public",
            "record": False,
            "key_hash": hash_of(KEY),
            "most_open": 20,
            "most_kept": 1_000,
        }
        return await db.write(streams_db.create, owner, **{**given, **fields})

    return make


@dataclass
class Studio(Town):
    """What a test starts from: REST, people, and what is behind it."""

    core: Core
    streams: Streams
    recordings: Recordings
    keeper: Keeper
    library: Library

    async def stream(self, owner: Person, **fields: Any) -> dict[str, Any]:
        """A new stream, through REST, with its key."""
        body = {"title": "Sunday tunes", "category": "music", "visibility": "public", **fields}
        answer = await self.api.post("/streams", body, token=owner.token)
        assert answer.status == 201, answer.raw
        made: dict[str, Any] = answer.data
        return made

    async def get(self, path: str, who: Person | None = None) -> Answer:
        return await self.api.get(path, token=None if who is None else who.token)

    async def post(self, path: str, who: Person | None = None, body: Any = None) -> Answer:
        return await self.api.post(path, body, token=None if who is None else who.token)

    async def put(self, path: str, body: Any, who: Person | None = None) -> Answer:
        return await self.api.put(path, body, token=None if who is None else who.token)

    async def delete(self, path: str, who: Person | None = None) -> Answer:
        return await self.api.delete(path, token=None if who is None else who.token)

    async def source(self, stream_id: int, data: bytes = b"", content_type: str = "audio/mpeg") -> Source:
        """Somebody who broadcasts, and has sent this."""
        source = Source(self.streams, stream_id, content_type)
        await self.streams.ask(stream_id, Claim(source.seat))
        if data:
            await source.pour(data)
        return source

    async def on_air(self, stream_id: int) -> None:
        """Wait until it is stored that its source is there: that happens beside the source, which waits for nothing."""
        with trio.fail_after(30):
            while (await self.sql("SELECT state FROM streams WHERE id = $1", stream_id)) != "live":  # noqa: ASYNC110
                await trio.sleep(0.005)

    async def room(self, room_id: int) -> tuple[str, set[int]] | None:
        """A room's kind and its members, as the database has them."""

        async def read(conn: Any) -> Any:
            kind = await conn.fetchval("SELECT kind FROM rooms WHERE id = $1", room_id)
            rows = await conn.fetch("SELECT user_id FROM room_members WHERE room_id = $1", room_id)
            return None if kind is None else (kind, {row[0] for row in rows})

        found: tuple[str, set[int]] | None = await self.db.read(read)
        return found


class Source:
    """A broadcast without a connection."""

    def __init__(self, streams: Streams, stream_id: int, content_type: str) -> None:
        self._streams = streams
        self._stream_id = stream_id
        self.gone = trio.Event()
        self.seat = Seat(Announced(content_type), self.gone.set)

    async def pour(self, data: bytes) -> bool:
        heard: bool = await self._streams.ask(self._stream_id, Pour(self.seat, data, trio.current_time()))
        return heard

    def drop(self) -> None:
        self._streams.ref(self._stream_id).answer(SourceGone(self.seat))


async def trusting(path: Path) -> Checked:
    """Takes a file for what it says: for tests that are about something else."""
    await trio.lowlevel.checkpoint()
    return Checked(kind="audio", extension="mp3", content_type="audio/mpeg", duration_ms=None)


async def _no_hls(*_: Any) -> None:
    raise AssertionError("nobody asked for HLS")


@pytest.fixture
async def studio(core: Core, settings: Settings, clock: Clock) -> AsyncIterator[Studio]:  # noqa: F811
    library = Library(settings.data)
    await trio.to_thread.run_sync(library.prepare)
    streams = Streams(core.system, db=core.db, settings=settings, library=library, make_hls=_no_hls)
    keeper = Keeper(core.db, library, check=trusting, most=settings.tracks_owned_max)
    recordings = Recordings(core.system.supervisor("recordings"), keeper)
    streams.on_ended(recordings.finish)
    streams.on_live(lambda stream_id: core.notices.poke())
    async with open_mailer(settings) as mailer:
        services = assemble(
            settings,
            core.db,
            mailer,
            clock=clock,
            system=core.system,
            rooms=core.rooms,
            presence=core.presence,
            streams=streams,
            recordings=recordings,
            notices=core.notices,
        )
        follow(services.registry, core.people)
        yield Studio(Api(create_app(services), services), core.db, core, streams, recordings, keeper, library)
        await streams.close()
