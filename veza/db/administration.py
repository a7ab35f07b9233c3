"""What administrators see and do: accounts with all that concerns them, bans, reports, real counts.

Each act locks the accounts it is about (the actor's too, in id order), lets `check` look at both roles as they are in
this transaction, and writes the audit log before it commits.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from veza.db import audit, sessions
from veza.db.audit import Act
from veza.db.users import COUNTED


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


class Report(msgspec.Struct, frozen=True):
    """A complaint about a message, with what the message says now."""

    id: int
    status: str
    reason: str
    created_at: datetime
    reporter_id: int | None
    reporter: str | None
    message_id: int | None
    room_id: int | None
    room: str | None
    author_id: int | None
    author: str | None
    content: str | None
    message_created_at: datetime | None
    deleted: bool
    handled_by: int | None
    handled_at: datetime | None

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Report {self.id}>"


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


# (the actor's role, the target's role as they are now); raises what forbids the act.
Check = Callable[[str, str], None]

_BANNED: Final = "coalesce(u.banned_until > now(), false)"
_ACCOUNT: Final = f"""u.id, u.username, u.email, u.first_name, u.last_name, u.role, u.is_active, u.is_verified,
    {_BANNED}, CASE WHEN {_BANNED} AND isfinite(u.banned_until) THEN u.banned_until END,
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
            escaped = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
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


async def _hold(conn: Any, act: Act, target_id: int, check: Check) -> Account | None:
    """The target, its row and the actor's locked, if `check` lets the actor."""
    rows = await conn.fetch(
        f"""SELECT u.id, CASE WHEN u.is_active AND NOT {_BANNED} THEN u.role ELSE '' END AS powers, u.role
            FROM users u WHERE u.id = ANY ($1::bigint[]) ORDER BY u.id FOR NO KEY UPDATE""",
        [act.actor_id, target_id],
    )
    found = {row["id"]: row for row in rows}
    if target_id not in found:
        return None
    check(found[act.actor_id]["powers"] if act.actor_id in found else "", found[target_id]["role"])
    return await account(conn, target_id)


async def change_account(
    conn: Any, act: Act, target_id: int, role: str | None, is_active: bool | None, check: Check
) -> Acted | None:
    """Give a role, switch an account on or off (off ends its sessions). None: there is no such account."""
    before = await _hold(conn, act, target_id, check)
    if before is None:
        return None
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


async def ban(
    conn: Any, act: Act, target_id: int, until: datetime | None, reason: str | None, check: Check
) -> Acted | None:
    """Shut somebody out, until a time or for good; ends his sessions. None: there is no such account."""
    if await _hold(conn, act, target_id, check) is None:
        return None
    await conn.execute(
        "UPDATE users SET banned_until = coalesce($2, 'infinity'::timestamptz), updated_at = now() WHERE id = $1",
        target_id,
        until,
    )
    ended = await sessions.end_all(conn, target_id, "banned")
    details = {"until": until, "reason": reason}
    await audit.record(conn, act, "user.ban", "user", target_id, details)
    return await _acted(conn, target_id, ended)


async def unban(conn: Any, act: Act, target_id: int, check: Check) -> Acted | None:
    """Let somebody in again. None: there is no such account."""
    before = await _hold(conn, act, target_id, check)
    if before is None or not before.is_banned:
        return None if before is None else Acted(before, [], False)
    await conn.execute("UPDATE users SET banned_until = NULL, updated_at = now() WHERE id = $1", target_id)
    await audit.record(conn, act, "user.unban", "user", target_id, {})
    return await _acted(conn, target_id, [])


async def _acted(conn: Any, target_id: int, ended: list[UUID]) -> Acted:
    after = await account(conn, target_id)
    assert after is not None  # its row is locked by this transaction
    return Acted(after, ended, True)


# Reports ----------------------------------------------------------------------------------------------

_REPORT: Final = """
    SELECT p.id, p.status, p.reason, p.created_at, p.reporter_id, who.username, p.message_id, m.room_id,
           coalesce(r.name, r.kind), m.user_id, author.username, m.content, m.created_at, m.deleted_at IS NOT NULL,
           p.handled_by, p.handled_at
    FROM reports p
    LEFT JOIN users who ON who.id = p.reporter_id
    LEFT JOIN messages m ON m.id = p.message_id
    LEFT JOIN rooms r ON r.id = m.room_id
    LEFT JOIN users author ON author.id = m.user_id
"""


async def reports(conn: Any, status: str | None, before: int | None, limit: int) -> list[Report]:
    """The newest reports before the id `before`."""
    rows = await conn.fetch(
        f"""{_REPORT} WHERE ($1::text IS NULL OR p.status = $1) AND ($2::bigint IS NULL OR p.id < $2)
            ORDER BY p.id DESC LIMIT $3""",
        status,
        before,
        limit,
    )
    return [Report(*row) for row in rows]


async def handle_report(conn: Any, act: Act, report_id: int, status: str, note: str | None) -> Report | None:
    """Close a report, or open it again. None: there is no such report."""
    before = await conn.fetchval("SELECT status FROM reports WHERE id = $1 FOR UPDATE", report_id)
    if before is None:
        return None
    await conn.execute(
        """UPDATE reports SET status = $2, handled_by = CASE WHEN $2 = 'open' THEN NULL ELSE $3::bigint END,
                  handled_at = CASE WHEN $2 = 'open' THEN NULL ELSE now() END WHERE id = $1""",
        report_id,
        status,
        act.actor_id,
    )
    details = {"before": before, "after": status, "note": note}
    await audit.record(conn, act, "report.handle", "report", report_id, details)
    return Report(*await conn.fetchrow(f"{_REPORT} WHERE p.id = $1", report_id))


# Counts -----------------------------------------------------------------------------------------------


async def counts(conn: Any) -> Counts:
    """Counted, not estimated, but for messages: a room's last number is how many it has."""
    row = await conn.fetchrow(
        f"""WITH kinds AS (SELECT kind, count(*) AS n, sum(last_seq) AS messages FROM rooms GROUP BY kind),
                 people AS (SELECT count(*) AS n, count(*) FILTER (WHERE u.is_active AND NOT {_BANNED}) AS active,
                                   count(*) FILTER (WHERE {_BANNED}) AS banned FROM users u)
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
