"""WebSockets at the door: admitted by their head, closed with the right code, never interleaved."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.http.house import client_frame, get, handshake, named, open_house, post, settings


async def test_a_library_client_talks_to_it() -> None:
    """Fails when trio-websocket's connection can no longer begin where a handshake ends."""
    with trio.fail_after(60):
        async with open_house() as house:
            url = f"ws://127.0.0.1:{house.door.port}/ws/chat?token=x"
            async with open_websocket_url(url, subprotocols=["veza.v1", "tok"]) as ws:
                assert ws.subprotocol == "veza.v1"
                for text in ("hello", "ünï", "x" * 60000):
                    await ws.send_message(text)
                    assert await ws.get_message() == text
                await ws.ping()
                assert house.door.open_sockets == 1
            await house.chat.ended.wait()
        assert (house.chat.admitted, house.chat.abandoned) == (1, 1)


async def test_the_handshake_is_answered_as_the_rfc_says() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            asked = handshake(
                "/ws/chat", "Sec-WebSocket-Extensions: permessage-deflate", "X-Request-ID: mine-1"
            )
            answer = await client.ask(asked)
            found = re.search(rb"Sec-WebSocket-Key: (\S+)", asked)
            assert found is not None
            digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            assert answer["sec-websocket-accept"] == base64.b64encode(digest).decode()
            assert answer["sec-websocket-extensions"] is None
            assert answer["sec-websocket-protocol"] is None
            assert answer["x-request-id"] == "mine-1"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (get("/ws/chat"), 426, "UPGRADE_REQUIRED"),
        (handshake("/ws/chat", version="8"), 426, "UPGRADE_REQUIRED"),
        (handshake("/ws/chat").replace(b"HTTP/1.1", b"HTTP/1.0"), 426, "UPGRADE_REQUIRED"),
        (handshake("/ws/chat").replace(b"websocket", b"h2c"), 426, "UPGRADE_REQUIRED"),
        (post("/ws/chat", b""), 405, "METHOD_NOT_ALLOWED"),
        (get("/ws/nowhere"), 404, "NOT_FOUND"),
        (handshake("/ws/nowhere"), 404, "NOT_FOUND"),
        (handshake("/ws/chat/"), 404, "NOT_FOUND"),
        (handshake("/ws"), 404, "NOT_FOUND"),
        (handshake("/ws/chat?token=forged"), 401, "AUTH_REQUIRED"),
        (re.sub(rb"Key: \S+", b"Key: short", handshake("/ws/chat")), 400, "BAD_REQUEST"),
        (re.sub(rb"Sec-WebSocket-Key: \S+\r\n", b"", handshake("/ws/chat")), 400, "BAD_REQUEST"),
    ],
    ids=named,
)
async def test_what_is_refused_before_the_upgrade(request_bytes: bytes, status: int, code: str) -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            answer = await client.ask(request_bytes)
            envelope = json.loads(answer.body)
            assert (answer.status, envelope["code"]) == (status, code)
            if status == 426:
                assert answer["sec-websocket-version"] == "13"
                assert answer["upgrade"] == "websocket"
            assert house.chat.admitted == 0
            if answer["connection"] != "close":
                assert (await client.ask(get("/api/ping"))).status == 200


async def test_frames_cut_anywhere_arrive_whole() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.websocket()
            frames = (
                client_frame(b"one")
                + client_frame(b"tw", final=False)
                + client_frame(b"ping", 9)
                + client_frame(b"o", 0)
                + client_frame(b"x" * 70)
            )
            for at in range(0, len(frames), 3):
                await client.send(frames[at : at + 3])
            assert await client.text() == "one"
            assert await client.frame() == (10, b"ping")
            assert await client.text() == "two"
            assert await client.text() == "x" * 70


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (client_frame(b"x" * 70_000), 1009),
        (client_frame("😀".encode() * 20_000), 1009),  # 20,000 characters, 80,000 bytes
        (client_frame("😀".encode() * 16_385), 1009),
        (client_frame(b"x" * 40_000, final=False) + client_frame(b"x" * 30_000, 0), 1009),
        (b"\x81\xff" + (1 << 62).to_bytes(8, "big"), 1009),  # known by its header alone
        (client_frame(b"\xff\xfe"), 1007),
        (client_frame(b"x", masked=False), 1002),
        (client_frame(b"x", 3), 1002),
        (b"\xc1" + client_frame(b"x")[1:], 1002),  # a reserved bit: compressed, which was not agreed on
        (client_frame(b"x", 0), 1002),
        (client_frame(b"x", 9, final=False), 1002),
        (client_frame(b"x" * 126, 9), 1002),
        (client_frame(b"bye"), 1000),
        (client_frame(b"crash"), 1011),
        (client_frame(b"\x03\xe8", 8), 1000),
        (client_frame(b"", 8), 1005),
    ],
    ids=named,
)
async def test_close_codes(frames: bytes, code: int) -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            other = await house.websocket()
            client = await house.websocket()
            await client.send(frames)
            opcode, payload = await client.frame()
            assert opcode == 8
            assert (int.from_bytes(payload[:2], "big") if payload else 1005) == code
            if frames[0] != 0x88:  # else it has said so already
                await client.send(client_frame(payload[:2], 8))
            if code == 1009:  # after a frame that was too large nothing else is understood any more
                await client.stream.send_eof()
            await client.rest()
            await other.send(client_frame(b"still here"))
            assert await other.text() == "still here"
        assert house.chat.admitted == house.chat.abandoned == 2


async def test_the_limit_is_in_bytes_and_itself_allowed() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(ws_frame_limit=1000)) as house:
            client = await house.websocket()
            await client.send(client_frame("é".encode() * 500))
            assert await client.text() == "é" * 500
            await client.send(client_frame(b"x" * 500, final=False) + client_frame(b"x" * 500, 0))
            assert await client.text() == "x" * 1000
            await client.send(client_frame("é".encode() * 500 + b"x"))
            assert await client.close_code() == 1009


async def test_a_half_head_then_nothing_is_408() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(head_timeout=0.2)) as house:
            client = await house.connect(handshake()[:60])
            assert (await client.head()).status == 408


async def test_after_our_close_nothing_is_heard_and_nothing_is_sent() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.websocket()
            await client.send(client_frame(b"one"))
            assert await client.text() == "one"
            (outlet,) = house.chat.outlets
            outlet.close(4001, "token expired")
            assert outlet.closed
            assert outlet.post(b"\x81\x01x") is False
            outlet.close(1000)  # only the first counts
            await client.send(client_frame(b"two"))
            opcode, payload = await client.frame()
            assert (opcode, payload) == (8, (4001).to_bytes(2, "big") + b"token expired")
            await client.send(client_frame(payload[:2], 8))
            assert await client.rest() == b""
            await house.chat.ended.wait()
            assert house.chat.received == ["one"]


async def test_a_peer_that_does_not_finish_the_close_is_reset() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(outlet_close_grace=0.3)) as house:
            client = await house.websocket()
            began = trio.current_time()
            await client.send(client_frame(b"bye"))
            assert await client.close_code() == 1000
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await client.send(client_frame(b"I am not done"))
                    await trio.sleep(0.02)
            assert trio.current_time() - began > 0.25


async def test_received_bytes_count_as_a_sign_of_life() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.websocket()
            await client.send(client_frame(b"one"))
            await client.text()
            (outlet,) = house.chat.outlets
            before = outlet.last_received
            await client.send(client_frame(b"", 10))  # a pong nobody asked for
            await client.send(client_frame(b"two"))
            await client.text()
            assert outlet.last_received > before
