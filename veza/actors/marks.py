"""Read marks on their way to the database: what all rooms have to write at one time is written together.

Each room saves its own, and hears of its own failure; but fifty rooms in conversation are one statement a second, not
fifty transactions that stand in the ledger's way. Nothing here decides what a mark is.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from veza.db import rooms as rooms_db
from veza.db.errors import DatabaseError, Unavailable
from veza.db.pool import Database


class _Batch:
    """What is written by one statement."""

    def __init__(self) -> None:
        self.rooms: list[int] = []
        self.users: list[int] = []
        self.seqs: list[int] = []
        self.failed = False


class ReadMarks:
    """Shared by all rooms. `every` is how many seconds marks may wait."""

    def __init__(self, db: Database, every: float) -> None:
        self._db = db
        self._every = every
        self._gathering = _Batch()
        self._turn = trio.Lock()

    def delay(self) -> float:
        """Seconds until marks are written next: the same moment for all rooms."""
        return self._every - trio.current_time() % self._every if self._every else 0.0

    async def save(self, room_id: int, marks: Mapping[int, int]) -> None:
        """Store marks (person → sequence number); they only ever move forward, so doing it twice does no harm.

        Raises:
            Unavailable: perhaps they are not stored.
        """
        batch = self._gathering
        batch.rooms += [room_id] * len(marks)
        batch.users += marks.keys()
        batch.seqs += marks.values()
        async with self._turn:
            # Whoever comes to it first writes for all who came since the last one.
            if batch is self._gathering:
                self._gathering = _Batch()
                batch.failed = True
                try:
                    await self._db.write_shielded(rooms_db.save_reads, batch.rooms, batch.users, batch.seqs)
                    batch.failed = False
                except DatabaseError:
                    pass
        if batch.failed:
            raise Unavailable("read marks could not be stored")
