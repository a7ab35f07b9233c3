"""The bridge to the application: one request through Hypercorn's ASGI stream, its answer written as HTTP/1.1 here.

Only `HTTPStream`, `TaskGroup` and `Lifespan` of Hypercorn are used; its TCP and h11 layers are not, so that nothing is
parsed twice. None of that is documented API: Hypercorn's minor is pinned, and `tests/http/test_asgi.py` fails
loudly when it moves. Whatever the application does, the connection is left either ready for the next request or cut.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.protocol.events import Body as BodyEvent
from hypercorn.protocol.events import EndBody, Event, Request, Response, StreamClosed
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from structlog.contextvars import bind_contextvars

from veza import log
from veza.http.head import Head
from veza.http.letterhead import HOP_BY_HOP, BadHeader, Letterhead
from veza.http.refusal import Refused
from veza.http.wire import Body, Disconnected, Wire

BUFFER: Final = 64 * 1024  # bytes of an answer of known length that are gathered before they are sent
PATIENCE: Final = 0.25  # seconds (up to twice that) an application may think before its client is watched
CLEANUP: Final = 5.0  # seconds an application gets to end after its client left
# Said by others on the way, already understood here, or about this connection only: not for the application.
_WITHHELD: Final = HOP_BY_HOP | {
    b"expect",
    b"forwarded",
    b"http2-settings",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-prefix",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"x-request-id",
}

Application = Callable[..., Awaitable[None]]
_log = log.get("http")


class _Log:
    """What Hypercorn has to say goes where our own lines go."""

    def __init__(self, config: Config) -> None:
        pass

    async def access(self, *_: Any) -> None:
        pass

    async def exception(self, message: str, *_: Any) -> None:
        _log.error("the application crashed", exc_info=True)

    async def warning(self, message: str, *_: Any) -> None:
        _log.warning(message)

    error = critical = warning

    async def info(self, message: str, *_: Any) -> None:
        _log.info(message)

    debug = info


class Visit:
    """Where a request came from, as the application is told."""

    __slots__ = ("client", "request_id", "secure")

    def __init__(self, client: str, request_id: str, secure: bool) -> None:
        self.client = client
        self.request_id = request_id
        self.secure = secure


class Asgi:
    """The application behind the door.

    Args:
        app: any ASGI 3 application; it may answer before it has read the body.
        host: the authority to present as Host, whatever the client wrote; None keeps the client's.
    """

    def __init__(self, app: Any, letterhead: Letterhead, *, host: bytes | None = None) -> None:
        self._config = Config()
        self._config.logger_class = _Log  # type: ignore[assignment]
        self._config.max_app_queue_size = (
            2  # a small body and its end: an upload is never more than this ahead
        )
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)
        self._state: dict[str, Any] = {}
        self._letterhead = letterhead
        self._host = host
        self._watching: set[Exchange] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The application's lifespan: started when entered, shut down when left.

        Raises:
            hypercorn.utils.LifespanFailureError: it refuses to start.
        """
        lifespan = Lifespan(self._app, self._config, cast(Any, self._state))
        async with trio.open_nursery() as nursery:
            # Shielded: when we are cancelled the application still gets its turn to shut down.
            shielded = trio.CancelScope(shield=True)
            await nursery.start(_inside, shielded, lifespan.handle_lifespan)
            try:
                await lifespan.wait_for_startup()
                nursery.start_soon(self._watch)
                yield
            finally:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLEANUP):
                    try:
                        await lifespan.wait_for_shutdown()
                    except (trio.ClosedResourceError, trio.BrokenResourceError):
                        pass  # it has ended by itself
                shielded.cancel()
                nursery.cancel_scope.cancel()

    async def _watch(self) -> None:
        """One clock for all: most answers come at once, and a timer for each would cost more than it tells."""
        before: set[Exchange] = set()
        while True:
            await trio.sleep(PATIENCE)
            for exchange in before & self._watching:
                exchange.grow_impatient()
            before = self._watching.copy()

    async def answer(
        self,
        wire: Wire,
        head: Head,
        tasks: TaskGroup,
        visit: Visit,
        limit: int | None,
    ) -> bool:
        """Let the application answer one request.

        Args:
            tasks: where its task runs.
            limit: largest body.

        Returns:
            whether the connection can be used for another request.

        Raises:
            Refused: the body is too large, malformed or too slow, and nothing has been answered yet.
            Disconnected: the client is gone, or the answer had to be cut.
        """
        body = wire.body(head, limit)
        headers = [pair for pair in head.headers if pair[0] not in _WITHHELD]
        headers.append((b"x-request-id", visit.request_id.encode()))
        if self._host is not None:
            headers = [pair for pair in headers if pair[0] != b"host"]
            headers.append((b"host", self._host))
        exchange = Exchange(wire, head, body, self._letterhead, visit.request_id, self._watching)
        stream = _Stream(
            self._app,
            self._config,
            cast(Any, self._context),
            tasks,
            visit.secure,
            (visit.client, 0),
            wire.here,
            exchange.event,
            1,
        )
        state = cast(ConnectionState, self._state.copy())
        bind_contextvars(
            request_id=visit.request_id
        )  # for every line its task logs; the next request overwrites it
        await stream.handle(Request(1, headers, head.version, head.method, head.target, state))
        try:
            await exchange.run(stream)
        except (Refused, Disconnected, trio.Cancelled):
            wire.closing = True
            # Its task ends by `http.disconnect`, or else with the connection.
            stream.tell_gone()
            nursery = tasks._nursery
            if nursery is not None:
                nursery.cancel_scope.deadline = trio.current_time() + CLEANUP
            raise
        stream.closed = True
        return not exchange.close


async def _inside(
    scope: trio.CancelScope,
    task: Callable[..., Awaitable[None]],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with scope:
        await task(task_status=task_status)


class _Stream(HTTPStream):
    """Hypercorn's stream; its own answer to a crash is replaced by our envelope."""

    app_put: Any = None

    async def _send_error_response(self, status_code: int) -> None:
        exchange: Exchange = self.send.__self__  # type: ignore[attr-defined]
        await exchange.crashed(status_code)

    def tell_gone(self) -> None:
        """Let the application know, if it still listens, that nobody waits for its answer."""
        self.closed = True
        if self.app_put is not None:
            try:
                self.app_put.__self__.send_nowait({"type": "http.disconnect"})
            except (trio.WouldBlock, trio.BrokenResourceError):
                pass


class Exchange:
    """One request and its answer: pumps the body in, writes the events that come back."""

    __slots__ = (
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
        self.broken = False
        self.close = not head.keep_alive

    async def run(self, stream: HTTPStream) -> None:
        """Feed the body, then wait for the end of the answer."""
        try:
            if not self._body.complete:
                with trio.CancelScope() as self._scope:
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
