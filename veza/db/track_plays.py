"""Who heard a track: one row a listener, track and day (UTC), and what its owner is told of them.

A listener is a text that names nobody from outside: a person's id, or a keyed hash that is another one for every track
and day. What is heard adds up over the day; a play is counted once, when that is enough.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import msgspec

_DAY_MS: Final = 24 * 3600 * 1000


class Heard(msgspec.Struct, frozen=True):
    """What somebody heard since he last said so. `enough_ms` of a day make a play, `whole_ms` a whole hearing."""

    track_id: int
    day: date
    listener: str
    user_id: int | None
    listened_ms: int
    enough_ms: int
    whole_ms: int | None  # None: he does not say that he heard its end


class Played(msgspec.Struct, frozen=True):
    """`counted`: this listener's play of today is counted; `play_count` are all there ever were."""

    counted: bool
    play_count: int


class Day(msgspec.Struct, frozen=True):
    """One day of a track. `listeners` heard any of it, `plays` enough, `completed` all of it."""

    day: date
    plays: int
    listeners: int
    completed: int
    listened_s: int


class Totals(msgspec.Struct, frozen=True):
    """Of some days together; a person counts once among `listeners`, an address without a login once a day."""

    plays: int
    listeners: int
    completed: int
    listened_s: int


async def record(conn: Any, heard: Heard) -> Played:
    """Add to what this listener heard today. Raises DataRefused: there is no such track any more."""
    row = await conn.fetchrow(
        f"""INSERT INTO track_plays AS p (track_id, day, listener, user_id, listened_ms)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (track_id, day, listener) DO UPDATE
                SET listened_ms = least(p.listened_ms + excluded.listened_ms, {_DAY_MS}), updated_at = now()
            RETURNING listened_ms, counted, completed""",
        heard.track_id,
        heard.day,
        heard.listener,
        heard.user_id,
        heard.listened_ms,
    )
    listened, counted, completed = row
    enough = counted or listened >= heard.enough_ms
    whole = completed or (heard.whole_ms is not None and listened >= heard.whole_ms)
    if (enough, whole) != (counted, completed):
        # The row is held since the insert: whoever reports at the same moment for the same listener comes after.
        await conn.execute(
            "UPDATE track_plays SET counted = $4, completed = $5 WHERE track_id = $1 AND day = $2 AND listener = $3",
            heard.track_id,
            heard.day,
            heard.listener,
            enough,
            whole,
        )
    if enough and not counted:
        count = await conn.fetchval(
            "UPDATE tracks SET play_count = play_count + 1 WHERE id = $1 RETURNING play_count", heard.track_id
        )
    else:
        count = await conn.fetchval("SELECT play_count FROM tracks WHERE id = $1", heard.track_id)
    return Played(enough, count or 0)


async def by_day(conn: Any, track_id: int, first: date, last: date) -> tuple[list[Day], Totals]:
    """Every day from `first` to `last`, those on which nobody listened too, and all of them together."""
    rows = await conn.fetch(
        """SELECT d.day::date, count(p.listener) FILTER (WHERE p.counted), count(p.listener),
                  count(p.listener) FILTER (WHERE p.completed), coalesce(sum(p.listened_ms), 0)::bigint / 1000
           FROM generate_series($2::date, $3::date, interval '1 day') AS d (day)
           LEFT JOIN track_plays p ON p.track_id = $1 AND p.day = d.day::date
           GROUP BY d.day ORDER BY d.day""",
        track_id,
        first,
        last,
    )
    total = await conn.fetchrow(
        """SELECT count(*) FILTER (WHERE counted), count(DISTINCT listener), count(*) FILTER (WHERE completed),
                  coalesce(sum(listened_ms), 0)::bigint / 1000
           FROM track_plays WHERE track_id = $1 AND day BETWEEN $2 AND $3""",
        track_id,
        first,
        last,
    )
    return [Day(*row) for row in rows], Totals(*total)
