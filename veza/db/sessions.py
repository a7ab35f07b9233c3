"""Sessions (one per login) and the refresh tokens that keep them going.

Every function that ends or renews a session first locks its row (or the user's), so that any number of them at the
same moment come out as if they had come one after the other. Tokens are known here by their hashes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from veza.db.users import BANNED, MUTED_UNTIL, USER_COLUMNS, User


class Holder(msgspec.Struct, frozen=True):
    """Whose session it is, as the database knows it now."""

    sid: UUID
    user_id: int
    username: str
    role: str
    expires_at: datetime
    muted_until: datetime | None = None


class Session(msgspec.Struct, frozen=True):
    """One of a person's logins, as he sees it."""

    id: UUID
    user_agent: str | None
    ip: str | None
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class Opening(msgspec.Struct, frozen=True):
    """A session about to be made, and its first refresh token. `seconds` is how long both live."""

    sid: UUID
    refresh_hash: bytes
    seconds: float
    user_agent: str | None
    ip: str | None


class Rotation(msgspec.Struct, frozen=True):
    """What came of a refresh token.

    `renewed`: the new one is in place and `user` is its holder. `refused`: it is not good (any more), nothing changed.
    `reused`: it had been replaced long ago, so somebody else may hold the family: the session was ended.
    """

    outcome: Literal["renewed", "refused", "reused"]
    sid: UUID | None = None
    user: User | None = None
    user_id: int | None = None


_LIVE: Final = "s.revoked_at IS NULL AND s.expires_at > now()"
_ACTIVE: Final = f"u.is_active AND NOT {BANNED}"

_INSERT: Final = """
    session AS (
        INSERT INTO sessions (id, user_id, user_agent, ip, expires_at)
        SELECT $2, u.id, $3, $4, now() + make_interval(secs => $5) FROM person u
        RETURNING id, expires_at
    ), refresh AS (
        INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
        SELECT $6, session.id, session.expires_at FROM session
    )"""


async def holders(conn: Any, sids: Sequence[UUID]) -> list[Holder]:
    """Who holds these sessions; ended and expired ones and those of disabled or banned people are left out."""
    rows = await conn.fetch(
        f"""SELECT s.id, u.id, u.username, u.role, s.expires_at, {MUTED_UNTIL}
            FROM sessions s JOIN users u ON u.id = s.user_id
            WHERE s.id = ANY ($1::uuid[]) AND {_LIVE} AND {_ACTIVE}""",
        sids,
    )
    return [Holder(*row) for row in rows]


async def open_for(
    conn: Any, user_id: int, verified_hash: str, new_hash: str | None, opening: Opening
) -> User | None:
    """A session for somebody whose password was just found right; None if meanwhile it changed or he was barred.

    `verified_hash` is what the password was compared with: if it is not the stored one any more, a password change
    has ended all sessions since, and this one must not slip in behind it. `new_hash` replaces it (stronger costs).
    """
    row = await conn.fetchrow(
        f"""WITH person AS (
                UPDATE users AS u SET last_login_at = now(), password_hash = coalesce($8, u.password_hash)
                WHERE u.id = $1 AND u.password_hash = $7 AND {_ACTIVE}
                RETURNING {USER_COLUMNS}
            ), {_INSERT} SELECT * FROM person""",
        user_id,
        opening.sid,
        opening.user_agent,
        opening.ip,
        opening.seconds,
        opening.refresh_hash,
        verified_hash,
        new_hash,
    )
    return User(*row) if row else None


async def rotate(conn: Any, token_hash: bytes, new_hash: bytes, seconds: float, grace: float) -> Rotation:
    """Exchange a refresh token for a new one. Run it in a transaction: it locks the session first.

    The token replaced last stays good for `grace` seconds, because two tabs may refresh at the same moment and answers
    get lost: then it is granted again, as long as its successor was not used, and that successor is dropped. A token
    that comes back later than that was copied, and the whole session ends.
    """
    session = await conn.fetchrow(
        f"""SELECT s.id, s.user_id, {_LIVE} FROM sessions s
            WHERE s.id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $1) FOR UPDATE""",
        token_hash,
    )
    if session is None:
        return Rotation("refused")
    sid, user_id, live = session
    # Read after the lock is held: what others did to the family is seen.
    token = await conn.fetchrow(
        """SELECT t.expires_at > now() AS fresh, t.used_at IS NOT NULL AS used, t.revoked_at IS NOT NULL AS revoked,
                  coalesce(t.revoked_at, t.used_at) > now() - make_interval(secs => $2) AS recent,
                  t.successor_hash, n.used_at IS NOT NULL AS successor_used
           FROM refresh_tokens t LEFT JOIN refresh_tokens n ON n.token_hash = t.successor_hash
           WHERE t.token_hash = $1""",
        token_hash,
        grace,
    )
    user = await conn.fetchrow(f"SELECT {USER_COLUMNS} FROM users u WHERE u.id = $1 AND {_ACTIVE}", user_id)
    if token is None or not live or not token["fresh"] or user is None:
        return Rotation("refused")
    if token["used"] or token["revoked"]:
        if not token["recent"]:
            await conn.execute(
                "UPDATE sessions SET revoked_at = now(), revoked_reason = 'refresh token reused' WHERE id = $1",
                sid,
            )
            return Rotation("reused", sid, user_id=user_id)
        if token["revoked"] or token["successor_used"]:
            return Rotation("refused")
        await conn.execute(
            "UPDATE refresh_tokens SET revoked_at = now() WHERE token_hash = $1", token["successor_hash"]
        )
    await conn.execute(
        # used_at keeps its first value: the grace runs from the first use.
        """UPDATE refresh_tokens SET used_at = coalesce(used_at, now()), successor_hash = $2 WHERE token_hash = $1""",
        token_hash,
        new_hash,
    )
    await conn.execute(
        """WITH session AS (
               UPDATE sessions SET last_used_at = now(), expires_at = now() + make_interval(secs => $3)
               WHERE id = $1 RETURNING id, expires_at
           ) INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
             SELECT $2, id, expires_at FROM session""",
        sid,
        new_hash,
        seconds,
    )
    return Rotation("renewed", sid, User(*user), user_id)


