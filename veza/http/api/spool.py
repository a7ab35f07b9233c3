"""Bytes that go to the disk as they come: gathered to a quarter of a mebibyte, written in a thread.

So neither the memory nor the event loop notices how large an upload is. What is on the disk when it fills up, when the
client leaves or when the server is killed is nobody's: the file goes with the block that opened it, or at the next
start.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

BATCH: Final = 256 * 1024  # bytes of one write
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_PIECES: Final = 512  # of one writev; the systems we know take 1,024
writev: Callable[[int, Sequence[Any]], int] = os.writev


class StorageFull(Exception):
    """The disk has no room for this, or none that uploads may take."""


def is_full(error: OSError) -> bool:
    """Whether that means the disk has no room, whoever found out."""
    return error.errno in _FULL


class Spool:
    """A file that is being written, by one task.

    Attributes:
        path: where it is.
        size: bytes it has, those on their way included.
    """

    def __init__(
        self, path: Path, file: int, reserve: int, size: int = 0, digest: Callable[[Any], None] | None = None
    ) -> None:
        self.path = path
        self.size = size
        self._file = file
        self._reserve = reserve
        self._digest = digest
        self._waiting: list[memoryview] = []
        self._count = 0

    async def write(self, pieces: Sequence[memoryview]) -> None:
        """Take these bytes; returns at once, or when what has been gathered is written.

        Cancelled, some of it may be written.

        Raises:
            StorageFull, OSError.
        """
        self._waiting.extend(pieces)
        for piece in pieces:
            self._count += len(piece)
            self.size += len(piece)
        if self._count >= BATCH:
            await self.flush()

    async def flush(self, *, durable: bool = False) -> None:
        """Write what has been gathered. `durable`: and have the disk keep it, whatever happens to the machine.

        Raises:
            StorageFull, OSError.
        """
        waiting, self._waiting, self._count = self._waiting, [], 0
        if waiting or durable:
            await trio.to_thread.run_sync(self._write, waiting, durable)

    def _write(self, pieces: list[memoryview], durable: bool) -> None:
        try:
            if pieces:
                room = os.fstatvfs(self._file)
                if room.f_bavail * room.f_frsize < self._reserve + sum(map(len, pieces)):
                    raise StorageFull
            if self._digest is not None:
                for piece in pieces:
                    self._digest(piece)
            while pieces:
                written = writev(self._file, pieces[:_PIECES])
                while pieces and written >= len(pieces[0]):
                    written -= len(pieces.pop(0))
                if written:
                    pieces[0] = pieces[0][written:]
            if durable:
                os.fsync(self._file)
        except OSError as error:
            if is_full(error):
                raise StorageFull from None
            raise


@asynccontextmanager
async def open_spool(directory: Path, *, reserve: int, expected: int | None = None) -> AsyncIterator[Spool]:
    """A new file in `directory`, which is gone when the block ends, unless it was moved elsewhere by then.

    Args:
        reserve: bytes that must stay free on the disk.
        expected: how large it will be, where that is known.

    Raises:
        StorageFull: there is no room for that much.
    """
    path = directory / secrets.token_hex(16)
    file = await trio.to_thread.run_sync(_create, path, reserve + (expected or 0))
    try:
        yield Spool(path, file, reserve)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_close, file, path)


@asynccontextmanager
async def continue_spool(
    path: Path, size: int, *, reserve: int, digest: Callable[[Any], None] | None = None
) -> AsyncIterator[Spool]:
    """Go on writing at the end of a file, which stays, with what was written to it.

    Args:
        size: what it has.
        digest: is given all that is written, in order, in the thread that writes it.

    Raises:
        OSError: FileNotFoundError among others.
    """
    file = await trio.to_thread.run_sync(os.open, path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        yield Spool(path, file, reserve, size, digest)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(os.close, file)


async def room_for(directory: Path, size: int) -> bool:
    """Whether the disk has so many bytes free."""
    return await trio.to_thread.run_sync(partial(_free, directory)) >= size


def _free(directory: Path) -> int:
    room = os.statvfs(directory)
    return room.f_bavail * room.f_frsize


def _create(path: Path, needed: int) -> int:
    if _free(path.parent) < needed:
        raise StorageFull
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if is_full(error):
            raise StorageFull from None
        raise


def _close(file: int, path: Path) -> None:
    os.close(file)
    path.unlink(missing_ok=True)
