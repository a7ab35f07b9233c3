"""The market's clock: offers expire when their time is over, and both sides hear of it.

The actor holds nothing that must not be lost. When offers expire stands in the database, and it looks there when it
starts, so what was due while the server was down expires then. It sleeps until the next one is due; that it is told of
an earlier one is a courtesy, for it never sleeps longer than `LONGEST`. An offer whose time is over is refused by
whoever would accept it, whether the clock has come by or not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import msgspec
import trio
from outcome import Error, Outcome, Value

from veza import log
from veza.actors.kernel import Actor, ActorError, Supervisor, Timer
from veza.db import offer_closing
from veza.db.errors import DatabaseError
from veza.db.offer_closing import Expired
from veza.db.pool import Database

_log = log.get("market")

LONGEST: Final = 60.0  # seconds between two looks: clocks may be set, and words get lost
BATCH: Final = 200  # offers of a transaction
_DATABASE_AGAIN: Final = 2.0  # seconds until a database that was away is asked again
_HELD_AGAIN: Final = 0.5  # seconds until offers that somebody held are looked at again


class Offered(msgspec.Struct, frozen=True):
    """An offer was made that expires then."""

    expires_at: datetime


class Due(msgspec.Struct, frozen=True):
    """Look which offers are due."""


class Looked(msgspec.Struct, frozen=True):
    """Those that were due have expired, a batch of them."""

    outcome: Outcome[Expired]


class Tally:
    """What the clock has done since the server started. Outlives the actor's incarnations."""

    def __init__(self) -> None:
        self.expired = 0
        self.looks = 0
        self.failed = 0


class MarketActor(Actor):
    """See the module. Its slot carries the Tally."""

    def __init__(self, db: Database, poke: Callable[[], None]) -> None:
        self._db = db
        self._poke = poke
        self._looking = False
        self._again = False
        self._timer: Timer | None = None
        self._next = 0.0  # when the timer ends, by trio's clock

    async def started(self) -> None:
        self._look()

    async def handle(self, message: Any) -> None:
        match message:
            case Offered(expires_at=expires_at):
                seconds = max(0.0, (expires_at - datetime.now(UTC)).total_seconds())
                if self._looking:
                    self._again = True
                elif trio.current_time() + seconds < self._next:
                    self._look_in(seconds)
            case Due():
                self._look()
            case Looked(outcome=outcome):
                self._looking = False
                self._looked(outcome)

    def summary(self) -> dict[str, Any]:
        tally: Tally = self.context.carried
        sleeps = None if self._looking else round(max(0.0, self._next - trio.current_time()), 1)
        return {
            "expired": tally.expired,
            "looks": tally.looks,
            "looks_failed": tally.failed,
            "looks_again_in": sleeps,
        }

    def _look(self) -> None:
        if self._looking:
            self._again = True
            return
        self._looking, self._again = True, False
        self.context.job(self._db.write, offer_closing.expire, BATCH, then=Looked)

    def _looked(self, outcome: Outcome[Expired]) -> None:
        tally: Tally = self.context.carried
        tally.looks += 1
        self._poke()  # also where nobody knows whether it was stored
        match outcome:
            case Value(value=expired):
                tally.expired += expired.count
                if expired.count:
                    _log.info("offers expired", offers=expired.count)
                if self._again or expired.count == BATCH:
                    self._look()
                elif expired.next_in is None:
                    self._look_in(LONGEST)
                else:  # one that is due is in somebody's hands, who decides it or lets it go
                    self._look_in(expired.next_in if expired.next_in > 0 else _HELD_AGAIN)
            case Error(error=error):
                if not isinstance(error, DatabaseError):
                    raise error
                tally.failed += 1
                _log.warning("offers cannot be looked at", reason=type(error).__name__)
                self._look_in(_DATABASE_AGAIN)

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds = min(seconds, LONGEST)
        self._next = trio.current_time() + seconds
        self._timer = self.context.timer(seconds, Due())


class Market:
    """The way to the actor.

    Args:
        poke: has what lies in the outbox carried out.
    """

    def __init__(self, supervisor: Supervisor, *, db: Database, poke: Callable[[], None]) -> None:
        self.tally = Tally()
        self._ref = supervisor.ensure("offers", partial(MarketActor, db, poke), carry=lambda: self.tally)

    def offered(self, expires_at: datetime) -> None:
        """An offer was made that expires then; to be called after its commit. Never blocks."""
        with contextlib.suppress(ActorError):  # a full mailbox or a stopped actor: it looks by itself
            self._ref.tell_nowait(Offered(expires_at))
