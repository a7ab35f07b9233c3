"""What administrators see and do: accounts with all that concerns them, real counts.

Each act locks the accounts it is about, lets `check` look at both roles as they are in this transaction, and writes the
audit log before it commits. Bans are in `sanctions`, reports in `reports`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from veza.db import audit, sessions
from veza.db.audit import Act
from veza.db.like import literal
from veza.db.powers import Check, hold
from veza.db.users import BANNED, COUNTED


class Account(msgspec.Struct, frozen=True):
    """An account as administrators see it. `banned_until` None while `is_banned` means for good."""

    id: int
    username: str
    email: str
    first_name: str | None
    last_name: str | None
    role: str
    is_active: bool
    is_verified: bool
    is_banned: bool
    banned_until: datetime | None
    last_login_at: datetime | None
    last_seen_at: datetime | None
    created_at: datetime

    def __repr__(self) -> str:
        return f"<Account {self.id}>"


class Accounts(msgspec.Struct, frozen=True):
    """`total` is counted up to COUNTED."""

    accounts: list[Account]
    total: int
    more: bool


class AccountFilter(msgspec.Struct, frozen=True):
    """`text` is looked for in names; with an `@` it is the whole e-mail address."""

    text: str | None = None
    role: str | None = None
    is_active: bool | None = None


class Acted(msgspec.Struct, frozen=True):
    """The account after an act, the sessions that ended with it, and whether anything changed."""

    account: Account
    ended: list[UUID]
    changed: bool


class Counts(msgspec.Struct, frozen=True):
    users: int
    users_active: int
    users_banned: int
    sessions_active: int
    rooms_public: int
    rooms_private: int
    rooms_direct: int
    messages: int
    reports_open: int
    database_bytes: int


_ACCOUNT: Final = f"""u.id, u.username, u.email, u.first_name, u.last_name, u.role, u.is_active, u.is_verified,
    {BANNED}, CASE WHEN {BANNED} AND isfinite(u.banned_until) THEN u.banned_until END,
    u.last_login_at, u.last_seen_at, u.created_at"""
# The very expression of the index users_name_trgm.
_NAME: Final = "lower(u.username || ' ' || coalesce(u.first_name, '') || ' ' || coalesce(u.last_name, ''))"


async def accounts(conn: Any, wanted: AccountFilter, after: int, limit: int, offset: int) -> Accounts:
    """Accounts by id, from after `after`."""
    where, args = ["true"], list[Any]()
    if wanted.text:
        if "@" in wanted.text:
            args.append(wanted.text)
            where.append(f"lower(u.email) = lower(${len(args)})")
        else:
            escaped = literal(wanted.text)
            args.append(f"{escaped}%" if len(wanted.text) < 3 else f"%{escaped}%")
            where.append(f"{_NAME} LIKE lower(${len(args)})")
    if wanted.role is not None:
        args.append(wanted.role)
        where.append(f"u.role = ${len(args)}")
    if wanted.is_active is not None:
        args.append(wanted.is_active)
        where.append(f"u.is_active = ${len(args)}")
    condition, at = " AND ".join(where), len(args)
    total = await conn.fetchval(
        f"SELECT count(*) FROM (SELECT FROM users u WHERE {condition} LIMIT {COUNTED}) AS matches", *args
    )
    rows = await conn.fetch(
        f"SELECT {_ACCOUNT} FROM users u WHERE {condition} AND u.id > ${at + 1}"
        f" ORDER BY u.id LIMIT ${at + 2} OFFSET ${at + 3}",
        *args,
        after,
        limit + 1,
        offset,
    )
    return Accounts([Account(*row) for row in rows[:limit]], total, len(rows) > limit)


async def account(conn: Any, user_id: int) -> Account | None:
    row = await conn.fetchrow(f"SELECT {_ACCOUNT} FROM users u WHERE u.id = $1", user_id)
    return None if row is None else Account(*row)


async def change_account(
    conn: Any, act: Act, target_id: int, role: str | None, is_active: bool | None, check: Check
) -> Acted | None:
    """Give a role, switch an account on or off (off ends its sessions). None: there is no such account."""
    if not await hold(conn, act.actor_id, target_id, check):
        return None
    before = await account(conn, target_id)
    assert before is not None  # its row is locked by this transaction
    details: dict[str, Any] = {}
    if role is not None and role != before.role:
        details["role"] = {"before": before.role, "after": role}
    if is_active is not None and is_active != before.is_active:
        details["is_active"] = {"before": before.is_active, "after": is_active}
    if not details:
        return Acted(before, [], False)
    await conn.execute(
        "UPDATE users SET role = coalesce($2, role), is_active = coalesce($3, is_active), updated_at = now()"
        " WHERE id = $1",
        target_id,
        role,
        is_active,
    )
    ended = [] if is_active is not False else await sessions.end_all(conn, target_id, "account disabled")
    await audit.record(conn, act, "user.change", "user", target_id, details)
    return await _acted(conn, target_id, ended)


async def _acted(conn: Any, target_id: int, ended: list[UUID]) -> Acted:
    after = await account(conn, target_id)
    assert after is not None  # its row is locked by this transaction
    return Acted(after, ended, True)


# Counts -----------------------------------------------------------------------------------------------


async def counts(conn: Any) -> Counts:
    """Counted, not estimated, but for messages: a room's last number is how many it has."""
    row = await conn.fetchrow(
        f"""WITH kinds AS (SELECT kind, count(*) AS n, sum(last_seq) AS messages FROM rooms GROUP BY kind),
                 people AS (SELECT count(*) AS n, count(*) FILTER (WHERE u.is_active AND NOT {BANNED}) AS active,
                                   count(*) FILTER (WHERE {BANNED}) AS banned FROM users u)
            SELECT people.n, people.active, people.banned,
                   (SELECT count(*) FROM sessions s WHERE s.revoked_at IS NULL AND s.expires_at > now()),
                   coalesce((SELECT n FROM kinds WHERE kind = 'public'), 0),
                   coalesce((SELECT n FROM kinds WHERE kind = 'private'), 0),
                   coalesce((SELECT n FROM kinds WHERE kind = 'direct'), 0),
                   coalesce((SELECT sum(messages)::bigint FROM kinds), 0),
                   (SELECT count(*) FROM reports WHERE status = 'open'),
                   pg_database_size(current_database())
            FROM people"""
    )
    return Counts(*row)
