"""Files: conditions and ranges to the letter, nothing outside the shelf, slow readers cost a socket."""

from __future__ import annotations

import os
from email.utils import formatdate
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.http.house import empty, get, open_house, post, settings
from veza.config import Settings
from veza.http.head import parse
from veza.http.media import MediaRooms, MediaRoutes, Pages, Resource, folder
from veza.http.ranges import select

DATA = os.urandom(1_000_000)
STAMP = 1_700_000_000


@pytest.fixture
def files(tmp_path: Path) -> Path:
    place = tmp_path / "files"
    (place / "deep" / "er").mkdir(parents=True)
    (place / "song.mp3").write_bytes(DATA)
    os.utime(place / "song.mp3", (STAMP, STAMP))
    (place / "empty.txt").write_bytes(b"")
    (place / "deep" / "er" / "a b.js").write_text("1")
    (place / ".hidden").write_text("no")
    (tmp_path / "secret").write_text("no")
    (place / "link").symlink_to(tmp_path / "secret")
    (place / "linked").symlink_to(tmp_path)
    return place


async def test_ranges_and_conditions(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            whole = await client.ask(get("/files/song.mp3"))
            assert (whole.status, whole.body) == (200, DATA)
            assert whole["content-type"] == "audio/mpeg"
            assert whole["accept-ranges"] == "bytes"
            assert whole["last-modified"] == formatdate(STAMP, usegmt=True)
            etag = whole["etag"] or ""
            assert etag.startswith('"')
            assert etag.endswith('"')
            for asked, status, body, said in [
                ("bytes=0-0", 206, DATA[:1], "bytes 0-0/1000000"),
                ("bytes=999999-", 206, DATA[-1:], "bytes 999999-999999/1000000"),
                ("bytes=-500", 206, DATA[-500:], "bytes 999500-999999/1000000"),
                ("bytes=-2000000", 206, DATA, "bytes 0-999999/1000000"),
                ("bytes=10-2000000", 206, DATA[10:], "bytes 10-999999/1000000"),
                ("bytes=70000-300000", 206, DATA[70000:300001], "bytes 70000-300000/1000000"),
                ("BYTES=5-9", 206, DATA[5:10], "bytes 5-9/1000000"),
                ("bytes=0-1,5-6", 200, DATA, None),
                ("bytes=9-5", 200, DATA, None),
                ("bytes=-", 200, DATA, None),
                ("lines=1-2", 200, DATA, None),
                ("bytes=a-b", 200, DATA, None),
            ]:
                answer = await client.ask(get("/files/song.mp3", f"Range: {asked}"))
                assert (answer.status, answer.body, answer["content-range"]) == (status, body, said), asked
            for asked in ("bytes=1000000-", "bytes=-0", f"bytes={10**17}-"):
                answer = await client.ask(get("/files/song.mp3", f"Range: {asked}"))
                assert (answer.status, answer["content-range"]) == (416, "bytes */1000000")
            later, earlier = formatdate(STAMP + 9, usegmt=True), formatdate(STAMP - 9, usegmt=True)
            same = formatdate(STAMP, usegmt=True)
            for lines, status in [
                ([f"If-None-Match: {etag}"], 304),
                ([f"If-None-Match: W/{etag}"], 304),
                ([f'If-None-Match: "x", {etag}'], 304),
                (["If-None-Match: *"], 304),
                (['If-None-Match: "x"'], 200),
                (['If-None-Match: "x"', f"If-Modified-Since: {later}"], 200),
                ([f"If-Modified-Since: {same}"], 304),
                ([f"If-Modified-Since: {earlier}"], 200),
                (["If-Modified-Since: yesterday"], 200),
                ([f"If-Match: {etag}"], 200),
                ([f"If-Match: W/{etag}"], 412),
                (['If-Match: "x"'], 412),
                ([f"If-Unmodified-Since: {earlier}"], 412),
                ([f"If-Unmodified-Since: {same}"], 200),
                ([f"If-Range: {etag}", "Range: bytes=0-0"], 206),
                ([f"If-Range: W/{etag}", "Range: bytes=0-0"], 200),
                ([f"If-Range: {same}", "Range: bytes=0-0"], 206),
                ([f"If-Range: {later}", "Range: bytes=0-0"], 200),
                ([f"If-None-Match: {etag}", "Range: bytes=0-0"], 304),
            ]:
                answer = await client.ask(get("/files/song.mp3", *lines))
                assert answer.status == status, lines
                if status == 304:
                    assert answer["etag"] == etag
                    assert answer["content-type"] is None
            assert (await client.ask(get("/files/empty.txt"))).body == b""
            assert (await client.ask(get("/files/empty.txt", "Range: bytes=0-"))).status == 416
            answer = await client.ask(get("/files/song.mp3", "Range: bytes=0-4", method="HEAD"), head=True)
            assert (answer.status, answer["content-length"]) == (200, "1000000")
            answer = await client.ask(post("/files/song.mp3", b"x"))
            assert (answer.status, answer["allow"]) == (405, "GET, HEAD")


@given(st.integers(0, 50), st.text("0123456789", max_size=3), st.text("0123456789", max_size=3))
def test_a_range_lies_within_the_file(size: int, first: str, last: str) -> None:
    head = parse(f"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes={first}-{last}\r\n\r\n".encode())
    part = select(head, size=size, etag=b'"x"', modified=0)
    if part.status == 206:
        assert 0 <= part.start < part.stop <= size
    elif part.status == 200:
        assert (part.start, part.stop) == (0, size)
    else:
        assert part.status == 416


@pytest.mark.parametrize(
    "path",
    [
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/..%2fsecret",
        "/files//secret",
        "/files/deep/../../secret",
        "/files/link",
        "/files/linked/secret",
        "/files/.hidden",
        "/files/deep",
        "/files/deep/",
        "/files/",
        "/files/song.mp3/",
        "/files/song.mp3%20",
        "/files/nothing",
    ],
)
async def test_nothing_outside_the_shelf_is_found(files: Path, path: str) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            answer = await (await house.connect()).ask(get(path))
            assert answer.status == 404


async def test_names_with_spaces_have_types_too(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            answer = await (await house.connect()).ask(get("/files/deep/er/a%20b.js"))
            assert (answer.status, answer["content-type"]) == (200, "text/javascript; charset=utf-8")


async def test_a_file_that_becomes_a_link_or_goes_is_404(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            (files / "empty.txt").unlink()
            assert (await client.ask(get("/files/empty.txt"))).status == 404
            (files / "empty.txt").symlink_to(files.parent / "secret")
            assert (await client.ask(get("/files/empty.txt"))).status == 404


async def test_readers_that_stop_and_leave_hold_nothing(files: Path) -> None:
    with trio.fail_after(60):
        (files / "big.mp4").write_bytes(bytes(30_000_000))
        async with open_house(files, settings(send_timeout=0.3)) as house:
            stopped = [await house.connect(receive_buffer=4096) for _ in range(20)]
            for client in stopped:
                await client.send(get("/files/big.mp4"))
            other = await house.connect()
            for _ in range(20):
                assert (await other.ask(get("/api/ping"))).status == 200
            for client in stopped[:10]:
                await client.more()
                client.reset()
            await other.aclose()
            await empty(house.door)
            opened = len(os.listdir("/proc/self/fd"))
            assert opened < 200


async def test_files_leave_room_for_everybody_else(files: Path) -> None:
    """While files are sent as fast as loopback takes them, a small request still has its turn.

    Counted in what was sent meanwhile, for a machine may stand still.
    """
    with trio.fail_after(60):
        (files / "big.mp4").write_bytes(bytes(50_000_000))
        async with open_house(files) as house:
            other = await house.connect()
            most = 0
            async with trio.open_nursery() as nursery:
                done = taken = 0

                async def download() -> None:
                    nonlocal done, taken
                    client = await house.connect()
                    await client.send(get("/files/big.mp4"))
                    answer = await client.head()
                    left = int(answer["content-length"] or 0) - len(client.buffer)
                    while left > 0:
                        size = len(await client.stream.receive_some(1 << 20))
                        left -= size
                        taken += size
                    done += 1

                for _ in range(8):
                    nursery.start_soon(download)
                while done < 8:
                    before = taken
                    await other.ask(get("/api/ping"))
                    most = max(most, taken - before)
            assert most < 100_000_000


def test_a_folder_is_known_by_name_before_anybody_asks(files: Path) -> None:
    shelf = folder("/docs/", files, index="song.mp3")
    assert shelf.claims("/docs/")
    assert shelf.claims("/docs/song.mp3")
    assert not shelf.claims("/docs/.hidden")
    assert not shelf.claims("/docs/link")
    assert not shelf.claims("/docs/../secret")


def test_pages_in_memory_are_resources_too() -> None:
    assert Pages({"/": Resource(content_type="text/html", data=b"x")}).claims("/")


async def test_rooms_are_asked_in_their_order(files: Path) -> None:
    """And only the one that claims a request hears of it."""
    first = Pages({"/a": Resource(content_type="text/plain", data=b"1")})
    second = Pages({path: Resource(content_type="text/plain", data=b"2") for path in ("/a", "/b")})

    def media(config: Settings) -> MediaRooms:
        return MediaRooms(MediaRoutes(config, [first]), MediaRoutes(config, [second]))

    with trio.fail_after(60):
        async with open_house(files, media=media) as house:
            client = await house.connect()
            for path, body in [("/a", b"1"), ("/b", b"2"), ("/files/song.mp3", DATA)]:
                answer = await client.ask(get(path))
                assert (answer.status, answer.body) == (200, body)
            assert (await client.ask(get("/c"))).status == 404
            kept = await client.ask(get("/a", f"If-None-Match: {(await client.ask(get('/a')))['etag']}"))
            assert kept.status == 304
