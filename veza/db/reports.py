"""Reports: what people complain of, as it was when they did, and what became of it.

One report per person and thing; again while it is open, it says something else. Whoever handles one stands above whom
it is about, which is looked at in the transaction; two who handle one at the same moment: the second is told so.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db import audit, outbox, report_targets
from veza.db.audit import Act
from veza.db.powers import Check, hold, moderation
from veza.db.report_targets import TargetType

Status = Literal["open", "resolved", "dismissed"]
Category = Literal["spam", "harassment", "hate", "violence", "sexual", "fraud", "copyright", "other"]
Outcome = Literal["none", "warned", "removed", "muted", "banned"]

PER_HOUR: Final = 30  # new reports of one person
AROUND: Final = 5  # messages shown before and behind a reported one
_OTHERS: Final = 50

# Nothing to be seen there; it is the reporter's own; it was handled; he has reported too much.
Refusal = Literal["gone", "own", "handled", "many"]


class Report(msgspec.Struct, frozen=True):
    """A complaint. `snapshot` is what the thing said then; `content` and `deleted` are about a message as it is now.
    `on_target` counts the reports about the same thing, `open_on_target` those nobody has handled."""

    id: int
    status: str
    category: str
    reason: str
    created_at: datetime
    reporter_id: int | None
    reporter: str | None
    target_type: str
    target_id: int
    accused_id: int | None
    accused: str | None
    snapshot: dict[str, Any]
    on_target: int
    open_on_target: int
    outcome: str | None
    note: str | None
    handled_by: int | None
    handler: str | None
    handled_at: datetime | None
    message_id: int | None
    room_id: int | None
    room: str | None
    author_id: int | None
    author: str | None
    content: str | None
    message_created_at: datetime | None
    deleted: bool

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Report {self.id}>"


class Neighbour(msgspec.Struct, frozen=True):
    """A message near a reported one; `reported` is that one itself."""

    id: int
    seq: int
    user_id: int | None
    username: str | None
    content: str | None
    created_at: datetime
    reported: bool

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Neighbour {self.id}>"


class Other(msgspec.Struct, frozen=True):
    """Another report about the same thing."""

    id: int
    status: str
    category: str
    reason: str
    reporter_id: int | None
    reporter: str | None
    created_at: datetime


class Opened(msgspec.Struct, frozen=True):
    """A report with what helps to judge it."""

    report: Report
    others: list[Other]
    context: list[Neighbour]


class Wanted(msgspec.Struct, frozen=True):
    """Which reports; None means any."""

    status: str | None = None
    target_type: str | None = None
    target_id: int | None = None
    category: str | None = None
    accused_id: int | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a report. `others`: and of those about the same thing and person that are open."""

    status: Status
    outcome: Outcome | None = None
    note: str | None = None
    others: bool = False


class AlreadyHandled(Exception):
    """Somebody else was faster; nothing was changed."""

    def __init__(self, status: str, by: int | None) -> None:
        super().__init__("this report has been handled")
        self.status = status
        self.by = by


_snapshot = msgspec.json.Decoder(dict[str, Any]).decode
# `$1` is the reader: what is said about himself does not exist for him.
_SELECT: Final = """
    SELECT p.id, p.status, p.category, p.reason, p.created_at, p.reporter_id, who.username, p.target_type, p.target_id,
           p.accused_id, accused.username, p.snapshot,
           (SELECT count(*) FROM reports o WHERE o.target_type = p.target_type AND o.target_id = p.target_id
            AND o.accused_id IS DISTINCT FROM $1),
           (SELECT count(*) FROM reports o WHERE o.target_type = p.target_type AND o.target_id = p.target_id
            AND o.accused_id IS DISTINCT FROM $1 AND o.status = 'open'),
           p.outcome, p.note, p.handled_by, handler.username, p.handled_at,
           p.message_id, m.room_id, coalesce(r.name, r.kind), m.user_id, author.username, m.content, m.created_at,
           m.deleted_at IS NOT NULL
    FROM reports p
    LEFT JOIN users who ON who.id = p.reporter_id
    LEFT JOIN users accused ON accused.id = p.accused_id
    LEFT JOIN users handler ON handler.id = p.handled_by
    LEFT JOIN messages m ON m.id = p.message_id
    LEFT JOIN rooms r ON r.id = m.room_id
    LEFT JOIN users author ON author.id = m.user_id
"""


