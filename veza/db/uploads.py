"""Resumable uploads: what was announced, by whom, until when it is kept. How far one is, its file's length tells."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

_COLUMNS: Final = "id, user_id, length, metadata, track_id, created_at, expires_at"
_metadata = msgspec.json.Decoder(dict[str, str]).decode


class Upload(msgspec.Struct, frozen=True):
    """One upload; `track_id` once it has become a track. `metadata` is as it was announced."""

    id: UUID
    user_id: int
    length: int
    metadata: dict[str, str]
    track_id: int | None
    created_at: datetime
    expires_at: datetime

    def __repr__(self) -> str:
        return f"<Upload {self.id}>"


async def create_within(
    conn: Any,
    most: int,
    upload_id: UUID,
    user_id: int,
    length: int,
    metadata: dict[str, str],
    lifetime: float,
) -> Upload | None:
    """Announce an upload; None where this person has `most` unfinished ones. His row is held: they count in turn."""
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
    under_way = await conn.fetchval(
        "SELECT count(*) FROM uploads WHERE user_id = $1 AND track_id IS NULL AND expires_at > now()", user_id
    )
    if under_way >= most:
        return None
    row = await conn.fetchrow(
        f"""INSERT INTO uploads (id, user_id, length, metadata, expires_at)
            VALUES ($1, $2, $3, $4::jsonb, now() + make_interval(secs => $5)) RETURNING {_COLUMNS}""",
        upload_id,
        user_id,
        length,
        msgspec.json.encode(metadata).decode(),
        lifetime,
    )
    return _upload(row)


async def of_user(conn: Any, upload_id: UUID, user_id: int) -> Upload | None:
    """A person's upload; None if he has none of this id."""
    row = await conn.fetchrow(
        f"SELECT {_COLUMNS} FROM uploads WHERE id = $1 AND user_id = $2", upload_id, user_id
    )
    return _upload(row) if row else None


async def prolong(conn: Any, upload_id: UUID, lifetime: float) -> datetime | None:
    """Something arrived: it is kept for so many seconds from now. Until when; None if it is gone."""
    moment: datetime | None = await conn.fetchval(
        "UPDATE uploads SET expires_at = now() + make_interval(secs => $2) WHERE id = $1 RETURNING expires_at",
        upload_id,
        lifetime,
    )
    return moment


async def remove(conn: Any, upload_ids: Sequence[UUID]) -> None:
    await conn.execute("DELETE FROM uploads WHERE id = ANY ($1::uuid[])", list(upload_ids))


async def expired(conn: Any, most: int) -> list[UUID]:
    """Those whose time is over, the oldest first."""
    rows = await conn.fetch(
        "SELECT id FROM uploads WHERE expires_at <= now() ORDER BY expires_at LIMIT $1", most
    )
    return [row[0] for row in rows]


async def known(conn: Any, upload_ids: Sequence[UUID]) -> set[UUID]:
    """Which of these exist."""
    rows = await conn.fetch("SELECT id FROM uploads WHERE id = ANY ($1::uuid[])", list(upload_ids))
    return {row[0] for row in rows}


def _upload(row: Any) -> Upload:
    values = list(row)
    values[3] = _metadata(values[3])
    return Upload(*values)
