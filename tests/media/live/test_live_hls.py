"""Live HLS as players see it: made by a real child of real sources, on good days and bad ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import av
import psutil
import pytest
import trio

from tests.media.inputs import Inputs
from tests.media.splitters.sources import KINDS, SECONDS, Sources
from veza.media import live_hls
from veza.media.live.playlist import PLAYLIST
from veza.media.live_hls import LiveHlsFailed, end_playlist, run_live_hls

SEGMENT: Final = 0.5
WINDOW: Final = 6
LONG: Final = 120  # segments of a window that is not stale before the next child has come
PATIENCE: Final = 120.0  # a busy machine takes its time to start a child


@pytest.fixture(scope="session")
def sources(inputs: Inputs) -> Sources:
    return Sources(inputs)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine takes to start a child is not the child's end."""
    monkeypatch.setattr(live_hls, "STUCK", PATIENCE)
    monkeypatch.setattr(live_hls, "FINISH", PATIENCE)


class Making:
    """Live HLS on its way."""

    def __init__(self, directory: Path, send: trio.MemorySendChannel[bytes]) -> None:
        self.directory = directory
        self.send = send

    @property
    def text(self) -> str:
        path = self.directory / PLAYLIST
        return path.read_text() if path.exists() else ""

    @property
    def files(self) -> list[str]:
        return listed(self.text)

    async def until(self, condition: Callable[[], object]) -> None:
        with trio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110 - it is another process that makes it true
                await trio.sleep(0.01)

    def children(self) -> list[psutil.Process]:
        """Ours: other tests of this process may have children of their own, a browser for one."""
        return [process for process in psutil.Process().children() if makes_hls(process)]

    def child(self) -> psutil.Process:
        (found,) = self.children()
        return found


def listed(playlist: str) -> list[str]:
    return [line for line in playlist.splitlines() if not line.startswith("#")]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the one question and the other
        return False


def makes_hls(process: psutil.Process) -> bool:
    try:
        return alive(process) and any("live_hls_child" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


@asynccontextmanager
async def making(directory: Path, content_type: str, window: int = WINDOW) -> AsyncIterator[Making]:
    """It runs while this is open; leaving it closes the source and waits for the last segment."""
    send, receive = trio.open_memory_channel[bytes](256)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                await run_live_hls(directory, content_type, receive, segment=SEGMENT, window=window)

            nursery.start_soon(run)
            async with send:
                yield Making(directory, send)


async def made(directory: Path, content_type: str, *pieces: bytes, window: int = WINDOW) -> Making:
    async with making(directory, content_type, window) as hls:
        for piece in pieces:
            await hls.send.send(piece)
    return hls


def played(directory: Path) -> tuple[dict[str, str], float, int]:
    """What a player of the whole list meets: codecs by kind, seconds of sound, pictures."""
    end_playlist(directory)
    sound, pictures = 0.0, 0
    with av.open(str(directory / PLAYLIST), options={"live_start_index": "0"}) as source:
        codecs = {stream.type: stream.codec_context.name for stream in source.streams}
        for packet in source.demux():
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    sound += frame.samples / frame.sample_rate
                else:
                    pictures += 1
    return codecs, sound, pictures


def durations(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"#EXTINF:([\d.]+),", text)]


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("mp3", {"audio": "aac"}),
        ("adts", {"audio": "aac"}),
        ("opus", {"audio": "aac"}),
        ("webm-video", {"audio": "aac", "video": "h264"}),
        ("ts-video", {"audio": "aac", "video": "h264"}),
        ("mp4-video", {"audio": "aac", "video": "h264"}),
    ],
)
async def test_every_kind_of_source_plays(
    name: str, codecs: dict[str, str], sources: Sources, tmp_path: Path
) -> None:
    hls = await made(tmp_path, KINDS[name].content_type, sources[name])
    assert "ENDLIST" not in hls.text, "only end_playlist says so"
    found, sound, pictures = played(tmp_path)
    assert found == codecs
    assert sound == pytest.approx(SECONDS, abs=0.25)
    if "video" in codecs:
        assert pictures == pytest.approx(SECONDS * 25, abs=2)
    lasts = durations(hls.text)
    assert sum(lasts) == pytest.approx(SECONDS, abs=0.2)
    # Where pictures are passed on a segment ends at their next key frame: here there is one every 0.4 s.
    assert all(SEGMENT * 0.9 <= each <= 2 * 0.42 for each in lasts[:-1])
    assert "#EXT-X-TARGETDURATION:1\n" in hls.text
    assert "#EXT-X-ENDLIST" in hls.text
    assert set(os.listdir(tmp_path)) == {*hls.files, "i0.mp4", PLAYLIST, "playlist.json"}