def _report(row: Any) -> Report:
    values = list(row)
    values[11] = _snapshot(values[11])
    return Report(*values)


async def file(
    conn: Any,
    reporter: int,
    target_type: TargetType,
    target: int | str,
    reason: str,
    category: Category | None,
) -> int | Refusal:
    """Complain of something; the report's id. Again while it is open: another reason; what it said then stays.

    The reporter's row is held, so that his reports count in turn.
    """
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", reporter)
    found = await report_targets.seen(conn, reporter, target_type, target)
    known = None
    if found is not None or isinstance(target, int):
        known = await conn.fetchrow(
            """SELECT id, status FROM reports WHERE reporter_id = $1 AND target_type = $2 AND target_id = $3""",
            reporter,
            target_type,
            target if found is None else found.id,
        )
    if known is not None and known["status"] == "open":
        await conn.execute(
            "UPDATE reports SET reason = $2, category = coalesce($3, category) WHERE id = $1 AND status = 'open'",
            known["id"],
            reason,
            category,
        )
        return int(known["id"])
    if found is None:
        return "gone"
    if known is not None:
        return "handled"
    if found.accused_id == reporter:
        return "own"
    recent = await conn.fetchval(
        "SELECT count(*) FROM reports WHERE reporter_id = $1 AND created_at > now() - interval '1 hour'",
        reporter,
    )
    if recent >= PER_HOUR:
        return "many"
    made = await conn.fetchval(
        """INSERT INTO reports (reporter_id, target_type, target_id, message_id, accused_id, snapshot, reason, category)
           VALUES ($1, $2::text, $3::bigint, CASE WHEN $2::text = 'message' THEN $3::bigint END, $4, $5::jsonb, $6,
                   coalesce($7, 'other'))
           RETURNING id""",
        reporter,
        target_type,
        found.id,
        found.accused_id,
        msgspec.json.encode(found.snapshot).decode(),
        reason,
        category,
    )
    return int(made)


async def listed(
    conn: Any, wanted: Wanted, reader: int, after: int | None, limit: int, *, oldest_first: bool = False
) -> list[Report]:
    """Reports behind the one `after`, the newest or the oldest first. The reader sees none about himself."""
    where, args = ["p.accused_id IS DISTINCT FROM $1"], list[Any]([reader])
    for column in wanted.__struct_fields__:
        if (value := getattr(wanted, column)) is not None:
            args.append(value)
            where.append(f"p.{column} = ${len(args)}")
    if after is not None:
        args.append(after)
        where.append(f"p.id {'>' if oldest_first else '<'} ${len(args)}")
    args.append(limit)
    order = "p.id" if oldest_first else "p.id DESC"
    rows = await conn.fetch(
        f"{_SELECT} WHERE {' AND '.join(where)} ORDER BY {order} LIMIT ${len(args)}", *args
    )
    return [_report(row) for row in rows]


