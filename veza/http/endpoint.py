"""What stands behind a WebSocket path, and how the door brings a connection to it and out again.

The handshake is judged from its head and answered by the door; trio-websocket sees frames only. So nothing in the
client's bytes is parsed twice, no extension is ever negotiated, and no token stays in memory. The door, not
trio-websocket, ends the connection: the outlet sees to the last Close.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

import trio
from structlog.contextvars import bind_contextvars
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto.utilities import generate_accept_token

from veza import log
from veza.http.head import Head
from veza.http.outlet import Outlet
from veza.http.texts import TextProtocol

_PROTOCOL_FAULTS: Final = frozenset({1002, 1003, 1007, 1009})
_log = log.get("sockets")


class SocketEndpoint(Protocol):
    """One kind of WebSocket.

    Frames are limited by the outlet already, to `frame_limit` bytes where the endpoint has such an attribute, else to
    `WS_FRAME_LIMIT`; what arrives needs no further check of its size. Once `outlet.closed`, no further frame arrives.
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


def frame_limit(endpoint: SocketEndpoint, usual: int) -> int:
    """The longest message this endpoint takes, in bytes."""
    return int(getattr(endpoint, "frame_limit", usual))


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


def acceptance(key: bytes, protocol: str | None, request_id: str) -> bytes:
    """The answer that turns the connection into a WebSocket (RFC 6455 §4.2.2). No extension is ever accepted.

    Args:
        key: the client's, checked.
        protocol: the subprotocol agreed on.
    """
    chosen = f"sec-websocket-protocol: {protocol}\r\n" if protocol else ""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        b"sec-websocket-accept: %b\r\n%bserver: veza\r\nx-request-id: %b\r\n\r\n"
        % (generate_accept_token(key), chosen.encode("ascii"), request_id.encode())
    )


async def serve_socket(
    endpoint: SocketEndpoint, admission: Any, outlet: Outlet, request_id: str, frame_limit: int
) -> None:
    """Let the endpoint run on an open socket and bring it to its end. Nothing is raised that is its own fault."""
    bind_contextvars(request_id=request_id)
    # trio-websocket's own opening parses the handshake once more, with h11: 200 µs and 3 KB for every connection. It
    # is answered already, so this connection begins where a handshake ends; a test notices if that ever moves.
    ws = WebSocketConnection(outlet, cast(Any, TextProtocol()), max_message_size=frame_limit)
    code = 1011
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ws._reader_task)
            try:
                await endpoint.run(admission, ws, outlet)
                code = 1000
            except ConnectionClosed:
                code = 1000
            except Exception:
                _log.error("a socket failed", exc_info=True)
            if ws.closed is not None and ws.closed.code in _PROTOCOL_FAULTS:
                code = ws.closed.code  # wsproto saw the fault; nobody has told the peer yet
            nursery.cancel_scope.cancel()
    finally:
        endpoint.abandon(admission)
        outlet.close(code)
        await outlet.end()
