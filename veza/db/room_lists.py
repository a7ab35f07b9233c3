"""Rooms as lists show them: with their last message, and where the reader stands in them.

Every query reads for a person and gives what that person may see, decided in SQL: public rooms and one's own. Pages go
by key; a numbered page skips ids alone, never rows with their messages, and no further than lists are counted.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from veza.db.like import literal
from veza.db.messages import READABLE
from veza.db.users import COUNTED


class LastMessage(msgspec.Struct, frozen=True):
    """The newest message of a room. A deleted one has empty content."""

    id: int
    seq: int
    user_id: int | None
    username: str | None
    content: str
    message_type: str
    created_at: datetime

    def __repr__(self) -> str:  # contents stay out of logs
        return f"LastMessage(id={self.id})"


class RoomRow(msgspec.Struct, frozen=True):
    """A room and where the reader stands in it; `role` is None for who is not a member."""

    id: int
    kind: str
    name: str | None
    description: str | None
    owner_id: int | None
    people: tuple[int, int] | None
    slow_mode_s: int
    last_seq: int
    last_rev: int
    member_count: int
    created_at: datetime
    role: str | None
    last_read_seq: int
    last_message: LastMessage | None


class RoomPage(msgspec.Struct, frozen=True):
    """`total` is counted up to COUNTED; `more` says whether others follow."""

    rooms: list[RoomRow]
    total: int
    more: bool


class MemberRow(msgspec.Struct, frozen=True):
    user_id: int
    username: str
    first_name: str | None
    last_name: str | None
    avatar: str | None
    role: str
    joined_at: datetime


class MemberPage(msgspec.Struct, frozen=True):
    """`total` is the room's own count, so nothing is counted."""

    members: list[MemberRow]
    total: int
    more: bool


class ConversationRow(msgspec.Struct, frozen=True):
    """A direct conversation, named by the other person."""

    room_id: int
    user_id: int
    username: str
    first_name: str | None
    last_name: str | None
    avatar: str | None
    last_seen: datetime | None
    last_seq: int
    last_read_seq: int
    last_message_at: datetime
    last_message: LastMessage | None


class ConversationPage(msgspec.Struct, frozen=True):
    conversations: list[ConversationRow]
    total: int


class UnreadRow(msgspec.Struct, frozen=True):
    """A room with messages its member has not read."""

    room_id: int
    kind: str
    name: str | None
    people: tuple[int, int] | None
    last_seq: int
    last_read_seq: int


# The last message is the one that has the room's last number: one look into the index, whatever the room's length.
_LAST: Final = "l.id, l.seq, l.user_id, lu.username, coalesce(l.content, ''), l.message_type, l.created_at"
_ROOM: Final = f"""
    SELECT r.id, r.kind, r.name, r.description, r.owner_id, r.user_low, r.user_high, r.slow_mode_s, r.last_seq,
           r.last_rev, r.member_count, r.created_at, me.role, coalesce(me.last_read_seq, 0), {_LAST}
    FROM rooms r
    LEFT JOIN room_members me ON me.room_id = r.id AND me.user_id = $1
    LEFT JOIN messages l ON l.room_id = r.id AND l.seq = r.last_seq AND {READABLE}
    LEFT JOIN users lu ON lu.id = l.user_id
"""


def _last(values: Any) -> LastMessage | None:
    return None if values[0] is None else LastMessage(*values)


def _room(row: Any) -> RoomRow:
    id, kind, name, description, owner, low, high, slow, seq, rev, count, created, role, read, *last = row
    people = None if low is None else (low, high)
    return RoomRow(
        id, kind, name, description, owner, people, slow, seq, rev, count, created, role, read, _last(last)
    )


async def one(conn: Any, reader: int, room_id: int) -> RoomRow | None:
    """The room, if it is public or `reader` belongs to it."""
    row = await conn.fetchrow(
        f"{_ROOM} WHERE r.id = $2 AND (r.kind = 'public' OR me.user_id IS NOT NULL)", reader, room_id
    )
    return None if row is None else _room(row)


async def listed(
    conn: Any, reader: int, text: str | None, mine: bool, after: int, limit: int, offset: int
) -> RoomPage:
    """Public rooms and `reader`'s private ones (`mine`: only those he belongs to), by id, from after `after`.

    `text` is searched in names; one or two letters match their beginnings only, because trigrams need three.
    """
    args: list[Any] = [reader]
    named = ""
    if text:
        escaped = literal(text)
        args.append(f"{escaped}%" if len(text) < 3 else f"%{escaped}%")
        named = "AND lower(r.name) LIKE lower($2)"
    own = f"""SELECT r.id FROM room_members m JOIN rooms r ON r.id = m.room_id
              WHERE m.user_id = $1 AND r.kind {"<> 'direct'" if mine else "= 'private'"} {named}"""
    public = f"SELECT r.id FROM rooms r WHERE r.kind = 'public' {named}"
    branches = [own] if mine else [own, public]
    counted = " UNION ALL ".join(f"({branch} LIMIT {COUNTED})" for branch in branches)
    total = await conn.fetchval(
        f"SELECT count(*) FROM (SELECT FROM ({counted}) AS all_of_them LIMIT {COUNTED}) AS matches", *args
    )
    at = len(args)
    # Each branch yields its first ids in order; what is skipped is skipped among ids.
    ids = " UNION ALL ".join(
        f"({branch} AND r.id > ${at + 1} ORDER BY r.id LIMIT ${at + 2})" for branch in branches
    )
    rows = await conn.fetch(
        f"""{_ROOM} JOIN (SELECT id FROM ({ids}) AS ids ORDER BY id LIMIT ${at + 3} OFFSET ${at + 4}) AS page
                      ON page.id = r.id ORDER BY r.id""",
        *args,
        after,
        offset + limit + 1,
        limit + 1,
        offset,
    )
    return RoomPage([_room(row) for row in rows[:limit]], total, len(rows) > limit)


