"""Broadcasts by RTMP from the real FFmpeg: the key is the stream's name, and what comes is heard like any source."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.live.conftest import Air, OnAir
from tests.live.radio import PATIENCE, broadcast, decoded, until
from tests.media.inputs import Inputs, ffmpeg, moving, tone
from veza.config import Settings
from veza.http import live_rtmp
from veza.media import remux


@pytest.fixture
async def studio(on_air: OnAir) -> AsyncIterator[Air]:
    with socket.socket() as held:
        # As long as it is bound, the system gives the port to nobody else; who names it may listen on it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        # Who comes late hears all there was all the same.
        async with on_air(rtmp_port=held.getsockname()[1], stream_burst=4 * 1024 * 1024) as air:
            yield air


def address(air: Air, key: str) -> str:
    return f"rtmp://127.0.0.1:{air.house.app.core.settings.rtmp_port}/live/{key}"


@pytest.fixture(scope="session")
def film(inputs: Inputs) -> str:
    encoded = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "12", "-c:a", "aac")
    return str(inputs.make("flv", *moving(1.5, "160x120"), *tone(1.5), *encoded))


async def test_what_ffmpeg_broadcasts_is_heard_and_seen(studio: Air, film: str) -> None:
    stream = await studio.stream()
    done: list[Any] = []

    async def push() -> None:
        done.append(
            await broadcast(
                ffmpeg(), "-re", "-i", film, "-c", "copy", "-f", "flv", address(studio, stream.key)
            )
        )

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await studio.is_(stream, "live", "interrupted")  # it lasts a second and a half
        listener = await studio.listener(stream.path)
        assert listener.reply_.headers["content-type"] == "video/mp2t"
        await studio.is_(stream, "interrupted")
    assert done[0].returncode == 0, done[0].stderr
    await studio.end(stream)
    # From where he came in, which is a moment (and up to a group of pictures) after it began.
    assert 0.4 < await decoded(ffmpeg(), await listener.hear_all()) < 1.9


async def test_a_wrong_key_is_told_so(studio: Air, film: str) -> None:
    stream = await studio.stream()
    done = await broadcast(ffmpeg(), "-i", film, "-c", "copy", "-f", "flv", address(studio, stream.key[::-1]))
    assert done.returncode != 0
    assert b"That is not this stream's key." in done.stderr
    state = studio.state(stream)
    assert state is None or state.state != "live"


async def test_who_does_not_introduce_himself_is_hung_up_on(
    studio: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_rtmp, "INTRODUCTION", 0.1)
    port = studio.house.app.core.settings.rtmp_port
    for said in (b"", b"\x03" + bytes(500), b"GET / HTTP/1.1\r\n\r\n"):
        line = await trio.open_tcp_stream("127.0.0.1", port)
        await line.send_all(said)
        with trio.fail_after(PATIENCE):
            try:
                assert await line.receive_some() == b""
            except trio.BrokenResourceError:
                pass  # it hung up with something of ours unread


async def test_connections_are_counted(studio: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_rtmp, "CONNECTIONS_PER_ADDRESS", 2)
    port = studio.house.app.core.settings.rtmp_port
    lines = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(3)]
    with trio.fail_after(PATIENCE):
        try:
            assert await lines[2].receive_some() == b""
        except trio.BrokenResourceError:
            pass
    for line in lines:
        await line.aclose()


async def test_a_source_that_is_shown_out_is_hung_up_on(studio: Air, film: str) -> None:
    stream = await studio.stream()
    done: list[Any] = []

    async def push() -> None:
        arguments = ("-stream_loop", "-1", "-re", "-i", film, "-c", "copy", "-f", "flv")
        done.append(await broadcast(ffmpeg(), *arguments, address(studio, stream.key)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(push)
        await studio.is_(stream, "live")
        await studio.end(stream)
        await until(lambda: bool(done))
    assert done[0].returncode != 0


async def test_a_child_that_hangs_holds_up_nobody(
    studio: Air, film: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = trio.Event()

    class Hung:
        async def send(self, flv: bytes) -> None:
            await trio.lowlevel.checkpoint()

        async def finish(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive(self) -> bytes:
            await trio.sleep_forever()

    @asynccontextmanager
    async def hung() -> AsyncIterator[Hung]:
        yield Hung()
        ended.set()

    monkeypatch.setattr(live_rtmp, "open_remux", hung)
    monkeypatch.setattr(live_rtmp, "FINISH", 0.1)
    stream = await studio.stream()
    await broadcast(ffmpeg(), "-i", film, "-c", "copy", "-f", "flv", address(studio, stream.key))
    with trio.fail_after(PATIENCE):
        await ended.wait()


async def test_a_child_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remux, "STUCK", 0.1)
    with trio.fail_after(PATIENCE):
        async with remux.open_remux() as child:
            child._process.send_signal(signal.SIGSTOP)
            with pytest.raises(trio.TooSlowError):
                while True:
                    await child.send(bytes(64 * 1024))


async def test_it_is_off_unless_it_is_asked_for(air: Air) -> None:
    assert Settings().rtmp_port == 0
    assert air.house.app.core.settings.rtmp_port == 0
