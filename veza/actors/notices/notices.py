"""The way to the courier and to everybody's notifier."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

import trio

from veza.actors.kernel import ActorError, MailboxFull, Ref, System
from veza.actors.notices.cards import Cards
from veza.actors.notices.courier import CourierActor, Poke, Tally
from veza.actors.notices.digest import DigestActor
from veza.actors.notices.notifier import Arrived, Desk, Left, Look, NotifierActor, Seen
from veza.actors.notices.told import Book, ToldActor
from veza.actors.ports import Connection
from veza.db import notifications
from veza.db.courier import Note
from veza.db.digests import Digest
from veza.db.notifications import Standing
from veza.db.pool import Database
from veza.db.together import Together

AT_ONCE: Final = 16  # people told before everybody else gets a turn: a thousand must not keep a room waiting


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

    def arrived(self, connection: Connection) -> None:
        """A socket of somebody's is open; to be told by presence alone, which knows of each until it `left`."""
        with contextlib.suppress(ActorError):
            self._notifier(connection.user_id).answer(Arrived(connection))

    def left(self, connection: Connection) -> None:
        """It is open no more."""
        if (ref := self._supervisor.get(connection.user_id)) is not None:
            ref.answer(Left(connection))

    def seen(
        self, user_id: int, *, ids: tuple[int, ...] = (), up_to: int | None = None, deleted: bool = False
    ) -> None:
        """He read these, or all up to that one, or deleted them: his other connections are to know. To be called
        after the commit; with nothing where its outcome is unknown."""
        if (ref := self._supervisor.get(user_id)) is not None:
            with contextlib.suppress(ActorError):
                ref.tell_nowait(Seen(ids, up_to, deleted))

    async def tell(self, notes: list[Note]) -> None:
        """These were stored: who is online hears of them."""
        for i, note in enumerate(notes, 1):
            if (ref := self._supervisor.get(note.user_id)) is not None:
                try:
                    ref.tell_nowait(note)
                except MailboxFull:
                    if (desk := self._desks.get(note.user_id)) is not None:
                        desk.behind = True
                except ActorError:
                    pass  # it ends: whoever comes next reads it
            if i % AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def reread(self) -> None:
        """Something may have been stored that nobody was told of: all who are online are to look."""
        for user_id, desk in self._desks.items():
            desk.behind = True
            if (ref := self._supervisor.get(user_id)) is not None:
                with contextlib.suppress(ActorError):
                    ref.tell_nowait(Look())

    def _notifier(self, user_id: int) -> Ref:
        make = partial(
            NotifierActor,
            user_id,
            db=self._db,
            book=self._book,
            standings=self._standings,
            desks=self._desks,
        )
        return self._supervisor.ensure(user_id, make, carry=Desk)
