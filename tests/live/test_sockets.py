"""Streams over WebSockets: the same bytes as frames, what is told in between, and the browser as a source."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tests.http.house import Client as Cable
from tests.http.house import client_frame, handshake
from tests.live.conftest import Air, OnAir
from tests.live.radio import PATIENCE, basic, mp3, until
from tests.media.inputs import Inputs
from veza.actors.streams import broadcasting


class Socket:
    """One WebSocket, frame by frame."""

    def __init__(self, cable: Cable) -> None:
        self.cable = cable
        self.sound = b""
        self.told: list[dict[str, Any]] = []
        self.closed: int | None = None

    async def frame(self) -> None:
        with trio.fail_after(PATIENCE):
            opcode, payload = await self.cable.frame()
        if opcode == 2:
            self.sound += payload
        elif opcode == 1:
            self.told.append(json.loads(payload))
        elif opcode == 8:
            self.closed = int.from_bytes(payload[:2], "big")
        else:
            assert opcode == 9

    async def hear_until(self, end: bytes) -> bytes:
        while not self.sound.endswith(end):
            assert self.closed is None, self.told
            await self.frame()
        return self.sound

    async def told_of(self, type: str) -> dict[str, Any]:
        """The next of these that has been told, with its data."""
        while True:
            for nth, frame in enumerate(self.told):
                if frame["type"] == type:
                    del self.told[nth]
                    data: dict[str, Any] = frame["data"]
                    return data
            assert self.closed is None, (self.closed, self.told)
            await self.frame()

    async def close_code(self) -> int:
        while self.closed is None:
            await self.frame()
        return self.closed

    async def send(self, payload: bytes, opcode: int = 2) -> None:
        await self.cable.send(client_frame(payload, opcode))


async def knock(air: Air, path: str, *lines: str) -> tuple[int, Socket, bytes]:
    """The status of a handshake, and the socket."""
    cable = Cable(await air.dial())
    await cable.send(handshake(path, *lines))
    answer = await cable.answer()
    return answer.status, Socket(cable), answer.body


async def connect(air: Air, path: str, *lines: str) -> Socket:
    status, socket, body = await knock(air, path, *lines)
    assert status == 101, (status, body)
    return socket


async def test_the_same_bytes_as_frames_and_what_happens_as_texts(air: Air) -> None:
    stream = await air.stream()
    early = await connect(air, f"/ws/stream/{stream.slug}")
    assert (await early.told_of("stream_state"))["state"] == "created"
    source = await air.source(stream)
    state = await early.told_of("stream_state")
    assert (state["state"], state["content_type"], state["slug"]) == ("live", "audio/mpeg", stream.slug)
    late = await connect(air, f"/ws/stream/{stream.slug}")
    assert (await late.told_of("stream_state"))["state"] == "live"
    await source.send(mp3(10, 10))
    for socket in (early, late):
        assert await socket.hear_until(mp3(19, 1)) == mp3(0, 20)
    assert (await early.told_of("listener_count"))["listeners"] in (1, 2)
    reply = await air.ask(
        f"GET /admin/metadata?mount={stream.path}&mode=updinfo&song=Blue HTTP/1.1",
        f"Authorization: {basic(stream.key)}",
    )
    assert reply.status == 200
    assert (await late.told_of("metadata"))["song"] == "Blue"
    await source.close()
    assert (await late.told_of("stream_state"))["state"] == "interrupted"
    await air.end(stream)
    for socket in (early, late):
        await socket.told_of("ended")
        assert await socket.close_code() == 1000
    status, _, _ = await knock(air, f"/ws/stream/{stream.slug}")
    assert status == 101  # let in, told, and closed: browsers cannot read a refused handshake
    again = await connect(air, f"/ws/stream/{stream.slug}")
    assert (await again.told_of("error"))["code"] == "STREAM_ENDED"


async def test_a_container_begins_with_its_header_and_begins_anew_with_another_kind(
    air: Air, inputs: Inputs
) -> None:
    stream = await air.stream()
    webm, opus = inputs["webm_audio"].read_bytes(), inputs["opus"].read_bytes()
    source = await air.source(stream, sound=webm, kind="video/webm")
    socket = await connect(air, f"/ws/stream/{stream.slug}")
    await socket.told_of("stream_state")
    while len(socket.sound) < 1000:
        await socket.frame()
    assert socket.sound.startswith(b"\x1a\x45\xdf\xa3")
    await source.close()
    await air.is_(stream, "interrupted")
    socket.sound = b""
    await air.source(stream, sound=opus, kind="application/ogg")
    while (await socket.told_of("stream_state"))["state"] != "live":
        pass
    while len(socket.sound) < 1000 or b"OggS" not in socket.sound:
        await socket.frame()
    assert socket.sound[socket.sound.index(b"OggS") :][28:36] == b"OpusHead"


async def test_who_may_listen_over_a_socket(air: Air) -> None:
    stream = await air.stream(visibility="private")
    path = f"/ws/stream/{stream.slug}"
    stranger = await air.house.person()
    assert (await knock(air, path))[0] == 404
    assert (await knock(air, f"{path}?token={stranger.token}"))[0] == 404
    assert (await knock(air, f"{path}?token=nonsense"))[0] == 401
    assert (await knock(air, f"{path}?token={air.owner.token}"))[0] == 101
    assert (await knock(air, "/ws/stream/no-such-stream"))[0] == 404
    assert (await knock(air, "/ws/stream/Not%20A%20Slug"))[0] == 404
    public = await air.stream()
    path = f"/ws/stream/{public.slug}"
    assert (await knock(air, path, "Origin: https://elsewhere.example"))[0] == 403
    assert (await knock(air, path, "Origin: https://app.example"))[0] == 101
    socket = await connect(air, path)
    await socket.send(bytes(5000))
    assert await socket.close_code() == 1009  # listeners have little to say


async def test_a_browser_broadcasts(air: Air, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasting, "SILENT", 3600.0)  # else who is slow here is one who is silent
    stream = await air.stream(record=True)
    webm = inputs["webm_audio"].read_bytes()
    socket = await connect(air, f"/ws/stream/{stream.slug}/publish?token={air.owner.token}")
    assert (await socket.told_of("publishing"))["slug"] == stream.slug
    for at in range(0, len(webm) // 2, 3000):
        await socket.send(webm[at : min(at + 3000, len(webm) // 2)])
    await socket.told_of("on_air")
    await air.is_(stream, "live")
    listener = await air.listener(stream.path)
    assert listener.reply_.headers["content-type"].startswith(("video/webm", "audio/webm"))
    second = await connect(air, f"/ws/stream/{stream.slug}/publish?token={stream.key}")
    assert (await second.told_of("error"))["code"] == "STREAM_BUSY"
    assert await second.close_code() == 1008
    await socket.send(webm[len(webm) // 2 :])
    await socket.send(b"\x03\xe8", 8)
    assert await socket.close_code() == 1000
    await air.is_(stream, "interrupted")
    await air.end(stream)
    assert (await listener.hear_all()).startswith(b"\x1a\x45\xdf\xa3")


async def test_who_may_broadcast_over_a_socket(air: Air) -> None:
    stream = await air.stream()
    path = f"/ws/stream/{stream.slug}/publish"
    stranger = await air.house.person()
    assert (await knock(air, path))[0] == 401
    assert (await knock(air, f"{path}?token={stranger.token}"))[0] == 403
    assert (await knock(air, f"{path}?token=nonsense"))[0] == 401
    assert (await knock(air, f"{path}?token={air.owner.token}", "Origin: https://elsewhere.example"))[
        0
    ] == 403
    private = await air.stream(visibility="private")
    assert (await knock(air, f"/ws/stream/{private.slug}/publish?token={stranger.token}"))[0] == 404


async def test_what_a_browser_must_not_send(on_air: OnAir) -> None:
    async with on_air(stream_frame_limit=100_000) as air:
        stream = await air.stream()
        for payload, opcode, code in (
            (b"a text", 1, 1003),
            (bytes(70_000), 2, 1003),
            (bytes(150_000), 2, 1009),
        ):
            socket = await connect(air, f"/ws/stream/{stream.slug}/publish?token={air.owner.token}")
            await socket.told_of("publishing")
            await socket.send(payload, opcode)
            assert await socket.close_code() == code
            state = air.state(stream)
            assert state is not None
            assert state.state == "created"


async def test_a_socket_that_never_reads_is_let_go(on_air: OnAir) -> None:
    async with on_air(stream_ring_bytes=200_000, outlet_close_grace=0.2) as air:
        stream = await air.stream()
        source = await air.source(stream)
        deaf = await connect(air, f"/ws/stream/{stream.slug}")
        await deaf.told_of("stream_state")
        reads = await air.listener(stream.path)
        number = 10
        with trio.fail_after(PATIENCE):
            while air.streams.tally.dropped == 0:
                await source.send(mp3(number, 400))
                number += 400
                await reads.hear_until(mp3(number - 1, 1))
                reads.heard = b""
        await until(lambda: air.streams.listeners == 1)
