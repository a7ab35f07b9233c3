"""Server-to-client frames: typed records in, the exact bytes of one WebSocket text frame out.

A frame from the server is not masked (RFC 6455, 5.1), so its bytes are the same for everybody: what is encoded here
once is written to every member as it is. Nothing here knows a connection.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from veza.actors import rules
from veza.db.messages import Message, Reaction

_encode = msgspec.json.Encoder().encode


def now() -> datetime:
    return datetime.now(UTC)


class _Envelope(msgspec.Struct, omit_defaults=True):
    type: str
    data: Any
    timestamp: datetime
    user_id: int | None = None


def text_frame(payload: bytes) -> bytes:
    """One final, unmasked text frame (RFC 6455, 5.2)."""
    n = len(payload)
    if n < 126:
        return bytes((0x81, n)) + payload
    if n < 65536:
        return b"\x81\x7e" + n.to_bytes(2, "big") + payload
    return b"\x81\x7f" + n.to_bytes(8, "big") + payload


def frame(type: str, data: Any, user_id: int | None = None) -> bytes:
    """The frame `{"type", "data", "timestamp", "user_id"?}`; `data` is a Struct or a dict of JSON values."""
    return text_frame(_encode(_Envelope(type, data, now(), user_id)))


class RoomMessage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`room_message.data`, also in histories. `room` is a public room's name, any other room's id.

    A deleted message has empty content and `deleted_at`.
    """

    id: int
    room: str | int
    room_id: int
    seq: int
    user_id: int | None
    username: str | None
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


class DirectMessage(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`direct_message.data`: the same message, named as a letter between two people."""

    id: int
    room_id: int
    seq: int
    from_user_id: int | None
    from_username: str | None
    to_user_id: int
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


class MessageAck(msgspec.Struct, frozen=True, omit_defaults=True):
    """`message_ack.data`: the post is committed under this id and sequence number."""

    room: str | int
    room_id: int
    id: int
    seq: int
    created_at: datetime
    nonce: str | None = None
    ref: str | None = None


class Address(msgspec.Struct, frozen=True):
    """How a room is spoken of in frames. `people` are the two of a direct conversation."""

    room_id: int
    kind: str
    name: str | None
    people: tuple[int, int] | None = None

    @property
    def label(self) -> str | int:
        """What `room` says: the name of a public room, the id of any other."""
        return self.name if self.kind == "public" and self.name is not None else self.room_id

    def other(self, user_id: int | None) -> int:
        """The one of the two people of a direct conversation who is not `user_id`."""
        assert self.people is not None
        low, high = self.people
        return high if user_id == low else low


def message_data(address: Address, m: Message) -> RoomMessage | DirectMessage:
    """The public form of a stored message."""
    if address.people is not None:
        return DirectMessage(
            id=m.id,
            room_id=m.room_id,
            seq=m.seq,
            from_user_id=m.user_id,
            from_username=m.username,
            to_user_id=address.other(m.user_id),
            content=m.content or "",
            message_type=m.message_type,
            created_at=m.created_at,
            nonce=rules.shown_nonce(m.nonce),
            media_url=m.media_url,
            media_type=m.media_type,
            duration=m.duration,
            reply_to=m.reply_to,
            mentions=m.mentions,
            edited_at=m.edited_at,
            deleted_at=m.deleted_at,
            pinned_at=m.pinned_at,
            reactions=m.reactions,
            rev=m.rev,
        )
    return RoomMessage(
        id=m.id,
        room=address.label,
        room_id=m.room_id,
        seq=m.seq,
        user_id=m.user_id,
        username=m.username,
        content=m.content or "",
        message_type=m.message_type,
        created_at=m.created_at,
        nonce=rules.shown_nonce(m.nonce),
        media_url=m.media_url,
        media_type=m.media_type,
        duration=m.duration,
        reply_to=m.reply_to,
        mentions=m.mentions,
        edited_at=m.edited_at,
        deleted_at=m.deleted_at,
        pinned_at=m.pinned_at,
        reactions=m.reactions,
        rev=m.rev,
    )


def message_frame(address: Address, m: Message) -> bytes:
    """`room_message` or `direct_message`, whichever the room's kind asks for."""
    type = "room_message" if address.people is None else "direct_message"
    return frame(type, message_data(address, m), m.user_id)


def updated_frame(address: Address, m: Message) -> bytes:
    """`message_updated`: a changed message as it stands now, for those who resume with `since_rev`."""
    return frame("message_updated", message_data(address, m))


def error_frame(
    code: str, message: str, details: dict[str, Any] | None = None, ref: str | None = None
) -> bytes:
    data: dict[str, Any] = {"code": code, "message": message}
    if details:
        data["details"] = details
    if ref is not None:
        data["ref"] = ref
    return frame("error", data)
