"""What was recorded becomes a track, once: whatever it is, whoever fails, and wherever a process is killed."""

from __future__ import annotations

import base64
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.cli.conftest import Veza, serving
from tests.social.conftest import refused
from tests.streams.conftest import KEY, Make, Studio, trusting
from tests.tracks.wire import ask
from veza.actors import recordings, track_intake
from veza.actors.recordings import Keeper, Recordings, title_of
from veza.actors.track_intake import sweep
from veza.app import Core
from veza.db import stream_lists, track_lists, tracks
from veza.db import streams as streams_db
from veza.db.errors import OutcomeUnknown, Unavailable
from veza.db.lock import SERVER_LOCK
from veza.db.pool import Database
from veza.db.streams import Recording, Stream
from veza.db.tracks import Track
from veza.media.checking import Checked, NotMedia
from veza.media.library import Library


@pytest.fixture
async def library(tmp_path: Path) -> Library:
    library = Library(tmp_path)
    await trio.to_thread.run_sync(library.prepare)
    return library


@pytest.fixture
def recorded(db: Database, library: Library, make_stream: Make) -> Callable[..., Awaitable[Stream]]:
    """A stream that has ended, and files that were recorded of it."""

    async def make(*contents: bytes | None, ended: bool = True, **fields: Any) -> Stream:
        stream = await make_stream(**fields)
        directory = library.recordings_of(stream.id)
        directory.mkdir()
        for number, content in enumerate(contents, 1):
            await db.write(streams_db.recording_opened, stream.id, f"r{number}.mp3", "audio/mpeg")
            if content is not None:
                (directory / f"r{number}.mp3").write_bytes(content)
        if ended:
            await db.write(streams_db.ended, stream.id)
        return stream

    return make


Recorded = Callable[..., Awaitable[Stream]]


async def tracks_of(db: Database, owner_id: int) -> list[Track]:
    page = await db.read(track_lists.mine, owner_id, None, 50, 0)
    return sorted(page.tracks, key=lambda track: track.id)


async def days_of(db: Database, stream_id: int) -> list[str]:
    """The days on which its recordings began, the first one first."""
    rows = await db.read(stream_lists.recordings, stream_id)
    return [f"{row.started_at:%Y-%m-%d}" for row in rows[::-1]]


async def until(ask: Callable[[], Awaitable[Any]]) -> Any:
    """What it answers as soon as that is something. Of another process, or of a task that tells nobody."""
    while True:
        if found := await ask():
            return found
        await trio.sleep(0.02)


def content(library: Library, track: Track) -> bytes:
    return library.original(track.name, track.extension).read_bytes()


# What becomes of a broadcast -------------------------------------------------------------------------


async def test_a_broadcast_that_was_recorded_is_a_track_when_it_ends(studio: Studio, song: bytes) -> None:
    me = await studio.person()
    made = await studio.stream(me, title="Late show", record=True)
    source = await studio.source(made["id"], song[:10_000])
    await source.pour(song[10_000:])
    assert await tracks_of(studio.db, me.id) == [], "not before"
    await studio.post(f"/streams/{made['id']}/end", me)
    assert await studio.recordings.finished(made["id"]) == 0
    (track,) = await tracks_of(studio.db, me.id)
    (day,) = await days_of(studio.db, made["id"])
    assert track.title == f"Late show — {day}"
    assert (track.artist, track.is_public, track.stream_id) == (me.username, True, made["id"])
    assert (track.status, track.content_type, track.extension) == ("processing", "audio/mpeg", "mp3")
    assert content(studio.library, track) == song, "every byte of it, from the first frame on"
    assert not studio.library.recordings_of(made["id"]).exists()
    (row,) = (await studio.get(f"/streams/{made['id']}/stats", me)).data["recordings"]
    assert row["track_id"] == track.id and row["closed_at"] is not None
    assert (await studio.delete(f"/streams/{made['id']}", me)).status == 200
    (kept,) = await tracks_of(studio.db, me.id)
    assert (kept.id, kept.stream_id) == (track.id, None), "who deletes the stream keeps the track"


async def test_who_deletes_a_stream_on_air_keeps_what_was_recorded(studio: Studio, song: bytes) -> None:
    me = await studio.person()
    made = await studio.stream(me, visibility="unlisted", record=True)
    await studio.source(made["id"], song)
    assert (await studio.delete(f"/streams/{made['id']}", me)).status == 200
    (track,) = await tracks_of(studio.db, me.id)
    assert content(studio.library, track) == song and not track.is_public


async def test_titles(db: Database, library: Library, recorded: Recorded) -> None:
    stream = await recorded(b"1", b"2", title="x" * 200, visibility="private")
    assert await Keeper(db, library, check=trusting).keep(stream.id) == 0
    first, second = await tracks_of(db, stream.owner_id)
    one_day, other_day = await days_of(db, stream.id)
    assert first.title == "x" * (200 - len(" — 2026-01-02")) + f" — {one_day}"
    assert second.title == "x" * (200 - len(" — 2026-01-02 (2)")) + f" — {other_day} (2)"
    assert not first.is_public
    assert [content(library, first), content(library, second)] == [b"1", b"2"]
    at = datetime(2026, 1, 2, 23, 59, tzinfo=UTC)
    one = Recording(1, 1, "a.mp3", "audio/mpeg", at, at, 1, "me", "Morning  ", True, 1)
    assert title_of(one) == "Morning — 2026-01-02"


