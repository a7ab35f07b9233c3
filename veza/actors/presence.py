"""Who is online: every socket of every person, and where that must be known.

One actor. Private conversations watch their two people here, so that a new connection hears of its letters without
joining anything; frames addressed to a person (notifications) go out here, to all of that person's connections. It
tells rooms and never asks them, so that asking it is always safe.
"""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, Protocol

import msgspec
from outcome import Outcome

from veza.actors import rules
from veza.actors.commands import PresenceChanged, Subscribe, Unsubscribe
from veza.actors.errors import MUTED
from veza.actors.frames import error_frame, frame, now
from veza.actors.kernel import Actor, Ref
from veza.actors.ports import Connection
from veza.db import rooms as rooms_db
from veza.db.errors import Unavailable
from veza.db.pool import Database

STATUSES = ("online", "away", "busy", "invisible")


class Attendants(Protocol):
    """Who hears of every socket that opens or ends, at once and without being waited for."""

    def arrived(self, connection: Connection, nothing_untold: bool) -> None: ...
    def left(self, connection: Connection) -> None: ...


class Connected(msgspec.Struct, frozen=True):
    """Ask: a socket is open. `known` says up to where it knows each of its conversations (room id → last_seq), and
    `knows_all` whether those are all it had then; `friends` are the people it has conversations with."""

    connection: Connection
    status: str
    text: str | None
    known: dict[int, int]
    knows_all: bool
    friends: frozenset[int]
    nothing_untold: bool = False  # of notifications, see `Notices.arrived`


class Disconnected(msgspec.Struct, frozen=True):
    connection: Connection


class Watch(msgspec.Struct, frozen=True):
    """Ask: a conversation starts; answers the present connections of its people, tells of later ones."""

    room: Ref
    people: tuple[int, int]


class Entered(msgspec.Struct, frozen=True):
    """A person's first connection subscribed to a room."""

    user_id: int
    room: Ref


class Exited(msgspec.Struct, frozen=True):
    """A person's last connection left a room."""

    user_id: int
    room: Ref


class SetPresence(msgspec.Struct, frozen=True):
    user_id: int
    status: str
    text: str | None


class Named(msgspec.Struct, frozen=True):
    """Somebody's name and platform role as they are now, and until when he is muted everywhere."""

    user_id: int
    username: str
    role: str
    muted_until: datetime | None = None


class Deliver(msgspec.Struct, frozen=True):
    """Send a frame to every connection of some people."""

    user_ids: tuple[int, ...]
    blob: bytes

    def __repr__(self) -> str:
        return f"Deliver({len(self.user_ids)} people, {len(self.blob)} bytes)"


class CloseAll(msgspec.Struct, frozen=True):
    """End a person's sockets; those of the named sessions only, if any are named."""

    user_id: int
    sids: frozenset[str] | None
    code: int
    reason: str
    notice: bytes | None = None


class AreOnline(msgspec.Struct, frozen=True):
    """Ask: which of these are online, for everybody to see? Answers a dict of user id → (status, text)."""

    user_ids: tuple[int, ...]


class Statistics(msgspec.Struct, frozen=True):
    """Ask: answers {"people": …, "connections": …}."""


class SaveLastSeen(msgspec.Struct, frozen=True):
    """Time to note when people were last seen."""


class Saved(msgspec.Struct, frozen=True):
    """They are noted, or the database was away: it is no promise, so nothing more is done."""

    outcome: Outcome[None]


class _Person:
    """One person online."""

    __slots__ = ("connections", "friends", "rooms", "status", "text", "username")

    def __init__(self, username: str, status: str, text: str | None, friends: frozenset[int]) -> None:
        self.username = username
        self.status = status
        self.text = text
        self.friends = friends  # the others of this person's conversations
        self.connections: set[Connection] = set()
        self.rooms: set[Ref] = set()  # where a connection of theirs is subscribed


class Present:
    """What presence keeps over a restart: it cannot be read from the database."""

    def __init__(self) -> None:
        self.people: dict[int, _Person] = {}
        self.watches: dict[int, dict[Ref, int]] = {}  # person → conversations that run → the other person
        self.changes = 0
        self.left: set[int] = set()  # people whose last_seen_at is to be written


