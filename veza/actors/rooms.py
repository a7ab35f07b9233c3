"""Finding rooms: names and pairs of people to ids, ids to running actors.

Rooms start on first use and go when nobody needs them; whoever tells or asks one through here need not know which.
"""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections import OrderedDict
from collections.abc import Collection
from functools import partial
from typing import Any

import trio

from veza.actors.carried import Carried
from veza.actors.commands import BlocksChanged, Forgotten, Renamed, Say, Settle, TrackChanged
from veza.actors.errors import (
    INVALID_FORMAT,
    UNAVAILABLE,
    Refused,
    room_not_found,
    unavailable,
    user_not_found,
)
from veza.actors.fanout import Tally
from veza.actors.kernel import ActorError, ActorStopped, Ref, System
from veza.actors.ledger import Emptied
from veza.actors.marks import ReadMarks
from veza.actors.room import TRY_AGAIN, Glance, RoomActor
from veza.actors.room.base import RoomBase
from veza.config import Settings
from veza.db import rooms as rooms_db
from veza.db.errors import DataRefused, Unavailable
from veza.db.pool import Database

CACHED = 50_000
BIGINT = 2**63


class Rooms:
    """The directory of rooms. Names are looked up once; an actor is made per id when somebody needs it."""

    def __init__(
        self, system: System, *, db: Database, ledger: Ref, presence: Ref, settings: Settings
    ) -> None:
        self._supervisor = system.supervisor("rooms", on_escalate=self._given_up)
        self._db = db
        self._ledger = ledger
        self._closing = False
        self.tally = Tally()
        self._make = partial(
            RoomActor,
            db=db,
            ledger=ledger,
            presence=presence,
            settings=settings,
            tally=self.tally,
            marks=ReadMarks(db, settings.reads_saved_after),
            directory=self,
        )
        self._shown: dict[int, RoomBase] = {}  # those that run, for `glance`
        self._forgotten = 0  # how often a name was
        self._names: OrderedDict[str, int] = OrderedDict()
        self._pairs: OrderedDict[tuple[int, int], int] = OrderedDict()

    def ref(self, room_id: int) -> Ref:
        """The room's actor, started if need be; whether the room exists is its to say."""
        return self._supervisor.ensure(
            room_id, partial(self._make, room_id), carry=Carried, capacity=RoomActor.mailbox_capacity
        )

    @property
    def count(self) -> int:
        """How many rooms have a running actor."""
        return len(self._supervisor)

    def running(self, room_id: int) -> Ref | None:
        return self._supervisor.get(room_id)

    async def tell(self, room_id: int, message: Any) -> None:
        """Tell the room. One that was just going idle is started again."""
        self._refuse_late(message)
        try:
            await self.ref(room_id).tell(message)
        except ActorStopped:
            await self.ref(room_id).tell(message)

    async def ask(self, room_id: int, message: Any, *, timeout: float = 10.0) -> Any:
        """Ask the room; raises Refused, or the kernel's errors where it does not answer."""
        self._refuse_late(message)
        try:
            return await self.ref(room_id).ask(message, timeout=timeout)
        except ActorStopped:
            return await self.ref(room_id).ask(message, timeout=timeout)

    async def drain(self) -> None:
        """The server is going: refuse posts from now on; when this returns those before are committed and delivered.

        Cancelled, or where an actor does not answer, some may still be under way.
        """
        self._closing = True
        await self._settle()  # every post told so far is with the ledger
        with contextlib.suppress(ActorError):
            await self._ledger.ask(Emptied(), timeout=math.inf)
        await self._settle()  # and every answer of the ledger has been sent

    async def _settle(self) -> None:
        async def settle(room: Ref) -> None:
            with contextlib.suppress(ActorError, Refused):
                await room.ask(Settle(), timeout=math.inf)

        async with trio.open_nursery() as nursery:
            for room_id in self._supervisor.keys():  # noqa: SIM118
                if (room := self._supervisor.get(room_id)) is not None:
                    nursery.start_soon(settle, room)

    def _refuse_late(self, message: Any) -> None:
        if self._closing and isinstance(message, Say):
            raise Refused(UNAVAILABLE, "The server is going away; send this again later.", retry_after=5.0)

    async def resolve(self, room: str | int) -> int:
        """The id of a room named by id, by digits, or by a public room's name; raises Refused."""
        if isinstance(room, int):
            if not 0 < room < BIGINT:
                raise room_not_found()
            return room
        if room.isdecimal() and room.isascii():
            return await self.resolve(int(room[:20]))
        # Spelt as it came: which letters are the same is the database's to say, it alone keeps names unique.
        name = unicodedata.normalize("NFC", room).strip()
        known = self._names.get(name)
        if known is not None:
            self._names.move_to_end(name)
            return known
        if not name or len(name) > 50 or "\x00" in name:
            raise room_not_found()
        forgotten = self._forgotten
        found = await _answered(self._db, rooms_db.id_of_public, name)
        if found is None:
            raise room_not_found()
        if forgotten == self._forgotten:  # or it may have been read before a name changed
            _remember(self._names, name, found)
        return int(found)

    async def conversation(self, one: int, other: int) -> int | None:
        """The conversation two people have, if they have one; raises Refused where there is no such person."""
        _must_differ(one, other)
        known = self._pairs.get((min(one, other), max(one, other)))
        if known is not None:
            return known
        exists, found = await _answered(self._db, rooms_db.conversation, one, other)
        if not exists:
            raise user_not_found()
        return None if found is None else int(found)

    async def direct(self, one: int, other: int, *, create: bool = True) -> int:
        """The conversation of two people, made if need be; raises Refused where there is no such person."""
        _must_differ(one, other)
        pair = (min(one, other), max(one, other))
        known = self._pairs.get(pair)
        if known is not None:
            self._pairs.move_to_end(pair)
            return known
        if create:
            found = await _answered(self._db, rooms_db.direct, *pair, write=True)
        else:
            found = await _answered(self._db, rooms_db.find_direct, *pair)
        if found is None:
            raise user_not_found()
        _remember(self._pairs, pair, found)
        return int(found)

    def glance(self, room_id: int, user_id: int) -> Glance | None:
        """What a running room knows better than the database; None where it does not run."""
        room = self._shown.get(room_id)
        return None if room is None else room.glance(user_id)

    def person_renamed(self, user_id: int, username: str) -> None:
        """Tell the running rooms that know this person."""
        for room_id, room in self._shown.items():
            if room.concerns(user_id) and (ref := self._supervisor.get(room_id)) is not None:
                ref.answer(Renamed(user_id, username))

    async def blocks_changed(self, one: int, other: int) -> None:
        """One of the two blocks the other, or no longer does (committed). Returns once a running conversation of theirs
        acts on it, or where there is none; raises nothing: one that starts later reads it anyway."""
        with contextlib.suppress(ActorError, Refused):
            room_id = await self.conversation(one, other)
            if room_id is not None and (running := self._supervisor.get(room_id)) is not None:
                await running.ask(BlocksChanged())

    async def person_forgotten(self, user_id: int, username: str, spoke_in: Collection[int]) -> None:
        """Somebody's account is deleted (committed). Rooms that run name him otherwise, and his conversations take no
        letters; raises nothing: a room that starts later reads it anyway."""
        for room_id in set(spoke_in) & self._shown.keys():
            if (ref := self._supervisor.get(room_id)) is not None:
                ref.answer(Forgotten(user_id, username))
        for room_id, shown in list(self._shown.items()):
            mine = shown.room is not None and shown.room.people is not None and user_id in shown.room.people
            if (mine or shown.room is None) and (ref := self._supervisor.get(room_id)) is not None:
                with contextlib.suppress(ActorError, Refused):
                    await ref.ask(BlocksChanged())

    def track_changed(self, track_id: int) -> None:
        """A track changed, is private now, or gone (committed): tell the rooms that play it. Never blocks."""
        for room_id, room in self._shown.items():
            if room.plays(track_id) and (ref := self._supervisor.get(room_id)) is not None:
                ref.answer(TrackChanged(track_id))

    def show(self, room: RoomBase) -> None:
        """The room begins to run (again); it has not loaded yet."""
        self._shown[room.room_id] = room

    def _given_up(self, path: str, error: Exception) -> None:
        """A room crashed too often and is no more. Its listeners must come back to the next one."""
        room = self._shown.get(int(path.rpartition("/")[2]))
        if room is not None:
            self.hide(room)
            for connection in (*room.carried.subscribers, *room.carried.gated):
                connection.outlet.close(TRY_AGAIN, "try again")

    def hide(self, room: RoomBase) -> None:
        """The room stops."""
        if self._shown.get(room.room_id) is room:
            del self._shown[room.room_id]

    def forget(self, room_id: int) -> None:
        """The room has another name, or is gone: names must be looked up again."""
        self._forgotten += 1
        for name in [name for name, known in self._names.items() if known == room_id]:
            del self._names[name]


def _must_differ(one: int, other: int) -> None:
    if one == other:
        raise Refused(INVALID_FORMAT, "A private conversation is with somebody else.")
    if not 0 < other < BIGINT:
        raise user_not_found()


async def _answered(db: Database, unit: Any, *args: Any, write: bool = False) -> Any:
    try:
        return await (db.write if write else db.read)(unit, *args)
    except Unavailable:
        raise unavailable() from None
    except DataRefused:
        return None  # nothing is called that


def _remember(cache: OrderedDict[Any, int], key: Any, value: int) -> None:
    cache[key] = value
    if len(cache) > CACHED:
        cache.popitem(last=False)
