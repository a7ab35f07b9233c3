"""Signed addresses at the door: who gets in and who does not, in which order it is asked, what is said."""

from __future__ import annotations

import email.message
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import unquote

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.http.house import Answer, Client, get, settings
from tests.http.shelf import EXPIRES, MASTER, NOW, SONG, Shop, open_shop
from veza.http.disposition import attachment
from veza.http.head import parse

VECTOR = "f93866a35a995a2f31c2783c2a579e5f96bba72ad8d747a952201eb4f5eb699c"


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings(allowed_origins=("https://app.example",))) as shop:
            yield shop


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[Client]:
    client = await shop.house.connect()
    yield client
    await client.aclose()


def code(answer: Answer) -> str | None:
    """The machine's code in a refusal's envelope."""
    return answer.body.decode(errors="replace").partition('"code":"')[2].partition('"')[0] or None


async def test_the_address_of_the_design_opens_the_file(shop: Shop, client: Client) -> None:
    for path in ("plouf", "plouf.mp3", "plouf.exe", "%70louf", "plou%66.mp3"):
        answer = await client.ask(get(f"/stream/{path}?expires={EXPIRES}&sig={VECTOR}"))
        assert (answer.status, answer.body) == (200, SONG), path
        assert answer["content-type"] == "audio/mpeg", "what it is, whatever the address says"
    assert (await client.ask(get(f"/stream/plouf?sig={VECTOR}&x=1&expires={EXPIRES}"))).status == 200
    fresh = await client.ask(get(shop.url("fresh")))
    assert (fresh.status, fresh["content-type"]) == (200, "application/ogg"), "heard while it is processed"


async def test_the_tree_carries_its_signature(shop: Shop, client: Client) -> None:
    for file, kind, data in [
        ("master.m3u8", "application/vnd.apple.mpegurl", MASTER),
        ("aac128/index.m3u8", "application/vnd.apple.mpegurl", b"#EXTM3U\n"),
        ("aac128/init.mp4", "video/mp4", SONG[:700]),
        ("aac128/0.m4s", "video/iso.segment", SONG[:9000]),
    ]:
        answer = await client.ask(get(shop.tree(file)))
        assert (answer.status, answer["content-type"], answer.body) == (200, kind, data)
    part = await client.ask(get(shop.tree("aac128/init.mp4"), "Range: bytes=-10"))
    assert (part.status, part.body) == (206, SONG[690:700])
    assert (await client.ask(get(shop.tree(name="fresh")))).status == 404, "it has no renditions yet"


