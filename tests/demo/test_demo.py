"""`veza demo`: one command, and there is a place with people, talk, music and a market; nothing else is touched."""

from __future__ import annotations

import io
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import httpx
import pytest
import trio
from PIL import Image

from tests.cli.conftest import Veza, descendants_mentioning
from tests.client.conftest import PASSWORD, settings_for
from tests.demo.conftest import demonstration
from veza.app import App, open_server
from veza.client import Track, VezaClient
from veza.commands.demo.people import PEOPLE
from veza.commands.demo.talk import TALK
from veza.db.pool import Database


@pytest.fixture(autouse=True)
async def nobody_hangs() -> AsyncIterator[None]:
    with trio.fail_after(900):
        yield


async def test_a_newcomer_sees_a_living_place_and_the_next_start_finds_it(veza: Veza) -> None:
    # Told to stop while people are moving in, it stops; what was begun is begun anew.
    async with demonstration(veza, "--port", "0", ready="moving in") as interrupted:
        assert await interrupted.end(signal.SIGTERM) == 0
    assert not list(descendants_mentioning(str(veza.home)))

    async with demonstration(veza, "--port", "0") as demo, VezaClient(demo.url) as client:
        await client.login(demo.person, demo.password)
        assert (await client.users()).total == len(PEOPLE)
        said = await rooms_are_full_of_talk(client)
        await things_are_for_sale(client)
        await music_can_be_heard(client)
        await the_radio_plays(client, demo.slug)
        heard = await client.notifications(limit=100)
        assert {"follow", "like", "comment"} <= {notice.kind for notice in heard.notifications}
        assert 0 < heard.unread < len(heard.notifications)
        assert await demo.end(signal.SIGINT) == 0
    assert not list(descendants_mentioning(str(veza.home)))
    state = veza.home / "veza-demo" / "demo.json"
    assert state.stat().st_mode & 0o077 == 0
    assert {path.name for path in veza.home.iterdir()} == {"veza-demo"}, "nothing else is touched"

    async with demonstration(veza, "--port", "0") as again, VezaClient(again.url) as client:
        assert (again.password, again.slug) == (demo.password, demo.slug)
        await client.login(demo.person, demo.password)
        assert (await client.users()).total == len(PEOPLE)
        assert {room.name for room in (await client.rooms()).items} >= {talk.room for talk in TALK}
        assert (await client.listings()).total == 4
        assert len((await client.tracks()).items) == 2
        for talk in TALK:
            ours = [
                m for m in (await client.messages(talk.room)).messages if (m.nonce or "").startswith("demo-")
            ]
            assert len((await client.messages(talk.room)).messages) >= said[talk.room], ours
        await the_radio_plays(client, again.slug)
        await client.login("radio_veza", again.password)
        await client.end_stream(again.slug)
        while again.slug == (await on_air(client)):  # noqa: ASYNC110 (REST has no events)
            await trio.sleep(0.05)
        assert await again.end(signal.SIGTERM) == 0
    assert not list(descendants_mentioning(str(veza.home)))


async def rooms_are_full_of_talk(client: VezaClient) -> dict[str, int]:
    """Of some days, in order; replies and reactions among it. How many messages there are in each."""
    said = {}
    everything = []
    now = datetime.now(UTC)
    for talk in TALK:
        messages = (await client.messages(talk.room, limit=100)).messages
        times = [message.created_at for message in messages]
        assert times == sorted(times), "time goes on"
        assert times[0] < now - timedelta(days=1), "it was not all said this minute"
        assert times[len(talk.lines) - 1] < now
        assert len(messages) >= len(talk.lines)
        said[talk.room] = len(messages)
        everything += messages
    assert any(message.reply_to for message in everything)
    assert any(message.reactions for message in everything)
    assert any(message.mentions for message in everything)
    return said


