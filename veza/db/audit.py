"""The audit log: who did what to whom. Entries are written in the transaction of what they tell of, and never again.

A trigger refuses every change but an insert. `details` holds names and values of settings, no message, token or e-mail.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Act(msgspec.Struct, frozen=True):
    """Who acts, and from which address."""

    actor_id: int
    ip: str | None


class Entry(msgspec.Struct, frozen=True):
    """`actor_id` None: done on the command line. Usernames are those of today; None for who is gone."""

    id: int
    actor_id: int | None
    actor: str | None
    action: str
    target_type: str | None
    target_id: int | None
    target: str | None
    details: dict[str, Any]
    ip: str | None
    created_at: datetime


class Wanted(msgspec.Struct, frozen=True):
    """Which entries; None means any."""

    actor_id: int | None = None
    action: str | None = None
    target_type: str | None = None
    target_id: int | None = None


_details = msgspec.json.Decoder(dict[str, Any]).decode


async def record(
    conn: Any, act: Act, action: str, target_type: str | None, target_id: int | None, details: dict[str, Any]
) -> int:
    """Write an entry; its id. What is None in `details` is left out."""
    entry = await conn.fetchval(
        "INSERT INTO audit_log (actor_id, action, target_type, target_id, details, ip)"
        " VALUES ($1, $2, $3, $4, $5::jsonb, $6) RETURNING id",
        act.actor_id,
        action,
        target_type,
        target_id,
        msgspec.json.encode({name: value for name, value in details.items() if value is not None}).decode(),
        act.ip,
    )
    return int(entry)


async def entries(conn: Any, wanted: Wanted, before: int | None, limit: int) -> list[Entry]:
    """The newest entries before the id `before`."""
    rows = await conn.fetch(
        """SELECT a.id, a.actor_id, who.username, a.action, a.target_type, a.target_id, whom.username, a.details,
                  a.ip, a.created_at
           FROM audit_log a
           LEFT JOIN users who ON who.id = a.actor_id
           LEFT JOIN users whom ON a.target_type = 'user' AND whom.id = a.target_id
           WHERE ($1::bigint IS NULL OR a.actor_id = $1) AND ($2::text IS NULL OR a.action = $2)
             AND ($3::text IS NULL OR a.target_type = $3) AND ($4::bigint IS NULL OR a.target_id = $4)
             AND ($5::bigint IS NULL OR a.id < $5)
           ORDER BY a.id DESC LIMIT $6""",
        wanted.actor_id,
        wanted.action,
        wanted.target_type,
        wanted.target_id,
        before,
        limit,
    )
    return [_entry(row) for row in rows]


def _entry(row: Any) -> Entry:
    values = list(row)
    values[7] = _details(values[7])
    return Entry(*values)
