"""`/chat/rooms/{id}/members`, `mutes`, `bans`: who belongs to a room and what is done to people there.

Sanctions and roles act downwards only, at once, on live connections too: the room's actor sees to that. Whoever is
muted or banned is also told by a notification, and all of it is in the audit log.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from quart import Blueprint, Response, request

from veza.actors.commands import Describe, Kick, Lift, Sanction, SetRole
from veza.actors.errors import denied, room_not_found
from veza.actors.registry import Identity
from veza.actors.rules import MODERATOR, level
from veza.db import room_lists
from veza.db.room_lists import SanctionRow
from veza.http.api.access import signed_in
from veza.http.api.chat import Cursor, Id, ask, online, person, rooms
from veza.http.api.envelope import Meta as PageMeta
from veza.http.api.envelope import not_found, ok, page_meta
from veza.http.api.intake import form_of, json_object, takes, takes_query
from veza.http.api.models import Paging
from veza.http.api.openapi import answers, describe, fails
from veza.http.api.sanctions import LONGEST, Term
from veza.http.api.services import services

moderation = Blueprint("moderation", __name__, url_prefix="/chat/rooms")

_KINDS: Final = {"mutes": "mute", "bans": "ban"}


class MembersQuery(Paging, frozen=True, kw_only=True):
    """`cursor` goes on behind an earlier page, instead of `page`."""

    cursor: Cursor = 0


class SanctionsQuery(Struct, frozen=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})] = 20
    cursor: Cursor = 0


class RoleChange(Struct, frozen=True):
    """Giving `owner` away makes the owner so far a moderator."""

    role: Annotated[
        Literal["owner", "moderator", "member"],
        Meta(extra={"says": "Must be owner, moderator or member."}),
    ]


class NewSanction(Term, frozen=True, kw_only=True):
    """Until a time, for a `duration` (seconds), or, with neither, until it is lifted."""

    user_id: Id
    duration: (
        Annotated[
            int, Meta(ge=1, le=LONGEST, extra={"says": "Must be seconds, 1 or more, ten years at most."})
        ]
        | None
    ) = None


class Target(Struct, frozen=True):
    user_id: Id


class MemberShown(Struct, frozen=True):
    """`status` and `status_text` are null for who is not online, or does not want to be seen."""

    user_id: int
    username: str
    first_name: str | None
    last_name: str | None
    avatar: str | None
    role: str
    is_online: bool
    status: str | None
    status_text: str | None
    joined_at: datetime


class Members(Struct, frozen=True):
    members: list[MemberShown]


class Imposed(Struct, frozen=True):
    user_id: int
    until: datetime | None


class Sanctions(Struct, frozen=True):
    """Those in force; `until` null means for good."""

    sanctions: list[SanctionRow]


@moderation.get("/<room>/members")
@signed_in
@takes_query(MembersQuery)
@answers(Members, listing=True)
@fails(404)
async def list_members(room: str, identity: Identity, query: MembersQuery) -> Response:
    """A room's members, by id."""
    room_id = await rooms().resolve(room)
    offset = 0 if query.cursor else query.offset
    page = await services().db.read(
        room_lists.members, identity.user_id, room_id, query.cursor, query.limit, offset
    )
    if page is None:
        raise room_not_found()
    here = await online([member.user_id for member in page.members])
    shown = []
    for member in page.members:
        status, text = here.get(member.user_id, (None, None))
        shown.append(
            MemberShown(
                member.user_id,
                member.username,
                member.first_name,
                member.last_name,
                member.avatar,
                member.role,
                member.user_id in here,
                status,
                text,
                member.joined_at,
            )
        )
    cursor = str(page.members[-1].user_id) if page.more else None
    return ok(Members(shown), meta=page_meta(query.page, query.limit, page.total, cursor))


@moderation.put("/<room>/members/<id:user_id>")
@signed_in
@takes(RoleChange)
@answers()
@fails(403, 404)
async def set_role(room: str, user_id: int, identity: Identity, data: RoleChange) -> Response:
    """Give a member another role. Only the owner may, and only to people below him."""
    await ask(room, SetRole(person=person(identity), target=user_id, role=data.role))
    return ok(message=f"The role is {data.role} now.")


@moderation.delete("/<room>/members/<id:user_id>")
@signed_in
@answers()
@fails(403, 404)
async def kick(room: str, user_id: int, identity: Identity) -> Response:
    """Remove a member; nothing keeps him from coming back (a ban does)."""
    await ask(room, Kick(person=person(identity), target=user_id))
    return ok(message="The member was removed.")


@moderation.get("/<room>/<any(mutes, bans):what>")
@signed_in
@takes_query(SanctionsQuery)
@answers(Sanctions, listing=True)
@fails(403, 404)
async def list_sanctions(room: str, what: str, identity: Identity, query: SanctionsQuery) -> Response:
    """The mutes or bans in force, for the room's moderators."""
    room_id = await rooms().resolve(room)
    summary = await rooms().ask(room_id, Describe(person=person(identity)))
    if level(summary.role, identity.role) < MODERATOR:
        raise denied(f"Only a room's owner and moderators may see its {what}.")
    found = await services().db.read(
        room_lists.sanctions, room_id, _KINDS[what], query.cursor, query.limit + 1
    )
    page = found[: query.limit]
    cursor = str(page[-1].user_id) if len(found) > query.limit else None
    return ok(Sanctions(page), meta=PageMeta(per_page=query.limit, next_cursor=cursor))


@moderation.post("/<room>/<any(mutes, bans):what>")
@signed_in
@takes(NewSanction)
@answers(Imposed, 201)
@fails(403, 404)
async def impose(room: str, what: str, identity: Identity, data: NewSanction) -> Response:
    """Mute or ban somebody, until a time or until it is lifted. A ban also ends membership."""
    ends = data.moment()
    wish = Sanction(
        person=person(identity),
        target=data.user_id,
        kind=_KINDS[what],
        until=ends,
        reason=data.reason or None,
    )
    try:
        await ask(room, wish)
    finally:
        services().poke()
    return ok(Imposed(data.user_id, ends), status=201)


@moderation.delete("/<room>/<any(mutes, bans):what>")
@signed_in
@answers()
@fails(400, 403, 404)
async def lift(room: str, what: str, identity: Identity) -> Response:
    """Lift a mute or ban. The person is named by `user_id`, in a JSON body or in the query string."""
    raw = dict(request.args) or await json_object(optional=True)
    target = form_of(Target).read(raw, strict=not request.args)
    return await _lift(room, what, target.user_id, identity)


describe(lift).query = Target


@moderation.delete("/<room>/<any(mutes, bans):what>/<id:user_id>")
@signed_in
@answers()
@fails(403, 404)
async def lift_from(room: str, what: str, user_id: int, identity: Identity) -> Response:
    """Lift somebody's mute or ban."""
    return await _lift(room, what, user_id, identity)


async def _lift(room: str, what: str, user_id: int, identity: Identity) -> Response:
    kind = _KINDS[what]
    try:
        lifted = await ask(room, Lift(person=person(identity), target=user_id, kind=kind))
    finally:
        services().poke()
    if not lifted:
        raise not_found(f"Such a {kind}", "SANCTION_NOT_FOUND")
    return ok(message=f"The {kind} is lifted.")
