"""A session: one chat socket. It turns what its client says into wishes for rooms, within the limits of its person.

It has no task of its own: the socket's reading task handles its requests one by one, so an idle socket costs little,
and a slow answer (a page of history) holds up only the client that asked for it. Rooms write to its outlet themselves.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import trio

from veza.actors import requests as r
from veza.actors import rules
from veza.actors.commands import (
    Delete,
    Edit,
    Join,
    Leave,
    MarkRead,
    PartyGet,
    PartyMove,
    PartyStart,
    PartyStop,
    Person,
    Pin,
    React,
    Say,
    Typing,
    Wish,
)
from veza.actors.errors import (
    AUTH_FAILED,
    INVALID_FORMAT,
    RATE_LIMITED,
    Refused,
    message_not_found,
    not_joined,
    room_not_found,
    unavailable,
)
from veza.actors.frames import Address, error_frame, frame, message_data, now
from veza.actors.kernel import Actor, Ref
from veza.actors.ports import Connection
from veza.actors.presence import STATUSES, SetPresence
from veza.actors.rooms import Rooms
from veza.db import messages as messages_db
from veza.db import rooms as rooms_db
from veza.db.errors import DataRefused, Unavailable
from veza.db.messages import Page
from veza.db.pool import Database
from veza.security.rates import Buckets

ABUSE = 4008
TOKEN_EXPIRED = 4001
STATUS_MAX = 140
REMEMBERED = 256  # rooms joined, before those that refused are weeded out


class Frame(msgspec.Struct, frozen=True):
    """A decoded request, or what was wrong with it."""

    request: r.Request | Refused
    ref: str | None

    def __repr__(self) -> str:
        return f"Frame({type(self.request).__name__})"


class Renewed(Protocol):
    """What a fresh token says (`registry.Identity` is one)."""

    @property
    def user_id(self) -> int: ...
    @property
    def sid(self) -> str: ...
    @property
    def expires_at(self) -> float: ...


class Authenticate(Protocol):
    async def __call__(self, token: str) -> Renewed:
        """Raises Refused where the token is no good."""
        ...


class Decode(Protocol):
    def __call__(self, text: bytes) -> Frame: ...


class Limits(msgspec.Struct, frozen=True):
    """Shared by all sessions; buckets are per person, so that more sockets give no more words."""

    messages: Buckets
    frames: Buckets
    statuses: Buckets  # a status goes to everybody who shares a room
    abuse_refusals: int
    abuse_window: float


class SessionActor(Actor):
    """See the module. `expires_at` is the token's end (Unix seconds)."""

    def __init__(
        self,
        connection: Connection,
        person: Person,
        expires_at: float,
        *,
        rooms: Rooms,
        presence: Ref,
        db: Database,
        limits: Limits,
        authenticate: Authenticate,
        decode: Decode,
    ) -> None:
        self.connection = connection
        self._person = person
        self.expires_at = expires_at
        self.joined: set[int] = set()
        self._rooms = rooms
        self._presence = presence
        self._db = db
        self._limits = limits
        self._authenticate = authenticate
        self._decode = decode
        self._refusals = 0
        self._refusals_since = 0.0

    @property
    def person(self) -> Person:
        """Who speaks, under the name, role and mute of this moment."""
        person, connection = self._person, self.connection
        if (
            person.username != connection.username
            or person.role != connection.role
            or person.muted_until is not connection.muted_until
        ):
            person = self._person = Person(
                connection.user_id, connection.username, connection.role, connection.muted_until
            )
        return person

    def summary(self) -> dict[str, Any]:
        return {
            "user_id": self.person.user_id,
            "rooms": len(self.joined),
            "queued_bytes": self.connection.outlet.queued,
            "silent_s": round(trio.current_time() - self.connection.outlet.last_received, 1),
        }

    async def handle(self, message: Any) -> None:
        """One frame. What is refused is answered with an `error` frame; nothing is raised but crashes."""
        try:
            if isinstance(message.request, Refused):
                self._count_frame()
                raise message.request
            await self._serve(message.request, message.ref)
        except Refused as refusal:
            self._refuse(refusal, message.ref)

    def leave_all(self) -> None:
        """The socket has ended: end its subscriptions. Never blocks, and nothing is too busy to hear it."""
        self.connection.ended = True
        for room_id in self.joined:
            running = self._rooms.running(room_id)
            if running is not None:
                running.answer(Leave(person=self.person, connection=self.connection, quiet=True))

    def _refuse(self, refusal: Refused, ref: str | None) -> None:
        outlet = self.connection.outlet
        outlet.post(error_frame(refusal.code, refusal.message, refusal.details, ref))
        if refusal.code == RATE_LIMITED:
            at = trio.current_time()
            if at - self._refusals_since > self._limits.abuse_window:
                self._refusals, self._refusals_since = 0, at
            self._refusals += 1
            if self._refusals >= self._limits.abuse_refusals:
                outlet.close(ABUSE, "too many refused requests")

    def _count_frame(self) -> None:
        wait = self._limits.frames.take(self.person.user_id)
        if wait:
            raise _rate_limited(wait)

    def _count_message(self) -> None:
        wait = self._limits.messages.take(self.person.user_id)
        if wait:
            raise _rate_limited(wait)

    # What the client says -----------------------------------------------------------------------------

    async def _serve(self, request: r.Request, ref: str | None) -> None:
        match request:
            case r.RoomMessage():
                self._count_message()
                await self._tell(await self._rooms.resolve(request.room), self._say(request, ref))
                return
            case r.DirectMessage(to_user_id=user, to=old):
                self._count_message()
                other = _needed(user if user is not None else old, "to_user_id")
                await self._tell(
                    await self._rooms.direct(self.person.user_id, other), self._say(request, ref)
                )
                return
            case r.EditMessage():
                self._count_message()  # new words for everybody, like a message
                await self._change(request, ref)
                return
            case r.MessageBatch() if request.messages:
                await self._batch(request, ref)
                return
            case r.PartyStart() | r.PartyPlay() | r.PartyPause() | r.PartySeek() | r.PartyStop():
                self._count_message()  # everybody in the room hears of it
                await self._tell_party(request, ref)
                return
        self._count_frame()
        match request:
            case r.Ping():
                stamp = {"timestamp": now()}
                self._post("pong", stamp if ref is None else {**stamp, "ref": ref})
            case r.JoinRoom():
                room_id = await self._target(request.room, request.with_user, request.with_)
                if len(self.joined) >= REMEMBERED:
                    # A room that runs for nobody but us will have ended by then.
                    self.joined = {each for each in self.joined if self._rooms.running(each) is not None}
                self.joined.add(room_id)
                wish = Join(
                    person=self.person,
                    connection=self.connection,
                    ref=ref,
                    since_seq=request.since_seq,
                    since_rev=request.since_rev,
                )
                await self._tell(room_id, wish)
            case r.LeaveRoom():
                known = await self._known_target(request.room, request.with_user, request.with_)
                if known is None:
                    raise not_joined()
                self.joined.discard(known)
                await self._tell(known, Leave(person=self.person, connection=self.connection, ref=ref))
            case r.RoomHistory():
                await self._history(await self._rooms.resolve(request.room), request, ref, None)
            case r.DmHistory():
                other = _needed(
                    request.with_user if request.with_user is not None else request.with_, "with_user"
                )
                known = await self._rooms.conversation(self.person.user_id, other)
                await self._history(known, request, ref, other)
            case r.Typing():
                known = await self._known_target(request.room, request.to_user_id, None)
                wish_ = Typing(person=self.person, connection=self.connection, ref=ref, on=request.is_typing)
                if known is not None:
                    await self._tell(known, wish_)
            case r.MarkRead():
                known = await self._known_target(request.room, request.with_user, request.with_)
                mark = MarkRead(person=self.person, connection=self.connection, ref=ref, seq=request.seq)
                if known is not None:
                    await self._tell(known, mark)
            case r.PartyGet():
                await self._tell_party(request, ref)
            case r.SetPresence():
                await self._set_presence(request)
            case r.Auth(token=token):
                await self._renew(token, ref)
            case r.MessageBatch():
                raise Refused(INVALID_FORMAT, "A batch holds at least one message.", field="messages")
            case _:
                await self._change(request, ref)

    async def _change(self, request: r.Request, ref: str | None) -> None:
        """Requests that name a message only: find its room, if this person may see it."""
        message_id = getattr(request, "id", 0)
        room_id = await self._read(messages_db.locate, self.person.user_id, message_id)
        if room_id is None:
            raise message_not_found()
        about: dict[str, Any] = {
            "person": self.person,
            "connection": self.connection,
            "ref": ref,
            "id": message_id,
        }
        wish: Wish
        match request:
            case r.EditMessage(content=content):
                wish = Edit(**about, content=content)
            case r.DeleteMessage():
                wish = Delete(**about)
            case r.AddReaction(emoji=emoji):
                wish = React(**about, emoji=emoji, added=True)
            case r.RemoveReaction(emoji=emoji):
                wish = React(**about, emoji=emoji, added=False)
            case r.PinMessage():
                wish = Pin(**about, pinned=True)
            case r.UnpinMessage():
                wish = Pin(**about, pinned=False)
            case _:
                raise TypeError(f"nothing serves {type(request).__name__}")
        await self._tell(room_id, wish)

    async def _tell_party(self, request: Any, ref: str | None) -> None:
        room_id = await self._known_target(request.room, request.with_user, None)
        if room_id is None:
            raise room_not_found()
        about: dict[str, Any] = {"person": self.person, "connection": self.connection, "ref": ref}
        wish: Wish
        match request:
            case r.PartyStart(track_id=track_id, position_ms=position, playing=playing):
                wish = PartyStart(**about, track_id=track_id, position_ms=position, playing=playing)
            case r.PartyPlay(position_ms=position):
                wish = PartyMove(**about, position_ms=position, playing=True)
            case r.PartyPause():
                wish = PartyMove(**about, playing=False)
            case r.PartySeek(position_ms=position):
                wish = PartyMove(**about, position_ms=position)
            case r.PartyStop():
                wish = PartyStop(**about)
            case _:
                wish = PartyGet(**about)
        await self._tell(room_id, wish)

    async def _target(self, room: str | int | None, with_user: int | None, old: int | None) -> int:
        other = with_user if with_user is not None else old
        if other is not None:
            return await self._rooms.direct(self.person.user_id, other)
        if room is None:
            raise Refused(INVALID_FORMAT, "Name a room, or a person with `with_user`.", field="room")
        return await self._rooms.resolve(room)

    async def _known_target(
        self, room: str | int | None, with_user: int | None, old: int | None
    ) -> int | None:
        """The same for who only looks: None where two people have no conversation yet, and none is made."""
        other = with_user if with_user is not None else old
        if other is not None:
            return await self._rooms.conversation(self.person.user_id, other)
        return await self._target(room, None, None)

    async def _tell(self, room_id: int, wish: Wish) -> None:
        await self._rooms.tell(room_id, wish)

    def _say(self, request: r.RoomMessage | r.DirectMessage, ref: str | None) -> Say:
        return Say(
            person=self.person,
            connection=self.connection,
            ref=ref,
            content=request.content,
            nonce=request.nonce,
            message_type=request.message_type,
            media_url=request.media_url,
            media_type=request.media_type,
            duration=request.duration,
            reply_to=request.reply_to,
        )

    async def _batch(self, batch: r.MessageBatch, ref: str | None) -> None:
        """Each as if sent alone; the first that meets the rate limit ends the batch."""
        for accepted, raw in enumerate(batch.messages):
            if self.connection.outlet.closed:
                return
            frame_ = self._decode(bytes(raw))
            its_ref = frame_.ref
            try:
                if isinstance(frame_.request, Refused):
                    self._count_frame()
                    raise frame_.request
                if isinstance(frame_.request, r.MessageBatch):
                    raise Refused(INVALID_FORMAT, "A batch holds no batches.")
                await self._serve(frame_.request, its_ref)
            except Refused as refusal:
                if refusal.code == RATE_LIMITED:
                    refusal.details["accepted"] = accepted
                    self._refuse(refusal, ref if ref is not None else its_ref)
                    return
                self._refuse(refusal, its_ref)

    async def _history(self, room_id: int | None, request: Any, ref: str | None, other: int | None) -> None:
        if room_id is None:
            page = Page(0, "direct", None, None, [], 0, False)  # the two have not written yet
        else:
            page = await self._read(
                messages_db.history,
                self.person.user_id,
                room_id,
                request.limit,
                request.before_seq,
                request.after_seq,
                request.offset,
            )
        if page is None:
            raise room_not_found()
        address = Address(page.room_id, page.kind, page.name, page.people)
        data: dict[str, Any] = {"with_user": other} if other is not None else {"room": address.label}
        data |= {
            "room_id": room_id,
            "messages": [message_data(address, m) for m in page.messages],
            "total": page.total,
            "has_more": page.has_more,
            "next_before_seq": page.messages[0].seq if page.messages and page.messages[0].seq > 1 else None,
        }
        if ref is not None:
            data["ref"] = ref
        self._post("message_history", data)

    async def _set_presence(self, request: r.SetPresence) -> None:
        if wait := self._limits.statuses.take(self.person.user_id):
            raise _rate_limited(wait)
        if request.status not in STATUSES:
            raise Refused(INVALID_FORMAT, f"A status is one of {', '.join(STATUSES)}.", field="status")
        text = request.text.strip() if request.text is not None else None
        if text is not None and not rules.is_line(text, STATUS_MAX):
            raise Refused(
                INVALID_FORMAT, f"A status text is one line of at most {STATUS_MAX} characters.", field="text"
            )
        if text:
            rules.refuse_silenced(self.person.muted_until)
        try:
            await self._db.write(rooms_db.save_presence, self.person.user_id, request.status, text or None)
        except Unavailable:
            raise unavailable() from None
        await self._presence.tell(SetPresence(self.person.user_id, request.status, text or None))

    async def _renew(self, token: str, ref: str | None) -> None:
        fresh = await self._authenticate(token)
        if fresh.user_id != self.person.user_id:
            raise Refused(AUTH_FAILED, "This token is somebody else's.")
        self.expires_at = fresh.expires_at
        self.connection.sid = fresh.sid
        # Once more under its new session: a revocation in between looked for the socket under the old one.
        await self._authenticate(token)
        ends = {"expires_at": datetime.fromtimestamp(fresh.expires_at, UTC)}
        self._post("auth_ok", ends if ref is None else {**ends, "ref": ref})

    def expire_if_due(self, at: float) -> None:
        """Close with 4001 once the token has ended (`at`: Unix seconds now)."""
        if at >= self.expires_at:
            outlet = self.connection.outlet
            outlet.post(error_frame(AUTH_FAILED, "The token has expired."))
            outlet.close(TOKEN_EXPIRED, "token expired")

    async def _read(self, unit: Any, *args: Any) -> Any:
        try:
            return await self._db.read(unit, *args)
        except DataRefused:
            return None
        except Unavailable:
            raise unavailable() from None

    def _post(self, type: str, data: Any) -> None:
        self.connection.outlet.post(frame(type, data))


def _needed(value: int | None, field: str) -> int:
    if value is None:
        raise Refused(INVALID_FORMAT, f"`{field}` is missing.", field=field)
    return value


def _rate_limited(wait: float) -> Refused:
    return Refused(
        RATE_LIMITED, "Too fast; wait a little.", retry_after=math.ceil(min(wait, 3600.0) * 100) / 100
    )
