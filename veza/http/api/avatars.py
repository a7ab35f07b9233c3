"""`/users/me/avatar`, `/users/{id}/avatar`: pictures of people.

An upload is read as it comes (a form with a file, or the image itself), at most `IMAGE_LIMIT`. It is answered with the
address that becomes the profile's `avatar`; the address names what it holds (`v`), so it can be kept for ever. Anybody
may look, as pages do with `<img>`; who has no picture is shown by his initials.
"""

from __future__ import annotations

import errno
import re
from hashlib import sha256
from html import escape
from typing import Annotated, Final, Literal

import trio
from msgspec import Meta, Struct
from quart import Blueprint, Response, request

from veza.db import avatars as avatars_db
from veza.http.api.chat import no_person
from veza.http.api.envelope import ApiError, not_found
from veza.http.api.intake import takes_query
from veza.http.api.multipart import OVERHEAD, FormReader, boundary_of, too_large
from veza.http.api.openapi import answers, describe, fails
from veza.http.api.services import services
from veza.http.rawasgi import Answer, Call, Route, success
from veza.media.avatars import Avatar, NotAnImage, fitting

avatars = Blueprint("avatars", __name__, url_prefix="/users")

_FILES: Final = ("avatar", "image", "file")  # the names of the form's part
_OURS: Final = re.compile(r"/api/v1/users/(\d{1,19})/avatar\?v=([0-9a-f]{20})")
_FOREVER: Final = "public, max-age=31536000, immutable"
_ASK_AGAIN: Final = "public, no-cache"
_COLOURS: Final = ("#7c3f58", "#3d5a80", "#2a6f5e", "#6b4e9b", "#8a5a22", "#34667a", "#82404a", "#4f6d30")


class AvatarShown(Struct, frozen=True):
    """`avatar` is the address of the picture; `&size=64` behind it asks for a small one."""

    avatar: str | None


class NoFields(Struct, frozen=True):
    """The form holds nothing but the file."""


class AvatarQuery(Struct, frozen=True):
    """`size`: pixels; the smallest picture that is at least as large is sent, of 64 and 256. `v`: what the profile's
    address says. `fallback`: what comes where there is no picture, initials (SVG) or 404."""

    size: Annotated[
        int, Meta(ge=1, le=4096, extra={"says": "Must be a number of pixels from 1 to 4096."})
    ] = 256
    v: Annotated[str, Meta(max_length=64)] | None = None
    fallback: Literal["initials", "none"] = "initials"


@answers(AvatarShown)
@fails(400, 413, 415, 507)
async def put_avatar(call: Call) -> Answer:
    """Give oneself a picture: JPEG, PNG, WebP, GIF or AVIF.

    It is decoded, turned upright, cut to a square and encoded anew; nothing else of the file is kept.
    """
    user_id = call.user().user_id
    made = await _decoded(call, await _image(call))
    address = f"/api/v1/users/{user_id}/avatar?v={made.hash}"
    s = call.services
    async with s.avatars.turn(user_id):
        try:
            await trio.to_thread.run_sync(s.avatars.store, user_id, made)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise ApiError(507, "INSUFFICIENT_STORAGE", "There is no room for this picture.") from None
            raise
        if not await s.db.write(avatars_db.put, user_id, address):
            raise not_found("This account")
        await trio.to_thread.run_sync(s.avatars.keep_only, user_id, made.hash)
    return success(AvatarShown(address), message="The picture is saved.")


@answers(AvatarShown)
async def remove_avatar(call: Call) -> Answer:
    """Take one's picture away."""
    user_id = call.user().user_id
    s = call.services
    async with s.avatars.turn(user_id):
        await s.db.write(avatars_db.put, user_id, None)
        await trio.to_thread.run_sync(s.avatars.keep_only, user_id, None)
    return success(AvatarShown(None), message="The picture is gone.")


for _handler in (put_avatar, remove_avatar):
    describe(_handler).login = True
