"""The way to the courier and to everybody's notifier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from veza.actors.kernel import ActorError, Ref, System
from veza.actors.notices.cards import Cards
from veza.actors.notices.courier import CourierActor, Poke, Tally
from veza.actors.notices.digest import DigestActor
from veza.actors.notices.notifier import Desk, Look, NotifierActor, Seen
from veza.actors.notices.told import Book, ToldActor
from veza.actors.ports import Connection
from veza.db import notifications
from veza.db.courier import Note
from veza.db.digests import Digest
from veza.db.notifications import Standing
from veza.db.pool import Database
from veza.db.together import Together

# So many people are told at once, then everybody else gets a turn, and a pause: a message on its way through a room
# waits behind each of them at most once.
AT_ONCE: Final = 4
_PAUSE: Final = 0.001  # seconds


class Notices:
    """See the package. Nothing here blocks, but for `tell`, which is the courier's."""

    def __init__(self, system: System, *, db: Database) -> None:
        self._supervisor = system.supervisor("notices")
        self._db = db
        self._desks: dict[int, Desk] = {}
        self._book = Book()
        self._standings: Together[int, Standing] = Together(db, notifications.standings)
        self._courier: Ref | None = None
        self.tally = Tally()
        self._supervisor.ensure("told", partial(ToldActor, db), carry=lambda: self._book)

    def open(self, cards: Cards) -> None:
        """From now on the outbox is emptied."""
        self._courier = self._supervisor.ensure(
            "courier", partial(CourierActor, self._db, cards, self), carry=lambda: self.tally
        )

    def open_digests(self, send: Callable[[Digest], None], every: float) -> None:
        """From now on those who want it are mailed what they have not read, every so many seconds."""
        self._supervisor.ensure("digest", partial(DigestActor, self._db, send, every))

    @property
    def delivered(self) -> int:
        """How many went to sockets, those of one person counted once."""
        return self._book.delivered

    def poke(self) -> None:
        """Something may lie in the outbox: look. To be called after the commit, also where nobody knows whether it
        came about."""
        if self._courier is not None:
            with contextlib.suppress(
                ActorError
            ):  # a full mailbox holds one already; whoever stops needs none
                self._courier.tell_nowait(Poke())

    def expect(self, user_id: int) -> None:
        """A socket of somebody's is being welcomed: what is stored for him from now on is not overlooked, though nobody
        can be told yet. To be followed by `expected`."""
        self._desks.setdefault(user_id, Desk()).expected += 1

    def expected(self, user_id: int) -> None:
        """That is over, however it ended."""
        self._desks[user_id].expected -= 1
        self._clear(user_id)

    def arrived(self, connection: Connection, nothing_untold: bool) -> None:
        """A socket of somebody's is open; to be told by presence alone, which knows of each until it `left`.

        Args:
            nothing_untold: there was nothing he had not been told at some time since `expect`.
        """
        desk = self._desks.setdefault(connection.user_id, Desk())
        if not desk.connections:
            desk.ready = desk.ready and nothing_untold
        desk.connections[connection] = None
        if not desk.ready:
            self._wake(connection.user_id)

    def left(self, connection: Connection) -> None:
        """It is open no more."""
        desk = self._desks.get(connection.user_id)
        if desk is not None:
            desk.connections.pop(connection, None)
            self._clear(connection.user_id)

    def _clear(self, user_id: int) -> None:
        desk = self._desks[user_id]
        if desk.connections:
            return
        if not desk.expected:
            del self._desks[user_id]
        else:  # who comes now begins anew
            desk.ready, desk.known = False, 0
        if (ref := self._supervisor.get(user_id)) is not None:
            with contextlib.suppress(ActorError):
                ref.tell_nowait(Look())

    def seen(
        self, user_id: int, *, ids: tuple[int, ...] = (), up_to: int | None = None, deleted: bool = False
    ) -> None:
        """He read these, or all up to that one, or deleted them: his other connections are to know. To be called
        after the commit; with nothing where its outcome is unknown."""
        if (desk := self._desks.get(user_id)) is not None and desk.connections:
            with contextlib.suppress(ActorError):
                self._notifier(user_id).tell_nowait(Seen(ids, up_to, deleted))

    async def tell(self, notes: list[Note]) -> None:
        """These were stored: who is online hears of them."""
        told = 0
        for note in notes:
            if (desk := self._desks.get(note.user_id)) is None:
                continue
            self._tell(desk, note)
            told += 1
            if told % AT_ONCE == 0:
                await trio.sleep(_PAUSE)

    def _tell(self, desk: Desk, note: Note) -> None:
        if not desk.connections:
            desk.ready = False
        elif (running := self._supervisor.get(note.user_id)) is None:
            desk.ready = False
            self._wake(note.user_id)
        else:
            try:
                running.tell_nowait(note)
            except ActorError:  # its mailbox is full, or it just ended: it, or the next one, reads instead
                desk.ready = False
                self._wake(note.user_id)

    def reread(self) -> None:
        """Something may have been stored that nobody was told of: all who are online are to look."""
        for user_id, desk in self._desks.items():
            desk.ready = False
            if desk.connections:
                self._wake(user_id)

    def _wake(self, user_id: int) -> None:
        """Have what is stored for somebody read. Whoever has a full mailbox looks by himself."""
        with contextlib.suppress(ActorError):
            self._notifier(user_id).tell_nowait(Look())

    def _notifier(self, user_id: int) -> Ref:
        make = partial(
            NotifierActor,
            user_id,
            db=self._db,
            book=self._book,
            standings=self._standings,
            desks=self._desks,
        )
        return self._supervisor.ensure(user_id, make, capacity=NotifierActor.mailbox_capacity)
