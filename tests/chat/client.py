"""A chat client for tests: collects every frame, and waits for the ones a test names.

Nothing of `veza` is used here: a test speaks to the server as a stranger's client would. The handshake is written by
hand and the frames by wsproto, so that a test can also send what no good client would.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, TextMessage

PATIENCE = 60.0  # seconds; what takes longer hangs, however busy the machine
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Frame:
    """One frame from the server, its envelope checked."""

    type: str
    data: dict[str, Any]
    timestamp: str
    user_id: int | None
    raw: str

    def __getitem__(self, key: str) -> Any:
        return self.data[key]


def read_frame(text: str) -> Frame:
    envelope = json.loads(text)
    assert set(envelope) <= {"type", "data", "timestamp", "user_id"}, envelope
    assert isinstance(envelope["data"], dict), envelope
    assert envelope["timestamp"].endswith("Z"), envelope
    return Frame(envelope["type"], envelope["data"], envelope["timestamp"], envelope.get("user_id"), text)


class Rejected(Exception):
    """The handshake was answered with something else than 101."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"{status} {body[:200]!r}")
        self.status = status
        self.headers = headers
        self.body = body


class Closed(Exception):
    """The server closed the socket while something was awaited."""

    def __init__(self, code: int | None, reason: str | None, waiting_for: str) -> None:
        super().__init__(f"closed with {code} {reason!r} while waiting for {waiting_for}")
        self.code = code


class Client:
    """One open socket. Frames are kept in `frames`; those not yet asked for also in `unread`."""

    def __init__(self, stream: trio.SocketStream, subprotocol: str | None, ahead: bytes) -> None:
        self.stream = stream
        self.subprotocol = subprotocol
        self.frames: list[Frame] = []
        self.unread: list[Frame] = []
        self.pings = 0
        self.answers_pings = True
        self.code: int | None = None  # of the server's Close; 1006 if it ended without one
        self.reason: str | None = None
        self.ended = trio.Event()
        self.welcome: dict[str, Any] = {}
        self._ws = Connection(ConnectionType.CLIENT, trailing_data=ahead)
        self._news = trio.Event()
        self._sending = trio.Lock()
        self._reads = trio.Event()
        self._reads.set()

    # Receiving

    def pause(self) -> None:
        """Read no more, as a phone in a tunnel."""
        self._reads = trio.Event()

    def resume(self) -> None:
        self._reads.set()

    async def collect(self) -> None:
        """Runs beside the test until the socket ends."""
        text = ""
        try:
            while self.code is None:
                for event in self._ws.events():
                    match event:
                        case TextMessage(data=data, message_finished=finished):
                            text += data
                            if finished:
                                frame, text = read_frame(text), ""
                                self.frames.append(frame)
                                self.unread.append(frame)
                                self._wake()
                        case Ping():
                            self.pings += 1
                            if self.answers_pings:
                                with contextlib.suppress(
                                    trio.BrokenResourceError
                                ):  # its last words wait still
                                    await self.event(event.response())
                        case CloseConnection(code=code, reason=reason):
                            self.code, self.reason = code, reason
                            with_reply = self._ws.state.name == "REMOTE_CLOSING"
                            if with_reply:
                                await self.event(event.response())
                if self.code is None:
                    await self._reads.wait()
                    data = await self.stream.receive_some()
                    if not data:
                        self.code = 1006
                    else:
                        self._ws.receive_data(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.code = self.code if self.code is not None else 1006
        finally:
            self.ended.set()
            self._wake()
            await trio.aclose_forcefully(self.stream)

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def next(self, wanted: Callable[[Frame], bool], what: str, within: float = PATIENCE) -> Frame:
        """The first unread frame that is wanted; those before it stay unread."""
        with trio.move_on_after(within):
            while True:
                # From the start each time: others wait here too, and take theirs out.
                for i, frame in enumerate(self.unread):
                    if wanted(frame):
                        return self.unread.pop(i)
                if self.ended.is_set():
                    raise Closed(self.code, self.reason, what)
                await self._news.wait()
        got = [(f.type, f.data) for f in self.frames[-12:]]
        raise AssertionError(f"no {what} within {within} s; the last frames were {got}")

    async def expect(self, type: str, /, *, within: float = PATIENCE, **match: Any) -> Frame:
        """The next frame of this type whose data has these values."""
        return await self.next(
            lambda f: f.type == type and all(f.data.get(k) == v for k, v in match.items()),
            f"{type} {match}",
            within,
        )

    async def error(self, code: str, /, *, within: float = PATIENCE, **match: Any) -> Frame:
        """The next error (with these values), which must have this code."""
        frame = await self.expect("error", within=within, **match)
        assert frame["code"] == code, frame.data
        assert isinstance(frame["message"], str) and frame["message"], frame.data
        return frame

    def seen(self, type: str, /, **match: Any) -> list[Frame]:
        """All frames of this type that ever came."""
        return [
            f for f in self.frames if f.type == type and all(f.data.get(k) == v for k, v in match.items())
        ]

    def forget(self) -> None:
        """Begin anew: what came so far is of no interest."""
        self.frames.clear()
        self.unread.clear()

    async def closed(self, within: float = PATIENCE) -> int | None:
        """The code the server closed with."""
        with trio.fail_after(within):
            await self.ended.wait()
        return self.code

    # Sending

    async def raw(self, data: bytes) -> None:
        async with self._sending:
            await self.stream.send_all(data)

    async def event(self, event: Event) -> None:
        await self.raw(self._ws.send(event))

    async def text(self, text: str) -> None:
        await self.event(TextMessage(text))

    async def send(self, type: str, /, *, ref: str | None = None, **data: Any) -> None:
        envelope: dict[str, Any] = {"type": type, "data": data}
        if ref is not None:
            envelope["ref"] = ref
        await self.text(json.dumps(envelope))

    async def _answer(self, ref: str, type: str, data: dict[str, Any]) -> Frame:
        await self.send(type, ref=ref, **data)
        return await self.next(lambda f: f.data.get("ref") == ref, f"answer to {type}")

    async def ask(self, type: str, answer: str, /, **data: Any) -> Frame:
        """Send a frame and wait for its answer, which must be of the type `answer`."""
        frame = await self._answer(f"r{next(_numbers)}", type, data)
        assert frame.type == answer, frame.data
        return frame

    async def refused(self, code: str, type: str, /, **data: Any) -> Frame:
        """Send a frame that must be answered with this error."""
        frame = await self._answer(f"r{next(_numbers)}", type, data)
        assert frame.type == "error", frame
        assert frame["code"] == code, frame.data
        return frame

    async def ask_frame(self, type: str, answer: str, /, **data: Any) -> Frame:
        """Send a change of a message and wait for the frame that tells of it; such frames carry no ref."""
        self.unread = [f for f in self.unread if (f.type, f.data.get("id")) != (answer, data["id"])]
        await self.send(type, **data)
        return await self.expect(answer, id=data["id"])

    async def join(self, room: str | int, /, **more: Any) -> Frame:
        return await self.ask("join_room", "join_room_ack", room=room, **more)

    async def say(self, room: str | int, content: str, /, **more: Any) -> Frame:
        return await self.ask("room_message", "message_ack", room=room, content=content, **more)

    async def write(self, to: int, content: str, /, **more: Any) -> Frame:
        return await self.ask("direct_message", "message_ack", to_user_id=to, content=content, **more)

    async def pong(self) -> None:
        """All that was sent before has been taken up by the server."""
        await self.ask("ping", "pong")

    async def aclose(self) -> None:
        """Leave as a good client does, and wait for the end."""
        if not self.ended.is_set():
            await self.event(CloseConnection(1000))
            await self.closed()

    async def drop(self) -> None:
        """Be gone without a word."""
        await trio.aclose_forcefully(self.stream)


async def eventually(true: Callable[[], bool], within: float = PATIENCE) -> None:
    """Wait for something the server does not announce."""
    with trio.fail_after(within):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.002)