class PresenceActor(Actor):
    """See the module."""

    mailbox_capacity = 4096

    def __init__(
        self, db: Database, save_after: float = 1.0, *, attendants: Attendants | None = None
    ) -> None:
        self._db = db
        self._attendants = attendants
        self._save_after = save_after
        self._saving = False

    @property
    def present(self) -> Present:
        present: Present = self.context.carried
        return present

    async def handle(self, message: Any) -> Any:
        match message:
            case Connected():
                self._connected(message)
            case Disconnected(connection=connection):
                if self._attendants is not None:
                    self._attendants.left(connection)
                try:
                    self._disconnected(connection)
                except Exception:
                    self._forget(connection)  # nobody would say again that it has ended
                    raise
            case Watch(room=room, people=people):
                return self._watch(room, people)
            case Entered(user_id=user_id, room=room):
                if (person := self.present.people.get(user_id)) is not None:
                    person.rooms.add(room)
            case Exited(user_id=user_id, room=room):
                if (person := self.present.people.get(user_id)) is not None:
                    person.rooms.discard(room)
            case SetPresence():
                self._set(message)
            case Named():
                self._rename(message)
            case Deliver(user_ids=user_ids, blob=blob):
                for user_id in user_ids:
                    if (person := self.present.people.get(user_id)) is not None:
                        for connection in person.connections:
                            connection.outlet.post(blob)
            case CloseAll():
                self._close(message)
            case AreOnline(user_ids=user_ids):
                found = ((user_id, self.present.people.get(user_id)) for user_id in user_ids)
                return {u: (p.status, p.text) for u, p in found if p is not None and p.status != "invisible"}
            case Statistics():
                return self.summary()
            case SaveLastSeen():
                left, self.present.left = sorted(self.present.left), set()
                self.context.job(self._db.write, rooms_db.save_last_seen, left, then=Saved)
            case Saved():
                self._saving = False
                self._save_soon()
        return None

    def summary(self) -> dict[str, Any]:
        people = self.present.people.values()
        return {
            "people": len(people),
            "connections": sum(len(p.connections) for p in people),
            "conversations_watched": sum(len(w) for w in self.present.watches.values()) // 2,
        }

    def _connected(self, message: Connected) -> None:
        connection = message.connection
        person = self.present.people.get(connection.user_id)
        first = person is None
        if person is None:
            person = _Person(connection.username, message.status, message.text, message.friends)
            self.present.people[connection.user_id] = person
        connection.invisible = person.status == "invisible"
        person.connections.add(connection)
        if self._attendants is not None:
            self._attendants.arrived(connection, message.nothing_untold)
        # One that began while this socket was being welcomed is unknown to it from its first letter on.
        unknown = 0 if message.knows_all else None
        for room in self._running(connection.user_id):
            room.answer(Subscribe(connection, message.known.get(room_id(room), unknown)))
        person.friends |= message.friends.union(self.present.watches.get(connection.user_id, {}).values())
        if first:
            self._announce(connection.user_id, person, person.status, friends_only=True)

    def _disconnected(self, connection: Connection) -> None:
        person = self.present.people.get(connection.user_id)
        if person is None:
            return
        person.connections.discard(connection)
        for room in self._running(connection.user_id):
            room.answer(Unsubscribe(connection))
        if not person.connections:
            del self.present.people[connection.user_id]
            if person.status != "invisible":  # nobody may learn that he was here after he had seemed to leave
                self._note_left(connection.user_id)
            self._announce(connection.user_id, person, "offline", friends_only=True)

    def _forget(self, connection: Connection) -> None:
        person = self.present.people.get(connection.user_id)
        if person is not None:
            person.connections.discard(connection)
            if not person.connections:
                del self.present.people[connection.user_id]

    def _note_left(self, user_id: int) -> None:
        self.present.left.add(user_id)
        self._save_soon()

    def _save_soon(self) -> None:
        if self.present.left and not self._saving:
            self._saving = True
            self.context.timer(self._save_after, SaveLastSeen())

    async def stopping(self) -> None:
        if self.present.left:
            with contextlib.suppress(Unavailable):
                await self._db.write(rooms_db.save_last_seen, sorted(self.present.left))

    def _watch(self, room: Ref, people: tuple[int, int]) -> list[Connection]:
        low, high = people
        connections: list[Connection] = []
        for user_id, other in ((low, high), (high, low)):
            self.present.watches.setdefault(user_id, {})[room] = other
            if (person := self.present.people.get(user_id)) is not None:
                person.friends |= {other}
                connections += person.connections
        return connections

    def _running(self, user_id: int) -> list[Ref]:
        """The person's conversations whose actors run; the others are forgotten here."""
        watches = self.present.watches.get(user_id)
        if not watches:
            return []
        for room in [room for room in watches if not room.alive]:
            other = watches.pop(room)
            theirs = self.present.watches.get(other)
            if theirs is not None:
                theirs.pop(room, None)
                if not theirs:
                    del self.present.watches[other]
        if not watches:
            self.present.watches.pop(user_id, None)
        return list(watches)

    def _set(self, message: SetPresence) -> None:
        person = self.present.people.get(message.user_id)
        if person is None:
            return
        was = person.status
        person.status, person.text = message.status, message.text
        for connection in person.connections:
            connection.invisible = message.status == "invisible"
        if was == "invisible" and message.status == "invisible":
            return
        if message.status == "invisible":
            self._note_left(message.user_id)
        self._announce(message.user_id, person, message.status, friends_only=False)

    def _announce(self, user_id: int, person: _Person, status: str, *, friends_only: bool) -> None:
        """Tell of a status. An invisible person looks offline, and causes nothing on coming or going."""
        invisible = person.status == "invisible"
        if friends_only and invisible:
            return
        self.present.changes += 1
        shown = "offline" if invisible else status
        last_seen: datetime | None = now() if shown == "offline" else None
        text = None if shown == "offline" else person.text
        data = {"user_id": user_id, "status": shown, "text": text, "last_seen": last_seen}
        blob, change = frame("presence", data), self.present.changes
        for friend in filter(None, map(self.present.people.get, person.friends)):
            for connection in friend.connections:
                connection.seen_change = change
                connection.outlet.post(blob, droppable=True)
        if not friends_only:
            for room in person.rooms:
                room.answer(PresenceChanged(user_id, person.username, invisible, blob, change))

    def _rename(self, message: Named) -> None:
        person = self.present.people.get(message.user_id)
        if person is None:
            return
        person.username = message.username
        for connection in person.connections:
            connection.username = message.username
            connection.role = message.role
            if connection.muted_until != message.muted_until:
                connection.muted_until = message.muted_until
                if message.muted_until is not None and message.muted_until > now():
                    details = rules.ends(message.muted_until)
                    connection.outlet.post(error_frame(MUTED, "You were muted.", details))

    def _close(self, message: CloseAll) -> None:
        person = self.present.people.get(message.user_id)
        for connection in list(person.connections) if person is not None else []:
            if message.sids is None or connection.sid in message.sids:
                if message.notice is not None:
                    connection.outlet.post(message.notice)
                connection.outlet.close(message.code, message.reason)


def room_id(room: Ref) -> int:
    """The id behind a room's reference: `rooms/12`."""
    return int(room.path.rpartition("/")[2])
