"""`/moderation/users`: warnings, mutes and bans on the whole platform, and what is known of somebody.

Moderators act on people strictly below them; a ban without an end, or for more than a year, is an administrator's.
Everything acts at once: on REST through the registry, on chat's sockets through presence, on live streams through their
actors. A sanction that ends does so by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import trio
from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors.errors import BANNED
from veza.actors.frames import error_frame
from veza.actors.presence import CloseAll
from veza.actors.registry import Identity
from veza.db import sanctions as sanctions_db
from veza.db.audit import Act
from veza.db.powers import Check
from veza.db.sanctions import Imposed, Kind, NoSuchReport, Record, Sanction, Subject
from veza.http.api.access import address, requires
from veza.http.api.chat import Id, Reason, no_person, presence
from veza.http.api.envelope import ApiError, forbidden, invalid, not_found, ok
from veza.http.api.intake import takes
from veza.http.api.models import one_line
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services
from veza.security.roles import Role, above, at_least

sanctions = Blueprint("sanctions", __name__, url_prefix="/moderation/users")

BANNED_CODE: Final = 4003
LONGEST: Final = 10 * 366 * 24 * 3600
MODERATORS_LONGEST: Final = timedelta(days=366)


class Term(Struct, frozen=True, kw_only=True):
    """Until a time, for a `duration` (seconds), or, with neither, until it is lifted."""

    until: (
        Annotated[datetime, Meta(extra={"says": "Must be a time such as 2030-01-31T12:00:00Z."})] | None
    ) = None
    duration: (
        Annotated[int, Meta(ge=1, le=LONGEST, extra={"says": "Must be seconds, ten years at most."})] | None
    ) = None
    reason: Reason | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.until is not None and self.duration is not None:
            yield "duration", "Say either until or duration."
        yield from one_line("reason", self.reason)

    def moment(self) -> datetime | None:
        """When it ends, be that over already; None for never."""
        if self.duration is not None:
            return datetime.now(UTC) + timedelta(seconds=self.duration)
        if self.until is not None and self.until.tzinfo is None:
            return self.until.replace(tzinfo=UTC)
        return self.until

    def ends(self) -> datetime | None:
        """`moment`; raises ApiError for a time that is over."""
        moment = self.moment()
        if moment is not None and moment <= datetime.now(UTC):
            raise invalid({"until": "Must be in the future."})
        return moment


class NewSanction(Term, frozen=True, kw_only=True):
    """`report_id`: the report it is imposed for. A warning has a reason and no end."""

    kind: Annotated[Kind, Meta(extra={"says": "Must be warning, mute or ban."})]
    report_id: Id | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.kind == "warning":
            if not self.reason:
                yield "reason", "A warning says what for."
            if self.until is not None or self.duration is not None:
                yield "duration", "A warning has no end."


class Done(Struct, frozen=True):
    """The account as it is then, and what was imposed."""

    user: Subject
    sanction: Sanction


@sanctions.get("/<id:user_id>")
@requires("moderator")
@answers(Record)
@fails(404)
async def look(user_id: int, identity: Identity) -> Response:
    """What was imposed on somebody and why, reports about him, and where he is muted or banned. No addresses."""
    found = await services().db.read(sanctions_db.record, user_id, identity.user_id)
    if found is None:
        raise no_person()
    return ok(found)


@sanctions.post("/<id:user_id>/sanctions")
@requires("moderator")
@takes(NewSanction)
@answers(Done, 201)
@fails(404)
async def impose(user_id: int, identity: Identity, data: NewSanction) -> Response:
    """Warn, mute or ban somebody below one. What holds of the same kind is replaced.

    Who is muted reads on, and says nothing more anywhere. Who is banned is logged out, his sockets close (4003), his
    live streams end. He is told in any case, and sees why he cannot log in.
    """
    done = await put_upon(
        identity, user_id, data.kind, data.ends(), data.reason or None, report_id=data.report_id
    )
    return ok(Done(done.user, done.sanction), status=201)


@sanctions.delete("/<id:user_id>/sanctions/<any(mute, ban):kind>")
@requires("moderator")
@answers(Subject)
@fails(404)
async def lift(user_id: int, kind: Literal["mute", "ban"], identity: Identity) -> Response:
    """Lift a mute or ban that somebody above one has not imposed. 404 `SANCTION_NOT_FOUND`: there is none."""
    user, changed = await take_from(identity, user_id, kind)
    if not changed:
        raise not_found(f"Such a {kind}", "SANCTION_NOT_FOUND")
    return ok(user, message=f"The {kind} is lifted.")


# What `/admin` does too ------------------------------------------------------------------------------


async def put_upon(
    identity: Identity,
    user_id: int,
    kind: Kind,
    ends: datetime | None,
    reason: str | None,
    *,
    report_id: int | None = None,
    least: Role = "moderator",
) -> Imposed:
    """Impose a sanction, and make it felt. Raises ApiError.

    Args:
        least: the role it takes.
    """
    s = services()
    long = kind == "ban" and (ends is None or ends > datetime.now(UTC) + MODERATORS_LONGEST)
    check = _below(identity, user_id, "admin" if long else least, long=long)
    args = (_act(identity), user_id, kind, ends, reason, report_id, check, _undo)
    if kind != "ban":
        try:
            imposed = await s.db.write(sanctions_db.impose, *args)
        except NoSuchReport:
            raise _no_report() from None
        finally:
            _felt(user_id)
        if imposed is None:
            raise no_person()
        return imposed
    here = presence()
    with s.registry.revoking(user_id) as revocation:
        try:
            with trio.CancelScope(shield=True):
                imposed = await s.db.write(sanctions_db.impose, *args)
        except NoSuchReport:
            raise _no_report() from None
        finally:
            s.poke()
        if imposed is None:
            raise no_person()
        # Before the registry tells of the end of the sessions: the first reason for a close is the one that is sent.
        closing = _banned(user_id, ends, reason)
        here.answer(closing)
        if s.streams is not None and closing.notice is not None:
            s.streams.turn_out(user_id, closing.notice, closing.code, closing.reason)
        revocation.sids = None
    return imposed


async def take_from(
    identity: Identity, user_id: int, kind: Literal["mute", "ban"], *, least: Role = "moderator"
) -> tuple[Subject, bool]:
    """Lift a sanction; whether there was one. Raises ApiError."""
    s = services()
    check = _below(identity, user_id, least)
    try:
        lifted = await s.db.write(sanctions_db.lift, _act(identity), user_id, kind, check, _undo)
    finally:
        _felt(user_id)
        if s.streams is not None:
            s.streams.owner_changed(user_id)
    if lifted is None:
        raise no_person()
    return lifted


def _felt(user_id: int) -> None:
    """A mute may have changed: from now on everybody asks what he is."""
    s = services()
    s.registry.changed_user(user_id)
    s.poke()


def _act(identity: Identity) -> Act:
    return Act(identity.user_id, address())


def _below(identity: Identity, target_id: int, least: Role, *, long: bool = False) -> Check:
    """Acts go strictly downwards; roles are looked at as they are in the transaction."""
    if target_id == identity.user_id:
        raise forbidden("Nobody does this to himself.")

    def check(mine: str, theirs: str) -> None:
        if not at_least(mine, least):
            if long and at_least(mine, "moderator"):
                raise forbidden("Only administrators ban without an end, or for more than a year.")
            raise forbidden()
        if not above(mine, theirs):
            raise forbidden("This works only on people below you.")

    return check


def _banned(user_id: int, until: datetime | None, reason: str | None) -> CloseAll:
    details: dict[str, Any] = {}
    if until is not None:
        details["until"] = until
    if reason:
        details["reason"] = reason
    notice = error_frame(BANNED, "Your account was banned.", details)
    return CloseAll(user_id, None, BANNED_CODE, "banned", notice)


def _undo(mine: str, theirs: str) -> None:
    """What somebody above one imposed one neither lifts nor shortens."""
    if above(theirs, mine):
        raise forbidden("What holds was imposed by somebody above you.")


def _no_report() -> ApiError:
    return not_found("Such a report about this person", "REPORT_NOT_FOUND")
