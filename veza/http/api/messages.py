"""`/chat/…/messages`: reading, posting, changing, reacting, pinning, reporting, searching.

Posts and changes go through the room's actor like a socket's frames: people online see them at once, and an answer of
201 means that it is stored.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors.commands import Delete, Edit, Person, Pin, Posted, React, Say, Wish
from veza.actors.errors import message_not_found, room_not_found, user_not_found
from veza.actors.frames import DirectMessage, RoomMessage, message_data
from veza.actors.registry import Identity
from veza.db import messages as messages_db
from veza.db import search_words, users
from veza.db.errors import Unavailable
from veza.db.message_search import Heard, Where, heard
from veza.db.messages import Message, Page, Place
from veza.http.api.access import signed_in
from veza.http.api.chat import BIGINT, Id, Shown, address_of, message_shown, person, rooms
from veza.http.api.envelope import created, invalid, ok, rate_limited
from veza.http.api.intake import takes, takes_query
from veza.http.api.openapi import answers, fails
from veza.http.api.reports import ReportReason, complain
from veza.http.api.services import services

chat_messages = Blueprint("messages", __name__, url_prefix="/chat")

_LIMIT: Final = Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})
_SEQ: Final = Meta(ge=0, le=BIGINT, extra={"says": "Must be a sequence number: a whole number, 0 or more."})


class HistoryQuery(Struct, frozen=True, kw_only=True):
    """The newest messages; those before `before_seq`; or the oldest after `after_seq`."""

    limit: Annotated[int, _LIMIT] = 20
    before_seq: Annotated[int, _SEQ] | None = None
    after_seq: Annotated[int, _SEQ] | None = None

    def check(self) -> Any:
        if self.before_seq is not None and self.after_seq is not None:
            yield "after_seq", "Say either before_seq or after_seq."


class NewMessage(Struct, frozen=True, kw_only=True):
    """Sent again with the same `nonce`, it is stored once."""

    content: str
    message_type: str = "text"
    media_url: str | None = None
    media_type: str | None = None
    duration: float | None = None
    reply_to: Id | None = None
    nonce: str | None = None

    def __repr__(self) -> str:
        return "NewMessage()"


class Correction(Struct, frozen=True):
    content: str

    def __repr__(self) -> str:
        return "Correction()"


class Complaint(Struct, frozen=True):
    reason: ReportReason


class SearchQuery(Struct, frozen=True, kw_only=True):
    """`room` is an id or a name, `from` a person's id or username, `before` a message's id (for the next page)."""

    q: Annotated[
        str,
        Meta(min_length=1, max_length=200, extra={"says": "Must have 1 to 200 characters.", "trim": True}),
    ]
    room: Annotated[str, Meta(max_length=200)] | None = None
    from_: Annotated[str, Meta(max_length=50)] | None = msgspec.field(default=None, name="from")
    before: Annotated[int, Meta(ge=0, le=BIGINT, extra={"says": "Must be a message's id."})] | None = None
    limit: Annotated[int, _LIMIT] = 20


class History(Struct, frozen=True, kw_only=True):
    """A stretch of a room's messages, ascending. `total` is how many were ever said there; `room` is null where two
    people have not written to each other yet."""

    room: str | int | None
    room_id: int | None
    with_user: int | None
    messages: list[RoomMessage | DirectMessage]
    total: int
    has_more: bool
    next_before_seq: int | None


class Messages(Struct, frozen=True):
    messages: list[RoomMessage | DirectMessage]


class Hits(Struct, frozen=True):
    """Found messages, the newest first; `next_before` leads to the next page.

    With `has_more` a page may hold less than its limit, even nothing: a search looks at some thousands of messages with
    the words, and goes on with `before`."""

    messages: list[RoomMessage | DirectMessage]
    has_more: bool
    next_before: int | None


@chat_messages.get("/rooms/<room>/messages")
@signed_in
@takes_query(HistoryQuery)
@answers(History)
@fails(404)
async def read_messages(room: str, identity: Identity, query: HistoryQuery) -> Response:
    """A room's messages, ascending."""
    return ok(await read_history(identity.user_id, await rooms().resolve(room), query))


@chat_messages.post("/rooms/<room>/messages")
@signed_in
@takes(NewMessage)
@answers(RoomMessage, 201)
@fails(403, 404)
async def post_message(room: str, identity: Identity, data: NewMessage) -> Response:
    """Say something in a room."""
    count_message(identity)
    return created(await say(identity, await rooms().resolve(room), data))


@chat_messages.get("/rooms/<room>/pins")
@signed_in
@answers(Messages)
@fails(404)
async def list_pins(room: str, identity: Identity) -> Response:
    """A room's pinned messages, the newest pin first."""
    room_id = await rooms().resolve(room)
    found = await services().db.read(messages_db.pins, identity.user_id, room_id)
    if found is None:
        raise room_not_found()
    pinned, place = found
    return ok(Messages([message_shown(message, place) for message in pinned]))


@chat_messages.get("/messages/<id:message_id>")
@signed_in
@answers(RoomMessage)
@fails(404)
async def one_message(message_id: int, identity: Identity) -> Response:
    """One message."""
    found = await services().db.read(messages_db.shown, identity.user_id, message_id)
    if found is None:
        raise message_not_found()
    return ok(message_shown(*found))


@chat_messages.put("/messages/<id:message_id>")
@signed_in
@takes(Correction)
@answers(RoomMessage)
@fails(403, 404, 429)
async def edit_message(message_id: int, identity: Identity, data: Correction) -> Response:
    """Change what one's own message says. Counts as a message: it is new words for everybody."""
    count_message(identity)
    who = person(identity)
    return await _change(message_id, who, Edit(person=who, id=message_id, content=data.content))


