"""`/reports` and `/admin/reports`: people tell the moderators what is wrong; those decide what becomes of it.

Only what one sees can be reported, and what it says at that moment is kept. A report is nothing the accused hears of,
nor does who handles it say so to him: nobody sees reports about himself.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import reports as reports_db
from veza.db.audit import Act
from veza.db.report_targets import TargetType
from veza.db.reports import AlreadyHandled, Category, Opened, Outcome, Report, Status, Verdict, Wanted
from veza.http.api.access import address, requires, signed_in
from veza.http.api.chat import BIGINT, Cursor, Id, no_person
from veza.http.api.envelope import ApiError, conflict, forbidden, invalid, not_found, ok, rate_limited
from veza.http.api.envelope import Meta as PageMeta
from veza.http.api.intake import takes, takes_query
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services
from veza.security.roles import above, at_least

reports = Blueprint("reports", __name__)

_TYPES_SAYS: Final = Meta(extra={"says": "Must be message, user, room, track, comment, listing or stream."})
_CATEGORY_SAYS: Final = Meta(
    extra={"says": "Must be spam, harassment, hate, violence, sexual, fraud, copyright or other."}
)
_STATUS_SAYS: Final = Meta(extra={"says": "Must be open, resolved or dismissed."})
_LIMIT: Final = Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})
_TARGET_SAYS: Final = {"says": "Must be an id; of a stream also its slug."}
ReportReason = Annotated[
    str, Meta(min_length=1, max_length=1000, extra={"says": "Must have 1 to 1000 characters.", "trim": True})
]
_NOT_FOUND: Final[dict[str, tuple[str, str]]] = {
    "message": ("This message", "MESSAGE_NOT_FOUND"),
    "room": ("This room", "ROOM_NOT_FOUND"),
    "track": ("This track", "TRACK_NOT_FOUND"),
    "comment": ("This comment", "COMMENT_NOT_FOUND"),
    "listing": ("This listing", "LISTING_NOT_FOUND"),
    "stream": ("This stream", "STREAM_NOT_FOUND"),
}


class NewReport(Struct, frozen=True):
    """Of what, and why. A stream may be named by its slug."""

    target_type: Annotated[TargetType, _TYPES_SAYS]
    target_id: (
        Annotated[int, Meta(ge=1, le=BIGINT)]
        | Annotated[str, Meta(min_length=1, max_length=43, extra=_TARGET_SAYS)]
    )
    reason: ReportReason
    category: Annotated[Category, _CATEGORY_SAYS] | None = None

    def target(self) -> int | str:
        """Raises ApiError."""
        named = self.target_id
        if isinstance(named, str) and self.target_type != "stream":
            if not (named.isascii() and named.isdecimal() and 0 < int(named) <= BIGINT):
                raise invalid({"target_id": _TARGET_SAYS["says"]})
            return int(named)
        return named


class Filed(Struct, frozen=True):
    report_id: int


class ReportsQuery(Struct, frozen=True, kw_only=True):
    """The newest first, or the oldest; `cursor` goes on behind an earlier page."""

    status: Annotated[Status, _STATUS_SAYS] | None = None
    target_type: Annotated[TargetType, _TYPES_SAYS] | None = None
    target_id: Id | None = None
    category: Annotated[Category, _CATEGORY_SAYS] | None = None
    accused_id: Id | None = None
    sort: Annotated[Literal["newest", "oldest"], Meta(extra={"says": "Must be newest or oldest."})] = "newest"
    limit: Annotated[int, _LIMIT] = 20
    cursor: Cursor | None = None


class ReportHandled(Struct, frozen=True):
    """`others`: the same for all that is open about the same thing."""

    status: Annotated[Status, _STATUS_SAYS]
    outcome: (
        Annotated[Outcome, Meta(extra={"says": "Must be none, warned, removed, muted or banned."})] | None
    ) = None
    note: (
        Annotated[
            str, Meta(max_length=1000, extra={"says": "Must have at most 1000 characters.", "trim": True})
        ]
        | None
    ) = None
    others: bool = False

    def verdict(self) -> Verdict:
        return Verdict(self.status, self.outcome, self.note or None, self.others)


class ReportNamed(ReportHandled, frozen=True, kw_only=True):
    id: Id


class Reports(Struct, frozen=True):
    reports: list[Report]


@reports.post("/reports")
@signed_in
@takes(NewReport)
@answers(Filed, 201)
@fails(404, 409)
async def new_report(identity: Identity, data: NewReport) -> Response:
    """Tell the moderators of something one sees. What it says now is kept, whatever becomes of it.

    Once per person and thing: again, while it is open, gives another reason; 409 `REPORT_HANDLED` after that.
    """
    filed = await complain(identity, data.target_type, data.target(), data.reason, data.category)
    return ok(Filed(filed), message="Thank you; the moderators will look at it.", status=201)


@reports.get("/admin/reports")
@requires("moderator")
@takes_query(ReportsQuery)
@answers(Reports, listing=True)
async def list_reports(identity: Identity, query: ReportsQuery) -> Response:
    """What was reported. Nobody sees reports about himself."""
    wanted = Wanted(query.status, query.target_type, query.target_id, query.category, query.accused_id)
    found = await services().db.read(
        reports_db.listed,
        wanted,
        identity.user_id,
        query.cursor,
        query.limit + 1,
        oldest_first=query.sort == "oldest",
    )
    page = found[: query.limit]
    cursor = str(page[-1].id) if len(found) > query.limit else None
    return ok(Reports(page), meta=PageMeta(per_page=query.limit, next_cursor=cursor))


@reports.get("/admin/reports/<id:report_id>")
@requires("moderator")
@answers(Opened)
@fails(404)
async def one_report(report_id: int, identity: Identity) -> Response:
    """One report, the others about the same thing, and, of a message, what was said around it, in private rooms too.

    That one has looked is in the audit log.
    """
    opened = await services().db.write(reports_db.opened, Act(identity.user_id, address()), report_id)
    if opened is None:
        raise _no_report()
    return ok(opened)


@reports.put("/admin/reports/<id:report_id>")
@requires("moderator")
@takes(ReportHandled)
@answers(Report)
@fails(404, 409)
async def handle_report(report_id: int, identity: Identity, data: ReportHandled) -> Response:
    """Close a report, or open it again. 409 `REPORT_HANDLED` where another moderator was faster.

    It must be about somebody below one; who complained is told that it was handled.
    """
    return await _handle(identity, report_id, data)


@reports.put("/admin/reports")
@requires("moderator")
@takes(ReportNamed)
@answers(Report)
@fails(404, 409)
async def handle_named_report(identity: Identity, data: ReportNamed) -> Response:
    """Close the report named in the body, or open it again."""
    return await _handle(identity, data.id, data)


async def complain(
    identity: Identity, target_type: TargetType, target: int | str, reason: str, category: Category | None
) -> int:
    """File a report; its id. Raises ApiError."""
    filed = await services().db.write(
        reports_db.file, identity.user_id, target_type, target, reason, category
    )
    match filed:
        case int():
            return filed
        case "gone":
            raise no_person() if target_type == "user" else not_found(*_NOT_FOUND[target_type])
        case "own":
            raise invalid({"target_id": "This is your own."})
        case "handled":
            raise handled()
    raise rate_limited(math.ceil(3600 / reports_db.PER_HOUR), "So many reports at once; wait a little.")


def handled() -> ApiError:
    return conflict("REPORT_HANDLED", "This report has been handled already.")


async def _handle(identity: Identity, report_id: int, data: ReportHandled) -> Response:
    s = services()

    def check(mine: str, theirs: str) -> None:
        if not at_least(mine, "moderator"):
            raise forbidden()
        if not above(mine, theirs):
            raise forbidden("Nobody handles reports about himself, or about people who are not below him.")

    act = Act(identity.user_id, address())
    try:
        report = await s.db.write(reports_db.handle, act, report_id, data.verdict(), check)
    except AlreadyHandled:
        raise handled() from None
    finally:
        s.poke()
    if report is None:
        raise _no_report()
    return ok(report)


def _no_report() -> ApiError:
    return not_found("This report", "REPORT_NOT_FOUND")