async def things_are_for_sale(client: VezaClient) -> None:
    listings = (await client.listings()).items
    assert len({listing.category for listing in listings}) > 2
    async with httpx.AsyncClient(base_url=client.url) as http:
        for listing in listings:
            assert listing.created_at is not None
            assert listing.created_at < datetime.now(UTC) - timedelta(hours=2)
            (image,) = listing.images
            picture = Image.open(io.BytesIO((await http.get(image.url)).content))
            assert (picture.width, picture.height) == (image.width, image.height)
            picture.load()
        faces = [person.avatar for person in (await client.users(limit=100)).items if person.avatar]
        assert len(faces) == 3
        for address in faces:
            assert Image.open(io.BytesIO((await http.get(address)).content)).format == "WEBP"


async def music_can_be_heard(client: VezaClient) -> None:
    tracks = (await client.tracks()).items
    assert len(tracks) == 2
    assert all(track.like_count and track.comment_count and track.play_count for track in tracks)
    for track in tracks:
        assert await loudest_of(client, track) > 0.1


async def loudest_of(client: VezaClient, track: Track) -> float:
    urls = await client.stream_urls(track.id)
    async with httpx.AsyncClient() as http:
        data = (await http.get(urls.url)).content
    return loudest(data)


def loudest(data: bytes) -> float:
    """The highest sample of the first second or so, 0 … 1; raises what av does where it is no audio."""
    with av.open(io.BytesIO(data)) as source:
        resampler = av.AudioResampler("s16", "mono", 8000)
        most, count = 0, 0
        for frame in source.decode(audio=0):
            for part in resampler.resample(frame):
                samples = memoryview(bytes(part.planes[0])).cast("h")[: part.samples]
                most, count = max(most, *map(abs, samples)), count + part.samples
            if count > 16_000:
                break
    return most / 32768


async def the_radio_plays(client: VezaClient, slug: str) -> None:
    await until_live(client, slug)
    heard = bytearray()
    async with aclosing(client.listen(slug)) as listening:
        async for data in listening:
            heard += data
            if len(heard) > 24_000:
                break
    assert loudest(bytes(heard)) > 0.02
    while not (stream := await client.stream(slug)).song or stream.listeners < 3:  # noqa: ASYNC110 (REST has no events)
        await trio.sleep(0.05)


async def until_live(client: VezaClient, slug: str) -> None:
    """The demonstration says it is ready once it has sent something, which the server hears a moment later."""
    while (await client.stream(slug)).state != "live":  # noqa: ASYNC110 (REST has no events)
        await trio.sleep(0.05)


async def on_air(client: VezaClient) -> str:
    """The slug of the stream that is live."""
    while True:
        for stream in (await client.streams()).items:
            if stream.state == "live":
                return stream.slug
        await trio.sleep(0.05)


async def test_a_server_that_runs_is_filled_if_nobody_lives_there(db: Database, veza: Veza) -> None:
    async with open_server(settings_for(veza.home / "its"), db) as server:
        port = str(server.port)
        async with demonstration(veza, "--port", port) as demo, VezaClient(demo.url) as client:
            await client.login(demo.person, demo.password)
            assert (await client.users()).total == len(PEOPLE)
            await until_live(client, demo.slug)
            assert await demo.end() == 0
        # For somebody else these are people like any others.
        refused = await veza("demo", "--small", "--port", port, "--data", "another")
        assert "somebody lives at" in refused.complaint
    assert not list(descendants_mentioning(str(veza.home)))


async def test_where_others_live_nothing_is_touched(db: Database, veza: Veza, tmp_path: Path) -> None:
    server: App
    async with open_server(settings_for(tmp_path / "its"), db) as server:
        async with VezaClient(f"http://127.0.0.1:{server.port}") as client:
            await client.register("somebody", "somebody@example.org", PASSWORD)
            refused = await veza("demo", "--port", str(server.port))
            assert "somebody lives at" in refused.complaint
            assert (await client.users()).total == 1
    assert not (veza.home / "veza-demo").exists()
