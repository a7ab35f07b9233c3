"""Copying people, rooms and messages from the older program's database.

Nothing of theirs is changed, nothing of ours is lost, and copying again brings only what is new: `legacy_import`
remembers what became of everything copied. The older databases differ in their columns; those that must be there are
asked for by name, the others are taken where they are. Rooms must not be live meanwhile, for their actors would not
notice: the caller holds the database.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec

from veza.db import rooms
from veza.db.errors import Stop, translate

BATCH: Final = 1000
LONGEST_CONTENT: Final = 4000
LONGEST_NAME: Final = 50
LONGEST_EMAIL: Final = 100
ROLES: Final = frozenset({"user", "moderator", "admin", "super_admin"})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TYPE: Final = re.compile(r"[a-z][a-z_]{0,19}")

_MEMORY: Final = """
CREATE TABLE IF NOT EXISTS legacy_import (
    source      text NOT NULL,
    kind        text NOT NULL,
    legacy      text NOT NULL,
    id          bigint NOT NULL,
    PRIMARY KEY (source, kind, legacy)
)
"""

# Numbers posts like ledger_append does, but keeps their times; what is known by its nonce is left out.
_APPEND: Final = """
WITH posts AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[],
                         $7::timestamptz[])
        WITH ORDINALITY AS p (room_id, user_id, nonce, content, message_type, created_at, edited_at, ord)
), new AS (
    SELECT p.* FROM posts p
    WHERE NOT EXISTS (SELECT FROM messages m
                      WHERE m.room_id = p.room_id AND m.user_id = p.user_id AND m.nonce = p.nonce)
      AND (p.user_id IS NOT NULL OR NOT EXISTS (
            SELECT FROM messages m WHERE m.room_id = p.room_id AND m.user_id IS NULL AND m.nonce = p.nonce))
), numbered AS (
    SELECT n.*, r.last_seq + row_number() OVER (PARTITION BY n.room_id ORDER BY n.ord) AS seq
    FROM new n JOIN rooms r ON r.id = n.room_id
), stored AS (
    INSERT INTO messages (room_id, seq, user_id, nonce, content, message_type, created_at, edited_at)
    SELECT room_id, seq, user_id, nonce, content, message_type, created_at, edited_at FROM numbered ORDER BY ord
    RETURNING room_id, seq, created_at
), counted AS (
    UPDATE rooms SET last_seq = top.seq, last_message_at = greatest(rooms.last_message_at, top.latest)
    FROM (SELECT room_id, max(seq) AS seq, max(created_at) AS latest FROM stored GROUP BY room_id) AS top
    WHERE rooms.id = top.room_id
)
SELECT count(*) FROM stored
"""


class NotLegacy(Stop):
    """The database at the other end is not one of the older program's."""


class Copied(msgspec.Struct):
    """What a copy brought: new rows by kind, and what could not be brought, by reason."""

    users: int = 0
    rooms: int = 0
    messages: int = 0
    known: int = 0  # messages that an earlier copy brought
    left: dict[str, int] = {}

    def leave(self, reason: str) -> None:
        self.left[reason] = self.left.get(reason, 0) + 1


class _Post(msgspec.Struct, frozen=True):
    room_id: int
    user_id: int | None
    nonce: str
    content: str
    message_type: str
    created_at: datetime
    edited_at: datetime | None


Told = Callable[[Copied], None]


async def copy(conn: Any, url: str, told: Told) -> Copied:
    """Copy everything from the database at `url`; `told` hears how far it is, now and then.

    Raises:
        NotLegacy: a table or a column that must be there is not.
        Unavailable: the other database cannot be reached.
    """
    try:
        source = await asyncpg.connect(
            url, timeout=10, server_settings={"default_transaction_read_only": "on"}
        )
    except Exception as error:
        raise translate(error) or NotLegacy(f"the older database cannot be opened: {error}") from None
    try:
        # One picture of theirs, whoever writes there meanwhile.
        async with source.transaction(isolation="repeatable_read", readonly=True):
            return await _Copy(conn, source, url, told).run()
    finally:
        source.terminate()


