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
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, cast

import outcome
import trio

from veza.client.errors import AuthFailed, ClientError, Closed, FrameRefused, Unreachable
from veza.client.frames import (
    Connected,
    DirectMessage,
    ErrorEvent,
    Event,
    Frame,
    Gap,
    History,
    JoinAck,
    MessageAck,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    MessageUnpinned,
    MessageUpdated,
    ReactionUpdated,
    Reconnecting,
    RoomMessage,
    Welcome,
    encode,
)
from veza.client.link import Link, Lost, open_link, seconds_left, single_error
from veza.client.resume import Cursor

if TYPE_CHECKING:
    from veza.client.rest import VezaClient

RoomName = str | int

FIRST_DELAY: Final = 0.2  # seconds before the first new try; doubles up to the longest
LONGEST_DELAY: Final = 15.0
RENEW_BEFORE: Final = 60.0  # seconds before the token ends
FLUSH_TIMEOUT: Final = 1.0  # for the last frames to leave
FRAME_LIMIT: Final = 64 * 1024  # what the server takes
GONE_CODES: Final = frozenset(
    {"NOT_JOINED", "BANNED", "ROOM_NOT_FOUND"}
)  # unasked: this room is no longer ours
_CHANGES: Final = (MessageEdited, MessageDeleted, MessagePinned, MessageUnpinned, ReactionUpdated)


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


class _Subscription:
    """A room we listen to, over all connections."""

    __slots__ = ("cursor", "filling", "resuming", "room_id", "with_user")

    def __init__(self, room_id: int, cursor: Cursor, with_user: int | None = None) -> None:
        self.room_id = room_id
        self.cursor = cursor
        self.with_user = with_user
        self.resuming = False  # asked to be told what was missed; until the answer gaps are no reason to ask
        self.filling = False  # a task fetches what is missing

    @property
    def address(self) -> dict[str, Any]:
        return {"room": self.room_id} if self.with_user is None else {"with_user": self.with_user}


