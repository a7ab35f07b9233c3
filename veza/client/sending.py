"""A request with a long body: it goes out piece by piece while the answer is awaited, on a connection of its own.

Why not by the connections `Transport` keeps: they look at the answer only once the whole body has gone. Who uploads
100 MiB of something that is refused, or broadcasts to a stream that has ended, wants to know at once. `Expect:
100-continue` asks before the first piece is sent, and an answer in the middle of the body ends the sending.
"""

from collections.abc import AsyncIterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import h11
import httpx
import trio

from veza.client.dialing import dialled
from veza.client.errors import ProtocolError, Unreachable
from veza.client.link import single_error

CONTINUE_TIMEOUT: Final = 3.0  # for a server that knows nothing of 100-continue
ANSWER_AFTER_BREAK: Final = 2.0  # who hangs up on a body has often said why
ANSWER_LIMIT: Final = 4 * 1024 * 1024
_READ: Final = 64 * 1024


async def send_long(
    url: str,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: AsyncIterable[bytes],
    *,
    length: int | None,
    verify: Any = True,
    stall: float = 60.0,
    patience: float = 120.0,
) -> httpx.Response:
    """Send a request and return its answer, whatever its status.

    Args:
        url: the server's address; `target` is the path (and query) below it.
        length: bytes of the body; None sends it in chunks, to whatever end.
        stall: seconds without a byte taken, then it counts as cut.
        patience: seconds to wait for the answer once all is sent.

    Raises:
        Unreachable: no connection, or it ended without an answer.
        ProtocolError: that is no HTTP server.

    Whatever `body` raises comes out as it is. Cancelled, the connection is cut: a body in chunks then has no end, and
    the server knows it for broken.
    """
    parts = urlsplit(url)
    stream = await dialled(url, verify)
    call = _Call(stream, parts.netloc, stall)
    request = httpx.Request(method, url + target)
    usual = {
        "Host": parts.netloc,
        "User-Agent": "veza-client",
        "Accept": "application/json",
        "Connection": "close",
        "Expect": "100-continue",
    }
    usual |= {"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": str(length)}
    head = h11.Request(
        method=method,
        target=parts.path + target,
        headers=[(name.encode(), value.encode()) for name, value in {**usual, **headers}.items()],
    )
    try:
        await call.send(head)
        async with single_error(), trio.open_nursery() as nursery:
            nursery.start_soon(call.listen)
            await call.pour(body)
            with trio.move_on_after(patience):
                await call.answered.wait()
            nursery.cancel_scope.cancel()
    finally:
        await trio.aclose_forcefully(stream)
    if call.error is not None:
        raise call.error
    if call.head is None:
        raise Unreachable(f"{parts.netloc} does not answer in time")
    return httpx.Response(
        call.head.status_code, headers=list(call.head.headers), content=bytes(call.content), request=request
    )


class _Call:
    """One request on its connection.

    Invariant: `answered` is set once `head` is there with all its content that will come, or `error` says why there
    is none.
    """

    def __init__(self, stream: trio.abc.Stream, place: str, stall: float) -> None:
        self.head: h11.Response | None = None
        self.content = bytearray()
        self.error: Unreachable | ProtocolError | None = None
        self.answered = trio.Event()
        self._welcome = trio.Event()  # the body may be sent, or need not be
        self._refused = trio.CancelScope()  # around the sending: an answer ends it
        self._stream = stream
        self._place = place
        self._stall = stall
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, event: Any) -> None:
        """Write one part of the request. Raises Unreachable."""
        data = self._http.send(event)
        if not data:
            return
        try:
            with trio.fail_after(self._stall):
                await self._stream.send_all(data)
        except trio.TooSlowError:
            raise Unreachable(f"{self._place} takes nothing any more") from None
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise Unreachable(f"{self._place} hung up") from None

    async def pour(self, body: AsyncIterable[bytes]) -> None:
        """Send the body, unless an answer comes first."""
        with trio.move_on_after(CONTINUE_TIMEOUT):
            await self._welcome.wait()
        try:
            with self._refused:
                async for piece in body:
                    await self.send(h11.Data(data=piece))
                await self.send(h11.EndOfMessage())
        except Unreachable as error:
            with trio.move_on_after(ANSWER_AFTER_BREAK):
                await self.answered.wait()
            if self.head is None:
                self._fail(error)

    async def listen(self) -> None:
        """Read the answer to its end."""
        try:
            while not self.answered.is_set():
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(bytes(await self._stream.receive_some(_READ)))
                elif isinstance(event, h11.InformationalResponse):
                    self._welcome.set()
                elif isinstance(event, h11.Response):
                    self.head = event
                    self._refused.cancel()
                    self._welcome.set()
                elif isinstance(event, h11.Data):
                    self.content += event.data
                    if len(self.content) > ANSWER_LIMIT:
                        self._fail(ProtocolError("the server's answer is too long"))
                elif isinstance(event, h11.EndOfMessage):
                    self.answered.set()
                else:
                    self._fail(Unreachable(f"{self._place} hung up"))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._fail(Unreachable(f"{self._place} hung up"))
        except h11.RemoteProtocolError:
            self._fail(
                Unreachable(f"{self._place} hung up")
                if self._http.trailing_data[1]
                else ProtocolError(f"{self._place} does not speak HTTP")
            )

    def _fail(self, error: Unreachable | ProtocolError) -> None:
        # A head alone says enough; who hung up behind it may well have lost the rest on the way.
        if self.head is None and self.error is None:
            self.error = error
        self._refused.cancel()
        self._welcome.set()
        self.answered.set()
