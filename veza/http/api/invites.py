"""`/chat/…/invites`: codes that let people into a room, for one person or for whoever has them.

A code is used up in the transaction that makes the member, so a refused entry costs nothing and a last use is one.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType
from quart import Blueprint, Response

from veza.actors.commands import Describe, Enroll, MayInvite
from veza.actors.errors import ROOM_NOT_FOUND, Refused
from veza.actors.registry import Identity
from veza.actors.rules import MODERATOR, level
from veza.db import rooms as rooms_db
from veza.db import users
from veza.db.rooms import Invitation
from veza.http.api.access import signed_in
from veza.http.api.chat import Id, RoomShown, no_person, person, rooms, show_room
from veza.http.api.envelope import ApiError, created, not_found, ok
from veza.http.api.intake import takes
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services

invites = Blueprint("invites", __name__, url_prefix="/chat")

WEEK: Final = 7 * 24 * 3600
SHOWN: Final = 100
_CODE_MAX: Final = 64


class NewInvite(Struct, frozen=True):
    """For one person, or for whoever has the code. Good for a week unless `expires_in` (seconds; null: for ever) says
    otherwise, and as often as `uses` allows (null: without end; one person's invitation: once)."""

    user_id: Id | None = None
    uses: (
        Annotated[int, Meta(ge=1, le=10_000, extra={"says": "Must be a whole number from 1 to 10000."})]
        | None
    ) = None
    expires_in: (
        Annotated[int, Meta(ge=1, le=366 * 24 * 3600, extra={"says": "Must be seconds, a year at most."})]
        | UnsetType
        | None
    ) = UNSET


class Invitations(Struct, frozen=True):
    invites: list[Invitation]


@invites.get("/rooms/<room>/invites")
@signed_in
@answers(Invitations)
@fails(403, 404)
async def list_invites(room: str, identity: Identity) -> Response:
    """The newest invitations that are good: one's own; all of them for the room's owner and moderators."""
    room_id = await rooms().resolve(room)
    made_by = await _whose(room_id, identity)
    found = await services().db.read(rooms_db.invitations, room_id, made_by, SHOWN)
    return ok(Invitations(found))


@invites.post("/rooms/<room>/invites")
@signed_in
@takes(NewInvite, optional=True)
@answers(Invitation, 201)
@fails(403, 404)
async def invite(room: str, identity: Identity, data: NewInvite) -> Response:
    """Make an invitation code. In private rooms owner and moderators may."""
    s = services()
    room_id = await rooms().resolve(room)
    await rooms().ask(room_id, MayInvite(person=person(identity)))
    if data.user_id is not None and await s.db.read(users.profile, data.user_id) is None:
        raise no_person()
    lasts = WEEK if data.expires_in is UNSET else data.expires_in
    now = datetime.now(UTC)
    made = Invitation(
        code=secrets.token_urlsafe(16),
        room_id=room_id,
        by_user_id=identity.user_id,
        user_id=data.user_id,
        uses=data.uses if data.uses is not None or data.user_id is None else 1,
        expires_at=None if lasts is None else now + timedelta(seconds=lasts),
        created_at=now,
    )
    await s.db.write(
        rooms_db.invite, room_id, identity.user_id, made.code, made.user_id, made.uses, made.expires_at
    )
    return created(made)


@invites.delete("/rooms/<room>/invites/<code>")
@signed_in
@answers()
@fails(403, 404)
async def revoke(room: str, code: str, identity: Identity) -> Response:
    """Take an invitation back: one's own, or, as owner or moderator, anybody's."""
    room_id = await rooms().resolve(room)
    made_by = await _whose(room_id, identity)
    if not _likely(code) or not await services().db.write(rooms_db.revoke_invitation, room_id, made_by, code):
        raise _no_invite()
    return ok(message="The invitation is taken back.")


@invites.post("/invites/<code>")
@signed_in
@answers(RoomShown)
@fails(403, 404, 409)
async def accept(code: str, identity: Identity) -> Response:
    """Become a member by an invitation. Being one already uses nothing up."""
    reader = identity.user_id
    room_id = await services().db.read(rooms_db.invited_to, reader, code) if _likely(code) else None
    if room_id is None:
        raise _no_invite()
    try:
        await rooms().ask(room_id, Enroll(person=person(identity), invitation=code))
    except Refused as refused:
        if refused.code == ROOM_NOT_FOUND:  # somebody else used it up, or the room is gone
            raise _no_invite() from None
        raise
    return ok(await show_room(reader, room_id))


async def _whose(room_id: int, identity: Identity) -> int | None:
    """Whose invitations somebody has to do with: his own, or (None) all. Raises Refused for who does not belong."""
    who = person(identity)
    summary = await rooms().ask(room_id, Describe(person=who))
    return None if level(summary.role, who.role) >= MODERATOR else who.user_id


def _likely(code: str) -> bool:
    return len(code) <= _CODE_MAX and "\x00" not in code


def _no_invite() -> ApiError:
    return not_found("This invitation", "INVITE_NOT_FOUND")
