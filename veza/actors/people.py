"""Who people are changes while they talk: brings new names and roles to their sockets and to the rooms they are in.

One actor. It is told only *that* somebody changed, and reads from the database what he is now, so that two changes in
a row can never arrive in the wrong order.
"""

from __future__ import annotations

from typing import Any

import msgspec
from outcome import Error, Outcome, Value

from veza.actors.kernel import Actor, Ref
from veza.actors.presence import Named
from veza.actors.registry import Registry
from veza.actors.rooms import Rooms
from veza.db import users
from veza.db.pool import Database

_AGAIN = 1.0  # seconds until the database is asked again, when it was away


class Changed(msgspec.Struct, frozen=True):
    """Somebody's name or role is another one (committed)."""

    user_id: int


class Read(msgspec.Struct, frozen=True):
    """What the database said."""

    user_ids: frozenset[int]
    outcome: Outcome[list[users.Standing]]


class ReadAgain(msgspec.Struct, frozen=True):
    """Time to ask again."""


class PeopleActor(Actor):
    """See the module. Its slot carries the set of those whose change has not arrived everywhere."""

    def __init__(self, db: Database, presence: Ref, rooms: Rooms) -> None:
        self._db = db
        self._presence = presence
        self._rooms = rooms
        self._reading = False

    @property
    def changed(self) -> set[int]:
        changed: set[int] = self.context.carried
        return changed

    async def started(self) -> None:
        self._read()

    async def handle(self, message: Any) -> None:
        match message:
            case Changed(user_id=user_id):
                self.changed.add(user_id)
            case Read(user_ids=user_ids, outcome=outcome):
                self._reading = False
                self._tell(user_ids, outcome)
            case ReadAgain():
                self._reading = False
        self._read()

    def summary(self) -> dict[str, Any]:
        return {"changes_waiting": len(self.changed)}

    def _read(self) -> None:
        """One query at a time, for all who changed up to now."""
        if self._reading or not self.changed:
            return
        self._reading = True
        asked = frozenset(self.changed)
        self.changed.clear()
        self.context.job(
            self._db.read, users.standings, sorted(asked), then=lambda outcome: Read(asked, outcome)
        )

    def _tell(self, user_ids: frozenset[int], outcome: Outcome[list[users.Standing]]) -> None:
        match outcome:
            case Value(value=standings):
                for s in standings:
                    self._presence.answer(Named(s.user_id, s.username, s.role, s.muted_until))
                    self._rooms.person_renamed(s.user_id, s.username)
            case Error():
                self.changed.update(user_ids)
                self._reading = True
                self.context.timer(_AGAIN, ReadAgain())


def follow(registry: Registry, people: Ref) -> None:
    """Have the actor told of every change the registry hears of."""
    registry.on_changed(lambda user_id: people.answer(Changed(user_id)))
