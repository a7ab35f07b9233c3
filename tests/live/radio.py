"""A radio for tests: MP3 whose every frame is known, sources and listeners on plain sockets, FFmpeg.

Nothing of `veza` speaks HTTP here: a test talks to the server as a stranger's program would.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

# Seconds. Only what hangs takes that long: no test is about how quick the machine is.
PATIENCE = 60.0
FRAME = 384  # bytes of a frame of MP3 at 128 kbit/s and 48 kHz: 24 ms


def mp3(first: int, count: int) -> bytes:
    """Frames number `first` and on. Each tells its number, and nothing in it looks like the beginning of another."""
    return b"".join(
        b"\xff\xfb\x94\x04" + (b"%09d " % number + bytes((97 + number % 26,)) * FRAME)[: FRAME - 4]
        for number in range(first, first + count)
    )


def basic(key: str, user: str = "source") -> str:
    return "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()


@dataclass(frozen=True)
class Stream:
    """A stream that was made for a test."""

    id: int
    slug: str
    key: str

    @property
    def path(self) -> str:
        return f"/live/{self.slug}"


@dataclass
class Reply:
    """The head of an answer, and what has come of its body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""


class Wire:
    """One connection to the server."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.ahead = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def more(self) -> bytes:
        with trio.fail_after(PATIENCE):
            try:
                return await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return b""

    async def reply(self) -> Reply:
        """The next answer's head, and its body as far as its length says."""
        while b"\r\n\r\n" not in self.ahead:
            data = await self.more()
            if not data:
                raise EOFError(self.ahead)
            self.ahead += data
        head, _, self.ahead = self.ahead.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        reply = Reply(int(first.split()[1]), headers)
        size = int(headers.get("content-length", 0))
        while len(self.ahead) < size:
            data = await self.more()
            assert data, "the body is shorter than it should be"
            self.ahead += data
        reply.body, self.ahead = self.ahead[:size], self.ahead[size:]
        return reply

    async def close(self) -> None:
        await self.stream.aclose()


class Source(Wire):
    """Whoever broadcasts."""

    async def begin(self, path: str, *lines: str, method: str = "PUT", version: str = "HTTP/1.1") -> None:
        head = [f"{method} {path} {version}", "Host: radio", *lines, "", ""]
        await self.send("\r\n".join(head).encode("latin-1"))


@dataclass
class Listener(Wire):
    """Whoever listens."""

    stream: trio.SocketStream
    ahead: bytes = b""
    heard: bytes = b""
    reply_: Reply = field(default_factory=lambda: Reply(0, {}))

    async def tune(self, path: str, *lines: str, version: str = "1.1") -> Reply:
        await self.send(
            "\r\n".join([f"GET {path} HTTP/{version}", "Host: radio", *lines, "", ""]).encode("latin-1")
        )
        self.reply_ = await self.reply()
        self.heard, self.ahead = self.ahead, b""
        return self.reply_

    async def hear(self, size: int) -> bytes:
        """Until so many bytes have been heard."""
        while len(self.heard) < size:
            data = await self.more()
            if not data:
                raise EOFError(f"{len(self.heard)} of {size}")
            self.heard += data
        return self.heard

    async def hear_until(self, end: bytes) -> bytes:
        """Until what was heard ends so."""
        while not self.heard.endswith(end):
            data = await self.more()
            if not data:
                raise EOFError(f"{len(self.heard)}: {self.heard[-40:]!r}")
            self.heard += data
        return self.heard

    async def hear_all(self) -> bytes:
        """Until the server ends it."""
        while data := await self.more():
            self.heard += data
        return self.heard


def song_of(heard: bytes, interval: int = 16_000) -> tuple[bytes, list[str]]:
    """Sound with ICY metadata taken apart: the sound, and the titles as they changed."""
    sound, titles = [], []
    at = 0
    while at < len(heard):
        sound.append(heard[at : at + interval])
        at += interval
        if at >= len(heard):
            break
        size = heard[at] * 16
        text = heard[at + 1 : at + 1 + size].rstrip(b"\0").decode()
        if size and at + 1 + size <= len(heard):
            assert text.startswith("StreamTitle='"), text
            assert text.endswith("';"), text
            titles.append(text[len("StreamTitle='") : -2])
        at += 1 + size
    return b"".join(sound), titles


async def until(true: Callable[[], bool]) -> None:
    """Wait for what the server knows and tells nobody."""
    with trio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def decoded(program: str, data: bytes) -> float:
    """Seconds of sound (or picture) in these bytes, as FFmpeg decodes them. Fails if it finds fault with them."""
    arguments = [program, "-v", "error", "-xerror", "-i", "pipe:0", "-f", "null", "-stats", "-"]
    done = await trio.run_process(
        arguments, stdin=data, capture_stdout=True, capture_stderr=True, check=False
    )
    told = done.stderr.decode(errors="replace")
    assert done.returncode == 0, told
    hours, minutes, seconds = told.rpartition("time=")[2].split()[0].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


async def broadcast(program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """FFmpeg as a source, to its end."""
    with trio.fail_after(PATIENCE):
        return await trio.run_process(
            [program, "-v", "error", "-nostdin", *arguments], capture_stderr=True, check=False
        )
