"""Which avatar a person has: an address, kept with the account."""

from __future__ import annotations

from typing import Any

import msgspec


class Face(msgspec.Struct, frozen=True):
    """What there is to show of a person: `avatar` is an address, ours or another's."""

    avatar: str | None
    username: str
    first_name: str | None
    last_name: str | None


async def face(conn: Any, user_id: int) -> Face | None:
    """None: there is no such person, or the account is disabled."""
    row = await conn.fetchrow(
        "SELECT avatar, username, first_name, last_name FROM users WHERE id = $1 AND is_active", user_id
    )
    return None if row is None else Face(*row)


async def put(conn: Any, user_id: int, avatar: str | None) -> bool:
    """Give a person another avatar, or none. False where the account is gone."""
    done = await conn.execute(
        "UPDATE users SET avatar = $2, updated_at = now() WHERE id = $1 AND deleted_at IS NULL",
        user_id,
        avatar,
    )
    return not str(done).endswith(" 0")