async def fence(sender: Client, room: str | int, *watchers: Client) -> int:
    """A message everybody named sees: what the room did before it has arrived. Returns its sequence number."""
    text = f"fence {next(_numbers)}"
    ack = await sender.say(room, text)
    for watcher in {sender, *watchers}:
        await watcher.expect("room_message", content=text)
    return int(ack["seq"])


def request(
    token: str | None, path: str = "/ws/chat", way: str = "header", origin: str | None = None
) -> bytes:
    """The head of a handshake; `way` is how the token travels: header, query or protocol."""
    lines = ["Host: veza.example", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
    lines.append("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
    if token is not None and way == "header":
        lines.append(f"Authorization: Bearer {token}")
    elif token is not None and way == "query":
        path += f"?token={token}"
    elif token is not None:
        lines.append(f"Sec-WebSocket-Protocol: veza.v1, {token}")
    if origin is not None:
        lines.append(f"Origin: {origin}")
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


async def open_client(
    nursery: trio.Nursery,
    port: int,
    token: str | None,
    *,
    welcome: bool = True,
    narrow: bool = False,
    **how: Any,
) -> Client:
    """Connect; `narrow` has the kernel keep little of what is not read. Raises Rejected where the server refuses."""
    with trio.fail_after(PATIENCE):
        sock = trio.socket.socket()
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await sock.connect(("127.0.0.1", port))
        stream = trio.SocketStream(sock)
        await stream.send_all(request(token, **how))
        head = b""
        while b"\r\n\r\n" not in head:
            data = await stream.receive_some()
            if not data:
                raise Rejected(0, {}, head)
            head += data
        head, _, ahead = head.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status != 101:
            while len(ahead) < int(headers.get("content-length", 0)):
                ahead += await stream.receive_some()
            await stream.aclose()
            raise Rejected(status, headers, ahead)
    client = Client(stream, headers.get("sec-websocket-protocol"), ahead)
    nursery.start_soon(client.collect)
    if welcome:
        client.welcome = (await client.expect("welcome")).data
    return client
