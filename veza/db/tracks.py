"""Tracks: what somebody uploaded, or what a broadcast left behind; one row each, whatever processing found out of it.

A track is seen by everybody once it is public and ready, and by its owner always; for anybody else it does not exist.
Every query here that answers a person is told who asks (`reader_id`, None for nobody) and decides that in SQL.
Lists are in `track_lists.py`, plays in `track_plays.py`; where the files lie is `veza.media.library`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from veza.db import streams
from veza.db.audit import Act, record


class TrackOwner(msgspec.Struct, frozen=True):
    """Whose a track is."""

    id: int
    username: str
    avatar: str | None


class Track(msgspec.Struct, frozen=True):
    """A track as `reader_id` sees it, ready to be sent.

    `name` stands in media addresses. What processing finds out is null until it is `ready`; `failure` says why it
    `failed`, to the owner alone. `duration_ms` is in milliseconds, `size` in bytes, `bit_rate` in bits a second,
    `loudness_lufs` the integrated loudness (EBU R128), `peak_dbtp` the true peak.
    """

    id: int
    name: str
    title: str
    artist: str | None
    album: str | None
    genre: str | None
    description: str | None
    tags: list[str]
    is_public: bool
    status: str  # processing, ready, failed
    failure: str | None
    kind: str  # audio, video
    filename: str | None  # as the uploader called it
    extension: str  # of what it really is
    content_type: str
    size: int
    duration_ms: int | None
    codec: str | None
    sample_rate: int | None
    channels: int | None
    bit_rate: int | None
    width: int | None
    height: int | None
    lossless: bool | None
    loudness_lufs: float | None
    peak_dbtp: float | None
    has_cover: bool
    has_hls: bool
    play_count: int
    like_count: int
    comment_count: int
    repost_count: int
    stream_id: int | None  # the broadcast it was recorded from
    created_at: datetime
    updated_at: datetime
    liked: bool  # by who asks
    reposted: bool
    owner: TrackOwner

    def __repr__(self) -> str:
        return f"<Track {self.id} {self.status}>"


# For every query that gives tracks: `t` is the track, `u` its owner (an inner join), `$1` the reader's id or null.
COLUMNS: Final = """t.id, t.name, t.title, t.artist, t.album, t.genre, t.description, t.tags, t.is_public, t.status,
    CASE WHEN t.owner_id = $1 THEN t.failure END, t.kind, t.filename, t.extension, t.content_type, t.size,
    t.duration_ms, t.codec, t.sample_rate, t.channels, t.bit_rate, t.width, t.height, t.lossless, t.loudness_lufs,
    t.peak_dbtp, t.has_cover, t.has_hls, t.play_count, t.like_count, t.comment_count, t.repost_count, t.stream_id,
    t.created_at, t.updated_at,
    EXISTS (SELECT FROM track_likes l WHERE l.track_id = t.id AND l.user_id = $1),
    EXISTS (SELECT FROM track_reposts r WHERE r.track_id = t.id AND r.user_id = $1),
    u.id, u.username, u.avatar"""
# What everybody may see; written as the partial indexes are, so that they are used. Tracks of disabled accounts rest.
PUBLIC: Final = """t.is_public AND t.status = 'ready'
    AND NOT EXISTS (SELECT FROM users off WHERE off.id = t.owner_id AND NOT off.is_active)"""
VISIBLE: Final = "(t.owner_id = $1 OR (t.is_public AND t.status = 'ready' AND u.is_active))"
_OWNER_FIELDS: Final = 3


def made(row: Sequence[Any]) -> Track:
    """The track of a row that begins with `COLUMNS`, and ends there."""
    values: list[Any] = list(row)
    values[-_OWNER_FIELDS:] = [TrackOwner(*values[-_OWNER_FIELDS:])]
    return Track(*values)


class NewTrack(msgspec.Struct, frozen=True, kw_only=True):
    """A track that is about to be, its file whole and in its place already."""

    owner_id: int
    name: str
    title: str
    kind: str
    extension: str
    content_type: str
    size: int
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    description: str | None = None
    tags: tuple[str, ...] = ()
    is_public: bool = True
    filename: str | None = None
    duration_ms: int | None = None
    stream_id: int | None = None


class TrackChange(msgspec.Struct, frozen=True):
    """New values for a track; a field left out of `fields` stays as it is."""

    fields: frozenset[str]
    title: str | None = None
    artist: str | None = None
    album: str | None = None
    genre: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    is_public: bool | None = None


async def create(
    conn: Any,
    new: NewTrack,
    most: int | None = None,
    upload_id: UUID | None = None,
    recording_id: int | None = None,
) -> Track | None:
    """A new track, and the job that processes it; None where its owner has `most` already, or is gone.

    The owner's row is held, so that tracks of one person count in turn.

    Args:
        upload_id: the resumable upload it was; remembers the track from now on.
        recording_id: the stream's recording it was; likewise.

    Raises:
        AlreadyKept: the recording is a track already, or gone.
    """
    if most is not None:
        there = await conn.fetchval(
            "SELECT deleted_at IS NULL FROM users WHERE id = $1 FOR NO KEY UPDATE", new.owner_id
        )
        if not there:  # the account was deleted while this was on its way
            return None
        if await room_left(conn, new.owner_id, most) < 1:
            return None
    track_id = await conn.fetchval(
        """INSERT INTO tracks (owner_id, name, title, artist, album, genre, description, tags, is_public, kind,
                               filename, extension, content_type, size, duration_ms, stream_id)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING id""",
        new.owner_id,
        new.name,
        new.title,
        new.artist,
        new.album,
        new.genre,
        new.description,
        list(new.tags),
        new.is_public,
        new.kind,
        new.filename,
        new.extension,
        new.content_type,
        new.size,
        new.duration_ms,
        new.stream_id,
    )
    await conn.execute("INSERT INTO media_jobs (track_id) VALUES ($1)", track_id)
    if upload_id is not None:
        await conn.execute("UPDATE uploads SET track_id = $2 WHERE id = $1", upload_id, track_id)
    if recording_id is not None:
        await streams.recording_kept(conn, recording_id, track_id)
    return await visible(conn, track_id, new.owner_id)


async def room_left(conn: Any, owner_id: int, most: int) -> int:
    """How many more tracks this person may have."""
    owned = await conn.fetchval("SELECT count(*) FROM tracks WHERE owner_id = $1", owner_id)
    return max(0, most - int(owned))


async def visible(conn: Any, track_id: int, reader_id: int | None) -> Track | None:
    """The track, if it exists for this reader: it is public and ready, or his own."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM tracks t JOIN users u ON u.id = t.owner_id WHERE t.id = $2 AND {VISIBLE}",
        reader_id,
        track_id,
    )
    return made(row) if row else None