class ChatSocket:
    """Live chat as one person. Use it as an async context manager, and iterate over it for what happens.

    Args:
        client: where the tokens are and are renewed.
        listen: False for one who only sends: no events are kept.
        buffer: how many events may wait for the user (see the module's text).
        catch_up: how many missed messages of a room are fetched by itself; more become one `Gap` event.
        reconnect: False to end with `Closed` instead when the connection is lost.

    Entering connects, and raises `AuthFailed`, `Unreachable`, `Closed` or `ProtocolError` if that fails. Later losses
    are healed in the background and told by `Reconnecting` and `Connected` events. What cannot be healed (banned,
    session ended) ends the iteration with its error, and every waiting and later call raises it too.
    """

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
        self._catch_up = catch_up
        self._reconnect = reconnect
        self._events, self._inbox = trio.open_memory_channel[Event](math.inf)
        self._overflown = False
        self._pending: dict[str, _Pending] = {}
        self._subscriptions: dict[int, _Subscription] = {}
        self._link: Link | None = None
        self._connections = 0
        self._first = trio.Event()
        self._error: ClientError | None = None
        self._refs = 0
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

    # Talking -------------------------------------------------------------------------------------------

    async def join(
        self,
        room: RoomName | None = None,
        *,
        with_user: int | None = None,
        since_seq: int | None = None,
        since_rev: int | None = None,
    ) -> JoinAck:
        """Listen to a room (and become a member of a public one). What came after `since_seq` follows as events.

        Raises:
            FrameRefused: `ROOM_NOT_FOUND`, `BANNED`, `ROOM_FULL`, …
        """
        data = {"room": room, "with_user": with_user, "since_seq": since_seq, "since_rev": since_rev}
        return cast(JoinAck, await self._ask("join_room", data))

    async def leave(self, room: RoomName) -> None:
        """Stop listening; the membership stays."""
        answer = await self._ask("leave_room", {"room": room})
        room_id = getattr(answer, "data", {}).get("room_id", room)
        for subscription in list(self._subscriptions.values()):
            if subscription.room_id == room_id:
                del self._subscriptions[subscription.room_id]

    async def send(
        self,
        room: RoomName,
        content: str,
        *,
        nonce: str | None = None,
        reply_to: int | None = None,
        message_type: str | None = None,
        media_url: str | None = None,
        media_type: str | None = None,
        duration: float | None = None,
        patient: bool = False,
    ) -> MessageAck:
        """Post to a room; returns when the message is stored.

        With `patient`, waits and tries again when the server says how long (`RATE_LIMITED`, `SLOW_MODE`,
        `UNAVAILABLE`). Cancelled, it is unknown whether the message is stored; sending it again with the same nonce
        is safe.
        """
        data = {
            "room": room,
            "content": content,
            "nonce": nonce or uuid.uuid4().hex,
            "reply_to": reply_to,
            "message_type": message_type,
            "media_url": media_url,
            "media_type": media_type,
            "duration": duration,
        }
        return cast(MessageAck, await self._post("room_message", data, patient))

    async def send_direct(
        self,
        to_user_id: int,
        content: str,
        *,
        nonce: str | None = None,
        reply_to: int | None = None,
        message_type: str | None = None,
        patient: bool = False,
    ) -> MessageAck:
        """Write to one person; returns when the message is stored."""
        data = {
            "to_user_id": to_user_id,
            "content": content,
            "nonce": nonce or uuid.uuid4().hex,
            "reply_to": reply_to,
            "message_type": message_type,
        }
        return cast(MessageAck, await self._post("direct_message", data, patient))

    async def _post(self, kind: str, data: Mapping[str, Any], patient: bool) -> Frame:
        while True:
            try:
                return await self._ask(kind, data)
            except FrameRefused as refusal:
                if not patient or refusal.retry_after is None:
                    raise
                await trio.sleep(refusal.retry_after + 0.05)

    async def history(
        self,
        room: RoomName | None = None,
        *,
        with_user: int | None = None,
        limit: int = 50,
        before_seq: int | None = None,
        after_seq: int | None = None,
    ) -> History:
        """A page of messages, ascending: the newest, or those before, or right after, a number."""
        data = {"limit": limit, "before_seq": before_seq, "after_seq": after_seq}
        if with_user is not None:
            return cast(History, await self._ask("dm_history", {"with_user": with_user, **data}))
        return cast(History, await self._ask("room_history", {"room": room, **data}))

    async def pages(
        self, room: RoomName | None = None, *, with_user: int | None = None, limit: int = 100
    ) -> AsyncIterator[History]:
        """The whole history, newest page first."""
        before = None
        while True:
            page = await self.history(room, with_user=with_user, limit=limit, before_seq=before)
            yield page
            if not page.has_more or not page.messages:
                return
            before = page.next_before_seq or page.messages[0].seq

    # Changes are answered by what everybody in the room sees, so they need a subscription to it.

    async def edit(self, message_id: int, content: str) -> None:
        await self._change("edit_message", {"id": message_id, "content": content}, MessageEdited)

    async def delete(self, message_id: int) -> None:
        await self._change("delete_message", {"id": message_id}, MessageDeleted)

    async def react(self, message_id: int, emoji: str) -> None:
        await self._change("add_reaction", {"id": message_id, "emoji": emoji}, ReactionUpdated, True)

    async def unreact(self, message_id: int, emoji: str) -> None:
        await self._change("remove_reaction", {"id": message_id, "emoji": emoji}, ReactionUpdated, False)

    async def pin(self, message_id: int) -> None:
        await self._change("pin_message", {"id": message_id}, MessagePinned)

    async def unpin(self, message_id: int) -> None:
        await self._change("unpin_message", {"id": message_id}, MessageUnpinned)

    async def _change(
        self, kind: str, data: Mapping[str, Any], answer: type[Frame], added: bool | None = None
    ) -> None:
        def is_answer(frame: Frame) -> bool:
            if not isinstance(frame, answer) or getattr(frame, "id", None) != data["id"]:
                return False
            if not isinstance(frame, ReactionUpdated):
                return True
            ours = self.welcome is not None and frame.user_id == self.welcome.user_id
            return ours and frame.emoji == data["emoji"] and frame.added is added

        await self._ask(kind, data, is_answer)

    # What needs no answer; lost if there is no connection.

    def typing(
        self, is_typing: bool = True, *, room: RoomName | None = None, to_user_id: int | None = None
    ) -> None:
        self._cast("typing", {"room": room, "to_user_id": to_user_id, "is_typing": is_typing})

    def mark_read(self, seq: int, *, room: RoomName | None = None, with_user: int | None = None) -> None:
        self._cast("mark_read", {"room": room, "with_user": with_user, "seq": seq})

    def set_presence(self, status: str, text: str | None = None) -> None:
        self._cast("set_presence", {"status": status, "text": text})

    async def ping(self) -> None:
        """A round trip through the server's session."""
        await self._ask("ping", {}, lambda frame: getattr(frame, "type", None) == "pong")

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
            for subscription in self._subscriptions.values():
                subscription.cursor.forget_early()
                subscription.resuming = subscription.filling = False
        raise Lost(Unreachable("the connection was dropped"), 0.0)

    def _greet(self, link: Link) -> None:
        """What must be said on a new connection before anything new: what is unanswered, and where we stood."""
        resumed = self._connections > 0
        self._note_conversations(link.welcome, resumed)
        self._connections += 1
        self._link = link
        self._first.set()
        self._tell(Connected(welcome=link.welcome, resumed=resumed))
        for pending in self._pending.values():
            link.send(encode(pending.kind, pending.data, pending.ref))
        if resumed:
            for subscription in self._subscriptions.values():
                subscription.resuming = True
                link.start(self._resume, subscription)

    def _note_conversations(self, welcome: Welcome, resumed: bool) -> None:
        for conversation in welcome.conversations:
            if conversation.room_id not in self._subscriptions:
                # On the first connection we begin with now; one that appeared since is new from its beginning.
                cursor = Cursor(0 if resumed else conversation.last_seq)
                subscription = _Subscription(conversation.room_id, cursor, conversation.with_user)
                self._subscriptions[conversation.room_id] = subscription

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

    # Resuming ------------------------------------------------------------------------------------------

    async def _resume(self, subscription: _Subscription) -> None:
        """Join again from where we stood, until that works or is refused for good."""
        cursor = subscription.cursor
        while self._subscriptions.get(subscription.room_id) is subscription:
            since = {"since_seq": cursor.last_seq, "since_rev": cursor.last_rev}
            try:
                await self._ask("join_room", {**subscription.address, **since})
                return
            except FrameRefused as refusal:
                if refusal.retry_after is None:
                    self._subscriptions.pop(subscription.room_id, None)
                    details = {**refusal.details, "room_id": subscription.room_id}
                    self._tell(ErrorEvent(code=refusal.code, message=str(refusal), details=details))
                    return
                await trio.sleep(refusal.retry_after)
            except ClientError:
                return

    async def _fill(self, link: Link, subscription: _Subscription, upto: int) -> None:
        """Fetch what lies between the last delivered message and `upto`, page by page, and deliver it."""
        cursor = subscription.cursor
        try:
            if upto - cursor.last_seq > self._catch_up:
                self._give_up(subscription, upto - self._catch_up)
            while cursor.last_seq < upto and not self._full():
                page = await self._page_after(subscription, cursor.last_seq)
                reached = cursor.last_seq
                for message in page.messages:
                    self._deliver(cursor.offer(message))
                if cursor.last_seq == reached:  # it cannot be had
                    self._give_up(subscription, min((cursor.missing or (0, upto))[1], upto))
        except ClientError:
            pass
        finally:
            subscription.filling = False
        self._fill_if_missing(link, subscription)

    async def _page_after(self, subscription: _Subscription, seq: int) -> History:
        while True:
            try:
                return await self.history(subscription.room_id, after_seq=seq, limit=100)
            except FrameRefused as refusal:
                if refusal.retry_after is None:
                    return History(messages=[])
                await trio.sleep(refusal.retry_after)

    def _give_up(self, subscription: _Subscription, upto: int) -> None:
        first = subscription.cursor.last_seq + 1
        due = subscription.cursor.skip(upto)
        self._tell(Gap(room_id=subscription.room_id, first=first, last=upto))
        self._deliver(due)

    def _fill_if_missing(self, link: Link, subscription: _Subscription, upto: int | None = None) -> None:
        missing = subscription.cursor.missing
        if missing is not None:
            upto = missing[1]
        if upto is None or upto <= subscription.cursor.last_seq:
            return
        if subscription.filling or subscription.resuming or self._overflown:
            return
        subscription.filling = True
        link.start(self._fill, link, subscription, upto)

    # Frames --------------------------------------------------------------------------------------------

    def _dispatch(self, link: Link, _kind: str, ref: str | None, frame: Frame) -> None:
        if isinstance(frame, (RoomMessage, DirectMessage)):
            self._message(link, frame)
            return
        pending = self._pending.get(ref) if ref is not None else None
        if isinstance(frame, JoinAck):
            self._joined(link, frame, pending)
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
        if isinstance(frame, ErrorEvent):
            self._unasked_error(frame)
        elif isinstance(frame, (*_CHANGES, MessageUpdated)):
            self._change_seen(frame)
        if self._wants_event(frame):
            self._tell(cast(Event, frame))

    def _wants_event(self, frame: Frame) -> bool:
        if (
            isinstance(frame, (JoinAck, MessageAck, History, Welcome))
            or getattr(frame, "type", None) == "pong"
        ):
            return False
        return not self._full()

    def _full(self) -> bool:
        """Do as many events wait for the user as may? Once they do, none are taken until he has caught up."""
        if self._listen and self._waiting_events() >= self._buffer:
            self._overflown = True
        return self._overflown

    def _message(self, link: Link, message: RoomMessage | DirectMessage) -> None:
        subscription = self._subscriptions.get(message.room_id)
        if subscription is None:
            if not isinstance(message, DirectMessage):
                return  # a room just left
            mine = link.welcome.user_id
            other = message.to_user_id if message.from_user_id == mine else message.from_user_id
            # A conversation that began while we were connected: its first message is our first.
            subscription = _Subscription(message.room_id, Cursor(message.seq - 1), other)
            self._subscriptions[message.room_id] = subscription
        if self._full():
            return
        self._deliver(subscription.cursor.offer(message))
        self._fill_if_missing(link, subscription)

    def _deliver(self, messages: list[RoomMessage | DirectMessage]) -> None:
        for message in messages:
            self._tell(message)

    def _joined(self, link: Link, ack: JoinAck, pending: _Pending | None) -> None:
        subscription = self._subscriptions.get(ack.room_id)
        asked = pending.data if pending is not None else {}
        if subscription is None or (not subscription.resuming and asked.get("since_seq") is not None):
            since = asked.get("since_seq")
            cursor = Cursor(ack.last_seq if since is None else since, ack.last_rev)
            subscription = _Subscription(ack.room_id, cursor, ack.with_user)
            self._subscriptions[ack.room_id] = subscription
        subscription.resuming = False
        if ack.resume == "too_far":
            # Changes beyond the server's reach are not told one by one: the messages fetched are as they stand now.
            subscription.cursor.last_rev = max(subscription.cursor.last_rev, ack.last_rev)
            self._fill_if_missing(link, subscription, ack.last_seq)

    def _change_seen(self, frame: Frame) -> None:
        room_id, rev = getattr(frame, "room_id", None), getattr(frame, "rev", 0)
        if isinstance(frame, MessageUpdated):
            room_id, rev = frame.message.room_id, frame.message.rev
        subscription = self._subscriptions.get(room_id) if isinstance(room_id, int) else None
        # Until a resume is answered, what changed before is still to come: a cut now must ask for it again.
        if subscription is not None and not subscription.resuming and not self._overflown:
            subscription.cursor.last_rev = max(subscription.cursor.last_rev, rev)

    def _unasked_error(self, error: ErrorEvent) -> None:
        if error.code in GONE_CODES and error.details is not None:
            self._subscriptions.pop(error.details.get("room_id", -1), None)
