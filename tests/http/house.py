"""A small house behind the real door, and a client of bare bytes, for the tests of `veza.http`."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio
import trio.testing
from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio
from trio_websocket import ConnectionClosed

from veza.config import Settings
from veza.http import door
from veza.http.asgi import ASK
from veza.http.media import MediaRooms, MediaRoutes, folder
from veza.http.refusal import Refused
from veza.http.rfc6455 import text_frame

# Longer than any guard: what a test wants to see pass it sets itself, for machines are slow at times. So whoever waits
# for one of these by mistake is found out by the guard.
PATIENT = {
    "head_timeout": 300.0,
    "body_timeout": 300.0,
    "send_timeout": 300.0,
    "shutdown_send_timeout": 300.0,
    "shutdown_timeout": 300.0,
    "keep_alive_timeout": 300.0,
    "ws_handshake_timeout": 300.0,
    "outlet_close_grace": 300.0,
    "max_connections_per_ip": 20_000,
}


def settings(**changes: Any) -> Settings:
    """Settings under which nothing is given up but what the test says."""
    return Settings(**{"host": "127.0.0.1", "port": 0, **PATIENT, **changes})


class Upload:
    """A raw ASGI application beside Quart: reads a body at the pace of a disk."""

    def __init__(self) -> None:
        self.read = 0
        self.largest = 0
        self.disconnected = trio.Event()
        self.pace: trio.Semaphore | None = None  # each acquired unit lets it read once

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["state"][ASK]()
        while True:
            if self.pace is not None:
                await self.pace.acquire()
            message = await receive()
            if message["type"] == "http.disconnect":
                self.disconnected.set()
                return
            self.read += len(message["body"])
            self.largest = max(self.largest, len(message["body"]))
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Chat:
    """A socket endpoint: echoes, tells all, admits who has the right token."""

    def __init__(self) -> None:
        self.outlets: set[Any] = set()
        self.abandoned = 0
        self.admitted = 0
        self.received: list[str | bytes] = []
        self.closed_by: list[Any] = []
        self.ended = trio.Event()

    async def admit(self, head: Any, client: str) -> Any:
        token = head.argument("token")
        if token == "forged":
            raise Refused(401, headers=[(b"www-authenticate", b"Bearer")])
        self.admitted += 1
        return {"client": client, "offered": head.elements(b"sec-websocket-protocol")}

    def subprotocol(self, admission: Any) -> str | None:
        return "veza.v1" if "veza.v1" in admission["offered"] else None

    def abandon(self, admission: Any) -> None:
        self.abandoned += 1

    async def run(self, admission: Any, ws: Any, outlet: Any) -> None:
        self.outlets.add(outlet)
        try:
            while True:
                message = await ws.get_message()
                self.received.append(message)
                if message == "bye":
                    return
                if message == "crash":
                    raise RuntimeError("as asked")
                if isinstance(message, str) and message.startswith("flood "):
                    count = int(message.split()[1])
                    for _ in range(count):
                        outlet.post(text_frame(b"x" * 1000))
                    continue
                outlet.post(text_frame(message.encode() if isinstance(message, str) else message))
        except ConnectionClosed as closed:
            self.closed_by.append(closed.reason)
            raise
        finally:
            self.outlets.discard(outlet)
            self.ended.set()

    def tell_all(self, payload: bytes) -> int:
        frame = text_frame(payload)
        return sum(outlet.post(frame) for outlet in list(self.outlets))


def make_app(house: House) -> Any:
    app = QuartTrio("house")
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = True

    @app.get("/api/ping")
    async def ping() -> dict[str, Any]:
        return {"success": True, "n": request.args.get("n")}

    @app.post("/api/echo")
    async def echo() -> Any:
        return QuartResponse(await request.get_data(), content_type="application/octet-stream")

    @app.get("/api/who")
    async def who() -> dict[str, Any]:
        return {
            "client": request.remote_addr,
            "host": request.host,
            "scheme": request.scheme,
            "id": request.headers.get("X-Request-ID"),
            "headers": sorted(name.lower() for name, _ in request.headers),
        }

    @app.get("/api/slow")
    async def slow() -> dict[str, Any]:
        house.asked.set()
        try:
            await trio.sleep_forever()
        finally:
            house.gone.set()
        return {}

    @app.get("/api/stream")
    async def stream() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            for n in range(5):
                yield b"piece %d;" % n

        return QuartResponse(pieces(), content_type="text/plain")

    @app.get("/api/large")
    async def large() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            house.asked.set()
            for _ in range(2000):
                yield b"x" * 65536

        return QuartResponse(pieces(), content_type="text/plain")

    @app.get("/api/crash")
    async def crash() -> Any:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("as asked")

        return QuartResponse(pieces(), content_type="text/plain")

    @app.get("/api/empty")
    async def empty() -> Any:
        return QuartResponse(b"", 204)

    @app.get("/api/own-policy")
    async def own_policy() -> Any:
        return QuartResponse(b"", headers={"Content-Security-Policy": "default-src 'none'"})

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/raw/upload":
                return await house.upload(scope, receive, send)
            if scope["path"] == "/raw/nothing":
                return None
            if scope["path"] == "/raw/early":
                await send(
                    {"type": "http.response.start", "status": 403, "headers": [(b"content-length", b"2")]}
                )
                await send({"type": "http.response.body", "body": b"no"})
                return None
            if scope["path"] == "/raw/split":
                headers = [(b"x-bad", b"a\r\nset-cookie: b")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": b"no"})
                return None
            if scope["path"] == "/raw/long":
                await send(
                    {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
                )
                await send({"type": "http.response.body", "body": b"HTTP/1.1 200 smuggled"})
                return None
        await app(scope, receive, send)
        return None

    return asgi


class House:
    """The door with an application, a socket and a few files behind it."""

    def __init__(self) -> None:
        self.chat = Chat()
        self.upload = Upload()
        self.asked = trio.Event()
        self.gone = trio.Event()
        self.door: door.Door
        self.tls: ssl.SSLContext | None = None

    async def connect(self, first: bytes = b"", *, receive_buffer: int | None = None) -> Client:
        """A connection. `first` is there before the door can look: none of its clocks runs while that is to come."""
        made = socket.socket()
        if receive_buffer is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if first:
            assert self.tls is None
            made.connect(
                ("127.0.0.1", self.door.port)
            )  # the kernel lets it in, though the door stands still meanwhile
            made.sendall(first)
        sock = trio.socket.from_stdlib_socket(made)
        if not first:
            await sock.connect(("127.0.0.1", self.door.port))
        stream: Any = trio.SocketStream(sock)
        if self.tls is not None:
            stream = trio.SSLStream(stream, self.tls, server_hostname="localhost", https_compatible=True)
        return Client(stream)

    async def websocket(self, path: str = "/ws/chat", **more: Any) -> Client:
        """An open WebSocket."""
        client = await self.connect(receive_buffer=more.pop("receive_buffer", None))
        await client.send(handshake(path, **more))
        answer = await client.head()
        assert answer.status == 101, answer
        return client


@contextlib.asynccontextmanager
async def open_house(
    files: Path | None = None,
    config: Settings | None = None,
    listeners: list[socket.socket] | None = None,
    media: Callable[[Settings], door.Media] | None = None,
) -> AsyncIterator[House]:
    """The house opens. `files` are found below `/files/`; `media` makes a further room."""
    house = House()
    config = config or settings()
    rooms: list[door.Media] = [MediaRoutes(config, [folder("/files/", files)] if files is not None else [])]
    if media is not None:
        rooms.append(media(config))

    def limit(head: Any) -> int | None:
        return None if head.path == "/raw/upload" else config.body_limit

    async with trio.open_nursery() as nursery:
        house.door = await nursery.start(
            partial(
                door.serve,
                config,
                asgi_app=make_app(house),
                sockets={"/ws/chat": house.chat},
                media=MediaRooms(*rooms),
                body_limit=limit,
                listeners=listeners,
            )
        )
        yield house
        nursery.cancel_scope.cancel()


class Answer:
    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __getitem__(self, name: str) -> str | None:
        return next((value for known, value in self.headers if known == name), None)

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers} {self.body[:200]!r}>"


class Client:
    """Bytes out, bytes in; knows just enough HTTP to tell where an answer ends."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self.buffer += data
        return bool(data)

    async def take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            if not await self.more():
                raise EOFError(self.buffer)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    async def until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            if not await self.more():
                raise EOFError(self.buffer)
        data, _, self.buffer = self.buffer.partition(mark)
        return data

    async def head(self) -> Answer:
        lines = (await self.until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])
        ]
        assert lines[0].startswith("HTTP/1.1 "), lines
        return Answer(int(lines[0].split()[1]), headers)

    async def answer(self, *, head: bool = False) -> Answer:
        """The next whole answer."""
        answer = await self.head()
        if head or answer.status in (101, 204, 304) or answer.status < 200:
            return answer
        if answer["transfer-encoding"] == "chunked":
            while size := int(await self.until(b"\r\n"), 16):
                answer.body += await self.take(size)
                assert await self.take(2) == b"\r\n"
            assert await self.take(2) == b"\r\n"
        elif answer["content-length"] is not None:
            answer.body = await self.take(int(answer["content-length"]))
        else:
            answer.body = await self.rest()
        return answer

    async def ask(self, data: bytes, *, head: bool = False) -> Answer:
        await self.send(data)
        return await self.answer(head=head)

    async def rest(self) -> bytes:
        """Everything to the end; a reset counts as an end."""
        with contextlib.suppress(trio.BrokenResourceError):
            while await self.more():
                pass
        data, self.buffer = self.buffer, b""
        return data

    async def frame(self) -> tuple[int, bytes]:
        """The next frame of the server: opcode and payload."""
        first, size = await self.take(2)
        assert not size & 0x80, "server frames are not masked"
        assert first & 0x70 == 0, "no extension was agreed on"
        if size == 126:
            (size,) = struct.unpack("!H", await self.take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.take(8))
        return first & 0x0F, await self.take(size)

    async def text(self) -> str:
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        return payload.decode()

    async def close_code(self) -> int:
        """Read up to the Close frame; its code."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                return int.from_bytes(payload[:2], "big")

    def reset(self) -> None:
        """Leave with RST, whatever is going on."""
        stream = self.stream.transport_stream if isinstance(self.stream, trio.SSLStream) else self.stream
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.socket.close()

    async def aclose(self) -> None:
        await trio.aclose_forcefully(self.stream)


def get(path: str, *lines: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    return "\r\n".join((f"{method} {path} HTTP/{version}", "Host: house", *lines, "", "")).encode()


def post(path: str, body: bytes, *lines: str, method: str = "POST") -> bytes:
    """A request with a body of known length."""
    return get(path, f"Content-Length: {len(body)}", *lines, method=method) + body


def handshake(path: str = "/ws/chat", *lines: str, version: str = "13") -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return get(
        path,
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        f"Sec-WebSocket-Version: {version}",
        f"Sec-WebSocket-Key: {key}",
        *lines,
    )


def client_frame(payload: bytes, opcode: int = 1, *, final: bool = True, masked: bool = True) -> bytes:
    """A frame as clients send them."""
    first = (0x80 if final else 0) | opcode
    mark = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        start = bytes((first, mark | size))
    elif size < 65536:
        start = bytes((first, mark | 126)) + size.to_bytes(2, "big")
    else:
        start = bytes((first, mark | 127)) + size.to_bytes(8, "big")
    if not masked:
        return start + payload
    key = os.urandom(4)
    return start + key + bytes(byte ^ key[at & 3] for at, byte in enumerate(payload))


async def until(true: Callable[[], bool]) -> None:
    """Wait for what the server shows outside but tells nobody."""
    while not true():  # noqa: ASYNC110
        await trio.sleep(0.005)


async def seen(true: Callable[[], bool]) -> None:
    """As `until`, for tests whose clock stands still until they turn it."""
    ends = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends
        await trio.testing.wait_all_tasks_blocked(0.001)


async def empty(opened: door.Door) -> None:
    """Wait until no connection is left."""
    await until(lambda: not opened.connections)


def named(value: Any) -> str:
    """The name of a test's parameter: the same in every process, though keys and masks are drawn anew."""
    return "bytes" if isinstance(value, bytes) else str(value)


def resident() -> int:
    """Bytes of memory this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
