"""Every container, from the real FFmpeg, by the ways it has: what listeners hear is what was sent, and it decodes."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.live.conftest import Air, OnAir
from tests.live.radio import Stream, broadcast, decoded
from tests.live.test_recording import unkept  # noqa: F401
from tests.media.inputs import Inputs, ffmpeg

# name: input, how it is sent on (copied, not encoded again), what listeners are told it is
CONTAINERS = {
    "MP3": ("mp3_bare", ("-content_type", "audio/mpeg", "-f", "mp3"), "audio/mpeg"),
    "AAC": ("aac", ("-content_type", "audio/aac", "-f", "adts"), "audio/aac"),
    "Ogg Opus": (
        "opus",
        ("-content_type", "audio/ogg", "-f", "ogg", "-page_duration", "100000"),
        "audio/ogg",
    ),
    "Ogg Vorbis": (
        "vorbis",
        ("-content_type", "audio/ogg", "-f", "ogg", "-page_duration", "100000"),
        "audio/ogg",
    ),
    "Ogg FLAC": (
        "flac",
        ("-content_type", "audio/ogg", "-f", "ogg", "-page_duration", "100000"),
        "audio/ogg",
    ),
    "WebM": (
        "webm_audio",
        ("-content_type", "audio/webm", "-f", "webm", "-cluster_time_limit", "200"),
        "webm",
    ),
    "MPEG-TS": ("ts", ("-content_type", "video/mp2t", "-f", "mpegts"), "video/mp2t"),
}


@pytest.mark.usefixtures("unkept")
async def test_ffmpeg_broadcasts_every_container(on_air: OnAir, inputs: Inputs) -> None:
    async def one(air: Air, name: str) -> None:
        key, arguments, kind = CONTAINERS[name]
        stream = await air.stream(record=True)
        source = str(inputs[key])
        target = f"icecast://source:{stream.key}@127.0.0.1:{air.port}{stream.path}"
        done: list[Any] = []

        async def push() -> None:
            done.append(
                await broadcast(ffmpeg(), "-re", "-i", source, "-map", "0", "-c", "copy", *arguments, target)
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(push)
            await air.is_(stream, "live", "interrupted")  # it lasts two seconds
            listener = await air.listener(stream.path)
            assert kind in listener.reply_.headers["content-type"], name
            await air.is_(stream, "interrupted")
        assert done[0].returncode == 0, (name, done[0].stderr)
        await air.end(stream)
        heard = await listener.hear_all()
        _is_the_end_of(heard, await _recorded(air, stream), name)
        assert await decoded(ffmpeg(), heard) > 1.0, name

    # Who comes late hears all there was all the same.
    async with on_air(stream_burst=4 * 1024 * 1024) as air, trio.open_nursery() as nursery:
        for name in CONTAINERS:
            nursery.start_soon(one, air, name)


@pytest.mark.usefixtures("unkept")
async def test_ffmpegs_other_ways(air: Air, inputs: Inputs) -> None:
    async def one(scheme: str, *arguments: str) -> None:
        stream = await air.stream(record=True)
        target = f"{scheme}://source:{stream.key}@127.0.0.1:{air.port}{stream.path}"
        # In real time: one that has sent all at once and leaves without having read our answer resets the connection,
        # and what we had not read by then is gone.
        done = await broadcast(
            ffmpeg(), "-re", "-i", str(inputs["mp3_bare"]), "-c", "copy", *arguments, target
        )
        assert done.returncode == 0, (arguments, done.stderr)
        await air.is_(stream, "interrupted")
        await air.end(stream)
        assert 1.9 < await decoded(ffmpeg(), await _recorded(air, stream)) < 2.2

    legacy = ("-content_type", "audio/mpeg", "-f", "mp3", "-legacy_icecast", "1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "icecast", *legacy)
        nursery.start_soon(one, "http", "-f", "mpegts")
        nursery.start_soon(one, "http", "-method", "PUT", "-f", "mp3")


@pytest.mark.usefixtures("unkept")
async def test_who_comes_in_the_middle_of_a_container_hears_its_rest(air: Air, inputs: Inputs) -> None:
    """The bytes themselves, without FFmpeg between: its header, and from some key point on every byte."""
    for key, kind in (
        ("opus", "audio/ogg"),
        ("webm", "video/webm"),
        ("ts", "video/mp2t"),
        ("flac_ogg", "audio/ogg"),
    ):
        if key == "flac_ogg":
            sent = inputs.make("ogg", "-i", str(inputs["flac"]), "-c", "copy", "-f", "ogg").read_bytes()
        else:
            sent = inputs[key].read_bytes()
        stream = await air.stream(record=True)
        source = await air.source(stream, sound=sent[: len(sent) * 2 // 3], kind=kind)
        listener = await air.listener(stream.path)
        await source.send(sent[len(sent) * 2 // 3 :])
        await source.close()
        await air.is_(stream, "interrupted")
        await air.end(stream)
        heard = await listener.hear_all()
        _is_the_end_of(heard, await _recorded(air, stream), key)
        assert await decoded(ffmpeg(), heard) > 0.1, key


async def _recorded(air: Air, stream: Stream) -> bytes:
    [file] = air.house.app.services.library.recordings_of(stream.id).iterdir()
    return file.read_bytes()


def _is_the_end_of(heard: bytes, recorded: bytes, name: str) -> None:
    """What was heard is a header, and then exactly how the recording goes on to its last byte."""
    tail = 0
    low, high = 0, min(len(heard), len(recorded))
    while low < high:  # the longest common end
        tail = (low + high + 1) // 2
        if heard[-tail:] == recorded[-tail:]:
            low = tail
        else:
            high = tail - 1
    header = heard[: len(heard) - low]
    assert low > len(recorded) / 4, (name, low, len(heard), len(recorded))
    assert len(header) < 20_000, name
    assert not header or recorded.startswith(header[: len(header) // 2]), name
