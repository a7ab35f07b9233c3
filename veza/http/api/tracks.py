"""`/tracks`: finding, hearing, changing and deleting them. Uploading is in `uploads.py`, what people say of them in
`comments.py`; their bytes are served by the room of files, at the signed addresses that are given out here."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import trio
from msgspec import Raw, Struct
from quart import Blueprint, Response, request

from veza.actors import track_rules
from veza.actors.registry import Identity
from veza.db import removals as removals_db
from veza.db import track_lists, track_plays
from veza.db import tracks as tracks_db
from veza.db.errors import DataRefused
from veza.db.track_lists import GenreCount, TagCount
from veza.db.track_plays import Day, Heard, Played, Totals
from veza.db.tracks import Track
from veza.http.api.access import perhaps_signed_in, rate_address, signed_in
from veza.http.api.addresses import site
from veza.http.api.envelope import forbidden, not_found, ok, page_meta, rate_limited
from veza.http.api.intake import takes, takes_query
from veza.http.api.openapi import answers, fails
from veza.http.api.removals import moderating
from veza.http.api.services import services
from veza.http.api.track_forms import (
    MyTracksQuery,
    Play,
    StatsQuery,
    StreamQuery,
    TagsQuery,
    TrackEdit,
    TracksQuery,
    no_track,
)
from veza.security.roles import at_least

tracks = Blueprint("tracks", __name__, url_prefix="/tracks")

ENOUGH_MS: Final = 30_000  # heard of a track in a day, to be a play
SHORT: Final = 0.95  # of a track shorter than that: players never report the last millisecond
WHOLE: Final = 0.8  # heard of a track, to have heard it to its end
_FOREVER: Final = "private, max-age=31536000, immutable"


class Tracks(Struct, frozen=True):
    """`total`: all that fit, counted up to 10,000."""

    tracks: list[Track]
    total: int


class Genres(Struct, frozen=True):
    genres: list[GenreCount]


class Tags(Struct, frozen=True):
    tags: list[TagCount]


class Peaks(Struct, frozen=True):
    """A waveform: the lowest and the highest sample (−128 … 127) in each of `points` equal parts of the track."""

    version: int
    points: int
    min: list[int]
    max: list[int]


class StreamUrls(Struct, frozen=True):
    """Addresses that need no login, until `expires_at`. `hls_url` is null as long as there are no renditions."""

    url: str
    hls_url: str | None
    expires_at: datetime
    content_type: str


class Stats(Struct, frozen=True):
    """`total` is of the days in `by_day`, `play_count` of all time. `completion`: the share of hearings that came to
    the end, 0 … 1."""

    play_count: int
    total: Totals
    completion: float
    by_day: list[Day]


# Finding -----------------------------------------------------------------------------------------------


@tracks.get("")
@perhaps_signed_in
@takes_query(TracksQuery)
@answers(Tracks, listing=True)
async def list_tracks(identity: Identity | None, query: TracksQuery) -> Response:
    """Tracks everybody may hear."""
    name = query.uploader or ""
    uploader = min(int(name), 2**63 - 1) if name.isascii() and name.isdigit() else name or None
    wanted = track_lists.Wanted(
        search=query.search or None,
        tags=tuple(track_rules.tags(query.tags or "")),
        genre=track_rules.one_line(query.genre or "") or None,
        artist=track_rules.one_line(query.artist or "") or None,
        uploader=uploader,
    )
    reader = identity.user_id if identity is not None else None
    page = await services().db.read(track_lists.listed, reader, wanted, query.sort, query.limit, query.offset)
    return ok(Tracks(page.tracks, page.total), meta=page_meta(query.page, query.limit, page.total))


@tracks.get("/my")
@signed_in
@takes_query(MyTracksQuery)
@answers(Tracks, listing=True)
async def my_tracks(identity: Identity, query: MyTracksQuery) -> Response:
    """One's own tracks, the newest first, whatever their state."""
    page = await services().db.read(
        track_lists.mine, identity.user_id, query.status, query.limit, query.offset
    )
    return ok(Tracks(page.tracks, page.total), meta=page_meta(query.page, query.limit, page.total))


@tracks.get("/genres")
@perhaps_signed_in
@answers(Genres)
async def genres(identity: Identity | None) -> Response:
    """The genres of the newest 3,000 tracks, the most frequent first."""
    return ok(Genres(await services().db.read(track_lists.genres)))


