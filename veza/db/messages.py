"""Messages: histories, changes, reactions, pins. Appends are in `ledger.py`, searches in
`message_search.py`.

Every query that reads for a person asks in SQL whether that person may: a public room's messages are for everybody who
is not banned there, any other room's for its members alone. To a stranger they do not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec


class Reaction(msgspec.Struct, frozen=True):
    """One emoji under a message; `user_ids` in the order they reacted."""

    emoji: str
    count: int
    user_ids: list[int]


class Message(msgspec.Struct, frozen=True):
    """A stored message with its author's present name. Deleted ones have no content."""

    id: int
    room_id: int
    seq: int
    user_id: int | None
    username: str | None
    nonce: str | None
    content: str | None
    message_type: str
    media_url: str | None
    media_type: str | None
    duration: float | None
    reply_to: int | None
    mentions: list[int] | None
    created_at: datetime
    edited_at: datetime | None = None
    edited_by: int | None = None
    deleted_at: datetime | None = None
    deleted_by: int | None = None
    pinned_at: datetime | None = None
    pinned_by: int | None = None
    rev: int = 0
    reactions: list[Reaction] | None = None

    def __repr__(self) -> str:  # contents stay out of logs
        return f"Message(id={self.id}, room_id={self.room_id}, seq={self.seq})"


_COLUMNS = """
    m.id, m.room_id, m.seq, m.user_id, u.username, m.nonce, m.content, m.message_type, m.media_url, m.media_type,
    m.duration, m.reply_to, m.mentions, m.created_at, m.edited_at, m.edited_by, m.deleted_at, m.deleted_by,
    m.pinned_at, m.pinned_by, m.rev,
    CASE WHEN m.rev > 0 THEN (
        SELECT json_agg(json_build_object('emoji', g.emoji, 'count', g.count, 'user_ids', g.user_ids) ORDER BY g.first)
        FROM (SELECT r.emoji, count(*) AS count, min(r.created_at) AS first,
                     (array_agg(r.user_id ORDER BY r.created_at))[1:50] AS user_ids
              FROM reactions r WHERE r.message_id = m.id GROUP BY r.emoji) AS g
    ) END AS reactions
"""
_FROM = "FROM messages m LEFT JOIN users u ON u.id = m.user_id"

# May $1 read messages of the room `r`? (Appears in queries that have rooms AS r.)
READABLE = """(
    (r.kind = 'public' OR EXISTS (SELECT 1 FROM room_members rm WHERE rm.room_id = r.id AND rm.user_id = $1))
    AND NOT EXISTS (SELECT 1 FROM room_sanctions s WHERE s.room_id = r.id AND s.user_id = $1 AND s.kind = 'ban'
                    AND (s.until IS NULL OR s.until > now()))
)"""

_reactions = msgspec.json.Decoder(list[Reaction]).decode


def _message(row: Any) -> Message:
    values = list(row)
    if values[-1] is not None:
        values[-1] = _reactions(values[-1])
    return Message(*values)


async def between(conn: Any, room_id: int, after: int, upto: int) -> list[Message]:
    """The room's messages with after < seq <= upto, ascending. For the room itself: no permission is asked."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} WHERE m.room_id = $1 AND m.seq > $2 AND m.seq <= $3 ORDER BY m.seq",
        room_id,
        after,
        upto,
    )
    return [_message(row) for row in rows]


async def changed_since(conn: Any, room_id: int, rev: int, limit: int) -> list[Message]:
    """The room's messages changed after `rev`, in the order of their last change. For the room itself."""
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} WHERE m.room_id = $1 AND m.rev > 0 AND m.rev > $2 ORDER BY m.rev LIMIT $3",
        room_id,
        rev,
        limit,
    )
    return [_message(row) for row in rows]


class Page(msgspec.Struct, frozen=True):
    """A stretch of a room's history, ascending. `total` is the room's last_seq, so nothing is counted."""

    room_id: int
    kind: str
    name: str | None
    people: tuple[int, int] | None
    messages: list[Message]
    total: int
    has_more: bool


