"""Ranges asked for one after another in the same words: answered faster, and in nothing else otherwise."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from tests.http.house import Answer, Client, get, post, settings
from tests.http.shelf import EXPIRES, SONG, Shop, open_shop
from veza.http import head as heads
from veza.http.head import Head
from veza.http.ranges import between, select
from veza.http.sequel import sequel_of

VARYING = ("content-range", "content-length", "date", "x-request-id", "cache-control")


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings(allowed_origins=("https://app.example",))) as shop:
            yield shop


async def ask(client: Client, url: str, first: int, last: int | str = "", *lines: str) -> Answer:
    return await client.ask(get(url, f"Range: bytes={first}-{last}", *lines))


async def test_every_answer_says_what_the_first_said(shop: Shop) -> None:
    client = await shop.house.connect()
    for lines in ((), ("Origin: https://app.example", "X-Request-ID: mine")):
        first = await ask(client, shop.url(), 0, 9, *lines)
        ids = {first["x-request-id"]}
        for at in range(0, 200_000, 9_999):
            answer = await ask(client, shop.url(), at, at + 9_998, *lines)
            assert (answer.status, answer.body) == (206, SONG[at : at + 9_999])
            assert answer["content-range"] == f"bytes {at}-{at + 9_998}/{len(SONG)}"
            kept = [h for h in answer.headers if h[0] not in VARYING]
            assert kept == [h for h in first.headers if h[0] not in VARYING]
            ids.add(answer["x-request-id"])
        assert len(ids) == (1 if lines else 22), "each has its own, unless the client names it"
    await client.aclose()


async def test_what_is_asked_otherwise_is_answered_otherwise(shop: Shop) -> None:
    client = await shop.house.connect()
    url, etag = shop.url(), (await client.ask(get(shop.url())))["etag"]
    for _ in range(2):
        assert (await ask(client, url, 5, 9)).body == SONG[5:10]
        assert (await ask(client, url, 290_000)).body == SONG[290_000:]
        assert (await ask(client, url, 300_000)).status == 416
        assert (await ask(client, url, 9, 5)).body == SONG
        assert (await ask(client, url, 5, 9)).body == SONG[5:10]
        assert (await client.ask(get(url, "Range: bytes=-4"))).body == SONG[-4:]
        assert (await ask(client, url, 5, 9)).body == SONG[5:10]
        assert (await ask(client, url, 5, 9, f"If-None-Match: {etag}")).status == 304
        assert (await ask(client, url, 6, 9, f"If-None-Match: {etag}")).status == 304
        assert (await ask(client, url, 5, 9, 'If-Range: "x"')).status == 200
        assert (await ask(client, url, 5, 9)).body == SONG[5:10]
        assert (await ask(client, shop.url("fresh"), 5, 9)).body == SONG[5:10]
        assert (await ask(client, url, 5, 9)).body == SONG[5:10]
        assert (await client.ask(get("/api/ping"))).status == 200
        assert (await client.ask(get(url, "Range: bytes=5-9", method="HEAD"), head=True)).status == 200
    assert (await ask(client, url, 5, 9, "Connection: close")).body == SONG[5:10]
    assert await client.rest() == b""
    await client.aclose()


async def test_heads_in_pieces_and_several_at_once(shop: Shop) -> None:
    client = await shop.house.connect()
    for _ in range(2):
        assert (await ask(client, shop.url(), 1, 2)).body == SONG[1:3]
        whole = get(shop.url(), "Range: bytes=3-4")
        for cut in (1, len(whole) - 5, len(whole) - 1):
            await client.send(whole[:cut])
            await trio.testing.wait_all_tasks_blocked()
            await client.send(whole[cut:])
            assert (await client.answer()).body == SONG[3:5]
        await client.send(whole + get(shop.url(), "Range: bytes=5-6") + whole)
        for first in (3, 5, 3):
            assert (await client.answer()).body == SONG[first : first + 2]
    await client.send(get(shop.url(), "Range: bytes=7-8")[:-2])
    await client.stream.send_eof()
    assert await client.rest() == b""
    await client.aclose()


async def test_time_and_deletion_are_seen(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veza.http.files.SURE", -1.0)
    client = await shop.house.connect()
    assert (await ask(client, shop.url(), 0, 1)).status == 206
    assert (await ask(client, shop.url(), 1, 2)).status == 206
    shop.now = EXPIRES + 5.1
    assert (await ask(client, shop.url(), 2, 3)).status == 403
    shop.now = EXPIRES
    assert (await ask(client, shop.url(), 3, 4)).status == 206
    assert (await ask(client, shop.url(), 4, 5)).status == 206
    shop.library.remove_track("plouf")
    assert (await ask(client, shop.url(), 5, 6)).status == 404
    assert (await ask(client, shop.url(), 6, 7)).status == 404
    await client.aclose()


async def test_shutting_down_waits_for_nobody(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings(shutdown_send_timeout=0.2)) as shop:
            idle, slow = await shop.house.connect(), await shop.house.connect(receive_buffer=65_536)
            shop.add("big", "flac", "audio/flac", SONG * 30)
            for client, name in ((idle, "plouf"), (slow, "big")):
                assert (await ask(client, shop.url(name), 0, 1)).status == 206
            await slow.send(get(shop.url("big"), "Range: bytes=0-"))
            assert (await slow.head()).status == 206
            await shop.house.door.shut()
            assert shop.house.door.connections == 0
            assert await idle.rest() == b""


async def test_an_idle_connection_is_closed_here_too(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings(keep_alive_timeout=0.1)) as shop:
            client = await shop.house.connect()
            assert (await ask(client, shop.url(), 0, 1)).status == 206
            assert await client.rest() == b""


async def test_the_same_head_again_has_a_body_of_its_own(shop: Shop) -> None:
    """A head that comes again byte by byte is not read again; what follows it is."""
    client = await shop.house.connect()
    for body in (b"one", b"two", b"two"):
        assert (await client.ask(post("/api/echo", body))).body == body
    for _ in range(3):
        assert (await client.ask(get(shop.url()))).body == SONG
    await client.aclose()


# The words themselves


def parsed(raw: bytes) -> Head | None:
    try:
        return heads.parse(raw)
    except heads.Refused:
        return None


_line = st.sampled_from(
    [
        "Accept: */*",
        "Range: bytes=1-2",
        "range:bytes=5-",
        "RANGE: bytes=7-9",
        "Range:  bytes=1-2",
        "Range: bytes=-5",
        "Range: bytes=1-2,3-4",
        "X-Range: bytes=1-2",
        "X: Range: bytes=1-2",
        "If-Range: x",
        "if-match: *",
        "Origin: a",
    ]
)
_digits = st.text("0123456789", max_size=20)


@given(
    st.lists(_line, max_size=4),
    _digits,
    _digits,
    st.sampled_from(["", "\r\n\r\n", "x", " ", "GET / HTTP/1.1"]),
)
def test_same_words_mean_the_same(lines: list[str], first: str, last: str, more: str) -> None:
    """Whatever is taken for a sequel would have been read to exactly that."""
    raw = get("/stream/x?y", *lines)
    head, sequel = parsed(raw), sequel_of(raw)
    assert head is not None
    if sequel is None:
        return
    again = [
        line.partition("=")[0] + f"={first}-{last}" if line.lower().startswith("range:") else line
        for line in lines
    ]
    follower = get("/stream/x?y", *again) + more.encode()
    wanted, alone = sequel.range(follower), parsed(follower)
    if wanted is None:
        assert more or len(first) not in range(1, 19) or len(last) > 18
        return
    assert alone is not None
    assert (alone.path, alone.version, alone.keep_alive) == (head.path, head.version, head.keep_alive)
    for size in (0, 3, 10**9):
        assert between(*wanted, size) == select(alone, size=size, etag=b'"e"', modified=5)


@given(st.binary(max_size=200))
def test_other_bytes_are_no_sequel(raw: bytes) -> None:
    sequel = sequel_of(get("/", "Range: bytes=0-1"))
    assert sequel is not None
    assert sequel.range(raw) is None
    assert sequel.range(get("/", "Range: bytes=0-1") + raw) is None or not raw
