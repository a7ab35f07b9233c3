"""Live streams as those who run them know them: owners, sources, recordings. Lists for listeners are in `stream_lists`.

A stream goes created → live → (interrupted ↔ live) → ended, and an ended one stays ended: every step here says from
which states it may be taken and answers whether it was, so that two who race (a source that comes back, an owner who
ends, a server that starts) agree on one order. `ended_at` of an ended stream is set, and of no other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from veza.db import outbox
from veza.db import rooms as rooms_db
from veza.db.audit import Act, record
from veza.db.outbox import Event
from veza.db.users import BANNED

SLUG_TAKEN: Final = "streams_slug"
ROOM_NAME_TAKEN: Final = "rooms_public_name"


class Stream(msgspec.Struct, frozen=True):
    """A stream's row, with its owner's name. The key is not part of it."""

    id: int
    slug: str
    title: str
    description: str | None
    category: str
    visibility: str
    record: bool
    state: str
    owner_id: int
    username: str
    avatar: str | None
    room_id: int | None
    content_type: str | None
    song: str | None
    started_at: datetime | None
    ended_at: datetime | None
    peak_listeners: int
    listener_count: int
    listened_s: int
    bytes_in: int
    created_at: datetime
    updated_at: datetime


class Mount(msgspec.Struct, frozen=True):
    """What the live core needs of a stream. `barred`: its owner is disabled or banned, so nobody may broadcast.
    `muted`: he may go on, and not begin."""

    id: int
    slug: str
    owner_id: int
    title: str
    description: str | None
    category: str
    visibility: str
    record: bool
    key_hash: bytes
    state: str
    room_id: int | None
    barred: bool
    muted: bool

    def __repr__(self) -> str:  # the hash stays out of logs
        return f"<Mount {self.id} {self.state}>"


class Change(msgspec.Struct, frozen=True):
    """New values for a stream; a field left out of `fields` stays as it is."""

    fields: frozenset[str]
    title: str | None = None
    description: str | None = None
    category: str | None = None
    visibility: str | None = None
    record: bool | None = None


class Recording(msgspec.Struct, frozen=True):
    """One file that was recorded, and what its track will be called. `closed_at` None: nobody closed it (yet)."""

    id: int
    stream_id: int
    filename: str
    content_type: str
    started_at: datetime
    closed_at: datetime | None
    owner_id: int
    username: str
    title: str
    public: bool
    part: int  # counts a stream's recordings from 1


class TooMany(Exception):
    """The owner has as many streams as one may have; nothing was stored."""

    def __init__(self, kept: bool) -> None:
        super().__init__("too many streams")
        self.kept = kept  # counted with the ended ones


class AlreadyKept(Exception):
    """The recording is a track already, or gone: whoever makes a track of it must not."""

    def __init__(self) -> None:
        super().__init__("this recording is no longer to be kept")


COLUMNS: Final = """s.id, s.slug, s.title, s.description, s.category, s.visibility, s.record, s.state, s.owner_id,
    u.username, u.avatar, s.room_id, s.content_type, s.song, s.started_at, s.ended_at, s.peak_listeners,
    s.listener_count, s.listened_s, s.bytes_in, s.created_at, s.updated_at"""
_MOUNT: Final = f"""SELECT s.id, s.slug, s.owner_id, s.title, s.description, s.category, s.visibility, s.record,
    s.key_hash, s.state, s.room_id, NOT u.is_active OR {BANNED},
    coalesce(u.muted_until > now(), false)
    FROM streams s JOIN users u ON u.id = s.owner_id"""
_RECORDING: Final = """SELECT r.id, r.stream_id, r.filename, r.content_type, r.started_at, r.closed_at, s.owner_id,
    u.username, s.title, s.visibility = 'public',
    (SELECT count(*) FROM stream_recordings p WHERE p.stream_id = r.stream_id AND p.id <= r.id)
    FROM stream_recordings r JOIN streams s ON s.id = r.stream_id JOIN users u ON u.id = s.owner_id"""


# What owners do ----------------------------------------------------------------------------------


async def create(
    conn: Any,
    owner_id: int,
    *,
    slug: str,
    title: str,
    description: str | None,
    category: str,
    visibility: str,
    record: bool,
    key_hash: bytes,
    most_open: int,
    most_kept: int,
) -> Stream:
    """A new stream and its chat room. The owner's row is held, so that streams count in turn.

    Raises:
        TooMany: he has `most_open` that have not ended, or `most_kept` in all.
        Conflict: the slug, or the room's name, is taken (SLUG_TAKEN, ROOM_NAME_TAKEN): try another slug.
    """
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
    kept, opened = await conn.fetchrow(
        "SELECT count(*), count(*) FILTER (WHERE state <> 'ended') FROM streams WHERE owner_id = $1", owner_id
    )
    if opened >= most_open or kept >= most_kept:
        raise TooMany(kept >= most_kept)
    stream_id = await conn.fetchval(
        """INSERT INTO streams (owner_id, slug, title, description, category, visibility, record, key_hash)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id""",
        owner_id,
        slug,
        title,
        description,
        category,
        visibility,
        record,
        key_hash,
    )
    await open_room(conn, stream_id)
    made = await by_id(conn, stream_id)
    assert made is not None
    return made


async def open_room(conn: Any, stream_id: int) -> int | None:
    """The id of the stream's chat room, made if it has none (any more); None if there is no such stream."""
    row = await conn.fetchrow(
        "SELECT owner_id, slug, visibility, room_id FROM streams WHERE id = $1 FOR NO KEY UPDATE", stream_id
    )
    if row is None:
        return None
    owner_id, slug, visibility, room_id = row
    if room_id is not None:
        return int(room_id)
    kind = "public" if visibility == "public" else "private"
    room = await rooms_db.create(conn, owner_id, kind, room_name(slug), "The chat of a live stream.")
    await conn.execute("UPDATE streams SET room_id = $2 WHERE id = $1", stream_id, room.id)
    return room.id


