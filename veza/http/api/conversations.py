"""`/chat/conversations`, `/chat/dm`, `/chat/unread`: letters between two people, and what waits to be read."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from quart import Blueprint, Response

from veza.actors.errors import USER_NOT_FOUND, Refused
from veza.actors.frames import DirectMessage
from veza.actors.registry import Identity
from veza.db import room_lists, users
from veza.db.room_lists import ConversationRow
from veza.http.api.access import signed_in
from veza.http.api.chat import no_person, online, rooms
from veza.http.api.envelope import created, ok, page_meta
from veza.http.api.intake import takes, takes_query
from veza.http.api.messages import History, HistoryQuery, NewMessage, count_message, read_history, say
from veza.http.api.models import Paging
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services

letters = Blueprint("conversations", __name__, url_prefix="/chat")


class ConversationShown(Struct, frozen=True):
    """A conversation, named by the other person. `last_message` is its text, empty where that was deleted."""

    room_id: int
    user_id: int
    username: str
    first_name: str | None
    last_name: str | None
    avatar: str | None
    last_message: str | None
    last_message_user_id: int | None
    last_activity: datetime
    unread_count: int
    is_online: bool
    status: str | None
    last_seen: datetime | None


class Conversations(Struct, frozen=True):
    conversations: list[ConversationShown]


class UnreadRoom(Struct, frozen=True):
    """`room` is a public room's name, any other room's id; `with_user` names a conversation's other."""

    room_id: int
    room: str | int
    kind: str
    with_user: int | None
    unread_count: int


class Unread(Struct, frozen=True):
    unread_count: int
    rooms: list[UnreadRoom]


@letters.get("/conversations")
@signed_in
@takes_query(Paging)
@answers(Conversations, listing=True)
async def list_conversations(identity: Identity, query: Paging) -> Response:
    """One's private conversations, the latest first."""
    reader = identity.user_id
    page = await services().db.read(room_lists.conversations, reader, query.limit, query.offset)
    here = await online([row.user_id for row in page.conversations])
    shown = []
    for row in page.conversations:
        status = here.get(row.user_id)
        last = row.last_message
        shown.append(
            ConversationShown(
                room_id=row.room_id,
                user_id=row.user_id,
                username=row.username,
                first_name=row.first_name,
                last_name=row.last_name,
                avatar=row.avatar,
                last_message=None if last is None else last.content,
                last_message_user_id=None if last is None else last.user_id,
                last_activity=row.last_message_at,
                unread_count=_unread(row, reader),
                is_online=status is not None,
                status=None if status is None else status[0],
                last_seen=row.last_seen,
            )
        )
    return ok(Conversations(shown), meta=page_meta(query.page, query.limit, page.total))


@letters.get("/dm/<id:user_id>")
@signed_in
@takes_query(HistoryQuery)
@answers(History)
@fails(404)
async def read_letters(user_id: int, identity: Identity, query: HistoryQuery) -> Response:
    """The letters between oneself and somebody, ascending."""
    try:
        room_id = await rooms().direct(identity.user_id, user_id, create=False)
    except Refused as refused:
        if refused.code != USER_NOT_FOUND:
            raise
        if await services().db.read(users.profile, user_id) is None:
            raise no_person() from None
        nothing = History(
            room=None,
            room_id=None,
            with_user=user_id,
            messages=[],
            total=0,
            has_more=False,
            next_before_seq=None,
        )
        return ok(nothing)
    return ok(await read_history(identity.user_id, room_id, query))


@letters.post("/dm/<id:user_id>")
@signed_in
@takes(NewMessage)
@answers(DirectMessage, 201)
@fails(403, 404)
async def send_letter(user_id: int, identity: Identity, data: NewMessage) -> Response:
    """Write to somebody. The conversation is made with its first letter."""
    count_message(identity)
    return created(await say(identity, await rooms().direct(identity.user_id, user_id), data))


@letters.get("/unread")
@signed_in
@answers(Unread)
async def unread(identity: Identity) -> Response:
    """How much there is to read, in all and by room, the latest first."""
    reader = identity.user_id
    found = []
    for row in await services().db.read(room_lists.unread, reader):
        count = _unread(row, reader)
        if count:
            other = None
            if row.people is not None:
                other = row.people[1] if row.people[0] == reader else row.people[0]
            label = row.name if row.kind == "public" and row.name is not None else row.room_id
            found.append(UnreadRoom(row.room_id, label, row.kind, other, count))
    return ok(Unread(sum(room.unread_count for room in found), found))


def _unread(row: ConversationRow | room_lists.UnreadRow, reader: int) -> int:
    live = rooms().glance(row.room_id, reader)
    read = row.last_read_seq if live is None else max(row.last_read_seq, live.last_read_seq)
    return max(0, row.last_seq - read)
