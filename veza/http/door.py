"""The door: one port; accepts connections, reads the head of every request and sends it to one of three rooms.

WebSockets go to their endpoints over an outlet of ours, files to `media`, everything else to the application. The
door refuses early and in the same envelope as the application. A connection's fault ends that connection alone and
never the listener; shutting down is never delayed by somebody who does not read.
"""

import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import trio
from hypercorn.trio.task_group import TaskGroup
from trio.lowlevel import notify_closing

from veza import log
from veza.config import Settings
from veza.http import tls
from veza.http.asgi import Asgi, Visit
from veza.http.clients import Proxies
from veza.http.endpoint import Endpoints, SocketEndpoint, acceptance, frame_limit, serve_socket
from veza.http.head import Head
from veza.http.letterhead import Letterhead, request_id
from veza.http.line import Line
from veza.http.listen import accept, open_listeners
from veza.http.outlet import Outlet
from veza.http.refusal import Refused
from veza.http.wire import Disconnected, Wire
from veza.security.rates import neighbourhood

__all__ = ["Door", "Media", "open_listeners", "serve"]

TURNED_AWAY: Final = 100  # refused connections that may be told why at the same time
Opened = tuple[
    SocketEndpoint, Any, Outlet, str
]  # a WebSocket to serve: endpoint, admission, outlet, request id
_log = log.get("door")


class Media(Protocol):
    """The room that serves bytes of files."""

    def claims(self, head: Head) -> bool:
        """Is this request for it?"""
        ...

    async def answer(self, wire: Wire, head: Head, visit: Visit) -> bool:
        """Answer it; whether the connection can go on. Raises Refused, Disconnected."""
        ...


