"""What can be changed in a room, each as a plan: who may, what is stored, and what follows in the room.

A plan is made when its turn comes, against the room as it is then; the room runs one at a time. `apply` runs in the
room's task after the commit, changes what is in memory and says what everybody hears; its result answers a REST call.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from veza.actors import rules
from veza.actors.commands import (
    Delete,
    Depart,
    Edit,
    Enroll,
    Kick,
    Lift,
    PartyWish,
    Person,
    Pin,
    Quit,
    React,
    Remove,
    Sanction,
    Seclude,
    SetRole,
    SetWords,
    TakeDown,
    Update,
    Wish,
)
from veza.actors.errors import (
    BANNED,
    CONFLICT,
    INVALID_FORMAT,
    MUTED,
    NOT_JOINED,
    ROOM_NOT_FOUND,
    Refused,
    denied,
    message_not_found,
    room_not_found,
    unavailable,
    user_not_found,
)
from veza.actors.frames import Address, error_frame, frame, message_frame
from veza.db import messages as messages_db
from veza.db import room_acts
from veza.db import rooms as rooms_db
from veza.db.errors import Conflict, DataRefused, Unavailable
from veza.db.messages import Message

if TYPE_CHECKING:
    from veza.actors.carried import Enrollment
    from veza.actors.room.changing import Changing
    from veza.actors.room.posting import Posting


class Change(msgspec.Struct, frozen=True):
    """`unit(conn, room_id, *args)` in one transaction, then `apply(room, wish, result)`."""

    unit: Callable[..., Coroutine[Any, Any, Any]]
    args: tuple[Any, ...]
    apply: Callable[..., Coroutine[Any, Any, Any]]


def as_refusal(error: BaseException) -> Refused:
    """What the asker hears of a change that failed; anything that is not an answer of the database is a crash."""
    match error:
        case Refused():
            return error
        case Unavailable():
            return unavailable()
        case Conflict():
            return Refused(CONFLICT, "A room of this name exists already.", field="name")
        case DataRefused():
            return Refused(INVALID_FORMAT, "This holds something that cannot be stored.")
    raise error


def plan(room: Changing, wish: Wish | Enrollment) -> Change:
    """The change that grants the wish; raises Refused where it is not granted."""
    if not isinstance(wish, Wish):
        _keep_who_may_enter(room, wish)
        codes = [w.invitation if isinstance(w, Enroll) else None for w, _ in wish.wishes]
        return Change(rooms_db.add_members, ([w.person.user_id for w, _ in wish.wishes], codes), _enrolled)
    person = wish.person
    if room.room is None:
        raise room_not_found()
    if isinstance(wish, TakeDown):
        return room.plan_take_down(wish, _deleted)
    house = isinstance(wish, Seclude | Depart) or (isinstance(wish, Update | Remove) and wish.house)
    if room.room.kind != "public" and person.user_id not in room.roster.members and not house:
        raise room_not_found()
    match wish:
        case Edit(id=id, content=text):
            content = rules.content(text)
            may_act(room, person)
            room.refuse_words(person, content)
            mentions = room.roster.mentions(content)
            return Change(
                messages_db.edit, (id, person.user_id, content, mentions, _author_only(person)), _edited
            )
        case Delete(id=id):
            room.roster.member(person)
            unit = _of_lower(room.roster.level(person))
            return Change(unit, (id, person.user_id, _may_delete(room, person)), _deleted)
        case React(id=id, emoji=text, added=added):
            may_act(room, person)
            emoji = rules.emoji(text)
            check = _room_for(emoji, room.settings.reactions_max) if added else _anything
            return Change(messages_db.react, (id, person.user_id, emoji, added, check), _reacted)
        case Pin(id=id, pinned=pinned):
            room.roster.member(person)
            if room.room.kind != "direct":
                room.roster.need(person, rules.MODERATOR, "pin messages")
            most = room.settings.room_pins_max
            return Change(messages_db.pin, (id, person.user_id, pinned, _anything, most), _pinned)
        case Quit():
            room.roster.member(person)
            if room.room.kind == "direct":
                raise denied("A private conversation cannot be left.")
            if room.room.kind == "private" and room.member_count == 1:
                # Nobody could ever enter, read or delete it again.
                raise denied("You are the last one here: delete the room instead, or invite somebody first.")
            return Change(rooms_db.remove_member, (person.user_id,), _quit)
        case Depart():
            return Change(rooms_db.depart, (person.user_id,), _departed)
        case PartyWish():
            return room.plan_party(wish)
        case SetWords():
            return room.plan_words(wish)
    return _moderation(room, wish)


def _keep_who_may_enter(room: Changing, batch: Enrollment) -> None:
    """A join was judged when it came; since then people were banned, the room may have become full, or private."""
    wishes, batch.wishes = batch.wishes, []
    for wish, reply in wishes:
        try:
            room.may_enter(wish, before=len(batch.wishes))
        except Refused as refusal:
            room.tell_refused(wish, reply, refusal)
        else:
            batch.wishes.append((wish, reply))


def _moderation(room: Changing, wish: Wish) -> Change:
    assert room.room is not None
    person, roster = wish.person, room.roster
    if room.room.kind == "direct":
        raise denied("A private conversation has no moderators.")
    match wish:
        case Kick(target=target):
            roster.need(person, rules.MODERATOR, "remove people")
            if target not in roster.members:
                raise user_not_found()
            roster.below(person, target)
            return Change(_below(room_acts.kick, roster.level(person)), (target, person.user_id), _kicked)
        case Sanction(target=target, kind=kind, until=until, reason=reason):
            roster.need(person, rules.MODERATOR, f"{kind} people")
            roster.below(person, target)
            if until is not None and until <= datetime.now(UTC):
                raise Refused(INVALID_FORMAT, "The end must be in the future.", field="until")
            unit = _below(room_acts.sanction, roster.level(person))
            return Change(unit, (target, kind, until, reason, person.user_id), _sanctioned)
        case Lift(target=target, kind=kind):
            roster.need(person, rules.MODERATOR, f"lift a {kind}")
            roster.below(person, target)
            return Change(room_acts.lift, (target, kind, person.user_id), _lifted)
        case SetRole(target=target, role=role):
            roster.need(person, rules.OWNER, "give roles")
            if target not in roster.members:
                raise user_not_found()
            roster.below(person, target)
            return Change(room_acts.set_role, (target, role, person.user_id), _role_set)
        case Update(name=name, description=description, is_private=private, slow_mode_s=slow):
            if not wish.house:
                level = rules.OWNER if name or private is not None else rules.MODERATOR
                roster.need(person, level, "change this")
            visibility = None if private is None else "private" if private else "public"
            stored = rules.room_name(name) if name is not None else None
            opened = visibility not in (None, room.room.kind) and not wish.house
            unit = _of_no_stream(rooms_db.update) if opened else rooms_db.update
            return Change(unit, (stored, description, visibility, slow), _updated)
        case Seclude():
            return Change(rooms_db.seclude, (person.user_id,), _secluded)
        case Remove():
            if not wish.house:
                roster.need(person, rules.OWNER, "delete it")
            return Change(rooms_db.remove, (), _removed)
    raise TypeError(f"no plan for {type(wish).__name__}")


# Checks on what is in the database, in the transaction.


def _below(
    unit: Callable[..., Coroutine[Any, Any, Any]], level: int
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The unit, but only for people of a lower role on the platform than `level`, which the roster does not know."""

    async def run(conn: Any, room_id: int, target: int, *args: Any) -> Any:
        role = await rooms_db.platform_role(conn, target)
        if role is None:
            raise user_not_found()
        if role != "user" and rules.level(None, role) >= level:
            raise denied("This works only on people below you.")
        return await unit(conn, room_id, target, *args)

    return run


