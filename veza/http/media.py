"""The room of files: which bytes of which file an answer holds, and what its head says of them.

Where files are is the shelves' business, which bytes are asked for that of `ranges.py`, how they travel that of
`sending.py`.
"""

import time
import zlib
from collections.abc import Iterable

from veza.config import Settings
from veza.http.asgi import Visit
from veza.http.cors import VARY, Cors
from veza.http.door import Media
from veza.http.files import File
from veza.http.head import Head
from veza.http.letterhead import Letterhead, request_id
from veza.http.ranges import Selection, between, http_date, select
from veza.http.refusal import Refused
from veza.http.sending import Sender
from veza.http.sequel import sequel_of
from veza.http.shelves import Pages, Resource, Shelf, content_type, folder
from veza.http.wire import Wire

__all__ = ["MediaRooms", "MediaRoutes", "Pages", "Resource", "Shelf", "content_type", "folder"]


class MediaRoutes:
    """The room: its shelves, in the order they are asked.

    Args:
        cors: lets pages of other sites read what is here; without it they cannot.
        sender: shared with other rooms, so that all of them together keep the pace.
    """

    def __init__(
        self,
        settings: Settings,
        shelves: Iterable[Shelf],
        *,
        cors: Cors | None = None,
        sender: Sender | None = None,
    ) -> None:
        self._letterhead = Letterhead(settings)
        self._shelves = tuple(shelves)
        self._cors = cors
        self._sender = sender or Sender()
        self._files = self._sender.files
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
            part = _select(head, resource, None, size)
            lines = self._lines(resource, None, part.status) + allowed
            start = self._start(head, visit, part, size, lines, close=close)
            body = b"" if head.method == "HEAD" else resource.data[part.start : part.stop]
            await wire.send(start, body)
            return not close
        file = self._files.take(resource.path)
        try:
            part = _select(head, resource, file, file.size)
            lines = self._lines(resource, file, part.status) + allowed
            start = self._start(head, visit, part, file.size, lines, close=close)
            empty = head.method == "HEAD" or part.start == part.stop
        except BaseException:
            self._files.give(file)
            raise
        if empty:
            self._files.give(file)
            await wire.send(start)
            return not close
        await self._sender.send(wire, start, file, part.start, part.stop)
        if part.status == 206 and not close:
            await self._sequels(wire, head, shelf, visit, allowed)
        wire.line.expect()
        return not close

    async def _sequels(self, wire: Wire, head: Head, shelf: Shelf, visit: Visit, allowed: bytes) -> None:
        """Answer further ranges of the same file for as long as they are asked for in the same words.

        Everything that may have changed is asked again: the shelf, the file, the time. What would not be answered by
        a range, and what is asked otherwise, is left to be read as ever.
        """
        sequel = sequel_of(wire.last)
        if sequel is None or head.version != "1.1":
            return
        sender, files, pace = self._sender, self._files, self._sender.pace
        named = visit.request_id.encode() if head.get(b"x-request-id") is not None else None
        known: tuple[Resource, object, int] | None = None  # what `above` was made of
        above = b""
        while True:
            wire.line.expect()
            wanted = sequel.range(await wire.peek())
            if wanted is None or wire.closing:
                return
            if pace.spent:
                await pace.turn()
            began = time.perf_counter()
            try:
                resource = await shelf.find(head, visit)
                if resource.path is None:
                    return
                file = files.take(resource.path)
            except Refused:
                return
            try:
                part = between(*wanted, file.size)
                if part.status != 206:
                    files.give(file)
                    return
                wire.take_ahead()
                now = resource, file.lines, int(time.time())
                if now != known:
                    known = now
                    above = self._letterhead.above(206, self._lines(resource, file, 206) + allowed)
                start = (
                    b"%bcontent-range: bytes %d-%d/%d\r\ncontent-length: %d\r\nx-request-id: %b\r\n\r\n"
                    % (
                        above,
                        part.start,
                        part.stop - 1,
                        file.size,
                        part.stop - part.start,
                        named or request_id(None).encode(),
                    )
                )
                taken = sender.begin(wire, start, file, part.start, part.stop)
            except BaseException:
                files.give(file)
                raise
            pace.took(time.perf_counter() - began)
            if taken == len(start) + part.stop - part.start:
                files.give(file)
            else:
                await sender.send(wire, start, file, part.start, part.stop, taken)

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

    def _lines(self, resource: Resource, file: File | None, status: int) -> bytes:
        """What every answer about a resource says until the second is over. Most of it is made once a file."""
        kind = status == 304, resource.content_type, resource.cache, resource.etag, resource.headers
        lines = file.lines.get(kind, b"") if file is not None else b""
        if not lines:
            lines = self._letterhead.lines(self._headers(resource, file, status))
            if file is not None:
                file.lines[kind] = lines
        if resource.until:
            age = max(0, resource.until - time.time())
            lines += b"cache-control: %b, max-age=%d\r\n" % (resource.cache.encode(), age)
        return lines

    def _headers(self, resource: Resource, file: File | None, status: int) -> list[tuple[bytes, bytes]]:
        headers = [(b"etag", _etag(resource, file)), (b"accept-ranges", b"bytes")]
        if modified := _modified(file):
            headers.append((b"last-modified", http_date(modified)))
        if not resource.until:
            headers.append((b"cache-control", resource.cache.encode()))
        if status != 304:
            headers.append((b"content-type", resource.content_type.encode()))
        if self._cors is not None:
            headers.append(VARY)
        headers.extend(resource.headers)
        return headers

    def _start(
        self, head: Head, visit: Visit, part: Selection, size: int, lines: bytes, *, close: bool
    ) -> bytes:
        """The head of one answer: those lines, and what is this one's alone."""
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


def _etag(resource: Resource, file: File | None) -> bytes:
    """A strong one: a file is written once and renamed when it is whole."""
    if resource.etag:
        return resource.etag
    if file is None:
        return b'"%x-%x"' % (zlib.crc32(resource.data), len(resource.data))
    return b'"%x-%x"' % (file.modified_ns, file.size)


def _modified(file: File | None) -> int:
    return 0 if file is None else file.modified_ns // 1_000_000_000


def _select(head: Head, resource: Resource, file: File | None, size: int) -> Selection:
    """Which part is sent. Raises Refused: 412, 416."""
    part = select(head, size=size, etag=_etag(resource, file), modified=_modified(file))
    if part.status == 416:
        raise Refused(416, headers=[(b"content-range", b"bytes */%d" % size), (b"accept-ranges", b"bytes")])
    if part.status == 412:
        raise Refused(412, "PRECONDITION_FAILED", "The file has changed.")
    return part
