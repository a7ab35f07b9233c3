"""`/chat/rooms`: finding rooms, making and changing them, coming and going."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors import rules
from veza.actors.commands import Enroll, PartyGet, Quit, Remove, Update
from veza.actors.errors import NO_PARTY, Refused
from veza.actors.party import PartyState
from veza.actors.registry import Identity
from veza.db import room_lists
from veza.db import rooms as rooms_db
from veza.db.errors import Conflict
from veza.http.api.access import signed_in
from veza.http.api.chat import (
    Cursor,
    RoomShown,
    ask,
    person,
    room_shown,
    rooms,
    show_room,
)
from veza.http.api.envelope import conflict, created, ok, page_meta
from veza.http.api.intake import takes, takes_query
from veza.http.api.models import Paging, SearchText, plain
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services

chat_rooms = Blueprint("rooms", __name__, url_prefix="/chat")

WEEK: Final = 7 * 24 * 3600

RoomName = Annotated[str, Meta(max_length=200, extra={"says": "Must have 1 to 50 characters."})]
Description = Annotated[
    str, Meta(max_length=1000, extra={"says": "Must have at most 1000 characters.", "trim": True})
]


class RoomsQuery(Paging, frozen=True, kw_only=True):
    """`mine` leaves only rooms one belongs to; `cursor` goes on behind an earlier page, instead of `page`."""

    search: SearchText | None = None
    mine: bool = False
    cursor: Cursor = 0


class NewRoom(Struct, frozen=True):
    name: RoomName
    description: Description | None = None
    is_private: bool = False

    def check(self) -> Iterator[tuple[str, str]]:
        yield from plain("description", self.description)


class RoomChange(Struct, frozen=True):
    """What is left out, or null, stays. `slow_mode_s` is the pause between two posts of a person, 0 for none."""

    name: RoomName | None = None
    description: Description | None = None
    is_private: bool | None = None
    slow_mode_s: (
        Annotated[int, Meta(ge=0, le=21600, extra={"says": "Must be seconds, from 0 to 21600."})] | None
    ) = None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from plain("description", self.description)


class Rooms(Struct, frozen=True):
    rooms: list[RoomShown]


@chat_rooms.get("/rooms")
@signed_in
@takes_query(RoomsQuery)
@answers(Rooms, listing=True)
async def list_rooms(identity: Identity, query: RoomsQuery) -> Response:
    """Public rooms and one's own, by id."""
    reader = identity.user_id
    found = await services().db.read(
        room_lists.listed,
        reader,
        query.search or None,
        query.mine,
        query.cursor,
        query.limit,
        0 if query.cursor else query.offset,
    )
    shown = [room_shown(row, reader) for row in found.rooms]
    cursor = str(found.rooms[-1].id) if found.more else None
    return ok(Rooms(shown), meta=page_meta(query.page, query.limit, found.total, cursor))


@chat_rooms.post("/rooms")
@signed_in
@takes(NewRoom)
@answers(RoomShown, 201)
@fails(409)
async def create_room(identity: Identity, data: NewRoom) -> Response:
    """Open a room and own it."""
    s = services()
    name = rules.room_name(data.name)
    kind = "private" if data.is_private else "public"
    most = s.settings.rooms_owned_max
    try:
        room = await s.db.write(
            rooms_db.create_within, most, identity.user_id, kind, name, data.description or None
        )
    except Conflict:
        raise conflict("CONFLICT", "A room of this name exists already.") from None
    if room is None:
        raise conflict("TOO_MANY_ROOMS", f"Nobody owns more than {most} rooms; delete one first.")
    return created(await show_room(identity.user_id, room.id), location=f"/api/v1/chat/rooms/{room.id}")


@chat_rooms.get("/rooms/<room>")
@signed_in
@answers(RoomShown)
@fails(404)
async def one_room(room: str, identity: Identity) -> Response:
    """A room, by id or by a public room's name."""
    return ok(await show_room(identity.user_id, await rooms().resolve(room)))


@chat_rooms.put("/rooms/<room>")
@signed_in
@takes(RoomChange)
@answers(RoomShown)
@fails(403, 404, 409)
async def change_room(room: str, identity: Identity, data: RoomChange) -> Response:
    """Change a room. Moderators may change description and slow mode, the owner everything."""
    room_id = await rooms().resolve(room)
    await rooms().ask(
        room_id,
        Update(
            person=person(identity),
            name=data.name,
            description=data.description,
            is_private=data.is_private,
            slow_mode_s=data.slow_mode_s,
        ),
    )
    return ok(await show_room(identity.user_id, room_id))


@chat_rooms.delete("/rooms/<room>")
@signed_in
@answers()
@fails(403, 404)
async def delete_room(room: str, identity: Identity) -> Response:
    """Delete a room with all that was said in it."""
    await ask(room, Remove(person=person(identity)))
    return ok(message="The room is gone.")


@chat_rooms.get("/rooms/<room>/party")
@signed_in
@answers(PartyState)
@fails(404)
async def party(room: str, identity: Identity) -> Response:
    """What the room plays together, and where the track is now. Sockets are told of every change by `party_state`."""
    state: PartyState = await ask(room, PartyGet(person=person(identity)))
    if state.track_id is None:
        raise Refused(NO_PARTY, "Nothing is played together here.")
    return ok(state)


@chat_rooms.post("/rooms/<room>/join")
@signed_in
@answers(RoomShown)
@fails(403, 404, 409)
async def join_room(room: str, identity: Identity) -> Response:
    """Become a member of a public room."""
    room_id = await rooms().resolve(room)
    await rooms().ask(room_id, Enroll(person=person(identity)))
    return ok(await show_room(identity.user_id, room_id))


@chat_rooms.post("/rooms/<room>/leave")
@signed_in
@answers()
@fails(403, 404)
async def leave_room(room: str, identity: Identity) -> Response:
    """End one's membership, and every subscription of one's connections."""
    await ask(room, Quit(person=person(identity)))
    return ok(message="You have left the room.")
