"""Where a request ends is decided once: whatever is doubtful is refused, and the connection with it."""

from __future__ import annotations

import json

import pytest
import trio
from trio.testing import MockClock

from tests.conftest import real_time
from tests.http.house import empty, get, handshake, named, open_house, post, seen, settings

INNER = b"GET /api/ping?n=smuggled HTTP/1.1\r\nHost: house\r\n\r\n"
START = b"POST /api/echo HTTP/1.1\r\nHost: house\r\n"

SMUGGLING = {
    "both framings": START + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "both, the other way": START
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
    + INNER,
    "two lengths": START + b"Content-Length: 0\r\nContent-Length: 50\r\n\r\n" + INNER,
    "the same length twice": START + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + INNER,
    "a list of lengths": START + b"Content-Length: 0, 0\r\n\r\n" + INNER,
    "a signed length": START + b"Content-Length: +0\r\n\r\n" + INNER,
    "a negative length": START + b"Content-Length: -1\r\n\r\n" + INNER,
    "a hexadecimal length": START + b"Content-Length: 0x0\r\n\r\n" + INNER,
    "an empty length": START + b"Content-Length:\r\n\r\n" + INNER,
    "an endless length": START + b"Content-Length: 99999999999999999999999\r\n\r\n" + INNER,
    "a length in other digits": START + "Content-Length: ٤\r\n\r\n".encode() + INNER,
    "an unknown coding": START + b"Transfer-Encoding: gzip\r\n\r\n" + INNER,
    "chunked and more": START + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "more and chunked": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunked twice": START
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + INNER,
    "nearly chunked": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunked with a vertical tab": START + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + INNER,
    "chunked in HTTP/1.0": b"POST /api/echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "white space before the colon": START + b"Content-Length : 0\r\n\r\n" + INNER,
    "white space before a name": START + b" Content-Length: 0\r\n\r\n" + INNER,
    "a folded header": START + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + INNER,
    "bare line feeds": b"POST /api/echo HTTP/1.1\nHost: house\nContent-Length: 0\n\r\n\r\n" + INNER,
    "a bare line feed in a value": START + b"X: a\nContent-Length: 30\r\n\r\n" + INNER,
    "a bare carriage return": START + b"X: a\rContent-Length: 30\r\n\r\n" + INNER,
    "NUL in a value": START + b"X: a\0b\r\n\r\n" + INNER,
    "no name": START + b": 5\r\n\r\n" + INNER,
    "no host": b"GET /api/ping HTTP/1.1\r\n\r\n" + INNER,
    "two hosts": b"GET /api/ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + INNER,
    "a host with a path": b"GET /api/ping HTTP/1.1\r\nHost: a/b@c\r\n\r\n" + INNER,
    "two spaces": b"GET  /api/ping HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a tab for a space": b"GET\t/api/ping HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a space in the target": b"GET /api ping HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "a target that is no path": b"GET api/ping HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "bytes beyond ASCII in the target": "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode() + INNER,
    "NUL in the path": b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n" + INNER,
    "no version": b"GET /api/ping\r\n\r\n" + INNER,
    "a version in lower case": b"GET /api/ping http/1.1\r\nHost: a\r\n\r\n" + INNER,
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_doubtful_heads_are_400_and_closed(name: str) -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.ask(get("/api/ping"))
            answer = await client.ask(SMUGGLING[name])
            assert answer.status == 400, answer
            assert answer["connection"] == "close"
            envelope = json.loads(answer.body)
            assert envelope["success"] is False
            assert envelope["code"] == "BAD_REQUEST"
            assert envelope["request_id"] == answer["x-request-id"]
            await client.stream.send_eof()
            assert await client.rest() == b"", "nothing behind a refused request is answered"


BAD_CHUNKS = {
    "no size": b"\r\n\r\n",
    "not hexadecimal": b"g\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "white space before a size": b" 3\r\nabc\r\n0\r\n\r\n",
    "white space behind a size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a size too large": b"ffffffffffffffff\r\nabc",
    "a bare line feed": b"3\nabc\r\n0\r\n\r\n",
    "a bare line feed behind the data": b"3\r\nabc\n0\r\n\r\n",
    "too much data": b"3\r\nabcd\r\n0\r\n\r\n",
    "too little data": b"3\r\nab\r\n0\r\n\r\n",
    "an endless extension": b"3;" + b"x" * 5000,
    "a line feed in an extension": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "a bad trailer": b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    "a trailer that is a request": b"3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
    "endless trailers": b"0\r\n" + b"x: y\r\n" * 3000,
}


@pytest.mark.parametrize("name", BAD_CHUNKS)
async def test_bad_chunks_are_400_and_closed(name: str) -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.send(START + b"Transfer-Encoding: chunked\r\n\r\n" + BAD_CHUNKS[name] + INNER)
            answer = await client.answer()
            assert (answer.status, answer["connection"]) == (400, "close")
            await client.stream.send_eof()
            assert await client.rest() == b""


async def test_a_body_beyond_the_limit_is_413_however_it_is_framed() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(body_limit=1000)) as house:
            client = await house.connect()
            await client.send(post("/api/echo", b"x" * 1001) + INNER)
            answer = await client.answer()
            assert (answer.status, json.loads(answer.body)["code"]) == (413, "BODY_TOO_LARGE")
            await client.stream.send_eof()
            assert await client.rest() == b""
            client = await house.connect()
            await client.send(START + b"Transfer-Encoding: chunked\r\n\r\n")
            await client.send(
                b"100\r\n" + b"x" * 256 + b"\r\n" + b"2ff\r\n" + b"x" * 767 + b"\r\n0\r\n\r\n" + INNER
            )
            assert (await client.answer()).status == 413
            await client.stream.send_eof()
            assert await client.rest() == b""
            assert (await (await house.connect()).ask(post("/api/echo", b"x" * 1000))).status == 200


