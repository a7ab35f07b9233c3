"""`/users/me/avatar`, `/users/{id}/avatar`: pictures of people.

An upload is read as it comes (a form with a file, or the image itself), at most `IMAGE_LIMIT`. It is answered with the
address that becomes the profile's `avatar`; the address names what it holds (`v`), so it can be kept for ever. Anybody
may look, as pages do with `<img>`; who has no picture is shown by his initials.
"""

from __future__ import annotations

import re
from hashlib import sha256
from html import escape
from typing import Annotated, Final, Literal

import trio
from msgspec import Meta, Struct
from quart import Blueprint, Response, request

from veza.db import avatars as avatars_db
from veza.http.api.chat import no_person
from veza.http.api.envelope import not_found
from veza.http.api.images import ASK_AGAIN, answer, decoded, received, receiving, sent, storing
from veza.http.api.intake import takes_query
from veza.http.api.openapi import answers, describe, fails
from veza.http.api.services import services
from veza.http.rawasgi import Answer, Call, Route, success

avatars = Blueprint("avatars", __name__, url_prefix="/users")

_FILES: Final = ("avatar", "image", "file")  # the names of the form's part
_OURS: Final = re.compile(r"/api/v1/users/(\d{1,19})/avatar\?v=([0-9a-f]{20})")
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
    s = call.services
    with receiving(call, user_id):
        made = await decoded(s.avatars, await received(call, s.settings.image_limit, _FILES))
    address = f"/api/v1/users/{user_id}/avatar?v={made.hash}"
    async with s.avatars.turn(user_id):
        async with storing():
            await trio.to_thread.run_sync(s.avatars.store, user_id, made)
        if not await s.db.write(avatars_db.put, user_id, address):
            raise not_found("This account")
        await trio.to_thread.run_sync(s.avatars.keep_only, user_id, (made.hash,))
    return success(AvatarShown(address), message="The picture is saved.")


@answers(AvatarShown)
async def remove_avatar(call: Call) -> Answer:
    """Take one's picture away."""
    user_id = call.user().user_id
    s = call.services
    async with s.avatars.turn(user_id):
        await s.db.write(avatars_db.put, user_id, None)
        await trio.to_thread.run_sync(s.avatars.keep_only, user_id, ())
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
    size = s.avatars.shape.fitting(query.size)
    ours = _OURS.fullmatch(face.avatar or "")
    if ours is not None and int(ours[1]) == user_id:
        path = s.avatars.path(user_id, ours[2], size)
        shown = await sent(path, f"{ours[2]}-{size}", forever=query.v == ours[2])
        if shown is not None:
            return shown
    if query.fallback == "none":
        raise not_found("A picture of this person", "AVATAR_NOT_FOUND")
    drawn = initials(user_id, face)
    etag = sha256(drawn.encode()).hexdigest()[:20]
    if etag in request.if_none_match:
        return answer(b"", "image/svg+xml", etag, ASK_AGAIN, 304)
    return answer(drawn.encode(), "image/svg+xml", etag, ASK_AGAIN)


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
