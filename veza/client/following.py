"""The rooms one listens to, over all connections: joined again after each loss, and whole.

What each room's `Cursor` finds missing is asked of the server: by joining with `since_seq` after a reconnect, by pages
of history where that is too far or a gap shows. Until it has come later messages of that room wait, of others not.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import trio

from veza.client.errors import ClientError, FrameRefused
from veza.client.frames import (
    ChangesMissed,
    DirectMessage,
    ErrorEvent,
    Event,
    Frame,
    Gap,
    History,
    JoinAck,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    MessageUnpinned,
    MessageUpdated,
    ReactionUpdated,
    RoomMessage,
    Welcome,
)
from veza.client.link import Link
from veza.client.resume import Cursor

PAGE: Final = 100
BREATH: Final = (
    1.0  # seconds to be quiet after a refusal: asking again at once would mean being refused each time
)
GONE_CODES: Final = frozenset(
    {"NOT_JOINED", "BANNED", "ROOM_NOT_FOUND"}
)  # unasked: this room is no longer ours
_CHANGES: Final = (
    MessageEdited,
    MessageDeleted,
    MessagePinned,
    MessageUnpinned,
    ReactionUpdated,
    MessageUpdated,
)


class Subscription:
    """A room we listen to."""

    __slots__ = ("cursor", "filling", "lively", "resuming", "room_id", "with_user")

    def __init__(self, room_id: int, cursor: Cursor, with_user: int | None = None) -> None:
        self.room_id = room_id
        self.cursor = cursor
        self.with_user = with_user
        self.resuming = False  # asked to be told what was missed; until the answer gaps are no reason to ask
        self.filling = False  # a task fetches what is missing
        self.lively = False  # something was said there, or asked for, while we followed it

    @property
    def address(self) -> dict[str, Any]:
        return {"room": self.room_id} if self.with_user is None else {"with_user": self.with_user}


class Following:
    """All of them.

    Args:
        ask: sends a request and waits for its answer, over reconnects.
        tell: gives the user an event.
        full: whether the user has as many events before him as may be; then nothing counts as seen.
        catch_up: how many missed messages of a room are fetched; more become one `Gap`.
    """

    def __init__(
        self,
        ask: Callable[[str, Mapping[str, Any]], Awaitable[Frame]],
        tell: Callable[[Event], None],
        full: Callable[[], bool],
        catch_up: int,
    ) -> None:
        self._ask = ask
        self._tell = tell
        self._full = full
        self._catch_up = catch_up
        self._subscriptions: dict[int, Subscription] = {}

    # Connections come and go

    def greeted(self, link: Link, resumed: bool) -> None:
        """There is a new connection."""
        latest = self._note_conversations(link.welcome, resumed)
        if not resumed:
            return
        # Conversations are subscribed by themselves: those where nothing happens need not be asked for, and with
        # hundreds of them that would be too much for the server's patience.
        wanted = [
            subscription
            for subscription in self._subscriptions.values()
            if subscription.with_user is None
            or subscription.lively
            or latest.get(subscription.room_id, 0) > subscription.cursor.last_seq
        ]
        for subscription in wanted:
            subscription.resuming = True
        link.start(self._resume_all, wanted)

    def lost(self) -> None:
        """The connection is gone, with all that was asked on it."""
        for subscription in self._subscriptions.values():
            subscription.cursor.forget_early()
            subscription.resuming = subscription.filling = False

    def drop(self, room_id: Any) -> None:
        """Do not follow a room any more."""
        self._subscriptions.pop(room_id, None)

    def _note_conversations(self, welcome: Welcome, resumed: bool) -> dict[int, int]:
        """Follow all of them; returns their latest numbers."""
        for conversation in welcome.conversations:
            if conversation.room_id not in self._subscriptions:
                # On the first connection we begin with now; one that appeared since is new from its beginning.
                cursor = Cursor(0 if resumed else conversation.last_seq)
                subscription = Subscription(conversation.room_id, cursor, conversation.with_user)
                self._subscriptions[conversation.room_id] = subscription
        return {conversation.room_id: conversation.last_seq for conversation in welcome.conversations}

    # What arrives

    def message(self, link: Link, message: RoomMessage | DirectMessage) -> None:
        """Deliver it, and what waited for it, as far as nothing is missing before it."""
        subscription = self._subscriptions.get(message.room_id)
        if subscription is None:
            if not isinstance(message, DirectMessage):
                return  # a room just left
            mine = link.welcome.user_id
            other = message.to_user_id if message.from_user_id == mine else message.from_user_id
            # A conversation that began while we were connected: its first message is our first.
            subscription = Subscription(message.room_id, Cursor(message.seq - 1), other)
            self._subscriptions[message.room_id] = subscription
        if self._full():
            return
        subscription.lively = True
        self._deliver(subscription.cursor.offer(message))
        self._fill_if_missing(link, subscription)

    def joined(self, link: Link, ack: JoinAck, asked: Mapping[str, Any]) -> None:
        """A join is acknowledged; `asked` is what it said."""
        subscription = self._subscriptions.get(ack.room_id)
        since = asked.get("since_seq")
        if subscription is None or (not subscription.resuming and since is not None):
            cursor = Cursor(ack.last_seq if since is None else since, ack.last_rev)
            subscription = Subscription(ack.room_id, cursor, ack.with_user)
            self._subscriptions[ack.room_id] = subscription
        subscription.resuming = False
        subscription.lively = True
        if ack.resume == "too_far":
            # Changes beyond the server's reach are not told one by one; what is fetched is as it stands now.
            if ack.last_rev > subscription.cursor.last_rev:
                subscription.cursor.last_rev = ack.last_rev
                self._tell(ChangesMissed(room_id=ack.room_id))
            self._fill_if_missing(link, subscription, ack.last_seq)

    def seen(self, frame: Frame) -> None:
        """Any other frame: note what it changes for us."""
        if isinstance(frame, ErrorEvent):
            if frame.code in GONE_CODES and frame.details is not None:
                self.drop(frame.details.get("room_id"))
        elif isinstance(frame, _CHANGES):
            change = frame.message if isinstance(frame, MessageUpdated) else frame
            subscription = self._subscriptions.get(change.room_id) if change.room_id is not None else None
            # Until a resume is answered, what changed before is still to come: a cut now must ask for it again.
            if subscription is not None and not subscription.resuming and not self._full():
                subscription.cursor.last_rev = max(subscription.cursor.last_rev, change.rev)

    def _deliver(self, messages: list[RoomMessage | DirectMessage]) -> None:
        for message in messages:
            self._tell(message)

    # What is missing

    async def _resume_all(self, wanted: list[Subscription]) -> None:
        """One after the other: all at once would be refused, and who is refused too often is thrown out."""
        for subscription in wanted:
            await self._resume(subscription)

    async def _resume(self, subscription: Subscription) -> None:
        """Join again from where we stood, until that works or is refused for good."""
        cursor = subscription.cursor
        while self._subscriptions.get(subscription.room_id) is subscription:
            since = {"since_seq": cursor.last_seq, "since_rev": cursor.last_rev}
            try:
                await self._ask("join_room", {**subscription.address, **since})
                return
            except FrameRefused as refusal:
                if refusal.retry_after is None:
                    self.drop(subscription.room_id)
                    details = {**refusal.details, "room_id": subscription.room_id}
                    self._tell(ErrorEvent(code=refusal.code, message=str(refusal), details=details))
                    return
                await trio.sleep(max(refusal.retry_after, BREATH))
            except ClientError:
                return

    async def _fill(self, link: Link, subscription: Subscription, upto: int) -> None:
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

    async def _page_after(self, subscription: Subscription, seq: int) -> History:
        while True:
            try:
                wanted = {"room": subscription.room_id, "after_seq": seq, "limit": PAGE}
                return cast(History, await self._ask("room_history", wanted))
            except FrameRefused as refusal:
                if refusal.retry_after is None:
                    return History(messages=[])
                await trio.sleep(max(refusal.retry_after, BREATH))

    def _give_up(self, subscription: Subscription, upto: int) -> None:
        first = subscription.cursor.last_seq + 1
        due = subscription.cursor.skip(upto)
        self._tell(Gap(room_id=subscription.room_id, first=first, last=upto))
        self._deliver(due)

    def _fill_if_missing(self, link: Link, subscription: Subscription, upto: int | None = None) -> None:
        missing = subscription.cursor.missing
        if missing is not None:
            upto = missing[1]
        if upto is None or upto <= subscription.cursor.last_seq:
            return
        if subscription.filling or subscription.resuming or self._full():
            return
        subscription.filling = True
        link.start(self._fill, link, subscription, upto)