def room_name(slug: str) -> str:
    """What a stream's chat room is called."""
    return f"stream-{slug}"


async def by_id(conn: Any, stream_id: int) -> Stream | None:
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM streams s JOIN users u ON u.id = s.owner_id WHERE s.id = $1", stream_id
    )
    return Stream(*row) if row else None


async def visible(conn: Any, stream: int | str, reader_id: int | None) -> Stream | None:
    """The stream of an id or a slug, if it exists for this reader: it is his own, or he is a member of its room; it is
    public; or unlisted and asked for by its slug (ids can be counted through, links cannot). That of a disabled account
    exists for nobody else."""
    key, open_to = ("id", "('public')") if isinstance(stream, int) else ("slug", "('public', 'unlisted')")
    row = await conn.fetchrow(
        f"""SELECT {COLUMNS} FROM streams s JOIN users u ON u.id = s.owner_id
            WHERE s.{key} = $2 AND (s.owner_id = $1 OR u.is_active AND (s.visibility IN {open_to}
                OR EXISTS (SELECT FROM room_members m WHERE m.room_id = s.room_id AND m.user_id = $1)))""",
        reader_id,
        stream,
    )
    return Stream(*row) if row else None


async def any_stream(conn: Any, stream: int | str) -> Stream | None:
    """The stream of an id or a slug, whoever asks: for moderators."""
    return await (by_id(conn, stream) if isinstance(stream, int) else by_slug(conn, stream))


async def by_slug(conn: Any, slug: str) -> Stream | None:
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM streams s JOIN users u ON u.id = s.owner_id WHERE s.slug = $1", slug
    )
    return Stream(*row) if row else None


async def change(conn: Any, stream_id: int, new: Change) -> Stream | None:
    """Change what `new.fields` names; None if the stream is gone."""
    given = new.fields
    found = await conn.fetchval(
        """UPDATE streams AS s SET
               title = CASE WHEN $2 THEN $3 ELSE s.title END,
               description = CASE WHEN $4 THEN $5 ELSE s.description END,
               category = CASE WHEN $6 THEN $7 ELSE s.category END,
               visibility = CASE WHEN $8 THEN $9 ELSE s.visibility END,
               record = CASE WHEN $10 THEN $11 ELSE s.record END,
               updated_at = now()
           WHERE s.id = $1 RETURNING s.id""",
        stream_id,
        "title" in given,
        new.title,
        "description" in given,
        new.description,
        "category" in given,
        new.category,
        "visibility" in given,
        new.visibility,
        "record" in given,
        new.record,
    )
    return None if found is None else await by_id(conn, stream_id)


async def set_key(conn: Any, stream_id: int, key_hash: bytes) -> bool:
    """Another key from now on; whether the stream exists and has not ended."""
    done = await conn.execute(
        "UPDATE streams SET key_hash = $2, updated_at = now() WHERE id = $1 AND state <> 'ended'",
        stream_id,
        key_hash,
    )
    return bool(done != "UPDATE 0")


