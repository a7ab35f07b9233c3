"""Broadcasting and listening with the client: what is sent is heard, at its own pace, over a line that breaks."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.chat.conftest import Build
from tests.clientmedia.kit import client_of, line_to, soon
from tests.media.inputs import Inputs
from veza.client import ApiError, AuthFailed, NotBroadcastable, Unreachable, VezaClient, broadcasting
from veza.client.containers import recognise
from veza.client.link import single_error
from veza.db import streams as streams_db


def frames(data: bytes) -> list[bytes]:
    container = recognise(data[:4096])
    assert container is not None
    return [piece.data for piece in container.feed(data) + container.finish()]


async def chunked(data: bytes, size: int = 3000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


async def until_live(client: VezaClient, slug: str) -> None:
    while (await client.stream(slug)).state != "live":  # noqa: ASYNC110 (a server's state)
        await trio.sleep(0.02)


async def until_listed(client: VezaClient, slug: str) -> None:
    """Lists of what is on air are made of what is stored, which is a moment later."""
    while slug not in [found.slug for found in (await client.streams(live=True)).items]:  # noqa: ASYNC110
        await trio.sleep(0.02)


async def until_begun(client: VezaClient, slug: str) -> None:
    """It can be heard, perhaps from what was kept of it: a short broadcast may be over before anybody looks."""
    while (await client.stream(slug)).state == "created":  # noqa: ASYNC110 (a server's state)
        await trio.sleep(0.02)


async def test_a_file_is_heard_as_it_is_at_its_own_pace(build: Build, inputs: Inputs) -> None:
    async with soon(build()) as house, client_of(house, await house.person()) as client:
        stream = await client.create_stream("A show", visibility="unlisted")
        assert stream.stream_key not in repr(stream)
        assert stream.source is not None
        assert stream.stream_key not in repr(stream.source)
        heard = bytearray()
        hearing = trio.Event()

        async def listen() -> None:
            await until_begun(client, stream.slug)
            async for data in client.listen(stream.slug):
                heard.extend(data)
                hearing.set()

        told: list[tuple[int, float]] = []
        began = trio.current_time()
        async with single_error(), trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await client.broadcast(
                stream.slug,
                stream.stream_key,
                inputs["mp3"],
                name="Ünïcode",
                progress=lambda sent, at: told.append((sent, at)),
            )
            took = trio.current_time() - began
            await hearing.wait()
            await client.end_stream(stream.slug)
        sent = b"".join(frames(inputs["mp3"].read_bytes()))
        assert len(heard) > 1000
        assert bytes(heard) in sent
        assert sent.endswith(bytes(heard))
        assert took > 0.7, "two seconds were sent in less than one"
        assert told[-1][0] == len(sent)
        assert told[-1][1] == pytest.approx(2.0, abs=0.1)
        assert (await client.stream(stream.slug)).state == "ended"


async def test_songs_are_told_and_the_end_is_heard_by_the_source(build: Build, inputs: Inputs) -> None:
    async with soon(build()) as house, client_of(house, await house.person()) as client:
        stream = await client.create_stream("A show")

        async def for_ever() -> AsyncIterator[bytes]:
            while True:
                yield inputs["aac"].read_bytes()

        async with trio.open_nursery() as nursery:
            begin = partial(client.broadcast, stream.slug, stream.stream_key, for_ever(), realtime=True)
            nursery.start_soon(begin)
            await until_live(client, stream.slug)
            await until_listed(client, stream.slug)
            await client.set_song(stream.slug, stream.stream_key, "Somebody – Something")
            assert (await client.stream(stream.id)).song == "Somebody – Something"
            with pytest.raises(AuthFailed):
                await client.set_song(stream.slug, "wrong", "Nobody")
            # Whoever broadcasts knows at once that it is over, in the middle of a body without end.
            await client.end_stream(stream.id)
        await client.delete_stream(stream.id)
        with pytest.raises(ApiError):
            await client.stream(stream.id)


async def test_what_is_on_air_is_told_before_it_is_stored(
    build: Build, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(conn: object, stream_id: int, content_type: str) -> None:
        pass

    monkeypatch.setattr(streams_db, "went_live", never)
    async with soon(build()) as house, client_of(house, await house.person()) as client:
        stream = await client.create_stream("A show")
        assert stream.content_type is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.broadcast, stream.slug, stream.stream_key, inputs["aac"])
            await until_begun(client, stream.slug)
            found = await client.stream(stream.slug)
            assert (found.content_type, found.started_at is None) == ("audio/aac", False)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["mp3", "opus"])
async def test_a_broadcast_goes_on_over_a_line_that_breaks(
    build: Build, inputs: Inputs, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcasting, "FIRST_DELAY", 0.05)
    data = inputs.make("mp3" if kind == "mp3" else "ogg", *TONES[kind]).read_bytes()
    async with soon(build()) as house, line_to(house) as line:
        async with client_of(house, await house.person()) as client:
            stream = await client.create_stream("A show")
            reasons: list[str] = []
            heard = bytearray()
            cut = trio.Event()

            async def source() -> AsyncIterator[bytes]:
                """Not to its end before the line broke."""
                at = 0
                async for piece in chunked(data):
                    if at > len(data) / 2:
                        await cut.wait()
                    yield piece
                    at += len(piece)

            async def listen() -> None:
                await until_begun(client, stream.slug)
                async with aclosing(client.listen(stream.slug)) as listening:
                    async for piece in listening:
                        heard.extend(piece)
                        if not cut.is_set() and len(heard) > len(data) / 3:
                            cut.set()
                            line.hiccup()

            async with single_error(), trio.open_nursery() as nursery:
                nursery.start_soon(listen)
                async with VezaClient(f"http://127.0.0.1:{line.port}") as far:
                    await far.broadcast(
                        stream.slug,
                        stream.stream_key,
                        source(),
                        realtime=True,
                        notice=reasons.append,
                    )
                await client.end_stream(stream.id)
            assert reasons
            sent = frames(data)
            assert bytes(heard).endswith(b"".join(sent[-3:]))
            # What was on its way when the line broke may be missing, the rest is all there and in order.
            places = [bytes(heard).find(frame) for frame in sent]
            found = [place for place in places if place >= 0]
            assert len(found) > len(sent) * 0.6
            assert found == sorted(found)


TONES = {
    "mp3": ("-f", "lavfi", "-i", "sine=440:d=3", "-b:a", "64k"),
    "opus": ("-f", "lavfi", "-i", "sine=440:d=3", "-c:a", "libopus", "-page_duration", "100000"),
}


async def test_what_cannot_be_broadcast_is_said(build: Build, inputs: Inputs, tmp_path: Path) -> None:
    async with soon(build()) as house, client_of(house, await house.person()) as client:
        stream = await client.create_stream("A show")
        with pytest.raises(AuthFailed):
            await client.broadcast(stream.slug, "wrong", inputs["mp3"])
        with pytest.raises(AuthFailed):
            await client.broadcast("no-such-stream", "wrong", inputs["mp3"])
        for name, words in (("wav", "none of MP3"), ("mp4", "MP4")):
            with pytest.raises(NotBroadcastable, match=words):
                await client.broadcast(stream.slug, stream.stream_key, inputs[name])
        empty = tmp_path / "empty.mp3"
        empty.touch()
        with pytest.raises(NotBroadcastable, match="nothing"):
            await client.broadcast(stream.slug, stream.stream_key, empty)
        with pytest.raises(ApiError) as silent:
            await anext(client.listen(stream.slug))
        assert silent.value.status == 404
        renewed = await client.new_stream_key(stream.id)
        await client.update_stream(stream.id, visibility="private")
        links = await client.listen_links(stream.id)
        assert links.expires_at is not None
        assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/live/\d+\.\w+\.\d+/{stream.slug}", links.progressive)
        assert links.socket.startswith("ws://")
        with pytest.raises(AuthFailed):
            await client.broadcast(stream.slug, stream.stream_key, inputs["mp3"])
        await client.broadcast(stream.slug, renewed.stream_key, inputs["mp3_tiny"])
    async with VezaClient(f"http://127.0.0.1:{house.port}") as late:
        with pytest.raises(Unreachable):
            await late.broadcast(stream.slug, stream.stream_key, inputs["mp3"], reconnect=False)
        with pytest.raises(Unreachable):
            await anext(late.listen(stream.slug))
