"""The people of the measurements, their sessions, tokens and rooms, put into the server's database by SQL.

Registering nine thousand of them through the API would measure the hashing of passwords.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import trio

from veza import config
from veza.db.embedded import embedded_url
from veza.db.pool import with_connection
from veza.security.tokens import AccessTokens

LIFETIME = 24 * 3600.0


class Person(msgspec.Struct, frozen=True):
    id: int
    username: str
    token: str

    @property
    def path(self) -> str:
        """Where this person opens a chat socket."""
        return f"/ws/chat?token={self.token}"


def add_people(data: Path, prefix: str, count: int) -> list[Person]:
    """New people with a session each, in the database of the server that runs on this data directory."""
    settings = config.load({"VEZA_DATA": str(data)}, dotenv=None).with_secrets()
    tokens = AccessTokens(settings.jwt_secret or "", LIFETIME)
    rows = trio.run(_on_database, data, _insert_people, prefix, count)
    return [
        Person(user_id, username, tokens.issue(user_id, username, "user", str(sid))[0])
        for user_id, username, sid in rows
    ]


def add_rooms(data: Path, prefix: str, members: Sequence[Sequence[Person]]) -> list[str]:
    """New public rooms, one for each list of members; their names."""
    names = [f"{prefix}-{i}" for i in range(len(members))]
    ids = [[person.id for person in room] for room in members]
    trio.run(_on_database, data, _insert_rooms, names, ids)
    return names


def on_database(data: Path, unit: Any, *args: Any) -> Any:
    """Run one unit on the database of the server that runs on this data directory."""
    return trio.run(_on_database, data, unit, *args)


def tidy(data: Path) -> None:
    """Let PostgreSQL do now what it would else do while we measure."""
    trio.run(_on_database, data, _tidy)


async def _on_database(data: Path, unit: Any, *args: Any) -> Any:
    async with embedded_url(data) as url:
        return await with_connection(url, unit, *args)


async def _insert_people(conn: Any, prefix: str, count: int) -> list[tuple[int, str, UUID]]:
    rows = await conn.fetch(
        """
        WITH people AS (
            INSERT INTO users (username, email, password_hash)
            SELECT $1 || i, $1 || i || '@bench.invalid', '!' FROM generate_series(1, $2::int) AS i
            RETURNING id, username
        )
        INSERT INTO sessions (id, user_id, expires_at)
        SELECT gen_random_uuid(), id, now() + interval '1 day' FROM people
        RETURNING user_id, (SELECT username FROM people WHERE id = user_id), id
        """,
        prefix,
        count,
    )
    return sorted((row[0], row[1], row[2]) for row in rows)


async def _insert_rooms(conn: Any, names: list[str], members: list[list[int]]) -> None:
    async with conn.transaction():
        for name, people in zip(names, members, strict=True):
            await conn.execute(
                """
                WITH room AS (
                    INSERT INTO rooms (kind, name, owner_id, member_count) VALUES ('public', $1, $2, $3) RETURNING id
                )
                INSERT INTO room_members (room_id, user_id, role)
                SELECT room.id, member, CASE WHEN member = $2 THEN 'owner' ELSE 'member' END
                FROM room, unnest($4::bigint[]) AS member
                """,
                name,
                people[0] if people else None,
                len(people),
                people,
            )


async def _tidy(conn: Any) -> None:
    await conn.execute("ANALYZE users, sessions, rooms, room_members")