async def by_name(conn: Any, name: str) -> Track | None:
    """The track of a public name, whoever asks: for media addresses, whose signature is the permission."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM tracks t JOIN users u ON u.id = t.owner_id WHERE t.name = $2", None, name
    )
    return made(row) if row else None


async def by_id(conn: Any, track_id: int) -> Track | None:
    """The track, whoever asks: for the server's own business, and for moderators."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM tracks t JOIN users u ON u.id = t.owner_id WHERE t.id = $2", None, track_id
    )
    return made(row) if row else None


async def update(conn: Any, track_id: int, owner_id: int, change: TrackChange) -> Track | None:
    """Set the fields named in `change.fields`; None if this person has no such track."""
    given = change.fields
    row = await conn.fetchrow(
        """UPDATE tracks SET
               title = CASE WHEN $3 THEN $4 ELSE title END,
               artist = CASE WHEN $5 THEN $6 ELSE artist END,
               album = CASE WHEN $7 THEN $8 ELSE album END,
               genre = CASE WHEN $9 THEN $10 ELSE genre END,
               description = CASE WHEN $11 THEN $12 ELSE description END,
               tags = CASE WHEN $13 THEN $14 ELSE tags END,
               is_public = CASE WHEN $15 THEN $16 ELSE is_public END,
               updated_at = now()
           WHERE id = $1 AND owner_id = $2 RETURNING id""",
        track_id,
        owner_id,
        "title" in given,
        change.title,
        "artist" in given,
        change.artist,
        "album" in given,
        change.album,
        "genre" in given,
        change.genre,
        "description" in given,
        change.description,
        "tags" in given,
        list(change.tags or ()),
        "is_public" in given,
        change.is_public,
    )
    return await visible(conn, track_id, owner_id) if row else None


async def delete(conn: Any, track_id: int, owner_id: int | None, act: Act | None = None) -> str | None:
    """Remove a track with all that hangs on it; its name, whose files are to go next. None if there is no such track.

    Args:
        owner_id: only if it is this person's; None: whosever it is.
        act: who did it, for the audit log, where that is not the owner.
    """
    # The upload it came by would otherwise count as unfinished again.
    await conn.execute(
        "DELETE FROM uploads WHERE track_id = $1 AND ($2::bigint IS NULL OR user_id = $2)", track_id, owner_id
    )
    row = await conn.fetchrow(
        "DELETE FROM tracks WHERE id = $1 AND ($2::bigint IS NULL OR owner_id = $2) RETURNING name, title, owner_id",
        track_id,
        owner_id,
    )
    if row is None:
        return None
    if act is not None:
        details = {"title": row["title"], "owner_id": row["owner_id"]}
        await record(conn, act, "track.delete", "track", track_id, details)
    return str(row["name"])


async def known_names(conn: Any, names: Sequence[str]) -> set[str]:
    """Which of these names are tracks'."""
    rows = await conn.fetch("SELECT name FROM tracks WHERE name = ANY ($1::text[])", list(names))
    return {row[0] for row in rows}
