"""Making administrators without anybody's leave: for the command line, whose user owns the machine.

The only writes of roles that ask nobody's role. Each is noted in the audit log, with no actor.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Appointed(msgspec.Struct, frozen=True):
    """Who has the role now; `before` is None for an account made by this."""

    user_id: int
    username: str
    before: str | None


async def promote(conn: Any, username: str, role: str) -> Appointed | None:
    """Give an existing account the role; None where nobody has that name. Lifts a ban and a disabled account."""
    row = await conn.fetchrow(
        """UPDATE users AS u SET role = $2, is_active = true, banned_until = NULL, updated_at = now()
           FROM (SELECT id, role FROM users
                 WHERE lower(username) = lower($1) AND deleted_at IS NULL FOR UPDATE) AS old
           WHERE u.id = old.id RETURNING u.id, u.username, old.role""",
        username,
        role,
    )
    if row is None:
        return None
    await _note(conn, row[0], row[2], role)
    return Appointed(*row)


async def appoint(conn: Any, username: str, email: str, password_hash: str, role: str) -> Appointed:
    """A new account with the role. Raises Conflict where its name or address is taken."""
    user_id = await conn.fetchval(
        """INSERT INTO users (username, email, password_hash, role, is_verified)
           VALUES ($1, $2, $3, $4, true) RETURNING id""",
        username,
        email,
        password_hash,
        role,
    )
    await _note(conn, user_id, None, role)
    return Appointed(user_id, username, None)


async def _note(conn: Any, user_id: int, before: str | None, role: str) -> None:
    await conn.execute(
        """INSERT INTO audit_log (actor_id, action, target_type, target_id, details)
           VALUES (NULL, 'appointed on the command line', 'user', $1, $2::jsonb)""",
        user_id,
        msgspec.json.encode({"before": before, "role": role}).decode(),
    )
