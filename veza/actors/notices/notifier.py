"""One person who is online, and what he is told: on every connection of his, in order, each thing once.

Most who are online are told nothing for a long time, so a notifier begins when there is something, and goes when there
is nothing any more; what must be known meanwhile is on his desk. What came while he was away, or before his notifier
ran, it reads from the database; what comes then the courier tells it. The courier's ids rise, so that one number,
`known`, says what of both was had before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
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

IDLE_AFTER: Final = 300.0  # seconds a notifier stays after the last thing it had to do
_AGAIN: Final = 1.0  # seconds until a database that was away is asked again
_RECENT: Final = 256  # ids remembered, for a count that was made before they came


class Seen(msgspec.Struct, frozen=True):
    """He read some, or all up to one, or deleted some; neither: something of that kind may have happened."""

    ids: tuple[int, ...] = ()
    up_to: int | None = None
    deleted: bool = False


class Look(msgspec.Struct, frozen=True):
    """Something may be stored that he was not told, or he has gone."""


class ReadAgain(msgspec.Struct, frozen=True):
    """Time to ask a database again that was away."""


class PassedOver(msgspec.Struct, frozen=True):
    """What was too old to be told is marked, or will be another time."""

    outcome: Outcome[None]


class Desk:
    """What is known of somebody who is online, or is just coming."""

    __slots__ = ("connections", "expected", "known", "ready")

    def __init__(self) -> None:
        self.connections: dict[Connection, None] = {}
        self.expected = 0  # sockets that are being welcomed
        self.known = 0  # whatever has an id up to this one was sent, or is not to be
        self.ready = True  # nothing is stored that he was not told; else his notifier is to read it


class Read(msgspec.Struct, frozen=True):
    """What he has not been told. `sent` was on its way to him when the database was asked."""

    desk: Desk
    sent: frozenset[int]
    outcome: Outcome[Standing | None]


class Counted(msgspec.Struct, frozen=True):
    """What is unread after `seen`."""

    seen: Seen
    outcome: Outcome[Standing | None]


class NotifierActor(Actor):
    """See the module. `desks` are those of everybody who is online."""

    idle_after = IDLE_AFTER

    def __init__(
        self,
        user_id: int,
        *,
        db: Database,
        book: Book,
        standings: Together[int, Standing],
        desks: Mapping[int, Desk],
    ) -> None:
        self._user_id = user_id
        self._db = db
        self._book = book
        self._standings = standings
        self._desks = desks
        self._served: Desk | None = None  # what was not told when he came to this desk is read
        self._reading: Desk | None = None  # for which it reads that
        self._held: list[Note] = []  # came meanwhile
        self._unread = 0
        self._recent: deque[int] = deque(maxlen=_RECENT)

    @property
    def _desk(self) -> Desk | None:
        desk = self._desks.get(self._user_id)
        return desk if desk is not None and desk.connections else None

    async def started(self) -> None:
        self._read()

    def idle(self) -> bool:
        return self._reading is None

    def summary(self) -> dict[str, Any]:
        desk = self._desk
        return {"connections": len(desk.connections) if desk is not None else 0, "unread": self._unread}

    async def handle(self, message: Any) -> None:
        desk = self._desk
        if desk is None and self._reading is None:
            self.context.passivate()  # he has gone; what there is for him he reads when he comes back
        match message:
            case Note():
                if self._reading is not None:
                    self._held.append(message)
                elif desk is not None and desk.ready and desk is self._served:
                    self._tell(desk, message)
            case Read(desk=desk, sent=sent, outcome=outcome):
                self._have_read(desk, sent, outcome)
            case ReadAgain():
                self._reading = None
                self._read()
            case Seen() if desk is not None:
                self.context.job(
                    self._standings.read, self._user_id, then=lambda outcome: Counted(message, outcome)
                )
            case Counted(seen=seen, outcome=Value(value=Standing() as standing)):
                self._counted(standing)
                self._show_seen(seen)
            case Counted(outcome=Error(error)) | PassedOver(outcome=Error(error)):
                if not isinstance(error, DatabaseError):
                    raise error
        desk = self._desk
        if desk is not None and self._reading is None and not (desk.ready and desk is self._served):
            self._read()

    def _read(self) -> None:
        desk = self._desk
        if desk is None:
            return
        self._reading = desk
        desk.ready = True  # unless something happens from now on
        sent = self._book.pending(self._user_id)
        self.context.job(self._standings.read, self._user_id, then=lambda outcome: Read(desk, sent, outcome))

    def _have_read(self, desk: Desk, sent: frozenset[int], outcome: Outcome[Standing | None]) -> None:
        if isinstance(outcome, Error):
            if not isinstance(outcome.error, Unavailable):
                self._reading = None
                raise outcome.error
            desk.ready = False
            self.context.timer(_AGAIN, ReadAgain())
            return
        self._reading = None
        held, self._held = self._held, []
        standing = outcome.unwrap()
        if standing is None:
            return
        self._counted(standing)
        self._served = desk
        if desk is not self._desk:
            return  # he went meanwhile, and perhaps came back: then it is read anew for him
        for notification in standing.untold:
            if notification.id > desk.known and notification.id not in sent:
                self._send(desk, notification, notification.id)
        desk.known = max(desk.known, standing.last_id)
        if len(standing.untold) == UNTOLD:
            self.context.job(
                self._db.write,
                notifications.pass_over,
                self._user_id,
                standing.untold[0].id,
                then=PassedOver,
            )
        for note in held:
            self._tell(desk, note)

    def _tell(self, desk: Desk, note: Note) -> None:
        if note.id <= desk.known:
            return
        self._unread += 1
        self._recent.append(note.id)
        if not note.silent:
            self._send(desk, note.notification, note.id)
        desk.known = note.id

    def _send(self, desk: Desk, notification: Notification, id: int) -> None:
        try:
            blob = frame("notification", {**notification.flat(), "id": id, "unread": self._unread})
        except Exception as error:  # one that cannot be written must not keep the others back
            _log.error("a notification cannot be told", notification=id, error=type(error).__name__)
            return
        taken = [connection.outlet.post(blob) for connection in desk.connections]
        desk.known = max(desk.known, id)  # before anything else can go wrong
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
        desk = self._desk
        for connection in desk.connections if desk is not None else ():
            connection.outlet.post(blob)