async def history(
    conn: Any,
    reader: int,
    room_id: int,
    limit: int,
    before_seq: int | None = None,
    after_seq: int | None = None,
    offset: int = 0,
) -> Page | None:
    """The newest messages (before `before_seq`, or the oldest after `after_seq`); None where `reader` may not look."""
    room = await conn.fetchrow(
        f"SELECT r.kind, r.name, r.user_low, r.user_high, r.last_seq FROM rooms r WHERE r.id = $2 AND {READABLE}",
        reader,
        room_id,
    )
    if room is None:
        return None
    kind, name, low, high, total = room
    if after_seq is not None:
        rows = await conn.fetch(
            f"SELECT {_COLUMNS} {_FROM} WHERE m.room_id = $1 AND m.seq > $2 ORDER BY m.seq LIMIT $3",
            room_id,
            after_seq,
            limit + 1,
        )
        found = [_message(row) for row in rows[:limit]]
    else:
        # Sequences are gapless, so an offset from the end is a place in the key: no OFFSET is needed.
        top = (total + 1 if before_seq is None else min(before_seq, total + 1)) - offset
        rows = await conn.fetch(
            f"SELECT {_COLUMNS} {_FROM} WHERE m.room_id = $1 AND m.seq < $2 ORDER BY m.seq DESC LIMIT $3",
            room_id,
            top,
            limit + 1,
        )
        found = [_message(row) for row in rows[:limit]][::-1]
    return Page(room_id, kind, name, None if low is None else (low, high), found, total, len(rows) > limit)


async def locate(conn: Any, reader: int, message_id: int) -> int | None:
    """The id of the message's room, if `reader` may see it."""
    found = await conn.fetchval(
        f"SELECT m.room_id FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id = $2 AND {READABLE}",
        reader,
        message_id,
    )
    return None if found is None else int(found)


class Place(msgspec.Struct, frozen=True):
    """The room a message is in, as frames and answers name it."""

    room_id: int
    kind: str
    name: str | None
    people: tuple[int, int] | None


_PLACE = "r.id, r.kind, r.name, r.user_low, r.user_high"


def _place(values: Any) -> Place:
    room_id, kind, name, low, high = values
    return Place(room_id, kind, name, None if low is None else (low, high))


async def place(conn: Any, reader: int, message_id: int) -> Place | None:
    """Like `locate`, with what the room is called."""
    row = await conn.fetchrow(
        f"SELECT {_PLACE} FROM messages m JOIN rooms r ON r.id = m.room_id WHERE m.id = $2 AND {READABLE}",
        reader,
        message_id,
    )
    return None if row is None else _place(row)


