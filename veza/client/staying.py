"""A live connection that stays: it reconnects, joins its rooms again, fetches what it missed and repeats what was not
acknowledged, so that its user sees each message once and in order, and each post is stored once.

How that holds:

- A room's numbers are gapless (`resume.Cursor`): repetitions are dropped, gaps are fetched before going on.
- A post carries a nonce made once, so repeating it after a reconnect gives the first answer.
- Requests wait in `_pending` until answered and are sent again, in order, on every new connection.
- Reading never waits for the user: when more events wait than `buffer`, further ones are not taken (nor counted as
  seen), and once the user has caught up the connection is opened anew and resumes from there.
"""

import math
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import outcome
import trio

from veza.client.errors import AuthFailed, ClientError, Closed, FrameRefused, Unreachable
from veza.client.following import Following
from veza.client.frames import (
    Connected,
    DirectMessage,
    ErrorEvent,
    Event,
    Frame,
    History,
    JoinAck,
    MessageAck,
    Reconnecting,
    RoomMessage,
    Unknown,
    Welcome,
    encode,
)
from veza.client.link import Link, Lost, open_link, seconds_left, single_error

if TYPE_CHECKING:
    from veza.client.rest import VezaClient

FIRST_DELAY: Final = 0.2  # seconds before the first new try; doubles up to the longest
LONGEST_DELAY: Final = 15.0
RENEW_BEFORE: Final = 60.0  # seconds before the token ends
FLUSH_TIMEOUT: Final = 1.0  # for the last frames to leave
FRAME_LIMIT: Final = 64 * 1024  # what the server takes
ANSWERS: Final = frozenset({"pong", "auth_ok", "leave_room_ack"})  # to requests of ours, of no use as events


class _Pending:
    """A request without an answer yet."""

    __slots__ = ("answer", "data", "done", "is_answer", "kind", "ref")

    def __init__(
        self, kind: str, data: Mapping[str, Any], ref: str, is_answer: Callable[[Frame], bool] | None
    ) -> None:
        self.kind = kind
        self.data = data
        self.ref = ref
        self.is_answer = is_answer  # for what is answered by a broadcast, which carries no `ref`
        self.answer: outcome.Outcome[Frame] | None = None
        self.done = trio.Event()

    def settle(self, answer: outcome.Outcome[Frame]) -> None:
        if self.answer is None:
            self.answer = answer
            self.done.set()