NOTHING: Final = (  # address, status, code; {e} stands for a time, {v} and {h} for true signatures of it
    ("/stream/plouf", 400, "SIGNATURE_MISSING"),
    ("/stream/plouf?expires={e}", 400, "SIGNATURE_MISSING"),
    ("/stream/plouf?sig={v}", 400, "SIGNATURE_MISSING"),
    ("/stream/plouf?expires=&sig={v}", 400, "SIGNATURE_MISSING"),
    ("/stream/plouf?expires={e}&sig=", 400, "SIGNATURE_MISSING"),
    ("/stream/plouf?Expires={e}&Sig={v}", 400, "SIGNATURE_MISSING"),
    ("/stream/plouf?expires={e}&sig={v}&sig={v}", 400, "BAD_REQUEST"),
    ("/stream/plouf?expires={e}&sig={V}", 403, "SIGNATURE_INVALID"),
    ("/stream/plouf?expires={e}&sig={v}0", 403, "SIGNATURE_INVALID"),
    ("/stream/plouf?expires=0{e}&sig={v}", 403, "SIGNATURE_INVALID"),
    ("/stream/plouf?expires=+{e}&sig={v}", 403, "SIGNATURE_INVALID"),
    ("/stream/plouf?expires=soon&sig={v}", 403, "SIGNATURE_INVALID"),
    ("/stream/plouf?expires=%d9%a1&sig={v}", 403, "SIGNATURE_INVALID"),
    ("/stream/plouf?expires={e}&sig=%00%ff", 403, "SIGNATURE_INVALID"),
    ("/stream/fresh?expires={e}&sig={v}", 403, "SIGNATURE_INVALID"),
    ("/stream/unknown?expires={e}&sig={v}", 403, "SIGNATURE_INVALID"),  # not even whether it is there
    ("/stream/PLOUF?expires={e}&sig={v}", 403, "SIGNATURE_INVALID"),
    ("/hls/{e}.{v}/plouf/master.m3u8", 403, "SIGNATURE_INVALID"),  # of another door
    ("/hls/plouf/master.m3u8", 400, "SIGNATURE_MISSING"),
    ("/hls//plouf/master.m3u8", 400, "SIGNATURE_MISSING"),
    ("/hls/{e}./plouf/master.m3u8", 400, "SIGNATURE_MISSING"),
    ("/hls/.{h}/plouf/master.m3u8", 400, "SIGNATURE_MISSING"),
    ("/hls/{e}{h}/plouf/master.m3u8", 400, "SIGNATURE_MISSING"),
    ("/hls/{e}.{h}0/plouf/master.m3u8", 403, "SIGNATURE_INVALID"),
    ("/hls/{e}.{h}/fresh/master.m3u8", 403, "SIGNATURE_INVALID"),
    ("/hls/{e}.{h}/plouf/aac128/1.m4s", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf/aac256/index.m3u8", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf/original.mp3", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf/aac128/0.m4s/", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf/aac128/../master.m3u8", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf/%2e%2e/index.m3u8", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf/..%2foriginal.mp3", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/plouf", 404, "NOT_FOUND"),
    ("/hls/{e}.{h}/", 404, "NOT_FOUND"),
    ("/stream/?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/..?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/../plouf?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/%2e%2e?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/%2e%2e%2fsecret?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/..%5c..%5csecret?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf%2f?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf/?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream//plouf?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf/x?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf.?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf.a.b?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/.mp3?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf%0a?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plouf%20?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/plo%2575f?expires={e}&sig={v}", 404, "NOT_FOUND"),  # decoded once, never twice
    ("/stream/pl%c3%b6uf?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/%ef%bd%90louf?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/%ff?expires={e}&sig={v}", 404, "NOT_FOUND"),
    ("/stream/" + "x" * 65, 404, "NOT_FOUND"),  # a name first, then everything else
    ("/stream/" + "x" * 7000, 404, "NOT_FOUND"),
    ("/stream/a%00b?expires={e}&sig={v}", 400, "BAD_REQUEST"),
    ("/streams/plouf?expires={e}&sig={v}", 404, None),
)


async def test_what_opens_nothing(shop: Shop, client: Client) -> None:
    tree = shop.signer.sign("hls/plouf", EXPIRES)
    for path, status, what in NOTHING:
        asked = path.replace("{e}", str(EXPIRES)).replace("{v}", VECTOR).replace("{h}", tree)
        answer = await client.ask(get(asked.replace("{V}", VECTOR.upper())))
        assert (answer.status, code(answer) if what else None) == (status, what), path
        assert VECTOR not in repr(answer)
        if status == 400 and what == "BAD_REQUEST" and "%00" in path:
            client = await shop.house.connect()  # no request at all: that connection is over


async def test_a_signed_name_that_is_no_track(shop: Shop, client: Client) -> None:
    assert code(await client.ask(get(shop.url("nobody")))) == "NOT_FOUND"
    assert (await client.ask(get(shop.tree(name="nobody")))).status == 404


async def test_an_address_is_good_for_its_time_only(shop: Shop, client: Client) -> None:
    """Replayed as often as one likes until it expires, and not once after, though it was found true before."""
    url, tree = shop.url(), shop.tree()
    for now, status in [
        (NOW, 200),
        (EXPIRES - 1, 200),
        (EXPIRES + 4.9, 200),
        (EXPIRES + 5.1, 403),
        (EXPIRES + 1e6, 403),
    ]:
        shop.now = now
        for path in (url, url, tree):
            answer = await client.ask(get(path))
            assert answer.status == status, now
            assert code(answer) in (None, "SIGNATURE_EXPIRED")
    shop.now = EXPIRES + 4.9
    assert (await client.ask(get(url))).status == 200
    shop.now = EXPIRES + 5.1
    assert (await client.ask(get(url))).status == 403, "although it was good a fifth of a second ago"


async def test_nothing_is_good_for_longer_than_a_day(shop: Shop, client: Client) -> None:
    shop.now = EXPIRES - 24 * 3600.0
    assert (await client.ask(get(shop.url()))).status == 200
    shop.now -= 6
    for path in (shop.url(more="&x=1"), shop.tree()):
        answer = await client.ask(get(path))
        assert (answer.status, code(answer)) == (403, "SIGNATURE_INVALID")


async def test_who_asks_does_not_matter(shop: Shop, client: Client) -> None:
    for line in ("Authorization: Bearer rubbish", "Authorization: Basic eDp5", "Cookie: token=x"):
        assert (await client.ask(get(shop.url(), line))).status == 200
        answer = await client.ask(get("/stream/plouf", line))
        assert (answer.status, answer["www-authenticate"]) == (400, None)


async def test_it_may_be_kept_until_it_expires(
    shop: Shop, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.http.media.time.time", lambda: shop.now)
    for now, age in [(NOW, 1000), (NOW + 990, 10), (EXPIRES + 3.0, 0)]:
        shop.now = now
        for path in (shop.url(), shop.tree()):
            answer = await client.ask(get(path))
            assert answer["cache-control"] == f"private, max-age={age}"
            kept = await client.ask(get(path, f"If-None-Match: {answer['etag']}"))
            assert (kept.status, kept["cache-control"]) == (304, f"private, max-age={age}")
            assert kept["content-length"] is None


async def test_head_says_what_get_says(shop: Shop, client: Client) -> None:
    for path in (shop.url(), shop.url(more="&download=1"), shop.tree(), "/stream/plouf", shop.url("nobody")):
        for lines in ((), ("Origin: https://app.example",)):
            whole = await client.ask(get(path, *lines))
            only = await client.ask(get(path, *lines, method="HEAD"), head=True)
            changing = ("date", "x-request-id", "cache-control")
            assert only.status == whole.status
            assert [h for h in only.headers if h[0] not in changing] == [
                h for h in whole.headers if h[0] not in changing
            ]
            if whole.status == 200:
                assert only["content-length"] == str(len(whole.body))
    ranged = await client.ask(get(shop.url(), "Range: bytes=0-9", method="HEAD"), head=True)
    assert (ranged.status, ranged["content-length"]) == (200, str(len(SONG))), "ranges are for GET"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
async def test_other_methods(shop: Shop, method: str) -> None:
    client = await shop.house.connect()
    answer = await client.ask(get(shop.url(), method=method))
    assert (answer.status, answer["allow"]) == (405, "GET, HEAD, OPTIONS")


# Pages of other sites


async def test_pages_of_other_sites(shop: Shop, client: Client) -> None:
    trusted, other = "Origin: https://app.example", "Origin: https://evil.example"
    for path in (shop.url(), shop.tree(), "/stream/plouf", shop.url("nobody"), "/stream/.."):
        answer = await client.ask(get(path, trusted))
        assert answer["access-control-allow-origin"] == "https://app.example"
        assert answer["access-control-allow-credentials"] == "true"
        assert answer["access-control-expose-headers"] == "Content-Range, Content-Length, Accept-Ranges"
        for line in (other, "Origin: null", "X: 1"):
            answer = await client.ask(get(path, line))
            assert answer["access-control-allow-origin"] is None
            assert answer["vary"] == "Origin", "or a browser shows one page what it kept for another"
    part = await client.ask(get(shop.url(), trusted, "Range: bytes=0-0"))
    assert (part.status, part["access-control-allow-origin"]) == (206, "https://app.example")
    beyond = await client.ask(get(shop.url(), trusted, f"Range: bytes={len(SONG)}-"))
    assert (beyond.status, beyond["content-range"]) == (416, f"bytes */{len(SONG)}")
    assert beyond["access-control-allow-origin"] == "https://app.example"


async def test_preflight(shop: Shop, client: Client) -> None:
    asks = ("Access-Control-Request-Method: GET", "Access-Control-Request-Headers: range")
    answer = await client.ask(get(shop.url(), "Origin: https://app.example", *asks, method="OPTIONS"))
    assert (answer.status, answer["access-control-allow-methods"]) == (204, "GET, HEAD")
    assert "Range" in (answer["access-control-allow-headers"] or "")
    assert answer["access-control-allow-origin"] == "https://app.example"
    answer = await client.ask(get(shop.url(), "Origin: https://evil.example", *asks, method="OPTIONS"))
    assert (answer.status, answer["access-control-allow-methods"]) == (204, None)
    answer = await client.ask(get("/stream/plouf", method="OPTIONS"))
    assert (answer.status, answer["allow"]) == (204, "GET, HEAD, OPTIONS")


async def test_all_origins(tmp_path: Path) -> None:
    with trio.fail_after(60):
        async with open_shop(tmp_path, settings(allowed_origins=("*",))) as shop:
            client = await shop.house.connect()
            answer = await client.ask(get(shop.url(), "Origin: https://any.example"))
            assert answer["access-control-allow-origin"] == "*"
            assert answer["access-control-allow-credentials"] is None


# Downloads


async def test_a_download_has_the_name_it_came_with(shop: Shop, client: Client) -> None:
    plain = await client.ask(get(shop.url()))
    assert plain["content-disposition"] is None
    answer = await client.ask(get(shop.url(more="&download=1")))
    assert (answer.status, answer.body) == (200, SONG)
    assert answer["content-disposition"] == (
        "attachment; filename=\"Plouf! (_t_).mp3\"; filename*=UTF-8''Plouf!%20%28%C3%A9t%C3%A9%29.mp3"
    )
    nameless = await client.ask(get(shop.url("fresh", more="&download=1")))
    assert nameless["content-disposition"] == 'attachment; filename="fresh.ogg"'


@given(st.text(st.characters(exclude_categories=[])))
def test_any_name_makes_one_safe_header(name: str) -> None:
    value = attachment(name).decode("ascii")
    assert "\r" not in value
    assert "\n" not in value
    message = email.message.Message()
    message["content-disposition"] = value
    plain = message.get_param("filename", header="content-disposition")
    assert message.get_content_disposition() == "attachment"
    real = value.partition("filename*=UTF-8''")[2]
    for said in (plain if isinstance(plain, str) else None, unquote(real) if real else None):
        if said is not None:
            assert said
            assert not set(said) & set('/\\"\0\r\n')
            assert said not in (".", "..")


async def test_what_is_no_media_is_never_shown_as_something_else(shop: Shop, client: Client) -> None:
    shop.add("page", "html", "text/html", b"<script>alert(1)</script>")
    answer = await client.ask(get(shop.url("page")))
    assert (answer["content-type"], answer["x-content-type-options"]) == (
        "application/octet-stream",
        "nosniff",
    )


# Tracks that change and go


async def test_a_deleted_track_is_gone(shop: Shop, client: Client) -> None:
    for path in (shop.url(), shop.tree(), shop.tree("aac128/init.mp4")):
        assert (await client.ask(get(path))).status == 200
    shop.library.remove_track("plouf")
    for path in (shop.url(), shop.tree(), shop.tree("aac128/init.mp4")):
        assert (await client.ask(get(path))).status == 404, "at once, whatever is remembered"


async def test_a_row_that_goes_before_its_files_is_missed_within_a_second(shop: Shop, client: Client) -> None:
    assert (await client.ask(get(shop.url()))).status == 200
    del shop.tracks.rows["plouf"]
    shop.now += 1.01
    for path in (shop.url(), shop.tree()):
        assert (await client.ask(get(path))).status == 404


async def test_the_database_is_not_asked_for_every_range(shop: Shop, client: Client) -> None:
    for at in range(50):
        answer = await client.ask(get(shop.url(), f"Range: bytes={at}-{at}"))
        assert (answer.status, answer.body) == (206, SONG[at : at + 1])
        assert (await client.ask(get(shop.tree()))).status == 200
    assert shop.tracks.asked == 1
    shop.now += 1.01
    await client.ask(get(shop.url()))
    assert shop.tracks.asked == 2
    shop.now -= 3600  # a clock that is set back must not make anything good for longer
    await client.ask(get(shop.url(more="&x")))
    assert shop.tracks.asked == 3


async def test_what_is_playing_plays_on_without_a_database(shop: Shop, client: Client) -> None:
    assert (await client.ask(get(shop.url()))).status == 200
    shop.tracks.away = True
    shop.now += 60
    assert (await client.ask(get(shop.url()))).status == 200
    assert (await client.ask(get(shop.tree()))).status == 200
    answer = await client.ask(get(shop.url("fresh")))
    assert (answer.status, answer["retry-after"]) == (503, "2")


async def test_what_is_remembered_is_bounded(
    shop: Shop, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("veza.http.tracks_shelf.TICKETS", 3)
    room = shop.media(settings())
    shelf = room._shelves[0]
    for at in range(10):
        await shelf.find(parse(get(shop.url(more=f"&x={at}"))), None)  # type: ignore[arg-type]
        await shelf.find(parse(get(shop.url(more="&x=" + "y" * 500 + str(at)))), None)  # type: ignore[arg-type]
    assert len(shelf._tickets) == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "link", ["plouf/original.mp3", "plouf", "plouf/hls", "plouf/hls/aac128", "plouf/hls/master.m3u8"]
)
async def test_links_lead_nowhere(shop: Shop, client: Client, tmp_path: Path, link: str) -> None:
    path = shop.library.tracks / link
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    asked = {"plouf/original.mp3": shop.url(), "plouf/hls/aac128": shop.tree("aac128/init.mp4")}
    answer = await client.ask(get(asked.get(link, shop.tree())))
    assert answer.status == 404
    if link == "plouf":
        assert (await client.ask(get(shop.url()))).status == 404


async def test_a_directory_is_no_file(shop: Shop, client: Client) -> None:
    path = shop.library.original("plouf", "mp3")
    path.unlink()
    path.mkdir()
    assert (await client.ask(get(shop.url()))).status == 404
