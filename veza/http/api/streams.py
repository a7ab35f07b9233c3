"""`/streams`: making, finding, changing, ending and deleting live streams; where to listen; their chat.

Their bytes pass elsewhere: sources and listeners speak to the door (`veza/http/live.py`) or to sockets. What is on air
the stream's actor knows better than the database, so answers take state, listeners and song from it.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import trio
from msgspec import UNSET, structs
from quart import Blueprint, Response

from veza.actors.commands import Enroll, Remove, Seclude, Update, Wish
from veza.actors.errors import CONFLICT, ROOM_NOT_FOUND, Refused
from veza.actors.registry import Identity
from veza.db import removals as removals_db
from veza.db import stream_lists
from veza.db import streams as streams_db
from veza.db.audit import Act
from veza.db.errors import Conflict
from veza.db.streams import Stream
from veza.http.api.access import address, perhaps_signed_in, signed_in
from veza.http.api.addresses import Site, site
from veza.http.api.chat import RoomShown, person, rooms, show_room
from veza.http.api.envelope import ApiError, conflict, created, forbidden, not_found, ok, page_meta
from veza.http.api.intake import takes, takes_query
from veza.http.api.openapi import answers, fails
from veza.http.api.removals import moderating
from veza.http.api.services import services
from veza.http.api.stream_forms import (
    Deletion,
    Listening,
    ListenQuery,
    MineQuery,
    NewStream,
    StreamChange,
    StreamKeyShown,
    StreamMade,
    StreamPageShown,
    StreamShown,
    StreamsQuery,
    StreamStats,
    shown_fields,
    source_settings,
)
from veza.security.roles import at_least
from veza.security.slugs import slug_of
from veza.security.stream_keys import hash_of, new_key

streams = Blueprint("streams", __name__, url_prefix="/streams")

_SLUG: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,42}")
_TRIES: Final = 5  # slugs are random: two in a row that are taken are unheard of


# Making and finding ----------------------------------------------------------------------------------


@streams.post("")
@signed_in
@takes(NewStream)
@answers(StreamMade, 201)
@fails(409)
async def create_stream(identity: Identity, data: NewStream) -> Response:
    """Make a stream. Its key and ready-to-paste settings for the source are shown this once."""
    s = services()
    key = new_key()
    for tries_left in reversed(range(_TRIES)):
        try:
            stream = await s.db.write(
                streams_db.create,
                identity.user_id,
                slug=slug_of(data.title),
                title=data.title,
                description=data.description or None,
                category=data.category,
                visibility=data.visibility,
                record=data.record,
                key_hash=hash_of(key),
                most_open=s.settings.streams_owned_max,
                most_kept=s.settings.streams_kept_max,
            )
            break
        except Conflict:
            if not tries_left:
                raise
        except streams_db.TooMany as many:
            raise _too_many(many) from None
    settings = source_settings(_site(), stream.slug, key, s.settings.rtmp_port)
    made = StreamMade(**_fields(stream), stream_key=key, source=settings)
    return created(made, location=f"/api/v1/streams/{stream.id}")


@streams.get("")
@perhaps_signed_in
@takes_query(StreamsQuery)
@answers(StreamPageShown, listing=True)
async def list_streams(identity: Identity | None, query: StreamsQuery) -> Response:
    """Public streams: those on air first, then the newest."""
    page = await services().db.read(
        stream_lists.listed,
        category=query.category,
        search=query.search or None,
        on_air=query.live,
        owner_id=query.owner,
        limit=query.limit,
        offset=query.offset,
    )
    shown = StreamPageShown([_shown(stream) for stream in page.streams], page.total)
    return ok(shown, meta=page_meta(query.page, query.limit, page.total))


@streams.get("/mine")
@signed_in
@takes_query(MineQuery)
@answers(StreamPageShown, listing=True)
async def my_streams(identity: Identity, query: MineQuery) -> Response:
    """All of one's own streams: those on air first, then the newest."""
    page = await services().db.read(stream_lists.of_owner, identity.user_id, query.limit, query.offset)
    shown = StreamPageShown([_shown(stream) for stream in page.streams], page.total)
    return ok(shown, meta=page_meta(query.page, query.limit, page.total))


# One stream ------------------------------------------------------------------------------------------


@streams.get("/<stream>")
@perhaps_signed_in
@answers(StreamShown)
@fails(404)
async def one_stream(stream: str, identity: Identity | None) -> Response:
    """A stream, by id or slug. An unlisted one is found by its slug only, a private one by its owner and the members
    of its room."""
    return ok(_shown(await _visible(stream, identity)))