class _Copy:
    def __init__(self, conn: Any, source: Any, url: str, told: Told) -> None:
        self._conn = conn
        self._source = source
        parts = urlsplit(url)
        self._name = f"{parts.hostname or 'local'}:{parts.port or 5432}{parts.path}"
        self._mark = hashlib.sha256(self._name.encode()).hexdigest()[:8]
        self._told = told
        self._done = Copied(left={})
        self._users: dict[str, int] = {}
        self._rooms: dict[str, int] = {}  # by lower name
        self._rooms_by_id: dict[str, int] = {}
        self._members: set[tuple[int, int]] = set()

    async def run(self) -> Copied:
        columns = await self._columns()
        await self._conn.execute(_MEMORY)
        await self._copy_users(columns["users"])
        await self._copy_rooms(columns["rooms"])
        await self._copy_messages(columns["messages"])
        await self._enrol()
        return self._done

    async def _columns(self) -> dict[str, set[str]]:
        rows = await self._source.fetch(
            """SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
               WHERE c.oid IN (to_regclass('users'), to_regclass('rooms'), to_regclass('messages'))
                 AND a.attnum > 0 AND NOT a.attisdropped"""
        )
        found: dict[str, set[str]] = {"users": set(), "rooms": set(), "messages": set()}
        for table, column in rows:
            found[table].add(column)
        must = {
            "users": {"id", "username", "password_hash"},
            "rooms": {"name"},
            "messages": {"id", "content"},
        }
        for table, wanted in must.items():
            if missing := wanted - found[table]:
                what = (
                    f"column {sorted(missing)[0]} in its table {table}" if found[table] else f"table {table}"
                )
                raise NotLegacy(f"the older database has no {what}: is it the right one?")
        if not found["messages"] & {"author_id", "from_user"}:
            raise NotLegacy(
                "the older database has no column author_id in its table messages: is it the right one?"
            )
        return found

    async def _remembered(self, kind: str) -> dict[str, int]:
        rows = await self._conn.fetch(
            "SELECT legacy, id FROM legacy_import WHERE source = $1 AND kind = $2", self._name, kind
        )
        return dict(rows)

    async def _remember(self, kind: str, legacy: str, id: int) -> None:
        await self._conn.execute(
            "INSERT INTO legacy_import (source, kind, legacy, id) VALUES ($1, $2, $3, $4)",
            self._name,
            kind,
            legacy,
            id,
        )

    # People --------------------------------------------------------------------------------------------

    async def _copy_users(self, columns: set[str]) -> None:
        self._users = await self._remembered("user")
        wanted = _select(
            columns,
            {
                "id": ("id",),
                "username": ("username",),
                "email": ("email",),
                "password_hash": ("password_hash",),
                "first_name": ("first_name",),
                "last_name": ("last_name",),
                "bio": ("bio",),
                "avatar": ("avatar", "avatar_url"),
                "role": ("role",),
                "is_active": ("is_active",),
                "is_verified": ("is_verified", "email_verified"),
                "created_at": ("created_at",),
            },
        )
        async with self._conn.transaction():
            taken = set(self._users.values())
            async for row in self._source.cursor(f"SELECT {wanted} FROM users ORDER BY id"):
                if str(row["id"]) in self._users:
                    continue
                email = _email(row)
                user_id = await self._conn.fetchval(
                    "SELECT id FROM users WHERE lower(email) = lower($1)", email
                )
                if user_id in taken:  # two of theirs whose addresses differ in case alone: ours are unique
                    email, user_id = _no_email(row), None
                if user_id is None:
                    user_id = await self._new_user(row, email)
                    self._done.users += 1
                taken.add(user_id)
                self._users[str(row["id"])] = user_id
                await self._remember("user", str(row["id"]), user_id)
        self._told(self._done)

    async def _new_user(self, row: Mapping[str, Any], email: str) -> int:
        name = await self._free_name(row)
        role = str(row["role"] or "user")
        return int(
            await self._conn.fetchval(
                """INSERT INTO users (username, email, password_hash, first_name, last_name, bio, avatar, role,
                                      is_active, is_verified, created_at)
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id""",
                name,
                email,
                row["password_hash"] or "",
                _line(row["first_name"], LONGEST_NAME),
                _line(row["last_name"], LONGEST_NAME),
                row["bio"],
                _line(row["avatar"], 500),
                role if role in ROLES else "user",
                row["is_active"] is not False,
                bool(row["is_verified"]),
                _time(row["created_at"]),
            )
        )

    async def _free_name(self, row: Mapping[str, Any]) -> str:
        base = _line(row["username"], LONGEST_NAME) or f"user{row['id']}"
        name, number = base, 1
        while await self._conn.fetchval(
            "SELECT EXISTS (SELECT FROM users WHERE lower(username) = lower($1))", name
        ):
            number += 1
            name = f"{base[: LONGEST_NAME - 1 - len(str(number))]}_{number}"
        return name

    # Rooms ---------------------------------------------------------------------------------------------

    async def _copy_rooms(self, columns: set[str]) -> None:
        known = await self._remembered("room")
        self._rooms = dict(known)
        wanted = _select(
            columns,
            {
                "id": ("id",),
                "name": ("name",),
                "description": ("description",),
                "owner": ("owner_id", "creator_id", "created_by"),
                "private": ("is_private",),
                "public": ("is_public",),
                "created_at": ("created_at",),
            },
        )
        order = "id" if "id" in columns else "name"
        async with self._conn.transaction():
            async for row in self._source.cursor(f"SELECT {wanted} FROM rooms ORDER BY {order}"):
                if row["name"] is None or not row["name"].strip():
                    self._done.leave("rooms without a name")
                    continue
                private = row["private"] is True or row["public"] is False
                owner = self._users.get(str(row["owner"]))
                room_id = await self._room(row["name"], private, owner, row["description"], row["created_at"])
                if row["id"] is not None:
                    self._rooms_by_id[str(row["id"])] = room_id

    async def _room(
        self,
        legacy: str,
        private: bool = False,
        owner: int | None = None,
        description: str | None = None,
        created_at: Any = None,
    ) -> int:
        """Our room for theirs, by its name; made if there is none."""
        if (known := self._rooms.get(legacy.lower())) is not None:
            return known
        name = _room_name(legacy)
        room_id = None
        if not private:
            room_id = await rooms.id_of_public(self._conn, name)
        if room_id is None:
            room_id = int(
                await self._conn.fetchval(
                    """INSERT INTO rooms (kind, name, description, owner_id, created_at)
                       VALUES ($1, $2, $3, $4, $5) RETURNING id""",
                    "private" if private else "public",
                    name,
                    _line(description, 1000),
                    owner,
                    _time(created_at),
                )
            )
            self._done.rooms += 1
            if owner is not None:
                await self._conn.execute(
                    "INSERT INTO room_members (room_id, user_id, role) VALUES ($1, $2, 'owner')",
                    room_id,
                    owner,
                )
                self._members.add((room_id, owner))
        self._rooms[legacy.lower()] = room_id
        await self._remember("room", legacy.lower(), room_id)
        return room_id

    # Messages ------------------------------------------------------------------------------------------

    async def _copy_messages(self, columns: set[str]) -> None:
        wanted = _select(
            columns,
            {
                "id": ("id",),
                "author": ("author_id", "from_user"),
                "room": ("room",),
                "room_id": ("room_id",),
                "to_user": ("to_user", "recipient_id"),
                "content": ("content",),
                "message_type": ("message_type",),
                "created_at": ("created_at", "timestamp"),
                "edited_at": ("edited_at",),
                "deleted_at": ("deleted_at",),
                "is_deleted": ("is_deleted",),
            },
        )
        order = "created_at, id" if "created_at" in columns else "id"
        batch: list[_Post] = []
        async for row in self._source.cursor(
            f"SELECT {wanted} FROM messages ORDER BY {order}", prefetch=BATCH
        ):
            batch += await self._posts(row)
            if len(batch) >= BATCH:
                await self._append(batch)
                batch = []
        await self._append(batch)

    async def _posts(self, row: Mapping[str, Any]) -> list[_Post]:
        """A message of theirs as one of ours, or as several where it is longer than ours may be."""
        if row["deleted_at"] is not None or row["is_deleted"] is True:
            self._done.leave("messages that were deleted")
            return []
        content = _CONTROL.sub("", (row["content"] or "").replace("\r\n", "\n")).strip()
        if not content:
            self._done.leave("messages without text")
            return []
        author = self._users.get(str(row["author"]))
        room_id = await self._place(row, author)
        if room_id is None:
            return []
        if author is not None:
            self._members.add((room_id, author))
        kind = str(row["message_type"] or "text").lower()
        when = _time(row["created_at"])
        edited = None if row["edited_at"] is None else _time(row["edited_at"])
        parts = [content[at : at + LONGEST_CONTENT].strip() for at in range(0, len(content), LONGEST_CONTENT)]
        return [
            _Post(
                room_id,
                author,
                # Nonces of our own making begin with a character that clients may not use, and are never shown.
                f"\x01legacy:{self._mark}:{row['id']}:{number}",
                part,
                kind if _TYPE.fullmatch(kind) else "text",
                when,
                edited,
            )
            for number, part in enumerate(parts)
            if part
        ]

    async def _place(self, row: Mapping[str, Any], author: int | None) -> int | None:
        """The room a message belongs to."""
        if row["to_user"] is not None:
            other = self._users.get(str(row["to_user"]))
            if author is None or other is None:
                self._done.leave("private messages of somebody who is gone")
                return None
            if author == other:
                self._done.leave("private messages to oneself")
                return None
            key = f"direct:{min(author, other)}:{max(author, other)}"
            if key not in self._rooms_by_id:
                self._rooms_by_id[key] = await self._direct(author, other)
            return self._rooms_by_id[key]
        if row["room"] is not None and str(row["room"]).strip():
            return await self._room(str(row["room"]))
        if row["room_id"] is not None and (found := self._rooms_by_id.get(str(row["room_id"]))) is not None:
            return found
        self._done.leave("messages of no room")
        return None

    async def _direct(self, one: int, other: int) -> int:
        low, high = sorted((one, other))
        await self._conn.execute(
            """INSERT INTO rooms (kind, user_low, user_high, member_count) VALUES ('direct', $1, $2, 2)
               ON CONFLICT (user_low, user_high) WHERE kind = 'direct' DO NOTHING""",
            low,
            high,
        )
        self_id: int = await self._conn.fetchval(
            "SELECT id FROM rooms WHERE kind = 'direct' AND user_low = $1 AND user_high = $2", low, high
        )
        self._members |= {(self_id, low), (self_id, high)}
        return self_id

    async def _append(self, batch: list[_Post]) -> None:
        if not batch:
            return
        async with self._conn.transaction():
            columns = [list(column) for column in zip(*map(msgspec.structs.astuple, batch), strict=True)]
            stored = await self._conn.fetchval(_APPEND, *columns)
        self._done.messages += stored
        self._done.known += len(batch) - stored
        self._told(self._done)

    async def _enrol(self) -> None:
        """Whoever spoke in a room belongs to it, and has read what was said there so far."""
        for part in _parts(sorted(self._members), BATCH):
            await self._conn.execute(
                """INSERT INTO room_members (room_id, user_id, last_read_seq)
                   SELECT m.room_id, m.user_id, r.last_seq
                   FROM unnest($1::bigint[], $2::bigint[]) AS m (room_id, user_id) JOIN rooms r ON r.id = m.room_id
                   ON CONFLICT (room_id, user_id) DO UPDATE SET last_read_seq = excluded.last_read_seq""",
                [room_id for room_id, _ in part],
                [user_id for _, user_id in part],
            )
        await self._conn.execute(
            """UPDATE rooms r SET member_count = m.count
               FROM (SELECT room_id, count(*) FROM room_members
                     WHERE room_id = ANY ($1::bigint[]) GROUP BY room_id) AS m
               WHERE r.id = m.room_id AND r.member_count <> m.count""",
            sorted({room_id for room_id, _ in self._members}),
        )


