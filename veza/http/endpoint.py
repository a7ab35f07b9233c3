"""What stands behind a WebSocket path, and how the door brings a connection to it and out again.

The client's handshake is judged from its head by the door and the endpoint. trio-websocket is then shown a canonical
handshake of our own making, so nothing in the client's bytes is parsed twice, no extension is ever negotiated, and
no token stays in its memory. The door, not trio-websocket, ends the connection: the outlet sees to the last Close.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from veza import log
from veza.config import Settings
from veza.http.head import Head
from veza.http.outlet import Outlet

_PROTOCOL_FAULTS: Final = frozenset({1002, 1003, 1007, 1009})
_log = log.get("sockets")


class SocketEndpoint(Protocol):
    """One kind of WebSocket.

    Frames are limited to `WS_FRAME_LIMIT` bytes by the outlet already; a text that arrives needs no further check of
    its size. Once `outlet.closed`, no further frame arrives.
    """

    async def admit(self, head: Head, client: str) -> Any:
        """Judge the handshake by its head: token, Origin, limits.

        Args:
            client: the address of the person, proxies seen through.

        Returns:
            whatever `run` needs to know.

        Raises:
            Refused: answered as HTTP, before any upgrade.
        """
        ...

    async def run(self, admission: Any, ws: WebSocketConnection, outlet: Outlet) -> None:
        """Serve the open socket; returning, or letting ConnectionClosed out, closes it (1000 unless the outlet sent
        another Close); any other exception closes it with 1011."""
        ...

    def subprotocol(self, admission: Any) -> str | None:
        """The subprotocol to answer with; one of those the client offered."""
        ...

    def abandon(self, admission: Any) -> None:
        """Give back what `admit` took: the socket has ended, or the handshake never came about.
        Called exactly once for every admission."""
        ...


class Endpoints:
    """The endpoints by path.

    Args:
        exact: by the whole path.
        patterns: asked in order when no exact path fits: the path in, the endpoint or None out.
    """

    def __init__(
        self,
        exact: Mapping[str, SocketEndpoint],
        *patterns: Callable[[str], SocketEndpoint | None],
    ) -> None:
        self._exact = dict(exact)
        self._patterns = patterns

    def find(self, path: str) -> SocketEndpoint | None:
        """The endpoint of a path; None if there is none."""
        found = self._exact.get(path)
        if found is not None:
            return found
        return next((found for pattern in self._patterns if (found := pattern(path)) is not None), None)


async def serve_socket(
    endpoint: SocketEndpoint,
    admission: Any,
    outlet: Outlet,
    head: Head,
    key: bytes,
    request_id: str,
    settings: Settings,
) -> None:
    """Open the socket, let the endpoint run, bring it to its end. Raises nothing that is the connection's own fault."""
    ran = False
    try:
        async with trio.open_nursery() as nursery:
            protocol = endpoint.subprotocol(admission)
            outlet.open(_handshake(head.path, key, protocol))
            with trio.move_on_after(settings.ws_handshake_timeout):
                request = await wrap_server_stream(nursery, outlet, max_message_size=settings.ws_frame_limit)
                ws = await request.accept(
                    subprotocol=protocol,
                    extra_headers=[(b"server", b"veza"), (b"x-request-id", request_id.encode())],
                )
                outlet.opened()
                ran = True
            if ran:
                await _run(endpoint, admission, ws, outlet, request_id)
            nursery.cancel_scope.cancel()
    finally:
        endpoint.abandon(admission)
        await outlet.end()


async def _run(
    endpoint: SocketEndpoint, admission: Any, ws: WebSocketConnection, outlet: Outlet, request_id: str
) -> None:
    try:
        with log.bound(request_id=request_id):
            await endpoint.run(admission, ws, outlet)
        code = 1000
    except ConnectionClosed:
        code = 1000
    except Exception:
        _log.error("a socket failed", exc_info=True, request_id=request_id)
        code = 1011
    if ws.closed is not None and ws.closed.code in _PROTOCOL_FAULTS:
        code = ws.closed.code  # wsproto saw the fault; nobody has told the peer yet
    outlet.close(code)


def _handshake(path: str, key: bytes, protocol: str | None) -> bytes:
    offer = b"Sec-WebSocket-Protocol: %b\r\n" % protocol.encode("ascii") if protocol else b""
    return (
        b"GET %b HTTP/1.1\r\nHost: veza\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n%b\r\n" % (path.encode("ascii"), key, offer)
    )
