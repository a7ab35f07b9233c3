"""The room of files: bytes that go from the disk to the socket without passing through Python objects.

`sendfile` takes at most 128 KiB a turn and all files together 2 ms of a scheduler pass; a page that is not in memory is
read ahead in a thread; so files never cost chat its latency. Under TLS files are read in 64 KiB pieces.

What a shelf offers is known by name before anybody asks: no name from a request ever becomes a path.
"""

import errno
import mimetypes
import os
import stat
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import msgspec
import trio
from trio.lowlevel import checkpoint

from veza.config import Settings
from veza.http.asgi import Visit
from veza.http.door import Media
from veza.http.head import Head
from veza.http.letterhead import Letterhead
from veza.http.ranges import Selection, http_date, select
from veza.http.refusal import Refused
from veza.http.wire import Disconnected, Wire

TURN: Final = 128 * 1024  # bytes of one sendfile
PIECE: Final = 64 * 1024  # bytes of one read
READ_AHEAD: Final = 1024 * 1024  # bytes a thread brings into memory when a page is cold
PASS: Final = 0.002  # seconds all files together may take of one scheduler pass
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
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


class Pace:
    """All files together get 2 ms of a scheduler pass.

    Whoever finds the pass spent waits for the next one; whoever wakes first there opens it for everybody.
    """

    def __init__(self) -> None:
        self._pass = object()
        self._spent = 0.0

    async def turn(self) -> None:
        """Wait until there is time to work in this pass."""
        while self._spent >= PASS:
            current = self._pass
            await checkpoint()
            if current is self._pass:
                self._pass = object()
                self._spent = 0.0

    def took(self, seconds: float) -> None:
        self._spent += seconds


class MediaRoutes:
    """The room: its shelves, in the order they are asked."""

    def __init__(self, settings: Settings, shelves: Iterable[Shelf]) -> None:
        self._letterhead = Letterhead(settings)
        self._shelves = tuple(shelves)
        self._pace = Pace()

    def claims(self, head: Head) -> bool:
        return self._shelf(head.path) is not None

    async def answer(self, wire: Wire, head: Head, visit: Visit) -> bool:
        """Send it, or the part of it that was asked for; whether the connection can go on.

        Raises:
            Refused: it is not there, or not for this client, or asked with another method than GET and HEAD.
            Disconnected: the client left, or takes nothing any more.
        """
        shelf = self._shelf(head.path)
        if shelf is None:
            raise Refused(404)
        if head.method not in ("GET", "HEAD"):
            raise Refused(405, headers=[(b"allow", b"GET, HEAD")])
        resource = await shelf.find(head, visit)
        close = not head.keep_alive or wire.owed or wire.closing
        if resource.path is None:
            await self._send(wire, head, visit, resource, close, None, len(resource.data), 0)
            return not close
        try:
            file = os.open(resource.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            raise Refused(404) from None
        try:
            info = os.fstat(file)
            if not stat.S_ISREG(info.st_mode):
                raise Refused(404)
            await self._send(wire, head, visit, resource, close, file, info.st_size, info.st_mtime_ns)
        finally:
            os.close(file)
        return not close

    def _shelf(self, path: str) -> Shelf | None:
        return next((shelf for shelf in self._shelves if shelf.claims(path)), None)

    async def _send(
        self,
        wire: Wire,
        head: Head,
        visit: Visit,
        resource: Resource,
        close: bool,
        file: int | None,
        size: int,
        modified_ns: int,
    ) -> None:
        etag = resource.etag or b'"%x-%x"' % (modified_ns, size)
        modified = modified_ns // 1_000_000_000
        part = select(head, size=size, etag=etag, modified=modified)
        if part.status == 416:
            raise Refused(416, headers=[(b"content-range", b"bytes */%d" % size)])
        if part.status == 412:
            raise Refused(412, "PRECONDITION_FAILED", "The file has changed.")
        headers = _headers(resource, part, size, etag, modified)
        start = self._letterhead.head(
            part.status, headers, visit.request_id, version=head.version, close=close
        )
        if head.method == "HEAD" or part.start == part.stop:
            await wire.send(start)
        elif file is None:
            await wire.send(start, resource.data[part.start : part.stop])
        else:
            await self._send_file(wire, start, file, part.start, part.stop)

    async def _send_file(self, wire: Wire, start: bytes, file: int, offset: int, stop: int) -> None:
        # The head travels with the first bytes: one packet for a small file.
        data = await _read(file, offset, min(PIECE, stop - offset))
        await wire.send(start, data)
        offset += len(data)
        if wire.line.secure:
            while offset < stop:
                data = await _read(file, offset, min(PIECE, stop - offset))
                await self._pace.turn()
                began = time.perf_counter()
                await wire.send(
                    data
                )  # encrypts; what it waits is counted too, which only makes files humbler
                self._pace.took(time.perf_counter() - began)
                await checkpoint()
                offset += len(data)
            return
        while offset < stop:
            await self._pace.turn()
            count = min(TURN, stop - offset)
            await _warm(file, offset, count)
            began = time.perf_counter()
            try:
                sent = os.sendfile(wire.line.fileno(), file, offset, count)
            except BlockingIOError:
                await wire.wait_writable()
                continue
            except OSError:
                raise Disconnected from None
            finally:
                self._pace.took(time.perf_counter() - began)
            if not sent:
                raise Disconnected  # the file became shorter than what was promised
            offset += sent
            await checkpoint()


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


def _headers(
    resource: Resource, part: Selection, size: int, etag: bytes, modified: int
) -> list[tuple[bytes, bytes]]:
    headers = [(b"etag", etag), (b"cache-control", resource.cache.encode()), (b"accept-ranges", b"bytes")]
    if modified:
        headers.append((b"last-modified", http_date(modified)))
    if part.status != 304:
        headers.append((b"content-type", resource.content_type.encode()))
        headers.append((b"content-length", b"%d" % (part.stop - part.start)))
    if part.status == 206:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (part.start, part.stop - 1, size)))
    headers.extend(resource.headers)
    return headers


async def _read(file: int, offset: int, count: int) -> bytes:
    """Bytes of the file: from memory at once, from the disk in a thread. Raises Disconnected if it is shorter."""
    buffer = bytearray(count)
    got = 0
    if _NOWAIT:
        try:
            got = os.preadv(file, [buffer], offset, _NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
                raise Disconnected from None
    if got == count:
        return bytes(buffer)
    data = await trio.to_thread.run_sync(os.pread, file, count, offset)
    if not data:
        raise Disconnected
    return data


async def _warm(file: int, offset: int, count: int) -> None:
    """Have these bytes in memory before `sendfile` asks for them, or everybody waits for the disk with it."""
    if not _NOWAIT:
        return
    probe = bytearray(1)
    try:
        os.preadv(file, [probe], offset, _NOWAIT)
        os.preadv(file, [probe], offset + count - 1, _NOWAIT)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            await trio.to_thread.run_sync(os.pread, file, READ_AHEAD, offset)
