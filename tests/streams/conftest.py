"""Streams in the database and in a whole server; the fixtures of the chat's tests serve here too."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.chat.conftest import (  # noqa: F401
    Build,
    House,
    _insert_people,
    build,
    database_url,
    house,
    settings,
    shared_database,
)
from veza.db import streams as streams_db
from veza.db.pool import Database

KEY = "the key of a stream"
Make = Callable[..., Awaitable[streams_db.Stream]]


@pytest.fixture
def make_stream(db: Database) -> Make:
    """A stream in the database, of a new person unless `owner_id` says whose."""
    count = 0

    async def make(owner_id: int | None = None, slug: str | None = None, **fields: Any) -> streams_db.Stream:
        nonlocal count
        count += 1
        if owner_id is None:
            ((owner_id, _),) = await db.write(
                _insert_people, [f"owner{count}_{id(make):x}"], "user", "online"
            )
        given: dict[str, Any] = {
            "slug": slug or f"of-{owner_id}-{count}",
            "title": "Sunday tunes",
            "description": None,
            "category": "music",
            "visibility": "public",
            "record": False,
            "key_hash": hashlib.sha256(KEY.encode()).digest(),
            "most_open": 20,
            "most_kept": 1_000,
        }
        return await db.write(streams_db.create, owner_id, **{**given, **fields})

    return make
