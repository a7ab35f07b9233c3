"""`/users/…`: whom one follows and whom one has blocked, and what somebody has put here.

A block acts at once: the two follow each other no longer, and a conversation of theirs that is running lets nothing
pass from then on. Who was blocked can neither follow, like nor comment (403 `BLOCKED`).
"""

from __future__ import annotations

from typing import Final

import trio
from msgspec import Struct
from quart import Blueprint, Response

from veza.actors.errors import BLOCKED
from veza.actors.registry import Identity
from veza.db import follows, track_social, users
from veza.db.tracks import Track
from veza.http.api.access import perhaps_signed_in, signed_in
from veza.http.api.chat import no_person
from veza.http.api.envelope import ApiError, bad_request, conflict, forbidden, ok
from veza.http.api.intake import takes_query
from veza.http.api.models import People
from veza.http.api.openapi import answers, fails
from veza.http.api.pages import KeyPaging, key_meta, numbers, stamp
from veza.http.api.services import services

social = Blueprint("social", __name__, url_prefix="/users")

_NEWS: Final = 5.0  # seconds a running conversation gets to hear of a block


class Following(Struct, frozen=True):
    """Whether one follows, and how many do."""

    is_following: bool
    follower_count: int


class Blocking(Struct, frozen=True):
    is_blocked: bool


class Muting(Struct, frozen=True):
    is_muted: bool


class Tracks(Struct, frozen=True):
    tracks: list[Track]


@social.put("/<id:user_id>/follow")
@signed_in
@answers(Following)
@fails(400, 403, 404, 409)
async def follow(user_id: int, identity: Identity) -> Response:
    """Follow somebody: new tracks and broadcasts of theirs come into one's feed."""
    if user_id == identity.user_id:
        raise bad_request("Nobody follows himself.")
    s = services()
    try:
        outcome = await s.db.write(follows.follow, identity.user_id, user_id, s.settings.follows_max)
    finally:
        s.poke()
    match outcome:
        case "nobody":
            raise no_person()
        case "blocked" | "blocking":
            raise blocked(outcome)
        case "full":
            raise conflict("TOO_MANY_FOLLOWS", f"Nobody follows more than {s.settings.follows_max} people.")
    return ok(await _standing(user_id, identity))


@social.delete("/<id:user_id>/follow")
@signed_in
@answers(Following)
@fails(404)
async def unfollow(user_id: int, identity: Identity) -> Response:
    """Follow somebody no longer."""
    s = services()
    if not await s.db.write(follows.unfollow, identity.user_id, user_id):
        await _must_exist(user_id)
    return ok(await _standing(user_id, identity))


@social.get("/<id:user_id>/followers")
@perhaps_signed_in
@takes_query(KeyPaging)
@answers(People, listing=True)
@fails(404)
async def list_followers(user_id: int, identity: Identity | None, query: KeyPaging) -> Response:
    """Who follows somebody, the newest first."""
    await _must_exist(user_id)
    return _people(await services().db.read(follows.followers, user_id, stamp(query), query.limit), query)


@social.get("/<id:user_id>/following")
@perhaps_signed_in
@takes_query(KeyPaging)
@answers(People, listing=True)
@fails(404)
async def list_following(user_id: int, identity: Identity | None, query: KeyPaging) -> Response:
    """Whom somebody follows, the newest first."""
    await _must_exist(user_id)
    return _people(await services().db.read(follows.following, user_id, stamp(query), query.limit), query)


@social.put("/<id:user_id>/block")
@signed_in
@answers(Blocking)
@fails(400, 404, 409)
async def block(user_id: int, identity: Identity) -> Response:
    """Block somebody. Neither follows the other any more, and no letter passes between the two."""
    if user_id == identity.user_id:
        raise bad_request("Nobody blocks himself.")
    s = services()
    try:
        outcome = await s.db.write(follows.block, identity.user_id, user_id, s.settings.blocks_max)
    finally:
        await _tell_of_block(identity.user_id, user_id)
    if outcome == "nobody":
        raise no_person()
    if outcome == "full":
        raise conflict("TOO_MANY_BLOCKS", f"Nobody blocks more than {s.settings.blocks_max} people.")
    return ok(Blocking(True))


