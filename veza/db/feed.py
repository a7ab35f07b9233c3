"""What is new from those one follows: their tracks, what they pass on, and their broadcasts that are on air.

One query finds what could be on the page: of everybody followed the newest few of each kind, by an index, and of those
the newest. Two more fetch all tracks and all broadcasts of it that the reader may see. So it costs how many one
follows, not what they ever made; only where much of it is hidden is there a second round.

Nothing comes through of people of whom one has blocked the other, neither theirs nor what somebody passes on of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db.keys import joined, micros, moment, split
from veza.db.tracks import COLUMNS, Track, TrackOwner, made

Kind = Literal["track", "repost", "stream"]
_KINDS: Final[tuple[Kind, ...]] = ("track", "repost", "stream")


class OnAir(msgspec.Struct, frozen=True):
    """A public broadcast that is going on; `interrupted` waits for its source to come back."""

    id: int
    slug: str
    title: str
    description: str | None
    category: str
    state: str
    content_type: str | None
    song: str | None
    room_id: int | None
    started_at: datetime
    listeners: int = 0  # at this moment: for who knows it to fill in


class Entry(msgspec.Struct, frozen=True):
    """Something new. `by` is whoever one follows: who made it, or passed it on. `kind` says which of the two it is."""

    kind: Kind
    at: datetime
    by: TrackOwner
    track: Track | None
    stream: OnAir | None


class Feed(msgspec.Struct, frozen=True):
    entries: list[Entry]
    next: str | None


class Place(msgspec.Struct, frozen=True):
    """Where a feed goes on: everything in it has such a place, and no two the same."""

    at: datetime
    kind: int
    id: int
    by: int

    @classmethod
    def read(cls, text: str) -> Place:
        """Raises ValueError."""
        at, kind, id, by = split(text, 4)
        if kind >= len(_KINDS):
            raise ValueError("no kind of entry")
        return cls(moment(at), kind, id, by)

    def __str__(self) -> str:
        return joined(micros(self.at), self.kind, self.id, self.by)


_ROUNDS: Final = 6  # of twice as many each time
_SPARE: Final = 10  # so that a few that are hidden make no second round

_FIND: Final = """
    WITH followed AS MATERIALIZED (
        SELECT f.followed_id AS id FROM follows f JOIN users u ON u.id = f.followed_id
        WHERE f.follower_id = $1 AND u.is_active
          AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocker_id = $1 AND b.blocked_id = f.followed_id)
          AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocked_id = $1 AND b.blocker_id = f.followed_id)
    ), entries AS (
        SELECT n.created_at AS at, 0 AS kind, n.id, followed.id AS by FROM followed CROSS JOIN LATERAL (
            SELECT t.created_at, t.id FROM tracks t
            WHERE t.owner_id = followed.id AND t.is_public AND t.status = 'ready' {tracks}
            ORDER BY t.created_at DESC, t.id DESC LIMIT $2) AS n
        UNION ALL
        SELECT n.created_at, 1, n.track_id, followed.id FROM followed CROSS JOIN LATERAL (
            SELECT r.created_at, r.track_id FROM track_reposts r WHERE r.user_id = followed.id {reposts}
            ORDER BY r.created_at DESC, r.track_id DESC LIMIT $2) AS n
        UNION ALL
        SELECT n.started_at, 2, n.id, followed.id FROM followed CROSS JOIN LATERAL (
            SELECT s.started_at, s.id FROM streams s
            WHERE s.owner_id = followed.id AND s.visibility = 'public' AND s.state IN ('live', 'interrupted')
              AND s.started_at IS NOT NULL {streams}
            ORDER BY s.started_at DESC, s.id DESC LIMIT $2) AS n
    )
    SELECT e.at, e.kind, e.id, e.by, u.username, u.avatar
    FROM (SELECT * FROM entries ORDER BY at DESC, kind DESC, id DESC, by DESC LIMIT $2) AS e
    JOIN users u ON u.id = e.by
    ORDER BY e.at DESC, e.kind DESC, e.id DESC, e.by DESC
"""
# Behind a place. A row's first value is the index's column, so that the index is entered at the right place.
_BEHIND: Final = _FIND.format(
    tracks="AND (t.created_at, 0, t.id, t.owner_id) < ($3, $4, $5, $6)",
    reposts="AND (r.created_at, 1, r.track_id, r.user_id) < ($3, $4, $5, $6)",
    streams="AND (s.started_at, 2, s.id, s.owner_id) < ($3, $4, $5, $6)",
)
_FIRST: Final = _FIND.format(tracks="", reposts="", streams="")


async def feed(conn: Any, reader: int, after: Place | None, limit: int) -> Feed:
    """The newest first. Where very much of what was passed on is hidden from the reader, a page may be short."""
    entries: list[tuple[Place, Entry]] = []
    place, batch = after, limit + _SPARE
    for _ in range(_ROUNDS):
        behind = () if place is None else (place.at, place.kind, place.id, place.by)
        rows = await conn.fetch(_FIRST if place is None else _BEHIND, reader, batch, *behind)
        entries += await _shown(conn, reader, rows)
        whole = len(rows) < batch
        if whole or len(entries) > limit:
            break
        place, batch = Place(*rows[-1][:4]), 2 * batch
    page = [entry for _, entry in entries[:limit]]
    if len(entries) > limit:
        return Feed(page, str(entries[limit - 1][0]))
    return Feed(page, None if whole else str(place))


async def _shown(conn: Any, reader: int, rows: list[Any]) -> list[tuple[Place, Entry]]:
    """What the reader may see of what was found."""
    tracks = await _tracks(conn, reader, [row[2] for row in rows if row[1] < 2])
    streams = await _streams(conn, [row[2] for row in rows if row[1] == 2])
    shown = []
    for at, kind, id, by, username, avatar in rows:
        track = tracks.get(id) if kind < 2 else None
        stream = streams.get(id) if kind == 2 else None
        if track is not None or stream is not None:
            entry = Entry(_KINDS[kind], at, TrackOwner(by, username, avatar), track, stream)
            shown.append((Place(at, kind, id, by), entry))
    return shown


async def _tracks(conn: Any, reader: int, ids: list[int]) -> dict[int, Track]:
    if not ids:
        return {}
    rows = await conn.fetch(
        f"""SELECT {COLUMNS} FROM tracks t JOIN users u ON u.id = t.owner_id
            WHERE t.id = ANY ($2::bigint[]) AND t.is_public AND t.status = 'ready' AND u.is_active
              AND NOT EXISTS (SELECT FROM blocks b WHERE (b.blocker_id = $1 AND b.blocked_id = t.owner_id)
                                                      OR (b.blocker_id = t.owner_id AND b.blocked_id = $1))""",
        reader,
        ids,
    )
    return {track.id: track for track in map(made, rows)}


async def _streams(conn: Any, ids: list[int]) -> dict[int, OnAir]:
    if not ids:
        return {}
    rows = await conn.fetch(
        """SELECT id, slug, title, description, category, state, content_type, song, room_id, started_at FROM streams
           WHERE id = ANY ($1::bigint[]) AND state IN ('live', 'interrupted')""",
        ids,
    )
    return {row[0]: OnAir(*row) for row in rows}
