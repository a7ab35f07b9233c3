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
from hypercorn.protocol.events import Request
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from structlog.contextvars import bind_contextvars

from veza import log
from veza.http.exchange import Exchange
from veza.http.head import Head
from veza.http.letterhead import HOP_BY_HOP, Letterhead
from veza.http.refusal import Refused
from veza.http.wire import Disconnected, Wire

PATIENCE: Final = 0.25  # seconds (up to twice that) an application may think before its client is watched
ASK: Final = "veza.ask"  # in a scope's state: see `Asgi.answer`
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
            limit: largest body. None: the application counts, and nothing is read before it asks for it, by calling
                `state[ASK]()` of its scope.

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
        if limit is None:
            state[ASK] = exchange.wait_until_asked()
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
