"""The words that are not to be said in a room, as `veza.actors.words` folds them. For its moderators' eyes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from veza.db import audit
from veza.db.audit import Act


async def of_room(conn: Any, room_id: int) -> list[str]:
    """In alphabetical order."""
    rows = await conn.fetch("SELECT word FROM room_words WHERE room_id = $1 ORDER BY word", room_id)
    return [row[0] for row in rows]


async def replace(conn: Any, room_id: int, words: Sequence[str], by: int) -> list[str]:
    """These, and no others; that it was changed is in the audit log, without the words."""
    await conn.execute("SELECT 1 FROM rooms WHERE id = $1 FOR NO KEY UPDATE", room_id)
    await conn.execute(
        "DELETE FROM room_words WHERE room_id = $1 AND NOT word = ANY ($2::text[])", room_id, list(words)
    )
    await conn.execute(
        """INSERT INTO room_words (room_id, word, by_user_id) SELECT $1, word, $3 FROM unnest($2::text[]) AS w (word)
           ON CONFLICT DO NOTHING""",
        room_id,
        list(words),
        by,
    )
    await audit.record(conn, Act(by, None), "room.words", "room", room_id, {"count": len(words)})
    return await of_room(conn, room_id)