def _of_lower(level: int) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Delete a message, but of somebody else only if his role on the platform is lower than `level`."""

    async def run(conn: Any, room_id: int, message_id: int, by: int, check: Callable[[Message], None]) -> Any:
        author = await room_acts.author_of(conn, room_id, message_id)
        if author is not None and author != by:
            role = await rooms_db.platform_role(conn, author)
            if role not in (None, "user") and rules.level(None, role) >= level:
                raise denied("Only its author and moderators above him may delete this message.")
        return await room_acts.delete(conn, room_id, message_id, by, check)

    return run


def _of_no_stream(unit: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The unit, but not for the room of a live stream: that is as open as its stream, for who is in it may hear it."""

    async def run(conn: Any, room_id: int, *args: Any) -> Any:
        if await rooms_db.is_streams(conn, room_id):
            raise denied("The room of a live stream is as open as the stream; change that.")
        return await unit(conn, room_id, *args)

    return run


def _anything(message: Message) -> None:
    return None


def _author_only(person: Person) -> Callable[[Message], None]:
    def check(message: Message) -> None:
        if message.user_id != person.user_id:
            raise denied("Only its author may edit a message.")
        if message.message_type in rules.HOUSE_TYPES:
            raise denied("This message tells what was done, and cannot be edited.")

    return check


