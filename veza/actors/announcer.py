"""Tells the followers of somebody who goes on air, if they are online: a `notification` frame `stream_started`.

Once a broadcast, however often its source drops. Of an unlisted stream nobody hears, of a private one the members of
its room. It is a courtesy: what is lost with a crash or while the database is away stays lost.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any, Final

import msgspec
from outcome import Outcome, Value

from veza.actors.frames import frame
from veza.actors.kernel import Actor, Ref, Supervisor
from veza.actors.presence import Deliver
from veza.db import stream_lists
from veza.db.pool import Database
from veza.db.streams import Stream

AUDIENCE: Final = 1_000  # people a query and a message
REMEMBERED: Final = 100_000
FRESH: Final = timedelta(
    seconds=60
)  # who came on air earlier than that has been announced by an earlier process


class OnAir(msgspec.Struct, frozen=True):
    """This stream has a source (again)."""

    stream_id: int


class Found(msgspec.Struct, frozen=True):
    """A page of those to be told."""

    outcome: Outcome[stream_lists.Audience | None]


class AnnouncerActor(Actor):
    """See the module. Its slot carries the ids of the streams that were announced."""

    def __init__(self, db: Database, presence: Ref) -> None:
        self._db = db
        self._presence = presence

    async def handle(self, message: Any) -> None:
        announced: set[int] = self.context.carried
        match message:
            case OnAir(stream_id=stream_id) if stream_id not in announced:
                if len(announced) >= REMEMBERED:
                    announced.clear()  # FRESH keeps them quiet all the same
                announced.add(stream_id)
                self._ask(stream_id, 0)
            case Found(outcome=Value(value=stream_lists.Audience() as audience)):
                await self._presence.tell(Deliver(tuple(audience.user_ids), started_frame(audience.stream)))
                if len(audience.user_ids) == AUDIENCE:
                    self._ask(audience.stream.id, audience.user_ids[-1])

    def _ask(self, stream_id: int, after: int) -> None:
        self.context.job(self._db.read, stream_lists.audience, stream_id, FRESH, after, AUDIENCE, then=Found)


def started_frame(stream: Stream) -> bytes:
    """What they are told."""
    return frame(
        "notification",
        {
            "kind": "stream_started",
            "stream_id": stream.id,
            "slug": stream.slug,
            "title": stream.title,
            "category": stream.category,
            "room_id": stream.room_id,
            "user_id": stream.owner_id,
            "username": stream.username,
            "avatar": stream.avatar,
        },
    )


class Announcer:
    """The way to the actor."""

    def __init__(self, supervisor: Supervisor, *, db: Database, presence: Ref) -> None:
        self._ref = supervisor.ensure("announcer", partial(AnnouncerActor, db, presence), carry=set)

    def on_air(self, stream_id: int) -> None:
        """The stream has a source (again), and that is stored. Never blocks."""
        self._ref.answer(OnAir(stream_id))
