"""Opening an account: person, first session and the token of the confirming mail, all or nothing."""

from __future__ import annotations

from typing import Any

import msgspec

from veza.db import mail_tokens, sessions, users


class NewAccount(msgspec.Struct, frozen=True):
    username: str
    email: str
    password_hash: str
    first_name: str | None
    last_name: str | None

    def __repr__(self) -> str:
        return "<NewAccount>"


async def register(
    conn: Any, account: NewAccount, opening: sessions.Opening, verify_hash: bytes, verify_seconds: float
) -> users.User:
    """Raises Conflict with users.USERNAME_TAKEN or users.EMAIL_TAKEN as its constraint."""
    user = await users.create(
        conn,
        account.username,
        account.email,
        account.password_hash,
        account.first_name,
        account.last_name,
    )
    await mail_tokens.issue(conn, verify_hash, user.id, "verify", verify_seconds)
    opened = await sessions.open_for(conn, user.id, account.password_hash, None, opening)
    assert opened is not None  # the row was made by this very transaction
    return opened