async def delete(conn: Any, stream_id: int, act: Act | None = None) -> bool:
    """Remove the stream's row with its minutes and recordings' rows; its room and files are others' to remove.

    Args:
        act: who did it, for the audit log, where that is not the owner.
    """
    row = await conn.fetchrow("DELETE FROM streams WHERE id = $1 RETURNING title, owner_id", stream_id)
    if row is None:
        return False
    if act is not None:
        details = {"title": row["title"], "owner_id": row["owner_id"]}
        await record(conn, act, "stream.delete", "stream", stream_id, details)
    return True


# What sources do ---------------------------------------------------------------------------------


async def mount(conn: Any, slug: str) -> Mount | None:
    row = await conn.fetchrow(f"{_MOUNT} WHERE s.slug = $1", slug)
    return Mount(*row) if row else None


async def mount_by_id(conn: Any, stream_id: int) -> Mount | None:
    row = await conn.fetchrow(f"{_MOUNT} WHERE s.id = $1", stream_id)
    return Mount(*row) if row else None


async def slug_of_key(conn: Any, key_hash: bytes) -> str | None:
    """The stream that a key opens, where nothing but the key says which."""
    slug: str | None = await conn.fetchval(
        "SELECT slug FROM streams WHERE key_hash = $1 AND state <> 'ended' LIMIT 1", key_hash
    )
    return slug


async def may_hear(conn: Any, stream_id: int, user_id: int) -> bool:
    """May this person, who does not own it, listen to a private stream? The members of its room may."""
    found = await conn.fetchval(
        """SELECT EXISTS (SELECT FROM streams s JOIN room_members m ON m.room_id = s.room_id
               WHERE s.id = $1 AND m.user_id = $2)""",
        stream_id,
        user_id,
    )
    return bool(found)


async def still_hears(conn: Any, stream_id: int, user_id: int) -> bool:
    """May this person, to whom the address of a private stream was given, listen to it now? It is his, or he belongs to
    its room; and he is not disabled or banned."""
    found = await conn.fetchval(
        f"""SELECT EXISTS (SELECT FROM users u JOIN streams s ON s.id = $1
               WHERE u.id = $2 AND u.is_active AND NOT {BANNED}
               AND (s.owner_id = u.id
                    OR EXISTS (SELECT FROM room_members m WHERE m.room_id = s.room_id AND m.user_id = u.id)))""",
        stream_id,
        user_id,
    )
    return bool(found)


async def went_live(conn: Any, stream_id: int, content_type: str) -> bool:
    """A source is there (again). False: the stream has ended or is gone, so the source must go too.

    Of a beginning others hear, once a broadcast: the owner's followers, of a private stream the members of its room.
    """
    row = await conn.fetchrow(
        """UPDATE streams s SET state = 'live', content_type = $2, song = NULL,
               started_at = coalesce(s.started_at, now()), updated_at = now()
           FROM (SELECT id, started_at FROM streams WHERE id = $1 AND state <> 'ended' FOR UPDATE) AS was
           WHERE s.id = was.id
           RETURNING was.started_at IS NULL AS first, s.started_at, s.owner_id, s.visibility, s.room_id, s.slug,
                     s.title, s.category""",
        stream_id,
        content_type,
    )
    if row is None:
        return False
    followers = row["visibility"] == "public"
    target = row["owner_id"] if followers else row["room_id"]
    if row["first"] and row["visibility"] != "unlisted" and target is not None:
        data = {"stream_id": stream_id} | {
            each: row[each] for each in ("slug", "title", "category", "room_id")
        }
        key = f"stream:{stream_id}:{int(row['started_at'].timestamp())}"
        audience: outbox.Audience = "followers" if followers else "room"
        await outbox.put(conn, Event("stream_started", target, row["owner_id"], key, data, audience))
    return True


async def interrupted(conn: Any, stream_id: int) -> bool:
    """The source dropped. False: the stream was not live."""
    done = await conn.execute(
        "UPDATE streams SET state = 'interrupted', updated_at = now() WHERE id = $1 AND state = 'live'",
        stream_id,
    )
    return bool(done != "UPDATE 0")


async def ended(conn: Any, stream_id: int) -> bool:
    """The stream is over, for good. False: it was already, or is gone. Open recordings count as closed."""
    done = await conn.execute(
        """UPDATE streams SET state = 'ended', ended_at = now(), song = NULL, updated_at = now()
           WHERE id = $1 AND state <> 'ended'""",
        stream_id,
    )
    await conn.execute(
        "UPDATE stream_recordings SET closed_at = now() WHERE stream_id = $1 AND closed_at IS NULL", stream_id
    )
    return bool(done != "UPDATE 0")


