"""The socket's frames as types: bytes in, one frozen record out; and the requests' bytes.

What the server sends may grow: unknown fields are ignored, an unknown type becomes `Unknown`. Nothing here does I/O.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from veza.client.errors import ProtocolError


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """What every record below is."""


class Reaction(Frame, frozen=True):
    emoji: str
    count: int
    user_ids: list[int] = []


class Message(Frame, frozen=True, kw_only=True):
    """A message as sockets, histories and REST give it. A deleted one has `deleted_at` and no content."""

    id: int
    room_id: int
    seq: int
    content: str
    message_type: str
    created_at: datetime
    nonce: str | None = None
    media_url: str | None = None
    media_type: str | None = None
    duration: float | None = None
    reply_to: int | None = None
    mentions: list[int] | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    pinned_at: datetime | None = None
    reactions: list[Reaction] | None = None
    rev: int = 0

    @property
    def author_id(self) -> int | None:
        return getattr(self, "user_id", None) or getattr(self, "from_user_id", None)

    @property
    def author(self) -> str:
        """The author's name; empty for somebody who is gone."""
        return getattr(self, "username", None) or getattr(self, "from_username", None) or ""


class RoomMessage(Message, frozen=True, kw_only=True):
    """`room` is a public room's name, any other room's id."""

    room: str | int
    user_id: int | None = None
    username: str | None = None


class DirectMessage(Message, frozen=True, kw_only=True):
    from_user_id: int | None = None
    from_username: str | None = None
    to_user_id: int


class ConversationState(Frame, frozen=True, kw_only=True):
    room_id: int
    with_user: int
    last_seq: int
    last_read_seq: int = 0


class Welcome(Frame, frozen=True, kw_only=True):
    """The first frame of every connection."""

    session_id: str | int
    user_id: int
    username: str
    protocol: str
    heartbeat_s: float = 30.0
    server_time: datetime | None = None
    conversations: list[ConversationState] = []


class JoinAck(Frame, frozen=True, kw_only=True):
    """`resume` is "too_far" where more was missed than the room keeps at hand; `ChatSocket` then pages by itself."""

    room: str | int
    room_id: int
    success: bool = True
    message: str | None = None
    members: int = 0
    online: int | None = None
    last_seq: int = 0
    last_rev: int = 0
    last_read_seq: int = 0
    resume: str | None = None
    first_seq: int | None = None
    with_user: int | None = None


class MessageAck(Frame, frozen=True, kw_only=True):
    """The message is stored under this id and number."""

    room: str | int
    room_id: int | None = None
    id: int
    seq: int
    created_at: datetime
    nonce: str | None = None


class History(Frame, frozen=True, kw_only=True):
    """A page of messages, ascending; `next_before_seq` leads to the page before it."""

    messages: list[RoomMessage | DirectMessage]
    room: str | int | None = None
    with_user: int | None = None
    total: int = 0
    has_more: bool = False
    next_before_seq: int | None = None


class MessageEdited(Frame, frozen=True, kw_only=True):
    id: int
    room: str | int
    content: str
    edited_at: datetime
    edited_by: int | None = None
    room_id: int | None = None
    rev: int = 0


class MessageDeleted(Frame, frozen=True, kw_only=True):
    id: int
    room: str | int
    deleted_by: int | None = None
    room_id: int | None = None
    rev: int = 0


class MessagePinned(Frame, frozen=True, kw_only=True):
    id: int
    room: str | int
    room_id: int | None = None
    rev: int = 0


class MessageUnpinned(Frame, frozen=True, kw_only=True):
    id: int
    room: str | int
    room_id: int | None = None
    rev: int = 0


class MessageUpdated(Frame, frozen=True, kw_only=True):
    """A message that changed while we were away, as it stands now."""

    message: RoomMessage | DirectMessage


class ReactionUpdated(Frame, frozen=True, kw_only=True):
    id: int
    room: str | int
    emoji: str
    count: int
    user_id: int
    added: bool
    room_id: int | None = None
    rev: int = 0


class Typing(Frame, frozen=True, kw_only=True):
    user_id: int
    username: str
    is_typing: bool
    room: str | int | None = None
    room_id: int | None = None


class ReadReceipt(Frame, frozen=True, kw_only=True):
    user_id: int
    seq: int
    room: str | int | None = None
    room_id: int | None = None


class Presence(Frame, frozen=True, kw_only=True):
    user_id: int
    status: str
    username: str | None = None
    text: str | None = None
    last_seen: datetime | None = None


class UserConnected(Frame, frozen=True, kw_only=True):
    user_id: int
    username: str
    room: str | int


class UserDisconnected(Frame, frozen=True, kw_only=True):
    user_id: int
    username: str
    room: str | int


class RoomPresence(Frame, frozen=True, kw_only=True):
    room: str | int
    online: int


class Notification(Frame, frozen=True, kw_only=True):
    """Mentions, replies and what else deserves a glance; `data` as it came."""

    data: dict[str, Any]


class ErrorEvent(Frame, frozen=True, kw_only=True):
    """An error that answers no request of ours."""

    code: str
    message: str
    details: dict[str, Any] | None = None
    ref: str | None = None


