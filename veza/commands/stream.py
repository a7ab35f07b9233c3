"""`veza stream FILE|-`: broadcast a file as it is heard, or standard input as it comes.

What players and browsers understand is sent as it is; anything else is made MP3 (or MPEG-TS, with a picture) by a child
process on the way. Without a stream's name and key a stream is made for this broadcast, and ended with it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from veza.client import ApiError, ClientError, NotBroadcastable, VezaClient
from veza.client.containers import SNIFFED, Unrecognised, recognise
from veza.client.link import single_error
from veza.client.streams import file_bytes
from veza.commands.lines import harmless, is_terminal
from veza.commands.login import ANOTHER, log_in, server_url, told_as_problems
from veza.errors import Problem

READ: Final = 64 * 1024
LISTENERS_EVERY: Final = 5.0  # seconds between two looks at how many listen
LAST_WORDS: Final = 5.0  # seconds for ending the stream when we are told to stop


class Show(msgspec.Struct, frozen=True):
    """What is broadcast, and where."""

    source: str  # a file, or `-`
    title: str | None = None
    slug: str | None = None
    key: str | None = None
    category: str = "music"
    visibility: str = "public"
    record: bool = False
    loop: bool = False
    song: str | None = None
    content_type: str | None = None


class WrongUse(Problem):
    """A command that makes no sense as it is written."""

    exit_code = 2


def run(show: Show, server: str | None, user: str | None) -> None:
    """Broadcast until the source ends, or somebody says stop.

    Raises:
        Problem: no such file, nothing that can be broadcast, a wrong key, nobody there.
    """
    if (show.slug is None) != (show.key is None):
        raise WrongUse("--slug and --key go together (the key may also be in VEZA_STREAM_KEY)")
    if show.slug is not None and (show.record or show.visibility != "public"):
        raise WrongUse("--record and --visibility are for a new stream; this one has its own")
    if show.source == "-":
        if show.loop:
            raise WrongUse("standard input cannot be played again: --loop is for files")
        if is_terminal(sys.stdin):
            raise Problem(
                "nothing comes in: pipe something into it, such as ffmpeg … -f mp3 - | veza stream -"
            )
    elif not Path(show.source).is_file():
        raise Problem(f"{show.source}: there is no such file")
    with told_as_problems(ANOTHER):
        trio.run(_main, server_url(server), show, user)


async def _main(url: str, show: Show, user: str | None) -> None:
    async with VezaClient(url) as client:
        source = await _source(show)
        if show.slug is not None and show.key is not None:
            await Broadcast(client, show, source, show.slug, show.key).run()
            return
        await log_in(client, url, user, register=False)
        stream = await client.create_stream(
            show.title or source.title or "Live",
            category=show.category,
            visibility=show.visibility,
            record=show.record,
        )
        try:
            await Broadcast(client, show, source, stream.slug, stream.stream_key).run()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_WORDS):
                with contextlib.suppress(ClientError):
                    await client.end_stream(stream.id)


class Source(msgspec.Struct, frozen=True):
    """Where the bytes come from, and what they are called."""

    path: str | None  # None: standard input
    title: str | None
    song: str | None
    by: str | None  # what a child must make of it first


async def _source(show: Show) -> Source:
    """Look at what is to be broadcast. Raises Problem."""
    if show.source == "-":
        return Source(None, None, show.song, None)
    path = Path(os.path.abspath(show.source))  # noqa: ASYNC240 (that looks at no disk but for where we are)
    known = await _look(path)
    if known is None:
        known = {}
        if not await _goes_as_it_is(path):
            raise Problem(f"{show.source}: this is no audio or video that can be broadcast")
    title = known.get("title") or path.stem
    song = f"{known['artist']} - {title}" if known.get("artist") else title
    by = None if await _goes_as_it_is(path) else "ts" if known.get("video") else "mp3"
    return Source(str(path), title, show.song or song, by)


async def _goes_as_it_is(path: Path) -> bool:
    try:
        async for data in file_bytes(path):
            with contextlib.suppress(IndexError):
                return recognise(data[: 16 * SNIFFED]) is not None
    except Unrecognised:
        pass
    return False


def _child(what: str, path: str) -> list[str]:
    return [sys.executable, "-m", "veza.commands.convert", what, path]


async def _look(path: Path) -> dict[str, Any] | None:
    done = await trio.run_process(
        _child("look", str(path)), capture_stdout=True, capture_stderr=True, check=False
    )
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Broadcast:
    """One broadcast, and the line that tells of it."""

    def __init__(self, client: VezaClient, show: Show, source: Source, slug: str, key: str) -> None:
        self._client = client
        self._show = show
        self._source = source
        self._slug = slug
        self._key = key
        self._line = Line()

    async def run(self) -> None:
        line = self._line
        await self._tell_where()
        async with single_error(), trio.open_nursery() as nursery:
            await nursery.start(self._until_told, nursery.cancel_scope)
            nursery.start_soon(self._count_listeners)
            nursery.start_soon(self._name_song)
            nursery.start_soon(line.keep)
            try:
                await self._client.broadcast(
                    self._slug,
                    self._key,
                    self._bytes(),
                    content_type=self._show.content_type,
                    realtime=self._source.path is not None,
                    name=self._show.title or self._source.title,
                    progress=line.moved,
                    notice=lambda reason: line.say(f"… {reason}; trying again"),
                )
            except NotBroadcastable as error:
                raise Problem(f"{self._show.source}: {error}") from None
            finally:
                line.end()
            nursery.cancel_scope.cancel()

    async def _tell_where(self) -> None:
        absolute = self._client.absolute
        listen = absolute(f"/live/{self._slug}")
        hls = f"{listen}/index.m3u8"
        if self._show.visibility == "private":
            links = await self._client.listen_links(self._slug)  # these open it to whoever has them
            listen, hls = links.progressive, links.hls
        for label, address in (("page", absolute(f"/s/{self._slug}")), ("listen", listen), ("hls", hls)):
            print(f"{label:7} {address}", flush=True)

    async def _bytes(self) -> AsyncIterator[bytes]:
        path = self._source.path
        if path is None:
            while data := await trio.to_thread.run_sync(os.read, 0, READ, abandon_on_cancel=True):
                yield data
            return
        while True:
            async for data in self._converted(path) if self._source.by else file_bytes(Path(path)):
                yield data
            if not self._show.loop:
                return

    async def _converted(self, path: str) -> AsyncIterator[bytes]:
        """What a child makes of a file; it works no faster than its pipe is emptied."""
        process = await trio.lowlevel.open_process(
            _child(self._source.by or "mp3", path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            async for data in process.stdout:
                yield bytes(data)
            if await process.wait():
                raise Problem(f"{self._show.source}: cannot be converted")
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()

    async def _name_song(self) -> None:
        """Say what is playing once the server has heard of the source."""
        song = self._source.song
        if not song:
            return
        await self._line.begun.wait()
        for pause in (0.2, 0.5, 1.0, 2.0, 4.0):
            try:
                await self._client.set_song(self._slug, self._key, song)
                return
            except ClientError:
                await trio.sleep(pause)

    async def _count_listeners(self) -> None:
        while True:
            await trio.sleep(LISTENERS_EVERY)
            try:
                self._line.listeners = (await self._client.stream(self._slug)).listeners
            except ApiError as error:
                if error.status in (401, 403, 404):
                    return  # a private one, and we are known by its key only
            except ClientError:
                pass

    async def _until_told(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                scope.cancel()
                return


class Line:
    """The line at the bottom of a terminal: how long, how much, how many listen. Elsewhere only what happens."""

    def __init__(self) -> None:
        self.listeners: int | None = None
        self.begun = trio.Event()
        self._shown = is_terminal(sys.stderr)
        self._sent = 0
        self._since = time.monotonic()

    def moved(self, sent: int, _position: float) -> None:
        self._sent = sent
        if sent and not self.begun.is_set():
            self._since = time.monotonic()
            self.begun.set()

    def say(self, text: str) -> None:
        print(f"\r\x1b[K{harmless(text)}" if self._shown else harmless(text), file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._sent:
            self.say(f"off air after {self._clock()}, {self._sent / 1e6:.1f} MB")

    async def keep(self) -> None:
        """Draw it every second, on a terminal."""
        while self._shown:
            if self._sent:
                here = "" if self.listeners is None else f"  {self.listeners} listening"
                text = f"on air {self._clock()}  {self._sent / 1e6:.1f} MB{here}"
                sys.stderr.write(f"\r\x1b[K{text}")
                sys.stderr.flush()
            await trio.sleep(1)

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._since)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
