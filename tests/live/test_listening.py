"""Listeners: every byte of the source's from where they joined, heads as from Icecast, and who may not listen."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import Any

import pytest
import trio

from tests.live.conftest import Air, OnAir
from tests.live.radio import FRAME, PATIENCE, Listener, Stream, Wire, basic, mp3, song_of, until
from veza.actors.streams import actor, broadcasting, listening
from veza.security.signing import Signer


def joined_at(heard: bytes, source: bytes) -> int:
    """Where in the source's bytes a listener joined: all it heard is what followed, to the last byte."""
    at = source.find(heard[: 4 * FRAME])
    assert at >= 0
    assert at % FRAME == 0
    assert heard == source[at:], f"{len(heard)} bytes heard, {len(source) - at} sent from there on"
    return at


async def test_every_listener_hears_exactly_what_the_source_sends(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream, sound=mp3(0, 300))
    listeners: list[Listener] = []
    for turn in range(6):
        listeners += [await air.listener(stream.path) for _ in range(5)]
        # Pieces that end anywhere: frames are put together again.
        for piece in (
            mp3(300 + turn * 30, 15)[:1111],
            mp3(300 + turn * 30, 15)[1111:],
            mp3(315 + turn * 30, 15),
        ):
            await source.send(piece)
    sent = mp3(0, 480)
    for listener in listeners:
        await listener.hear_until(sent[-FRAME:])
    await air.end(stream)
    places = [joined_at(await listener.hear_all(), sent) for listener in listeners]
    # Each got a burst of 64 KiB at least, from a frame on.
    assert all(place <= 480 * FRAME - 65536 for place in places)
    assert places == sorted(places)
    row = await air.stored(stream, "ended")
    assert (row["listener_count"], row["peak_listeners"]) == (30, 30)
    assert row["bytes_in"] == len(sent)