async def test_a_refused_client_may_go_on_sending_and_still_reads_the_refusal() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(body_limit=1000)) as house:
            client = await house.connect()
            await client.send(get("/api/echo", "Content-Length: 50000000", method="POST"))
            for _ in range(300):  # far more than buffers hold: what comes is taken, and discarded
                await client.send(b"x" * 65536)
            assert (await client.answer()).status == 413


async def test_a_refused_client_does_not_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veza.http.wire.LINGER", 0.2)
    with trio.fail_after(60):
        async with open_house(config=settings(body_limit=1000)) as house:
            client = await house.connect()
            await client.send(get("/api/echo", "Content-Length: 50000000", method="POST"))
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await client.send(b"x" * 65536)
            await empty(house.door)


async def test_absolute_form_is_accepted_and_its_authority_is_the_host() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            answer = await client.ask(b"GET http://example.org:81/api/who?x HTTP/1.1\r\nHost: other\r\n\r\n")
            assert json.loads(answer.body)["host"] == "example.org:81"
            assert (await client.ask(b"GET http://example.org HTTP/1.1\r\nHost: other\r\n\r\n")).status == 404


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
        (b"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 30000, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 65536 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 11000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
    ],
    ids=named,
)
async def test_what_is_refused_for_its_head(request_bytes: bytes, status: int) -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            answer = await client.ask(request_bytes)
            assert (answer.status, answer["connection"]) == (status, "close")
            assert json.loads(answer.body)["success"] is False
            await client.stream.send_eof()
            assert await client.rest() == b""


async def test_an_upgrade_other_than_websocket_is_ignored() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            lines = (
                "Connection: Upgrade, HTTP2-Settings",
                "Upgrade: h2c",
                "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
            )
            for _ in range(3):
                answer = await client.ask(get("/api/who", *lines))
                assert answer.status == 200
                assert not {"upgrade", "connection", "http2-settings"} & set(
                    json.loads(answer.body)["headers"]
                )
            # A websocket upgrade elsewhere than under /ws is a request like others.
            assert (
                await client.ask(get("/api/ping", "Connection: Upgrade", "Upgrade: websocket"))
            ).status == 200


async def test_a_head_that_comes_byte_by_byte_is_a_head() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            for byte in b"\r\n" + get("/api/ping?n=slow", "X-A: b"):
                await client.send(bytes((byte,)))
            assert json.loads((await client.answer()).body)["n"] == "slow"


@pytest.mark.parametrize(
    "start", [b"", b"\r\n", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", handshake()[:-2]], ids=named
)
async def test_a_head_that_is_never_complete_ends_the_connection(start: bytes) -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(head_timeout=0.3)) as house:
            began = trio.current_time()
            client = await house.connect(start)
            said = await client.rest()
            assert trio.current_time() - began > 0.2
            if start:
                assert said.startswith(b"HTTP/1.1 408 ")
                assert b'"code":"REQUEST_TIMEOUT"' in said
            else:
                assert said == b"", "who never asked is not answered"


async def test_a_head_that_drips_has_the_same_deadline() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(head_timeout=0.4)) as house:
            client = await house.connect(b"GET / HTTP/1.1\r\n")

            async def drip() -> None:
                try:
                    while True:
                        await client.send(b"X: y\r\n")
                        await trio.sleep(0.05)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass

            async with trio.open_nursery() as nursery:
                nursery.start_soon(drip)
                assert (await client.head()).status == 408
                nursery.cancel_scope.cancel()


async def test_a_body_that_stops_coming_is_408() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(body_timeout=0.3)) as house:
            client = await house.connect()
            began = trio.current_time()
            await client.send(get("/api/echo", "Content-Length: 100", method="POST") + b"x")
            assert (await client.answer()).status == 408
            assert trio.current_time() - began > 0.2


async def test_a_body_that_comes_slowly_is_progress(mock_clock: MockClock) -> None:
    async with real_time(), open_house(config=settings(body_timeout=10)) as house:
        client = await house.connect()
        await client.send(get("/raw/upload", "Content-Length: 6", method="POST"))
        for count in range(1, 6):
            await client.send(b"x")
            await seen(lambda count=count: house.upload.read == count)  # type: ignore[misc]
            mock_clock.jump(9)
        assert (await client.ask(b"x")).status == 200
