"""The bridge to the application, and what every answer carries."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
from functools import partial
from typing import Any

import hypercorn.protocol.events as events
import pytest
import trio
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.task_group import TaskGroup

from tests.http.house import empty, get, open_house, post, settings, until
from veza.http import door
from veza.http.clients import Proxies
from veza.http.head import parse


def test_hypercorn_is_the_one_we_know() -> None:
    """We drive what Hypercorn does not document. When this fails, read its changes before moving the pin."""
    assert importlib.metadata.version("hypercorn").startswith("0.18.")
    assert list(inspect.signature(HTTPStream.__init__).parameters) == [
        "self", "app", "config", "context", "task_group", "ssl", "client", "server", "send", "stream_id",
    ]  # fmt: skip
    assert list(inspect.signature(HTTPStream._send_error_response).parameters) == ["self", "status_code"]
    assert list(inspect.signature(TaskGroup.spawn_app).parameters) == [
        "self",
        "app",
        "config",
        "scope",
        "send",
    ]
    assert "_nursery" in vars(TaskGroup())
    for name, fields in {
        "Request": ["stream_id", "headers", "http_version", "method", "raw_path", "state"],
        "Response": ["stream_id", "headers", "status_code"],
        "Body": ["stream_id", "data"],
        "EndBody": ["stream_id"],
        "StreamClosed": ["stream_id"],
    }.items():
        assert list(inspect.signature(getattr(events, name)).parameters) == fields


async def test_heads_have_no_bodies_and_empty_answers_no_framing() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            for _ in range(3):
                answer = await client.ask(get("/api/ping", method="HEAD"), head=True)
                assert int(answer["content-length"] or 0) > 0
                answer = await client.ask(get("/api/stream", method="HEAD"), head=True)
                assert answer["transfer-encoding"] is None
                answer = await client.ask(get("/api/empty"))
                assert (answer.status, answer["content-length"], answer["transfer-encoding"]) == (
                    204,
                    None,
                    None,
                )


async def test_a_stream_is_sent_as_it_is_made() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            answer = await client.ask(get("/api/stream"))
            assert answer["transfer-encoding"] == "chunked"
            answer = await client.ask(get("/api/stream", version="1.0"))
            assert (answer["transfer-encoding"], answer["connection"]) == (None, "close")
            assert answer.body == b"piece 0;piece 1;piece 2;piece 3;piece 4;"


async def test_every_answer_carries_an_id_and_the_security_headers() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            for request_bytes in (get("/api/ping"), get("/nowhere"), get("/ws/chat"), get("/api/stream")):
                answer = await client.ask(request_bytes)
                for name in ("content-security-policy", "x-content-type-options", "x-frame-options", "date"):
                    assert len([known for known, _ in answer.headers if known == name]) == 1
                assert answer["server"] == "veza"
                assert answer["referrer-policy"]
                policy = answer["content-security-policy"] or ""
                assert "unsafe" not in policy.split("script-src")[1].split(";")[0]
                assert answer["strict-transport-security"] is None
                assert answer["x-request-id"]
            answer = await client.ask(get("/api/own-policy"))
            assert [value for name, value in answer.headers if name == "content-security-policy"] == [
                "default-src 'none'"
            ]
            answer = await client.ask(get("/api/who", "X-Request-ID: from.me-1"))
            assert answer["x-request-id"] == json.loads(answer.body)["id"] == "from.me-1"
            for bad in ("a b", "", "x" * 65, "<script>", "a,b"):
                answer = await client.ask(get("/api/who", f"X-Request-ID: {bad}"))
                assert answer["x-request-id"] not in (bad, None)
                assert json.loads(answer.body)["id"] == answer["x-request-id"]


async def test_the_application_that_fails_is_answered_for() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            answer = await client.ask(get("/raw/nothing"))
            assert (answer.status, json.loads(answer.body)["code"]) == (500, "INTERNAL")
            assert (await client.ask(get("/api/ping"))).status == 200
            # Half an answer is cut, never made to look whole.
            await client.send(get("/api/crash"))
            assert (await client.head()).status == 200
            rest = await client.rest()
            assert rest.startswith(b"4\r\nhalf\r\n")
            assert not rest.endswith(b"0\r\n\r\n")
            for path in ("/raw/split", "/raw/long"):
                client = await house.connect()
                await client.send(get(path))
                rest = await client.rest()
                assert b"set-cookie" not in rest
                assert b"smuggled" not in rest
            assert (await (await house.connect()).ask(get("/api/ping"))).status == 200


async def test_an_answer_before_the_body_was_read_ends_the_connection() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.send(get("/raw/early", "Content-Length: 900000", method="POST") + b"x" * 100)
            answer = await client.answer()
            assert (answer.status, answer.body, answer["connection"]) == (403, b"no", "close")
            await client.stream.send_eof()
            assert await client.rest() == b""


async def test_a_client_that_resets_while_the_application_thinks_ends_its_work() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.send(get("/api/slow"))
            await house.asked.wait()
            client.reset()
            await house.gone.wait()
            await empty(house.door)


async def test_a_client_that_resets_in_the_middle_of_an_answer_ends_it() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect(receive_buffer=4096)
            await client.send(get("/api/large"))
            await house.asked.wait()
            await client.more()
            client.reset()
            await empty(house.door)


async def test_a_client_that_does_not_read_its_answer_is_reset() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(send_timeout=0.3)) as house:
            client = await house.connect(receive_buffer=4096)
            await client.send(get("/api/large"))
            await house.asked.wait()
            await empty(house.door)
            with pytest.raises(trio.BrokenResourceError):
                while await client.more():
                    pass


def _request(*lines: str) -> Any:
    return parse("\r\n".join(("GET / HTTP/1.1", "Host: a", *lines, "", "")).encode())


def test_the_client_is_the_rightmost_untrusted_address() -> None:
    proxies = Proxies(("10.0.0.0/8", "::1"))
    asked = partial(proxies.client, "10.0.0.1")
    assert asked(_request("X-Forwarded-For: 1.1.1.1, 2.2.2.2, 10.9.9.9")) == "2.2.2.2"
    assert asked(_request("X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: [2001:db8::1]:443")) == "2001:db8::1"
    assert asked(_request("X-Forwarded-For: 3.3.3.3:1234")) == "3.3.3.3"
    assert asked(_request("X-Forwarded-For: nonsense")) == "10.0.0.1"
    assert asked(_request("X-Forwarded-For: 1.1.1.1, nonsense, 10.2.2.2")) == "10.2.2.2"
    assert asked(_request()) == "10.0.0.1"
    assert proxies.client("9.9.9.9", _request("X-Forwarded-For: 1.1.1.1")) == "9.9.9.9"
    assert proxies.secure("10.0.0.1", _request("X-Forwarded-Proto: https"), False)
    assert not proxies.secure("9.9.9.9", _request("X-Forwarded-Proto: https"), False)
    assert Proxies(()).client("::1", _request("X-Forwarded-For: 1.1.1.1")) == "::1"


async def test_the_application_sees_the_client_and_no_claims() -> None:
    lines = (
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "Forwarded: for=x",
    )
    with trio.fail_after(60):
        async with open_house() as house:
            seen = json.loads((await (await house.connect()).ask(get("/api/who", *lines))).body)
            assert (seen["client"], seen["scheme"], seen["host"]) == ("127.0.0.1", "http", "house")
            assert not [name for name in seen["headers"] if "forwarded" in name]
        trusting = settings(trusted_proxies=("127.0.0.1",), public_url="https://veza.example")
        async with open_house(config=trusting) as house:
            answer = await (await house.connect()).ask(get("/api/who", *lines))
            seen = json.loads(answer.body)
            assert (seen["client"], seen["scheme"], seen["host"]) == ("1.2.3.4", "https", "veza.example")
            assert answer["strict-transport-security"]


async def test_the_lifespan_begins_before_the_first_request_and_ends_after_the_last() -> None:
    said: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            said.append("startup")
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            said.append("shutdown")
            await send({"type": "lifespan.shutdown.complete"})
            return
        said.append("request")
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    with trio.fail_after(60):
        for orderly in (True, False):
            said.clear()
            async with trio.open_nursery() as nursery:
                opened = await nursery.start(partial(door.serve, settings(), asgi_app=app, sockets={}))
                stream = await trio.open_tcp_stream("127.0.0.1", opened.port)
                await stream.send_all(get("/"))
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 204 ")
                if orderly:
                    await opened.shut()
                else:
                    nursery.cancel_scope.cancel()
            assert said == ["startup", "request", "shutdown"]


async def test_an_upload_waits_for_the_disk_and_the_disk_for_the_upload() -> None:
    from tests.http.house import resident

    size = 60_000_000
    with trio.fail_after(60):
        async with open_house() as house:
            # The disk is slower: what is sent ahead stays with the sender.
            house.upload.pace = trio.Semaphore(0)
            client = await house.connect()
            before = resident()

            async def send() -> None:
                await client.send(get("/raw/upload", f"Content-Length: {size}", method="POST"))
                for _ in range(size // 1_000_000):
                    await client.send(b"x" * 1_000_000)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                for _ in range(50):
                    house.upload.pace.release()
                    await trio.sleep(0.002)
                assert house.upload.read < 50 * 128 * 1024
                assert resident() - before < 20_000_000
                for _ in range(2000):
                    house.upload.pace.release()
                answer = await client.answer()
            assert (answer.status, house.upload.read) == (200, size)
            assert house.upload.largest <= 65536
            assert resident() - before < 20_000_000
            # The upload is slower.
            house.upload.pace = None
            house.upload.read = 0
            await client.send(get("/raw/upload", "Transfer-Encoding: chunked", method="POST"))
            for _ in range(200):
                await client.send(b"5\r\nhello\r\n")
                await trio.lowlevel.checkpoint()
            await client.send(b"0\r\n\r\n")
            assert (await client.answer()).status == 200
            assert house.upload.read == 1000


async def test_an_upload_that_breaks_off_is_told_to_the_application() -> None:
    with trio.fail_after(60):
        for reset in (True, False):
            async with open_house() as house:
                client = await house.connect()
                await client.send(get("/raw/upload", "Content-Length: 1000", method="POST") + b"x" * 10)
                await until(lambda: house.upload.read >= 10)
                if reset:
                    client.reset()
                else:
                    await client.aclose()
                await house.upload.disconnected.wait()
                await empty(house.door)


async def test_post_bodies_at_the_edges_of_the_pump() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            for size in (0, 1, 65535, 65536, 65537, 300_000, 1_048_576):
                body = bytes(n % 251 for n in range(size))
                assert (await client.ask(post("/api/echo", body))).body == body