async def test_ffprobe_finds_no_fault(ffprobe: str, sources: Sources, tmp_path: Path) -> None:
    await made(tmp_path, "audio/mpeg", sources["mp3"])
    end_playlist(tmp_path)
    said = await trio.run_process(
        [ffprobe, "-v", "warning", "-show_streams", str(tmp_path / PLAYLIST)],
        capture_stdout=True,
        capture_stderr=True,
    )
    assert b"codec_name=aac" in said.stdout
    assert said.stderr == b""


@pytest.fixture
def ffprobe() -> str:
    from shutil import which

    path = which("ffprobe")
    if path is None:
        pytest.skip("ffprobe is not installed")
    return path


async def test_the_first_segments_come_while_the_source_goes_on_and_the_window_slides(
    sources: Sources, tmp_path: Path
) -> None:
    async with making(tmp_path, "audio/mpeg") as hls:
        await hls.send.send(sources["mp3"])
        await hls.until(lambda: len(hls.files) >= 2)
        assert "ENDLIST" not in hls.text
        for _ in range(4):
            await hls.send.send(sources["mp3"])
        await hls.until(lambda: "s11.m4s" in hls.files)
        text = hls.text  # the next one may come at any moment
        assert len(listed(text)) == WINDOW
        (first,) = re.findall(r"MEDIA-SEQUENCE:(\d+)", text)
        assert listed(text)[0] == f"s{first}.m4s"
        assert "#EXT-X-DISCONTINUITY\n" not in text
    on_disk = [name for name in os.listdir(tmp_path) if name.endswith(".m4s")]
    assert len(on_disk) <= 2 * WINDOW


async def test_a_child_that_is_killed_is_replaced_and_the_numbers_go_on(
    sources: Sources, tmp_path: Path
) -> None:
    data = sources["opus"]
    async with making(tmp_path, "audio/ogg", LONG) as hls:
        await hls.send.send(data)
        await hls.until(lambda: len(hls.files) == 2)
        child = hls.child()
        child.kill()
        first_page = data[:47]
        assert data[47:].startswith(b"OggS")
        while not any(each.pid != child.pid for each in hls.children()):
            await hls.send.send(first_page)  # what the dead one is given is lost, and nobody can begin there
            await trio.sleep(0.01)
        await hls.send.send(data)
    assert hls.files == [f"s{number}.m4s" for number in range(5)]
    assert hls.text.count("#EXT-X-DISCONTINUITY\n") == 1
    anew = hls.text[hls.text.index("s1.m4s") : hls.text.index("s2.m4s")]
    assert anew.splitlines()[1:3] == ["#EXT-X-DISCONTINUITY", '#EXT-X-MAP:URI="i2.mp4"']
    assert played(tmp_path)[1] == pytest.approx(1.0 + SECONDS, abs=0.25)


async def test_a_source_that_comes_back_goes_on_in_the_same_directory(
    sources: Sources, tmp_path: Path
) -> None:
    await made(tmp_path, "audio/mpeg", sources["mp3"], window=LONG)
    first = played(tmp_path)[1]
    hls = await made(tmp_path, "audio/aac", sources["adts"], window=LONG)
    assert "ENDLIST" not in hls.text
    assert hls.text.count("#EXT-X-DISCONTINUITY\n") == 1
    assert hls.files[0] == "s0.m4s"
    times = re.findall(r"DATE-TIME:(\S+)", hls.text)
    assert times == sorted(times)
    assert first == pytest.approx(SECONDS, abs=0.25)


async def test_every_song_of_a_chain_begins_anew(sources: Sources, tmp_path: Path) -> None:
    hls = await made(tmp_path, "audio/ogg", sources["flac"] + sources["vorbis"])
    assert hls.text.count("#EXT-X-DISCONTINUITY\n") == 1
    assert sum(durations(hls.text)) == pytest.approx(2 * SECONDS, abs=0.1)


async def test_times_that_jump_begin_anew_where_there_is_picture_and_are_not_heard_where_there_is_none(
    sources: Sources, tmp_path: Path
) -> None:
    for name, breaks in (("ts-video", 1), ("ts", 0)):
        directory = tmp_path / name
        directory.mkdir()
        hls = await made(directory, "video/mp2t", _later(sources[name], 0) + _later(sources[name], 40_000.0))
        assert hls.text.count("#EXT-X-DISCONTINUITY\n") == breaks
        assert sum(durations(hls.text)) == pytest.approx(2 * SECONDS, abs=0.5)


