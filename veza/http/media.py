"""The room of files: which bytes of which file an answer holds, and what its head says of them.

How bytes travel is `files.py`'s business, which of them are asked for `ranges.py`'s. What a shelf offers is known by
name before anybody asks: no name from a request ever becomes a path.
"""

import mimetypes
import os
import stat
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import msgspec

from veza.config import Settings
from veza.http.asgi import Visit
from veza.http.cors import VARY, Cors
from veza.http.door import Media
from veza.http.files import Files
from veza.http.head import Head
from veza.http.letterhead import Letterhead
from veza.http.ranges import Selection, http_date, select
from veza.http.refusal import Refused
from veza.http.wire import Wire

# Better known here than on the machine we happen to run on.
_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4s": "video/iso.segment",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be sent: a file, or a few bytes held in memory."""

    content_type: str
    path: Path | None = None  # opened at the request, without following a symbolic link in its last part
    data: bytes = b""  # instead of a path
    cache: str = "no-cache"  # Cache-Control; `no-cache` still lets a client ask with If-None-Match
    until: float = (
        0  # seconds since 1970; if given, what is sent may be kept until then, and `cache` says no age
    )
    etag: bytes = b""  # strong, with quotes; made from the file's time and size if empty
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Shelf(Protocol):
    """Where resources are found. Tracks and their signed addresses are another kind of it."""

    def claims(self, path: str) -> bool:
        """Are addresses like this one (percent-encoded, without query) ours? Must be quick."""
        ...

    async def find(self, head: Head, visit: Visit) -> Resource:
        """What to send. Raises Refused: 401, 403, 404 …"""
        ...


class Pages:
    """A shelf of resources with fixed addresses."""

    def __init__(self, resources: Mapping[str, Resource]) -> None:
        self._resources = dict(resources)

    def claims(self, path: str) -> bool:
        return path in self._resources

    async def find(self, head: Head, visit: Visit) -> Resource:
        return self._resources[head.path]


