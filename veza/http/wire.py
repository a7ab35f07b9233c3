"""The wire: one accepted connection as HTTP sees it — heads and bodies in, answers out, each under a deadline.

It holds the bytes that were read ahead of anybody's asking, so that pipelined requests and early WebSocket frames are
never lost. Deadlines count progress, not total time. It frames bodies exactly as the head said and never guesses.
"""

from math import inf
from typing import Final

import trio
from trio.lowlevel import checkpoint

from veza.config import Settings
from veza.http import head as heads
from veza.http.chunked import ChunkError, Dechunker
from veza.http.head import Head
from veza.http.line import READ_SIZE, Line
from veza.http.refusal import Refused

LINGER: Final = (
    2.0  # seconds for which a refused client may go on sending, so that it gets to read the refusal
)
FAIR: Final = 64 * 1024  # bytes sent without a pause before others get their turn


class Disconnected(Exception):
    """The client is gone, or was let go: there is nobody to answer."""


class Wire:
    """One connection. A single task reads requests from it; at most one task at a time sends.

    Attributes:
        line: the socket underneath.
        here: our own end's address and port.
        idle_until: when to close it, while it waits for the first byte of a request. The door sees to it, with one
            clock for all: a deadline of its own for every request would cost more than reading its head.
        last: the head that was read last, as it came.
        owed: of the current request's body some has not been read: what comes next is no head.
        closing: the next answer is the last on this connection.
    """

    __slots__ = (
        "_ahead",
        "_behind",
        "_deadline",
        "_heading",
        "_read",
        "_sent",
        "_settings",
        "_stall",
        "_waits",
        "closing",
        "here",
        "idle_until",
        "last",
        "line",
        "owed",
    )

    def __init__(self, line: Line, settings: Settings) -> None:
        self.line = line
        self.here = line.here()
        self.idle_until = inf
        self.last = b""
        self._read: Head | None = None  # what `last` was read to
        self.owed = False
        self.closing = False
        self._settings = settings
        self._ahead = b""
        self._heading: trio.CancelScope | None = None  # of a head or a TLS handshake under way
        self._sent = 0
        self._stall = settings.send_timeout
        self._waits = False  # for the client to take more
        self._behind: int | None = None  # what it had not taken when `watch_over` looked first
        self._deadline = inf

    # Reading

    async def agree(self) -> None:
        """The handshake of TLS, if that is spoken. Raises Disconnected: no agreement in time."""
        if self.closing:
            raise Disconnected
        with trio.move_on_after(self._settings.head_timeout) as self._heading:
            try:
                await self.line.agree()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise Disconnected from None
            self._heading = None
            return
        raise Disconnected

    async def read_head(self, *, first: bool) -> Head | None:
        """The head of the next request.

        Args:
            first: this is the connection's first request, which has to begin at once.

        Returns:
            None when the client has nothing more to ask: it closed, or stayed idle too long.

        Raises:
            Refused: the head is malformed, too large or too slow.
            Disconnected: the connection broke.
        """
        if self.closing:
            return None
        while self._ahead.startswith(b"\r\n"):
            self._ahead = self._ahead[2:]
        if self._ahead:
            await checkpoint()  # a hundred requests sent at once are not answered in one go
        elif not await self._first_bytes(first):
            return None
        end = self._ahead.find(b"\r\n\r\n")
        if end < 0 or self._ahead[0] == 0x0D:
            if self.closing:
                raise Disconnected  # nobody waits for the rest of it any more
            with trio.move_on_after(self._settings.head_timeout) as self._heading:
                end = await self._complete_head()
            late = self._heading.cancelled_caught and self._heading.deadline <= trio.current_time()
            cut = self._heading.cancelled_caught and not late
            self._heading = None
            if late:
                raise Refused(408)
            if cut:
                raise Disconnected  # we are shutting down
            if end < 0:
                return None
        if end + 4 > self._settings.head_limit:
            raise Refused(431 if self._ahead.find(b"\r\n") < heads.TARGET_LIMIT else 414)
        raw, self._ahead = self._ahead[: end + 4], self._ahead[end + 4 :]
        if raw == self.last and self._read is not None:
            head = self._read  # players and programs ask the same again and again
        else:
            self._read = head = heads.parse(raw)
            self.last = raw
        self.owed = head.has_body
        return head

    async def peek(self) -> bytes:
        """What has come of the next request: waits for its first bytes and leaves them to `read_head`.

        Returns:
            nothing when there will be no further request.

        Raises:
            Disconnected: the connection broke.
        """
        if self._ahead:
            await checkpoint()
        elif self.closing or not await self._first_bytes(False):
            return b""
        return self._ahead

    async def _first_bytes(self, first: bool) -> bool:
        patience = self._settings.head_timeout if first else self._settings.keep_alive_timeout
        self.idle_until = trio.current_time() + patience
        try:
            self._ahead = await self.line.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Disconnected from None
        finally:
            self.idle_until = inf
        return bool(self._ahead)

    async def _complete_head(self) -> int:
        """Read on until the head is whole; its end, or −1 if the client left in the middle."""
        looked = False
        limit = self._settings.head_limit
        while True:
            while self._ahead.startswith(b"\r\n"):
                self._ahead = self._ahead[2:]
            end = self._ahead.find(b"\r\n\r\n")
            if end >= 0:
                return end
            if self._ahead and self._ahead != b"\r" and not looked:
                heads.glance(self._ahead)
                looked = b"\r\n" in self._ahead
            if len(self._ahead) > limit:
                raise Refused(431 if looked else 414)
            data = await self._receive()
            if not data:
                return -1
            self._ahead += data

    async def _receive(self) -> bytes:
        try:
            return await self.line.receive()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Disconnected from None

    def body(self, head: Head, limit: int | None = None, *, until_close: bool = False) -> "Body":
        """The body of the request whose head was read last; to be read before the next head.

        Args:
            limit: bytes after which it is refused with 413.
            until_close: without a length and not chunked, everything to the end belongs to it (live sources).

        Raises:
            Refused: 413, its declared length is beyond the limit.
        """
        return Body(self, head, limit, until_close)

    def take_ahead(self) -> bytes:
        """The bytes read ahead; they are the caller's from now on (a WebSocket took over)."""
        data, self._ahead = self._ahead, b""
        return data

    async def watch(self) -> None:
        """Return when the connection breaks. Reads ahead a little; cancelled, nothing is lost.

        A client that merely finished sending is still there to be answered.
        """
        while len(self._ahead) < READ_SIZE:
            try:
                data = await self.line.receive()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not data:
                self.closing = True
                break
            self._ahead += data
        await trio.sleep_forever()

    # Sending

    async def send(self, *pieces: bytes) -> None:
        """Send all of it.

        Raises:
            Disconnected: the connection broke, or the client took nothing for too long and was reset.
        """
        data: bytes | memoryview = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._sent += len(data)
        while True:
            try:
                taken = self.line.write(data)
            except OSError:
                raise Disconnected from None
            if taken == len(data) and not self.line.unsent:
                break
            data = memoryview(data)[taken:]
            await self.wait_writable()
        if self._sent > FAIR:
            self._sent = 0
            await checkpoint()

    async def wait_writable(self) -> None:
        """Until the client takes more. The door sees to those that never do, by `watch_over`.

        Raises:
            Disconnected: it broke, or took too long and was reset.
        """
        self._waits = True
        try:
            await self.line.wait_writable()
        except trio.ClosedResourceError:
            raise Disconnected from None
        finally:
            self._waits = False
            self._behind = None

    def watch_over(self, now: float) -> None:
        """Close the connection if it has been idle for too long; reset it if its client takes nothing any more.

        To be called every second or so: one clock for all costs less than a deadline for every wait.
        """
        if self.idle_until <= now:
            if not self.line.waiting():  # else its request came in time, and is late only because we are
                self.line.close()
        elif self._waits:
            # Perhaps it reads slowly: the kernel says "writable" only when much of its buffer is free again.
            if self._behind is None:
                self._behind, self._deadline = self.line.backlog(), now + self._stall
            elif self._deadline <= now:
                before, self._behind = self._behind, self.line.backlog()
                self._deadline = now + self._stall
                if self._behind >= before:
                    self.line.reset()

    def hurry(self, stall: float) -> None:
        """Shutdown: the current answer is the last, and who takes nothing for `stall` seconds is reset."""
        self.closing = True
        self._stall = min(self._stall, stall)
        self._deadline = min(self._deadline, trio.current_time() + self._stall)
        if self.idle_until < inf and not self.line.waiting():
            self.line.close()
        if self._heading is not None:
            self._heading.cancel()

    async def part(self, *, linger: bool) -> None:
        """Finish sending and close. With `linger`, first discard what the client still sends, so that a reset does not
        destroy the answer on its way (RFC 9112 §9.6)."""
        self.line.finish()
        if linger and not self.line.closed:
            with trio.move_on_after(LINGER):
                try:
                    while await self.line.receive():
                        pass
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
        self.line.close()


