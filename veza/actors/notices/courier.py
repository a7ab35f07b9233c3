"""The courier: empties the outbox, in passes, one at a time.

A pass says the cards that are due, makes notifications of the events, and tells the notifiers of those who are online.
It is woken by pokes and looks by itself every few seconds, so that a poke may be lost. An event that cannot be carried
out is tried again later and later and at last given up; it holds nobody up.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import msgspec
import trio
from outcome import Error, Outcome, Value

from veza import log
from veza.actors.kernel import Actor, Timer
from veza.actors.notices.cards import Cards
from veza.db import courier
from veza.db.courier import Note, Waiting
from veza.db.errors import DatabaseError, OutcomeUnknown, Unavailable
from veza.db.pool import Database

_log = log.get("notices")

EVERY: Final = 5.0  # seconds between two looks nobody asked for
PAUSE: Final = 0.02  # between two passes: under load each carries more
TRIES: Final = 10
_AGAIN: Final = 1.0  # after the database was away, or where something that is due was left


class Poke(msgspec.Struct, frozen=True):
    """There may be something in the outbox."""


class Passed(msgspec.Struct, frozen=True):
    """A pass is over: what is left in the outbox, and whether some of it may be due now."""

    outcome: Outcome[tuple[Waiting, bool]]


class Tally:
    """Counts since the server started, for `/metrics`."""

    def __init__(self) -> None:
        self.events = 0
        self.stored = 0
        self.cards = 0
        self.given_up = 0
        self.waiting = 0  # as of the last look


class Notifiers(Protocol):
    """What the courier tells."""

    async def tell(self, notes: list[Note]) -> None: ...
    def reread(self) -> None: ...


class CourierActor(Actor):
    """See the module. Its slot carries the `Tally`."""

    def __init__(self, db: Database, cards: Cards, notifiers: Notifiers) -> None:
        self._db = db
        self._cards = cards
        self._notifiers = notifiers
        self._passing = False
        self._again = False
        self._next: Timer | None = None

    @property
    def tally(self) -> Tally:
        tally: Tally = self.context.carried
        return tally

    async def started(self) -> None:
        if self.context.restarted:
            self._notifiers.reread()  # perhaps they were not told of what was stored
        self._go()

    async def handle(self, message: Any) -> None:
        match message:
            case Poke():
                self._go()
            case Passed(outcome=Value((waiting, more))):
                self._passing = False
                self.tally.waiting = waiting.events
                due = EVERY if waiting.due_in is None else waiting.due_in or _AGAIN
                self._go_in(PAUSE if more or self._again else min(EVERY, due))
            case Passed(outcome=Error(error)):
                self._passing = False
                self._go_in(_AGAIN)
                if not isinstance(error, DatabaseError):
                    raise error
                _log.warning("the outbox cannot be emptied", reason=type(error).__name__)

    def summary(self) -> dict[str, Any]:
        tally = self.tally
        return {
            "waiting": tally.waiting,
            "events": tally.events,
            "stored": tally.stored,
            "cards": tally.cards,
            "given_up": tally.given_up,
        }

    def _go(self) -> None:
        """Begin a pass; while one is under way or its pause lasts, the next one sees what is new."""
        if self._passing:
            self._again = True
            return
        self._passing, self._again = True, False
        if self._next is not None:
            self._next.cancel()
        self.context.job(self._pass, then=Passed)

    def _go_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self.context.timer(seconds, Poke())

    async def _pass(self) -> tuple[Waiting, bool]:
        """Cards first: what is told of them comes behind them."""
        try:
            self.tally.cards += await self._cards.deliver()
        except Unavailable:
            raise
        except Exception as error:  # whatever is wrong with cards, notifications do not wait for them
            _log.error("the cards could not be said", error=type(error).__name__)
        try:
            more = await self._expand(None)
        except Unavailable:
            raise
        except Exception as error:
            _log.warning("an event is in the way", error=type(error).__name__)
            more = await self._one_by_one()
        return await self._db.read(courier.waiting), more

    async def _expand(self, only: int | None) -> bool:
        try:
            taken = await self._db.write(courier.expand, only)
        except (OutcomeUnknown, trio.Cancelled):
            self._notifiers.reread()
            raise
        self.tally.events += taken.events
        self.tally.stored += len(taken.notes)
        try:
            await self._notifiers.tell(taken.notes)
        except (
            Exception
        ) as error:  # it is stored: whatever is wrong with the telling, nobody is told less for it
            _log.error("the notifiers could not be told", error=type(error).__name__)
            self._notifiers.reread()
        return taken.more

    async def _one_by_one(self) -> bool:
        """Each by itself, until the one is found that cannot be carried out."""
        more = False
        for id, tries in await self._db.read(courier.due):
            try:
                more |= await self._expand(id)
            except Unavailable:
                raise
            except Exception as error:
                if tries + 1 >= TRIES:
                    _log.error("an event was given up", event_id=id, error=type(error).__name__)
                    self.tally.given_up += 1
                    await self._db.write(courier.drop, id)
                else:
                    await self._db.write(courier.put_off, id, min(2.0**tries, 300.0))
        return more