def _select(columns: set[str], wanted: Mapping[str, tuple[str, ...]]) -> str:
    """A column list: each wanted name from the first of its columns that is there, else NULL."""
    parts = []
    for name, choices in wanted.items():
        there = [f'"{choice}"' for choice in choices if choice in columns]
        cast = "::text" if name in ("role", "message_type") else ""  # enums of theirs
        source = f"coalesce({', '.join(there)})" if len(there) > 1 else there[0] if there else "NULL"
        parts.append(f"{source}{cast} AS {name}")
    return ", ".join(parts)


def _email(row: Mapping[str, Any]) -> str:
    email = (row["email"] or "").strip()
    return email if "@" in email and len(email) <= LONGEST_EMAIL else _no_email(row)


def _no_email(row: Mapping[str, Any]) -> str:
    """An address that reaches nobody (RFC 2606) and that nobody else has."""
    return f"user{row['id']}@legacy.invalid"


def _line(text: str | None, longest: int) -> str | None:
    """A text as one plain line of ours; None if nothing is left of it."""
    if text is None:
        return None
    return " ".join(_CONTROL.sub(" ", text).split())[:longest].strip() or None


def _room_name(legacy: str) -> str:
    """The nearest name that rooms may have: no slash, not digits alone, 50 characters."""
    name = unicodedata.normalize("NFC", _line(legacy.replace("/", "-"), LONGEST_NAME) or "room")
    return f"room {name}"[:LONGEST_NAME] if name.isdecimal() else name[:LONGEST_NAME]


def _time(value: Any) -> datetime:
    """Times of theirs without a zone are UTC; a time that is missing is now."""
    if not isinstance(value, datetime):
        return datetime.now(UTC)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value


def _parts(items: list[tuple[int, int]], size: int) -> Iterable[list[tuple[int, int]]]:
    return (items[at : at + size] for at in range(0, len(items), size))