@tracks.get("/tags")
@perhaps_signed_in
@takes_query(TagsQuery)
@answers(Tags)
async def tags(identity: Identity | None, query: TagsQuery) -> Response:
    """The tags of the newest 3,000 tracks, the most frequent first."""
    beginning = track_rules.one_line(query.search or "").lower()
    return ok(Tags(await services().db.read(track_lists.tags, beginning, query.limit)))


# One track ---------------------------------------------------------------------------------------------


@tracks.get("/<id:track_id>")
@perhaps_signed_in
@answers(Track)
@fails(404)
async def one_track(track_id: int, identity: Identity | None) -> Response:
    """A track; one's own whatever its state."""
    return ok(await _visible(track_id, identity))


@tracks.put("/<id:track_id>")
@signed_in
@takes(TrackEdit)
@answers(Track)
@fails(403, 404)
async def change_track(track_id: int, identity: Identity, data: TrackEdit) -> Response:
    """Change what is said of one's own track; what is left out stays."""
    s = services()
    changed = await s.db.write(tracks_db.update, track_id, identity.user_id, data.change())
    if changed is None:
        await _visible(track_id, identity)
        raise forbidden("Only its owner changes a track.")
    if s.rooms is not None:
        s.rooms.track_changed(track_id)
    return ok(changed, message="Saved.")


@tracks.delete("/<id:track_id>")
@signed_in
@answers()
@fails(403, 404)
async def delete_track(track_id: int, identity: Identity) -> Response:
    """Delete one's own track with its files, for ever. Moderators may delete those of people below them.

    Whoever is hearing it at this moment hears it to the end.
    """
    s = services()
    name = await s.db.write(tracks_db.delete, track_id, identity.user_id)
    if name is None and at_least(identity.role, "moderator"):
        try:
            name = await s.db.write(removals_db.track, track_id, moderating(identity))
        finally:
            s.poke()
    if name is None:
        await _visible(track_id, identity)
        raise forbidden("Only its owner deletes a track.")
    if s.rooms is not None:
        s.rooms.track_changed(track_id)
    _tell_rooms(track_id)
    if s.processing is not None:
        s.processing.cancel(track_id)
    # Cancelled here, or killed, the files are found by the sweep: no row names them any more.
    await trio.to_thread.run_sync(s.library.remove_track, name)
    return ok(message="The track is gone.")


# Hearing -----------------------------------------------------------------------------------------------


@tracks.get("/<id:track_id>/stream")
@perhaps_signed_in
@takes_query(StreamQuery)
@answers(StreamUrls)
@fails(404)
async def stream(track_id: int, identity: Identity | None, query: StreamQuery) -> Response:
    """Where the bytes of a track are: addresses that authorise themselves, for any player."""
    track = await _visible(track_id, identity)
    s = services()
    expires = _expiry()
    found = [s.signer.stream_url(track.name, expires)]
    if track.has_hls:
        found.append(s.signer.hls_url(track.name, expires))
    if query.absolute:
        here = site(s.settings)
        found = [here.url(path) for path in found]
    urls = StreamUrls(
        url=found[0],
        hls_url=found[1] if track.has_hls else None,
        expires_at=datetime.fromtimestamp(expires, UTC),
        content_type=track.content_type,
    )
    return ok(urls)


@tracks.get("/<id:track_id>/download")
@perhaps_signed_in
@answers(status=302)
@fails(404)
async def download(track_id: int, identity: Identity | None) -> Response:
    """The file as it was uploaded: leads to an address that offers it under its own name."""
    track = await _visible(track_id, identity)
    location = f"{services().signer.stream_url(track.name, _expiry())}&download=1"
    return ok({"url": location}, status=302, headers={"Location": location})


@tracks.get("/<id:track_id>/peaks")
@perhaps_signed_in
@answers(Peaks)
@fails(404)
async def peaks(track_id: int, identity: Identity | None) -> Response:
    """The waveform of a track. It never changes and may be kept."""
    track = await _visible(track_id, identity)

    def answer(data: bytes) -> Response:
        return ok(Raw(data))

    return await _kept(services().library.peaks(track.name), "A waveform of this track", answer)


