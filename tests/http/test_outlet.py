"""The outlet and its pure parts: whole frames, in order, bounded; a slow reader is let go and nobody else notices."""

from __future__ import annotations

import itertools
import socket

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock
from wsproto.connection import SERVER
from wsproto.connection import Connection as Peer
from wsproto.events import CloseConnection

from tests.conftest import real_time
from tests.http.house import client_frame, empty, open_house, seen, until
from tests.http.house import settings as house_settings
from veza.http.line import Line
from veza.http.outlet import Outlet
from veza.http.rfc6455 import Gauge, boundary, close_frame, text_frame

PAYLOADS = st.lists(
    st.integers(0, 300) | st.sampled_from([125, 126, 127, 65535, 65536]), min_size=1, max_size=8
)


@given(PAYLOADS, st.integers(0, 10**6))
def test_the_boundary_is_the_end_of_the_frame_one_is_in(sizes: list[int], offset: int) -> None:
    frames = [text_frame(b"x" * size) for size in sizes]
    ends = [0]
    for frame in frames:
        ends.append(ends[-1] + len(frame))
    offset %= ends[-1] + 1
    assert boundary(b"".join(frames), offset) == min(end for end in ends if end >= offset)


@given(st.integers(1000, 4999), st.text(max_size=200))
def test_a_close_frame_is_one_whatever_the_reason(code: int, reason: str) -> None:
    frame = close_frame(code, reason)
    assert frame[0] == 0x88
    assert frame[1] == len(frame) - 2 <= 125
    assert frame[2:4] == code.to_bytes(2, "big")
    assert reason.encode().startswith(frame[4:].decode().encode())


MESSAGE = st.lists(st.integers(0, 200), min_size=1, max_size=4)


@given(st.lists(MESSAGE, max_size=6), st.booleans(), st.lists(st.integers(0, 5000), max_size=20))
def test_the_gauge_counts_messages_as_they_are(
    messages: list[list[int]], close: bool, cuts: list[int]
) -> None:
    limit = 300
    data = b""
    exceeded = False
    for parts in messages:
        for number, size in enumerate(parts):
            last = number == len(parts) - 1
            data += client_frame(b"x" * size, 1 if number == 0 else 0, final=last)
            data += client_frame(b"ping", 9)
        exceeded |= sum(parts) > limit
    if close:
        data += client_frame(b"\x03\xe8", 8)
    gauge = Gauge(limit)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, stop in itertools.pairwise(edges):
        if not (gauge.exceeded or gauge.closing):
            gauge.feed(data[start:stop])
    assert gauge.exceeded == exceeded
    assert gauge.closing == (close and not exceeded)
    if not exceeded:  # wsproto, reading the same bytes, agrees about the close
        peer = Peer(SERVER)
        peer.receive_data(data)
        assert any(isinstance(event, CloseConnection) for event in peer.events()) == close


