"""Listen-together parties: which track a room plays in step, and where it was at a moment that is kept with it.

One row a room. The row is the truth for the next start of the room; while it runs, its actor owns the clock. Only a
track that everybody may hear can be played to everybody: once it is private, or gone, there is no party any more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db import room_words, rooms, tracks
from veza.db.tracks import PUBLIC


class PartyTrack(msgspec.Struct, frozen=True):
    """What is played. `duration_ms` is where it ends."""

    id: int
    title: str
    artist: str | None
    duration_ms: int


class PartyRow(msgspec.Struct, frozen=True):
    """A party as it is stored: at `since` the track was at `position_ms`; while `playing` it has moved on since."""

    track: PartyTrack
    position_ms: int
    playing: bool
    since: datetime
    started_by: int | None


class Opened(msgspec.Struct, frozen=True):
    """All a room's actor starts with, what it plays and what is not said there included."""

    loaded: rooms.Loaded
    party: PartyRow | None
    words: list[str]


Refusal = Literal["gone", "private", "beyond"]
_HEARD: Final = f"{PUBLIC} AND t.duration_ms > 0"


async def load(conn: Any, room_id: int) -> PartyRow | None:
    """The room's party; None where there is none, or its track can no longer be heard by everybody."""
    row = await conn.fetchrow(
        f"""SELECT t.id, t.title, t.artist, t.duration_ms, p.position_ms, p.playing, p.since, p.started_by
            FROM room_parties p JOIN tracks t ON t.id = p.track_id WHERE p.room_id = $1 AND {_HEARD}""",
        room_id,
    )
    return None if row is None else PartyRow(PartyTrack(*row[:4]), *row[4:])


async def room(conn: Any, room_id: int) -> Opened | None:
    """A room, and its party if it has one; None where there is no such room."""
    loaded = await rooms.load(conn, room_id)
    if loaded is None:
        return None
    return Opened(loaded, await load(conn, room_id), await room_words.of_room(conn, room_id))


async def start(
    conn: Any, room_id: int, track_id: int, person: int, position_ms: int, playing: bool, since: datetime
) -> PartyRow | Refusal:
    """Play this track in the room, instead of whatever was played there.

    "gone": there is no such track for this person. "private": not everybody may hear it, or it is not ready. "beyond":
    it is over by then.
    """
    track = await tracks.visible(conn, track_id, person)
    if track is None:
        return "gone"
    if not (track.is_public and track.status == "ready" and track.duration_ms):
        return "private"
    if position_ms >= track.duration_ms:
        return "beyond"
    await conn.execute(
        """INSERT INTO room_parties (room_id, track_id, position_ms, playing, since, started_by)
           VALUES ($1, $2, $3, $4, $5, $6)
           ON CONFLICT (room_id) DO UPDATE SET track_id = excluded.track_id, position_ms = excluded.position_ms,
               playing = excluded.playing, since = excluded.since, started_by = excluded.started_by""",
        room_id,
        track_id,
        position_ms,
        playing,
        since,
        person,
    )
    return await load(conn, room_id) or "private"


async def move(conn: Any, room_id: int, position_ms: int, playing: bool, since: datetime) -> PartyRow | None:
    """Keep where the track is, and whether it goes on from there; None where there is no party any more."""
    await conn.execute(
        "UPDATE room_parties SET position_ms = $2, playing = $3, since = $4 WHERE room_id = $1",
        room_id,
        position_ms,
        playing,
        since,
    )
    return await check(conn, room_id)


async def check(conn: Any, room_id: int) -> PartyRow | None:
    """`load`; a party whose track not everybody may hear any more is over for good."""
    found = await load(conn, room_id)
    if found is None:
        await stop(conn, room_id)
    return found


async def stop(conn: Any, room_id: int) -> None:
    await conn.execute("DELETE FROM room_parties WHERE room_id = $1", room_id)
