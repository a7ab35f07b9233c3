"""What pictures of people and of listings have in common at the door: how they are read, decoded, and sent."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from quart import Response, request

from veza.http.api.envelope import ApiError
from veza.http.api.multipart import OVERHEAD, FormReader, boundary_of, too_large
from veza.http.rawasgi import Call
from veza.media.images import NotAnImage, Picture, Pictures

_FOREVER: Final = "public, max-age=31536000, immutable"
ASK_AGAIN: Final = "public, no-cache"


async def received(call: Call, limit: int, files: tuple[str, ...]) -> bytes:
    """The bytes of the image that is sent, as the body itself or as a part of a form that is called one of `files`.

    Raises:
        ApiError: 413 at the first byte too many, 415, 400.
    """
    kind = (call.header("content-type") or "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if call.length is not None and call.length > limit + (OVERHEAD if form else 0):
        raise too_large(limit)
    if form:
        reader = FormReader(boundary_of(call.header("content-type")), files, limit)
        pieces: list[memoryview] = []
        while data := await call.read():
            pieces += reader.feed(data)
        reader.finish()
        return b"".join(pieces)
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
    """Its renditions. Raises ApiError 415."""
    try:
        return await pictures.make(data)
    except NotAnImage as error:
        raise ApiError(415, "NOT_AN_IMAGE", error.reason) from None


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