async def opened(conn: Any, act: Act, report_id: int) -> Opened | None:
    """A report with the messages around the one it is about, wherever that was said; so that this was looked at is in
    the audit log. None: there is no such report, or it is about the reader himself."""
    row = await conn.fetchrow(
        f"{_SELECT} WHERE p.id = $2 AND p.accused_id IS DISTINCT FROM $1", act.actor_id, report_id
    )
    if row is None:
        return None
    report = _report(row)
    others = await conn.fetch(
        f"""SELECT p.id, p.status, p.category, p.reason, p.reporter_id, u.username, p.created_at
            FROM reports p LEFT JOIN users u ON u.id = p.reporter_id
            WHERE p.target_type = $1 AND p.target_id = $2 AND p.id <> $3 AND p.accused_id IS DISTINCT FROM $4
            ORDER BY p.id DESC LIMIT {_OTHERS}""",
        report.target_type,
        report.target_id,
        report_id,
        act.actor_id,
    )
    around = []
    if report.message_id is not None:
        around = await conn.fetch(
            """SELECT m.id, m.seq, m.user_id, u.username, m.content, m.created_at, m.id = t.id
               FROM messages t JOIN messages m ON m.room_id = t.room_id AND m.seq BETWEEN t.seq - $2 AND t.seq + $2
               LEFT JOIN users u ON u.id = m.user_id WHERE t.id = $1 ORDER BY m.seq""",
            report.message_id,
            AROUND,
        )
    details = {"target_type": report.target_type, "target_id": report.target_id, "messages": len(around)}
    await audit.record(conn, act, "report.view", "report", report_id, details)
    return Opened(report, [Other(*one) for one in others], [Neighbour(*one) for one in around])


async def handle(conn: Any, act: Act, report_id: int, verdict: Verdict, check: Check) -> Report | None:
    """Close a report, or open it again; who complained is told. None: there is no such report, or it is about the
    actor himself.

    Raises:
        AlreadyHandled: by somebody else.
    """
    known = await conn.fetchrow("SELECT accused_id FROM reports WHERE id = $1", report_id)
    if known is None or known["accused_id"] == act.actor_id:
        return None
    accused = known["accused_id"]
    await hold(conn, act.actor_id, accused, check)
    # No one's key is touched: whoever stores a sanction on account of it need not wait.
    before = await conn.fetchrow(
        "SELECT status, handled_by, target_type, target_id FROM reports WHERE id = $1 FOR NO KEY UPDATE",
        report_id,
    )
    if before is None:
        return None
    if before["status"] != "open" and verdict.status != "open" and before["handled_by"] != act.actor_id:
        raise AlreadyHandled(before["status"], before["handled_by"])
    ids = [report_id]
    if verdict.others and verdict.status != "open":
        # About the same person too, for only him `check` has seen: rooms change hands.
        rows = await conn.fetch(
            """SELECT id FROM reports WHERE target_type = $1 AND target_id = $2 AND status = 'open' AND id <> $3
               AND accused_id IS NOT DISTINCT FROM $4 ORDER BY id FOR NO KEY UPDATE""",
            before["target_type"],
            before["target_id"],
            report_id,
            accused,
        )
        ids += [row[0] for row in rows]
    handled = await conn.fetch(
        """UPDATE reports SET status = $2, outcome = CASE WHEN $2 = 'open' THEN NULL ELSE $4 END,
                  note = coalesce($5, note),
                  handled_by = CASE WHEN $2 = 'open' THEN NULL ELSE $3::bigint END,
                  handled_at = CASE WHEN $2 = 'open' THEN NULL ELSE now() END
           WHERE id = ANY ($1::bigint[]) RETURNING id, reporter_id""",
        ids,
        verdict.status,
        act.actor_id,
        verdict.outcome,
        verdict.note,
    )
    for row in sorted(handled, key=lambda row: int(row["id"])):
        details = {
            "before": before["status"] if row["id"] == report_id else "open",
            "after": verdict.status,
            "outcome": verdict.outcome,
            "note": verdict.note,
        }
        await audit.record(conn, act, "report.handle", "report", row["id"], details)
        if verdict.status != "open" and row["reporter_id"] not in (None, act.actor_id):
            told = moderation(
                row["reporter_id"],
                "report_handled",
                f"report_handled:{row['id']}",
                report_id=row["id"],
                target_type=before["target_type"],
                target_id=before["target_id"],
            )
            await outbox.put(conn, told)
    return _report(await conn.fetchrow(f"{_SELECT} WHERE p.id = $2", act.actor_id, report_id))
