"""One request and its answer: the body goes to the application, the events that come back go out as HTTP/1.1.

Runs between two tasks, the connection's and the application's. Whatever the application does, what leaves is one whole
answer, or a connection that is visibly cut: never an answer whose end somebody could mistake.
"""

from collections.abc import Callable
from typing import Final

import trio
from hypercorn.protocol.events import Body as BodyEvent
from hypercorn.protocol.events import EndBody, Event, Response, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream

from veza import log
from veza.http.head import Head
from veza.http.letterhead import HOP_BY_HOP, BadHeader, Letterhead
from veza.http.refusal import Refused
from veza.http.wire import Body, Disconnected, Wire

BUFFER: Final = 64 * 1024  # bytes of an answer of known length that are gathered before they are sent
_log = log.get("http")


class Exchange:
    """One request and its answer: pumps the body in, writes the events that come back."""

    __slots__ = (
        "_asked",
        "_body",
        "_chunked",
        "_ended",
        "_event",
        "_finished",
        "_head",
        "_left",
        "_letterhead",
        "_out",
        "_request_id",
        "_scope",
        "_size",
        "_started",
        "_streams",
        "_watching",
        "_wire",
        "broken",
        "close",
    )

    def __init__(
        self,
        wire: Wire,
        head: Head,
        body: Body,
        letterhead: Letterhead,
        request_id: str,
        watching: "set[Exchange]",
    ) -> None:
        self._wire = wire
        self._head = head
        self._body = body
        self._letterhead = letterhead
        self._request_id = request_id
        self._finished = False  # the application will send nothing more
        self._started = False  # a head has been written (or gathered)
        self._ended = False  # the answer is whole
        self._chunked = False
        self._streams = False  # send pieces as they come: their sum is not known
        self._left: int | None = None  # bytes still due by the answer's own Content-Length
        self._out: list[bytes] = []
        self._size = 0
        self._watching = watching  # those whose application has been given everything, see `Asgi._watch`
        self._scope: trio.CancelScope | None = None  # what to cancel when the answer ends or breaks
        self._event: trio.Event | None = None  # or, more cheaply, to set
        self._asked: trio.Event | None = None  # if set to one: nobody has asked for the body yet
        self.broken = False
        self.close = not head.keep_alive

    def wait_until_asked(self) -> Callable[[], None]:
        """Read nothing of the body before the application calls what is returned.

        A client that sent `Expect: 100-continue` is not told to go on before, and so need not send what is refused.
        """
        self._asked = trio.Event()
        return self._asked.set

    async def run(self, stream: HTTPStream) -> None:
        """Feed the body, then wait for the end of the answer."""
        try:
            if not self._body.complete:
                with trio.CancelScope() as self._scope:
                    if self._asked is not None:
                        await self._asked.wait()
                    while not self._finished and (data := await self._body.read()):
                        await stream.handle(BodyEvent(1, data))
                    if not self._finished:
                        await stream.handle(EndBody(1))
                self._scope = None
            else:
                await stream.handle(EndBody(1))
            if not self._finished and not self.broken:
                self._event = trio.Event()
                self._watching.add(self)
                await self._event.wait()
            if not self._finished and not self.broken:
                with trio.CancelScope() as self._scope:
                    await self._wire.watch()
                    self.broken = True
        except Refused:
            if self._started:
                raise Disconnected from None  # half an answer is out: cutting it is the only honest end
            self._finished = True
            raise
        finally:
            self._scope = None
            self._watching.discard(self)
        if self.broken or not self._ended:
            raise Disconnected
        if not self._body.complete:
            self.close = True  # what is left of the request would be taken for the next one

    async def crashed(self, status: int) -> None:
        """The application ended without an answer."""
        refused = Refused(status)
        envelope = refused.envelope(self._request_id)
        length = b"%d" % len(envelope)
        await self.event(
            Response(1, [(b"content-type", b"application/json"), (b"content-length", length)], status)
        )
        if self._head.method != "HEAD":
            await self.event(BodyEvent(1, envelope))
        await self.event(EndBody(1))

    async def event(self, event: Event) -> None:
        """Take one event of the answer. Called from the application's task; never raises what is not its fault."""
        if self._finished or self.broken:
            return
        try:
            match event:
                case Response():
                    self._begin(event)
                case BodyEvent():
                    await self._piece(event.data)
                case EndBody():
                    await self._end()
                case StreamClosed():
                    self._finished = True
                    self._wake()
        except Disconnected:
            self.broken = True
            self._wake()
        except BadHeader:
            _log.error("the application sent a header with a line break", request_id=self._request_id)
            self.broken = True
            self._wake()

    def _begin(self, event: Response) -> None:
        status = event.status_code
        bodiless = status < 200 or status in (204, 304)
        headers: list[tuple[bytes, bytes]] = []
        for name, value in event.headers:
            name = name.lower()
            if name == b"connection" and b"close" in value.lower():
                self.close = True
            if name in HOP_BY_HOP or name in (b"x-request-id", b"date", b"server"):
                continue
            if name == b"content-length":
                if bodiless and status != 304:
                    continue
                self._left = int(value)
            headers.append((name, value))
        if self._head.method == "HEAD" or bodiless:
            self._left = 0
        elif self._left is None:
            self._streams = True
            if self._head.version == "1.1":
                self._chunked = True
                headers.append((b"transfer-encoding", b"chunked"))
            else:
                self.close = True
        if self._wire.closing or not self._body.complete:
            self.close = True
        self._write(
            self._letterhead.head(
                status, headers, self._request_id, version=self._head.version, close=self.close
            )
        )
        self._started = True
        _log.debug("answered", status=status, method=self._head.method, path=self._head.path)

    async def _piece(self, data: bytes) -> None:
        if self._left is not None:
            if len(data) > self._left:
                raise Disconnected  # more than its Content-Length: the rest would be read as another answer
            self._left -= len(data)
        self._write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._streams or self._size > BUFFER:
            await self._flush()

    async def _end(self) -> None:
        if self._left:
            raise Disconnected
        if self._chunked:
            self._write(b"0\r\n\r\n")
        await self._flush()
        self._ended = True

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        self._size += len(data)

    async def _flush(self) -> None:
        if self._size:
            pieces, self._out, self._size = self._out, [], 0
            await self._wire.send(*pieces)

    def grow_impatient(self) -> None:
        """The application thinks for long: from now on see whether the client is still there."""
        if self._event is not None:
            self._event.set()

    def _wake(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        elif self._event is not None:
            self._event.set()