@social.delete("/<id:user_id>/block")
@signed_in
@answers(Blocking)
@fails(404)
async def unblock(user_id: int, identity: Identity) -> Response:
    """Block somebody no longer. Who followed whom before does not come back."""
    try:
        done = await services().db.write(follows.unblock, identity.user_id, user_id)
    finally:
        await _tell_of_block(identity.user_id, user_id)
    if not done:
        await _must_exist(user_id)
    return ok(Blocking(False))


@social.get("/me/blocks")
@signed_in
@takes_query(KeyPaging)
@answers(People, listing=True)
async def list_blocks(identity: Identity, query: KeyPaging) -> Response:
    """Whom one has blocked, the newest first."""
    page = await services().db.read(follows.blocks, identity.user_id, stamp(query), query.limit)
    return _people(page, query)


@social.put("/<id:user_id>/mute")
@signed_in
@answers(Muting)
@fails(400, 404, 409)
async def mute(user_id: int, identity: Identity) -> Response:
    """Be told nothing any more of what somebody does. He does not learn of it, and may go on as before."""
    if user_id == identity.user_id:
        raise bad_request("Nobody mutes himself.")
    s = services()
    outcome = await s.db.write(follows.mute, identity.user_id, user_id, s.settings.blocks_max)
    if outcome == "nobody":
        raise no_person()
    if outcome == "full":
        raise conflict("TOO_MANY_MUTES", f"Nobody mutes more than {s.settings.blocks_max} people.")
    return ok(Muting(True))


@social.delete("/<id:user_id>/mute")
@signed_in
@answers(Muting)
@fails(404)
async def unmute(user_id: int, identity: Identity) -> Response:
    """Be told of it again from now on."""
    if not await services().db.write(follows.unmute, identity.user_id, user_id):
        await _must_exist(user_id)
    return ok(Muting(False))


@social.get("/me/mutes")
@signed_in
@takes_query(KeyPaging)
@answers(People, listing=True)
async def list_mutes(identity: Identity, query: KeyPaging) -> Response:
    """Whom one has muted, the newest first."""
    page = await services().db.read(follows.mutes, identity.user_id, stamp(query), query.limit)
    return _people(page, query)


@social.get("/me/likes")
@signed_in
@takes_query(KeyPaging)
@answers(Tracks, listing=True)
async def list_likes(identity: Identity, query: KeyPaging) -> Response:
    """The tracks one likes, the latest first; those one may no longer see are left out."""
    page = await services().db.read(track_social.liked, identity.user_id, stamp(query), query.limit)
    return ok(Tracks(page.tracks), meta=key_meta(query.limit, page.next))


@social.get("/<id:user_id>/tracks")
@perhaps_signed_in
@takes_query(KeyPaging)
@answers(Tracks, listing=True)
@fails(404)
async def tracks_of(user_id: int, identity: Identity | None, query: KeyPaging) -> Response:
    """Somebody's tracks, the newest first: the public ones that are ready; of one's own, all."""
    await _must_exist(user_id)
    place = numbers(query, 1)
    page = await services().db.read(
        track_social.of_person,
        user_id,
        None if identity is None else identity.user_id,
        None if place is None else place[0],
        query.limit,
    )
    return ok(Tracks(page.tracks), meta=key_meta(query.limit, page.next))


def blocked(outcome: str) -> ApiError:
    """403, for "blocked" and "blocking"."""
    if outcome == "blocking":
        return forbidden("You have blocked this person.", BLOCKED)
    return forbidden("This person has blocked you.", BLOCKED)


async def _must_exist(user_id: int) -> None:
    if await services().db.read(users.profile, user_id) is None:
        raise no_person()


async def _standing(user_id: int, identity: Identity) -> Following:
    ties = await services().db.read(follows.ties, user_id, identity.user_id)
    return Following(ties.is_following, ties.follower_count)


async def _tell_of_block(one: int, other: int) -> None:
    """Have a running conversation of the two know. Whatever became of the request: it may be stored all the same."""
    rooms = services().rooms
    if rooms is not None:
        with trio.move_on_after(_NEWS, shield=True):
            await rooms.blocks_changed(one, other)


def _people(page: follows.Page, query: KeyPaging) -> Response:
    return ok(People(page.people), meta=key_meta(query.limit, page.next))
