"""What pictures of people and of listings have in common at the door: how they are read, decoded, and sent."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import trio
from msgspec import structs
from quart import Response, request

from veza.actors.rules import refuse_silenced
from veza.actors.upload_desk import TooMany
from veza.http.api.envelope import ApiError
from veza.http.api.multipart import OVERHEAD, FormReader, boundary_of, too_large
from veza.http.api.uploads import too_many_uploads
from veza.http.rawasgi import Call
from veza.media.images import Busy, NotAnImage, Picture, Pictures

_FOREVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "public, no-cache"


@contextmanager
def receiving(call: Call, user_id: int) -> Iterator[None]:
    """Around a person's image, from its first byte on: it is held in memory, so of each there are only so many.

    Raises:
        ApiError: 429, as many as one may have are under way.
    """
    try:
        with call.services.desk.under_way(user_id, call.services.settings.uploads_per_user):
            yield
    except TooMany:
        raise too_many_uploads() from None


async def received(call: Call, limit: int, files: tuple[str, ...]) -> bytes:
    """The bytes of the image that is sent, as the body itself or as a part of a form that is called one of `files`.

    Raises:
        ApiError: 413 at the first byte too many, 415, 400.
        AuthFailed, Refused: its sender was barred or muted in the meantime.
    """
    image = await _received(call, limit, files)
    confirmed = await call.services.registry.confirm(structs.replace(call.user(), expires_at=float("inf")))
    refuse_silenced(confirmed.muted_until)
    return image


async def _received(call: Call, limit: int, files: tuple[str, ...]) -> bytes:
    kind = (call.header("content-type") or "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if call.length is not None and call.length > limit + (OVERHEAD if form else 0):
        raise too_large(limit)
    if form:
        reader = FormReader(boundary_of(call.header("content-type")), files, limit)
        image = bytearray()
        total = 0
        while data := await call.read():
            total += len(data)
            if total > limit + OVERHEAD:  # behind the last boundary a form may go on with what means nothing
                raise too_large(limit)
            for piece in reader.feed(data):  # copied: byte by byte, the pieces would be what is large
                image += piece
        reader.finish()
        return bytes(image)
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise ApiError(
            415,
            "UNSUPPORTED_MEDIA_TYPE",
            f"Send an image, or multipart/form-data with the image in `{files[0]}`.",
        )
    whole = bytearray()
    while data := await call.read():
        whole += data
        if len(whole) > limit:
            raise too_large(limit)
    return bytes(whole)


async def decoded(pictures: Pictures, data: bytes) -> Picture:
    """Its renditions. Raises ApiError: 415; 503, too many others are decoded."""
    try:
        return await pictures.make(data)
    except NotAnImage as error:
        raise ApiError(415, "NOT_AN_IMAGE", error.reason) from None
    except Busy:
        raise ApiError(
            503, "UNAVAILABLE", "Too many images are being decoded just now; try again.", retry_after=10
        ) from None


@asynccontextmanager
async def storing() -> AsyncIterator[None]:
    """Around what writes files: a full disk is 507."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ApiError(507, "INSUFFICIENT_STORAGE", "There is no room for this picture.") from None
        raise


async def sent(path: Path, etag: str, *, forever: bool) -> Response | None:
    """A rendition, or 304 for who has it; None where the file is gone: replaced this very moment, or lost.

    Args:
        forever: the address names what it holds.
    """
    cache = _FOREVER if forever else ASK_AGAIN
    if etag in request.if_none_match:
        return answer(b"", "image/webp", etag, cache, 304)
    try:
        return answer(await trio.Path(path).read_bytes(), "image/webp", etag, cache)
    except FileNotFoundError:
        return None


def answer(body: bytes, kind: str, etag: str, cache: str, status: int = 200) -> Response:
    response = Response(body, status=status, content_type=kind)
    response.set_etag(etag)
    response.headers["Cache-Control"] = cache
    return response
