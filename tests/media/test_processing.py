"""Tracks are processed by children that may die at any moment, on a queue that outlives the server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import msgspec
import pytest
import trio

from tests.media.conftest import STOP_TIMEOUT, Open, Studio
from tests.media.inputs import Inputs
from veza.actors.processing import Bench, ProcessingActor
from veza.db.media_jobs import Job
from veza.media import processing as processing_media

BOUND = 120  # seconds


@pytest.fixture
def slow(inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose workers begin and then wait for `let_on`."""
    monkeypatch.setattr(processing_media, "_WORKER", "tests.media.gated_worker")
    return inputs["mp3_tiny"]


def let_on(studio: Studio) -> None:
    (studio.library.tracks / "gate").touch()


def workers() -> dict[int, str]:
    """The children at work, whoever's: pid → command line."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # gone meanwhile
            continue
        if "media.gated_worker" in line or "veza.media.worker" in line:
            found[int(path.parent.name)] = line
    return found


def at_work_on(studio: Studio, name: str) -> int | None:
    """The pid of the child that has this track's file."""
    original = str(studio.library.track(name))
    return next((pid for pid, line in workers().items() if original in line), None)


async def until_at_work(studio: Studio, name: str, *, but: int | None = None) -> int:
    while True:
        pid = at_work_on(studio, name)
        if pid is not None and pid != but:
            return pid
        await trio.sleep(0.01)


async def until_made(studio: Studio) -> None:
    """Wait until a worker has written something."""
    while not list(studio.library.incoming.glob("work-*/hls/*/*")):  # noqa: ASYNC110 - of the disk
        await trio.sleep(0.01)


async def at_leisure(studio: Studio) -> None:
    """Wait until nobody is at work: then everything is told and counted that is stored."""
    while studio.processing.running:  # noqa: ASYNC110 - of the database's answer
        await trio.sleep(0.01)


async def test_a_track_is_made_ready(studio: Studio, inputs: Inputs) -> None:
    with trio.fail_after(BOUND):
        brought = await studio.bring(inputs["mp3_tagged"], title="given", filename="given.mp3")
        track = await studio.until(brought.id, "ready", "failed")
        await at_leisure(studio)
    assert track.status == "ready" and track.failure is None
    assert (track.title, track.artist, track.album, track.genre) == (
        "A Swelling Chord",
        "The Tests",
        "Inputs",
        "Drone",
    )
    assert (track.codec, track.sample_rate, track.channels, track.lossless) == ("mp3", 44100, 2, False)
    assert track.duration_ms is not None and 950 <= track.duration_ms <= 1050
    assert track.loudness_lufs == pytest.approx(-15.35, abs=0.3)
    assert track.has_cover and track.has_hls
    peaks = msgspec.json.decode(studio.library.peaks(track.name).read_bytes())
    assert len(peaks["min"]) == len(peaks["max"]) == peaks["points"] == 1800
    assert studio.library.cover(track.name).read_bytes()[8:12] == b"WEBP"
    assert (studio.library.hls(track.name) / "master.m3u8").exists()
    assert (await studio.job(track.id))["status"] == "done"
    assert studio.leftovers() == []
    assert {(said["kind"], said["track_id"], said["to"]) for said in studio.heard} == {
        ("track_progress", track.id, (studio.owner_id,))
    }
    assert await studio.told(track.id) == {
        "track_id": track.id,
        "title": "A Swelling Chord",
        "status": "ready",
    }
    assert studio.processing.tally.done == 1 and studio.processing.tally.media_seconds > 0.9


async def test_what_the_uploader_said_counts_more_than_the_file(studio: Studio, inputs: Inputs) -> None:
    with trio.fail_after(BOUND):
        brought = await studio.bring(inputs["opus"], title="Mine", artist="Me", filename="theirs.opus")
        track = await studio.until(brought.id, "ready", "failed")
    assert (track.title, track.artist, track.album) == ("Mine", "Me", "Inputs")


async def test_a_file_that_cannot_be_decoded_fails_at_once_with_the_reason(
    studio: Studio, inputs: Inputs
) -> None:
    with trio.fail_after(BOUND):
        brought = await studio.bring(inputs["header_only"])
        track = await studio.until(brought.id, "ready", "failed")
    assert (track.status, track.failure) == ("failed", "Nothing in this file can be decoded.")
    assert (await studio.job(track.id))["tries"] == 1
    told = await studio.told(track.id)
    assert told["status"] == "failed" and "decoded" in told["reason"]
    assert studio.leftovers() == [] and not studio.library.hls(track.name).exists()


async def test_a_killed_child_is_followed_by_another(studio: Studio, slow: Path) -> None:
    with trio.fail_after(BOUND):
        brought = await studio.bring(slow)
        first = await until_at_work(studio, brought.name)
        await until_made(studio)
        os.kill(first, signal.SIGKILL)
        await until_at_work(studio, brought.name, but=first)
        let_on(studio)
        await studio.until(brought.id, "ready")
    job = await studio.job(brought.id)
    assert (job["status"], job["tries"]) == ("done", 1)
    assert studio.leftovers() == []


