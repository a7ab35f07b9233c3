"""People: their accounts, profiles and passwords' hashes.

Names and addresses are unique ignoring case; the two unique indexes say so, and a violation reaches the caller as a
`Conflict` naming one of the constraints below. Functions that return `User` carry the e-mail address and are for the
person himself or an admin; everybody else gets a `Profile`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from veza.db import search_words
from veza.db.like import literal

USERNAME_TAKEN: Final = "users_username_key"
EMAIL_TAKEN: Final = "users_email_key"

COUNTED: Final = 10_000  # lists count matches up to here and no further


class Profile(msgspec.Struct, frozen=True):
    """What everybody may see of a person."""

    id: int
    username: str
    first_name: str | None
    last_name: str | None
    bio: str | None
    avatar: str | None
    created_at: datetime


class User(msgspec.Struct, frozen=True):
    """What a person sees of himself."""

    id: int
    username: str
    email: str
    first_name: str | None
    last_name: str | None
    bio: str | None
    avatar: str | None
    role: str
    is_active: bool
    is_verified: bool
    last_login_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        return f"<User {self.id}>"


class Credentials(msgspec.Struct, frozen=True):
    """What a login is checked against. `barred`: disabled, or banned for now or for good. `banned_until` of who is
    banned; the far end of time means for good."""

    user_id: int
    password_hash: str
    barred: bool
    banned_until: datetime | None = None

    def __repr__(self) -> str:
        return f"<Credentials of {self.user_id}>"


class ProfileChange(msgspec.Struct, frozen=True):
    """New values for a profile; a field left out of `fields` stays as it is."""

    fields: frozenset[str]
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    bio: str | None = None
    avatar: str | None = None


class Found(msgspec.Struct, frozen=True):
    """One page of people; `total` is counted up to `COUNTED`."""

    profiles: list[Profile]
    total: int


USER_COLUMNS: Final = """u.id, u.username, u.email, u.first_name, u.last_name, u.bio, u.avatar, u.role, u.is_active,
    u.is_verified, u.last_login_at, u.created_at, u.updated_at"""
_PROFILE: Final = "u.id, u.username, u.first_name, u.last_name, u.bio, u.avatar, u.created_at"
# The far end of time: 'infinity' comes out of the driver as a time without a zone, which compares with nothing.
_FAR: Final = "'9999-12-31 00:00:00+00'::timestamptz"
MUTED_UNTIL: Final = f"CASE WHEN u.muted_until IS NOT NULL THEN least(u.muted_until, {_FAR}) END"
BANNED: Final = "coalesce(u.banned_until > now(), false)"
# Neither disabled (which deleted accounts are) nor banned: whom others see in lists and searches.
HERE: Final = "u.is_active AND (u.banned_until IS NULL OR u.banned_until <= now())"
_CREDENTIALS: Final = f"""u.id, u.password_hash, NOT u.is_active OR {BANNED},
    CASE WHEN u.is_active AND u.banned_until > now() THEN least(u.banned_until, {_FAR}) END"""
# The very expression of the index users_name_trgm.
_NAME: Final = "lower(u.username || ' ' || coalesce(u.first_name, '') || ' ' || coalesce(u.last_name, ''))"


async def taken(conn: Any, username: str, email: str) -> tuple[bool, bool]:
    """Whether the name and the address belong to somebody. Only a courtesy: the indexes decide."""
    row = await conn.fetchrow(
        """SELECT EXISTS (SELECT 1 FROM users WHERE lower(username) = lower($1)),
                  EXISTS (SELECT 1 FROM users WHERE lower(email) = lower($2))""",
        username,
        email,
    )
    return row[0], row[1]


async def create(
    conn: Any,
    username: str,
    email: str,
    password_hash: str,
    first_name: str | None = None,
    last_name: str | None = None,
    role: str = "user",
) -> User:
    """A new account. Raises Conflict with USERNAME_TAKEN or EMAIL_TAKEN as its constraint."""
    row = await conn.fetchrow(
        f"""INSERT INTO users AS u (username, email, password_hash, first_name, last_name, role)
            VALUES ($1, $2, $3, $4, $5, $6) RETURNING {USER_COLUMNS}""",
        username,
        email,
        password_hash,
        first_name,
        last_name,
        role,
    )
    return User(*row)


async def credentials_by_email(conn: Any, email: str) -> Credentials | None:
    row = await conn.fetchrow(f"SELECT {_CREDENTIALS} FROM users u WHERE lower(u.email) = lower($1)", email)
    return Credentials(*row) if row else None


async def credentials_by_username(conn: Any, username: str) -> Credentials | None:
    row = await conn.fetchrow(
        f"SELECT {_CREDENTIALS} FROM users u WHERE lower(u.username) = lower($1)", username
    )
    return Credentials(*row) if row else None


async def credentials_by_id(conn: Any, user_id: int) -> Credentials | None:
    row = await conn.fetchrow(f"SELECT {_CREDENTIALS} FROM users u WHERE u.id = $1", user_id)
    return Credentials(*row) if row else None


async def by_id(conn: Any, user_id: int) -> User | None:
    row = await conn.fetchrow(f"SELECT {USER_COLUMNS} FROM users u WHERE u.id = $1", user_id)
    return User(*row) if row else None


async def by_email(conn: Any, email: str) -> User | None:
    row = await conn.fetchrow(f"SELECT {USER_COLUMNS} FROM users u WHERE lower(u.email) = lower($1)", email)
    return User(*row) if row else None


async def by_username(conn: Any, username: str) -> User | None:
    row = await conn.fetchrow(
        f"SELECT {USER_COLUMNS} FROM users u WHERE lower(u.username) = lower($1)", username
    )
    return User(*row) if row else None


class Standing(msgspec.Struct, frozen=True):
    """What sockets and rooms know of a person."""

    user_id: int
    username: str
    role: str
    muted_until: datetime | None


async def standings(conn: Any, user_ids: Sequence[int]) -> list[Standing]:
    rows = await conn.fetch(
        f"SELECT u.id, u.username, u.role, {MUTED_UNTIL} FROM users u WHERE u.id = ANY ($1::bigint[])",
        list(user_ids),
    )
    return [Standing(*row) for row in rows]


async def profile(conn: Any, user_id: int) -> Profile | None:
    """Anybody's public side; disabled accounts have none."""
    row = await conn.fetchrow(f"SELECT {_PROFILE} FROM users u WHERE u.id = $1 AND u.is_active", user_id)
    return Profile(*row) if row else None


