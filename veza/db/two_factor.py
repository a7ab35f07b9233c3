"""Second factors: the sealed secret, the last code that was taken, recovery codes.

A code is good once. That is decided by the very UPDATE that takes it, so of two logins with one code at the same moment
one gets in. Whoever changes a factor holds the person's row first, as a login does: a session opened by a password
alone never slips in behind a factor that was just enabled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from veza.db import sessions
from veza.db.audit import Act, record
from veza.db.users import User


class Factor(msgspec.Struct, frozen=True):
    """A person's second factor; not `enabled` yet where he has not shown a code."""

    secret: bytes
    enabled: bool

    def __repr__(self) -> str:
        return f"<Factor enabled={self.enabled}>"


class Proof(msgspec.Struct, frozen=True):
    """What shall be taken as the second factor: a code's time step, or a recovery code's hash."""

    step: int | None = None
    recovery: bytes | None = None

    def __repr__(self) -> str:
        return "<Proof>"


class Status(msgspec.Struct, frozen=True):
    enabled: bool
    recovery_codes_left: int


class NotProven(Exception):
    """The factor is missing, or its code was used already; the transaction is to be rolled back."""


async def of(conn: Any, user_id: int) -> Factor | None:
    row = await conn.fetchrow(
        "SELECT secret, enabled_at IS NOT NULL FROM two_factor WHERE user_id = $1", user_id
    )
    return Factor(bytes(row[0]), row[1]) if row else None


async def status(conn: Any, user_id: int) -> Status:
    row = await conn.fetchrow(
        """SELECT EXISTS (SELECT FROM two_factor WHERE user_id = $1 AND enabled_at IS NOT NULL),
                  (SELECT count(*) FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL)""",
        user_id,
    )
    return Status(row[0], row[1])


async def begin(conn: Any, user_id: int, secret: bytes) -> bool:
    """Keep a secret that is not in force yet, instead of an earlier one that is not; False where one is in force."""
    done = await conn.execute(
        """INSERT INTO two_factor (user_id, secret) VALUES ($1, $2)
           ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = now(), last_step = 0
               WHERE two_factor.enabled_at IS NULL""",
        user_id,
        secret,
    )
    return not str(done).endswith(" 0")


async def enable(
    conn: Any, user_id: int, secret: bytes, step: int, hashes: Sequence[bytes], keep: UUID, ip: str | None
) -> list[UUID] | None:
    """From now on a code is asked for. Ends all other sessions; their ids. None: `secret` is not what waits (any more),
    or is in force already."""
    await _hold(conn, user_id)
    done = await conn.execute(
        """UPDATE two_factor SET enabled_at = now(), last_step = $3
           WHERE user_id = $1 AND enabled_at IS NULL AND secret = $2""",
        user_id,
        secret,
        step,
    )
    if str(done).endswith(" 0"):
        return None
    await _put_codes(conn, user_id, hashes)
    await record(conn, Act(user_id, ip), "two_factor.enable", "user", user_id, {})
    return await sessions.end_all(conn, user_id, "second factor enabled", keep)


async def open_session(
    conn: Any,
    user_id: int,
    verified_hash: str,
    new_hash: str | None,
    opening: sessions.Opening,
    proof: Proof | None,
) -> User | None:
    """`sessions.open_for`, if the second factor is proven, or there is none.

    Raises:
        NotProven: there is one, and `proof` is missing or used up; nothing is stored.
    """
    user = await sessions.open_for(conn, user_id, verified_hash, new_hash, opening)
    if user is None:
        return None
    # Read after the row is held: a factor that was enabled before counts.
    found = await of(conn, user_id)
    if found is not None and found.enabled:
        await take(conn, user_id, proof)
    return user


async def take(conn: Any, user_id: int, proof: Proof | None) -> None:
    """Use a code up. Raises NotProven: it was used already, or there is none."""
    done = "UPDATE 0"
    if proof is not None and proof.step is not None:
        done = await conn.execute(
            """UPDATE two_factor SET last_step = $2
               WHERE user_id = $1 AND enabled_at IS NOT NULL AND last_step < $2""",
            user_id,
            proof.step,
        )
    elif proof is not None and proof.recovery is not None:
        done = await conn.execute(
            "UPDATE recovery_codes SET used_at = now() WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL",
            user_id,
            proof.recovery,
        )
    if str(done).endswith(" 0"):
        raise NotProven


async def disable(conn: Any, user_id: int, proof: Proof, ip: str | None) -> None:
    """No code is asked for any more. Raises NotProven."""
    await _hold(conn, user_id)
    await take(conn, user_id, proof)
    await remove(conn, user_id)
    await record(conn, Act(user_id, ip), "two_factor.disable", "user", user_id, {})


async def renew_codes(conn: Any, user_id: int, proof: Proof, hashes: Sequence[bytes], ip: str | None) -> None:
    """Other recovery codes instead of those there are. Raises NotProven."""
    await _hold(conn, user_id)
    await take(conn, user_id, proof)
    await _put_codes(conn, user_id, hashes)
    await record(conn, Act(user_id, ip), "two_factor.codes", "user", user_id, {})


async def remove(conn: Any, user_id: int) -> bool:
    """The factor and its recovery codes go; False where there was none in force."""
    await conn.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
    row = await conn.fetchrow(
        "DELETE FROM two_factor WHERE user_id = $1 RETURNING enabled_at IS NOT NULL", user_id
    )
    return bool(row and row[0])


async def reset(conn: Any, username: str) -> tuple[int, bool] | None:
    """For the command line, where a phone was lost: his id, and whether there was a factor in force. None: nobody has
    that name."""
    user_id = await conn.fetchval(
        "SELECT id FROM users WHERE lower(username) = lower($1) FOR NO KEY UPDATE", username
    )
    if user_id is None:
        return None
    was = await remove(conn, user_id)
    if was:
        await conn.execute(
            """INSERT INTO audit_log (actor_id, action, target_type, target_id)
               VALUES (NULL, 'two_factor.reset', 'user', $1)""",
            user_id,
        )
    return user_id, was


async def _put_codes(conn: Any, user_id: int, hashes: Sequence[bytes]) -> None:
    await conn.execute("DELETE FROM recovery_codes WHERE user_id = $1", user_id)
    await conn.execute(
        "INSERT INTO recovery_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])",
        user_id,
        list(hashes),
    )


async def _hold(conn: Any, user_id: int) -> None:
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
