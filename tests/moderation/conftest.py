"""A whole server with moderators in it, over REST and on real sockets.

`court`   people, `court.moderator` and `court.admin` among them; streams through `court.air`
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import trio

from tests.api.conftest import Answer, Api
from tests.chat.client import Client
from tests.chat.conftest import Build, House, Person, build, database_url, shared_database
from tests.chat.conftest import settings as chat_settings
from tests.live.conftest import Air, settings
from veza.http.api.app import create_app
from veza.security.passwords import Passwords

__all__ = ["build", "chat_settings", "database_url", "settings", "shared_database"]

PASSWORD = "correct horse"
_numbers = itertools.count(1)


@dataclass
class Court:
    """What a test starts from."""

    house: House
    api: Api
    air: Air
    moderator: Person
    admin: Person
    hashed: str = ""

    async def person(self, **how: Any) -> Person:
        return await self.house.person(**how)

    async def people(self, count: int) -> list[Person]:
        return await self.house.people(count)

    async def sql(self, statement: str, *args: Any) -> Any:
        """The first value of the first row, if there is one."""
        rows = await self.house.sql(statement, *args)
        return rows[0][0] if rows else None

    async def get(self, path: str, who: Person) -> Answer:
        return await self.api.get(path, token=who.token)

    async def post(self, path: str, body: Any, who: Person) -> Answer:
        return await self.api.post(path, body, token=who.token)

    async def put(self, path: str, body: Any, who: Person) -> Answer:
        return await self.api.put(path, body, token=who.token)

    async def delete(self, path: str, who: Person) -> Answer:
        return await self.api.delete(path, token=who.token)

    async def impose(self, by: Person, target: Person, kind: str, **how: Any) -> Answer:
        if kind == "warning":
            how.setdefault("reason", "mind your words")
        return await self.post(f"/moderation/users/{target.id}/sanctions", {"kind": kind, **how}, by)

    async def lift(self, by: Person, target: Person, kind: str) -> Answer:
        return await self.delete(f"/moderation/users/{target.id}/sanctions/{kind}", by)

    async def report(self, by: Person, target_type: str, target_id: int | str, **more: Any) -> Answer:
        body = {"target_type": target_type, "target_id": target_id, "reason": "bad", **more}
        return await self.post("/reports", body, by)

    async def acts(self, *actions: str, target: int | None = None) -> list[tuple[str, int]]:
        """Who did which of these, in order."""
        rows = await self.house.sql(
            "SELECT action, actor_id FROM audit_log WHERE action = ANY ($1::text[])"
            " AND ($2::bigint IS NULL OR target_id = $2) ORDER BY id",
            list(actions),
            target,
        )
        return [(row[0], row[1]) for row in rows]

    async def let_log_in(self, person: Person) -> None:
        """Give him a password."""
        if not self.hashed:
            self.hashed = await Passwords(64, 1).hash(PASSWORD)
        await self.sql("UPDATE users SET password_hash = $2 WHERE id = $1", person.id, self.hashed)

    async def login(self, person: Person, password: str = PASSWORD) -> Answer:
        return await self.api.post("/auth/login", {"username": person.name, "password": password})

    async def track(self, owner: Person, *, public: bool = True) -> int:
        name = f"piece{next(_numbers)}"
        return int(
            await self.sql(
                "INSERT INTO tracks (owner_id, name, title, extension, content_type, size, status, duration_ms,"
                " is_public) VALUES ($1, $2, $2, 'mp3', 'audio/mpeg', 1, 'ready', 60000, $3) RETURNING id",
                owner.id,
                name,
                public,
            )
        )

    async def comment(self, track: int, author: Person, text: str = "out of tune") -> int:
        made = await self.post(f"/tracks/{track}/comments", {"content": text, "at_ms": 0}, author)
        assert made.status == 201, made.raw
        return int(made.data["id"])

    async def listing(self, owner: Person) -> int:
        made = await self.post(
            "/listings",
            {
                "title": "A bass",
                "description": "It hums.",
                "category": "basses",
                "state": "good",
                "price_cents": 100,
            },
            owner,
        )
        assert made.status == 201, made.raw
        return int(made.data["id"])

    async def say(self, room: int, author: Person, text: str) -> int:
        made = await self.post(f"/chat/rooms/{room}/messages", {"content": text}, author)
        assert made.status == 201, made.raw
        return int(made.data["id"])

    async def notified(self, client: Client, action: str) -> dict[str, Any]:
        """The next notification of this act of moderation on a socket."""
        frame = await client.expect("notification", kind="moderation", action=action)
        assert frame.data.get("user_id") is None, "nobody is told who did it"
        return frame.data


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.raw


@pytest.fixture
async def court(build: Build) -> AsyncIterator[Court]:
    # However long a test takes, a source that has said all it has to say is not taken for one that dropped.
    async with build(stream_stall=600.0, stream_grace=600.0, stream_ring_seconds=600.0) as house:
        services = house.app.services
        moderator, admin = await house.person(role="moderator"), await house.person(role="admin")
        air = Air(house, await house.person())
        with trio.fail_after(180):
            yield Court(house, Api(create_app(services), services), air, moderator, admin)
