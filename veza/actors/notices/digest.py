"""A mail a day to those who want it, of what they have not read.

One actor, which looks once an hour whose day is over. It keeps nothing: who was mailed, and up to what, stands in the
database, written in the transaction that chooses, so a crash at any point sends nobody anything twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import trio
from outcome import Error, Outcome

from veza import log
from veza.actors.kernel import Actor
from veza.db import digests
from veza.db.digests import Digest
from veza.db.errors import DatabaseError
from veza.db.pool import Database

_log = log.get("notices")

FIRST: Final = 300.0  # seconds after the start: not among everything else
_LOOK: Final = 3600.0  # seconds between two looks, unless `every` is shorter
_PAUSE: Final = 0.2  # seconds a mail, so that the mailer's queue does not overflow


class Due(msgspec.Struct, frozen=True):
    """Time to look."""


class Looked(msgspec.Struct, frozen=True):
    """A round is over; how many mails it wrote."""

    outcome: Outcome[int]


class DigestActor(Actor):
    """See the module.

    Args:
        every: seconds between two mails to one person.
        send: hands a mail on; neither blocks nor fails.
    """

    def __init__(self, db: Database, send: Callable[[Digest], None], every: float) -> None:
        self._db = db
        self._send = send
        self._every = every
        self._sent = 0

    async def started(self) -> None:
        self.context.timer(min(FIRST, self._every), Due())

    async def handle(self, message: Any) -> None:
        match message:
            case Due():
                self.context.job(write_digests, self._db, self._send, self._every, then=Looked)
            case Looked(outcome=outcome):
                self.context.timer(min(_LOOK, self._every), Due())
                if not isinstance(outcome, Error):
                    self._sent += outcome.unwrap()
                elif isinstance(outcome.error, DatabaseError):
                    _log.warning("no digests are written", reason=type(outcome.error).__name__)
                else:
                    raise outcome.error

    def summary(self) -> dict[str, Any]:
        return {"sent": self._sent}


async def write_digests(db: Database, send: Callable[[Digest], None], every: float) -> int:
    """One round: everybody whose turn it is. How many mails that were; raises DatabaseError."""
    after: int | None = 0
    sent = 0
    while after is not None:
        due, after = await db.write(digests.choose, after, every)
        for digest in due:
            send(digest)
        sent += len(due)
        if due:
            await trio.sleep(_PAUSE * len(due))
    return sent
