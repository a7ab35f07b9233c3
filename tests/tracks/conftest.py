"""Tracks through a whole server; the fixtures of the chat's tests serve here too.

`studio`   the server with somebody in it who uploads, and what its disk holds
`song`     the bytes of a short MP3
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

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
from tests.tracks.wire import Reply, ask, part, upload
from veza.config import Settings
from veza.media.library import Library


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()


@pytest.fixture(scope="session")
def song(inputs: Inputs) -> bytes:
    return inputs["mp3_tiny"].read_bytes()


@pytest.fixture
def settings(chat_settings: Settings) -> Settings:  # noqa: F811
    return msgspec.structs.replace(chat_settings, rate_rest_burst=10_000, upload_reserve=0)


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
        """As `me`, unless `token` says otherwise; what is no bytes goes as JSON."""
        how.setdefault("token", self.me.token)
        if isinstance(body, dict):
            how["headers"] = {"content-type": "application/json", **how.get("headers", {})}
            body = msgspec.json.encode(body)
        path = path if path.startswith("/api") else f"/api/v1{path}"
        return await ask(self.port, method, path, body, **how)

    async def upload(self, *parts: bytes, **how: Any) -> Reply:
        return await upload(self.port, how.pop("token", self.me.token), *parts, **how)

    async def track(self, song: bytes, **words: str) -> Any:
        """A track that is there, still to be processed."""
        reply = await self.upload(part("file", song, "song.mp3"), *(part(k, v) for k, v in words.items()))
        assert reply.status == 201, reply.body
        return reply.data

    async def ready(self, track_id: int, **values: Any) -> None:
        """Let it be as if it were processed."""
        given = {"status": "ready", "duration_ms": 100, **values}
        assignments = ", ".join(f"{name} = ${i}" for i, name in enumerate(given, 2))
        await self.house.sql(f"UPDATE tracks SET {assignments} WHERE id = $1", track_id, *given.values())

    def files(self) -> list[str]:
        """Every file of a medium on the disk."""
        root = self.library.root
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def leftovers(self) -> list[Path]:
        return [path for directory in (self.library.incoming,) for path in directory.iterdir()]


@pytest.fixture
async def studio(house: House) -> AsyncIterator[Studio]:  # noqa: F811
    yield Studio(house, await house.person())