async def change_profile(conn: Any, user_id: int, change: ProfileChange) -> User | None:
    """Set the fields named in `change.fields`; None if there is no such account. Raises Conflict (USERNAME_TAKEN)."""
    given = change.fields
    row = await conn.fetchrow(
        f"""UPDATE users AS u SET
                username = CASE WHEN $2 THEN $3 ELSE u.username END,
                first_name = CASE WHEN $4 THEN $5 ELSE u.first_name END,
                last_name = CASE WHEN $6 THEN $7 ELSE u.last_name END,
                bio = CASE WHEN $8 THEN $9 ELSE u.bio END,
                avatar = CASE WHEN $10 THEN $11 ELSE u.avatar END,
                updated_at = now()
            WHERE u.id = $1 AND u.deleted_at IS NULL RETURNING {USER_COLUMNS}""",
        user_id,
        "username" in given,
        change.username,
        "first_name" in given,
        change.first_name,
        "last_name" in given,
        change.last_name,
        "bio" in given,
        change.bio,
        "avatar" in given,
        change.avatar,
    )
    return User(*row) if row else None


async def mark_verified(conn: Any, user_id: int, email: str) -> bool:
    """Remember that this address reached its owner; False if the account has another address by now."""
    row = await conn.fetchrow(
        """UPDATE users SET is_verified = true, updated_at = now()
           WHERE id = $1 AND lower(email) = lower($2) RETURNING id""",
        user_id,
        email,
    )
    return row is not None


async def search(conn: Any, text: str | None, without: int | None, limit: int, offset: int) -> Found:
    """People who are here, by name; those whose username begins with `text` come first.

    Parts of names match as they are spelt, beginnings of their words without accents. One or two characters match
    beginnings of usernames only, because trigrams need three. The caller bounds `limit + offset` by COUNTED, so that
    no request walks a big table.
    """
    where = f"{HERE} AND u.id IS DISTINCT FROM $1"
    order = "lower(u.username)"
    args: list[Any] = [without]
    ordering: list[Any] = []
    if text:
        pattern = literal(text.lower())
        if len(text) < 3:
            where += " AND lower(u.username) LIKE $2"
            args.append(f"{pattern}%")
        else:
            begun = (await search_words.read(conn, text)).begun
            where += f" AND ({_NAME} LIKE $2 OR u.names @@ $3::tsquery)"
            args += [f"%{pattern}%", begun or ""]
            order = "lower(u.username) LIKE $6 DESC, lower(u.username)"
            ordering.append(f"{pattern}%")
    total = await conn.fetchval(
        f"""SELECT count(*) FROM (SELECT FROM users u WHERE {where}
                                  {"" if text else "ORDER BY u.id"} LIMIT {COUNTED}) AS matches""",
        *args,
    )
    at = len(args) + 1
    rows = await conn.fetch(
        f"SELECT {_PROFILE} FROM users u WHERE {where} ORDER BY {order} LIMIT ${at} OFFSET ${at + 1}",
        *args,
        limit,
        offset,
        *ordering,
    )
    return Found([Profile(*row) for row in rows], total)
