"""`/tracks/{id}/…`: likes, reposts, and what people say at a moment of a track.

A track that one may not see does not exist (404). Who was blocked by its owner, or has blocked him, can look, listen
and take back what he did before, but do nothing new (403 `BLOCKED`). Comments count as messages, so more ways to speak
give no more words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors import rules
from veza.actors.registry import Identity
from veza.db import follows, track_social, tracks
from veza.db import removals as removals_db
from veza.db.track_social import Comment, Kind, Mark
from veza.http.api.access import perhaps_signed_in, signed_in
from veza.http.api.envelope import ApiError, created, forbidden, invalid, not_found, ok
from veza.http.api.intake import takes, takes_query
from veza.http.api.messages import count_message
from veza.http.api.models import NO_CONTROL, People
from veza.http.api.openapi import answers, fails
from veza.http.api.pages import KeyPaging, key_meta, numbers, stamp
from veza.http.api.removals import moderating
from veza.http.api.services import services
from veza.http.api.social import blocked
from veza.security.roles import at_least

comments = Blueprint("comments", __name__, url_prefix="/tracks")

_LENGTH_SAYS: Final = "Must have 1 to 1000 characters."
_MILLISECONDS: Final = Meta(
    ge=0, le=2**53, extra={"says": "Must be a whole number of milliseconds, 0 or more."}
)


class Liked(Struct, frozen=True):
    """Whether one likes the track, and how many do."""

    liked: bool
    like_count: int


class Reposted(Struct, frozen=True):
    """Whether one has passed the track on, and how many have."""

    reposted: bool
    repost_count: int


class NewComment(Struct, frozen=True):
    """`at_ms`: the moment of the track it is about."""

    content: Annotated[str, Meta(max_length=10_000, extra={"says": _LENGTH_SAYS, "trim": True})]
    at_ms: Annotated[int, _MILLISECONDS] = 0

    @property
    def text(self) -> str:
        return self.content.replace("\r\n", "\n")

    def check(self) -> Iterator[tuple[str, str]]:
        if not 1 <= len(self.text) <= 1000:
            yield "content", _LENGTH_SAYS
        elif rules.holds_control(self.text):
            yield "content", NO_CONTROL


class CommentsQuery(KeyPaging, frozen=True, kw_only=True):
    """`time` is the order of the music; asked for a stretch of it (`from_ms` up to, not including, `to_ms`) it is the
    only order there is."""

    sort: Literal["new", "time"] = "new"
    from_ms: Annotated[int, _MILLISECONDS] | None = None
    to_ms: Annotated[int, _MILLISECONDS] | None = None

    @property
    def timed(self) -> bool:
        return self.sort == "time" or self.from_ms is not None or self.to_ms is not None


class Comments(Struct, frozen=True):
    comments: list[Comment]


@comments.put("/<id:track_id>/like")
@signed_in
@answers(Liked)
@fails(403, 404)
async def like(track_id: int, identity: Identity) -> Response:
    """Like a track."""
    marked = await _mark("like", track_id, identity, True)
    return ok(Liked(True, marked.like_count))


@comments.delete("/<id:track_id>/like")
@signed_in
@answers(Liked)
@fails(404)
async def unlike(track_id: int, identity: Identity) -> Response:
    """Take one's like back."""
    marked = await _mark("like", track_id, identity, False)
    return ok(Liked(False, marked.like_count))


@comments.get("/<id:track_id>/likes")
@perhaps_signed_in
@takes_query(KeyPaging)
@answers(People, listing=True)
@fails(404)
async def list_likes(track_id: int, identity: Identity | None, query: KeyPaging) -> Response:
    """Who likes a track, the newest first."""
    db = services().db
    track = await db.read(tracks.visible, track_id, None if identity is None else identity.user_id)
    if track is None:
        raise no_track()
    page = await db.read(follows.likers, track_id, stamp(query), query.limit)
    return ok(People(page.people), meta=key_meta(query.limit, page.next, track.like_count))


@comments.put("/<id:track_id>/repost")
@signed_in
@answers(Reposted)
@fails(403, 404)
async def repost(track_id: int, identity: Identity) -> Response:
    """Pass a track on to those who follow one."""
    marked = await _mark("repost", track_id, identity, True)
    return ok(Reposted(True, marked.repost_count))


@comments.delete("/<id:track_id>/repost")
@signed_in
@answers(Reposted)
@fails(404)
async def take_repost_back(track_id: int, identity: Identity) -> Response:
    """Pass it on no longer."""
    marked = await _mark("repost", track_id, identity, False)
    return ok(Reposted(False, marked.repost_count))


@comments.get("/<id:track_id>/comments")
@perhaps_signed_in
@takes_query(CommentsQuery)
@answers(Comments, listing=True)
@fails(404)
async def list_comments(track_id: int, identity: Identity | None, query: CommentsQuery) -> Response:
    """What was said about a track, the newest first or in the order of the music.

    `total` counts all comments of the track. What people say whom one has blocked is left out.
    """
    db = services().db
    reader = None if identity is None else identity.user_id
    if query.timed:
        place = numbers(query, 2)
        page = await db.read(
            track_social.timed_comments,
            track_id,
            reader,
            query.from_ms or 0,
            query.to_ms,
            None if place is None else (place[0], place[1]),
            query.limit,
        )
    else:
        place = numbers(query, 1)
        page = await db.read(
            track_social.newest_comments,
            track_id,
            reader,
            None if place is None else place[0],
            query.limit,
        )
    if page is None:
        raise no_track()
    return ok(Comments(page.comments), meta=key_meta(query.limit, page.next, page.total))


@comments.post("/<id:track_id>/comments")
@signed_in
@takes(NewComment)
@answers(Comment, 201)
@fails(403, 404)
async def add_comment(track_id: int, identity: Identity, data: NewComment) -> Response:
    """Say something at a moment of a track."""
    count_message(identity)
    s = services()
    try:
        made = await s.db.write(track_social.comment, track_id, identity.user_id, data.text, data.at_ms)
    finally:
        s.poke()
    if isinstance(made, Comment):
        return created(made)
    match made:
        case "gone":
            raise no_track()
        case "late":
            raise invalid({"at_ms": "Must be within the track."})
    raise blocked(made)


@comments.delete("/<id:track_id>/comments/<id:comment_id>")
@signed_in
@answers()
@fails(403, 404)
async def remove_comment(track_id: int, comment_id: int, identity: Identity) -> Response:
    """Delete a comment: its author, the track's owner, and moderators above its author may."""
    s = services()
    outcome = await s.db.write(track_social.remove_comment, track_id, comment_id, identity.user_id)
    if outcome != "done" and at_least(identity.role, "moderator"):
        try:
            if await s.db.write(removals_db.comment, comment_id, moderating(identity), track_id):
                outcome = "done"
        finally:
            s.poke()
    if outcome == "gone":
        raise not_found("This comment", "COMMENT_NOT_FOUND")
    if outcome == "denied":
        raise forbidden("Only its author and the track's owner may delete a comment.")
    return ok(message="The comment is gone.")


def no_track() -> ApiError:
    return not_found("This track", "TRACK_NOT_FOUND")


async def _mark(kind: Kind, track_id: int, identity: Identity, on: bool) -> Mark:
    unit = track_social.mark if on else track_social.unmark
    s = services()
    try:
        marked = await s.db.write(unit, kind, track_id, identity.user_id)
    finally:
        s.poke()
    if marked.outcome == "gone":
        raise no_track()
    if marked.outcome != "done":
        raise blocked(marked.outcome)
    return marked
