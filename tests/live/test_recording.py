"""Recordings: the file is what the source sent, closed when the stream ends, and playable whatever happens."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from tests.live.conftest import Air, OnAir
from tests.live.radio import Source, basic, decoded, mp3, until
from tests.media.inputs import Inputs, ffmpeg
from veza.actors.streams import recorder
from veza.actors.streams.messages import GraceOver


async def _recordings(air: Air, stream_id: int) -> list[Any]:
    return await air.house.sql("SELECT * FROM stream_recordings WHERE stream_id = $1 ORDER BY id", stream_id)


def _files(air: Air, stream_id: int) -> list[Path]:
    return sorted(air.house.app.services.library.recordings_of(stream_id).iterdir())


@pytest.fixture
def unkept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was recorded stays where it is: making tracks of it is another matter."""
    from veza.actors.streams import Streams

    monkeypatch.setattr(Streams, "on_ended", lambda self, listener: None)


@pytest.mark.usefixtures("unkept")
async def test_a_recording_is_what_the_source_sent_over_all_its_connections(air: Air) -> None:
    stream = await air.stream(record=True)
    source = await air.source(stream)
    await source.send(mp3(10, 40))
    await source.close()
    await air.is_(stream, "interrupted")
    source = await air.source(stream, sound=mp3(50, 50))
    await source.send(b"garbage between frames" + mp3(100, 10))
    await source.close()
    await air.is_(stream, "interrupted")
    await air.end(stream)
    [row] = await _recordings(air, stream.id)
    assert row["content_type"] == "audio/mpeg"
    assert row["closed_at"] is not None
    [file] = _files(air, stream.id)
    assert file.name == row["filename"]
    assert file.suffix == ".mp3"
    assert file.read_bytes() == mp3(0, 110)
    minutes = await air.house.sql("SELECT * FROM stream_minutes WHERE stream_id = $1", stream.id)
    assert len(minutes) >= 1


@pytest.mark.usefixtures("unkept")
async def test_webm_of_two_connections_is_two_recordings(air: Air, inputs: Inputs) -> None:
    stream = await air.stream(record=True)
    webm = inputs["webm_audio"].read_bytes()
    for _ in range(2):
        source = await air.source(stream, sound=webm, kind="video/webm")
        await source.close()
        await air.is_(stream, "interrupted")
    await air.end(stream)
    files = _files(air, stream.id)
    assert len(files) == 2
    assert len(await _recordings(air, stream.id)) == 2
    for file in files:
        assert 1.9 < await decoded(ffmpeg(), file.read_bytes()) < 2.2


@pytest.mark.usefixtures("unkept")
@pytest.mark.parametrize("full", [True, False], ids=["full", "down to the reserve"])
async def test_a_disk_that_is_full_ends_the_recording_and_nothing_else(
    air: Air, monkeypatch: pytest.MonkeyPatch, full: bool
) -> None:
    def refuse(file: int, data: bytes, sync: bool, reserve: int) -> None:
        raise OSError(28, "No space left on device")

    if full:
        monkeypatch.setattr(recorder, "_write", refuse)
    else:
        monkeypatch.setattr(recorder.os, "fstatvfs", lambda file: SimpleNamespace(f_bavail=1, f_frsize=4096))
    stream = await air.stream(record=True)
    source = await air.source(stream)
    listener = await air.listener(stream.path)

    def stopped() -> bool:
        summary = air.house.app.core.system.inspect(f"streams/{stream.id}").summary
        return not summary["recording"]

    await until(stopped)
    await source.send(mp3(10, 10))
    assert await listener.hear_until(mp3(19, 1)) == mp3(0, 20)
    await air.end(stream)
    assert (await air.stored(stream, "ended"))["ended_at"] is not None


async def test_a_server_that_goes_says_goodbye_to_listeners_and_closes_its_recordings(on_air: OnAir) -> None:
    async with on_air() as air:
        stream = await air.stream(record=True)
        source = await air.source(stream)
        listener = await air.listener(stream.path)
        await source.send(mp3(10, 20))
        await listener.hear_until(mp3(29, 1))
        directory = air.house.app.services.library.recordings_of(stream.id)
        await until(lambda: directory.exists() and sum(f.stat().st_size for f in directory.iterdir()) > 0)
        heard = bytearray()

        async def listen() -> None:
            heard.extend(await listener.hear_all())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            nursery.start_soon(air.streams.close)
        assert bytes(heard) == mp3(0, 30)
        [file] = directory.iterdir()
        assert file.read_bytes() == mp3(0, 30)
        row = await air.stored(stream, "interrupted")
        assert row["ended_at"] is None
        [recording] = await _recordings(air, stream.id)
        assert recording["closed_at"] is not None
        late = Source(await air.dial())
        await late.begin(stream.path, f"Authorization: {basic(stream.key)}", "Expect: 100-continue")
        assert (await late.reply()).status == 503


@pytest.mark.usefixtures("unkept")
async def test_what_was_recorded_so_far_is_playable_at_any_moment(air: Air, inputs: Inputs) -> None:
    sound = inputs["mp3_bare"].read_bytes()
    stream = await air.stream(record=True)
    await air.source(stream, sound=sound)
    directory = air.house.app.services.library.recordings_of(stream.id)
    # While the source is still there, nothing being closed: as a server that is killed leaves it.
    await until(
        lambda: directory.exists() and any(f.stat().st_size > len(sound) - 2000 for f in directory.iterdir())
    )
    [file] = directory.iterdir()
    assert 1.8 < await decoded(ffmpeg(), file.read_bytes()) < 2.2


async def test_a_server_that_starts_waits_for_the_sources_of_the_last_one(on_air: OnAir) -> None:
    async with on_air(stream_grace=60.0) as air:
        back, away = await air.stream(), await air.stream()
        await air.house.sql(
            "UPDATE streams SET state = 'live', content_type = 'audio/mpeg', started_at = now() WHERE id = ANY ($1)",
            [back.id, away.id],
        )
    async with on_air(stream_grace=3600.0) as air:
        await air.is_(away, "interrupted")
        source = await air.source(back, sound=mp3(0, 20))
        listener = await air.listener(back.path)
        assert await listener.hear_until(mp3(19, 1)) == mp3(0, 20)
        # Who has come back has, whenever the time would be over; for the other it begins anew, and is short.
        air.streams.ref(back.id).answer(GraceOver(0))
        air.change(stream_grace=0.1)
        air.house.app.core.system.restart(f"streams/{away.id}")
        await air.stored(away, "ended")
        await source.send(mp3(20, 20))
        assert await listener.hear_until(mp3(39, 1)) == mp3(0, 40)
        await air.stored(back, "live")
