"""Streams as lists and curves show them.

Everybody's list holds public streams of people whose accounts are active, those on air first, then the newest; unlisted
and private ones are in their owner's list alone. Totals are counted up to COUNTED, as everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from veza.db.like import literal
from veza.db.streams import COLUMNS, Stream
from veza.db.users import COUNTED

MOST_POINTS: Final = 1_440  # of a curve


class StreamPage(msgspec.Struct, frozen=True):
    streams: list[Stream]
    total: int


class Point(msgspec.Struct, frozen=True):
    """The most listeners at once, from `at` on, for as long as one point of the curve lasts."""

    at: datetime
    listeners: int


class Curve(msgspec.Struct, frozen=True):
    """`step_s` is what one point stands for, in seconds. Times off the air have no points."""

    step_s: int
    points: list[Point]


class RecordingRow(msgspec.Struct, frozen=True):
    """What was recorded; `track_id` is null until it is a track (and again when that track was deleted)."""

    id: int
    content_type: str
    started_at: datetime
    closed_at: datetime | None
    track_id: int | None


_ON_AIR: Final = "s.state IN ('live', 'interrupted')"
# The owner is looked up row by row: as a join the planner may give up the index's order for it.
_PUBLIC: Final = "s.visibility = 'public' AND (SELECT o.is_active FROM users o WHERE o.id = s.owner_id)"


async def listed(
    conn: Any,
    *,
    category: str | None,
    search: str | None,
    on_air: bool | None,
    owner_id: int | None,
    limit: int,
    offset: int,
) -> StreamPage:
    """Public streams, those on air first, then the newest.

    Args:
        search: part of the title, letter case aside; one or two characters are the beginning of it.
        on_air: only those that are (True) or are not (False).
        owner_id: only this person's.
    """
    where, args = _PUBLIC, list[Any]()

    def also(condition: str, value: Any) -> None:
        nonlocal where
        args.append(value)
        where += f" AND {condition.format(f'${len(args)}')}"

    if category is not None:
        also("s.category = {}", category)
    if owner_id is not None:
        also("s.owner_id = {}", owner_id)
    if search:
        pattern = literal(search.lower())
        also("lower(s.title) LIKE {}", f"{'%' if len(search) > 2 else ''}{pattern}%")
    if on_air is not None:
        where += f" AND ({_ON_AIR}) IS {on_air}"
    return await _page(conn, where, args, f"({_ON_AIR}) DESC, s.id DESC", limit, offset)


async def of_owner(conn: Any, owner_id: int, limit: int, offset: int) -> StreamPage:
    """All of a person's streams, for himself: those on air first, then the newest."""
    return await _page(conn, "s.owner_id = $1", [owner_id], f"({_ON_AIR}) DESC, s.id DESC", limit, offset)


async def _page(
    conn: Any, where: str, args: Sequence[Any], order: str, limit: int, offset: int
) -> StreamPage:
    total = await conn.fetchval(
        f"SELECT count(*) FROM (SELECT FROM streams s WHERE {where} LIMIT {COUNTED}) AS matches", *args
    )
    at = len(args) + 1
    rows = await conn.fetch(
        f"""SELECT {COLUMNS} FROM streams s JOIN users u ON u.id = s.owner_id WHERE {where}
            ORDER BY {order} LIMIT ${at} OFFSET ${at + 1}""",
        *args,
        limit,
        offset,
    )
    return StreamPage([Stream(*row) for row in rows], total)


async def curve(conn: Any, stream_id: int) -> Curve:
    """A stream's listeners over its time, in at most about MOST_POINTS points of whole minutes each."""
    first, last = await conn.fetchrow(
        "SELECT min(minute), max(minute) FROM stream_minutes WHERE stream_id = $1", stream_id
    )
    if first is None:
        return Curve(60, [])
    minutes = int((last - first).total_seconds()) // 60 + 1
    step = 60 * -(-minutes // MOST_POINTS)
    rows = await conn.fetch(
        """SELECT date_bin(make_interval(secs => $2), minute, $3) AS at, max(listeners)
           FROM stream_minutes WHERE stream_id = $1 GROUP BY at ORDER BY at""",
        stream_id,
        float(step),
        first,
    )
    return Curve(step, [Point(*row) for row in rows])


async def recordings(conn: Any, stream_id: int, limit: int = 100) -> list[RecordingRow]:
    """What was recorded of a stream, the newest first."""
    rows = await conn.fetch(
        """SELECT id, content_type, started_at, closed_at, track_id FROM stream_recordings
           WHERE stream_id = $1 ORDER BY id DESC LIMIT $2""",
        stream_id,
        limit,
    )
    return [RecordingRow(*row) for row in rows]