def _read_frames(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        end = boundary(data, 1)
        assert end <= len(data), "a frame is cut"
        size = data[1] & 0x7F
        start = 2 if size < 126 else 4 if size == 126 else 10
        found.append((data[0] & 15, data[start:end]))
        data = data[end:]
    return found


@given(
    st.lists(st.lists(st.integers(0, 3000), min_size=1, max_size=12), min_size=1, max_size=40),
    st.integers(1, 40_000),
    st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_posted_the_peer_reads_whole_frames_in_order(
    blobs: list[list[int]], limit: int, read_after: int
) -> None:
    """The heart of it: all of them, or a prefix of them and Close 1013, never a cut frame."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer = trio.socket.from_stdlib_socket(theirs)
        read = b""

        async def reader() -> None:
            nonlocal read
            while data := await peer.recv(4096):
                read += data
                if b"\x88" in data and read.endswith(close_frame(1013, "This connection reads too slowly.")):
                    await peer.send(client_frame(b"\x03\xf5", 8))

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                line = Line(ours)
                outlet = Outlet(line, nursery.start_soon, limit=limit, grace=300, stall=300, frame_limit=1000)
                posted: list[bytes] = []
                number = 0
                for at, sizes in enumerate(blobs):
                    if at == read_after:
                        nursery.start_soon(reader)
                        await trio.testing.wait_all_tasks_blocked()
                    payloads = []
                    for size in sizes:
                        payloads.append(b"%d:" % number + b"x" * size)
                        number += 1
                    taken = outlet.post(b"".join(map(text_frame, payloads)))
                    if taken:
                        posted.extend(payloads)
                    assert taken != outlet.closed
                    assert outlet.queued <= limit + sum(sizes) + 100 * len(sizes) + 40_000
                if read_after >= len(blobs):
                    nursery.start_soon(reader)
                overflowed = outlet.closed
                if not overflowed:
                    outlet.close(1013, "This connection reads too slowly.")
                await outlet.end()
        frames = _read_frames(read)
        assert frames[-1][0] == 8
        texts = [payload for opcode, payload in frames[:-1]]
        if overflowed:
            assert texts == posted[: len(texts)]
        else:
            assert texts == posted
        assert outlet.queued == 0
        theirs.close()

    trio.run(main)


async def test_a_blob_larger_than_the_limit_still_reaches_a_reader() -> None:
    with trio.fail_after(60):
        async with open_house(config=house_settings(outlet_limit=10_000)) as house:
            client = await house.websocket(receive_buffer=65536)
            await client.send(client_frame(b"hello"))
            await client.text()
            (outlet,) = house.chat.outlets
            assert outlet.post(text_frame(b"y" * 8_000_000))
            assert outlet.queued > 10_000
            assert outlet.post(text_frame(b"z"))
            assert outlet.post(text_frame(b"typing"), droppable=True), "skipped, but the connection lives"
            assert await client.text() == "y" * 8_000_000
            assert await client.text() == "z"
            assert outlet.post(text_frame(b"typing"), droppable=True)
            assert await client.text() == "typing"


async def test_a_client_that_stops_reading_is_let_go_and_nobody_else_notices() -> None:
    with trio.fail_after(60):
        async with open_house(config=house_settings(outlet_limit=100_000)) as house:
            reader = await house.websocket()
            sleeper = await house.websocket(receive_buffer=4096)
            for client in (reader, sleeper):
                await client.send(client_frame(b"hello"))
                assert await client.text() == "hello"
            sent = 0
            while house.chat.tell_all(b"%06d" % sent + b"x" * 10_000) == 2:
                sent += 1
                assert (await reader.text())[:6] == f"{sent - 1:06}"
            # From the first refusal on the sleeper is closing; the reader has missed nothing.
            assert (await reader.text())[:6] == f"{sent:06}"
            slow = next(outlet for outlet in house.chat.outlets if outlet.closed)
            assert slow.queued <= 10_200, "all but the frame in flight and the Close is dropped"
            # It wakes up in time: whole frames in order, then Close 1013.
            for number in range(sent):
                opcode, payload = await sleeper.frame()
                if opcode == 8:
                    break
                assert payload[:6] == b"%06d" % number
            else:
                opcode, payload = await sleeper.frame()
            assert (opcode, payload[:2]) == (8, (1013).to_bytes(2, "big"))
            await sleeper.send(client_frame(payload[:2], 8))
            assert await sleeper.rest() == b""
            await reader.send(client_frame(b"still here"))
            assert await reader.text() == "still here"


async def test_a_client_that_never_reads_again_is_reset() -> None:
    with trio.fail_after(60):
        config = house_settings(outlet_limit=100_000, outlet_close_grace=0.3)
        async with open_house(config=config) as house:
            sleeper = await house.websocket(receive_buffer=4096)
            await sleeper.send(client_frame(b"flood 20000"))
            await house.chat.ended.wait()
            await empty(house.door)
            assert house.chat.abandoned == 1
            with pytest.raises(trio.BrokenResourceError):
                while await sleeper.more():
                    pass


async def test_a_mistake_in_one_flusher_ends_that_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Line) -> None:
        raise RuntimeError("as asked")

    with trio.fail_after(60):
        async with open_house() as house:
            other = await house.websocket()
            client = await house.websocket(receive_buffer=4096)
            await client.send(client_frame(b"hello"))
            await client.text()
            monkeypatch.setattr(Line, "wait_writable", fail)
            await client.send(client_frame(b"flood 9000"))
            await until(lambda: house.door.open_sockets == 1)
            await other.send(client_frame(b"still here"))
            assert await other.text() == "still here"


async def test_a_reader_that_stalls_below_the_limit_is_reset_in_the_end() -> None:
    with trio.fail_after(60):
        async with open_house(config=house_settings(send_timeout=0.4)) as house:
            client = await house.websocket(receive_buffer=4096)
            await client.send(client_frame(b"hello"))
            await client.text()
            (outlet,) = house.chat.outlets
            began = trio.current_time()
            assert outlet.post(text_frame(b"x" * 8_000_000))
            await house.chat.ended.wait()
            assert trio.current_time() - began > 0.3


async def test_a_reader_that_is_merely_slow_is_not_reset(mock_clock: MockClock) -> None:
    async with real_time(), open_house(config=house_settings(send_timeout=10)) as house:
        client = await house.websocket(receive_buffer=4096)
        await client.send(client_frame(b"hello"))
        await client.text()
        (outlet,) = house.chat.outlets
        assert outlet.post(text_frame(b"x" * 8_000_000))
        for _ in range(5):
            await trio.testing.wait_all_tasks_blocked()
            behind = outlet._line.backlog()
            while outlet._line.backlog() >= behind:
                await client.stream.receive_some(500)
            mock_clock.jump(9)
        await trio.testing.wait_all_tasks_blocked()
        # In all that time the kernel's own buffer has hardly emptied: it never said that it can take more.
        assert outlet.queued > 1_000_000
        assert not outlet.closed
        for _ in range(2):  # and who takes nothing at all is, once that is seen
            mock_clock.jump(11)
            await trio.testing.wait_all_tasks_blocked()
        await seen(lambda: outlet.closed)


async def test_a_client_that_floods_pings_and_does_not_read_is_bounded() -> None:
    with trio.fail_after(120):
        config = house_settings(outlet_limit=50_000, outlet_close_grace=0.3)
        async with open_house(config=config) as house:
            client = await house.websocket(receive_buffer=4096)
            pings = client_frame(b"p" * 125, 9) * 500
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await client.send(pings)
            await house.chat.ended.wait()
