"""The clock of a party: a track that moves on by itself while it plays. Pure; whoever asks says what time it is.

Inside a running server time is trio's, which never jumps. What outlives it is kept by the wall clock: the moment at
which the track was somewhere (`veza/db/parties.py`), from which any later server makes a clock again.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import trio

from veza.actors.frames import Address
from veza.db.parties import PartyRow, PartyTrack


def wall() -> datetime:
    """The time of day."""
    return datetime.now(UTC)


class Party(msgspec.Struct, frozen=True):
    """At `since` (trio's time, seconds) the track was at `position_ms`; while `playing` it moves, up to its end.

    `by` is who made it so, None if nobody did just now (the server started, or the track ended).
    """

    track: PartyTrack
    position_ms: int
    playing: bool
    since: float
    started_by: int | None
    by: int | None = None

    @classmethod
    def of(cls, row: PartyRow, by: int | None = None) -> Party:
        """The clock of a stored party, going on from when it was stored."""
        # A wall clock that was set back meanwhile must not make the track wait.
        ago = max(0.0, (wall() - row.since).total_seconds())
        return cls(row.track, row.position_ms, row.playing, trio.current_time() - ago, row.started_by, by)

    def position(self, now: float) -> int:
        """Milliseconds from the track's beginning, at trio's time `now`; at the end it stays."""
        moved = round(max(0.0, now - self.since) * 1000) if self.playing else 0
        return min(self.track.duration_ms, self.position_ms + moved)

    def plays(self, now: float) -> bool:
        return self.playing and self.position(now) < self.track.duration_ms

    def left(self, now: float) -> float | None:
        """Seconds until the track ends by itself; None: it does not play."""
        return (self.track.duration_ms - self.position(now)) / 1000 if self.plays(now) else None


class PartyState(msgspec.Struct, frozen=True):
    """`party_state.data`: at `server_time` the track was at `position_ms`. Without a party `track_id` is null.

    `url` is where the REST API gives the addresses of the sound.
    """

    room: str | int
    room_id: int
    track_id: int | None
    title: str | None
    artist: str | None
    duration_ms: int | None
    url: str | None
    position_ms: int
    playing: bool
    server_time: datetime
    started_by: int | None
    by: int | None


def state(address: Address, party: Party | None) -> PartyState:
    """What everybody hears of a party, as it is now."""
    if party is None:
        return PartyState(
            address.label, address.room_id, None, None, None, None, None, 0, False, wall(), None, None
        )
    now, track = trio.current_time(), party.track
    return PartyState(
        room=address.label,
        room_id=address.room_id,
        track_id=track.id,
        title=track.title,
        artist=track.artist,
        duration_ms=track.duration_ms,
        url=f"/api/v1/tracks/{track.id}/stream",
        position_ms=party.position(now),
        playing=party.plays(now),
        server_time=wall(),
        started_by=party.started_by,
        by=party.by,
    )