_note = describe(put_avatar)
_note.form, _note.files, _note.bytes_of = NoFields, _FILES, "image/*"

AVATAR_ROUTES: Final = (
    Route(method="POST", path="/api/v1/users/me/avatar", handler=put_avatar, tag="avatars"),
    Route(method="DELETE", path="/api/v1/users/me/avatar", handler=remove_avatar, tag="avatars"),
)


@avatars.get("/<id:user_id>/avatar")
@takes_query(AvatarQuery)
@answers(content_type="image/webp")
@fails(400, 404)
async def show_avatar(user_id: int, query: AvatarQuery) -> Response:
    """Somebody's picture, or his initials.

    Asked for with the `v` of the profile's address it may be kept for ever; without it, or with an older one, ask again
    with `If-None-Match`.
    """
    s = services()
    face = await s.db.read(avatars_db.face, user_id)
    if face is None:
        raise no_person()
    size = fitting(query.size)
    ours = _OURS.fullmatch(face.avatar or "")
    if ours is not None and int(ours[1]) == user_id:
        cache = _FOREVER if query.v == ours[2] else _ASK_AGAIN
        etag = f"{ours[2]}-{size}"
        if etag in request.if_none_match:
            return _image_response(b"", "image/webp", etag, cache, 304)
        try:
            image = await trio.Path(s.avatars.path(user_id, ours[2], size)).read_bytes()
            return _image_response(image, "image/webp", etag, cache)
        except FileNotFoundError:
            pass  # it was replaced at this very moment, or the directory was lost
    if query.fallback == "none":
        raise not_found("A picture of this person", "AVATAR_NOT_FOUND")
    drawn = initials(user_id, face)
    etag = sha256(drawn.encode()).hexdigest()[:20]
    if etag in request.if_none_match:
        return _image_response(b"", "image/svg+xml", etag, _ASK_AGAIN, 304)
    return _image_response(drawn.encode(), "image/svg+xml", etag, _ASK_AGAIN)


def initials(user_id: int, face: avatars_db.Face) -> str:
    """An SVG with a person's initials on a colour that is always the same for him."""
    names = [name for name in (face.first_name, face.last_name) if name and name.strip()]
    letters = "".join(name.strip()[0] for name in names) or face.username[:1]
    colour = _COLOURS[user_id % len(_COLOURS)]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" width="256" height="256">'
        f'<rect width="64" height="64" fill="{colour}"/>'
        '<text x="32" y="33" fill="#fff" font-family="sans-serif" font-size="28" text-anchor="middle"'
        f' dominant-baseline="central">{escape(letters.upper())}</text></svg>'
    )


def _image_response(body: bytes, kind: str, etag: str, cache: str, status: int = 200) -> Response:
    response = Response(body, status=status, content_type=kind)
    response.set_etag(etag)
    response.headers["Cache-Control"] = cache
    return response


async def _image(call: Call) -> bytes:
    """The bytes of the image; raises ApiError, at the first byte too many."""
    limit = call.services.settings.image_limit
    kind = (call.header("content-type") or "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if call.length is not None and call.length > limit + (OVERHEAD if form else 0):
        raise too_large(limit)
    if form:
        reader = FormReader(boundary_of(call.header("content-type")), _FILES, limit)
        pieces: list[memoryview] = []
        while data := await call.read():
            pieces += reader.feed(data)
        reader.finish()
        return b"".join(pieces)
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise ApiError(
            415, "UNSUPPORTED_MEDIA_TYPE", "Send an image, or multipart/form-data with the image in `avatar`."
        )
    whole = bytearray()
    while data := await call.read():
        whole += data
        if len(whole) > limit:
            raise too_large(limit)
    return bytes(whole)


async def _decoded(call: Call, data: bytes) -> Avatar:
    try:
        return await call.services.avatars.make(data)
    except NotAnImage as error:
        raise ApiError(415, "NOT_AN_IMAGE", error.reason) from None
