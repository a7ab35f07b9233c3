"""Reads by key, asked together: thousands who come at once are a few dozen queries.

While one query is under way, those who come wait, and the next is for all of them; who comes alone is served at once.
What is read is never older than the call that asked for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import trio

from veza.db.errors import DatabaseError, Unavailable
from veza.db.pool import Database

K = TypeVar("K")
V = TypeVar("V")


class _Batch(Generic[K, V]):
    """What one query asks for, and its answer."""

    __slots__ = ("done", "found", "keys")

    def __init__(self) -> None:
        self.keys: list[K] = []
        self.found: Mapping[K, V] | None = None  # stays so if the query failed
        self.done = False


class Together(Generic[K, V]):
    """One unit `(connection, keys) -> {key: value}` behind many callers.

    Args:
        most: keys of one query.
    """

    def __init__(
        self, db: Database, unit: Callable[[Any, Sequence[K]], Awaitable[Mapping[K, V]]], *, most: int = 100
    ) -> None:
        self._db = db
        self._unit = unit
        self._most = most
        self._gathering: _Batch[K, V] = _Batch()
        self._turn = trio.Lock()

    async def read(self, key: K) -> V | None:
        """The value now; None if there is none. Cancelled, the others of its query ask again.

        Raises:
            Unavailable: the query failed.
        """
        if len(self._gathering.keys) >= self._most:
            self._gathering = _Batch()
        batch = self._gathering
        batch.keys.append(key)
        async with self._turn:
            if not batch.done:
                if batch is self._gathering:
                    self._gathering = _Batch()
                try:
                    batch.found = await self._db.read(self._unit, batch.keys)
                except DatabaseError:
                    pass
                batch.done = True
        if batch.found is None:
            raise Unavailable("the database could not be asked")
        return batch.found.get(key)