async def members(
    conn: Any, reader: int, room_id: int, after: int, limit: int, offset: int
) -> MemberPage | None:
    """The room's members by id, from after `after`; None where `reader` may not look."""
    total = await conn.fetchval(
        f"SELECT r.member_count FROM rooms r WHERE r.id = $2 AND {READABLE}", reader, room_id
    )
    if total is None:
        return None
    rows = await conn.fetch(
        """SELECT u.id, u.username, u.first_name, u.last_name, u.avatar, m.role, m.joined_at
           FROM (SELECT user_id, role, joined_at FROM room_members WHERE room_id = $1 AND user_id > $2
                 ORDER BY user_id LIMIT $3 OFFSET $4) AS m
           JOIN users u ON u.id = m.user_id ORDER BY u.id""",
        room_id,
        after,
        limit + 1,
        offset,
    )
    return MemberPage([MemberRow(*row) for row in rows[:limit]], total, len(rows) > limit)


async def conversations(conn: Any, reader: int, limit: int, offset: int) -> ConversationPage:
    """The direct conversations in which something was said, the latest first."""
    # Bounded by the people somebody writes with: found by two small indexes, then sorted.
    mine = """FROM rooms r WHERE r.kind = 'direct' AND (r.user_low = $1 OR r.user_high = $1) AND r.last_seq > 0"""
    total = await conn.fetchval(f"SELECT count(*) FROM (SELECT {mine} LIMIT {COUNTED}) AS matches", reader)
    rows = await conn.fetch(
        f"""SELECT r.id, u.id, u.username, u.first_name, u.last_name, u.avatar, u.last_seen_at, r.last_seq,
                   coalesce(me.last_read_seq, 0), r.last_message_at, {_LAST}
            FROM (SELECT r.id, r.user_low, r.user_high, r.last_seq, r.last_message_at {mine}
                  ORDER BY r.last_message_at DESC, r.id DESC LIMIT $2 OFFSET $3) AS r
            JOIN users u ON u.id = CASE WHEN r.user_low = $1 THEN r.user_high ELSE r.user_low END
            LEFT JOIN room_members me ON me.room_id = r.id AND me.user_id = $1
            LEFT JOIN messages l ON l.room_id = r.id AND l.seq = r.last_seq
            LEFT JOIN users lu ON lu.id = l.user_id
            ORDER BY r.last_message_at DESC, r.id DESC""",
        reader,
        limit,
        offset,
    )
    found = [[*row[:10], _last(row[10:])] for row in rows]
    return ConversationPage([ConversationRow(*values) for values in found], total)


async def unread(conn: Any, reader: int) -> list[UnreadRow]:
    """The rooms in which `reader` has not read everything, the latest first; at most COUNTED of them."""
    rows = await conn.fetch(
        f"""SELECT r.id, r.kind, r.name, r.user_low, r.user_high, r.last_seq, m.last_read_seq
            FROM room_members m JOIN rooms r ON r.id = m.room_id
            WHERE m.user_id = $1 AND r.last_seq > m.last_read_seq
            ORDER BY r.last_message_at DESC NULLS LAST LIMIT {COUNTED}""",
        reader,
    )
    return [
        UnreadRow(id, kind, name, None if low is None else (low, high), seq, read)
        for id, kind, name, low, high, seq, read in rows
    ]


# Who is under a sanction, for those who may impose them ------------------------------------------------


class SanctionRow(msgspec.Struct, frozen=True):
    """A mute or ban in force; `until` None means for good."""

    user_id: int
    username: str
    until: datetime | None
    reason: str | None
    by_user_id: int | None
    created_at: datetime


async def sanctions(conn: Any, room_id: int, kind: str, after: int, limit: int) -> list[SanctionRow]:
    """Those in force, by person, from after `after`. Who may look is for the caller to have asked."""
    rows = await conn.fetch(
        """SELECT s.user_id, u.username, s.until, s.reason, s.by_user_id, s.created_at
           FROM room_sanctions s JOIN users u ON u.id = s.user_id
           WHERE s.room_id = $1 AND s.kind = $2 AND s.user_id > $3 AND (s.until IS NULL OR s.until > now())
           ORDER BY s.user_id LIMIT $4""",
        room_id,
        kind,
        after,
        limit,
    )
    return [SanctionRow(*row) for row in rows]
