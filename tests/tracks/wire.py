"""A client of one request at a time on a real socket: it writes a body as slowly, as wrongly or as long as a test
wants, and reads the answer while it does."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import h11
import trio

BOUNDARY = "a-boundary-of-the-tests"
PATIENCE = 60.0  # seconds; only what hangs takes that long


@dataclass(frozen=True)
class Reply:
    """An answer, and how much of the body had been taken when it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    sent: int

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        assert self.json["success"] is True, self.body
        return self.json["data"]

    @property
    def code(self) -> str:
        found = self.json
        assert found["success"] is False, found
        assert found["error"] and found["request_id"], found
        return str(found["code"])


async def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | AsyncIterable[bytes] = b"",
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    length: int | None = -1,
) -> Reply:
    """One request on a connection of its own.

    Args:
        length: what Content-Length says; −1 what is true of bytes, None sends it in chunks.
    """
    sent = {"host": "veza.example", "connection": "close", **(headers or {})}
    if token is not None:
        sent["authorization"] = f"Bearer {token}"
    if length is None:
        sent["transfer-encoding"] = "chunked"
    elif length >= 0:
        sent["content-length"] = str(length)
    elif body and isinstance(body, bytes):
        sent["content-length"] = str(len(body))
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with trio.fail_after(PATIENCE):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            writer = _Writer(stream, chunked=length is None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.run, head.encode() + b"\r\n", body)
                reply = await _read(stream, method, writer)
                nursery.cancel_scope.cancel()
    return reply


class _Writer:
    def __init__(self, stream: trio.SocketStream, *, chunked: bool) -> None:
        self._stream = stream
        self._chunked = chunked
        self.sent = 0

    async def run(self, head: bytes, body: bytes | AsyncIterable[bytes]) -> None:
        try:
            await self._stream.send_all(head)
            async for piece in _pieces(body):
                await self._stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)
                self.sent += len(piece)
            if self._chunked:
                await self._stream.send_all(b"0\r\n\r\n")
        except trio.BrokenResourceError:
            pass  # the server has heard enough; what it said is read beside


async def _pieces(body: bytes | AsyncIterable[bytes]) -> AsyncIterable[bytes]:
    if not isinstance(body, bytes):
        async for piece in body:
            yield piece
        return
    for start in range(0, len(body), 65536):
        yield body[start : start + 65536]


async def _read(stream: trio.SocketStream, method: str, writer: _Writer) -> Reply:
    reader = h11.Connection(h11.CLIENT)
    reader.send(h11.Request(method=method, target="/", headers=[("host", "x"), ("content-length", "0")]))
    reader.send(h11.EndOfMessage())
    answer: h11.Response | None = None
    body = b""
    taken = 0
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA:
            reader.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            answer, taken = event, writer.sent
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert answer is not None
            headers = {name.decode(): value.decode() for name, value in answer.headers}
            return Reply(answer.status_code, headers, body, taken)


def part(name: str, value: str | bytes, filename: str | None = None, *extra: str) -> bytes:
    """One part of a form; with a filename it is a file."""
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"'
    head = "\r\n".join((disposition, *extra))
    data = value.encode() if isinstance(value, str) else value
    return b"--%b\r\n%b\r\n\r\n%b\r\n" % (BOUNDARY.encode(), head.encode(), data)


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--%b--\r\n" % BOUNDARY.encode()


FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}


async def upload(port: int, token: str | None, *parts: bytes, **how: Any) -> Reply:
    """`POST /tracks` with these parts."""
    return await ask(port, "POST", "/api/v1/tracks", form(*parts), token=token, headers=FORM, **how)


async def zeros(count: int, piece: int = 65536) -> AsyncIterable[bytes]:
    for _ in range(count // piece):
        yield bytes(piece)


def fields(**given: str) -> Iterable[bytes]:
    return [part(name, value) for name, value in given.items()]
