"""One connection, many requests: nothing is misrouted, and every connection ends when it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from tests.http.house import Client, get, handshake, named, open_house, post, settings

FILE = bytes(range(256)) * 300  # larger than one read


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"a small file")
    (tmp_path / "b.bin").write_bytes(FILE)
    return tmp_path


async def test_rest_files_and_heads_alternate_on_one_connection(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            for n in range(100):
                answer = await client.ask(get(f"/api/ping?n={n}"))
                assert json.loads(answer.body) == {"success": True, "n": str(n)}
                answer = await client.ask(get("/files/b.bin", f"Range: bytes={n}-{n + 9}"))
                assert (answer.status, answer.body) == (206, FILE[n : n + 10])
                answer = await client.ask(get("/files/b.bin", method="HEAD"), head=True)
                assert (answer.status, answer["content-length"]) == (200, str(len(FILE)))
                assert not client.buffer
            assert (await client.ask(get("/files/b.bin"))).body == FILE


async def _all_kinds(client: Client) -> None:
    kinds = [
        get("/api/ping?n=1"),
        post("/api/echo", b"GET /api/ping HTTP/1.1\r\nHost: x\r\n\r\n"),
        get("/files/a.txt"),
        get("/api/ping", method="HEAD"),
        get("/api/echo", "Transfer-Encoding: chunked", method="POST")
        + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: r\r\n\r\n",
        get("/ws/chat"),
        get("/ws/nowhere"),
        get("/nowhere"),
        get("/api/stream"),
        get("/files/b.bin"),
        get("/api/empty"),
        post("/files/a.txt", b""),
        handshake("/ws/chat?token=forged"),
        b"\r\n" + get("http://other:1/api/ping?n=absolute"),
        get("/api/ping?n=last"),
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, b"".join(kinds))
        answers = [await client.answer(head=n == 3) for n in range(len(kinds))]
    assert [answer.status for answer in answers] == [
        200, 200, 200, 200, 200, 426, 404, 404, 200, 200, 204, 405, 401, 200, 200,
    ]  # fmt: skip
    assert answers[1].body == b"GET /api/ping HTTP/1.1\r\nHost: x\r\n\r\n"
    assert answers[2].body == b"a small file"
    assert answers[4].body == b"abcde"
    assert answers[5]["sec-websocket-version"] == "13"
    assert answers[8].body == b"piece 0;piece 1;piece 2;piece 3;piece 4;"
    assert answers[9].body == FILE
    assert answers[11]["allow"] == "GET, HEAD"
    assert answers[12]["www-authenticate"] == "Bearer"
    assert json.loads(answers[13].body)["n"] == "absolute"
    assert json.loads(answers[14].body)["n"] == "last"


async def test_pipelined_requests_of_all_kinds_are_answered_in_order(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            for _ in range(3):
                await _all_kinds(client)


async def test_a_websocket_may_follow_requests_and_bring_its_first_frames_along(files: Path) -> None:
    from tests.http.house import client_frame

    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            await client.send(
                get("/api/ping")
                + get("/files/a.txt")
                + handshake()
                + client_frame(b"early")
                + client_frame(b"bird")[:3]
            )
            assert (await client.answer()).status == 200
            assert (await client.answer()).body == b"a small file"
            assert (await client.answer()).status == 101
            assert await client.text() == "early"


async def test_bodies_and_headers_that_look_like_requests_are_neither(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            decoy = get("/files/a.txt") + handshake() + post("/api/echo", b"x")
            for _ in range(20):
                answer = await client.ask(post("/api/echo", decoy, "X-Note: GET /files/a.txt HTTP/1.1"))
                assert answer.body == decoy
                answer = await client.ask(post("/nowhere", decoy))
                assert answer.status == 404
                answer = await client.ask(
                    get("/files/a.txt", "X-Note: Content-Length: 5, Transfer-Encoding: chunked")
                )
                assert answer.body == b"a small file"


@pytest.mark.parametrize(
    "request_bytes",
    [
        get("/api/ping", version="1.0"),
        get("/api/ping", "Connection: close"),
        get("/api/stream", version="1.0"),
        get("/api/stream", "Connection: close"),
        get("/files/b.bin", version="1.0"),
        get("/files/b.bin", "Connection: close"),
        get("/nowhere", "Connection: close"),
        post("/api/echo", b"x", "Connection: close"),
        get("/ws/chat", "Connection: close"),
    ],
    ids=named,
)
async def test_http_1_0_and_connection_close_end_at_once(files: Path, request_bytes: bytes) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            await client.send(request_bytes)
            answer = await client.answer()
            assert await client.rest() == b"", "it would be minutes, were anything waited for"
            assert answer["connection"] == "close"


async def test_http_1_0_may_ask_to_keep_the_connection(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files) as house:
            client = await house.connect()
            for _ in range(3):
                answer = await client.ask(get("/api/ping", "Connection: keep-alive", version="1.0"))
                assert answer["connection"] == "keep-alive"


async def test_an_idle_connection_is_closed(files: Path) -> None:
    with trio.fail_after(60):
        async with open_house(files, settings(keep_alive_timeout=0.2)) as house:
            began = trio.current_time()
            client = await house.connect()
            await client.ask(get("/api/ping"))
            assert await client.rest() == b""
            assert trio.current_time() - began > 0.15


async def test_expect_100_continue() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.send(get("/api/echo", "Content-Length: 5", "Expect: 100-continue", method="POST"))
            assert (await client.answer()).status == 100
            assert (await client.ask(b"hello")).body == b"hello"
            # An answer that does not need the body comes instead of the 100, and the connection ends with it.
            limit = house.door._settings.body_limit
            await client.send(
                get("/api/echo", f"Content-Length: {limit + 1}", "Expect: 100-continue", method="POST")
            )
            answer = await client.answer()
            assert (answer.status, answer["connection"]) == (413, "close")
            assert await client.rest() == b""
            other = await house.connect()
            assert (await other.ask(get("/api/ping", "Expect: the-unexpected"))).status == 417


async def test_half_a_close_still_gets_its_answer() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.send(post("/api/echo", b"last words"))
            await client.stream.send_eof()
            assert (await client.answer()).body == b"last words"
            assert await client.rest() == b""
