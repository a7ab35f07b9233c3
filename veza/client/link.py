"""One WebSocket connection, from the handshake to its end, on trio-websocket's client.

Turns everything that can end a connection into three errors: `Lost` (another may be tried), `AuthFailed` (with other
tokens) and `Closed` (it would not help). Knows frames only as text to send and bytes to decode; what they mean is the
socket's business.
"""

import json
import math
import time
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from veza.client.dialing import dialled
from veza.client.errors import (
    ApiError,
    AuthFailed,
    ClientError,
    Closed,
    ProtocolError,
    Unreachable,
)
from veza.client.frames import Frame, Welcome, decode

HANDSHAKE_TIMEOUT: Final = 10.0
PONG_TIMEOUT: Final = 20.0
CLOSE_TIMEOUT: Final = 1.0
MESSAGE_LIMIT: Final = 16 * 1024 * 1024  # a page of long messages is large
FINAL_CODES: Final = frozenset({1002, 1003, 1007, 1009, 4003, 4008, 4009})  # trying again would not help
SESSION_ENDED: Final = 4001
TOO_SLOW: Final = 1013  # at once: what was missed is sent again


class Lost(Exception):
    """The connection did not come about, or ended, and another may be tried: after `delay` seconds if that is known.

    `error` is what to tell if nobody tries.
    """

    def __init__(self, error: ClientError, delay: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.delay = delay


class Link:
    """A connection that has been welcomed."""

    def __init__(self, ws: WebSocketConnection, nursery: trio.Nursery, welcome: Welcome) -> None:
        self.welcome = welcome
        self._ws = ws
        self._nursery = nursery
        self._outgoing, self._frames = trio.open_memory_channel[str | trio.Event](math.inf)
        nursery.start_soon(self._write)
        nursery.start_soon(self._heartbeat)

    def send(self, text: str) -> None:
        """Never blocks; frames go out in this order, or are lost with the connection."""
        self._outgoing.send_nowait(text)

    async def flush(self) -> None:
        """Wait until what was sent so far is on its way."""
        written = trio.Event()
        self._outgoing.send_nowait(written)
        await written.wait()

    def start(self, task: Callable[..., Any], *args: Any) -> None:
        """A task that ends with the connection."""
        self._nursery.start_soon(task, *args)

    def cut(self) -> None:
        """End the connection as a bad network would."""
        self._nursery.cancel_scope.cancel()

    async def receive(self) -> tuple[str, str | None, Frame]:
        """The next frame.

        Raises:
            Lost, AuthFailed, Closed: the connection has ended.
            ProtocolError: that was no frame.
        """
        try:
            text = await self._ws.get_message()
        except ConnectionClosed as closed:
            raise _ended(closed) from None
        return decode(text)

    async def _write(self) -> None:
        try:
            async for text in self._frames:
                if isinstance(text, trio.Event):
                    text.set()
                else:
                    await self._ws.send_message(text)
        except ConnectionClosed:
            pass  # `receive` says so

    async def _heartbeat(self) -> None:
        """Notice a connection that died without a word."""
        try:
            while True:
                await trio.sleep(self.welcome.heartbeat_s)
                with trio.move_on_after(PONG_TIMEOUT) as patience:
                    await self._ws.ping()
                if patience.cancelled_caught:
                    self.cut()
        except ConnectionClosed:
            pass


class _Watched(trio.abc.HalfCloseableStream):
    """A stream that says when it ended: the library waits for a handshake whose connection is gone."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.ended = trio.Event()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        try:
            data = await self._stream.receive_some(max_bytes)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise
        if not data:
            self.ended.set()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.ended.set()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self._stream.aclose()


@asynccontextmanager
async def open_link(url: str, token: str, verify: Any = True) -> AsyncIterator[Link]:
    """Connect and be welcomed; the connection is closed on the way out. `cut` leaves the block without an error.

    Raises:
        Lost, AuthFailed, Closed, ApiError, ProtocolError: what became of the attempt, or ended the connection.
    """
    stream = _Watched(await _connected(url, verify))
    patience = 0.05
    try:
        async with _rejection_told(), single_error(), trio.open_nursery() as nursery:
            ws = await _shaken_hands(nursery, stream, url, token)
            try:
                yield Link(ws, nursery, await _welcomed(ws))
                patience = CLOSE_TIMEOUT
            finally:
                # If we are cancelled so is the library's reader, and nobody would notice the other side's goodbye.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + patience):
                    await ws.aclose()
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)


async def _connected(url: str, verify: Any) -> trio.abc.Stream:
    try:
        return await dialled(url, verify)
    except Unreachable as error:
        raise Lost(error) from None


async def _shaken_hands(nursery: trio.Nursery, stream: _Watched, url: str, token: str) -> WebSocketConnection:
    parts = urlsplit(url)

    async def give_up(scope: trio.CancelScope) -> None:
        await stream.ended.wait()
        scope.cancel()

    with trio.move_on_after(HANDSHAKE_TIMEOUT):
        async with trio.open_nursery() as waiting:
            waiting.start_soon(give_up, waiting.cancel_scope)
            ws = await wrap_client_stream(
                nursery,
                stream,  # type: ignore[arg-type]  # "an arbitrary stream", its documentation says
                parts.netloc,
                parts.path,
                extra_headers=[(b"Authorization", b"Bearer " + token.encode())],
                message_queue_size=64,
                max_message_size=MESSAGE_LIMIT,
            )
            waiting.cancel_scope.cancel()
            return ws
    reason = "it hung up" if stream.ended.is_set() else "no answer in time"
    raise Lost(Unreachable(f"{parts.netloc} cannot be reached: {reason}"))


@asynccontextmanager
async def _rejection_told() -> AsyncIterator[None]:
    """A refused handshake comes out of the library's reader, beside whatever else it caused."""
    try:
        yield
    except ConnectionRejected as rejected:
        raise _refused(rejected) from None
    except BaseExceptionGroup as group:
        rejections = group.subgroup(ConnectionRejected)
        if rejections is None:
            raise
        while isinstance(rejections, BaseExceptionGroup):
            rejections = rejections.exceptions[0]  # type: ignore[assignment]
        raise _refused(rejections) from None


async def _welcomed(ws: WebSocketConnection) -> Welcome:
    try:
        with trio.move_on_after(HANDSHAKE_TIMEOUT):
            _, _, frame = decode(await ws.get_message())
            if isinstance(frame, Welcome):
                return frame
    except ConnectionClosed as closed:
        raise _ended(closed) from None
    raise ProtocolError("the server did not welcome us: it is no Veza server")


@asynccontextmanager
async def single_error() -> AsyncIterator[None]:
    """A nursery inside raises what its block raised, as it is, where that was the only error."""
    try:
        yield
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        (error,) = group.exceptions
        raise error from error.__cause__


def _ended(closed: ConnectionClosed) -> Exception:
    code = closed.reason.code if closed.reason is not None else 1006
    reason = closed.reason.reason if closed.reason is not None else None
    if code == SESSION_ENDED:
        return AuthFailed(401, "AUTH_FAILED", str(Closed(code)))
    if code in FINAL_CODES:
        return Closed(code, reason)
    sentence = (
        "the connection broke" if code == 1006 else f"the server closed the connection: {reason or code}"
    )
    return Lost(Unreachable(sentence), 0.0 if code == TOO_SLOW else None)


def _refused(rejected: ConnectionRejected) -> Exception:
    """What a refusal of the handshake means for us; its body is the REST API's envelope."""
    status = rejected.status_code
    sentence = code = request_id = None
    try:
        envelope = json.loads(rejected.body or b"")
        sentence, code, request_id = (envelope.get(key) for key in ("error", "code", "request_id"))
    except (ValueError, AttributeError):
        pass
    sentence = sentence or f"the server refused the connection with status {status}"
    headers = {name.lower(): value for name, value in rejected.headers or ()}
    wait = headers.get(b"retry-after", b"")
    delay = float(wait) if wait.isdigit() else None
    if status == 401:
        return AuthFailed(401, code or "AUTH_FAILED", sentence, request_id=request_id)
    error = ApiError(status, code or f"HTTP_{status}", sentence, None, delay, request_id)
    return Lost(error, delay) if status == 429 or status >= 500 else error


def seconds_left(token: str) -> float | None:
    """How long an access token is good, by its own word; None if it does not say."""
    try:
        claims = token.split(".")[1]
        return float(json.loads(urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]) - time.time()
    except (IndexError, KeyError, ValueError, TypeError):
        return None