@streams.put("/<stream>")
@signed_in
@takes(StreamChange)
@answers(StreamShown)
@fails(403, 404, 409)
async def change_stream(stream: str, identity: Identity, data: StreamChange) -> Response:
    """Change one's own stream; what is left out stays.

    Its room becomes public or private with it; whoever listened to one that becomes private must go.
    """
    found = await _own(stream, identity, "change")
    given = {name: value for name, value in structs.asdict(data).items() if value is not UNSET}
    if "description" in given:
        given["description"] = given["description"] or None
    wanted = str(given.get("visibility", found.visibility))
    await _align_room(found, identity, wanted)
    s = services()
    changed = await s.db.write(streams_db.change, found.id, streams_db.Change(frozenset(given), **given))
    if changed is None:
        raise _no_stream()
    if s.streams is not None:
        s.streams.changed(found.id)
    if wanted == "private":
        await _align_room(found, identity, wanted)  # once more: until now who had the link could still enter
    return ok(_shown(changed), message="Saved.")


@streams.delete("/<stream>")
@signed_in
@takes_query(Deletion)
@answers()
@fails(403, 404, 409)
async def delete_stream(stream: str, identity: Identity, query: Deletion) -> Response:
    """End one's own stream and delete it with its room; its recordings stay, as tracks. Moderators may delete those of
    people below them."""
    found = await _own(stream, identity, "delete", moderators=True)
    s = services()
    await _others(found, identity)
    await _end(found.id)
    if not query.discard and s.recordings is not None and await s.recordings.finished(found.id):
        raise conflict(
            "RECORDING_WAITING",
            "What was recorded cannot become a track: its owner has as many as one may have. Make room for it, or"
            " delete with discard=true.",
        )
    await _remove_room(found, identity)
    act = None if found.owner_id == identity.user_id else Act(identity.user_id, address())
    await s.db.write(streams_db.delete, found.id, act)
    if s.streams is not None:
        s.streams.changed(found.id)
    await trio.to_thread.run_sync(s.library.remove_recordings, found.id)
    return ok(message="The stream is gone.")


@streams.post("/<stream>/key")
@signed_in
@answers(StreamKeyShown)
@fails(403, 404, 409)
async def change_key(stream: str, identity: Identity) -> Response:
    """A new key, shown this once. The old one stops at once: who broadcasts with it is thrown off."""
    found = await _own(stream, identity, "change")
    s = services()
    key = new_key()
    if not await s.db.write(streams_db.set_key, found.id, hash_of(key)):
        raise conflict("STREAM_ENDED", "This stream has ended; make a new one to broadcast again.")
    if s.streams is not None:
        s.streams.changed(found.id)
    return ok(StreamKeyShown(key, source_settings(_site(), found.slug, key, services().settings.rtmp_port)))


@streams.post("/<stream>/end")
@signed_in
@answers(StreamShown)
@fails(403, 404)
async def end_stream(stream: str, identity: Identity) -> Response:
    """End one's own stream, for good. Moderators may end those of people below them.

    Ending one that has ended changes nothing.
    """
    found = await _own(stream, identity, "end", moderators=True)
    s = services()
    await _others(found, identity)
    await _end(found.id)
    now = await s.db.read(streams_db.by_id, found.id)
    if now is None:
        raise _no_stream()
    return ok(_shown(now), message="The stream has ended.")


@streams.get("/<stream>/stats")
@signed_in
@answers(StreamStats)
@fails(403, 404)
async def stats(stream: str, identity: Identity) -> Response:
    """How many listened to one's own stream, and when; what was recorded."""
    found = await _own(stream, identity, "see the figures of")
    s = services()
    curve = await s.db.read(stream_lists.curve, found.id)
    recordings = await s.db.read(stream_lists.recordings, found.id)
    shown = _shown(found)
    return ok(
        StreamStats(
            state=shown.state,
            listeners=shown.listeners,
            peak_listeners=shown.peak_listeners,
            listener_count=found.listener_count,
            listened_s=found.listened_s,
            bytes_in=found.bytes_in,
            started_at=shown.started_at,
            ended_at=shown.ended_at,
            curve=curve,
            recordings=recordings,
        )
    )


@streams.get("/<stream>/listen")
@perhaps_signed_in
@takes_query(ListenQuery)
@answers(Listening)
@fails(404)
async def listen(stream: str, identity: Identity | None, query: ListenQuery) -> Response:
    """Where to listen. The addresses of a private stream authorise themselves for some time, for any player."""
    found = await _visible(stream, identity)
    s = services()
    base, expires_at = f"/live/{found.slug}", None
    if found.visibility == "private":
        expires = int(time.time() + s.settings.media_url_lifetime)
        # Seen by somebody: nobody else sees a private one.
        base = s.signer.live_url(found.slug, expires, identity.user_id if identity is not None else None)
        expires_at = datetime.fromtimestamp(expires, UTC)
    paths = {"progressive": base, "hls": f"{base}/index.m3u8", "socket": f"/ws/stream/{found.slug}"}
    if query.absolute:
        here = _site()
        paths = {name: here.url(path, "ws" if name == "socket" else "http") for name, path in paths.items()}
    return ok(Listening(**paths, expires_at=expires_at))


