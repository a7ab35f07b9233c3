"""What can be reported: whose it is and what it says at this moment, for who may see it.

The words of every query are those by which the thing itself is shown; to who may not see it, it does not exist.
"""

from __future__ import annotations

from typing import Any, Final, Literal, get_args

import msgspec

from veza.db.categories import OUT
from veza.db.messages import READABLE
from veza.db.tracks import VISIBLE

TargetType = Literal["message", "user", "room", "track", "comment", "listing", "stream"]
TYPES: Final[tuple[str, ...]] = get_args(TargetType)


class Target(msgspec.Struct, frozen=True):
    """`snapshot`: what it says, JSON values by name. `accused_id` None: its author is not here any more."""

    id: int
    accused_id: int | None
    snapshot: dict[str, Any]

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Target {self.id}>"


# `$1` is the reader, `$2` what is asked for. The first two columns are its id and the accused; the rest is kept.
_QUERIES: Final[dict[str, str]] = {
    "message": f"""SELECT m.id, m.user_id, u.username, m.content, m.message_type, m.media_url, m.created_at,
                m.edited_at, r.id AS room_id, r.kind AS room_kind, r.name AS room
            FROM messages m JOIN rooms r ON r.id = m.room_id LEFT JOIN users u ON u.id = m.user_id
            WHERE m.id = $2 AND m.deleted_at IS NULL AND {READABLE}""",
    "user": """SELECT u.id, u.id AS accused_id, u.username, u.first_name, u.last_name, u.bio, u.avatar
            FROM users u WHERE u.id = $2 AND u.is_active AND u.deleted_at IS NULL AND $1::bigint IS NOT NULL""",
    "room": f"""SELECT r.id, r.owner_id, r.name, r.description, r.kind, r.member_count, r.created_at
            FROM rooms r WHERE r.id = $2 AND r.kind <> 'direct' AND {READABLE}""",
    "track": f"""SELECT t.id, t.owner_id, u.username, t.title, t.artist, t.album, t.genre, t.description, t.tags,
                t.filename, t.is_public, t.created_at
            FROM tracks t JOIN users u ON u.id = t.owner_id WHERE t.id = $2 AND {VISIBLE}""",
    "comment": f"""SELECT c.id, c.user_id, a.username, c.content, c.at_ms, c.created_at, t.id AS track_id,
                t.title AS track
            FROM track_comments c JOIN tracks t ON t.id = c.track_id JOIN users u ON u.id = t.owner_id
            LEFT JOIN users a ON a.id = c.user_id WHERE c.id = $2 AND {VISIBLE}""",
    "listing": f"""SELECT l.id, l.owner_id, u.username, l.title, l.description, l.state, l.price_cents, l.currency,
                l.exchange_for, l.location, l.status, l.created_at
            FROM listings l JOIN users u ON u.id = l.owner_id
            WHERE l.id = $2 AND l.status <> 'removed' AND NOT ({OUT}) AND $1::bigint IS NOT NULL""",
}
_STREAM: Final = """SELECT s.id, s.owner_id, u.username, s.slug, s.title, s.description, s.category, s.visibility,
        s.state, s.song, s.started_at, s.created_at
    FROM streams s JOIN users u ON u.id = s.owner_id
    WHERE s.{key} = $2 AND (s.owner_id = $1 OR u.is_active AND (s.visibility IN {open_to}
        OR EXISTS (SELECT FROM room_members m WHERE m.room_id = s.room_id AND m.user_id = $1)))"""


async def seen(conn: Any, reader: int, target_type: TargetType, target: int | str) -> Target | None:
    """What `reader` sees there; None: nothing.

    Args:
        target: an id. Of a stream also its slug: unlisted ones are known by that only.
    """
    if target_type == "stream":
        slug = isinstance(target, str)
        query = _STREAM.format(
            key="slug" if slug else "id", open_to="('public', 'unlisted')" if slug else "('public')"
        )
    else:
        query = _QUERIES[target_type]
    row = await conn.fetchrow(query, reader, target)
    if row is None:
        return None
    values = dict(list(row.items())[2:])
    return Target(row[0], row[1], values)