@tracks.get("/<id:track_id>/cover")
@perhaps_signed_in
@answers(content_type="image/webp")
@fails(404)
async def cover(track_id: int, identity: Identity | None) -> Response:
    """The picture that came with a track."""
    track = await _visible(track_id, identity)
    what = "A cover of this track"
    if not track.has_cover:
        raise not_found(what)

    def answer(data: bytes) -> Response:
        return Response(data, content_type="image/webp")

    return await _kept(services().library.cover(track.name), what, answer)


@tracks.post("/<id:track_id>/play")
@perhaps_signed_in
@takes(Play)
@answers(Played)
@fails(404)
async def play(track_id: int, identity: Identity | None, data: Play) -> Response:
    """Tell that one has heard a track, or a part of it.

    It counts once a listener and day (UTC), as soon as 30 seconds were heard, or all of a shorter track. Without a
    login the listener is a keyed hash of track, day and address, which says nothing of the address.
    """
    s = services()
    here = rate_address()
    if wait := s.play_rates.take(identity.user_id if identity is not None else here):
        raise rate_limited(wait)
    track = await _visible(track_id, identity)
    today = datetime.now(UTC).date()
    listened = round(data.listened_s * 1000)
    whole = ENOUGH_MS
    enough = ENOUGH_MS
    if track.duration_ms:
        listened = min(listened, track.duration_ms)
        enough = min(ENOUGH_MS, round(SHORT * track.duration_ms))
        whole = round(WHOLE * track.duration_ms)
    heard = Heard(
        track_id=track.id,
        day=today,
        listener=_listener(identity, track.id, today, here),
        user_id=identity.user_id if identity is not None else None,
        listened_ms=listened,
        enough_ms=enough,
        whole_ms=whole if data.completed else None,
    )
    try:
        played = await s.db.write(track_plays.record, heard)
    except DataRefused:
        raise no_track() from None  # deleted at this very moment
    return ok(played)


@tracks.get("/<id:track_id>/stats")
@signed_in
@takes_query(StatsQuery)
@answers(Stats)
@fails(403, 404)
async def stats(track_id: int, identity: Identity, query: StatsQuery) -> Response:
    """How often one's own track is heard, day by day."""
    track = await _visible(track_id, identity)
    if track.owner.id != identity.user_id:
        raise forbidden("Only its owner sees how a track is heard.")
    today = datetime.now(UTC).date()
    first = today - timedelta(days=query.days - 1)
    days, total = await services().db.read(track_plays.by_day, track_id, first, today)
    hearings = sum(day.listeners for day in days)
    completion = round(total.completed / hearings, 4) if hearings else 0.0
    return ok(Stats(track.play_count, total, completion, days))


async def _visible(track_id: int, identity: Identity | None) -> Track:
    """The track as this person sees it. Raises ApiError 404."""
    reader = identity.user_id if identity is not None else None
    track = await services().db.read(tracks_db.visible, track_id, reader)
    if track is None:
        raise no_track()
    return track


def _tell_rooms(track_id: int) -> None:
    """Rooms that play it to all must know what it is called now, or that it is gone."""
    rooms = services().rooms
    if rooms is not None:
        rooms.track_changed(track_id)


def _expiry() -> int:
    return int(time.time() + services().settings.media_url_lifetime)


def _listener(identity: Identity | None, track_id: int, day: date, here: str) -> str:
    """Who hears it, as it is stored: see `veza.db.track_plays`."""
    if identity is not None:
        return f"u{identity.user_id}"
    message = f"listener/{track_id}/{day.isoformat()}/{here}".encode()
    return "a" + hmac.digest(services().settings.secret_key.encode(), message, "sha256").hex()[:32]


async def _kept(path: Path, what: str, answer: Callable[[bytes], Response]) -> Response:
    """A small file that never changes, with what it takes to ask for it only once."""
    try:
        info = await trio.Path(path).stat()
        etag = f"{info.st_mtime_ns:x}-{info.st_size:x}"
        fresh = etag in request.if_none_match
        response = Response(b"", status=304) if fresh else answer(await trio.Path(path).read_bytes())
    except FileNotFoundError:
        raise not_found(what) from None
    response.set_etag(etag)
    response.headers["Cache-Control"] = _FOREVER
    return response
