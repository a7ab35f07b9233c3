"""A broadcast: what a source gives is cut into pieces, sent when they are due, and picked up again after a break.

The source is read by a task of its own, which ends only with the broadcast: a connection that breaks takes down
nothing but itself, and the next one begins with the container's header and the piece that had not gone out. While
there is no connection a file waits, and a pipe waits as long as it can.
"""

import math
import random
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Any, Final

import httpx
import trio

from veza.client.containers import Container, Piece, Unrecognised, recognise
from veza.client.errors import ApiError, ClientError, Unreachable
from veza.client.link import single_error
from veza.client.sending import send_long
from veza.client.transport import judge

LEAD: Final = 1.0  # seconds sent ahead of time, so that a hiccup of ours is nobody's silence
LATE: Final = 2.0  # seconds behind which the clock is set anew instead of hurrying after it
STREAM_ENDED: Final = "STREAM_ENDED"
FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 5.0
STILL_HELD: Final = frozenset({403, 409, 503})  # what a server answers that has not noticed the break yet
STILL_HELD_TRIES: Final = 6


class NotBroadcastable(ClientError):
    """The source is none of the containers that can be broadcast; the text names them."""


class Programme:
    """What is to be sent, in order; outlives connections.

    Attributes:
        container: known once `recognised` is set.
        sent: bytes that went out.
        position: seconds of the programme that went out.
        over: the source has come to its end, and all of it is sent.
    """

    def __init__(self, source: AsyncIterable[bytes], content_type: str | None, realtime: bool) -> None:
        self.container: Container | None = None
        self.recognised = trio.Event()
        self.sent = 0
        self.position = 0.0
        self.over = False
        self._source = source
        self._declared = content_type
        self._realtime = realtime
        self._waiting, self._pieces = trio.open_memory_channel[Piece](16)
        self._unsent: Piece | None = None
        self._header_due = False  # a connection that does not begin at the beginning

    async def read(self) -> None:
        """Read the source to its end. Raises NotBroadcastable, and what the source raises."""
        zero = -math.inf  # the clock's reading when the first piece was due
        async with self._waiting:
            async for piece in self._cut():
                self.recognised.set()
                if self._realtime:
                    now = trio.current_time()
                    if now - (zero + piece.at) > LATE:
                        zero = now - piece.at
                    await trio.sleep_until(zero + piece.at - LEAD)
                await self._waiting.send(piece)
        self.recognised.set()

    async def _cut(self) -> AsyncIterator[Piece]:
        began = bytearray()
        try:
            async for data in self._source:
                if self.container is not None:
                    for piece in self.container.feed(data):
                        yield piece
                    continue
                began += data
                self.container = recognise(bytes(began), self._declared)
                if self.container is not None:
                    for piece in self.container.feed(bytes(began)):
                        yield piece
                    began.clear()
        except Unrecognised as error:
            raise NotBroadcastable(str(error)) from None
        if self.container is None:
            raise NotBroadcastable(
                "there is nothing in it" if not began else "it is too short to be recognised"
            )
        for piece in self.container.finish():
            yield piece

    async def body(self) -> AsyncGenerator[bytes, None]:
        """The body of one connection."""
        assert self.container is not None
        if self._header_due and self.container.header:
            yield self.container.header
        self._header_due = True
        while True:
            if self._unsent is None:
                try:
                    self._unsent = await self._pieces.receive()
                except trio.EndOfChannel:
                    self.over = True
                    return
            # Invariant: a piece stays unsent until the one after it is asked for, so a break cannot lose it.
            yield self._unsent.data
            self.sent += len(self._unsent.data)
            self.position = self._unsent.at
            self._unsent = None


async def broadcast(
    url: str,
    slug: str,
    headers: Mapping[str, str],
    programme: Programme,
    *,
    verify: Any,
    reconnect: bool,
    notice: Callable[[str], None],
) -> None:
    """Send a programme until it is over or the server ends it; see `Streams.broadcast`."""
    async with single_error(), trio.open_nursery() as nursery:
        nursery.start_soon(programme.read)
        await programme.recognised.wait()
        container = programme.container
        if container is not None:
            own = {**headers, "Content-Type": container.content_type}
            await _stay_on_air(url, f"/live/{slug}", own, programme, verify, reconnect, notice)
        nursery.cancel_scope.cancel()


async def _stay_on_air(
    url: str,
    target: str,
    headers: Mapping[str, str],
    programme: Programme,
    verify: Any,
    reconnect: bool,
    notice: Callable[[str], None],
) -> None:
    delay, held = FIRST_DELAY, 0
    while True:
        before = programme.sent
        try:
            answer = await _one_connection(url, target, headers, programme, verify)
            if not answer.is_success:
                judge(answer)
            return  # all is sent, or the stream was ended by somebody
        except Unreachable as error:
            if not reconnect:
                raise
            reason = str(error)
        except ApiError as error:
            if error.code == STREAM_ENDED and programme.sent:
                return
            held += 1
            if not before or error.status not in STILL_HELD or held > STILL_HELD_TRIES or not reconnect:
                raise
            reason = str(error)
        if programme.over:
            return
        if programme.sent > before:
            delay, held = FIRST_DELAY, 0
        notice(reason)
        await trio.sleep(delay * random.uniform(0.8, 1.2))
        delay = min(delay * 2, LONGEST_DELAY)


async def _one_connection(
    url: str, target: str, headers: Mapping[str, str], programme: Programme, verify: Any
) -> httpx.Response:
    body = programme.body()
    try:
        return await send_long(
            url, "PUT", target, headers, body, length=None, verify=verify, stall=20.0, patience=10.0
        )
    finally:
        await body.aclose()
