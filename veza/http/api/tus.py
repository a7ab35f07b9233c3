"""`/uploads`: resumable uploads by the tus protocol 1.0 (https://tus.io/protocols/resumable-upload), for long files and
bad lines.

What has arrived is what the file holds, whatever happened to client, line or server; so the file's length is the only
offset there is. One request at a time writes to an upload, others get 423. Once all of it is there the file is looked
at and becomes a track, in one transaction with the upload's row: a lost answer is asked for again and is the same.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import secrets
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import trio
from msgspec import Struct

from veza.actors.registry import Identity
from veza.actors.upload_desk import Busy, file_of, remove_file
from veza.db import tracks
from veza.db import uploads as uploads_db
from veza.db.tracks import Track
from veza.db.uploads import Upload
from veza.http.api import spool
from veza.http.api.envelope import ApiError, bad_request, invalid, not_found, translate
from veza.http.api.multipart import too_large
from veza.http.api.openapi import answers, describe, fails
from veza.http.api.services import Services
from veza.http.api.track_forms import read_fields, words
from veza.http.api.uploads import make_track, may_have_more, told, too_many_uploads
from veza.http.rawasgi import Answer, Call, Gone, Handler, Route, success

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,expiration,checksum,termination"
BODY: Final = "application/offset+octet-stream"
TRACK_HEADER: Final = "Veza-Track-Id"
ALGORITHMS: Final = ("sha1", "sha256", "md5")
METADATA_KEYS: Final = 32
BASE: Final = "/api/v1/uploads"
_NUMBER: Final = re.compile(r"\d{1,15}", re.ASCII)
_KEY: Final = re.compile(r"[!-+\--~]{1,64}", re.ASCII)  # printable, no space, no comma
_RESUMABLE: Final = {"Tus-Resumable": VERSION}


class UploadShown(Struct, frozen=True):
    """How far an upload is: `offset` of `length` bytes. `track` once it has become one."""

    id: str
    offset: int
    length: int
    metadata: dict[str, str]
    expires_at: datetime
    track: Track | None


def _tus(handler: Handler) -> Handler:
    """A handler of the protocol: it checks the version, and says its own with every answer."""

    @functools.wraps(handler)
    async def wrapper(call: Call) -> Answer:
        try:
            if call.header("tus-resumable") != VERSION:
                raise ApiError(
                    412,
                    "TUS_VERSION",
                    f"This is tus {VERSION}: send Tus-Resumable: {VERSION}.",
                    headers={"Tus-Version": VERSION},
                )
            answer = await handler(call)
        except Exception as error:
            known = translate(error)
            if known is None:
                raise
            known.headers.setdefault("Tus-Resumable", VERSION)
            raise known from None
        return Answer(answer.status, answer.body, (*answer.headers, *_RESUMABLE.items()))

    note = describe(wrapper)
    note.login = True
    note.headers_in["Tus-Resumable"] = f"`{VERSION}`"
    note.headers_out["Tus-Resumable"] = f"`{VERSION}`"
    return wrapper


# The protocol ------------------------------------------------------------------------------------------


@answers(status=204)
async def offer(call: Call) -> Answer:
    """What of the tus protocol is spoken here."""
    headers = {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(call.services.settings.upload_limit),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return Answer(204, headers=tuple(headers.items()))


@_tus
@answers(UploadShown, 201)
@fails(400, 409, 412, 413, 415, 507)
async def announce(call: Call) -> Answer:
    """Announce a resumable upload (tus creation).

    `Upload-Metadata` may say `filename` (or `name`), `title`, `artist`, `album`, `genre`, `tags`, `description` and
    `is_public`. The body may hold the first bytes, as `application/offset+octet-stream`. A whole file at once is
    answered with its track.
    """
    identity, s = call.user(), call.services
    if call.header("upload-defer-length") is not None:
        raise bad_request("The length must be known from the beginning: send Upload-Length.")
    length = _number(call, "upload-length")
    limit = s.settings.upload_limit
    if length > limit:
        raise too_large(limit)
    if not length:
        raise ApiError(415, "NOT_MEDIA", "The file is empty.")
    metadata = _metadata(call.header("upload-metadata"))
    _said(metadata)  # what is wrong with it is told now, not after an hour
    await may_have_more(s, identity)
    if not await spool.room_for(s.library.resumable, length + s.settings.upload_reserve):
        raise ApiError(507, "INSUFFICIENT_STORAGE", "The server has no room for this file.")
    upload_id = UUID(bytes=secrets.token_bytes(16), version=4)
    with told():
        await trio.to_thread.run_sync(_create, file_of(s.library, upload_id))
    upload = None
    try:
        upload = await s.db.write(
            uploads_db.create_within,
            s.settings.uploads_per_user,
            upload_id,
            identity.user_id,
            length,
            metadata,
            s.settings.upload_lifetime,
        )
    finally:
        if upload is None:
            with trio.CancelScope(shield=True):
                await remove_file(s.library, upload_id)
    if upload is None:
        raise too_many_uploads()
    offset, track = 0, None
    if call.header("content-type") == BODY:
        with _held(s, upload):
            offset = await _append(call, upload, 0)
            if offset == length:
                track = await _finish(s, identity, upload)
    headers = {"location": f"{BASE}/{upload_id}", **_progress(offset, upload.expires_at, track)}
    return success(_shown(upload, offset, track), status=201, headers=headers)


@_tus
@answers()
@fails(404, 410, 412)
async def progress(call: Call) -> Answer:
    """How far an upload is (tus core): `Upload-Offset` of `Upload-Length`."""
    upload, offset, track = await _look(call)
    headers = {
        "Upload-Length": str(upload.length),
        "Cache-Control": "no-store",
        **_progress(offset, upload.expires_at, track),
    }
    if given := upload.metadata.get(_AS_SENT):
        headers["Upload-Metadata"] = given
    return Answer(200, headers=tuple(headers.items()))


@_tus
@answers(Track)
@fails(400, 404, 409, 410, 412, 413, 415, 423, 460, 507)
async def go_on(call: Call) -> Answer:
    """Send the next bytes of an upload (tus core); `Upload-Offset` says where they belong.

    Answered with 204 and the new `Upload-Offset`. The last bytes make the track: then `Veza-Track-Id` is its id, and
    who accepts `application/json` is answered with 200 and the track itself.
    """
    identity, s = call.user(), call.services
    if call.header("content-type") != BODY:
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the bytes as {BODY}.")
    given = _number(call, "upload-offset")
    upload = await _upload(call)
    with _held(s, upload):
        upload = await _upload(call)  # as it is now that nobody else changes it
        if upload.track_id is not None:
            offset, track = upload.length, await s.db.read(tracks.visible, upload.track_id, upload.user_id)
        else:
            offset, track = await _offset(s, upload), None
        if given != offset:
            raise ApiError(
                409,
                "OFFSET_CONFLICT",
                "The upload is not there: ask how far it is.",
                details={"offset": offset},
                headers={"Upload-Offset": str(offset)},
            )
        if track is None and upload.track_id is None:
            offset = await _append(call, upload, offset)
            kept = await s.db.write(uploads_db.prolong, upload.id, s.settings.upload_lifetime)
            if kept is None:
                raise _no_upload()
            if offset == upload.length:
                track = await _finish(s, identity, upload)
        else:
            kept = upload.expires_at
    headers = _progress(offset, kept, track)
    if track is not None and "application/json" in (call.header("accept") or ""):
        return success(track, message="The track is stored and is being processed.", headers=headers)
    return Answer(204, headers=tuple(headers.items()))


@_tus
@answers(status=204)
@fails(404, 410, 412, 423)
async def give_up(call: Call) -> Answer:
    """Give an upload up (tus termination): what has arrived is removed. A track it has become stays."""
    s = call.services
    upload = await _upload(call)
    with _held(s, upload):
        await s.db.write(uploads_db.remove, [upload.id])
        await remove_file(s.library, upload.id)
    return Answer(204)


@_tus
async def override(call: Call) -> Answer:
    """Another method, for clients whose surroundings know only POST (tus core, X-HTTP-Method-Override)."""
    other = (call.header("x-http-method-override") or "").upper()
    handler = {"PATCH": go_on, "DELETE": give_up, "HEAD": progress}.get(other)
    if handler is None:
        raise ApiError(
            405,
            "METHOD_NOT_ALLOWED",
            "This method is not possible here.",
            headers={"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH"},
        )
    return await handler(call)


@answers(UploadShown)
@fails(404, 410)
async def show(call: Call) -> Answer:
    """How far an upload is, and the track it has become, as JSON: beside the protocol."""
    upload, offset, track = await _look(call)
    return success(_shown(upload, offset, track))


# What the handlers are made of -------------------------------------------------------------------------


async def _upload(call: Call) -> Upload:
    """The upload of this address. Raises ApiError: 404, this person has none; 410, it was kept long enough."""
    identity, s = call.user(), call.services
    try:
        upload_id = UUID(call.parameters["upload"])
    except ValueError:
        raise _no_upload() from None
    upload = await s.db.read(uploads_db.of_user, upload_id, identity.user_id)
    if upload is None:
        raise _no_upload()
    if upload.expires_at <= datetime.now(UTC):
        raise ApiError(410, "UPLOAD_EXPIRED", "This upload was not finished in time and is gone.")
    return upload


async def _look(call: Call) -> tuple[Upload, int, Track | None]:
    upload = await _upload(call)
    s = call.services
    if upload.track_id is not None:
        return upload, upload.length, await s.db.read(tracks.visible, upload.track_id, upload.user_id)
    return upload, await _offset(s, upload), None


async def _offset(s: Services, upload: Upload) -> int:
    """How far it is. Raises ApiError 410: its file is lost."""
    try:
        found = await trio.Path(file_of(s.library, upload.id)).stat()
    except FileNotFoundError:
        raise ApiError(410, "UPLOAD_EXPIRED", "This upload is gone; begin anew.") from None
    return found.st_size


@contextlib.contextmanager
def _held(s: Services, upload: Upload) -> Iterator[None]:
    try:
        with s.desk.holding(upload.id), told():
            yield
    except Busy:
        raise ApiError(
            423, "UPLOAD_LOCKED", "Another request is at this upload; ask again in a moment.", retry_after=1
        ) from None


async def _append(call: Call, upload: Upload, offset: int) -> int:
    """The body to the end of the file; how far the upload is then.

    Whatever ends this, what has arrived stays: but not what is more than was announced, or fails its checksum, or never
    came to the point where that could be seen.

    Raises:
        ApiError: 400, 413, 460.
        StorageFull, Gone.
    """
    s = call.services
    left = upload.length - offset
    if call.length is not None and call.length > left:
        raise _too_much(upload)
    digest, wanted = _checksum(call.header("upload-checksum"))
    path = file_of(s.library, upload.id)
    add = digest.update if digest is not None else None
    good = False
    with s.desk.under_way(upload.user_id, s.settings.uploads_per_user):
        try:
            async with spool.continue_spool(
                path, offset, reserve=s.settings.upload_reserve, digest=add
            ) as file:
                try:
                    while data := await call.read():
                        if file.size + len(data) > upload.length:
                            raise _too_much(upload)
                        await file.write([memoryview(data)])
                    good = True
                except (Gone, trio.Cancelled):
                    good = digest is None
                    raise
                finally:
                    with trio.CancelScope(shield=True):
                        await file.flush(durable=True)
            if digest is not None and digest.digest() != wanted:
                good = False
                raise ApiError(460, "CHECKSUM_MISMATCH", "The bytes are not those that were sent; again.")
        except spool.StorageFull:
            good = digest is None
            raise
        finally:
            if not good:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(os.truncate, path, offset)
    return file.size


async def _finish(s: Services, identity: Identity, upload: Upload) -> Track:
    """All of it is there: make it a track. What can never be one goes at once."""
    path = file_of(s.library, upload.id)
    try:
        return await make_track(s, identity, path, upload.length, _said(upload.metadata), upload.id)
    except ApiError as error:
        if error.status == 415:
            with trio.CancelScope(shield=True):
                await s.db.write(uploads_db.remove, [upload.id])
                await remove_file(s.library, upload.id)
        raise


def _said(metadata: dict[str, str]) -> Any:
    """What the metadata says of the track. Raises ApiError 400."""
    fields = {name: [value] for name, value in metadata.items() if name != _AS_SENT}
    return words(read_fields(fields), metadata.get("filename") or metadata.get("name"))


_AS_SENT: Final = ","  # no key of theirs can be called so: the header itself, to be said back


def _metadata(header: str | None) -> dict[str, str]:
    """Upload-Metadata: keys, each with a value in Base64. Raises ApiError 400."""
    found: dict[str, str] = {}
    for pair in (header or "").split(","):
        key, _, value = pair.strip(" ").partition(" ")
        if not key and not value:
            continue
        try:
            if not _KEY.fullmatch(key) or key in found or len(found) >= METADATA_KEYS:
                raise ValueError
            text = b64decode(value.strip(" "), validate=True).decode()
        except ValueError:
            raise invalid({"Upload-Metadata": "Must be keys, each with a text in Base64."}) from None
        if "\0" in text:
            raise invalid({key: "Must not hold NUL characters."})
        found[key] = text
    if header:
        found[_AS_SENT] = header
    return found


def _checksum(header: str | None) -> tuple[Any, bytes]:
    """What to compute, and what must come out. Raises ApiError 400."""
    if header is None:
        return None, b""
    algorithm, _, value = header.partition(" ")
    try:
        wanted = b64decode(value, validate=True)
    except ValueError:
        wanted = b""
    if algorithm not in ALGORITHMS or not wanted:
        names = ", ".join(ALGORITHMS)
        raise invalid({"Upload-Checksum": f"Must be one of {names}, and the checksum in Base64."})
    return hashlib.new(algorithm, usedforsecurity=False), wanted


def _number(call: Call, name: str) -> int:
    text = call.header(name) or ""
    if not _NUMBER.fullmatch(text):
        raise invalid({name.title(): "Must be a number of bytes."})
    return int(text)


def _progress(offset: int, expires_at: datetime, track: Track | None) -> dict[str, str]:
    headers = {"Upload-Offset": str(offset), "Upload-Expires": format_datetime(expires_at, usegmt=True)}
    if track is not None:
        headers[TRACK_HEADER] = str(track.id)
    return headers


def _shown(upload: Upload, offset: int, track: Track | None) -> UploadShown:
    metadata = {name: value for name, value in upload.metadata.items() if name != _AS_SENT}
    return UploadShown(str(upload.id), offset, upload.length, metadata, upload.expires_at, track)


def _too_much(upload: Upload) -> ApiError:
    return ApiError(413, "TOO_LARGE", "That is more than was announced.", details={"length": upload.length})


def _no_upload() -> ApiError:
    return not_found("This upload", "UPLOAD_NOT_FOUND")


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


describe(show).login = True
_note = describe(announce)
_note.bytes_of = BODY
_note.headers_in |= {
    "Upload-Length": "Bytes of the whole file",
    "Upload-Metadata": "Keys, each with a value in Base64, separated by commas",
    "Upload-Checksum": "Algorithm and checksum of the body in Base64",
}
_note.headers_out |= {
    "Upload-Offset": "Bytes that have arrived",
    "Upload-Expires": "Until when it is kept if nothing more comes",
    TRACK_HEADER: "The id of the track, once it is one",
}
_note = describe(go_on)
_note.bytes_of = BODY
_note.headers_in |= {
    "Upload-Offset": "Where the body belongs: as many bytes as have arrived",
    "Upload-Checksum": "Algorithm and checksum of the body in Base64",
    "X-HTTP-Method-Override": "With POST: the method that is meant",
}
_note.headers_out |= dict(describe(announce).headers_out)
_note = describe(progress)
_note.headers_out |= {
    **describe(announce).headers_out,
    "Upload-Length": "Bytes of the whole file",
    "Upload-Metadata": "As it was announced",
}
_note = describe(offer)
_note.headers_out |= {
    "Tus-Version": f"`{VERSION}`",
    "Tus-Extension": f"`{EXTENSIONS}`",
    "Tus-Max-Size": "Bytes of the largest file",
    "Tus-Checksum-Algorithm": f"`{','.join(ALGORITHMS)}`",
}

_ONE: Final = f"{BASE}/<upload>"
TUS_ROUTES: Final = (
    Route(method="OPTIONS", path=BASE, handler=offer, tag="uploads"),
    Route(method="POST", path=BASE, handler=announce, tag="uploads"),
    Route(method="OPTIONS", path=_ONE, handler=offer, tag="uploads"),
    Route(method="HEAD", path=_ONE, handler=progress, tag="uploads"),
    Route(method="GET", path=_ONE, handler=show, tag="uploads"),
    Route(method="PATCH", path=_ONE, handler=go_on, tag="uploads"),
    Route(method="POST", path=_ONE, handler=override, tag="uploads"),
    Route(method="DELETE", path=_ONE, handler=give_up, tag="uploads"),
)