@streams.post("/<stream>/chat")
@signed_in
@answers(RoomShown)
@fails(403, 404, 409)
async def enter_chat(stream: str, identity: Identity) -> Response:
    """Become a member of the stream's room, if one may hear the stream; a room that was deleted is made anew."""
    found = await _visible(stream, identity)
    room_id = found.room_id or await services().db.write(streams_db.open_room, found.id)
    if room_id is None:
        raise _no_stream()
    # Whoever sees the stream may enter; into a private one's room only its members get, who are inside already.
    await rooms().ask(room_id, Enroll(person=person(identity), invited=True))
    return ok(await show_room(identity.user_id, room_id))


# What they share -------------------------------------------------------------------------------------


async def _visible(stream: str, identity: Identity | None) -> Stream:
    """The stream as this person sees it. Raises ApiError 404."""
    key = _key(stream)
    reader = identity.user_id if identity is not None else None
    found = await services().db.read(streams_db.visible, key, reader) if key is not None else None
    if found is None:
        raise _no_stream()
    return found


async def _own(stream: str, identity: Identity, what: str, *, moderators: bool = False) -> Stream:
    """The asker's own stream; with `moderators` anybody's for those. Raises ApiError 404, or 403 where he sees it."""
    key = _key(stream)
    if key is not None and moderators and at_least(identity.role, "moderator"):
        found = await services().db.read(streams_db.any_stream, key)
        if found is not None:
            return found
    found = await _visible(stream, identity)
    if found.owner_id != identity.user_id:
        raise forbidden(f"Only its owner may {what} a stream.")
    return found


def _key(stream: str) -> int | str | None:
    """An id or a slug; None for what is neither."""
    if stream.isdecimal() and stream.isascii():
        number = int(stream[:20])
        return number if 0 < number < 2**63 else None
    return stream if _SLUG.fullmatch(stream) else None


async def _others(stream: Stream, identity: Identity) -> None:
    """Who ends what is not his moderates: only people below him, who are told. Raises ApiError."""
    if stream.owner_id != identity.user_id:
        s = services()
        try:
            await s.db.write(removals_db.stream, stream.id, moderating(identity))
        finally:
            s.poke()


async def _end(stream_id: int) -> None:
    """Raises Refused, Unavailable, ActorError."""
    s = services()
    if s.streams is not None:
        await s.streams.end(stream_id)
    else:
        await s.db.write(streams_db.ended, stream_id)


async def _align_room(stream: Stream, identity: Identity, visibility: str) -> None:
    """Make the stream's room public or private, as the stream is about to be; first, so that a refusal changes nothing.

    Whoever comes into the room of a private stream may hear it, so a room that becomes one keeps its moderators only.
    """
    if stream.room_id is None:
        return
    asker, private = person(identity), visibility != "public"
    wish: Wish
    if visibility == "private" and stream.visibility != "private":
        wish = Seclude(person=asker)
    elif private != (stream.visibility != "public"):
        wish = Update(person=asker, is_private=private, house=True)
    else:
        return
    try:
        await rooms().ask(stream.room_id, wish)
    except Refused as refused:
        if refused.code == CONFLICT:
            raise conflict("CONFLICT", "Another public room has the name of this stream's room.") from None
        if refused.code != ROOM_NOT_FOUND:  # somebody deleted it
            raise


async def _remove_room(stream: Stream, identity: Identity) -> None:
    if stream.room_id is None:
        return
    try:
        await rooms().ask(stream.room_id, Remove(person=person(identity), house=True))
    except Refused as refused:
        if refused.code != ROOM_NOT_FOUND:
            raise


def _site() -> Site:
    s = services()
    return site(s.settings, s.extra.get("port"))


def _fields(stream: Stream) -> dict[str, Any]:
    s = services()
    live = s.streams.glance(stream.id) if s.streams is not None else None
    if live is None:
        # Without an actor nobody listens; a stream that was on air when the server died waits for its source.
        return shown_fields(stream, stream.state, 0, None)
    state = stream.state if stream.state == "ended" else live.state
    # The row says what a source sends, and since when, a moment after the actor does.
    stream = structs.replace(
        stream,
        content_type=live.content_type or stream.content_type,
        started_at=stream.started_at or live.started_at,
    )
    return shown_fields(stream, state, live.listeners, live.song)


def _shown(stream: Stream) -> StreamShown:
    return StreamShown(**_fields(stream))


def _no_stream() -> ApiError:
    return not_found("This stream", "STREAM_NOT_FOUND")


def _too_many(many: streams_db.TooMany) -> ApiError:
    settings = services().settings
    if many.kept:
        return conflict(
            "TOO_MANY_STREAMS", f"Nobody has more than {settings.streams_kept_max} streams; delete old ones."
        )
    return conflict(
        "TOO_MANY_STREAMS",
        f"Nobody has more than {settings.streams_owned_max} streams that have not ended; end or delete one first.",
    )