@chat_messages.delete("/messages/<id:message_id>")
@signed_in
@answers(RoomMessage)
@fails(403, 404)
async def delete_message(message_id: int, identity: Identity) -> Response:
    """Delete one's own message, or, as a moderator, somebody else's. The number stays, the content goes."""
    who = person(identity)
    try:
        return await _change(message_id, who, Delete(person=who, id=message_id))
    finally:
        services().poke()


@chat_messages.put("/messages/<id:message_id>/reactions/<emoji>")
@signed_in
@answers(RoomMessage)
@fails(400, 403, 404)
async def react(message_id: int, emoji: str, identity: Identity) -> Response:
    """React with an emoji (percent-encoded)."""
    who = person(identity)
    return await _change(message_id, who, React(person=who, id=message_id, emoji=emoji, added=True))


@chat_messages.delete("/messages/<id:message_id>/reactions/<emoji>")
@signed_in
@answers(RoomMessage)
@fails(400, 403, 404)
async def unreact(message_id: int, emoji: str, identity: Identity) -> Response:
    """Take one's reaction back."""
    who = person(identity)
    return await _change(message_id, who, React(person=who, id=message_id, emoji=emoji, added=False))


@chat_messages.put("/messages/<id:message_id>/pin")
@signed_in
@answers(RoomMessage)
@fails(400, 403, 404)
async def pin(message_id: int, identity: Identity) -> Response:
    """Pin a message (the room's owner and moderators; in a conversation both people)."""
    who = person(identity)
    return await _change(message_id, who, Pin(person=who, id=message_id, pinned=True))


@chat_messages.delete("/messages/<id:message_id>/pin")
@signed_in
@answers(RoomMessage)
@fails(403, 404)
async def unpin(message_id: int, identity: Identity) -> Response:
    """Unpin a message."""
    who = person(identity)
    return await _change(message_id, who, Pin(person=who, id=message_id, pinned=False))


@chat_messages.post("/messages/<id:message_id>/report")
@signed_in
@takes(Complaint)
@answers(status=201)
@fails(404, 409)
async def report(message_id: int, identity: Identity, data: Complaint) -> Response:
    """Tell the moderators of a message."""
    await complain(identity, "message", message_id, data.reason, None)
    return ok(message="Thank you; the moderators will look at it.", status=201)


@chat_messages.get("/search")
@signed_in
@takes_query(SearchQuery)
@answers(Hits)
@fails(404)
async def search(identity: Identity, query: SearchQuery) -> Response:
    """Find messages by their words, in all that one may read."""
    s = services()
    room_id = await rooms().resolve(query.room) if query.room is not None else None
    author = await _author(query.from_) if query.from_ is not None else None
    where = Where(identity.user_id, True, room_id, author, query.before)
    found = await s.db.read(_heard, where, query.q, query.limit)
    shown = [message_shown(message, place) for message, place in found.messages]
    return ok(Hits(shown, found.before is not None, found.before))


# Inside ----------------------------------------------------------------------------------------------


async def _heard(conn: Any, where: Where, text: str, limit: int) -> Heard:
    return await heard(conn, where, await search_words.read(conn, text), limit)


def count_message(identity: Identity) -> None:
    """Messages are counted per person, over sockets and REST together."""
    if wait := services().message_rates.take(identity.user_id):
        raise rate_limited(wait, "Too fast; wait a little.")


async def say(identity: Identity, room_id: int, data: NewMessage) -> Shown | Posted:
    """Post; the message as everybody sees it, or what is known of it where the database is gone again."""
    posted: Posted = await rooms().ask(
        room_id,
        Say(
            person=person(identity),
            content=data.content,
            nonce=data.nonce,
            message_type=data.message_type,
            media_url=data.media_url,
            media_type=data.media_type,
            duration=data.duration,
            reply_to=data.reply_to,
        ),
    )
    # It is stored: nothing that happens from here on may make it look otherwise.
    try:
        found = await services().db.read(messages_db.shown, identity.user_id, posted.id)
    except Unavailable:
        return posted
    return posted if found is None else message_shown(*found)


async def read_history(reader: int, room_id: int, query: HistoryQuery) -> History:
    page: Page | None = await services().db.read(
        messages_db.history, reader, room_id, query.limit, query.before_seq, query.after_seq
    )
    if page is None:
        raise room_not_found()
    address = address_of(Place(page.room_id, page.kind, page.name, page.people))
    return History(
        room=address.label,
        room_id=room_id,
        with_user=address.other(reader) if page.people is not None else None,
        messages=[message_data(address, message) for message in page.messages],
        total=page.total,
        has_more=page.has_more,
        next_before_seq=page.messages[0].seq if page.messages and page.messages[0].seq > 1 else None,
    )


async def _change(message_id: int, who: Person, wish: Wish) -> Response:
    """Have the message's room grant the wish; the message as it is then."""
    place: Place | None = await services().db.read(messages_db.place, who.user_id, message_id)
    if place is None:
        raise message_not_found()
    message: Message = await rooms().ask(place.room_id, wish)
    return ok(message_shown(message, place))


async def _author(text: str) -> int:
    """The person `from` names: an id when all digits, else a username."""
    if text.isascii() and text.isdecimal():
        number = int(text[:20])
        if not 0 < number <= BIGINT:
            raise user_not_found()
        return number
    found = await services().db.read(users.by_username, text)
    if found is None:
        raise invalid({"from": "There is nobody of this name."})
    return found.id