async def test_what_is_empty_missing_or_no_media_is_dropped(
    db: Database, library: Library, recorded: Recorded, song: bytes
) -> None:
    """Really looked into: by the child that looks into uploads."""
    stream = await recorded(b"", None, b"<html>" * 100, song)
    (library.recordings_of(stream.id) / "stray.tmp").write_bytes(b"nobody's")
    assert await Keeper(db, library).keep(stream.id) == 0
    (track,) = await tracks_of(db, stream.owner_id)
    assert content(library, track) == song
    assert not library.recordings_of(stream.id).exists()
    assert await db.read(streams_db.recordings_to_keep, stream.id) == []


async def test_one_refusal_may_be_an_accident(db: Database, library: Library, recorded: Recorded) -> None:
    stream = await recorded(b"good")
    asked = 0

    async def check(path: Path) -> Checked:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise NotMedia("The machine was busy.")
        return await trusting(path)

    await Keeper(db, library, check=check).keep(stream.id)
    assert len(await tracks_of(db, stream.owner_id)) == 1


async def test_while_the_source_may_come_back_nothing_is_touched(
    db: Database, library: Library, recorded: Recorded
) -> None:
    stream = await recorded(b"first half", ended=False)
    await db.write(streams_db.went_live, stream.id, "audio/mpeg")
    await db.write(streams_db.interrupted, stream.id)
    keeper = Keeper(db, library, check=trusting)
    assert await keeper.keep(stream.id) == 0
    assert stream.id not in await keeper.left()
    assert (library.recordings_of(stream.id) / "r1.mp3").read_bytes() == b"first half"
    assert await tracks_of(db, stream.owner_id) == []


async def test_without_room_for_a_track_it_waits(studio: Studio, song: bytes) -> None:
    me = await studio.person()
    most = studio.api.services.settings.tracks_owned_max
    await studio.sql(
        "INSERT INTO tracks (owner_id, name, title, extension, content_type, size)"
        " SELECT $1::bigint, 'f' || $1 || '-' || n, 'x', 'mp3', 'audio/mpeg', 1 FROM generate_series(1, $2::int) n",
        me.id,
        most,
    )
    made = await studio.stream(me, record=True)
    await studio.source(made["id"], song)
    await studio.post(f"/streams/{made['id']}/end", me)
    assert await studio.recordings.finished(made["id"]) == 1
    refused(await studio.delete(f"/streams/{made['id']}", me), 409, "RECORDING_WAITING")
    assert (await studio.get(f"/streams/{made['id']}", me)).status == 200
    await studio.sql("DELETE FROM tracks WHERE owner_id = $1 AND name LIKE '%-2'", me.id)
    assert await studio.recordings.finished(made["id"]) == 0
    assert any(track.stream_id == made["id"] for track in await tracks_of(studio.db, me.id))
    other = await studio.stream(me, record=True)
    await studio.source(other["id"], song)
    assert (await studio.delete(f"/streams/{other['id']}?discard=true", me)).status == 200
    assert not studio.library.recordings_of(other["id"]).exists()


# The actor -----------------------------------------------------------------------------------------


async def test_a_start_does_what_is_left_and_what_fails_is_tried_again(
    core: Core, library: Library, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "AGAIN", 0.01)
    stream = await recorded(b"left behind")
    orphan = library.recordings_of(2**40)
    orphan.mkdir()
    (orphan / "of a deleted stream.mp3").write_bytes(b"x")
    asked = trio.Event()
    tries = 0

    async def check(path: Path) -> Checked:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("no child could be started")
        asked.set()
        return await trusting(path)

    Recordings(core.system.supervisor("recordings"), Keeper(core.db, library, check=check))
    with trio.fail_after(30):
        await asked.wait()
        await until(lambda: tracks_of(core.db, stream.owner_id))
    assert not orphan.exists()


async def test_who_asks_during_the_work_is_answered_by_another_look(
    core: Core, library: Library, recorded: Recorded
) -> None:
    stream = await recorded(b"one")
    looking, go_on = trio.Event(), trio.Event()

    async def check(path: Path) -> Checked:
        looking.set()
        await go_on.wait()
        return await trusting(path)

    keeper = Recordings(core.system.supervisor("recordings"), Keeper(core.db, library, check=check))
    with trio.fail_after(30):
        await looking.wait()
        (library.recordings_of(stream.id) / "r9.mp3").write_bytes(b"nine")
        await core.db.write(streams_db.recording_opened, stream.id, "r9.mp3", "audio/mpeg")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper.finished, stream.id)
            await trio.testing.wait_all_tasks_blocked()
            go_on.set()
    assert len(await tracks_of(core.db, stream.owner_id)) == 2