def _may_delete(room: Changing, person: Person) -> Callable[[Message], None]:
    def check(message: Message) -> None:
        if message.user_id == person.user_id:
            return
        if room.room is not None and room.room.kind == "direct":
            raise denied("Only its author may delete a message.")
        if room.roster.level(person) < rules.MODERATOR:
            raise denied("Only its author and the room's moderators may delete a message.")
        if message.user_id is not None:
            room.roster.below(person, message.user_id)

    return check


def _room_for(emoji: str, most: int) -> Callable[[Message], None]:
    def check(message: Message) -> None:
        there = {reaction.emoji for reaction in message.reactions or ()}
        if emoji not in there and len(there) >= most:
            raise Refused(INVALID_FORMAT, f"A message carries at most {most} different emoji.", limit=most)

    return check


def may_act(room: Posting, person: Person) -> None:
    """Raise Refused for who may not say anything here either."""
    room.roster.refuse_banned(person.user_id)
    room.roster.member(person)
    room.roster.refuse_muted(person)
    room.refuse_blocked(person)


# What follows.


def _tell(
    room: Changing, wish: Wish, kind: str, message: Message, data: dict[str, Any], changed: bool = True
) -> None:
    """Send a change to everybody and show it in replays from now on; where it was so already tell the asker only."""
    blob = frame(kind, {"id": message.id, **room.named(), "seq": message.seq, "rev": message.rev, **data})
    if changed:
        room.ring.replace(message.seq, message_frame(room.address, message))
        room.changed(message.rev, blob)
    asker = wish.connection
    if asker is not None and not (changed and asker in room.fanout.subscribers):
        room.fanout.ack(asker, blob)


async def _enrolled(room: Changing, batch: Enrollment, members: list[rooms_db.Member]) -> None:
    await room.enrolled(batch, members)


async def _edited(room: Changing, wish: Edit, message: Message | None) -> Message:
    if message is None:
        raise message_not_found()
    data: dict[str, Any] = {
        "content": message.content,
        "edited_at": message.edited_at,
        "edited_by": message.edited_by,
    }
    if message.mentions:
        data["mentions"] = message.mentions
    _tell(room, wish, "message_edited", message, data)
    return message


async def _deleted(room: Changing, wish: Delete | TakeDown, message: Message | None) -> Message:
    if message is None:
        raise message_not_found()
    _tell(room, wish, "message_deleted", message, {"deleted_by": message.deleted_by})
    return message


async def _reacted(room: Changing, wish: React, result: tuple[Message, bool] | None) -> Message:
    if result is None:
        raise message_not_found()
    message, changed = result
    count = next((r.count for r in message.reactions or () if r.emoji == wish.emoji), 0)
    data = {"emoji": wish.emoji, "count": count, "user_id": wish.person.user_id, "added": wish.added}
    _tell(room, wish, "reaction_updated", message, data, changed)
    return message


async def _pinned(room: Changing, wish: Pin, result: tuple[Message, bool, bool] | None) -> Message:
    if result is None:
        raise message_not_found()
    message, changed, full = result
    if full:
        most = room.settings.room_pins_max
        raise Refused(INVALID_FORMAT, f"A room has at most {most} pinned messages.", limit=most)
    kind = "message_pinned" if wish.pinned else "message_unpinned"
    _tell(room, wish, kind, message, {"by": wish.person.user_id}, changed)
    return message


