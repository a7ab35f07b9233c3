"""Live HLS at its address: made when somebody asks, played by FFmpeg, ended with the stream."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tests.live.conftest import OnAir
from tests.live.radio import PATIENCE, broadcast, until
from tests.media.inputs import Inputs, ffmpeg
from veza.actors.streams import listening
from veza.config import Settings
from veza.http import live
from veza.http.live_house import hls_maker
from veza.media.live.playlist import PLAYLIST
from veza.media.live_hls import LiveHlsFailed
from veza.security.signing import Signer


@pytest.fixture(autouse=True)
def children_may_be_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first viewer waits for the playlist until the child has made it."""
    monkeypatch.setattr(live, "PLAYLIST_PATIENCE", PATIENCE / 2)


async def test_the_playlist_is_made_for_who_asks_and_plays(on_air: OnAir, inputs: Inputs) -> None:
    async with on_air(stream_hls_segment=0.5, stream_stall=3600.0, stream_hls_idle=3600.0) as air:
        stream = await air.stream()
        sound = inputs["mp3_bare"].read_bytes()
        source = await air.source(stream, sound=sound)
        summary = air.house.app.core.system.inspect(f"streams/{stream.id}").summary
        assert summary["hls"] is False
        await source.send(sound)
        playlist = await air.ask(f"GET {stream.path}/index.m3u8 HTTP/1.1")
        assert playlist.status == 200, playlist
        assert playlist.headers["content-type"] == "application/vnd.apple.mpegurl"
        assert "no-cache" in playlist.headers["cache-control"]
        assert playlist.headers["access-control-allow-origin"] == "*"
        state = air.state(stream)
        assert state is not None
        assert state.listeners == 1  # whoever asks for the playlist listens
        text = playlist.body.decode()
        assert "#EXT-X-MAP" in text
        segment = next(line for line in text.splitlines() if line.endswith(".m4s"))
        reply = await air.ask(f"GET {stream.path}/{segment} HTTP/1.1")
        assert reply.status == 200
        assert (
            reply.headers["cache-control"].startswith("public")
            and "immutable" in reply.headers["cache-control"]
        )
        assert b"moof" in reply.body[:200]
        await air.end(stream)
        played = await broadcast(
            ffmpeg(), "-i", f"http://127.0.0.1:{air.port}{stream.path}/index.m3u8", "-f", "null", "-"
        )
        assert played.returncode == 0, played.stderr
        last = await air.ask(f"GET {stream.path}/index.m3u8 HTTP/1.1")
        assert b"#EXT-X-ENDLIST" in last.body


async def test_the_playlist_of_a_private_stream_carries_its_signature_along(
    on_air: OnAir, inputs: Inputs
) -> None:
    async with on_air(stream_hls_segment=0.5, stream_stall=3600.0, stream_hls_idle=3600.0) as air:
        stream = await air.stream(visibility="private")
        await air.source(stream, sound=inputs["mp3_bare"].read_bytes() * 2)
        signed = Signer("a key for tests, long enough for HMAC-SHA256").live_url(
            stream.slug, int(time.time()) + 3600
        )
        assert (await air.ask(f"GET {stream.path}/index.m3u8 HTTP/1.1")).status == 404
        playlist = await air.ask(f"GET {signed}/index.m3u8 HTTP/1.1")
        assert playlist.status == 200, playlist
        segment = next(line for line in playlist.body.decode().splitlines() if line.endswith(".m4s"))
        reply = await air.ask(f"GET {signed}/{segment} HTTP/1.1")
        assert reply.status == 200 and reply.headers["cache-control"].startswith("private")
        assert (await air.ask(f"GET {stream.path}/{segment} HTTP/1.1")).status == 404
        _, _, signature = signed.removeprefix("/live/").partition("/")[0].partition(".")
        forged = signed.replace(signature, signature[::-1])
        assert (await air.ask(f"GET {forged}/{segment} HTTP/1.1")).status == 403
        # Whoever wanted to hear its end has, some time after it.
        directory = air.house.app.services.library.stream(stream.slug)
        assert directory.exists()
        air.change(stream_hls_idle=0.1)
        await air.end(stream)
        await until(lambda: not directory.exists())
        assert (await air.ask(f"GET {signed}/index.m3u8 HTTP/1.1")).status == 404


async def test_a_crash_forgets_neither_what_failed_nor_what_is_left(
    on_air: OnAir, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def make(directory: Path, content_type: str, receive: trio.MemoryReceiveChannel[bytes]) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise LiveHlsFailed("as asked")
        (directory / PLAYLIST).write_text("#EXTM3U\n")
        async for _ in receive:
            pass

    monkeypatch.setattr("veza.app.hls_maker", lambda settings: make)
    monkeypatch.setattr(listening, "HLS_PAUSE", 3600.0)
    async with on_air(stream_hls_idle=3600.0) as air, trio.open_nursery() as nursery:
        stream = await air.stream()
        await air.source(stream)
        system, path = air.house.app.core.system, f"streams/{stream.id}"

        async def watch() -> None:
            assert (await air.ask(f"GET {stream.path}/index.m3u8 HTTP/1.1")).status == 200

        nursery.start_soon(watch)
        failed = air.streams._shown[stream.id].air
        await until(lambda: failed.hls is not None and failed.hls.failed)
        monkeypatch.setattr(listening, "HLS_PAUSE", 0.01)
        system.restart(path)
        directory = air.house.app.services.library.stream(stream.slug)
        await until((directory / PLAYLIST).exists)
        await air.end(stream)
        await until(lambda: failed.playlist_left)
        air.change(stream_hls_idle=0.1)
        system.restart(path)
        await until(lambda: not directory.exists())


async def test_so_many_are_made_at_once_and_no_more(settings: Settings, tmp_path: Path) -> None:
    make = hls_maker(msgspec.structs.replace(settings, stream_hls_most=1, stream_hls_segment=0.5))
    first, second = (tmp_path / name for name in ("first", "second"))
    first.mkdir()
    second.mkdir()
    send, receive = trio.open_memory_channel[bytes](8)
    _, other = trio.open_memory_channel[bytes](8)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(make, first, "audio/mpeg", receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(LiveHlsFailed, match="1 other"):
                await make(second, "audio/mpeg", other)
            send.close()
        await other.aclose()
        again, source = trio.open_memory_channel[bytes](8)
        again.close()
        await make(second, "audio/mpeg", source)  # there is a place again
