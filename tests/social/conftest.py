"""People, their tracks, and the REST application over real actors and a real database; no file is needed for any of it.

`town.person()`, `town.track(owner)`: straight into the database, so that a test costs what it tests.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from tests.api.conftest import Answer, Api, clock
from tests.api.live.conftest import api, core, settings
from veza.db.pool import Database

__all__ = ["api", "clock", "core", "settings"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Person:
    """Somebody with an account, logged in."""

    id: int
    username: str
    token: str


@dataclass
class Town:
    """What a test starts from."""

    api: Api
    db: Database

    async def sql(self, statement: str, *args: Any) -> Any:
        """The first value of the first row, if there is one."""

        async def run(conn: Any) -> Any:
            return await conn.fetchval(statement, *args)

        return await self.db.write(run)

    async def person(self, role: str = "user") -> Person:
        name = f"soul{next(_numbers)}"
        sid = uuid.uuid4()
        user_id = await self.sql(
            """WITH u AS (INSERT INTO users (username, email, password_hash, role)
                          VALUES ($1, $1 || '@example.org', 'none', $2) RETURNING id),
                    s AS (INSERT INTO sessions (id, user_id, expires_at)
                          SELECT $3, id, now() + interval '1 day' FROM u)
               SELECT id FROM u""",
            name,
            role,
            sid,
        )
        token, _ = self.api.services.tokens.issue(user_id, name, role, str(sid))
        return Person(user_id, name, token)

    async def people(self, count: int) -> list[Person]:
        return [await self.person() for _ in range(count)]

    async def track(
        self,
        owner: Person,
        *,
        public: bool = True,
        status: str = "ready",
        duration_ms: int | None = 60_000,
        at: datetime | None = None,
    ) -> int:
        name = f"song{next(_numbers)}"
        return int(
            await self.sql(
                """INSERT INTO tracks (owner_id, name, title, extension, content_type, size, is_public, status,
                                       duration_ms, created_at)
                   VALUES ($1, $2, $2, 'mp3', 'audio/mpeg', 1, $3, $4, $5, coalesce($6, now())) RETURNING id""",
                owner.id,
                name,
                public,
                status,
                duration_ms,
                at,
            )
        )

    async def all_pages(self, path: str, key: str, *, token: str | None = None, limit: int = 2) -> list[Any]:
        """Every entry of a list, page by page; a page is never empty, nor longer than asked for."""
        found: list[Any] = []
        cursor = ""
        while True:
            mark = "&" if "?" in path else "?"
            answer = await self.api.get(f"{path}{mark}limit={limit}{cursor}", token=token)
            assert answer.status == 200, answer.raw
            assert len(answer.data[key]) <= limit
            found += answer.data[key]
            following = answer.json["meta"].get("next_cursor")
            if following is None:
                return found
            assert len(answer.data[key]) == limit
            cursor = f"&cursor={following}"


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.raw


@pytest.fixture(scope="session")
def shared_database(postgres: Any) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(shared_database: str) -> str:
    """One database for all these tests: each has people and tracks of its own."""
    return shared_database


@pytest.fixture
async def town(api: Api) -> Town:
    return Town(api, api.services.db)
