"""`/moderation/remove`: moderators take away what should not be here. Its owner, who is below them, is told why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import trio
from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors import listing_images
from veza.actors.commands import TakeDown
from veza.actors.errors import MESSAGE_NOT_FOUND, PERMISSION_DENIED, ROOM_NOT_FOUND, Refused, denied
from veza.actors.registry import Identity
from veza.db import removals as removals_db
from veza.db.audit import Act
from veza.db.removals import Why
from veza.http.api.access import address, requires
from veza.http.api.chat import Id, Reason, person, rooms
from veza.http.api.envelope import ApiError, forbidden, not_found, ok
from veza.http.api.intake import takes
from veza.http.api.models import one_line
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services
from veza.security.roles import above, at_least

removals = Blueprint("removals", __name__, url_prefix="/moderation")

_Removable = Literal["message", "track", "comment", "listing", "stream", "playlist", "avatar", "name", "bio"]
_GONE: Final[dict[str, tuple[str, str]]] = {
    "message": ("This message", "MESSAGE_NOT_FOUND"),
    "track": ("This track", "TRACK_NOT_FOUND"),
    "comment": ("This comment", "COMMENT_NOT_FOUND"),
    "listing": ("This listing", "LISTING_NOT_FOUND"),
    "stream": ("Such a stream that has not ended", "STREAM_NOT_FOUND"),
    "playlist": ("This playlist", "PLAYLIST_NOT_FOUND"),
    "avatar": ("A picture of this person", "AVATAR_NOT_FOUND"),
    "name": ("A name of this person", "NAME_NOT_FOUND"),
    "bio": ("Such a text of this person", "BIO_NOT_FOUND"),
}


class Removal(Struct, frozen=True):
    """Of an `avatar`, a `name` (first and last) or a `bio`, `target_id` is the person."""

    target_type: Annotated[
        _Removable,
        Meta(
            extra={"says": "Must be message, track, comment, listing, stream, playlist, avatar, name or bio."}
        ),
    ]
    target_id: Id
    reason: Reason | None = None
    report_id: Id | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from one_line("reason", self.reason)


@removals.post("/remove")
@requires("moderator")
@takes(Removal)
@answers()
@fails(404)
async def remove(identity: Identity, data: Removal) -> Response:
    """Take something away, wherever it is: people online see it go. A live stream ends.

    A report about it keeps what it said.
    """
    s = services()
    why = moderating(identity, data.reason or None, data.report_id)
    try:
        if not await _REMOVE[data.target_type](identity, data.target_id, why):
            raise _gone(data.target_type)
    finally:
        s.poke()
    return ok(message="It is gone.")


def moderating(identity: Identity, reason: str | None = None, report_id: int | None = None) -> Why:
    """Why a moderator takes away what is not his: only from people below him."""
    return Why(Act(identity.user_id, address()), reason, report_id, _check)


def _check(mine: str, theirs: str) -> None:
    if not at_least(mine, "moderator"):
        raise forbidden()
    if not above(mine, theirs):
        raise forbidden("This works only on people below you.")


def _gone(what: str) -> ApiError:
    return not_found(*_GONE[what])


async def _message(identity: Identity, message_id: int, why: Why) -> Any:
    room_id = await services().db.read(removals_db.room_of, message_id)
    if room_id is None:
        return False

    def check(mine: str, theirs: str) -> None:
        try:
            why.check(mine, theirs)
        except ApiError as error:  # of which rooms know nothing
            raise denied(error.message) from None

    wish = TakeDown(
        person=person(identity), id=message_id, why=Why(why.act, why.reason, why.report_id, check)
    )
    try:
        return await rooms().ask(room_id, wish)
    except Refused as refused:
        if refused.code == PERMISSION_DENIED:
            raise forbidden(refused.message) from None
        if refused.code in (MESSAGE_NOT_FOUND, ROOM_NOT_FOUND):
            return False
        raise


async def _track(identity: Identity, track_id: int, why: Why) -> Any:
    s = services()
    name = await s.db.write(removals_db.track, track_id, why)
    if name is None:
        return False
    if s.rooms is not None:
        s.rooms.track_changed(track_id)
    if s.processing is not None:
        s.processing.cancel(track_id)
    # Cancelled here, or killed, the files are found by the sweep: no row names them any more.
    await trio.to_thread.run_sync(s.library.remove_track, name)
    return True


async def _stream(identity: Identity, stream_id: int, why: Why) -> Any:
    s = services()
    if not await s.db.write(removals_db.stream, stream_id, why):
        return False
    if s.streams is None:
        raise ApiError(503, "UNAVAILABLE", "Live streams do not run here just now; try again.", retry_after=2)
    await s.streams.end(stream_id)
    return True


async def _comment(identity: Identity, comment_id: int, why: Why) -> Any:
    return await services().db.write(removals_db.comment, comment_id, why)


async def _listing(identity: Identity, listing_id: int, why: Why) -> Any:
    s = services()
    if not await s.db.write(removals_db.listing, listing_id, why):
        return False
    await listing_images.forget(s.db, s.listing_images, listing_id)
    return True


async def _playlist(identity: Identity, playlist_id: int, why: Why) -> Any:
    return await services().db.write(removals_db.playlist, playlist_id, why)


async def _name(identity: Identity, user_id: int, why: Why) -> Any:
    return await services().db.write(removals_db.name, user_id, why)


async def _bio(identity: Identity, user_id: int, why: Why) -> Any:
    return await services().db.write(removals_db.bio, user_id, why)


async def _avatar(identity: Identity, user_id: int, why: Why) -> Any:
    s = services()
    async with s.avatars.turn(user_id):
        if not await s.db.write(removals_db.avatar, user_id, why):
            return False
        await trio.to_thread.run_sync(s.avatars.keep_only, user_id, None)
    return True


_REMOVE: Final = {
    "message": _message,
    "track": _track,
    "comment": _comment,
    "listing": _listing,
    "stream": _stream,
    "playlist": _playlist,
    "avatar": _avatar,
    "name": _name,
    "bio": _bio,
}
