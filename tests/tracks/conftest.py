"""Tracks through a whole server; the fixtures of the chat's tests serve here too.

`studio`    the server with somebody in it who uploads, and what its disk holds
`song`      the bytes of a short MP3
`trusting`  files are taken for what they say: for tests that are about something else
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
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
    shared_database,
)
from tests.chat.conftest import settings as chat_settings  # noqa: F401
from tests.media.inputs import Inputs
from tests.tracks.wire import PATIENCE, Reply, ask, part, upload
from veza import app
from veza.actors.processing import ProcessingActor
from veza.actors.upload_desk import Desk
from veza.config import Settings
from veza.media.checking import Checked
from veza.media.library import Library

LIMIT = 1024 * 1024  # of an upload


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()


@pytest.fixture(scope="session")
def song(inputs: Inputs) -> bytes:
    return inputs["mp3_tiny"].read_bytes()


@pytest.fixture
def settings(chat_settings: Settings) -> Settings:  # noqa: F811
    return msgspec.structs.replace(
        chat_settings, rate_rest_burst=10_000, upload_limit=LIMIT, upload_reserve=0
    )


@pytest.fixture(autouse=True)
def nobody_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracks stay as they were brought: what becomes of them is told in tests/media."""
    monkeypatch.setattr(ProcessingActor, "_look", lambda self: None)


@pytest.fixture(autouse=True)
def nobody_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the server sweeps when it starts, and is slow at, would not be there for a sweep of the test's own."""

    async def never(*_: Any) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(app, "again_and_again", never)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(self: Desk, path: Path) -> Checked:
        await trio.lowlevel.checkpoint()
        return Checked(kind="audio", extension="mp3", content_type="audio/mpeg", duration_ms=100)

    monkeypatch.setattr(Desk, "check", check)


@dataclass
class Studio:
    """A server, and `me` in it."""

    house: House
    me: Person

    @property
    def port(self) -> int:
        return self.house.port

    @property
    def library(self) -> Library:
        return self.house.app.services.library

    async def ask(self, method: str, path: str, body: Any = b"", **how: Any) -> Reply:
        """As `me`, unless `token` says otherwise; a dict goes as JSON."""
        how.setdefault("token", self.me.token)
        if isinstance(body, dict):
            how["headers"] = {"content-type": "application/json", **how.get("headers", {})}
            body = msgspec.json.encode(body)
        return await ask(self.port, method, f"/api/v1{path}", body, **how)

    async def upload(self, *parts: bytes, **how: Any) -> Reply:
        return await upload(self.port, how.pop("token", self.me.token), *parts, **how)

    async def track(self, song: bytes = b"not looked at", token: str | None = None, **words: str) -> Any:
        """A track that is there, still to be processed."""
        parts = [part("file", song, "song.mp3"), *(part(name, value) for name, value in words.items())]
        reply = await self.upload(*parts, token=token or self.me.token)
        assert reply.status == 201, reply.body
        return reply.data

    async def ready(self, track_id: int, **values: Any) -> None:
        """Let it be as if it were processed."""
        given = {"status": "ready", "duration_ms": 100, **values}
        assignments = ", ".join(f"{name} = ${i}" for i, name in enumerate(given, 2))
        await self.house.sql(f"UPDATE tracks SET {assignments} WHERE id = $1", track_id, *given.values())

    def directory(self, track: Any) -> Path:
        return self.library.track(track["name"])

    def nothing_left(self) -> bool:
        """No byte of any upload lies anywhere."""
        places = (self.library.incoming, self.library.resumable, self.library.tracks)
        return not any(path.is_file() for place in places for path in place.rglob("*"))


Open = Callable[..., AbstractAsyncContextManager[Studio]]


@pytest.fixture
def open_studio(build: Build) -> Open:  # noqa: F811
    """A studio with other settings."""

    @asynccontextmanager
    async def make(**changed: Any) -> AsyncIterator[Studio]:
        async with build(**changed) as made:
            yield Studio(made, await made.person())

    return make


@pytest.fixture
async def studio(house: House) -> Studio:  # noqa: F811
    return Studio(house, await house.person())


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - of the disk
            await trio.sleep(0.005)