class Door:
    """The open door; made by `serve`."""

    def __init__(
        self,
        settings: Settings,
        *,
        asgi_app: Any,
        sockets: Endpoints,
        media: Media | None,
        body_limit: Callable[[Head], int | None] | None,
        context: ssl.SSLContext | None,
    ) -> None:
        host = urlsplit(settings.public_url).netloc if settings.public_url else None
        self.port = 0
        self._settings = settings
        self._sockets = sockets
        self._media = media
        self._body_limit = body_limit or (lambda _head: settings.body_limit)
        self._context = context
        self._proxies = Proxies(settings.trusted_proxies)
        self._letterhead = Letterhead(settings)
        self._asgi = Asgi(asgi_app, self._letterhead, host=host.encode() if host else None)
        self._listeners: list[socket.socket] = []
        self._wires: set[Wire] = set()
        self._outlets: set[Outlet] = set()
        self._addresses: Counter[str] = Counter()
        self._count = 0
        self._turned_away = 0
        self._stop = trio.Event()  # set: no new connections, answers under way are the last
        self._empty = trio.Event()
        self._stopped = trio.Event()
        self._background: trio.Nursery | None = None

    # For the composition root

    @property
    def connections(self) -> int:
        """Connections open now, WebSockets included."""
        return self._count

    @property
    def open_sockets(self) -> int:
        """WebSockets open now."""
        return len(self._outlets)

    def stop_accepting(self) -> None:
        """Begin to shut down: no new connections, idle ones are closed, answers under way are the last of theirs."""
        if self._stop.is_set():
            return
        self._stop.set()
        for listener in self._listeners:
            notify_closing(listener)
            listener.close()
        for wire in list(self._wires):
            wire.hurry(self._settings.shutdown_send_timeout)
        for outlet in list(self._outlets):
            outlet.hurry(self._settings.shutdown_send_timeout)
        if not self._count:
            self._empty.set()

    def close_sockets(self, code: int = 1001, reason: str = "The server is going away.") -> None:
        """Send every WebSocket its Close, behind what is queued for it."""
        for outlet in list(self._outlets):
            outlet.close(code, reason)

    async def shut(self, timeout: float | None = None) -> None:
        """Shut down in order: `stop_accepting`, `close_sockets`, wait for the last connection; `serve` then returns.

        Args:
            timeout: seconds after which connections that are left are cut (default: `SHUTDOWN_TIMEOUT`).
        """
        self.stop_accepting()
        self.close_sockets()
        with trio.move_on_after(self._settings.shutdown_timeout if timeout is None else timeout):
            await self._empty.wait()
        self._stopped.set()

    # Running

    async def _run(self, listeners: list[socket.socket], task_status: trio.TaskStatus["Door"]) -> None:
        self._listeners = listeners
        self.port = listeners[0].getsockname()[1]
        try:
            async with self._asgi.running(), trio.open_nursery() as nursery:
                self._background = nursery
                for listener in listeners:
                    nursery.start_soon(accept, listener, self._welcome)
                nursery.start_soon(self._sweep)
                task_status.started(self)
                await self._stopped.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._stop.set()
            for listener in listeners:
                listener.close()

    async def _sweep(self) -> None:
        """See to the connections that have been idle, or not been read, for too long."""
        settings = self._settings
        patience = min(
            settings.head_timeout,
            settings.keep_alive_timeout,
            settings.send_timeout,
            settings.shutdown_send_timeout,
        )
        while True:
            await trio.sleep(min(1.0, patience / 8))
            now = trio.current_time()
            for at, wire in enumerate(list(self._wires)):
                wire.watch_over(now)
                if at % 1000 == 999:
                    await trio.lowlevel.checkpoint()

    def _welcome(self, sock: socket.socket, peer: str) -> None:
        line = Line(sock)
        settings = self._settings
        if self._count >= settings.max_connections:
            return self._turn_away(line, Refused(503, headers=[(b"retry-after", b"5")]))
        place = neighbourhood(peer)
        if self._addresses[place] >= settings.max_connections_per_ip and not self._proxies.trusts(peer):
            return self._turn_away(line, Refused(429, headers=[(b"retry-after", b"5")]))
        self._count += 1
        self._addresses[place] += 1
        self._spawn(self._connection, line, peer)
        return None

    def _turn_away(self, line: Line, refused: Refused) -> None:
        """Refuse a connection, with a word if that costs little."""
        if self._context is not None or self._turned_away >= TURNED_AWAY:
            return line.close()
        self._turned_away += 1
        self._spawn(self._part, line, refused)
        return None

    async def _part(self, line: Line, refused: Refused) -> None:
        try:
            wire = Wire(line, self._settings)
            with trio.move_on_after(self._settings.shutdown_send_timeout):
                await self._refuse(wire, None, refused, request_id(None), close=True)
        except Disconnected:
            pass
        finally:
            line.close()
            self._turned_away -= 1

    async def _connection(self, line: Line, peer: str) -> None:
        try:
            line.hasten()
            if self._context is not None:
                line = tls.TlsLine(line, self._context)
            wire = Wire(line, self._settings)
            self._wires.add(wire)
            try:
                if self._stop.is_set():
                    wire.hurry(self._settings.shutdown_send_timeout)
                await wire.agree()
                opened = await self._requests(wire, peer)
            finally:
                self._wires.discard(wire)
            if opened is not None:
                # A socket stays for hours: nothing of its handshake does.
                del wire
                try:
                    await serve_socket(*opened, frame_limit(opened[0], self._settings.ws_frame_limit))
                finally:
                    self._outlets.discard(opened[2])
        except Disconnected:
            pass
        except (Exception, BaseExceptionGroup) as error:
            _report(error)
        finally:
            line.close()
            self._count -= 1
            place = neighbourhood(peer)
            self._addresses[place] -= 1
            if not self._addresses[place]:
                del self._addresses[place]
            if self._stop.is_set() and not self._count:
                self._empty.set()

    async def _requests(self, wire: Wire, peer: str) -> Opened | None:
        """Serve the requests of one connection, until its end or until it has become a WebSocket."""
        try:
            head = await wire.read_head(first=True)
            while head is not None:
                if not head.websocket:
                    head = await self._until_websocket(wire, peer, head)
                    continue
                opened = await self._open(wire, head, peer)
                if opened is not None or wire.line.closed:
                    return opened
                head = await wire.read_head(first=False)
        except Refused as refused:
            await self._refuse(wire, None, refused, request_id(None), close=True)
        else:
            await wire.part(linger=False)
        return None

    async def _until_websocket(self, wire: Wire, peer: str, head: Head) -> Head | None:
        """Answer this request and those behind it; the first that asks for a WebSocket, None at the end."""
        async with TaskGroup() as tasks:
            while await self._request(wire, head, peer, tasks):
                try:
                    found = await wire.read_head(first=False)
                except Refused as refused:  # here: the nursery would wrap it
                    await self._refuse(wire, None, refused, request_id(None), close=True)
                    return None
                if found is None or found.websocket:
                    return found
                head = found
        return None

    async def _request(self, wire: Wire, head: Head, peer: str, tasks: TaskGroup) -> bool:
        """Answer one request; whether the connection goes on."""
        visit = self._visit(wire, head, peer)
        try:
            if head.path == "/ws" or head.path.startswith("/ws/"):
                raise self._not_a_socket(head)
            if head.target == b"*":
                raise Refused(404, sentence="Ask about an address.")
            if self._media is not None and self._media.claims(head):
                go_on = await self._media.answer(wire, head, visit)
            else:
                go_on = await self._asgi.answer(wire, head, tasks, visit, self._body_limit(head))
        except Refused as refused:
            return await self._refuse_request(wire, head, refused, visit)
        except Disconnected:
            wire.line.close()  # not raised: its application gets the time to notice, see `Asgi.answer`
            return False
        if not go_on:
            await wire.part(linger=wire.owed)
        return go_on

    def _not_a_socket(self, head: Head) -> Refused:
        if self._sockets.find(head.path) is None:
            return Refused(404)
        if head.method != "GET":
            return Refused(405, headers=[(b"allow", b"GET")])
        return Refused(426, headers=[(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13")])

    async def _open(self, wire: Wire, head: Head, peer: str) -> Opened | None:
        """Answer a WebSocket's handshake; None if it was refused."""
        visit = self._visit(wire, head, peer)
        endpoint = self._sockets.find(head.path)
        try:
            if endpoint is None:
                raise Refused(404)
            if head.has_body:
                raise Refused(400)
            if self._stop.is_set():
                raise Refused(503, headers=[(b"retry-after", b"5")])
            key = head.websocket_key
            admission = await endpoint.admit(head, visit.client)
        except Refused as refused:
            await self._refuse_request(wire, head, refused, visit)
            return None
        try:
            with trio.fail_after(self._settings.ws_handshake_timeout):
                protocol = endpoint.subprotocol(admission)
                await wire.send(acceptance(key, protocol, visit.request_id))
        except BaseException:
            endpoint.abandon(admission)
            raise
        outlet = Outlet(
            wire.line,
            self._spawn_flusher,
            limit=self._settings.outlet_limit,
            grace=self._settings.outlet_close_grace,
            stall=self._settings.send_timeout,
            frame_limit=frame_limit(endpoint, self._settings.ws_frame_limit),
            ahead=wire.take_ahead(),
        )
        self._outlets.add(outlet)  # from here on it is what shuts the connection down
        if self._stop.is_set():
            outlet.hurry(self._settings.shutdown_send_timeout)
            outlet.close(1001)
        return endpoint, admission, outlet, visit.request_id

    def _spawn(self, task: Callable[..., Any], *arguments: Any) -> None:
        assert self._background is not None
        self._background.start_soon(task, *arguments)

    def _spawn_flusher(self, flusher: Callable[[], Any]) -> None:
        self._spawn(_guarded, flusher)

    def _visit(self, wire: Wire, head: Head, peer: str) -> Visit:
        return Visit(
            self._proxies.client(peer, head),
            request_id(head),
            self._proxies.secure(peer, head, wire.line.secure),
        )

    # Refusing

    async def _refuse_request(self, wire: Wire, head: Head, refused: Refused, visit: Visit) -> bool:
        """Refuse a request whose head was good; whether the connection goes on."""
        close = not head.keep_alive or wire.owed or wire.closing
        await self._refuse(wire, head, refused, visit.request_id, close=close)
        return not close

    async def _refuse(
        self, wire: Wire, head: Head | None, refused: Refused, request_id: str, *, close: bool
    ) -> None:
        path = head.path if head is not None else None
        _log.debug("refused", status=refused.status, code=refused.code, path=path, request_id=request_id)
        start, body = self._letterhead.refusal(refused, head, request_id, close=close)
        await wire.send(start, body)
        if close:
            await wire.part(linger=head is None or wire.owed or wire.closing)


async def _guarded(task: Callable[[], Any]) -> None:
    """Run something that belongs to one connection: its failure is not everybody's."""
    try:
        await task()
    except Exception as error:
        _report(error)


def _report(error: BaseException) -> None:
    """A connection ended by an exception: ordinary ends are nobody's business, what is not an error goes on."""
    rest: BaseException | None = error
    if isinstance(error, BaseExceptionGroup):
        _, rest = error.split((Disconnected, trio.BrokenResourceError, trio.ClosedResourceError))
    if isinstance(rest, BaseExceptionGroup):
        rest, others = rest.split(Exception)
        if others is not None:
            raise others  # cancellation, interruption
    if rest is not None:
        _log.error("a connection failed", exc_info=rest)


async def serve(
    settings: Settings,
    *,
    asgi_app: Any,
    sockets: Mapping[str, SocketEndpoint] | Endpoints,
    media: Media | None = None,
    body_limit: Callable[[Head], int | None] | None = None,
    listeners: list[socket.socket] | None = None,
    task_status: trio.TaskStatus[Door] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `Door.shut`, or until cancelled (then all connections are cut).

    Args:
        asgi_app: answers what neither of the other two rooms takes.
        sockets: endpoints by exact path (`/ws/chat`), or an `Endpoints` that finds them.
        media: the room of files.
        body_limit: the largest body of a request to the application; default `BODY_LIMIT`. None is no limit, for
            applications that stream a body to disk, count for themselves and ask before the first byte (`Asgi.answer`).
        listeners: listening sockets, made by `open_listeners`; default `HOST` and `PORT` of the settings.
        task_status: started with the `Door`, once connections are accepted.

    Raises:
        OSError: the port cannot be had.
        ssl.SSLError: certificate and key are no pair.
    """
    context = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        context = tls.server_context(settings.tls_cert, settings.tls_key)
    endpoints = sockets if isinstance(sockets, Endpoints) else Endpoints(sockets)
    door = Door(
        settings, asgi_app=asgi_app, sockets=endpoints, media=media, body_limit=body_limit, context=context
    )
    if listeners is None:
        listeners = await open_listeners(settings.host, settings.port)
    await door._run(listeners, task_status)