def folder(prefix: str, directory: Path, *, index: str | None = None, cache: str = "no-cache") -> Pages:
    """A shelf of all regular files below a directory, as it is now; hidden files and symbolic links are left out.

    Args:
        prefix: where they are found, such as `/docs/`.
        index: the file that also answers at the prefix itself.
    """
    found: dict[str, Resource] = {}
    for place, folders, names in os.walk(directory, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if name.startswith(".") or not stat.S_ISREG(path.lstat().st_mode):
                continue
            relative = path.relative_to(directory).as_posix()
            resource = Resource(content_type=content_type(name), path=path, cache=cache)
            found[prefix + quote(relative)] = resource
            if relative == index:
                found[prefix] = resource
    return Pages(found)


def content_type(name: str) -> str:
    """The media type of a file, by its extension."""
    known = _TYPES.get(os.path.splitext(name)[1].lower())
    return known or mimetypes.guess_type(name)[0] or "application/octet-stream"


class MediaRoutes:
    """The room: its shelves, in the order they are asked.

    Args:
        cors: lets pages of other sites read what is here; without it they cannot.
        files: shared with other rooms, so that all of them together keep the pace.
    """

    def __init__(
        self,
        settings: Settings,
        shelves: Iterable[Shelf],
        *,
        cors: Cors | None = None,
        files: Files | None = None,
    ) -> None:
        self._letterhead = Letterhead(settings)
        self._shelves = tuple(shelves)
        self._cors = cors
        self._files = files or Files()
        self._allow = b"GET, HEAD" if cors is None else b"GET, HEAD, OPTIONS"

    def claims(self, head: Head) -> bool:
        return self._shelf(head.path) is not None

    async def answer(self, wire: Wire, head: Head, visit: Visit) -> bool:
        """Send it, or the part of it that was asked for; whether the connection can go on.

        Raises:
            Refused: it is not there, or not for this client, or asked with a method that is not for files.
            Disconnected: the client left, or takes nothing any more.
        """
        if self._cors is None:
            return await self._answer(wire, head, visit, b"")
        headers = self._cors.headers(head)
        try:
            if head.method == "OPTIONS":
                return await self._preflight(wire, head, visit, self._cors)
            allowed = b"".join(b"%b: %b\r\n" % header for header in headers) if headers else b""
            return await self._answer(wire, head, visit, allowed)
        except Refused as refused:
            refused.headers = (*refused.headers, VARY, *headers)
            raise

    async def _answer(self, wire: Wire, head: Head, visit: Visit, allowed: bytes) -> bool:
        shelf = self._shelf(head.path)
        if shelf is None:
            raise Refused(404)
        if head.method not in ("GET", "HEAD"):
            raise Refused(405, headers=[(b"allow", self._allow)])
        resource = await shelf.find(head, visit)
        close = not head.keep_alive or wire.owed or wire.closing
        if resource.path is None:
            size = len(resource.data)
            etag = resource.etag or b'"%x-%x"' % (zlib.crc32(resource.data), size)
            part = _select(head, size, etag, 0)
            lines = self._lines(resource, part.status, etag, 0)
            start = self._start(head, visit, resource, part, size, lines + allowed, close)
            body = b"" if head.method == "HEAD" else resource.data[part.start : part.stop]
            await wire.send(start, body)
            return not close
        file = self._files.take(resource.path)
        try:
            modified = file.modified_ns // 1_000_000_000
            etag = resource.etag or b'"%x-%x"' % (file.modified_ns, file.size)
            part = _select(head, file.size, etag, modified)
            kind = part.status == 304, resource.content_type, resource.cache, resource.etag, resource.headers
            lines = file.lines.get(kind, b"")
            if not lines:
                lines = file.lines[kind] = self._lines(resource, part.status, etag, modified)
            start = self._start(head, visit, resource, part, file.size, lines + allowed, close)
            empty = head.method == "HEAD" or part.start == part.stop
        except BaseException:
            self._files.give(file)
            raise
        if empty:
            self._files.give(file)
            await wire.send(start)
        else:
            await self._files.send(wire, start, file, part.start, part.stop)
        return not close

    async def _preflight(self, wire: Wire, head: Head, visit: Visit, cors: Cors) -> bool:
        close = not head.keep_alive or wire.owed or wire.closing
        headers = [(b"allow", self._allow), *cors.preflight(head)]
        start = self._letterhead.head(204, headers, visit.request_id, version=head.version, close=close)
        await wire.send(start)
        return not close

    def _shelf(self, path: str) -> Shelf | None:
        for shelf in self._shelves:
            if shelf.claims(path):
                return shelf
        return None

    def _lines(self, resource: Resource, status: int, etag: bytes, modified: int) -> bytes:
        """What every answer of this kind says of a resource."""
        headers = [(b"etag", etag), (b"accept-ranges", b"bytes")]
        if modified:
            headers.append((b"last-modified", http_date(modified)))
        if not resource.until:
            headers.append((b"cache-control", resource.cache.encode()))
        if status != 304:
            headers.append((b"content-type", resource.content_type.encode()))
        if self._cors is not None:
            headers.append(VARY)
        headers.extend(resource.headers)
        return self._letterhead.lines(headers)

    def _start(
        self,
        head: Head,
        visit: Visit,
        resource: Resource,
        part: Selection,
        size: int,
        lines: bytes,
        close: bool,
    ) -> bytes:
        """The head of one answer: those lines, and what is this one's alone."""
        if resource.until:
            lines += b"cache-control: %b, max-age=%d\r\n" % (
                resource.cache.encode(),
                max(0, resource.until - time.time()),
            )
        if part.status == 206:
            lines += b"content-range: bytes %d-%d/%d\r\n" % (part.start, part.stop - 1, size)
        if part.status != 304:
            lines += b"content-length: %d\r\n" % (part.stop - part.start)
        return self._letterhead.around(
            part.status, lines, visit.request_id, version=head.version, close=close
        )


class MediaRooms:
    """Several rooms as one: the first that claims a request answers it."""

    def __init__(self, *rooms: Media) -> None:
        self._rooms = rooms

    def claims(self, head: Head) -> bool:
        return any(room.claims(head) for room in self._rooms)

    async def answer(self, wire: Wire, head: Head, visit: Visit) -> bool:
        """Raises Refused, Disconnected, as the room does; 404 where none claims it."""
        for room in self._rooms:
            if room.claims(head):
                return await room.answer(wire, head, visit)
        raise Refused(404)


def _select(head: Head, size: int, etag: bytes, modified: int) -> Selection:
    """Which part is sent. Raises Refused: 412, 416."""
    part = select(head, size=size, etag=etag, modified=modified)
    if part.status == 416:
        raise Refused(416, headers=[(b"content-range", b"bytes */%d" % size), (b"accept-ranges", b"bytes")])
    if part.status == 412:
        raise Refused(412, "PRECONDITION_FAILED", "The file has changed.")
    return part