async def _quit(room: Changing, wish: Quit, heir: int | None) -> None:
    await room.expel(wish.person.user_id, None)
    room.roster.drop(wish.person.user_id)
    _inherit(room, heir)


async def _departed(room: Changing, wish: Depart, done: rooms_db.Departed) -> None:
    if done.removed:
        await _removed(room, wish, True)
        return
    await room.expel(wish.person.user_id, None)
    room.roster.drop(wish.person.user_id)
    room.ring.clear()  # encoded frames name their authors
    _inherit(room, done.heir)
    if done.heir is None and room.room is not None and room.room.owner_id == wish.person.user_id:
        room.room = msgspec.structs.replace(room.room, owner_id=None)


def _inherit(room: Changing, heir: int | None) -> None:
    """The owner is gone, and the room is somebody else's."""
    if heir is not None and room.room is not None:
        room.room = msgspec.structs.replace(room.room, owner_id=heir)
        if (member := room.roster.members.get(heir)) is not None:
            member.role = "owner"


async def _kicked(room: Changing, wish: Kick, heir: int | None) -> None:
    notice = error_frame(NOT_JOINED, "You were removed from this room.", {**room.named(), "reason": "kicked"})
    await room.expel(wish.target, notice)
    room.roster.drop(wish.target)
    _inherit(room, heir)


async def _sanctioned(room: Changing, wish: Sanction, heir: int | None) -> None:
    room.roster.sanction(wish.target, wish.kind, wish.until)
    details: dict[str, Any] = dict(room.named())
    if wish.until is not None:
        details["until"] = wish.until
    if wish.reason:
        details["reason"] = wish.reason
    if wish.kind == "ban":
        await room.expel(wish.target, error_frame(BANNED, "You were banned from this room.", details))
        room.roster.drop(wish.target)
        _inherit(room, heir)
    else:
        notice = error_frame(MUTED, "You were muted in this room.", details)
        for connection in room.fanout.subscribers:
            if connection.user_id == wish.target:
                connection.outlet.post(notice)


async def _lifted(room: Changing, wish: Lift, was: bool) -> bool:
    room.roster.lift(wish.target, wish.kind)
    return was


async def _role_set(room: Changing, wish: SetRole, _: None) -> None:
    assert room.room is not None
    if wish.role == "owner":
        for member in room.roster.members.values():
            if member.role == "owner":
                member.role = "moderator"
        room.room = msgspec.structs.replace(room.room, owner_id=wish.target)
    if (member_ := room.roster.members.get(wish.target)) is not None:
        member_.role = wish.role


async def _updated(room: Changing, wish: Update, stored: rooms_db.Room | None) -> Any:
    if stored is None:
        raise room_not_found()
    room.room = stored
    room.renamed()
    room.address = Address(stored.id, stored.kind, stored.name, stored.people)
    # Encoded frames name the room: replays must not name it as it was.
    room.ring.clear()
    return room.describe(wish.person)


async def _secluded(room: Changing, wish: Seclude, stored: tuple[rooms_db.Room, list[int]] | None) -> None:
    if stored is None:
        raise room_not_found()
    room.room, gone = stored
    room.renamed()
    room.address = Address(room.room.id, room.room.kind, room.room.name, room.room.people)
    room.ring.clear()
    notice = error_frame(NOT_JOINED, "This room is private now.", {**room.named(), "reason": "private"})
    for user_id in gone:
        room.roster.drop(user_id)
    for user_id in {c.user_id for c in (*room.fanout.subscribers, *room.gated)} - room.roster.members.keys():
        await room.expel(user_id, notice)


async def _removed(room: Changing, wish: Remove | Depart, _: bool) -> None:
    notice = error_frame(ROOM_NOT_FOUND, "This room was deleted.", room.named())
    for user_id in {c.user_id for c in (*room.fanout.subscribers, *room.gated)}:
        await room.expel(user_id, notice)
    room.close_down()
