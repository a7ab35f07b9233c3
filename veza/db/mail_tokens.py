"""Secrets that travel by mail: to confirm an address, to set a forgotten password. Single use, kept as hashes only."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

import msgspec

from veza.db import sessions, users

Purpose = Literal["verify", "reset"]


class Addressee(msgspec.Struct, frozen=True):
    """Whom a mail is for."""

    user_id: int
    username: str
    email: str

    def __repr__(self) -> str:
        return f"<Addressee {self.user_id}>"


async def issue(
    conn: Any, token_hash: bytes, user_id: int, purpose: Purpose, seconds: float
) -> Addressee | None:
    """A new token for this person; those sent before for the same purpose stop working. None: no such account."""
    row = await conn.fetchrow(
        "SELECT id, username, email FROM users WHERE id = $1 AND is_active FOR NO KEY UPDATE", user_id
    )
    if row is None:
        return None
    await conn.execute("DELETE FROM mail_tokens WHERE user_id = $1 AND purpose = $2", user_id, purpose)
    await conn.execute(
        """INSERT INTO mail_tokens (token_hash, user_id, purpose, email, expires_at)
           VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))""",
        token_hash,
        user_id,
        purpose,
        row["email"],
        seconds,
    )
    return Addressee(*row)


async def issue_for_email(
    conn: Any, token_hash: bytes, email: str, purpose: Purpose, seconds: float
) -> Addressee | None:
    """The same for whoever has this address."""
    user_id = await conn.fetchval("SELECT id FROM users WHERE lower(email) = lower($1)", email)
    return None if user_id is None else await issue(conn, token_hash, user_id, purpose, seconds)


async def issue_unverified(conn: Any, token_hash: bytes, user_id: int, seconds: float) -> Addressee | None:
    """A `verify` token, unless this person's address is confirmed already."""
    waits = await conn.fetchval("SELECT NOT is_verified FROM users WHERE id = $1", user_id)
    return await issue(conn, token_hash, user_id, "verify", seconds) if waits else None


async def issue_unverified_for(conn: Any, token_hash: bytes, email: str, seconds: float) -> Addressee | None:
    """The same for whoever has this address."""
    user_id = await conn.fetchval("SELECT id FROM users WHERE lower(email) = lower($1)", email)
    return None if user_id is None else await issue_unverified(conn, token_hash, user_id, seconds)


async def holder(conn: Any, token_hash: bytes, purpose: Purpose) -> int | None:
    """Whose token this is, if `redeem` would take it now. Asked before costly work; `redeem` decides."""
    found: int | None = await conn.fetchval(
        """SELECT user_id FROM mail_tokens
           WHERE token_hash = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > now()""",
        token_hash,
        purpose,
    )
    return found


async def redeem(conn: Any, token_hash: bytes, purpose: Purpose) -> Addressee | None:
    """Use a token up. None if it is unknown, used, expired, or the account has another address by now."""
    row = await conn.fetchrow(
        """UPDATE mail_tokens AS t SET used_at = now() FROM users u
           WHERE t.token_hash = $1 AND t.purpose = $2 AND t.used_at IS NULL AND t.expires_at > now()
             AND u.id = t.user_id AND lower(u.email) = lower(t.email) AND u.is_active
           RETURNING u.id, u.username, u.email""",
        token_hash,
        purpose,
    )
    return Addressee(*row) if row else None


async def verify_address(conn: Any, token_hash: bytes) -> Addressee | None:
    """Redeem a `verify` token and mark its account."""
    addressee = await redeem(conn, token_hash, "verify")
    if addressee is not None:
        await users.mark_verified(conn, addressee.user_id, addressee.email)
    return addressee


async def reset_password(
    conn: Any, token_hash: bytes, password_hash: str
) -> tuple[Addressee, list[UUID]] | None:
    """Redeem a `reset` token: set the password, end every session. Whoever read the mail owns the address."""
    addressee = await redeem(conn, token_hash, "reset")
    if addressee is None:
        return None
    await conn.execute(
        "UPDATE users SET password_hash = $2, is_verified = true, updated_at = now() WHERE id = $1",
        addressee.user_id,
        password_hash,
    )
    await conn.execute("DELETE FROM mail_tokens WHERE user_id = $1 AND purpose = 'reset'", addressee.user_id)
    return addressee, await sessions.end_all(conn, addressee.user_id, "password reset")


async def purge(conn: Any) -> int:
    """Forget tokens that expired a week ago; how many."""
    done = await conn.execute("DELETE FROM mail_tokens WHERE expires_at < now() - interval '7 days'")
    return int(done.rpartition(" ")[2])