async def shown(conn: Any, reader: int, message_id: int) -> tuple[Message, Place] | None:
    """One message, if `reader` may see it."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS}, {_PLACE} {_FROM} JOIN rooms r ON r.id = m.room_id WHERE m.id = $2 AND {READABLE}",
        reader,
        message_id,
    )
    return None if row is None else (_message(list(row)[:-5]), _place(list(row)[-5:]))


async def find(conn: Any, room_id: int, message_id: int) -> Message | None:
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} {_FROM} WHERE m.room_id = $1 AND m.id = $2", room_id, message_id
    )
    return None if row is None else _message(row)


# Changes. Each locks the room and then the message, lets `check` look at the message as it is now (it raises what
# forbids the change, and everything rolls back), and takes the room's next revision. None: there is no such message.


async def _locked(
    conn: Any, room_id: int, message_id: int, check: Callable[[Message], None]
) -> Message | None:
    await conn.execute("SELECT 1 FROM rooms WHERE id = $1 FOR NO KEY UPDATE", room_id)
    message = await find(conn, room_id, message_id)
    if message is None or message.deleted_at is not None:
        return None
    check(message)
    return message


async def _changed(
    conn: Any, room_id: int, message_id: int, assignments: str, *values: Any
) -> Message | None:
    rev = await conn.fetchval(
        "UPDATE rooms SET last_rev = last_rev + 1 WHERE id = $1 RETURNING last_rev", room_id
    )
    await conn.execute(
        f"UPDATE messages SET rev = $3{assignments} WHERE room_id = $1 AND id = $2",
        room_id,
        message_id,
        rev,
        *values,
    )
    return await find(conn, room_id, message_id)


async def edit(
    conn: Any,
    room_id: int,
    message_id: int,
    by: int,
    content: str,
    mentions: list[int] | None,
    check: Callable[[Message], None],
) -> Message | None:
    if await _locked(conn, room_id, message_id, check) is None:
        return None
    values = ", content = $4, mentions = $5, edited_at = now(), edited_by = $6"
    return await _changed(conn, room_id, message_id, values, content, mentions, by)


async def delete(
    conn: Any, room_id: int, message_id: int, by: int, check: Callable[[Message], None]
) -> Message | None:
    """The row stays, so that the sequence has no gap; what it said goes, with its reactions and its pin."""
    if await _locked(conn, room_id, message_id, check) is None:
        return None
    await conn.execute("DELETE FROM reactions WHERE message_id = $1", message_id)
    values = (
        ", content = NULL, media_url = NULL, media_type = NULL, duration = NULL, mentions = NULL,"
        " deleted_at = now(), deleted_by = $4, pinned_at = NULL, pinned_by = NULL"
    )
    return await _changed(conn, room_id, message_id, values, by)


async def react(
    conn: Any,
    room_id: int,
    message_id: int,
    user_id: int,
    emoji: str,
    added: bool,
    check: Callable[[Message], None],
) -> tuple[Message, bool] | None:
    """Set or lift one person's reaction. Returns the message and whether anything changed."""
    before = await _locked(conn, room_id, message_id, check)
    if before is None:
        return None
    if added:
        done = await conn.execute(
            "INSERT INTO reactions (message_id, emoji, user_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            message_id,
            emoji,
            user_id,
        )
    else:
        done = await conn.execute(
            "DELETE FROM reactions WHERE message_id = $1 AND emoji = $2 AND user_id = $3",
            message_id,
            emoji,
            user_id,
        )
    if done.endswith(" 0"):
        return before, False
    after = await _changed(conn, room_id, message_id, "")
    return (after, True) if after is not None else None


async def pin(
    conn: Any,
    room_id: int,
    message_id: int,
    by: int,
    pinned: bool,
    check: Callable[[Message], None],
    most: int,
) -> tuple[Message, bool, bool] | None:
    """Pin or unpin. Returns (message, changed, full): full where the room has `most` pins already."""
    before = await _locked(conn, room_id, message_id, check)
    if before is None:
        return None
    if (before.pinned_at is not None) == pinned:
        return before, False, False
    if pinned:
        count = await conn.fetchval(
            "SELECT count(*) FROM messages WHERE room_id = $1 AND pinned_at IS NOT NULL", room_id
        )
        if count >= most:
            return before, False, True
        after = await _changed(conn, room_id, message_id, ", pinned_at = now(), pinned_by = $4", by)
    else:
        after = await _changed(conn, room_id, message_id, ", pinned_at = NULL, pinned_by = NULL")
    return (after, True, False) if after is not None else None


async def pins(conn: Any, reader: int, room_id: int) -> tuple[list[Message], Place] | None:
    """The room's pinned messages, the newest pin first; None where `reader` may not look."""
    room = await conn.fetchrow(
        f"SELECT {_PLACE} FROM rooms r WHERE r.id = $2 AND {READABLE}", reader, room_id
    )
    if room is None:
        return None
    rows = await conn.fetch(
        f"SELECT {_COLUMNS} {_FROM} WHERE m.room_id = $1 AND m.pinned_at IS NOT NULL ORDER BY m.pinned_at DESC",
        room_id,
    )
    return [_message(row) for row in rows], _place(room)


async def some(conn: Any, message_ids: list[int]) -> list[tuple[Message, Place]]:
    """These messages, in the order named. Whether they may be read was asked before."""
    if not message_ids:
        return []
    rows = await conn.fetch(
        f"""SELECT {_COLUMNS}, {_PLACE} {_FROM} JOIN rooms r ON r.id = m.room_id
            WHERE m.id = ANY ($1::bigint[]) AND m.deleted_at IS NULL""",
        message_ids,
    )
    found = {row[0]: (_message(list(row)[:-5]), _place(list(row)[-5:])) for row in rows}
    return [found[id] for id in message_ids if id in found]
