"""What one can say and ask on a live connection: one method a frame. That the connection stays is `staying`'s."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import trio

from veza.client.errors import FrameRefused
from veza.client.frames import (
    Frame,
    History,
    JoinAck,
    MessageAck,
    MessageDeleted,
    MessageEdited,
    MessagePinned,
    MessageUnpinned,
    ReactionUpdated,
    Unknown,
)
from veza.client.staying import Staying

RoomName = str | int


class ChatSocket(Staying):
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
        if isinstance(answer, Unknown):
            self._following.drop(answer.data.get("room_id", room))

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
        if not patient:
            return await self._ask(kind, data)
        # The patient go one after the other: if all tried again at once, most would be refused again, and who is
        # refused too often is thrown out.
        async with self._queue:
            while True:
                try:
                    return await self._ask(kind, data)
                except FrameRefused as refusal:
                    if refusal.retry_after is None:
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
