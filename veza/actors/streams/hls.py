"""Live HLS on demand: while somebody asks for the playlist, a child process is given the stream and makes it.

A child that cannot keep up loses input; it never holds the stream up.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from veza.media.live_hls import end_playlist

WAITING: Final = 256  # pieces that may wait for the child
VIEWERS: Final = 10_000  # told from each other, at most

Make = Callable[[Path, str, "trio.MemoryReceiveChannel[bytes]"], Awaitable[None]]


class Viewers:
    """Who has asked for the playlist lately: that many listen. Whoever does not ask for `patience` seconds has left."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._seen: dict[str, float] = {}
        self.last = -math.inf
        self.came = 0  # how many there have been

    def see(self, viewer: str, now: float) -> None:
        self.last = now
        if viewer not in self._seen:
            self.came += 1
            if len(self._seen) >= VIEWERS:
                self.count(now)
                if len(self._seen) >= VIEWERS:
                    return
        self._seen[viewer] = now

    def count(self, now: float) -> int:
        for viewer in [viewer for viewer, at in self._seen.items() if now - at > self._patience]:
            del self._seen[viewer]
        return len(self._seen)


class HlsFeed:
    """One child, for one source's bytes."""

    def __init__(self, directory: Path, content_type: str, make: Make) -> None:
        self._directory = directory
        self._content_type = content_type
        self._make = make
        self._send, self._receive = trio.open_memory_channel[bytes](WAITING)
        self.dropped = 0  # pieces
        self.failed = False  # its child has; until another is tried it keeps its place

    def add(self, data: bytes) -> None:
        """Never blocks."""
        try:
            self._send.send_nowait(data)
        except trio.WouldBlock:
            self.dropped += 1
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it has ended, or is to; that is on its way to us

    def close(self) -> None:
        """No more comes: finish the last segment and end."""
        self._send.close()

    async def run(self) -> None:
        """Until closed, or until the child ends."""
        async with self._receive:
            await trio.to_thread.run_sync(_prepare, self._directory)
            await self._make(self._directory, self._content_type, self._receive)


def _prepare(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def remove(directory: Path) -> None:
    """Remove all of it. Blocks."""
    shutil.rmtree(directory, ignore_errors=True)


def finish(directory: Path) -> None:
    """Say in the playlist that nothing follows. Blocks."""
    with contextlib.suppress(OSError):
        end_playlist(directory)
