"""The queue of tracks to be processed. It outlives the server: a job is claimed, and ends done, failed or queued again.

There is one server to a database, and it knows which jobs it is at. Whatever else is `running` was left by one that is
gone, and goes back into the queue (`release`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from veza.db import outbox
from veza.db.outbox import Event

TRIES: Final = 3


class Job(msgspec.Struct, frozen=True):
    """A claimed job, and of its track what the work needs."""

    id: int
    tries: int  # that failed before this one
    track_id: int
    owner_id: int
    name: str
    title: str
    extension: str
    filename: str | None


class Results(msgspec.Struct, frozen=True):
    """What processing found out of a track; the columns say what each is."""

    kind: str
    duration_ms: int
    codec: str
    sample_rate: int | None
    channels: int | None
    bit_rate: int | None
    width: int | None
    height: int | None
    lossless: bool
    loudness_lufs: float | None
    peak_dbtp: float | None
    has_cover: bool
    has_hls: bool


class Words(msgspec.Struct, frozen=True):
    """What the file says of itself, fit for the columns; each counts only where its uploader said nothing.

    `untitled` is the title a track has when nobody gave it one.
    """

    untitled: str
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    genre: str | None = None


class Backlog(msgspec.Struct, frozen=True):
    """How many jobs wait, and in how many seconds the next one may be claimed; None if none waits."""

    waiting: int
    due_in: float | None


async def release(conn: Any, but: Collection[int]) -> int:
    """Put back into the queue what is `running`, but for these jobs. No try is counted. How many there were."""
    rows = await conn.fetch(
        "UPDATE media_jobs SET status = 'queued', started_at = NULL"
        " WHERE status = 'running' AND NOT id = ANY($1::bigint[]) RETURNING id",
        list(but),
    )
    return len(rows)


async def claim(conn: Any) -> Job | None:
    """The job that waits longest, if one is due; it is `running` from now on."""
    row = await conn.fetchrow(
        """UPDATE media_jobs j SET status = 'running', started_at = now(), error = NULL
             FROM (SELECT id FROM media_jobs WHERE status = 'queued' AND run_after <= now()
                    ORDER BY run_after, id LIMIT 1 FOR UPDATE SKIP LOCKED) AS next,
                  tracks t
            WHERE j.id = next.id AND t.id = j.track_id
        RETURNING j.id, j.tries, t.id AS track_id, t.owner_id, t.name, t.title, t.extension, t.filename"""
    )
    return None if row is None else Job(**row)


async def backlog(conn: Any) -> Backlog:
    row = await conn.fetchrow(
        # `greatest` leaves NULLs out: of nothing it would make 0, and whoever waits would ask again and again.
        "SELECT count(*) AS waiting, CASE WHEN count(*) > 0"
        " THEN greatest(0, extract(epoch FROM min(run_after) - now()))::float8 END AS due_in"
        " FROM media_jobs WHERE status = 'queued'"
    )
    return Backlog(**row)


async def done(conn: Any, job: Job, found: Results, words: Words) -> str | None:
    """The track is ready, with what was found; its title then. None: it is gone. Once more changes nothing."""
    title: str | None = await conn.fetchval(
        """UPDATE tracks SET status = 'ready', failure = NULL, kind = $2, duration_ms = $3, codec = $4,
                  sample_rate = $5, channels = $6, bit_rate = $7, width = $8, height = $9, lossless = $10,
                  loudness_lufs = $11, peak_dbtp = $12, has_cover = $13, has_hls = $14,
                  title = CASE WHEN title = $15 THEN coalesce($16, title) ELSE title END,
                  artist = coalesce(artist, $17), album = coalesce(album, $18), genre = coalesce(genre, $19),
                  updated_at = now()
            WHERE id = $1 RETURNING title""",
        job.track_id,
        found.kind,
        found.duration_ms,
        found.codec,
        found.sample_rate,
        found.channels,
        found.bit_rate,
        found.width,
        found.height,
        found.lossless,
        found.loudness_lufs,
        found.peak_dbtp,
        found.has_cover,
        found.has_hls,
        words.untitled,
        words.title,
        words.artist,
        words.album,
        words.genre,
    )
    await conn.execute("UPDATE media_jobs SET status = 'done', finished_at = now() WHERE id = $1", job.id)
    if title is not None:
        await _tell(conn, job, title, "ready")
    return title


async def failed(conn: Any, job: Job, reason: str) -> None:
    """It is over: the track cannot be heard, for this reason."""
    reason = reason[:500]
    title = await conn.fetchval(
        "UPDATE tracks SET status = 'failed', failure = $2, updated_at = now() WHERE id = $1 RETURNING title",
        job.track_id,
        reason,
    )
    if title is not None:
        await _tell(conn, job, title, "failed", reason=reason)
    await conn.execute(
        "UPDATE media_jobs SET status = 'failed', tries = $2, error = $3, finished_at = now() WHERE id = $1",
        job.id,
        job.tries + 1,
        reason,
    )


async def _tell(conn: Any, job: Job, title: str, status: str, **more: str) -> None:
    """Its owner hears of it."""
    data = {"track_id": job.track_id, "title": title, "status": status, **more}
    await outbox.put(conn, Event("track_ready", job.owner_id, None, f"track:{job.track_id}:{status}", data))


async def again(conn: Any, job: Job, reason: str, seconds: float) -> None:
    """A try is over; there is another after so many seconds."""
    await conn.execute(
        """UPDATE media_jobs SET status = 'queued', tries = $2, error = $3, started_at = NULL,
                  run_after = now() + make_interval(secs => $4)
            WHERE id = $1 AND status = 'running'""",
        job.id,
        job.tries + 1,
        reason[:500],
        seconds,
    )
