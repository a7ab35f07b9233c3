"""Sanctions on the whole platform: warnings, mutes, bans; each with an end, or until it is lifted.

What was ever imposed on somebody stands in `sanctions`; what holds now in his account, and ends by itself: whoever asks
compares with the time. Imposing and lifting lock the accounts, let `check` look at both roles, write the audit log and
what the person is to be told, all in one transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import msgspec

from veza.db import audit, outbox, sessions
from veza.db.audit import Act
from veza.db.powers import Check, hold, moderation
from veza.db.users import BANNED

Kind = Literal["warning", "mute", "ban"]
_LISTED: Final = 100  # of a person's sanctions, reports and rooms


class Subject(msgspec.Struct, frozen=True):
    """An account as moderators see it: no address. An end is null where there is none, or nothing to end."""

    id: int
    username: str
    avatar: str | None
    role: str
    is_active: bool
    is_banned: bool
    banned_until: datetime | None
    is_muted: bool
    muted_until: datetime | None
    created_at: datetime


class Sanction(msgspec.Struct, frozen=True):
    """What was imposed. `until` null: until it is lifted; of a warning always. Lifted is also what another one of its
    kind replaced."""

    id: int
    user_id: int
    kind: str
    until: datetime | None
    reason: str | None
    report_id: int | None
    by_user_id: int | None
    by: str | None
    created_at: datetime
    lifted_at: datetime | None
    lifted_by: int | None
    in_force: bool


class Imposed(msgspec.Struct, frozen=True):
    """The account after the act, and the sessions that ended with it."""

    user: Subject
    sanction: Sanction
    ended: list[UUID]


class RoomSanction(msgspec.Struct, frozen=True):
    """A mute or ban of one room. Private rooms have no name here: who moderates the platform is no member."""

    room_id: int
    room: str | None
    kind: str
    until: datetime | None
    reason: str | None
    by_user_id: int | None
    created_at: datetime


class Complaint(msgspec.Struct, frozen=True):
    """A report about the person, in short."""

    id: int
    status: str
    target_type: str
    target_id: int
    category: str
    outcome: str | None
    created_at: datetime


class Record(msgspec.Struct, frozen=True):
    """All that moderators know of somebody, the latest first."""

    user: Subject
    sanctions: list[Sanction]
    reports: list[Complaint]
    room_sanctions: list[RoomSanction]


class NoSuchReport(Exception):
    """There is no such report about this person; nothing was changed."""


_COLUMN: Final = {"mute": "muted_until", "ban": "banned_until"}
_MUTED: Final = "coalesce(u.muted_until > now(), false)"
_SUBJECT: Final = f"""u.id, u.username, u.avatar, u.role, u.is_active,
    {BANNED}, CASE WHEN {BANNED} AND isfinite(u.banned_until) THEN u.banned_until END,
    {_MUTED}, CASE WHEN {_MUTED} AND isfinite(u.muted_until) THEN u.muted_until END, u.created_at"""
_IN_FORCE: Final = "(s.kind <> 'warning' AND s.lifted_at IS NULL AND (s.until IS NULL OR s.until > now()))"
_SANCTION: Final = f"""SELECT s.id, s.user_id, s.kind, s.until, s.reason, s.report_id, s.by_user_id, b.username,
    s.created_at, s.lifted_at, s.lifted_by, {_IN_FORCE}
    FROM sanctions s LEFT JOIN users b ON b.id = s.by_user_id"""


async def subject(conn: Any, user_id: int) -> Subject | None:
    row = await conn.fetchrow(f"SELECT {_SUBJECT} FROM users u WHERE u.id = $1", user_id)
    return None if row is None else Subject(*row)


async def impose(
    conn: Any,
    act: Act,
    user_id: int,
    kind: Kind,
    until: datetime | None,
    reason: str | None,
    report_id: int | None,
    check: Check,
    check_undo: Check,
) -> Imposed | None:
    """Impose it, in place of one of its kind that holds; a ban ends all sessions. None: there is no such account.

    Args:
        check_undo: given the roles of the actor and of who imposed what holds; raises what forbids to undo that.

    Raises:
        NoSuchReport: `report_id` is no report about this person.
    """
    if not await hold(conn, act.actor_id, user_id, check):
        return None
    if report_id is not None and not await conn.fetchval(
        "SELECT EXISTS (SELECT FROM reports WHERE id = $1 AND accused_id = $2)", report_id, user_id
    ):
        raise NoSuchReport
    if kind != "warning":
        await _take_away(conn, act, user_id, kind, check_undo)
        await conn.execute(
            f"UPDATE users SET {_COLUMN[kind]} = coalesce($2, 'infinity'::timestamptz), updated_at = now()"
            " WHERE id = $1",
            user_id,
            until,
        )
    sanction_id = await conn.fetchval(
        """INSERT INTO sanctions (user_id, kind, until, reason, report_id, by_user_id)
           VALUES ($1, $2, $3, $4, $5, $6) RETURNING id""",
        user_id,
        kind,
        until,
        reason,
        report_id,
        act.actor_id,
    )
    ended = await sessions.end_all(conn, user_id, "banned") if kind == "ban" else []
    action = "user.warn" if kind == "warning" else f"user.{kind}"
    details = {"until": until, "reason": reason, "report_id": report_id}
    await audit.record(conn, act, action, "user", user_id, details)
    await outbox.put(conn, moderation(user_id, kind, f"{kind}:{sanction_id}", reason=reason, until=until))
    after = await subject(conn, user_id)
    made = await conn.fetchrow(f"{_SANCTION} WHERE s.id = $1", sanction_id)
    assert after is not None  # its row is locked by this transaction
    return Imposed(after, Sanction(*made), ended)


async def lift(
    conn: Any, act: Act, user_id: int, kind: Literal["mute", "ban"], check: Check, check_undo: Check
) -> tuple[Subject, bool] | None:
    """Lift what holds of this kind, however often it was imposed. The account, and whether anything was changed; None:
    there is no such account. `check_undo` as in `impose`."""
    if not await hold(conn, act.actor_id, user_id, check):
        return None
    before = await subject(conn, user_id)
    assert before is not None
    if not (before.is_muted if kind == "mute" else before.is_banned):
        return before, False
    await _take_away(conn, act, user_id, kind, check_undo)
    await conn.execute(f"UPDATE users SET {_COLUMN[kind]} = NULL, updated_at = now() WHERE id = $1", user_id)
    entry = await audit.record(conn, act, f"user.un{kind}", "user", user_id, {})
    await outbox.put(conn, moderation(user_id, f"un{kind}", f"un{kind}:{entry}"))
    after = await subject(conn, user_id)
    assert after is not None
    return after, True


async def _take_away(conn: Any, act: Act, user_id: int, kind: str, check_undo: Check) -> None:
    """End what holds of this kind, where that is the actor's to do. A ban without an end counts as an administrator's,
    whoever imposed it."""
    mine = str(await conn.fetchval("SELECT role FROM users WHERE id = $1", act.actor_id))
    if kind == "ban" and await conn.fetchval(
        "SELECT banned_until = 'infinity' FROM users WHERE id = $1", user_id
    ):
        check_undo(mine, "admin")
    imposed = await conn.fetch(
        f"""SELECT b.role FROM sanctions s JOIN users b ON b.id = s.by_user_id
            WHERE s.user_id = $1 AND s.kind = $2 AND {_IN_FORCE}""",
        user_id,
        kind,
    )
    for row in imposed:
        check_undo(mine, row["role"])
    await conn.execute(
        f"""UPDATE sanctions AS s SET lifted_at = now(), lifted_by = $3
            WHERE s.user_id = $1 AND s.kind = $2 AND {_IN_FORCE}""",
        user_id,
        kind,
        act.actor_id,
    )


async def record(conn: Any, user_id: int, reader: int) -> Record | None:
    """What is known of somebody. None: there is no such account. Reports about the reader himself are left out."""
    found = await subject(conn, user_id)
    if found is None:
        return None
    imposed = await conn.fetch(
        f"{_SANCTION} WHERE s.user_id = $1 ORDER BY s.id DESC LIMIT {_LISTED}", user_id
    )
    reports = await conn.fetch(
        f"""SELECT p.id, p.status, p.target_type, p.target_id, p.category, p.outcome, p.created_at
            FROM reports p WHERE p.accused_id = $1 AND p.accused_id <> $2 ORDER BY p.id DESC LIMIT {_LISTED}""",
        user_id,
        reader,
    )
    rooms = await conn.fetch(
        f"""SELECT s.room_id, CASE WHEN r.kind = 'public' THEN r.name END, s.kind, s.until, s.reason, s.by_user_id,
                   s.created_at
            FROM room_sanctions s JOIN rooms r ON r.id = s.room_id
            WHERE s.user_id = $1 AND (s.until IS NULL OR s.until > now())
            ORDER BY s.created_at DESC LIMIT {_LISTED}""",
        user_id,
    )
    return Record(
        found,
        [Sanction(*row) for row in imposed],
        [Complaint(*row) for row in reports],
        [RoomSanction(*row) for row in rooms],
    )