class Unknown(Frame, frozen=True, kw_only=True):
    """A frame this client knows nothing of."""

    type: str
    data: dict[str, Any]


# Not frames: what the client itself has to tell in the stream of events.


class Connected(Frame, frozen=True, kw_only=True):
    """The connection stands; `resumed` when it did before: rooms are joined again and what was missed follows."""

    welcome: Welcome
    resumed: bool


class Reconnecting(Frame, frozen=True, kw_only=True):
    """The connection is lost; the next try comes after `delay` seconds."""

    reason: str
    delay: float


class Gap(Frame, frozen=True, kw_only=True):
    """More was missed than the client will fetch by itself: numbers `first` to `last` are left out."""

    room_id: int
    first: int
    last: int


class ChangesMissed(Frame, frozen=True, kw_only=True):
    """Messages seen before may have changed meanwhile, and will not be told one by one: look at them anew."""

    room_id: int


Event = (
    RoomMessage
    | DirectMessage
    | MessageEdited
    | MessageDeleted
    | MessagePinned
    | MessageUnpinned
    | MessageUpdated
    | ReactionUpdated
    | Typing
    | ReadReceipt
    | Presence
    | UserConnected
    | UserDisconnected
    | RoomPresence
    | Notification
    | ErrorEvent
    | Unknown
    | Connected
    | Reconnecting
    | Gap
    | ChangesMissed
)

_TYPES: Final[dict[str, type[Frame]]] = {
    "welcome": Welcome,
    "join_room_ack": JoinAck,
    "message_ack": MessageAck,
    "room_message": RoomMessage,
    "direct_message": DirectMessage,
    "message_edited": MessageEdited,
    "message_deleted": MessageDeleted,
    "message_pinned": MessagePinned,
    "message_unpinned": MessageUnpinned,
    "reaction_updated": ReactionUpdated,
    "typing": Typing,
    "read_receipt": ReadReceipt,
    "presence": Presence,
    "user_connected": UserConnected,
    "user_disconnected": UserDisconnected,
    "room_presence": RoomPresence,
    "error": ErrorEvent,
}
_DECODERS: Final = {name: msgspec.json.Decoder(kind) for name, kind in _TYPES.items()}


class _Envelope(msgspec.Struct):
    type: str
    data: msgspec.Raw = msgspec.Raw(b"{}")


class _Ref(msgspec.Struct):
    ref: str | None = None


class _HistoryPage(msgspec.Struct):
    """A page before its messages are told apart: direct ones have `to_user_id`."""

    messages: list[msgspec.Raw]
    room: str | int | None = None
    with_user: int | None = None
    total: int = 0
    has_more: bool = False
    next_before_seq: int | None = None


class _Addressed(msgspec.Struct):
    to_user_id: int | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_ref = msgspec.json.Decoder(_Ref)
_page = msgspec.json.Decoder(_HistoryPage)
_addressed = msgspec.json.Decoder(_Addressed)
_anything = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


def decode(text: str | bytes) -> tuple[str, str | None, Frame]:
    """A frame of the server: (type, the `ref` of the request it answers, the record).

    Raises:
        ProtocolError: it is not one.
    """
    try:
        envelope = _envelope.decode(text)
        kind, data = envelope.type, envelope.data
        if kind in ("room_message", "direct_message", "typing", "presence"):  # the many; they answer nothing
            return kind, None, _DECODERS[kind].decode(data)
        ref = _ref.decode(data).ref
        if kind in _DECODERS:
            return kind, ref, _DECODERS[kind].decode(data)
        if kind == "message_history":
            return kind, ref, decode_history(data)
        if kind == "message_updated":
            return kind, ref, MessageUpdated(message=decode_message(data))
        if kind == "notification":
            return kind, ref, Notification(data=_anything.decode(data))
        return kind, ref, Unknown(type=kind, data=_anything.decode(data))
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"the server sent a frame that cannot be understood: {error}") from None


def decode_message(data: bytes | msgspec.Raw) -> RoomMessage | DirectMessage:
    """A message of either kind: a direct one says to whom."""
    kind = "room_message" if _addressed.decode(data).to_user_id is None else "direct_message"
    message = _DECODERS[kind].decode(data)
    assert isinstance(message, (RoomMessage, DirectMessage))
    return message


def decode_history(data: bytes | msgspec.Raw) -> History:
    """A page of messages of either kind, from a frame or from REST."""
    page = _page.decode(data)
    return History(
        messages=[decode_message(raw) for raw in page.messages],
        room=page.room,
        with_user=page.with_user,
        total=page.total,
        has_more=page.has_more,
        next_before_seq=page.next_before_seq,
    )


def encode(kind: str, data: Mapping[str, Any], ref: str | None = None) -> str:
    """A client's frame; fields that are None are left out."""
    present = {name: value for name, value in data.items() if value is not None}
    if ref is not None:
        return _encode({"type": kind, "ref": ref, "data": present}).decode()
    return _encode({"type": kind, "data": present}).decode()
