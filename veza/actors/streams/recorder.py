"""A recording: what a broadcast sounds like from beginning to end, in a file that is playable at any moment.

The actor gives it chunks; a job of its own writes them, in a thread, some times a second, so that a slow disk slows
nobody. What was written is the kernel's: a killed server loses the last moment; `fsync` is for the machine.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Final

import trio

from veza.media.splitters import Chunk

EXTENSIONS: Final = {
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "video/ogg": "ogg",
    "application/ogg": "ogg",
    "audio/webm": "webm",
    "video/webm": "webm",
    "video/mp2t": "ts",
    "audio/mp4": "m4a",
    "video/mp4": "mp4",
}
ALONE: Final = frozenset({"webm", "m4a", "mp4"})
"""Containers of which two, one behind the other, are no file that others can read."""
WRITE_EVERY: Final = 0.25  # seconds
SYNC_EVERY: Final = 10.0
MOST: Final = 32 * 1024 * 1024  # bytes that may wait for the disk; then the recording ends there


class Recorder:
    """One file.

    Args:
        reserve: bytes that must stay free on the disk: what is recorded fills it no more than what is uploaded.

    Attributes:
        id: of its row, once that is stored; nothing is written before.
        failed: why it ended before its time.
    """

    def __init__(self, directory: Path, content_type: str, reserve: int = 0) -> None:
        self.extension = EXTENSIONS.get(content_type.partition(";")[0], "bin")
        self.filename = f"{secrets.token_hex(12)}.{self.extension}"
        self.content_type = content_type
        self.id: int | None = None
        self.running = False
        self.closing = False
        self.failed: str | None = None
        self._path = directory / self.filename
        self._reserve = reserve
        self._begun = False
        self._gathered: list[bytes] = []
        self._size = 0
        self._came = trio.Event()
        self._closed = trio.Event()

    @property
    def alone(self) -> bool:
        """Must another source have another file?"""
        return self.extension in ALONE

    def add(self, chunk: Chunk) -> None:
        """Take it down. The recording begins at a key point."""
        if self.closing:
            return
        if not self._begun:
            if not chunk.key:
                return
            self._begun = True
            self._take(chunk.header)
        self._take(chunk.data)
        if self._size > MOST:
            self.failed = "the disk, or the database, is too slow for it"
            self.close()

    def close(self) -> None:
        """Nothing more will come: write what is there and close the file."""
        self.closing = True
        self._closed.set()
        self._came.set()

    def _take(self, data: bytes) -> None:
        self._gathered.append(data)
        self._size += len(data)
        self._came.set()

    async def run(self) -> None:
        """Write until closed; the file is flushed to the disk then, also when cancelled.

        Raises:
            OSError: the disk is full or broken. What was written stays.
        """
        file = await trio.to_thread.run_sync(self._open)
        synced = trio.current_time()
        try:
            while True:
                await self._came.wait()
                self._came = trio.Event()
                data = self._taken()
                now = trio.current_time()
                sync = now - synced > SYNC_EVERY
                synced = now if sync else synced
                await trio.to_thread.run_sync(_write, file, data, sync, self._reserve)
                if self.closing and not self._size:
                    break
                if not self.closing:
                    with trio.move_on_after(WRITE_EVERY):
                        await self._closed.wait()
        except OSError as error:
            self.failed = error.strerror or str(error)
            self.closing = True
            self._gathered, self._size = [], 0
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_finish, file, self._taken())

    def _taken(self) -> bytes:
        data = b"".join(self._gathered)
        self._gathered, self._size = [], 0
        return data

    def _open(self) -> int:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _write(file: int, data: bytes, sync: bool, reserve: int) -> None:
    if reserve and data:
        room = os.fstatvfs(file)
        if room.f_bavail * room.f_frsize < reserve + len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]
    if sync:
        os.fsync(file)


def _finish(file: int, data: bytes) -> None:
    try:
        _write(file, data, True, 0)
    except OSError:
        pass  # told already, or nothing can be done
    finally:
        os.close(file)