async def test_a_database_that_is_away_is_said_to_who_waits(
    core: Core, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(core.db, library, check=trusting)

    async def away(stream_id: int) -> int:
        await trio.lowlevel.checkpoint()
        raise Unavailable("away")

    monkeypatch.setattr(keeper, "keep", away)
    found = Recordings(core.system.supervisor("recordings"), keeper)
    with pytest.raises(Unavailable):
        await found.finished(1)


# Killed -------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process is no more: nothing it would still do happens."""


class Mortal:
    """Counts the steps of the work, before and behind each, and dies at one of them."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.dead = False

    def step(self) -> None:
        self.left -= 1
        self.dead = self.dead or self.left < 0
        if self.dead:
            raise Killed

    def wrap(self, fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = await fn(*args, **kwargs)
            self.step()
            return result

        return run


async def test_killed_at_any_step_it_is_one_track_all_the_same(
    db: Database, library: Library, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read, write = trio.to_thread.run_sync, db.read, db.write
    deaths = 0
    for at in range(100):
        stream = await recorded(b"precious %d" % at, b"")
        mortal = Mortal(at)
        with monkeypatch.context() as patch:
            patch.setattr(trio.to_thread, "run_sync", mortal.wrap(real))
            patch.setattr(db, "read", mortal.wrap(read))
            patch.setattr(db, "write", mortal.wrap(write))
            for module in (recordings, track_intake):
                assert module.trio is trio
            try:
                await Keeper(db, library, check=trusting).keep(stream.id)
            except Killed:
                deaths += 1
        # The next process.
        keeper = Keeper(db, library, check=trusting)
        if stream.id in await keeper.left():
            assert await keeper.keep(stream.id) == 0
        assert stream.id not in await keeper.left()
        found = await tracks_of(db, stream.owner_id)
        assert [content(library, track) for track in found] == [b"precious %d" % at], f"killed at step {at}"
        assert not library.recordings_of(stream.id).exists()
        await sweep(db, library, older_than=-10)
        assert len(list(library.tracks.iterdir())) == at + 1, "no files of tracks that never were"
        if not mortal.dead:
            break
    assert deaths > 15


@pytest.mark.parametrize("stored", [True, False])
async def test_a_commit_nobody_can_tell_of_is_asked_about(
    db: Database, library: Library, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    stream = await recorded(b"precious")
    write = db.write

    async def lost(unit: Any, *args: Any, **kwargs: Any) -> Any:
        if unit is not tracks.create:
            return await write(unit, *args, **kwargs)
        if stored:
            await write(unit, *args, **kwargs)
        raise OutcomeUnknown("the line broke")

    keeper = Keeper(db, library, check=trusting)
    with monkeypatch.context() as patch:
        patch.setattr(db, "write", lost)
        with pytest.raises(OutcomeUnknown):
            await keeper.keep(stream.id)
    assert await keeper.keep(stream.id) == 0
    found = await tracks_of(db, stream.owner_id)
    assert [content(library, track) for track in found] == [b"precious"]
    assert not library.recordings_of(stream.id).exists()


async def test_the_server_is_killed_while_it_records(
    tmp_path: Path, db: Database, database_url: str, make_stream: Make, song: bytes
) -> None:
    """Up to then it can be played after the restart."""
    veza = Veza(tmp_path, DATABASE_URL=database_url, STREAM_GRACE="0s")
    stream = await make_stream(record=True, title="Cut short")
    files = Library(tmp_path / "data").recordings_of(stream.id)
    with trio.fail_after(180):
        async with serving(veza) as server:
            line = await trio.open_tcp_stream("127.0.0.1", server.port)
            credentials = base64.b64encode(f"source:{KEY}".encode()).decode()
            await line.send_all(
                f"PUT /live/{stream.slug} HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {credentials}\r\n"
                "Content-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            )
            await line.send_all(f"{len(song):x}\r\n".encode() + song + b"\r\n")
            await until(lambda: trio.to_thread.run_sync(_has, files, len(song)))
            await server.end(signal.SIGKILL)
            await line.aclose()
        assert await tracks_of(db, stream.owner_id) == []
        # PostgreSQL hears of the death when it gets to it; a server waits three seconds for another's end, no longer.
        await until(lambda: db.read(_nobodys))
        async with serving(veza) as server:
            (track,) = await until(lambda: tracks_of(db, stream.owner_id))
            assert track.title.startswith("Cut short — ")
            assert content(Library(tmp_path / "data"), track) == song
            shown = await ask(server.port, "GET", f"/api/v1/streams/{stream.id}")
            assert shown.data["state"] == "ended"
            # Tidied up behind the commit that made the track.
            await until(lambda: trio.to_thread.run_sync(lambda: not files.exists()))
        assert len(await tracks_of(db, stream.owner_id)) == 1


async def _nobodys(conn: Any) -> bool:
    """Is the database no server's?"""
    free: bool = await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", SERVER_LOCK)
    return free


def _has(directory: Path, size: int) -> bool:
    return directory.exists() and any(file.stat().st_size == size for file in directory.iterdir())