async def song(conn: Any, stream_id: int, text: str | None) -> None:
    """What is playing, as the source tells it; at most 500 characters."""
    await conn.execute("UPDATE streams SET song = $2 WHERE id = $1 AND state = 'live'", stream_id, text)


async def on_air(conn: Any) -> list[Mount]:
    """For a server that starts: no source survived the last one, so `live` streams become `interrupted`; all those."""
    await conn.execute("UPDATE streams SET state = 'interrupted', updated_at = now() WHERE state = 'live'")
    return [Mount(*row) for row in await conn.fetch(f"{_MOUNT} WHERE s.state = 'interrupted' ORDER BY s.id")]


async def add_minute(conn: Any, stream_id: int, minute: datetime, listeners: int) -> None:
    """The most listeners of a minute (its beginning); told twice, the larger number stays."""
    await conn.execute(
        """INSERT INTO stream_minutes (stream_id, minute, listeners)
           SELECT id, date_trunc('minute', $2::timestamptz), $3 FROM streams WHERE id = $1
           ON CONFLICT (stream_id, minute) DO UPDATE SET listeners = greatest(stream_minutes.listeners, $3)""",
        stream_id,
        minute,
        listeners,
    )


async def count_up(
    conn: Any, stream_id: int, *, peak: int, listeners: int, listened_s: int, bytes_in: int
) -> None:
    """Add what happened since it was last told: new listeners, seconds heard, bytes of the source. `peak` is a number
    listening at once, and only ever raises the one stored."""
    await conn.execute(
        """UPDATE streams SET peak_listeners = greatest(peak_listeners, $2), listener_count = listener_count + $3,
               listened_s = listened_s + $4, bytes_in = bytes_in + $5 WHERE id = $1""",
        stream_id,
        peak,
        listeners,
        listened_s,
        bytes_in,
    )


# Recordings --------------------------------------------------------------------------------------


async def recording_opened(conn: Any, stream_id: int, filename: str, content_type: str) -> int | None:
    """A row for a file that will be written; its id, None if the stream is gone. Before the file is: a row without a
    file is dropped later, a file without a row would be lost."""
    made = await conn.fetchval(
        "INSERT INTO stream_recordings (stream_id, filename, content_type)"
        " SELECT id, $2, $3 FROM streams WHERE id = $1 RETURNING id",
        stream_id,
        filename,
        content_type,
    )
    return None if made is None else int(made)


async def recording_closed(conn: Any, recording_id: int) -> None:
    await conn.execute(
        "UPDATE stream_recordings SET closed_at = coalesce(closed_at, now()) WHERE id = $1", recording_id
    )


async def recordings_to_keep(conn: Any, stream_id: int) -> list[Recording]:
    """The recordings of a stream that has ended which are no tracks yet, oldest first."""
    rows = await conn.fetch(
        f"{_RECORDING} WHERE r.stream_id = $1 AND r.track_id IS NULL AND s.state = 'ended' ORDER BY r.id",
        stream_id,
    )
    return [Recording(*row) for row in rows]


async def streams_with_recordings(conn: Any) -> list[int]:
    """The streams that have ended and have recordings which are no tracks yet, the oldest first."""
    rows = await conn.fetch(
        "SELECT DISTINCT r.stream_id FROM stream_recordings r JOIN streams s ON s.id = r.stream_id"
        " WHERE r.track_id IS NULL AND s.state = 'ended' ORDER BY r.stream_id"
    )
    return [row[0] for row in rows]


async def recording_kept(conn: Any, recording_id: int, track_id: int) -> None:
    """The recording is this track now: for the transaction that makes the track, which fails with it.

    Raises:
        AlreadyKept: it is a track already, or gone.
    """
    done = await conn.execute(
        "UPDATE stream_recordings SET track_id = $2, closed_at = coalesce(closed_at, now())"
        " WHERE id = $1 AND track_id IS NULL",
        recording_id,
        track_id,
    )
    if done == "UPDATE 0":
        raise AlreadyKept


async def waiting_files(conn: Any, stream_id: int) -> set[str] | None:
    """The names of the files of a stream's recordings that are no tracks yet; None while it may still be recorded."""
    state = await conn.fetchval("SELECT state FROM streams WHERE id = $1", stream_id)
    if state not in (None, "ended"):
        return None
    rows = await conn.fetch(
        "SELECT filename FROM stream_recordings WHERE stream_id = $1 AND track_id IS NULL", stream_id
    )
    return {row[0] for row in rows}


async def recording_dropped(conn: Any, recording_id: int) -> None:
    """Nothing could be made of it."""
    await conn.execute("DELETE FROM stream_recordings WHERE id = $1 AND track_id IS NULL", recording_id)