class Body:
    """The body of one request, read piece by piece: a piece is asked for only when the last one is dealt with.

    Attributes:
        complete: all of it has been read.
    """

    __slots__ = ("_continue", "_dechunker", "_left", "_limit", "_read", "_until_close", "_wire", "complete")

    def __init__(self, wire: Wire, head: Head, limit: int | None, until_close: bool) -> None:
        if limit is not None and head.length is not None and head.length > limit:
            raise Refused(413)
        self._wire = wire
        self._limit = limit
        self._read = 0
        self._continue = head.expects_continue
        self._dechunker = Dechunker() if head.chunked else None
        self._left = head.length or 0
        self._until_close = until_close and not head.chunked and head.length is None
        self.complete = not (head.chunked or self._left or self._until_close)

    async def read(self) -> bytes:
        """The next bytes, at most 64 KiB and a little; b"" at the end. Cancelled, nothing is lost.

        Raises:
            Refused: 400 bad chunks, 408 nothing came for too long, 413 too large.
            Disconnected: the client left before the end.
        """
        while not self.complete:
            self._wire.owed = True
            data = await self._next()
            if self._dechunker is not None:
                data = self._dechunk(data)
            elif self._until_close:
                self.complete = not data
            else:
                self._wire._ahead = data[self._left :]
                data = data[: self._left]
                self._left -= len(data)
                self.complete = not self._left
            self._wire.owed = not self.complete
            self._read += len(data)
            if self._limit is not None and self._read > self._limit:
                raise Refused(413)
            if data:
                return data
        return b""

    async def _next(self) -> bytes:
        wire = self._wire
        expected, self._continue = self._continue, False
        if wire._ahead:
            data, wire._ahead = wire._ahead, b""
            return data
        if expected:
            await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        with trio.move_on_after(wire._settings.body_timeout):
            data = await wire._receive()
            if not data and not self._until_close:
                raise Disconnected
            return data
        raise Refused(408)

    def _dechunk(self, data: bytes) -> bytes:
        assert self._dechunker is not None
        try:
            found = self._dechunker.feed(data)
        except ChunkError:
            raise Refused(400, sentence="The request body is not correctly chunked.") from None
        if self._dechunker.done:
            self.complete = True
            self._wire._ahead = self._dechunker.rest
        return found