def _later(ts: bytes, seconds: float) -> bytes:
    """A transport stream whose times of presentation and decoding are later."""
    data = bytearray(ts)
    for at in range(0, len(data), 188):
        pid = int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF
        if not data[at + 1] & 0x40 or not 0x100 <= pid < 0x110:
            continue
        pes = at + 4 + (data[at + 4] + 1 if data[at + 3] & 0x20 else 0)
        for stamp in (pes + 9, pes + 14)[: 2 if data[pes + 7] & 0x40 else 1]:
            a, b, c, d, e = data[stamp : stamp + 5]
            time = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
            time = (time + round(seconds * 90_000)) % (1 << 33)
            data[stamp : stamp + 5] = bytes(
                [
                    a & 0xF0 | (time >> 30 & 7) << 1 | 1,
                    time >> 22 & 0xFF,
                    (time >> 15 & 0x7F) << 1 | 1,
                    time >> 7 & 0xFF,
                    (time & 0x7F) << 1 | 1,
                ]
            )
    return bytes(data)


async def test_garbage_in_the_middle_is_not_the_end(sources: Sources, tmp_path: Path) -> None:
    data = sources["ts-video"]
    half = len(data) // 376 * 188
    hls = await made(tmp_path, "video/mp2t", data[:half] + os.urandom(5_000) + data[half:])
    assert sum(durations(hls.text)) == pytest.approx(SECONDS, abs=0.5)


@pytest.mark.parametrize(
    ("content_type", "data", "why"),
    [
        ("audio/mpeg", b"RIFF" + bytes(70_000), "WAV"),
        # Frames whose heads are right and whose sound is none: there is nothing to decode.
        ("video/mp2t", (b"\x47\x1f\xff\x10" + bytes(184)) * 400, None),
    ],
)
async def test_of_nothing_nothing_is_made(
    content_type: str, data: bytes, why: str | None, tmp_path: Path
) -> None:
    if why is None:
        hls = await made(tmp_path, content_type, data)
        assert hls.text == ""
        return
    with pytest.RaisesGroup(pytest.RaisesExc(LiveHlsFailed, match=why)):
        await made(tmp_path, content_type, data)


async def test_a_child_that_dies_again_and_again_is_given_up(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_hls, "DEATHS", 1)
    with pytest.RaisesGroup(pytest.RaisesExc(LiveHlsFailed, match="No such file"), flatten_subgroups=True):
        async with making(tmp_path / "missing", "audio/mpeg") as hls:
            with trio.fail_after(PATIENCE):
                while True:
                    await hls.send.send(sources["mp3"])
                    await trio.sleep(0.02)


async def test_a_child_that_takes_nothing_is_replaced_and_nobody_waits_for_it(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with making(tmp_path, "audio/mpeg") as hls:
        await hls.send.send(sources["mp3"])
        await hls.until(lambda: hls.files)
        monkeypatch.setattr(live_hls, "STUCK", 0.1)
        stopped = hls.child()
        stopped.send_signal(signal.SIGSTOP)
        for _ in range(10):  # more than fits into the pipe
            hls.send.send_nowait(sources["mp3"])
        await hls.until(lambda: not alive(stopped))
        monkeypatch.setattr(live_hls, "STUCK", PATIENCE)
        await hls.until(hls.children)


async def test_cancelled_it_leaves_no_child(sources: Sources, tmp_path: Path) -> None:
    child: psutil.Process | None = None
    with trio.move_on_after(PATIENCE) as scope:
        async with making(tmp_path, "audio/mpeg") as hls:
            await hls.send.send(sources["mp3"])
            await hls.until(lambda: hls.files)
            child = hls.child()
            scope.cancel()
    assert child is not None
    assert not child.is_running()


async def test_a_server_that_is_killed_leaves_no_child_and_the_last_segment(
    sources: Sources, tmp_path: Path
) -> None:
    song = tmp_path / "song.mp3"
    song.write_bytes(sources["mp3"])
    directory = tmp_path / "hls"
    directory.mkdir()
    script = (
        "import pathlib, sys, trio\n"
        "from veza.media.live_hls import run_live_hls\n"
        "async def main():\n"
        "    send, receive = trio.open_memory_channel(9)\n"
        "    await send.send(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "    directory = pathlib.Path(sys.argv[2])\n"
        f"    await run_live_hls(directory, 'audio/mpeg', receive, segment={SEGMENT}, window={WINDOW})\n"
        "trio.run(main)\n"
    )
    server = await trio.lowlevel.open_process(
        [sys.executable, "-c", script, str(song), str(directory)], stdout=subprocess.DEVNULL
    )
    hls = Making(directory, trio.open_memory_channel[bytes](0)[0])
    await hls.until(lambda: hls.files)
    (child,) = psutil.Process(server.pid).children()
    server.kill()
    await server.wait()
    await hls.until(lambda: not alive(child))
    assert sum(durations(hls.text)) == pytest.approx(SECONDS, abs=0.2)
