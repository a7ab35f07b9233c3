"""People, tracks, rooms and listings with names of their own, straight into the database; asked through the API."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.api.conftest import Api, clock
from tests.api.live.conftest import api, core, settings
from tests.social.conftest import Person, Town
from veza.db.pool import Database

__all__ = ["Library", "Person", "api", "clock", "core", "settings"]

_numbers = itertools.count(1)


class Library(Town):
    """What a test starts from. Everything has an id, and `found` gives ids."""

    async def named(self, username: str, **fields: Any) -> Person:
        person = await self.person()
        await self.sql(
            "UPDATE users SET username = $2, first_name = $3, last_name = $4, bio = $5 WHERE id = $1",
            person.id,
            username,
            fields.get("first_name"),
            fields.get("last_name"),
            fields.get("bio"),
        )
        return Person(person.id, username, person.token)

    async def song(self, owner: Person, title: str, **fields: Any) -> int:
        track = await self.track(
            owner, public=fields.pop("public", True), status=fields.pop("status", "ready")
        )
        await self.sql("UPDATE tracks SET title = $2 WHERE id = $1", track, title)
        for field, value in fields.items():
            assert field in ("artist", "album", "genre", "description", "tags", "play_count", "created_at")
            await self.sql(f"UPDATE tracks SET {field} = $2 WHERE id = $1", track, value)
        return track

    async def listing(self, owner: Person, title: str, description: str = "", status: str = "open") -> int:
        return int(
            await self.sql(
                """INSERT INTO listings (owner_id, title, description, category_id, state, price_cents, status)
                   VALUES ($1, $2, $3, 1, 'good', 5000, $4) RETURNING id""",
                owner.id,
                title,
                description,
                status,
            )
        )

    async def room(self, name: str, *members: Person, kind: str = "public", about: str | None = None) -> int:
        room = int(
            await self.sql(
                "INSERT INTO rooms (kind, name, description, member_count) VALUES ($1, $2, $3, $4) RETURNING id",
                kind,
                name,
                about,
                len(members),
            )
        )
        for member in members:
            await self.sql("INSERT INTO room_members (room_id, user_id) VALUES ($1, $2)", room, member.id)
        return room

    async def letters(self, one: Person, other: Person) -> int:
        room = int(
            await self.sql(
                "INSERT INTO rooms (kind, user_low, user_high) VALUES ('direct', $1, $2) RETURNING id",
                min(one.id, other.id),
                max(one.id, other.id),
            )
        )
        for member in (one, other):
            await self.sql("INSERT INTO room_members (room_id, user_id) VALUES ($1, $2)", room, member.id)
        return room

    async def said(self, room: int, by: Person, content: str) -> int:
        return int(
            await self.sql(
                """WITH r AS (UPDATE rooms SET last_seq = last_seq + 1 WHERE id = $1 RETURNING last_seq)
                   INSERT INTO messages (room_id, seq, user_id, nonce, content, created_at)
                   SELECT $1, last_seq, $2, $4, $3, now() FROM r RETURNING id""",
                room,
                by.id,
                content,
                str(next(_numbers)),
            )
        )

    async def found(self, kind: str, text: str, by: Person | None = None, **params: Any) -> list[int]:
        """Ids of what `GET /search` finds of one kind."""
        answer = await self.ask("/search", by, q=text, type=kind, **params)
        return [each["id"] for each in answer[kind]]

    async def begun(self, text: str, by: Person | None = None, **params: Any) -> list[tuple[str, str]]:
        """(type, text) of what is suggested."""
        answer = await self.ask("/search/autocomplete", by, q=text, **params)
        return [(each["type"], each["text"]) for each in answer["suggestions"]]

    async def ask(self, path: str, by: Person | None = None, **params: Any) -> Any:
        from urllib.parse import urlencode

        answer = await self.api.get(f"{path}?{urlencode(params)}", token=by.token if by else None)
        assert answer.status == 200, (path, params, answer.raw)
        return answer.data


@pytest.fixture
async def library(api: Api, db: Database) -> Library:
    return Library(api, db)