async def test_what_was_counted_last_is_stored_however_slow_the_database_is(
    air: Air, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "SECOND", 0.02)
    monkeypatch.setattr(listening, "STORED_EVERY", 10**9)  # only when nobody is there any more
    stream = await air.stream()
    source = await air.source(stream)
    await air.stored(stream, "live")
    write, answers = air.house.db.write, trio.Event()

    async def slow(*args: Any, **more: Any) -> Any:
        await answers.wait()
        return await write(*args, **more)

    monkeypatch.setattr(air.house.db, "write", slow)
    await source.close()
    # What was counted so far waits behind what is being stored.
    await until(lambda: "counts" in [note.kind for note in air.streams._shown[stream.id].air.notes][1:])
    await air.listener(stream.path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(air.end, stream)
        await air.is_(stream, "ended")
        answers.set()
    assert (await air.stored(stream, "ended"))["listener_count"] == 1


async def test_a_listeners_head_is_as_from_icecast(air: Air) -> None:
    stream = await air.stream()
    await air.source(stream, "ice-genre: Jazz", sound=mp3(0, 100))
    for version in ("1.0", "1.1"):
        listener = await air.listener(stream.path, version=version)
        headers = listener.reply_.headers
        assert headers["content-type"] == "audio/mpeg"
        assert headers["connection"] == "close"
        assert "transfer-encoding" not in headers
        assert "content-length" not in headers
        assert headers["icy-name"].startswith("Show ")
        assert headers["icy-genre"] == "Jazz"
        assert headers["icy-br"] == "128"
        assert headers["icy-pub"] == "1"
        assert headers["access-control-allow-origin"] == "*"
        assert "icy-metaint" not in headers
        assert (await listener.hear(FRAME)).startswith(b"\xff\xfb")
    head = await air.ask(f"HEAD {stream.path} HTTP/1.1")
    assert (head.status, head.headers["content-type"]) == (200, "audio/mpeg")
    preflight = await air.ask(
        f"OPTIONS {stream.path} HTTP/1.1", "Origin: https://x.example", "Access-Control-Request-Method: GET"
    )
    assert preflight.status == 204
    assert "icy-metadata" in preflight.headers["access-control-allow-headers"]
    refused = await air.ask(f"DELETE {stream.path} HTTP/1.1")
    assert refused.status == 405


async def test_metadata_travels_between_the_sound_for_who_asks(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream, sound=mp3(0, 100))
    plain = await air.listener(stream.path)
    icy = await air.listener(stream.path, "Icy-MetaData: 1")
    assert icy.reply_.headers["icy-metaint"] == "16000"
    await icy.hear(100 * FRAME)
    songs = ["Ünïcødé - It's; a song';", "Two", "Zweite Hälfte"]
    queries = [
        "song=%C3%9Cn%C3%AFc%C3%B8d%C3%A9+-+It%27s%3B+a+song%27%3B",
        "artist=&title=Two",
        "song=Zweite+H%E4lfte&charset=ISO-8859-1",
    ]
    for nth, (song, query) in enumerate(zip(songs, queries, strict=True)):
        told = await air.ask(
            f"GET /admin/metadata?mount={stream.path}&mode=updinfo&{query} HTTP/1.0",
            f"Authorization: {basic(stream.key)}",
        )
        assert told.status == 200
        assert told.headers["content-type"].startswith("text/xml")
        assert b"<iceresponse><message>Metadata update successful</message><return>1</return>" in told.body
        state = air.state(stream)
        assert state is not None
        assert state.song == song
        await source.send(mp3(100 + nth * 50, 50))
        await plain.hear_until(mp3(149 + nth * 50, 1))
    await air.stored(stream, "live", song=songs[-1])
    await air.end(stream)
    sound, titles = song_of(await icy.hear_all())
    joined_at(sound, mp3(0, 250))
    joined_at(await plain.hear_all(), mp3(0, 250))
    # One of them stands for a text that could be mistaken for the end of the field.
    assert titles == ["Ünïcødé - It's; a song'", "Two", "Zweite Hälfte"]


async def test_metadata_that_is_refused(air: Air) -> None:
    stream = await air.stream()
    for query, key, status in (
        (f"mount={stream.path}&mode=updinfo&song=x", "wrong", 401),
        ("mount=/live/none-such&mode=updinfo&song=x", stream.key, 401),
        (f"mount={stream.path}&mode=updinfo", stream.key, 400),
        ("mode=updinfo&song=x", stream.key, 400),
        (f"mount={stream.path}&mode=kill&song=x", stream.key, 400),
        (f"mount={stream.path}&mode=updinfo&song=x", stream.key, 404),  # nobody broadcasts
    ):
        reply = await air.ask(f"GET /admin/metadata?{query} HTTP/1.1", f"Authorization: {basic(key)}")
        assert reply.status == status, (query, reply)
        if status == 401:
            assert reply.headers["www-authenticate"].startswith("Basic realm=")
    bare = await air.ask(f"GET /admin/metadata?mount={stream.path}&mode=updinfo&song=x HTTP/1.1")
    assert bare.status == 401


async def test_who_asks_for_what_is_not_there(air: Air) -> None:
    stream = await air.stream()
    for path, code in (
        (stream.path, b"STREAM_OFFLINE"),
        (f"{stream.path}/index.m3u8", b"STREAM_OFFLINE"),
        ("/live/no-such-stream", b"STREAM_NOT_FOUND"),
        ("/live/", b"NOT_FOUND"),
        (f"{stream.path}/../../etc/passwd", b"NOT_FOUND"),
        (f"{stream.path}/%2e%2e/x.m4s", b"NOT_FOUND"),
        (f"{stream.path}/none.m4s", b"NOT_FOUND"),
    ):
        reply = await air.ask(f"GET {path} HTTP/1.1")
        assert reply.status == 404, (path, reply)
        assert code in reply.body
        assert reply.headers["access-control-allow-origin"] == "*"
    await air.source(stream)
    await air.end(stream)
    reply = await air.ask(f"GET {stream.path} HTTP/1.1")
    assert (reply.status, b"STREAM_ENDED" in reply.body) == (404, True)


async def test_a_private_stream_is_for_who_may_hear_it(air: Air) -> None:
    stream = await air.stream(visibility="private")
    await air.source(stream)
    stranger, guest = await air.house.people(2)
    await air.house.sql(
        "INSERT INTO room_members (room_id, user_id) SELECT room_id, $2 FROM streams WHERE id = $1",
        stream.id,
        guest.id,
    )
    assert (await air.ask(f"GET {stream.path} HTTP/1.1")).status == 404
    assert (await air.ask(f"GET {stream.path}?token={stranger.token} HTTP/1.1")).status == 404
    assert (await air.ask(f"GET {stream.path}?token=nonsense HTTP/1.1")).status == 401
    assert (await air.ask(f"HEAD {stream.path}?token={guest.token} HTTP/1.1")).status == 200
    bearer = await air.ask(f"HEAD {stream.path} HTTP/1.1", f"Authorization: Bearer {air.owner.token}")
    assert bearer.status == 200
    signer = Signer("a key for tests, long enough for HMAC-SHA256")
    now = int(time.time())
    listener = await air.listener(signer.live_url(stream.slug, now + 3600))
    await listener.hear(10 * FRAME)
    other = await air.stream(visibility="private")
    good = signer.live_url(stream.slug, now + 3600)
    for path, code in (
        (signer.live_url(stream.slug, now - 3600), b"SIGNATURE_EXPIRED"),
        (signer.live_url(stream.slug, now + 25 * 3600), b"SIGNATURE_INVALID"),
        (good.replace(stream.slug, other.slug), b"SIGNATURE_INVALID"),  # replayed for another
        (good.replace(f"{now + 3600}.", f"{now + 3601}."), b"SIGNATURE_INVALID"),
        (
            Signer("another key, just as long as the first one").live_url(stream.slug, now + 3600),
            b"SIGNATURE_INVALID",
        ),
    ):
        reply = await air.ask(f"GET {path} HTTP/1.1")
        assert (reply.status, code in reply.body) == (403, True), (path, reply)


async def test_a_stream_that_becomes_private_turns_strangers_out(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream)
    listener = await air.listener(stream.path)
    await air.house.sql("UPDATE streams SET visibility = 'private' WHERE id = $1", stream.id)
    air.streams.changed(stream.id)
    await listener.hear_all()
    assert (await air.ask(f"GET {stream.path} HTTP/1.1")).status == 404
    await source.send(mp3(10, 10))
    await air.is_(stream, "live")


async def test_no_more_listeners_than_there_may_be(on_air: OnAir) -> None:
    async with on_air(stream_listeners_max=2) as air:
        stream = await air.stream()
        source = await air.source(stream)
        first = await air.listener(stream.path)
        stays = await air.listener(stream.path)
        full = await air.ask(f"GET {stream.path} HTTP/1.1")
        assert (full.status, b"STREAM_FULL" in full.body) == (503, True)
        assert int(full.headers["retry-after"]) > 0
        await first.close()
        number = 10
        while air.streams.listeners == 2:  # who only finished sending might still listen: the next bytes tell
            await source.send(mp3(number, 1))
            await stays.hear_until(mp3(number, 1))
            number += 1
        await air.listener(stream.path)


async def test_five_hundred_leave_at_once_and_one_stays(air: Air) -> None:
    stream = await air.stream()
    source = await air.source(stream, sound=mp3(0, 20))
    stays = await air.listener(stream.path)
    leaving: list[Listener] = []

    async def come() -> None:
        for _ in range(50):
            leaving.append(await air.listener(stream.path))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(come)
    assert air.streams.listeners == 501
    await source.send(mp3(20, 10))
    for nth, listener in enumerate(leaving):
        if nth % 2:
            listener.stream.socket.close()  # with sound unread: a reset
        else:
            await listener.hear_until(mp3(29, 1))
            await listener.close()  # an ordinary end
    frames = 30
    with trio.fail_after(PATIENCE):
        while air.streams.listeners > 1:
            await source.send(mp3(frames, 1))
            frames += 1
            await trio.sleep(0.01)
    await air.end(stream)
    joined_at(await stays.hear_all(), mp3(0, frames))
    await until(lambda: air.house.app.door.connections <= 2)


async def _flood(air: Air, stream: Stream, source: Wire, listener: Listener, first: int, most: int) -> int:
    """Send until `most` bytes were sent; the number of the next frame. Others listen along, so nothing waits for it."""
    number = first
    while (number - first) * FRAME < most:
        await source.send(mp3(number, 200))
        number += 200
        await listener.hear_until(mp3(number - 1, 1))
        listener.heard = listener.heard[-FRAME:]
    return number


async def test_who_never_reads_costs_nobody_anything_and_is_let_go(on_air: OnAir) -> None:
    async with on_air(stream_ring_bytes=200_000, stream_pass_wait=0.001) as air:
        stream = await air.stream()
        source = await air.source(stream)
        reads = await air.listener(stream.path)
        deaf = await air.listener(stream.path, receive_buffer=4096)
        assert air.streams.listeners == 2
        number = 10
        with trio.fail_after(PATIENCE):
            while air.streams.listeners == 2:
                number = await _flood(air, stream, source, reads, number, 300_000)
        assert (air.streams.tally.moved, air.streams.tally.dropped) == (1, 1)
        assert await reads.hear_until(mp3(number - 1, 1))
        heard = await deaf.hear_all()  # what the kernels held, then the end
        assert heard.startswith(mp3(0, 10))


@pytest.mark.parametrize("end", ["of the stream", "of the server"])
async def test_a_crash_at_the_end_does_not_wait_for_ever_for_who_never_reads(
    on_air: OnAir, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    async with on_air(stream_pass_wait=0.001, shutdown_send_timeout=3600.0) as air:
        stream = await air.stream()
        source = await air.source(stream)
        reads = await air.listener(stream.path)
        deaf = await air.listener(stream.path, receive_buffer=4096)
        fanout, number = air.streams._shown[stream.id].fanout, 10
        with trio.fail_after(PATIENCE):
            while not fanout.behind:
                number = await _flood(air, stream, source, reads, number, 300_000)
        monkeypatch.setattr(broadcasting, "DRAINING", 3600.0)
        if end == "of the stream":
            await air.end(stream)
            monkeypatch.setattr(actor, "DRAINING", 0.1)
        else:
            monkeypatch.setattr(actor, "DRAINING", 3600.0)
            await air.streams.close()
            air.change(shutdown_send_timeout=0.1)
        await reads.hear_all()
        assert len(fanout) == 1
        air.house.app.core.system.restart(f"streams/{stream.id}")
        await until(lambda: not len(fanout))
        await deaf.close()


async def test_who_falls_behind_is_taken_over_the_gap_once(on_air: OnAir) -> None:
    async with on_air(stream_ring_bytes=200_000, stream_pass_wait=0.001) as air:
        stream = await air.stream()
        source = await air.source(stream)
        reads = await air.listener(stream.path)
        slow = await air.listener(stream.path, receive_buffer=4096)
        number = 10
        with trio.fail_after(PATIENCE):
            while not air.streams.tally.moved:
                number = await _flood(air, stream, source, reads, number, 100_000)
        await slow.hear_until(mp3(number - 1, 1))
        # Whole frames, in order, with one gap between two of them.
        frames = [slow.heard[at : at + FRAME] for at in range(0, len(slow.heard), FRAME)]
        numbers = [int(frame[4:13]) for frame in frames]
        assert slow.heard == b"".join(map(partial(mp3, count=1), numbers))
        gaps = [(a, b) for a, b in itertools.pairwise(numbers) if b != a + 1]
        assert len(gaps) == 1
        assert gaps[0][1] > gaps[0][0]
        assert air.streams.tally.dropped == 0