async def test_three_children_and_no_more(studio: Studio, slow: Path) -> None:
    killed = 0
    last = None
    with trio.fail_after(BOUND):
        brought = await studio.bring(slow)
        while killed < 3:
            last = await until_at_work(studio, brought.name, but=last)
            os.kill(last, signal.SIGKILL)
            killed += 1
        track = await studio.until(brought.id, "failed")
    assert track.failure is not None and "3 tries" in track.failure
    assert (await studio.job(brought.id))["tries"] == 3
    assert at_work_on(studio, brought.name) is None and studio.leftovers() == []


async def test_a_child_that_hangs_is_killed(
    studio: Studio, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing_media, "SILENCE", 0.5)
    (studio.library.tracks / "deaf").touch()  # to everything but the end
    with trio.fail_after(BOUND):
        brought = await studio.bring(slow)
        track = await studio.until(brought.id, "failed")
    assert track.failure is not None and "too long" in track.failure
    assert at_work_on(studio, brought.name) is None


async def test_deleting_the_track_kills_its_child(studio: Studio, slow: Path) -> None:
    with trio.fail_after(BOUND):
        brought = await studio.bring(slow)
        pid = await until_at_work(studio, brought.name)
        await until_made(studio)
        await studio.sql("DELETE FROM tracks WHERE id = $1", brought.id)
        studio.processing.cancel(brought.id)
        studio.library.remove_track(brought.name)
        while pid in workers() or studio.leftovers() or studio.processing.running:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert not studio.library.track(brought.name).exists()
    assert studio.processing.tally.tries_failed == studio.processing.tally.failed == 0


async def test_a_server_that_stops_kills_its_children_and_the_next_one_begins_anew(
    open_studio: Open, slow: Path
) -> None:
    with trio.fail_after(BOUND):
        async with open_studio() as first:
            brought = await first.bring(slow)
            pid = await until_at_work(first, brought.name)
            await until_made(first)
            began = trio.current_time()
        assert trio.current_time() - began < STOP_TIMEOUT / 2 and pid not in workers()
        let_on(first)
        async with open_studio() as second:
            await second.until(brought.id, "ready")
            job = await second.job(brought.id)
    assert (job["status"], job["tries"]) == ("done", 0)


async def test_what_a_killed_server_left_runs_again(open_studio: Open, inputs: Inputs) -> None:
    """Such a one leaves a job that says it is running, and half of its files."""
    with trio.fail_after(BOUND):
        async with open_studio() as first:
            first.processing.close()
            brought = await first.bring(inputs["mp3_tiny"])
            await first.sql("UPDATE media_jobs SET status = 'running', started_at = now()")
            (first.library.incoming / "work-0123456789abcdef" / "hls").mkdir(parents=True)
            (first.library.incoming / "work-0123456789abcdef" / "hls" / "0.m4s").write_bytes(b"half")
        async with open_studio() as second:
            await second.until(brought.id, "ready")
            job = await second.job(brought.id)
            assert second.leftovers() == []
    assert (job["status"], job["tries"]) == ("done", 0)


async def test_no_more_children_than_allowed(
    open_studio: Open, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 0

    def take_place(self: Bench, job: Job) -> None:
        nonlocal most
        real(self, job)
        most = max(most, len(self))

    real = Bench.take_place
    monkeypatch.setattr(Bench, "take_place", take_place)
    with trio.fail_after(BOUND):
        async with open_studio(workers=2) as studio:
            brought = [await studio.bring(slow) for _ in range(3)]
            while studio.processing.running < 2:  # noqa: ASYNC110 - of the database
                await trio.sleep(0.005)
            let_on(studio)
            for track in brought:
                await studio.until(track.id, "ready")
    assert most == 2


async def test_a_crash_of_the_actor_loses_no_job(
    studio: Studio, slow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ProcessingActor._look

    def crash(self: ProcessingActor) -> None:
        monkeypatch.setattr(ProcessingActor, "_look", real)
        raise RuntimeError("for the test")

    with trio.fail_after(BOUND):
        first = await studio.bring(slow)
        await until_at_work(studio, first.name)
        monkeypatch.setattr(ProcessingActor, "_look", crash)
        second = await studio.bring(slow)  # whose waking crashes it
        let_on(studio)
        await studio.until(first.id, "ready")
        await studio.until(second.id, "ready")
    assert studio.system.inspect("media/processing").restarts == 1
    assert (await studio.job(first.id))["tries"] == 0


async def test_a_full_disk_is_waited_out(
    open_studio: Open, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processing_media, "_WORKER", "tests.media.worker_on_full_disk")
    with trio.fail_after(BOUND):
        async with open_studio(again=(3600.0,)) as studio:
            brought = await studio.bring(inputs["mp3_tiny"])
            while (job := await studio.job(brought.id))["error"] is None:  # noqa: ASYNC110 - of the child
                await trio.sleep(0.01)
            assert (job["status"], job["tries"], job["error"]) == ("queued", 1, "the disk is full")
            monkeypatch.setattr(processing_media, "_WORKER", "veza.media.worker")
            await studio.sql("UPDATE media_jobs SET run_after = now()")  # an hour later
            await at_leisure(studio)
            studio.processing.wake()
            assert (await studio.until(brought.id, "ready", "failed")).status == "ready"
