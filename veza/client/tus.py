"""Uploads that survive a broken line, by the tus protocol (https://tus.io/protocols/resumable-upload, 1.0).

The server keeps what has arrived under an address of its own; after a break it is asked how much that is, and sending
goes on there. Nothing is sent twice, and nothing is lost, for as long as the server keeps it.
"""

import random
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import msgspec
import trio

from veza.client.errors import ApiError, ProtocolError, Unreachable
from veza.client.media import Track
from veza.client.reading import pieces
from veza.client.transport import Transport, judge, read_one

VERSION: Final = {"Tus-Resumable": "1.0.0"}
PATIENCE: Final = 120.0  # seconds without any progress, then it is given up
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 8.0
AGAIN: Final = frozenset(
    {409, 423}
)  # somebody else's offset: our own connection's, that the server still holds

Long = Callable[..., Coroutine[Any, Any, httpx.Response]]


class Upload(msgspec.Struct, frozen=True):
    """A file to be stored, and what is known of it."""

    file: Path
    size: int
    content_type: str
    fields: Mapping[str, str]


async def store(client: Transport, upload: Upload, long: Long, progress: Callable[[int, int], None]) -> Track:
    """Store a file, whatever the line does; the track that became of it.

    Args:
        long: sends a request with a body as who we are.
        progress: told bytes stored, and bytes of the file.

    Raises:
        Unreachable: nothing moved for two minutes.
    """
    path = await _create(client, upload)
    place, known, delay = 0, True, FIRST_DELAY
    end = trio.current_time() + PATIENCE

    async def body() -> AsyncIterator[bytes]:
        async for piece, sent in pieces(upload.file, place, upload.size):
            yield piece
            progress(sent, upload.size)

    while True:
        try:
            if not known:
                stored = await _stored(client, path)
                if stored > place:
                    end, delay = trio.current_time() + PATIENCE, FIRST_DELAY
                place, known = stored, True
                progress(place, upload.size)
            headers = {
                **VERSION,
                "Upload-Offset": str(place),
                "Content-Type": "application/offset+octet-stream",
            }
            known = False
            answer = await long("PATCH", path, headers, body, upload.size - place)
            return read_one(judge(answer).data, "track", Track)
        except Unreachable:
            if trio.current_time() > end:
                raise
        except ApiError as error:
            if (error.status not in AGAIN and error.status < 500) or error.status == 507:
                raise
            if trio.current_time() > end:
                raise
        await trio.sleep(delay * random.uniform(0.8, 1.2))
        delay = min(delay * 2, LONGEST_DELAY)


async def _create(client: Transport, upload: Upload) -> str:
    """Announce the upload; the path of its address."""
    metadata = {"filename": upload.file.name, "filetype": upload.content_type, **upload.fields}
    coded = (
        f"{name} {b64encode(value.encode('utf-8', 'replace')).decode()}" for name, value in metadata.items()
    )
    headers = {**VERSION, "Upload-Length": str(upload.size), "Upload-Metadata": ",".join(coded)}
    answer = await client.bare("POST", "/api/v1/uploads", headers)
    location = answer.headers.get("location")
    if not location:
        raise ProtocolError("the server did not say where the upload goes")
    return str(urlsplit(location).path)


async def _stored(client: Transport, path: str) -> int:
    answer = await client.bare("HEAD", path, VERSION)
    try:
        return int(answer.headers["upload-offset"])
    except (KeyError, ValueError):
        raise ProtocolError("the server did not say how much it has") from None
