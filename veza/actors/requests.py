"""What a client may say on a chat socket: one record per frame type, as it stands in `data`.

Older clients' names are accepted: `with` for `with_user`, `to` for `to_user_id`. Numbers are bounded here, so that
nothing the database cannot hold gets past the decoder. `http/sockets/decode.py` makes these from text.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

Id = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Room = Annotated[str, msgspec.Meta(max_length=200)] | Id


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A client frame; `ref` comes back on its acknowledgement or error."""

    def __repr__(self) -> str:  # contents and tokens stay out of logs
        return f"{type(self).__name__}()"


class JoinRoom(Request, frozen=True, kw_only=True):
    room: Room | None = None
    with_user: Id | None = None
    with_: Id | None = msgspec.field(default=None, name="with")
    since_seq: Id | None = None
    since_rev: Id | None = None


class LeaveRoom(Request, frozen=True, kw_only=True):
    room: Room | None = None
    with_user: Id | None = None
    with_: Id | None = msgspec.field(default=None, name="with")


class _Content(Request, frozen=True, kw_only=True):
    content: str
    message_type: str = "text"
    media_url: str | None = None
    media_type: str | None = None
    duration: float | None = None
    reply_to: Id | None = None
    nonce: str | None = None


class RoomMessage(_Content, frozen=True, kw_only=True):
    room: Room


class DirectMessage(_Content, frozen=True, kw_only=True):
    to_user_id: Id | None = None
    to: Id | None = None


class _Page(Request, frozen=True, kw_only=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=100)] = 50
    offset: Id = 0
    before_seq: Id | None = None
    after_seq: Id | None = None


class RoomHistory(_Page, frozen=True, kw_only=True):
    room: Room


class DmHistory(_Page, frozen=True, kw_only=True):
    with_user: Id | None = None
    with_: Id | None = msgspec.field(default=None, name="with")


class Ping(Request, frozen=True, kw_only=True):
    pass


class EditMessage(Request, frozen=True, kw_only=True):
    id: Id
    content: str


class DeleteMessage(Request, frozen=True, kw_only=True):
    id: Id


class AddReaction(Request, frozen=True, kw_only=True):
    id: Id
    emoji: str


class RemoveReaction(Request, frozen=True, kw_only=True):
    id: Id
    emoji: str


class PinMessage(Request, frozen=True, kw_only=True):
    id: Id


class UnpinMessage(Request, frozen=True, kw_only=True):
    id: Id


class Typing(Request, frozen=True, kw_only=True):
    room: Room | None = None
    to_user_id: Id | None = None
    is_typing: bool = True


class MarkRead(Request, frozen=True, kw_only=True):
    seq: Id
    room: Room | None = None
    with_user: Id | None = None
    with_: Id | None = msgspec.field(default=None, name="with")


class _Party(Request, frozen=True, kw_only=True):
    room: Room | None = None
    with_user: Id | None = None


class PartyStart(_Party, frozen=True, kw_only=True):
    track_id: Id
    position_ms: Id = 0
    playing: bool = True


class PartyPlay(_Party, frozen=True, kw_only=True):
    position_ms: Id | None = None


class PartyPause(_Party, frozen=True, kw_only=True):
    pass


class PartySeek(_Party, frozen=True, kw_only=True):
    position_ms: Id


class PartyStop(_Party, frozen=True, kw_only=True):
    pass


class PartyGet(_Party, frozen=True, kw_only=True):
    pass


class SetPresence(Request, frozen=True, kw_only=True):
    status: str
    text: str | None = None


class Auth(Request, frozen=True, kw_only=True):
    token: str


class MessageBatch(Request, frozen=True, kw_only=True):
    """Frames as if sent alone, in order; what cannot be decoded is refused in its place."""

    messages: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=50)]


TYPES: dict[str, type[Request]] = {
    "join_room": JoinRoom,
    "join": JoinRoom,
    "leave_room": LeaveRoom,
    "leave": LeaveRoom,
    "room_message": RoomMessage,
    "message": RoomMessage,
    "direct_message": DirectMessage,
    "dm": DirectMessage,
    "room_history": RoomHistory,
    "dm_history": DmHistory,
    "ping": Ping,
    "message_batch": MessageBatch,
    "edit_message": EditMessage,
    "delete_message": DeleteMessage,
    "add_reaction": AddReaction,
    "remove_reaction": RemoveReaction,
    "pin_message": PinMessage,
    "unpin_message": UnpinMessage,
    "typing": Typing,
    "mark_read": MarkRead,
    "set_presence": SetPresence,
    "auth": Auth,
    "party_start": PartyStart,
    "party_play": PartyPlay,
    "party_pause": PartyPause,
    "party_seek": PartySeek,
    "party_stop": PartyStop,
    "party_get": PartyGet,
}
