"""What the rows of streams promise: who races, agrees; what has ended, stays so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.streams.conftest import KEY, Make
from veza.db import rooms as rooms_db
from veza.db import streams as streams_db
from veza.db.errors import Conflict
from veza.db.pool import Database
from veza.security.stream_keys import hash_of


async def _state(db: Database, stream_id: int) -> str:
    stream = await db.read(streams_db.by_id, stream_id)
    assert stream is not None
    return stream.state


async def test_a_new_stream_has_a_chat_room_of_its_kind(db: Database, make_stream: Make) -> None:
    for visibility, kind in (("public", "public"), ("unlisted", "private"), ("private", "private")):
        stream = await make_stream(visibility=visibility)
        assert (stream.state, stream.started_at, stream.content_type) == ("created", None, None)
        assert stream.room_id is not None
        loaded = await db.read(rooms_db.load, stream.room_id)
        assert loaded is not None
        assert (loaded.room.kind, loaded.room.name) == (kind, f"stream-{stream.slug}")
        assert [(m.user_id, m.role) for m in loaded.members] == [(stream.owner_id, "owner")]
        assert await db.read(streams_db.by_slug, stream.slug) == stream


async def test_states_go_one_way(db: Database, make_stream: Make) -> None:
    stream = await make_stream()
    assert not await db.write(streams_db.interrupted, stream.id), "it was not live"
    assert await db.write(streams_db.went_live, stream.id, "audio/mpeg")
    live = await db.read(streams_db.by_id, stream.id)
    assert live is not None and (live.state, live.content_type) == ("live", "audio/mpeg")
    await db.write(streams_db.song, stream.id, "Sonata")
    assert await db.write(streams_db.interrupted, stream.id)
    assert await db.write(streams_db.went_live, stream.id, "audio/ogg")
    again = await db.read(streams_db.by_id, stream.id)
    assert again is not None and (again.started_at, again.song) == (live.started_at, None)
    assert await db.write(streams_db.ended, stream.id)
    assert not await db.write(streams_db.ended, stream.id), "once is enough"
    assert not await db.write(streams_db.went_live, stream.id, "audio/ogg"), "it has ended"
    assert not await db.write(streams_db.interrupted, stream.id)
    assert not await db.write(streams_db.set_key, stream.id, b"other")
    assert await _state(db, stream.id) == "ended"


async def test_a_start_finds_no_source(db: Database, make_stream: Make) -> None:
    streams = [await make_stream() for _ in range(4)]
    for stream in streams[1:]:
        await db.write(streams_db.went_live, stream.id, "audio/mpeg")
    await db.write(streams_db.interrupted, streams[2].id)
    await db.write(streams_db.ended, streams[3].id)
    found = {mount.id: mount.state for mount in await db.write(streams_db.on_air)}
    assert {id: found.get(id) for id in (s.id for s in streams)} == {
        streams[0].id: None,
        streams[1].id: "interrupted",
        streams[2].id: "interrupted",
        streams[3].id: None,
    }
    for stream in streams:
        await db.write(streams_db.ended, stream.id)


async def test_a_mount_knows_whose_it_is_and_whether_he_may(db: Database, make_stream: Make) -> None:
    stream = await make_stream(title="Radio", record=True, visibility="unlisted")
    mount = await db.read(streams_db.mount, stream.slug)
    assert mount is not None and mount == await db.read(streams_db.mount_by_id, stream.id)
    assert (mount.id, mount.owner_id, mount.title, mount.record) == (
        stream.id,
        stream.owner_id,
        "Radio",
        True,
    )
    assert (mount.visibility, mount.key_hash, mount.barred) == ("unlisted", hash_of(KEY), False)
    assert mount.key_hash.hex() not in repr(mount)

    async def ban(conn: Any) -> None:
        await conn.execute(
            "UPDATE users SET banned_until = now() + interval '1 h' WHERE id = $1", mount.owner_id
        )

    await db.write(ban)
    barred = await db.read(streams_db.mount, stream.slug)
    assert barred is not None and barred.barred
    assert await db.read(streams_db.mount, "nobodys") is None


async def test_counts_add_up_and_peaks_only_rise(db: Database, make_stream: Make) -> None:
    stream = await make_stream()
    await db.write(streams_db.count_up, stream.id, peak=7, listeners=9, listened_s=100, bytes_in=5_000)
    await db.write(streams_db.count_up, stream.id, peak=3, listeners=1, listened_s=20, bytes_in=500)
    now = await db.read(streams_db.by_id, stream.id)
    assert now is not None
    assert (now.peak_listeners, now.listener_count, now.listened_s, now.bytes_in) == (7, 10, 120, 5_500)
    minute = datetime.now(UTC)
    for count in (4, 6, 5):
        await db.write(streams_db.add_minute, stream.id, minute, count)
    await db.write(streams_db.add_minute, stream.id, minute + timedelta(minutes=1), 2)
    await db.write(streams_db.add_minute, 2**62, minute, 2)  # gone: nothing to count, and no error


async def test_nobody_has_more_streams_than_allowed(db: Database, make_stream: Make) -> None:
    first = await make_stream(most_open=2, most_kept=3)
    owner = first.owner_id
    await make_stream(owner, most_open=2, most_kept=3)
    with pytest.raises(streams_db.TooMany) as many:
        await make_stream(owner, most_open=2, most_kept=3)
    assert not many.value.kept
    await db.write(streams_db.ended, first.id)
    await make_stream(owner, most_open=2, most_kept=3)
    with pytest.raises(streams_db.TooMany) as many:
        await make_stream(owner, most_open=9, most_kept=3)
    assert many.value.kept


async def test_a_slug_is_one_stream(db: Database, make_stream: Make) -> None:
    stream = await make_stream()
    with pytest.raises(Conflict) as taken:
        await make_stream(stream.owner_id, slug=stream.slug)
    assert taken.value.constraint == streams_db.SLUG_TAKEN
    await db.write(rooms_db.create, stream.owner_id, "public", "Stream-squatted-1", None)
    with pytest.raises(Conflict) as taken:
        await make_stream(stream.owner_id, slug="squatted-1")
    assert taken.value.constraint == streams_db.ROOM_NAME_TAKEN
    assert await db.read(streams_db.by_slug, "squatted-1") is None, (
        "neither the stream nor a part of it is stored"
    )


async def test_a_room_that_was_deleted_is_made_again(db: Database, make_stream: Make) -> None:
    stream = await make_stream()
    assert await db.write(streams_db.open_room, stream.id) == stream.room_id

    async def drop(conn: Any) -> None:
        await conn.execute("DELETE FROM rooms WHERE id = $1", stream.room_id)

    await db.write(drop)
    made = await db.write(streams_db.open_room, stream.id)
    assert made is not None and made != stream.room_id
    now = await db.read(streams_db.by_id, stream.id)
    assert now is not None and now.room_id == made
    assert await db.write(streams_db.open_room, 2**62) is None


async def test_recordings_wait_for_the_end_and_become_one_track(db: Database, make_stream: Make) -> None:
    stream = await make_stream(visibility="unlisted", title="Late show")
    first = await db.write(streams_db.recording_opened, stream.id, "a.mp3", "audio/mpeg")
    second = await db.write(streams_db.recording_opened, stream.id, "b.ogg", "audio/ogg")
    assert first is not None and second is not None
    assert await db.write(streams_db.recording_opened, 2**62, "c.mp3", "audio/mpeg") is None
    await db.write(streams_db.recording_closed, first)
    assert await db.read(streams_db.waiting_files, stream.id) is None
    assert stream.id not in await db.read(streams_db.streams_with_recordings)
    assert await db.read(streams_db.recordings_to_keep, stream.id) == [], "its source may come back"
    await db.write(streams_db.ended, stream.id)
    kept = await db.read(streams_db.recordings_to_keep, stream.id)
    assert [(r.id, r.filename, r.title, r.public) for r in kept] == [
        (first, "a.mp3", "Late show", False),
        (second, "b.ogg", "Late show", False),
    ]
    assert all(r.closed_at is not None for r in kept), "who ends the stream closes what is open"
    assert stream.id in await db.read(streams_db.streams_with_recordings)
    assert await db.read(streams_db.waiting_files, stream.id) == {"a.mp3", "b.ogg"}

    async def track(conn: Any) -> int:
        made: int = await conn.fetchval(
            "INSERT INTO tracks (owner_id, name, title, extension, content_type, size)"
            " VALUES ($1, $2, 'x', 'mp3', 'audio/mpeg', 1) RETURNING id",
            stream.owner_id,
            f"t{first}",
        )
        return made

    track_id = await db.write(track)
    await db.write(streams_db.recording_kept, first, track_id)
    with pytest.raises(streams_db.AlreadyKept):
        await db.write(streams_db.recording_kept, first, track_id)
    await db.write(streams_db.recording_dropped, second)
    await db.write(streams_db.recording_dropped, first)  # it is a track: there is nothing to drop
    assert await db.read(streams_db.recordings_to_keep, stream.id) == []
    assert await db.write(streams_db.delete, stream.id)
    assert not await db.write(streams_db.delete, stream.id)
