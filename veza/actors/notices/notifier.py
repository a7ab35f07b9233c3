"""One person who is online, and what he is told: on every connection of his, in order, each thing once.

It begins with his first connection and ends with his last. What came while he was away it reads from the database; what
comes now the courier tells it. The courier's ids rise, so that one number, `known`, says what of both was had before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableMapping
from typing import Any, Final

import msgspec
from outcome import Error, Outcome, Value

from veza import log
from veza.actors.frames import frame
from veza.actors.kernel import Actor
from veza.actors.notices.told import Book
from veza.actors.ports import Connection
from veza.db import notifications
from veza.db.courier import Note
from veza.db.errors import DatabaseError, Unavailable
from veza.db.notifications import UNTOLD, Notification, Standing
from veza.db.pool import Database
from veza.db.together import Together

_log = log.get("notices")

_AGAIN: Final = 1.0  # seconds until a database that was away is asked again
_RECENT: Final = 256  # ids remembered, for a count that was made before they came


class Arrived(msgspec.Struct, frozen=True):
    """A connection of his is open."""

    connection: Connection


class Left(msgspec.Struct, frozen=True):
    connection: Connection


class Seen(msgspec.Struct, frozen=True):
    """He read some, or all up to one, or deleted some; neither: something of that kind may have happened."""

    ids: tuple[int, ...] = ()
    up_to: int | None = None
    deleted: bool = False


class Read(msgspec.Struct, frozen=True):
    """What he has not been told. `sent` was on its way to him when the database was asked."""

    sent: frozenset[int]
    outcome: Outcome[Standing | None]


class Counted(msgspec.Struct, frozen=True):
    """What is unread after `seen`."""

    seen: Seen
    outcome: Outcome[Standing | None]


class Look(msgspec.Struct, frozen=True):
    """Something may be stored that he was not told."""


class ReadAgain(msgspec.Struct, frozen=True):
    """Time to ask a database again that was away."""


class PassedOver(msgspec.Struct, frozen=True):
    """What was too old to be told is marked, or will be another time."""

    outcome: Outcome[None]


class Desk:
    """What outlives an incarnation."""

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self.known = 0  # whatever has an id up to this one was sent, or is not to be
        self.behind = False  # something did not fit into the mailbox: read what it was


class NotifierActor(Actor):
    """See the module. Its slot carries the `Desk`, which stands in `desks` while it runs."""

    def __init__(
        self,
        user_id: int,
        *,
        db: Database,
        book: Book,
        standings: Together[int, Standing],
        desks: MutableMapping[int, Desk],
    ) -> None:
        self._user_id = user_id
        self._db = db
        self._book = book
        self._standings = standings
        self._desks = desks
        self._ready = False  # it knows what he has not been told
        self._reading = False
        self._held: list[Note] = []
        self._unread = 0
        self._recent: deque[int] = deque(maxlen=_RECENT)

    @property
    def desk(self) -> Desk:
        desk: Desk = self.context.carried
        return desk

    async def started(self) -> None:
        self._desks[self._user_id] = self.desk
        if self.desk.connections:
            self._read()

    async def stopping(self) -> None:
        if self._desks.get(self._user_id) is self.desk:
            del self._desks[self._user_id]

    def idle(self) -> bool:
        return not self.desk.connections

    def summary(self) -> dict[str, Any]:
        return {"connections": len(self.desk.connections), "unread": self._unread, "ready": self._ready}

    async def handle(self, message: Any) -> None:
        match message:
            case Arrived(connection=connection):
                self.desk.connections[connection] = None
                if not self._ready:
                    self._read()
            case Left(connection=connection):
                self.desk.connections.pop(connection, None)
                if not self.desk.connections:
                    # Who comes before this has ended begins anew, as with another one.
                    self._ready, self.desk.known = False, 0
                    self._held.clear()
                    self.context.passivate()
            case Note():
                if self._ready:
                    self._tell(message)
                else:
                    self._held.append(message)
            case Read(sent=sent, outcome=outcome):
                self._reading = False
                self._have_read(sent, outcome)
            case ReadAgain():
                self._reading = False
                self._read()
            case Seen():
                self.context.job(
                    self._standings.read, self._user_id, then=lambda outcome: Counted(message, outcome)
                )
            case Counted(seen=seen, outcome=Value(value=Standing() as standing)):
                self._counted(standing)
                self._show_seen(seen)
            case Counted(outcome=Error(error)) | PassedOver(outcome=Error(error)):
                if not isinstance(error, DatabaseError):
                    raise error
        if self.desk.behind and self._ready:
            self.desk.behind = False
            self._read()

    def _read(self) -> None:
        if self._reading or not self.desk.connections:
            return
        self._reading = True
        self._ready = False
        sent = self._book.pending(self._user_id)
        self.context.job(self._standings.read, self._user_id, then=lambda outcome: Read(sent, outcome))

    def _have_read(self, sent: frozenset[int], outcome: Outcome[Standing | None]) -> None:
        if isinstance(outcome, Error):
            if not isinstance(outcome.error, Unavailable):
                raise outcome.error
            self._reading = True
            self.context.timer(_AGAIN, ReadAgain())
            return
        standing = outcome.value
        if standing is None or not self.desk.connections:
            return
        self._counted(standing)
        for notification in standing.untold:
            if notification.id > self.desk.known and notification.id not in sent:
                self._send(notification, notification.id)
        self.desk.known = max(self.desk.known, standing.last_id)
        if len(standing.untold) == UNTOLD:
            self.context.job(
                self._db.write,
                notifications.pass_over,
                self._user_id,
                standing.untold[0].id,
                then=PassedOver,
            )
        self._ready = True
        held, self._held = self._held, []
        for note in held:
            self._tell(note)

    def _tell(self, note: Note) -> None:
        if note.id <= self.desk.known:
            return
        self._unread += 1
        self._recent.append(note.id)
        if not note.silent:
            self._send(note.notification, note.id)
        self.desk.known = note.id

    def _send(self, notification: Notification, id: int) -> None:
        try:
            blob = frame("notification", {**notification.flat(), "id": id, "unread": self._unread})
        except Exception as error:  # one that cannot be written must not keep the others back
            _log.error("a notification cannot be told", notification=id, error=type(error).__name__)
            return
        taken = [connection.outlet.post(blob) for connection in self.desk.connections]
        self.desk.known = max(self.desk.known, id)  # before anything else can go wrong
        if any(taken):
            self._book.add(self._user_id, id)

    def _counted(self, standing: Standing) -> None:
        """A count as of some moment; what came after it is counted here."""
        self._unread = standing.unread + sum(id > standing.last_id for id in self._recent)

    def _show_seen(self, seen: Seen) -> None:
        data: dict[str, Any] = {"unread": self._unread}
        if seen.ids:
            data["ids"] = seen.ids
        if seen.up_to is not None:
            data["up_to"] = seen.up_to
        if seen.deleted:
            data["deleted"] = True
        blob = frame("notifications_read", data)
        for connection in self.desk.connections:
            connection.outlet.post(blob)
