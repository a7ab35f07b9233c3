"""The pages in a real browser against a real server: what people do there works, and nothing complains."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.browser.browser import BOUND, Browser
from tests.browser.conftest import logged_in
from tests.chat.conftest import Build, House, Person
from tests.media.inputs import Inputs, tone
from veza.client import NewStream, RoomMessage, Tokens, VezaClient
from veza.client.containers import recognise

OURS = {"public_url": None, "allowed_origins": ()}


async def test_somebody_opens_an_account_on_the_start_page(build: Build, browser: Browser) -> None:
    async with build(**OURS) as house, browser.page(f"http://127.0.0.1:{house.port}/") as page:
        with trio.fail_after(BOUND):
            await page.until("document.querySelector('.who button.main')")
            await page.click(".who button.main")
            for field, text in (
                ("name", "newcomer"),
                ("email", "newcomer@example.org"),
                ("password", "correct horse"),
            ):
                await page.type(f"dialog [name={field}]", text)
            await page.click("dialog button.main")
            await page.until("document.querySelector('.who span')?.textContent === 'newcomer'")
            assert await page.run("document.body.classList.contains('known')")
            await page.click(".who button")
            await page.until("document.querySelectorAll('.who button').length === 2")
            assert page.complaints == []


async def test_a_track_plays_from_any_position_and_shows_its_waveform(
    build: Build, browser: Browser, inputs: Inputs
) -> None:
    async with build(**OURS) as house, client_of(house, await house.person()) as client:
        with trio.fail_after(BOUND):
            song = inputs.make("mp3", *tone(12), "-b:a", "64k", "-metadata", "title=Twelve <i>Seconds</i>")
            track = await client.upload(song, tags=["slow"])
            await client.wait_ready(track.id)
            await client.comment(track.id, "the <b>middle</b>", 6000)
            reader = await house.person()
            url = f"http://127.0.0.1:{house.port}/tracks/{track.id}"
            async with browser.page(url, storage=logged_in(reader)) as page:
                await page.until("document.querySelector('#title').textContent === 'Twelve <i>Seconds</i>'")
                await page.until(
                    "document.querySelector('#comments li span')?.textContent === 'the <b>middle</b>'"
                )
                # Bars of the wave, in two colours once half of it is behind us.
                await page.until(f"{COLOURS}.length === 2")
                assert await page.run(TALL)
                place = await page.run("document.querySelector('#waveform').getBoundingClientRect().toJSON()")
                await page.click_at(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
                await page.until("Math.abs(document.querySelector('#audio').currentTime - 6) < 0.5")
                await page.until(f"{COLOURS}.length === 3")
                await page.click("#play")
                await page.until("document.querySelector('#audio').currentTime > 6.7")
                # It stands still for this: it would play on however long we take to look.
                await page.run("document.querySelector('#audio').pause()")
                await page.run("document.querySelector('#waveform').focus()")
                await page.press("Home")
                await page.until("document.querySelector('#audio').currentTime < 1")
                await page.press("ArrowRight")
                await page.until("Math.abs(document.querySelector('#audio').currentTime - 5) < 1")
                await page.click("#play")
                await page.until("document.querySelector('#audio').currentTime > 5.2")
                await page.click("#like")
                await page.until("document.querySelector('#like').getAttribute('aria-pressed') === 'true'")
                await page.type("#comment input", "I was here")
                await page.press("Enter")
                await page.until("document.querySelectorAll('#comments li').length === 2")
                found = await client.track(track.id)
                assert (found.like_count, found.comment_count) == (1, 2)
                # The same through HLS, from where it stands.
                await page.run(
                    "document.querySelector('#via').value = 'hls';"
                    " document.querySelector('#via').dispatchEvent(new Event('change'))"
                )
                await page.until("document.querySelector('#audio').src.startsWith('blob:')")
                await page.until("document.querySelector('#audio').currentTime > 5.5")
                await page.run("document.querySelector('#waveform').focus()")
                await page.press("End")
                await page.until("document.querySelector('#audio').ended")
                assert page.complaints == []


# The colours of the waveform's canvas, that of the marks among them.
COLOURS = """(() => {
    const canvas = document.querySelector('#waveform');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const counts = new Map();
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] < 255) continue;
        const colour = data.slice(i, i + 3).join();
        counts.set(colour, (counts.get(colour) || 0) + 1);
    }
    return [...counts].filter(([, count]) => count > 12).map(([colour]) => colour);
})()"""
# Whether the wave reaches up to a tenth below the top: without peaks it is a line.
TALL = """(() => {
    const canvas = document.querySelector('#waveform');
    const { data } = canvas.getContext('2d').getImageData(0, Math.floor(canvas.height / 10), canvas.width, 1);
    return data.some((value, i) => i % 4 === 3 && value > 0);
})()"""


async def test_a_video_has_picture_and_sound(build: Build, browser: Browser, inputs: Inputs) -> None:
    async with build(**OURS) as house, client_of(house, await house.person()) as client:
        with trio.fail_after(BOUND):
            track = await client.upload(inputs["mp4"])
            await client.wait_ready(track.id)
            async with browser.page(f"http://127.0.0.1:{house.port}/tracks/{track.id}?via=hls") as page:
                await page.click("#play")
                await page.until("document.querySelector('#video').currentTime > 0.5")
                assert await page.run("document.querySelector('#video').videoWidth") > 0
                # Its sound lies apart in our playlists: a player that does not know that is silent.
                await page.until("document.querySelector('#video').webkitAudioDecodedByteCount > 0")
                assert page.complaints == []


async def test_a_file_is_uploaded_on_the_start_page(build: Build, browser: Browser, inputs: Inputs) -> None:
    async with build(**OURS) as house:
        somebody = await house.person()
        with trio.fail_after(BOUND):
            async with browser.page(f"http://127.0.0.1:{house.port}/", storage=logged_in(somebody)) as page:
                await page.until("document.querySelector('.who span')")
                root = (await page.command("DOM.getDocument"))["root"]["nodeId"]
                field = await page.command("DOM.querySelector", nodeId=root, selector="#upload [type=file]")
                await page.command("DOM.setFileInputFiles", files=[str(inputs["mp3_tagged"])], **field)
                await page.click("#upload button")
                link = await page.until("document.querySelector('#upload output a')?.getAttribute('href')")
                await page.until(f"document.querySelector('#tracks a[href=\"{link}\"] b')")
                await page.click(f"#tracks a[href='{link}']")
                await page.until("document.querySelector('#cover')?.naturalWidth > 0")
                assert await page.run("document.title") == "A Swelling Chord – The Tests"
                assert page.complaints == []


@asynccontextmanager
async def client_of(house: House, person: Person) -> AsyncIterator[VezaClient]:
    tokens = Tokens(access_token=person.token)
    async with VezaClient(f"http://127.0.0.1:{house.port}", tokens=tokens) as client:
        yield client


async def over_and_over(file: Path) -> AsyncIterator[bytes]:
    data = await trio.Path(file).read_bytes()
    while True:
        yield data


@asynccontextmanager
async def on_air(house: House, file: Path, **how: Any) -> AsyncIterator[tuple[VezaClient, NewStream]]:
    """A stream with a source that does not end."""
    async with client_of(house, await house.person()) as client:
        stream = await client.create_stream("On air", **how)
        async with trio.open_nursery() as nursery:
            play = over_and_over(file)
            begin = partial(client.broadcast, stream.slug, stream.stream_key, play, realtime=True)
            nursery.start_soon(begin)
            while (await client.stream(stream.slug)).state != "live":  # noqa: ASYNC110 (a server's state)
                await trio.sleep(0.02)
            yield client, stream
            nursery.cancel_scope.cancel()


async def test_a_live_stream_is_heard_while_its_room_talks(
    build: Build, browser: Browser, inputs: Inputs
) -> None:
    async with build(**OURS) as house, on_air(house, inputs["mp3"]) as (client, stream):
        with trio.fail_after(BOUND):
            await client.set_song(stream.slug, stream.stream_key, "Nobody – Nothing <b>at all</b>")
            assert stream.room_id is not None
            reader = await house.person()
            url = f"http://127.0.0.1:{house.port}/s/{stream.slug}"
            async with browser.page(url, storage=logged_in(reader)) as page, client.chat() as chat:
                await chat.join(stream.room_id)
                await page.until(
                    "document.querySelector('#song').textContent === '♪ Nobody – Nothing <b>at all</b>'"
                )
                await page.click("#play")
                await page.until("document.querySelector('#audio').currentTime > 0.5")
                assert await page.run(
                    "document.querySelector('#audio').src.endsWith('/live/" + stream.slug + "')"
                )
                await chat.send(stream.room_id, "hello <i>there</i>")
                await page.until(
                    "document.querySelector('.messages .text')?.textContent === 'hello <i>there</i>'"
                )
                await page.type("#chat input", "hello yourself")
                await page.press("Enter")
                async for event in chat:
                    if isinstance(event, RoomMessage) and event.username == reader.name:
                        assert event.content == "hello yourself"
                        break
                await page.until("document.querySelectorAll('.messages li').length === 2")
                position = await page.run("document.querySelector('#audio').currentTime")
                await page.until(f"document.querySelector('#audio').currentTime > {position} + 0.2")
                await page.click("#play")
                await page.until("!document.querySelector('#audio').hasAttribute('src')")
                assert page.complaints == []


async def test_a_live_stream_is_heard_through_hls(build: Build, browser: Browser, inputs: Inputs) -> None:
    async with (
        build(**OURS, stream_hls_segment=0.5, stream_hls_window=60) as house,
        on_air(house, inputs["aac"]) as (_, stream),
    ):
        with trio.fail_after(BOUND):
            async with browser.page(f"http://127.0.0.1:{house.port}/s/{stream.slug}?via=hls") as page:
                await page.click("#play")
                await page.until("document.querySelector('#audio').currentTime > 0.5")
                assert await page.run("document.querySelector('#audio').src.startsWith('blob:')")


@pytest.mark.parametrize("source", ["microphone", "camera"])
async def test_what_a_browser_broadcasts_is_heard(build: Build, browser: Browser, source: str) -> None:
    async with build(**OURS) as house:
        owner = await house.person()
        async with client_of(house, owner) as client:
            stream = await client.create_stream("From the browser", visibility="unlisted")
            url = f"http://127.0.0.1:{house.port}/s/{stream.slug}/broadcast"
            with trio.fail_after(BOUND):
                async with browser.page(url, storage=logged_in(owner)) as page:
                    await page.until("!document.querySelector('#studio').hidden")
                    await page.run(f"document.querySelector('[name=source]').value = '{source}'")
                    await page.click("#go")
                    await page.until("document.querySelector('#state').textContent === 'You are on air.'")
                    await page.until("document.querySelector('#level').value > 0.01")
                    heard = b""
                    container = None
                    async with aclosing(client.listen(stream.slug)) as listening:
                        async for data in listening:
                            heard += data
                            container = recognise(heard)
                            if container is not None and len(container.feed(heard)) >= 2:
                                break
                    assert container is not None
                    # Chromium calls its file Matroska as soon as there is H.264 in it.
                    assert (b"webm" if source == "microphone" else b"matroska") in heard[:64]
                    kind = "audio/webm" if source == "microphone" else "video/webm"
                    assert container.content_type == kind
                    await page.click("#go")
                    await page.until("document.querySelector('#state').textContent === 'You are off air.'")
                    assert page.complaints == []
