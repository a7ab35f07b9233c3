"""Listening together: the room plays one track in step for all who are here, and owns its clock.

A change is stored before anybody hears of it; the track moves on from the moment it was asked for. That a track has
ended is not stored: the clock says so whenever it is read, after a restart too.
"""

from __future__ import annotations

from typing import Any

import msgspec
import trio
from outcome import Outcome, Value

from veza.actors import party, rules
from veza.actors.changes import Change, may_act
from veza.actors.commands import PartyGet, PartyMove, PartyStart, PartyStop, PartyWish, Person
from veza.actors.errors import (
    INVALID_FORMAT,
    NO_PARTY,
    TRACK_NOT_FOUND,
    Refused,
    denied,
)
from veza.actors.frames import frame
from veza.actors.party import Party, PartyState
from veza.actors.room.notes import CheckParty, PartyChecked, PartyTrackEnds
from veza.actors.room.posting import Posting
from veza.db import parties as parties_db
from veza.db.parties import PartyRow, Refusal

_AGAIN = 1.0  # seconds until the database is asked again, when it was away


class Listening(Posting):
    """See the module."""

    party: Party | None = None
    _party_timer: Any = None

    def party_loaded(self, row: PartyRow | None) -> None:
        """The room was read. If it is not the first time, it may be news to who listens."""
        known = self.party is not None
        self._set_party(None if row is None else Party.of(row))
        if self.fanout.subscribers and (row is not None or known):
            self._tell_party()

    def plays(self, track_id: int) -> bool:
        return super().plays(track_id) or (self.party is not None and self.party.track.id == track_id)

    def greeting(self) -> bytes:
        """For who comes in."""
        return b"" if self.party is None else self._party_frame()

    def plan_party(self, wish: PartyWish) -> Change:
        """The change that grants the wish; raises Refused."""
        may_act(self, wish.person)
        since = party.wall()
        match wish:
            case PartyStart(track_id=track_id, position_ms=position, playing=playing):
                if self.party is not None:
                    self._may_control(wish.person)
                args = (track_id, wish.person.user_id, position, playing, since)
                return Change(parties_db.start, args, _started)
            case PartyMove(position_ms=wanted, playing=playing_):
                current = self._controlled(wish.person)
                now = trio.current_time()
                position = current.position(now) if wanted is None else wanted
                if position > current.track.duration_ms:
                    raise _beyond()
                plays = current.plays(now) if playing_ is None else playing_
                if plays and wanted is None and position == current.track.duration_ms:
                    position = 0  # once more
                return Change(parties_db.move, (position, plays, since), _moved)
            case PartyStop():
                self._controlled(wish.person)
                return Change(parties_db.stop, (), _stopped)
        raise TypeError(f"no plan for {type(wish).__name__}")

    def _party_get(self, wish: PartyGet) -> PartyState:
        self._must_see(wish.person)
        if wish.connection is not None:
            wish.connection.outlet.post(self._party_frame(wish.ref))
        return party.state(self.address, self.party)

    def _controlled(self, person: Person) -> Party:
        if self.party is None:
            raise Refused(NO_PARTY, "Nothing is played together here.")
        self._may_control(person)
        return self.party

    def _may_control(self, person: Person) -> None:
        assert self.room is not None and self.party is not None
        if self.party.started_by == person.user_id or self.room.kind == "direct":
            return
        if self.roster.level(person) < rules.MODERATOR:
            raise denied("Only who started it and the room's owner and moderators may do this.")

    def set_party(self, changed: Party | None, wish: PartyWish) -> None:
        """It is stored: everybody hears of it, and so does who asked without listening."""
        self._set_party(changed)
        self._tell_party()
        asker = wish.connection
        if asker is not None and asker not in self.fanout.subscribers:
            self.fanout.ack(asker, self._party_frame())

    def _set_party(self, changed: Party | None) -> None:
        if self._party_timer is not None:
            self._party_timer.cancel()
            self._party_timer = None
        self.party = changed
        self._await_the_end()

    def _await_the_end(self) -> None:
        left = None if self.party is None else self.party.left(trio.current_time())
        if left is not None:
            self._party_timer = self.context.timer(left, PartyTrackEnds())

    def _track_ends(self) -> None:
        self._party_timer = None
        if self.party is None:
            return
        if self.party.plays(trio.current_time()):
            self._await_the_end()
            return
        self.party = msgspec.structs.replace(self.party, by=None)
        self._tell_party()

    def _tell_party(self) -> None:
        self.fanout.add(self._party_frame())

    def _party_frame(self, ref: str | None = None) -> bytes:
        data = party.state(self.address, self.party)
        return frame("party_state", data if ref is None else {**msgspec.structs.asdict(data), "ref": ref})

    # The track became another one, or is no more

    def _check_party(self, track_id: int) -> None:
        if self.party is not None and self.party.track.id == track_id:
            self.context.job(
                self.db.write,
                parties_db.check,
                self.room_id,
                then=lambda outcome: PartyChecked(track_id, outcome),
            )

    def _party_checked(self, track_id: int, outcome: Outcome[PartyRow | None]) -> None:
        if self.party is None or self.party.track.id != track_id:
            return  # another one is played by now
        if not isinstance(outcome, Value):
            self.context.timer(_AGAIN, CheckParty(track_id))
            return
        row = outcome.value
        if row is not None and row.track.id == track_id:
            self._set_party(msgspec.structs.replace(self.party, track=row.track))
        elif row is None:
            self._set_party(None)
        self._tell_party()


async def _started(room: Listening, wish: PartyStart, stored: PartyRow | Refusal) -> PartyState:
    match stored:
        case "gone":
            raise Refused(TRACK_NOT_FOUND, "This track does not exist.", field="track_id")
        case "private":
            raise denied("Only a public track that is ready can be played to everybody.")
        case "beyond":
            raise _beyond()
    room.set_party(Party.of(stored, wish.person.user_id), wish)
    return party.state(room.address, room.party)


async def _moved(room: Listening, wish: PartyMove, stored: PartyRow | None) -> PartyState:
    room.set_party(None if stored is None else Party.of(stored, wish.person.user_id), wish)
    if stored is None:
        raise Refused(NO_PARTY, "The track that was played is gone.")
    return party.state(room.address, room.party)


async def _stopped(room: Listening, wish: PartyStop, _: None) -> PartyState:
    room.set_party(None, wish)
    return party.state(room.address, room.party)


def _beyond() -> Refused:
    return Refused(INVALID_FORMAT, "The track is over by then.", field="position_ms")