class Staying:
    """The machinery of `ChatSocket`; see there for what the arguments mean and what is promised."""

    def __init__(
        self,
        client: "VezaClient",
        *,
        listen: bool = True,
        buffer: int = 10_000,
        catch_up: int = 10_000,
        reconnect: bool = True,
    ) -> None:
        self._client = client
        self._listen = listen
        self._buffer = buffer
        self._reconnect = reconnect
        self._events, self._inbox = trio.open_memory_channel[Event](math.inf)
        self._overflown = False
        self._pending: dict[str, _Pending] = {}
        self._following = Following(self._ask, self._tell, self._full, catch_up)
        self._link: Link | None = None
        self._connections = 0
        self._first = trio.Event()
        self._error: ClientError | None = None
        self._refs = 0
        self._queue = trio.Lock()  # of those who post patiently
        self._around: Any = None

    # Life ----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._around = self._running()
        await self._around.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return cast("bool | None", await self._around.__aexit__(kind, error, trace))

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        try:
            async with single_error(), trio.open_nursery() as nursery:
                nursery.start_soon(self._stay_connected)
                await self._first.wait()
                if not self._connections and self._error is not None:
                    raise self._error
                yield
                if self._link is not None:
                    with trio.move_on_after(FLUSH_TIMEOUT):
                        await self._link.flush()
                nursery.cancel_scope.cancel()
        finally:
            self._end(Closed(1000))

    @property
    def welcome(self) -> Welcome | None:
        """Who we are on the present connection; None while there is none."""
        return self._link.welcome if self._link is not None else None

    @property
    def connected(self) -> bool:
        return self._link is not None

    def drop(self) -> None:
        """Cut the present connection, as a bad network would; the socket heals itself."""
        if self._link is not None:
            self._link.cut()

    # Events --------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            event = await self._inbox.receive()
        except trio.EndOfChannel:
            if self._error is None or (isinstance(self._error, Closed) and self._error.code == 1000):
                raise StopAsyncIteration from None
            raise self._error from None
        if self._overflown and self._waiting_events() <= self._buffer // 2:
            self._overflown = False
            self.drop()  # and resume from what the user has seen
        return event

    def _waiting_events(self) -> int:
        return self._inbox.statistics().current_buffer_used

    def _tell(self, event: Event) -> None:
        if self._listen and self._error is None:
            self._events.send_nowait(event)

    def _cast(self, kind: str, data: Mapping[str, Any]) -> None:
        if self._error is not None:
            raise self._error
        self._write(encode(kind, data))

    def _write(self, text: str) -> None:
        if self._link is not None:
            self._link.send(text)

    async def _ask(
        self, kind: str, data: Mapping[str, Any], is_answer: Callable[[Frame], bool] | None = None
    ) -> Frame:
        """Send a request, now or as soon as there is a connection, and again on each new one; wait for its answer."""
        if self._error is not None:
            raise self._error
        self._refs += 1
        pending = _Pending(kind, data, f"c{self._refs}", is_answer)
        text = encode(kind, data, pending.ref)
        if len(text.encode()) > FRAME_LIMIT:
            raise FrameRefused("MESSAGE_TOO_LONG", f"a frame may hold {FRAME_LIMIT} bytes")
        self._pending[pending.ref] = pending
        try:
            self._write(text)
            await pending.done.wait()
        finally:
            del self._pending[pending.ref]
        assert pending.answer is not None
        return pending.answer.unwrap()

    # Staying connected ---------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        delay, renewed = FIRST_DELAY, False
        while self._error is None:
            before = self._connections
            end: Lost | ClientError
            try:
                await self._one_connection()
            except (Lost, ClientError) as error:
                end = error
                if self._connections > before:  # it stood: begin again with a short delay
                    delay, renewed = FIRST_DELAY, False
            if isinstance(end, AuthFailed) and not renewed:
                renewed = True
                if (trouble := await self._renewed(end)) is None:
                    continue
                end = trouble
            if not isinstance(end, Lost):
                return self._end(end)
            if not self._reconnect or not self._connections:
                return self._end(end.error)
            wait = end.delay
            if wait is None:
                wait = delay * random.uniform(0.5, 1.0)
                delay = min(delay * 2, LONGEST_DELAY)
            self._tell(Reconnecting(reason=str(end), delay=wait))
            await trio.sleep(wait)

    async def _renewed(self, failed: AuthFailed) -> Lost | ClientError | None:
        """Get another token for the one the server refuses; None if that worked, otherwise what it comes to."""
        tokens = self._client.tokens
        if tokens is None or tokens.refresh_token is None:
            return failed
        try:
            await self._client.renew(tokens)
        except Unreachable as error:
            return Lost(error)
        except ClientError as error:
            return error
        return None

    def _end(self, error: ClientError) -> None:
        """No more connections: whoever waits is told, and the iteration ends."""
        if self._error is None:
            self._error = error
        self._first.set()
        for pending in self._pending.values():
            pending.settle(outcome.Error(self._error))
        self._events.close()

    async def _one_connection(self) -> NoReturn:
        """Connect, resume, and serve until the connection ends, which is always an error."""
        if self._client.tokens is None:
            raise AuthFailed(401, "AUTH_FAILED", "not logged in")
        token = self._client.tokens.access_token
        try:
            async with open_link(self._client.socket_url, token, self._client.verify) as link:
                self._greet(link)
                link.start(self._stay_authorised, link, token)
                while True:
                    self._dispatch(link, *await link.receive())
        finally:
            self._link = None
            self._following.lost()
        raise Lost(Unreachable("the connection was dropped"), 0.0)

    def _greet(self, link: Link) -> None:
        """What must be said on a new connection before anything new: what is unanswered, and where we stood."""
        resumed = self._connections > 0
        self._connections += 1
        self._link = link
        self._first.set()
        self._tell(Connected(welcome=link.welcome, resumed=resumed))
        for pending in self._pending.values():
            link.send(encode(pending.kind, pending.data, pending.ref))
        self._following.greeted(link, resumed)

    async def _stay_authorised(self, link: Link, token: str) -> None:
        """Before the token ends, get a new one and show it; without a way to renew, let the server end it."""
        while True:
            left = seconds_left(token)
            tokens = self._client.tokens
            if left is None or tokens is None or tokens.refresh_token is None:
                return
            await trio.sleep(max(left - RENEW_BEFORE, left / 2, 0.5))
            try:
                if tokens is self._client.tokens:
                    await self._client.renew(tokens)
            except ClientError:
                return  # the server closes with 4001, and there it is dealt with
            if self._client.tokens is None:
                return
            token = self._client.tokens.access_token
            link.send(encode("auth", {"token": token}))

    # Frames --------------------------------------------------------------------------------------------

    def _dispatch(self, link: Link, _kind: str, ref: str | None, frame: Frame) -> None:
        if isinstance(frame, (RoomMessage, DirectMessage)):
            self._following.message(link, frame)
            return
        pending = self._pending.get(ref) if ref is not None else None
        if isinstance(frame, JoinAck):
            self._following.joined(link, frame, pending.data if pending is not None else {})
        if pending is not None:
            if isinstance(frame, ErrorEvent):
                pending.settle(outcome.Error(FrameRefused(frame.code, frame.message, frame.details)))
            else:
                pending.settle(outcome.Value(frame))
            if pending.is_answer is None or isinstance(frame, ErrorEvent):
                return
        for waiting in self._pending.values():
            if waiting.is_answer is not None and waiting.is_answer(frame):
                waiting.settle(outcome.Value(frame))
                break
        self._following.seen(frame)
        if self._wants_event(frame):
            self._tell(cast(Event, frame))

    def _wants_event(self, frame: Frame) -> bool:
        if isinstance(frame, (JoinAck, MessageAck, History, Welcome)):
            return False
        if isinstance(frame, Unknown) and frame.type in ANSWERS:
            return False
        return not self._full()

    def _full(self) -> bool:
        """Do as many events wait for the user as may? Once they do, none are taken until he has caught up."""
        if self._listen and self._waiting_events() >= self._buffer:
            self._overflown = True
        return self._overflown
