"""`POST /tracks`: a file in a form, streamed to the disk as it comes, looked at, and made a track.

Whatever goes wrong on the way, nothing of it stays: the file lies among those that arrive until it has its row, and
goes with the request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

from msgspec import structs

from veza.actors.registry import Identity
from veza.actors.rules import refuse_silenced
from veza.actors.track_intake import TooManyTracks, take_in
from veza.actors.upload_desk import TooMany
from veza.db import tracks
from veza.db.tracks import Track
from veza.http.api import spool
from veza.http.api.envelope import ApiError, conflict, rate_limited
from veza.http.api.multipart import OVERHEAD, FormReader, boundary_of, too_large
from veza.http.api.openapi import answers, describe, fails
from veza.http.api.services import Services
from veza.http.api.track_forms import TrackFields, Words, read_fields, words
from veza.http.rawasgi import Answer, Call, Route, success
from veza.media.checking import NotMedia

FILE_PARTS: Final = ("file", "audio")


@answers(Track, 201)
@fails(400, 409, 413, 415, 507)
async def upload_track(call: Call) -> Answer:
    """Upload a track.

    A form with one file, in the part `file` or `audio`; parts may come in any order. It is answered as soon as the file
    is stored and known to be audio or video: the track is `processing` then, and tells when it is `ready` by
    notifications, or by asking again. Too large a file is refused as soon as that shows.
    """
    identity, s = call.user(), call.services
    limit = s.settings.upload_limit
    boundary = boundary_of(call.header("content-type"))
    if call.length is not None and call.length > limit + OVERHEAD:
        raise too_large(limit)
    await may_have_more(s, identity)
    with told(), s.desk.under_way(identity.user_id, s.settings.uploads_per_user):
        reserve = s.settings.upload_reserve
        async with spool.open_spool(s.library.incoming, reserve=reserve, expected=call.length) as file:
            form = FormReader(boundary, FILE_PARTS, limit)
            await _receive(call, form, file, limit + OVERHEAD)
            part = form.finish()
            said = words(read_fields(form.fields), part.filename)
            await file.flush()
            track = await make_track(s, identity, file.path, file.size, said)
    return created(track)


async def _receive(call: Call, form: FormReader, file: spool.Spool, most: int) -> None:
    """All of the body, the file's bytes to the disk. `most`: bytes of all together."""
    seen = False
    total = 0
    while data := await call.read():
        total += len(data)
        if total > most:  # behind the last boundary, where a form may go on with what means nothing
            raise too_large(call.services.settings.upload_limit)
        pieces = form.feed(data)
        if form.file is not None and not seen:
            seen = True
            read_fields(form.fields)  # what is wrong before the file is told before the file
        await file.write(pieces)


async def make_track(
    s: Services, identity: Identity, path: Path, size: int, said: Words, upload_id: UUID | None = None
) -> Track:
    """Make a track of a file that has arrived; it stays where it is when anything is raised.

    Raises:
        ApiError: 415, it is no audio or video; 409, its owner has too many tracks.
        AuthFailed: its owner was barred in the meantime.
        Refused: its owner was muted in the meantime.
    """
    if not size:
        raise not_media("The file is empty.")
    try:
        checked = await s.desk.check(path)
    except NotMedia as error:
        raise not_media(error.reason) from None
    # The token may have run out while the file came; whoever was banned or muted meanwhile is another matter.
    confirmed = await s.registry.confirm(structs.replace(identity, expires_at=float("inf")))
    refuse_silenced(confirmed.muted_until)
    try:
        return await take_in(
            s.db,
            s.library,
            s.processing,
            owner_id=identity.user_id,
            path=path,
            checked=checked,
            title=said.title,
            artist=said.artist,
            album=said.album,
            genre=said.genre,
            description=said.description,
            tags=said.tags,
            is_public=said.is_public,
            filename=said.filename,
            most=s.settings.tracks_owned_max,
            upload_id=upload_id,
        )
    except TooManyTracks:
        raise too_many_tracks(s.settings.tracks_owned_max) from None


async def may_have_more(s: Services, identity: Identity) -> None:
    """Refuse before the first byte what could not become a track in the end. Raises ApiError 409."""
    most = s.settings.tracks_owned_max
    if not await s.db.read(tracks.room_left, identity.user_id, most):
        raise too_many_tracks(most)


def created(track: Track) -> Answer:
    return success(
        track,
        status=201,
        message="The track is stored and is being processed.",
        headers={"location": f"/api/v1/tracks/{track.id}"},
    )


def not_media(reason: str) -> ApiError:
    return ApiError(415, "NOT_MEDIA", reason)


def storage_full() -> ApiError:
    return ApiError(507, "INSUFFICIENT_STORAGE", "The server has no room for this file.")


def too_many_tracks(most: int) -> ApiError:
    return conflict("TOO_MANY_TRACKS", f"Nobody has more than {most} tracks; delete one first.")


def too_many_uploads() -> ApiError:
    wait = rate_limited(10, "You have too many uploads under way; let one end first.")
    wait.code = "TOO_MANY_UPLOADS"
    return wait


@contextlib.contextmanager
def told() -> Iterator[None]:
    """What goes wrong below, as it is told."""
    try:
        yield
    except TooMany:
        raise too_many_uploads() from None
    except spool.StorageFull:
        raise storage_full() from None
    except OSError as error:
        if spool.is_full(error):
            raise storage_full() from None
        raise


_note = describe(upload_track)
_note.login, _note.form, _note.files = True, TrackFields, FILE_PARTS

UPLOAD_ROUTES: Final = (Route(method="POST", path="/api/v1/tracks", handler=upload_track, tag="tracks"),)