async def of_user(conn: Any, user_id: int) -> list[Session]:
    """A person's live sessions, the latest first."""
    rows = await conn.fetch(
        f"""SELECT s.id, s.user_agent, s.ip, s.created_at, s.last_used_at, s.expires_at FROM sessions s
            WHERE s.user_id = $1 AND {_LIVE} ORDER BY s.created_at DESC, s.id LIMIT 100""",
        user_id,
    )
    return [Session(*row) for row in rows]


async def end(conn: Any, sid: UUID, user_id: int, reason: str) -> bool:
    """End one session of this person; False if he has no such live one."""
    row = await conn.fetchrow(
        f"""UPDATE sessions AS s SET revoked_at = now(), revoked_reason = $3
            WHERE s.id = $1 AND s.user_id = $2 AND {_LIVE} RETURNING s.id""",
        sid,
        user_id,
        reason,
    )
    return row is not None


async def end_by_refresh(conn: Any, token_hash: bytes, reason: str) -> tuple[UUID, int] | None:
    """End the session a refresh token belongs to; its id and person, None if there is no such live one."""
    row = await conn.fetchrow(
        f"""UPDATE sessions AS s SET revoked_at = now(), revoked_reason = $2
            WHERE s.id = (SELECT session_id FROM refresh_tokens WHERE token_hash = $1) AND {_LIVE}
            RETURNING s.id, s.user_id""",
        token_hash,
        reason,
    )
    return (row[0], row[1]) if row else None


async def end_all(conn: Any, user_id: int, reason: str, keep: UUID | None = None) -> list[UUID]:
    """End all of a person's sessions but `keep`; the ids of those that were ended."""
    rows = await conn.fetch(
        f"""UPDATE sessions AS s SET revoked_at = now(), revoked_reason = $2
            WHERE s.user_id = $1 AND s.id IS DISTINCT FROM $3 AND {_LIVE} RETURNING s.id""",
        user_id,
        reason,
        keep,
    )
    return [row[0] for row in rows]


async def change_password(
    conn: Any, user_id: int, verified_hash: str, new_hash: str, keep: UUID | None
) -> list[UUID] | None:
    """Set a new password, end all other sessions, and let no mail sent before set another; None if the old one was
    changed meanwhile."""
    row = await conn.fetchrow(
        """UPDATE users SET password_hash = $3, updated_at = now() WHERE id = $1 AND password_hash = $2
           RETURNING id""",
        user_id,
        verified_hash,
        new_hash,
    )
    if row is None:
        return None
    await conn.execute("DELETE FROM mail_tokens WHERE user_id = $1 AND purpose = 'reset'", user_id)
    return await end_all(conn, user_id, "password changed", keep)


async def purge(conn: Any) -> int:
    """Forget what nobody can use any more: expired tokens, and sessions that expired a month ago; how many rows.

    At most 10,000 of each; call again while it returns something. A token is only recognised as stolen while it would
    otherwise be good, so expired ones tell nothing.
    """
    tokens = await conn.execute(
        """DELETE FROM refresh_tokens WHERE token_hash IN (
               SELECT token_hash FROM refresh_tokens WHERE expires_at < now() ORDER BY expires_at LIMIT 10000)"""
    )
    ended = await conn.execute(
        """DELETE FROM sessions WHERE id IN (
               SELECT id FROM sessions WHERE expires_at < now() - interval '30 days' ORDER BY expires_at LIMIT 10000)"""
    )
    return sum(int(done.rpartition(" ")[2]) for done in (tokens, ended))
