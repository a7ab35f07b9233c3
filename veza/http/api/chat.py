"""What all views of `/chat` share: the actors behind them, who asks, and how rooms and messages look from outside.

A view checks form and asks a room; whether it is allowed is the room's to say, or the query's. To strangers private
rooms and their messages do not exist.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from veza.actors.commands import Person, Wish
from veza.actors.errors import room_not_found
from veza.actors.frames import Address, DirectMessage, RoomMessage, message_data
from veza.actors.kernel import Ref
from veza.actors.presence import AreOnline
from veza.actors.registry import Identity
from veza.actors.rooms import Rooms
from veza.db import room_lists
from veza.db.messages import Message, Place
from veza.db.room_lists import LastMessage, RoomRow
from veza.http.api.envelope import ApiError, not_found
from veza.http.api.services import services

BIGINT: Final = 2**63 - 1

Id = Annotated[int, Meta(ge=1, le=BIGINT, extra={"says": "Must be an id: a whole number, 1 or more."})]
Cursor = Annotated[int, Meta(ge=0, le=BIGINT, extra={"says": "Must be what `next_cursor` said."})]
Reason = Annotated[
    str, Meta(max_length=500, extra={"says": "Must have at most 500 characters.", "trim": True})
]
Shown = RoomMessage | DirectMessage


def rooms() -> Rooms:
    found = services().rooms
    if found is None:
        raise _no_chat()
    return found


def presence() -> Ref:
    found = services().presence
    if found is None:
        raise _no_chat()
    return found


def _no_chat() -> ApiError:
    return ApiError(503, "UNAVAILABLE", "Chat does not run here just now; try again.", retry_after=2)


def person(identity: Identity) -> Person:
    """Whoever asks, as rooms know people."""
    return Person(identity.user_id, identity.username, identity.role, identity.muted_until)


async def ask(room: str | int, wish: Wish) -> Any:
    """Have a room, named as paths name rooms, grant a wish; raises Refused."""
    directory = rooms()
    return await directory.ask(await directory.resolve(room), wish)


async def online(user_ids: list[int]) -> dict[int, tuple[str, str | None]]:
    """Those of these people who are here for everybody to see: id → (status, text)."""
    if not user_ids:
        return {}
    found: dict[int, tuple[str, str | None]] = await presence().ask(AreOnline(tuple(user_ids)))
    return found


class RoomShown(Struct, frozen=True):
    """A room as the asker sees it. `role` is null for who is not a member; `with_user` names a conversation's other."""

    id: int
    name: str | None
    description: str | None
    kind: str
    is_private: bool
    owner_id: int | None
    member_count: int
    online: int
    unread: int
    last_message: LastMessage | None
    last_seq: int
    last_read_seq: int
    role: str | None
    slow_mode_s: int
    created_at: datetime
    with_user: int | None


def room_shown(row: RoomRow, reader: int) -> RoomShown:
    """The database's row with what its running actor knows better."""
    live = rooms().glance(row.id, reader)
    read = row.last_read_seq if live is None else max(row.last_read_seq, live.last_read_seq)
    other = None
    if row.people is not None:
        low, high = row.people
        other = high if reader == low else low
    return RoomShown(
        id=row.id,
        name=row.name,
        description=row.description,
        kind=row.kind,
        is_private=row.kind != "public",
        owner_id=row.owner_id,
        member_count=row.member_count,
        online=0 if live is None else live.online,
        unread=0 if row.role is None else max(0, row.last_seq - read),
        last_message=row.last_message,
        last_seq=row.last_seq,
        last_read_seq=read,
        role=row.role,
        slow_mode_s=row.slow_mode_s,
        created_at=row.created_at,
        with_user=other,
    )


async def show_room(reader: int, room_id: int) -> RoomShown:
    """Raises Refused where there is no such room for `reader`."""
    row = await services().db.read(room_lists.one, reader, room_id)
    if row is None:
        raise room_not_found()
    return room_shown(row, reader)


def address_of(place: Place) -> Address:
    return Address(place.room_id, place.kind, place.name, place.people)


def message_shown(message: Message, place: Place) -> Shown:
    """The same form as in frames."""
    return message_data(address_of(place), message)


def no_person() -> ApiError:
    return not_found("This person", "USER_NOT_FOUND")
