"""Live HLS of one source: a child process (`live_hls_child.py`) makes segments and a sliding playlist in a directory.

    await run_live_hls(directory, "audio/ogg", receive, segment=2.0, window=6)   # until the channel is closed
    await trio.to_thread.run_sync(end_playlist, directory)                       # if nothing will ever follow

The first bytes of the channel are the header and what is still held of the stream from a key chunk on, so that there
are segments at once; then come the chunks as they are. A child that dies is replaced: the new one begins at the next
key chunk, goes on with the numbers of the one before and marks that its times are others. Whoever calls again with the
same directory goes on in the same way, so a source may drop and come back. Only `end_playlist` says that it is over.

The child cannot hold anybody up: while it does not read, the channel fills, and what no longer fits is the sender's to
drop. It sees our end, however we die, by the end of its input: then it publishes the last segment and goes.
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio

from veza import log
from veza.media.child import open_process
from veza.media.live.playlist import PLAYLIST, Playlist
from veza.media.splitters import Chunk, Splitter, Unsupported, splitter_for

DEATHS: Final = 5
DEATHS_WITHIN: Final = 60.0
"""Seconds. A child that dies more often than that is not replaced."""
STUCK: Final = 20.0
"""Seconds a child may take nothing before it is ended."""
FINISH: Final = 10.0
"""Seconds a child has to publish its last segment."""
NOTHING_TO_MAKE: Final = 3
"""Exit code of a child that can make nothing of what comes."""
_STDERR: Final = 2_000
_log = log.get("live_hls")


class LiveHlsFailed(Exception):
    """There will be no live HLS of this source. The message is for the log."""


async def run_live_hls(
    directory: Path,
    content_type: str,
    receive: trio.MemoryReceiveChannel[bytes],
    *,
    segment: float,
    window: int,
) -> None:
    """Make HLS of what comes until the channel is closed; the last segment is published then.

    Cancelled, it ends the child at once; what was published stays.

    Args:
        directory: absolute, and there. `index.m3u8` appears in it with the first segment.
        content_type: what the container is, as its splitter tells it.
        receive: whole chunks; the first with its header.
        segment: seconds.
        window: segments listed.

    Raises:
        LiveHlsFailed: nothing can be made of what comes, or the children die too often.
        OSError: no process can be started.
    """
    source = _Source(content_type)
    deaths: deque[float] = deque()
    arguments = (str(directory), content_type, str(segment), str(window))
    while True:
        async with _child(arguments) as child:
            ended = await _pour(child, source, receive)
        if ended and child.code == 0:
            return
        if child.code == NOTHING_TO_MAKE:
            raise LiveHlsFailed(child.said or "nothing can be made of this source")
        _log.warning("the maker of live HLS died", code=child.code, said=child.said)
        if ended:
            return
        now = trio.current_time()
        deaths.append(now)
        while now - deaths[0] > DEATHS_WITHIN:
            deaths.popleft()
        if len(deaths) > DEATHS:
            raise LiveHlsFailed(f"its makers die one after the other: {child.said}")


def end_playlist(directory: Path) -> None:
    """Say in the playlist that nothing follows. Blocks; does nothing where there is none. Raises OSError."""
    playlist = Playlist.load(directory)
    if playlist is not None and (directory / PLAYLIST).exists():
        playlist.store(directory, ended=True)


class _Child:
    """A process, and what is left of it: its code, and what it said last."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.said = ""
        self.code: int | None = None


@asynccontextmanager
async def _child(arguments: tuple[str, ...]) -> AsyncIterator[_Child]:
    """A child that is gone when this is left; its code and its last words are known then."""
    with tempfile.TemporaryFile() as said:
        async with open_process("veza.media.live_hls_child", *arguments, stderr=said) as process:
            child = _Child(process)
            yield child
        child.code = process.returncode
        said.seek(max(0, said.seek(0, os.SEEK_END) - _STDERR))
        child.said = said.read().decode(errors="replace").strip()


async def _pour(child: _Child, source: _Source, receive: trio.MemoryReceiveChannel[bytes]) -> bool:
    """Give a child what comes, from the next key chunk on.

    Returns:
        Whether all there is was given; else the child has died, or was found stuck.
    """
    stdin = child.process.stdin
    assert stdin is not None
    begun = False
    try:
        async for data in receive:
            chunks = source.cut(data)
            header = b""
            if not begun:
                key = next((nth for nth, chunk in enumerate(chunks) if chunk.key), None)
                if key is None:
                    continue
                chunks, header, begun = chunks[key:], chunks[key].header, True
            if chunks:
                with trio.fail_after(STUCK):
                    await stdin.send_all(header + b"".join([chunk.data for chunk in chunks]))
        await stdin.aclose()
    except (trio.BrokenResourceError, trio.TooSlowError):
        with trio.move_on_after(1):  # it may be about to say why
            await child.process.wait()
        return False
    with trio.move_on_after(FINISH):
        await child.process.wait()
    return True


class _Source:
    """Knows where a new child may begin."""

    def __init__(self, content_type: str) -> None:
        self._content_type = content_type
        self._first = b""
        self._splitter: Splitter | None = None

    def cut(self, data: bytes) -> list[Chunk]:
        """Raises LiveHlsFailed."""
        if self._splitter is None:
            self._first += data
            try:
                self._splitter = splitter_for(self._content_type, self._first)
            except Unsupported as error:
                raise LiveHlsFailed(error.reason) from None
            if self._splitter is None:
                return []
            data, self._first = self._first, b""
        return self._splitter.feed(data)
