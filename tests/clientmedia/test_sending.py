"""Long requests: a refusal is heard in the middle of the body, and whoever hangs up is told as such."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio

from veza.client import ProtocolError, Unreachable, sending
from veza.client.link import single_error
from veza.client.sending import send_long

Act = Callable[[trio.SocketStream], Awaitable[None]]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(autouse=True)
def no_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client waits for only so long must come, however slow the machine is."""
    monkeypatch.setattr(sending, "CONTINUE_TIMEOUT", 60.0)
    monkeypatch.setattr(sending, "ANSWER_AFTER_BREAK", 60.0)


async def head_of(stream: trio.SocketStream) -> bytes:
    """What stands before the body; nothing of the body may be there yet."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += await stream.receive_some()
    return data


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536


async def short() -> AsyncIterator[bytes]:
    yield b"ab"
    yield b"cd"


async def ask(
    act: Act, body: AsyncIterator[bytes], *, length: int | None = None, **how: float
) -> tuple[int, bytes]:
    """Send a request to a server that acts like this."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]

    async def serve() -> None:
        async with listener:
            stream = await listener.accept()
        async with stream:
            try:
                await act(stream)
            except trio.BrokenResourceError:
                pass

    with trio.fail_after(120):
        async with single_error(), trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                answer = await send_long(
                    f"http://127.0.0.1:{port}", "PUT", "/x", {}, body, length=length, **how
                )
            finally:
                nursery.cancel_scope.cancel()
    return answer.status_code, answer.content


@pytest.mark.parametrize(
    ("length", "seen"), [(4, b"abcd"), (None, b"2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")], ids=["counted", "chunked"]
)
async def test_the_body_follows_once_it_is_welcome(length: int | None, seen: bytes) -> None:
    async def act(stream: trio.SocketStream) -> None:
        head = await head_of(stream)
        assert b"Expect: 100-continue" in head
        await stream.send_all(CONTINUE)
        data = b""
        while len(data) < len(seen):
            data += await stream.receive_some()
        assert data == seen
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    assert await ask(act, short(), length=length) == (200, b"ok")


async def test_a_refusal_comes_before_anything_is_sent() -> None:
    async def act(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
        assert await stream.receive_some() == b""

    assert await ask(act, endless()) == (401, b"no")


async def test_a_refusal_in_the_middle_ends_the_sending() -> None:
    async def act(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(CONTINUE)
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\n\r\nmuch")

    assert (await ask(act, endless()))[0] == 413


async def test_who_hangs_up_is_unreachable() -> None:
    async def act(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(CONTINUE)
        await stream.receive_some()

    with pytest.raises(Unreachable, match="hung up"):
        await ask(act, endless())


async def test_who_takes_nothing_and_who_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ANSWER_AFTER_BREAK", 0.1)

    async def act(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(CONTINUE)
        await trio.sleep_forever()

    with pytest.raises(Unreachable, match="takes nothing"):
        await ask(act, endless(), stall=0.1)
    with pytest.raises(Unreachable, match="in time"):
        await ask(act, short(), length=4, patience=0.1)


async def test_what_is_no_http() -> None:
    async def act(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(b"220 mail.example ESMTP\r\n\r\n")
        await stream.receive_some()

    with pytest.raises(ProtocolError):
        await ask(act, short(), length=4)


async def test_what_the_body_raises_comes_out() -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("the file became shorter")

    async def act(stream: trio.SocketStream) -> None:
        await head_of(stream)
        await stream.send_all(CONTINUE)
        await trio.sleep_forever()

    with pytest.raises(OSError, match="shorter"):
        await ask(act, broken())
