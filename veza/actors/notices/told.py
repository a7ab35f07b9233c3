"""What has gone out and is not yet marked so in the database.

The marks of everybody are written together, a few times a second: a thousand people who are told something are one
statement. Dying before that tells somebody once more what he has heard, under the same id.
"""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import Any, Final

import msgspec
from outcome import Error, Outcome

from veza.actors.kernel import Actor
from veza.db import notifications
from veza.db.errors import DatabaseError, Unavailable
from veza.db.pool import Database

EVERY: Final = 0.1  # seconds
AT_ONCE: Final = 250  # a statement
_AGAIN: Final = 1.0  # after the database was away


class Book:
    """Ids by person. Outlives the actor's incarnations, and the notifiers of people who come and go."""

    def __init__(self) -> None:
        self._pending: dict[int, set[int]] = {}
        self.delivered = 0  # since the server started

    def add(self, user_id: int, id: int) -> None:
        self._pending.setdefault(user_id, set()).add(id)
        self.delivered += 1

    def pending(self, user_id: int) -> frozenset[int]:
        """What this person was sent and the database may not know of. Whoever reads what he has not been told asks
        here before."""
        return frozenset(self._pending.get(user_id, ()))

    def some(self, most: int) -> list[tuple[int, int]]:
        """By person, those who have waited longest first. Takes as long as these, however many there are."""
        waiting = ((user_id, id) for user_id, ids in self._pending.items() for id in ids)
        return list(islice(waiting, most))

    def marked(self, ids: list[tuple[int, int]]) -> None:
        for user_id, id in ids:
            left = self._pending[user_id]
            left.discard(id)
            if not left:
                del self._pending[user_id]

    def __len__(self) -> int:
        return sum(map(len, self._pending.values()))


class Due(msgspec.Struct, frozen=True):
    """Time to write."""


class Marked(msgspec.Struct, frozen=True):
    """These are written, or the database was away."""

    ids: list[tuple[int, int]]
    outcome: Outcome[None]


class ToldActor(Actor):
    """See the module. Its slot carries the `Book`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def started(self) -> None:
        self.context.timer(EVERY, Due())

    async def handle(self, message: Any) -> None:
        book: Book = self.context.carried
        match message:
            case Due():
                if ids := book.some(AT_ONCE):
                    self.context.job(
                        self._db.write,
                        notifications.told,
                        [id for _, id in ids],
                        then=lambda outcome: Marked(ids, outcome),
                    )
                else:
                    self.context.timer(EVERY, Due())
            case Marked(ids=ids, outcome=outcome):
                self.context.timer(_AGAIN if isinstance(outcome, Error) else EVERY, Due())
                if not isinstance(outcome, Error):
                    book.marked(ids)
                elif not isinstance(outcome.error, DatabaseError):
                    raise outcome.error

    async def stopping(self) -> None:
        book: Book = self.context.carried
        if ids := book.some(len(book)):
            with contextlib.suppress(Unavailable):
                await self._db.write(notifications.told, [id for _, id in ids])
                book.marked(ids)

    def summary(self) -> dict[str, Any]:
        book: Book = self.context.carried
        return {"delivered": book.delivered, "not_marked": len(book)}
