"""Sources: every program's way of beginning, keys, one at a time, dropping and coming back, and what is no stream."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from tests.live.conftest import Air, OnAir
from tests.live.radio import FRAME, PATIENCE, Source, Stream, Wire, basic, mp3
from tests.live.test_sockets import connect
from tests.media.inputs import Inputs
from veza.actors.streams import broadcasting, fanout
from veza.http import live_access
from veza.media.splitters import Chunk
from veza.security.rates import Buckets

HEADS = {
    # FFmpeg's icecast:// : neither a length nor chunked, waits for 100.
    "ffmpeg": (
        "PUT {path} HTTP/1.1",
        (
            "User-Agent: Lavf/59.27.100\r\nAccept: */*\r\nExpect: 100-continue\r\nConnection: close\r\n"
            "Host: localhost:8000\r\nContent-Type: audio/mpeg\r\nIcy-MetaData: 1\r\nIce-Public: 0\r\n"
            "Authorization: {basic}"
        ),
        100,
    ),
    "ffmpeg, legacy_icecast": (
        "SOURCE {path} HTTP/1.1",
        (
            "User-Agent: Lavf/59.27.100\r\nAccept: */*\r\nConnection: close\r\nHost: localhost:8000\r\n"
            "Content-Type: audio/mpeg\r\nIce-Public: 0\r\nAuthorization: {basic}"
        ),
        200,
    ),
    "butt": (
        "PUT {path} HTTP/1.1",
        (
            "Authorization: {basic}\r\nHost: localhost:8000\r\nUser-Agent: butt 0.1.40\r\nContent-Type: audio/mpeg\r\n"
            "ice-name: no name\r\nice-public: 0\r\nice-audio-info: ice-bitrate=128;ice-channels=2\r\n"
            "Expect: 100-continue"
        ),
        100,
    ),
    "butt, older": (
        "SOURCE {path} ICE/1.0",
        (
            "content-type: audio/mpeg\r\nAuthorization: {basic}\r\nice-name: no name\r\nice-url: \r\nice-genre: \r\n"
            "ice-bitrate: 128\r\nice-private: 0\r\nice-public: 0\r\nice-description: \r\nice-audio-info: bitrate=128"
        ),
        200,
    ),
    "Mixxx (libshout)": (
        "SOURCE {path} HTTP/1.0",
        (
            "Host: localhost\r\nAuthorization: {basic}\r\nUser-Agent: libshout/2.4.6\r\nContent-Type: audio/mpeg\r\n"
            "ice-public: 0\r\nice-name: Mixxx\r\nice-audio-info: bitrate=128"
        ),
        200,
    ),
    "Mixxx (libshout, PUT)": (
        "PUT {path} HTTP/1.1",
        (
            "Host: localhost\r\nAuthorization: {basic}\r\nUser-Agent: libshout/2.4.6\r\nContent-Type: audio/mpeg\r\n"
            "ice-public: 0\r\nExpect: 100-continue"
        ),
        100,
    ),
    "Liquidsoap": (
        "SOURCE {path} HTTP/1.0",
        (
            "Authorization: {basic}\r\nUser-Agent: Liquidsoap/2.2.4 (Unix; OCaml)\r\nContent-Type: audio/mpeg\r\n"
            "ice-name: Liquidsoap Radio!\r\nice-public: 1\r\nice-audio-info: channels=2;samplerate=48000;bitrate=128"
        ),
        200,
    ),
    "ICE, PUT, and waits for its answer": (
        "PUT {path} HTTP/1.0",
        "Authorization: {basic}\r\nContent-Type: audio/mpeg",
        200,
    ),
}


async def test_every_programs_way_of_beginning(air: Air) -> None:
    async def one(name: str) -> None:
        line, headers, status = HEADS[name]
        stream = await air.stream()
        source = Source(await air.dial())
        air.sources.append(source)
        head = f"{line}\r\n{headers}\r\n\r\n".format(path=stream.path, basic=basic(stream.key))
        await source.send(head.encode())
        reply = await source.reply()
        assert reply.status == status, (name, reply)
        await source.send(mp3(0, 20))
        await air.is_(stream, "live")
        listener = await air.listener(stream.path)
        await source.send(mp3(20, 20))
        assert await listener.hear_until(mp3(39, 1)) == mp3(0, 40), name

    async with trio.open_nursery() as nursery:
        for name in HEADS:
            nursery.start_soon(one, name)


async def test_bodies_that_are_chunked_or_have_a_length(air: Air) -> None:
    for method in ("PUT", "POST"):
        await _chunked_or_long(air, method)


async def _chunked_or_long(air: Air, method: str) -> None:
    stream = await air.stream()
    source = Source(await air.dial())
    authorization = f"Authorization: {basic(stream.key)}"
    # FFmpeg -f mpegts http://… and curl -T: the first without, the second with credentials.
    await source.begin(stream.path, authorization, "Transfer-Encoding: chunked", method=method)
    sent = mp3(0, 50)
    for at in range(0, len(sent), 1000):
        piece = sent[at : at + 1000]
        await source.send(b"%x\r\n%b\r\n" % (len(piece), piece))
    await air.is_(stream, "live")
    listener = await air.listener(stream.path)
    await source.send(b"0\r\n\r\n")
    assert (await source.reply()).status == 200
    await air.is_(stream, "interrupted")
    again = Source(await air.dial())
    body = mp3(50, 50)
    await again.begin(
        stream.path, authorization, f"Content-Length: {len(body)}", "Expect: 100-continue", method=method
    )
    assert (await again.reply()).status == 100
    await again.send(body)
    assert (await again.reply()).status == 200
    assert await listener.hear_until(mp3(99, 1)) == mp3(0, 100)


async def test_without_its_key_nobody_broadcasts(air: Air) -> None:
    stream = await air.stream()
    other = await air.stream()
    for path in (stream.path, "/live/no-such-stream"):
        for credentials in (None, basic("wrong"), basic(other.key), "Basic !!!", f"Bearer {air.owner.token}"):
            lines = [f"Authorization: {credentials}"] if credentials else []
            source = Source(await air.dial())
            await source.begin(path, *lines, "Expect: 100-continue", "Content-Type: audio/mpeg")
            reply = await source.reply()
            assert reply.status == 401, (path, credentials, reply)
            assert reply.headers["www-authenticate"].startswith("Basic realm=")
            assert reply.headers["connection"] == "close"
    for method in ("SOURCE", "POST"):
        source = Source(await air.dial())
        await source.begin(stream.path, method=method, version="HTTP/1.0")
        await source.send(mp3(0, 10))  # who does not wait is told all the same
        assert (await source.reply()).status == 401


async def test_wrong_keys_are_ten_a_minute(on_air: OnAir, monkeypatch: pytest.MonkeyPatch) -> None:
    # Time stands still: every six seconds there is one more.
    monkeypatch.setattr(live_access, "Buckets", partial(Buckets, clock=lambda: 0.0))
    async with on_air() as air:
        stream = await air.stream()
        statuses = []
        for _ in range(11):
            source = Source(await air.dial())
            await source.begin(stream.path, f"Authorization: {basic('wrong')}")
            reply = await source.reply()
            statuses.append(reply.status)
        assert statuses == [401] * 10 + [429]
        assert int(reply.headers["retry-after"]) == 6
        # Other streams are not concerned, and asking without any key never counts.
        await air.source(await air.stream())


async def _refused(air: Air, stream: Stream, key: str) -> int:
    source = Source(await air.dial())
    await source.begin(stream.path, f"Authorization: {basic(key)}", "Expect: 100-continue")
    return (await source.reply()).status


async def test_one_source_at_a_time(air: Air, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "SILENT", 3600.0)  # else who is slow here is one who is silent
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    assert await _refused(air, stream, stream.key) == 409
    assert await _refused(air, stream, "wrong") == 401
    await source.send(mp3(10, 10))
    assert await listener.hear_until(mp3(19, 1)) == mp3(0, 20)


async def test_the_same_key_takes_over_from_a_source_that_is_silent(
    on_air: OnAir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "SILENT", 0.3)
    async with on_air(stream_stall=60.0) as air:
        stream = await air.stream()
        silent = await air.source(stream)
        listener = await air.listener(stream.path)
        with trio.fail_after(PATIENCE):
            while True:
                source = Source(await air.dial())
                await source.begin(stream.path, f"Authorization: {basic(stream.key)}", "Expect: 100-continue")
                status = (await source.reply()).status
                if status == 100:
                    break
                assert status == 409
        await source.send(mp3(10, 10))
        assert await listener.hear_until(mp3(19, 1)) == mp3(0, 20)
        shown_out = await silent.reply()
        assert (shown_out.status, b"STREAM_TAKEN_OVER" in shown_out.body) == (409, True)


async def test_a_source_that_is_killed_comes_back_to_the_same_listeners(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    source.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    source.stream.socket.close()
    await air.is_(stream, "interrupted")
    await air.stored(stream, "interrupted")
    late = await air.listener(stream.path)  # who comes meanwhile waits with the others
    await air.source(stream, sound=mp3(10, 10))
    assert await listener.hear_until(mp3(19, 1)) == mp3(0, 20)
    assert await late.hear_until(mp3(19, 1)) == mp3(0, 20)
    await air.stored(stream, "live")


async def test_a_source_that_stalls_is_dropped_and_the_stream_ends_after_the_grace(on_air: OnAir) -> None:
    async with on_air(stream_stall=3600.0) as air:
        stream = await air.stream()
        source = await air.source(stream)
        listener = await air.listener(stream.path)
        watcher = await connect(air, f"/ws/stream/{stream.slug}")
        assert (await watcher.told_of("stream_state"))["state"] == "live"
        air.change(stream_stall=0.2, stream_grace=0.3)
        await source.send(mp3(10, 10))  # from here on it waits for no more than that
        assert (await watcher.told_of("stream_state"))["state"] == "interrupted"
        await watcher.told_of("ended")
        assert (await source.reply()).status in (200, 408)
        assert await listener.hear_all() == mp3(0, 20)
        row = await air.stored(stream, "ended")
        assert row["ended_at"] is not None
        ended = Source(await air.dial())
        await ended.begin(stream.path, f"Authorization: {basic(stream.key)}", "Expect: 100-continue")
        reply = await ended.reply()
        assert (reply.status, b"STREAM_ENDED" in reply.body) == (403, True)


async def _send_what_is_taken(source: Wire, data: bytes) -> None:
    """Whoever refuses it may have hung up before all of it was sent; what he said is to be read all the same."""
    try:
        await source.send(data)
    except trio.BrokenResourceError:
        pass


async def test_what_is_no_stream_is_refused(air: Air) -> None:
    for sound in (b"<html>" + b"no sound at all " * 5000, bytes(80_000), b"PK\x03\x04" * 20_000):
        stream = await air.stream()
        source = Source(await air.dial())
        await source.begin(stream.path, f"Authorization: {basic(stream.key)}", "Expect: 100-continue")
        assert (await source.reply()).status == 100
        await _send_what_is_taken(source, sound)
        reply = await source.reply()
        assert (reply.status, b"UNSUPPORTED_MEDIA" in reply.body) == (415, True), reply
        state = air.state(stream)
        assert state is not None
        assert state.state == "created"
        # It is nobody's seat any more.
        await air.source(stream)


async def test_garbage_after_a_good_start_is_skipped_and_nothing_but_garbage_is_the_end(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    await source.send(b"\x00 garbage \x00" * 100 + mp3(10, 10))
    await listener.hear_until(mp3(19, 1))
    frames = [listener.heard[at : at + FRAME] for at in range(0, len(listener.heard), FRAME)]
    assert set(frames) <= {mp3(number, 1) for number in range(20)}
    assert b"garbage" not in listener.heard
    with trio.fail_after(PATIENCE):
        try:
            while True:
                await source.send(b"nothing but garbage " * 1000)
        except trio.BrokenResourceError:
            pass
    await air.is_(stream, "interrupted")


async def test_another_kind_of_stream_is_another_stream(air: Air, inputs: Inputs) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    await source.close()
    await air.is_(stream, "interrupted")
    aac = inputs["aac"].read_bytes()
    await air.source(stream, sound=aac, kind="audio/aac")
    assert await listener.hear_all() == mp3(0, 10)
    other = await air.listener(stream.path)
    assert other.reply_.headers["content-type"] == "audio/aac"
    heard = await other.hear_until(aac[-100:])
    assert len(heard) >= len(aac) // 3
    assert aac.endswith(heard)


async def test_a_new_key_shows_the_old_one_out(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    other = await air.stream()
    await air.house.sql(
        "UPDATE streams SET key_hash = (SELECT key_hash FROM streams WHERE id = $2) WHERE id = $1",
        stream.id,
        other.id,
    )
    air.streams.changed(stream.id)
    while await source.more():
        pass
    await air.is_(stream, "interrupted")
    assert await _refused(air, stream, stream.key) == 401
    await air.source(Stream(stream.id, stream.slug, other.key), sound=mp3(10, 10))
    assert await listener.hear_until(mp3(19, 1)) == mp3(0, 20)


async def test_a_stream_that_is_deleted_is_over(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    await air.house.sql("DELETE FROM streams WHERE id = $1", stream.id)
    air.streams.changed(stream.id)
    assert await listener.hear_all() == mp3(0, 10)
    while await source.more():
        pass
    assert (await air.ask(f"GET {stream.path} HTTP/1.1")).status == 404


async def test_a_banned_owner_is_off_the_air(air: Air) -> None:
    owner = await air.house.person()
    stream = await air.stream(owner=owner)
    source = await air.source(stream)
    await air.house.sql("UPDATE users SET is_active = false WHERE id = $1", owner.id)
    air.house.app.services.registry.forget_user(owner.id)
    while await source.more():
        pass
    await air.stored(stream, "ended")
    assert await _refused(air, stream, stream.key) == 403


async def test_what_may_gather_at_the_source_is_heard_all_the_same(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout.Fanout, "pause", 0.08)  # as with thousands of listeners
    stream = await air.stream()
    source = await air.source(stream, sound=mp3(0, 100))
    listener = await air.listener(stream.path)
    await source.send(mp3(100, 1))
    await listener.hear_until(mp3(100, 1))
    # From here on it waits for 640 bytes, but not for ever: neither for the first half of two frames nor for the end.
    for number in range(101, 106):
        await source.send(mp3(number, 1))
        if number % 2:
            await listener.hear_until(mp3(number, 1))
    await source.send(mp3(106, 1))
    await source.close()
    assert await listener.hear_until(mp3(106, 1)) == mp3(0, 107)


async def test_a_crash_of_the_actor_is_heard_by_nobody(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    icy = await air.listener(stream.path, "Icy-MetaData: 1")
    for turn in range(1, 4):
        air.house.app.core.system.restart(f"streams/{stream.id}")
        await source.send(mp3(turn * 10, 10))
        await listener.hear_until(mp3(turn * 10 + 9, 1))
    assert listener.heard == mp3(0, 40)
    await icy.hear_until(mp3(39, 1))
    assert icy.heard == mp3(0, 40)


async def test_a_source_that_one_can_begin_nowhere_in_must_go(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Keyless:
        content_type, header, skipped = "audio/mpeg", b"", 0

        def feed(self, data: bytes) -> list[Chunk]:
            return [Chunk(data, False, None, b"")]

    monkeypatch.setattr(broadcasting, "splitter_for", lambda kind, first: Keyless())
    monkeypatch.setattr(broadcasting, "BARREN", 100_000)
    stream = await air.stream()
    source = Source(await air.dial())
    await source.begin(stream.path, f"Authorization: {basic(stream.key)}", "Expect: 100-continue")
    assert (await source.reply()).status == 100
    await _send_what_is_taken(source, bytes(200_000))
    assert (await source.reply()).status == 415
