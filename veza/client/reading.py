"""Files as long requests need them: read in threads, a piece at a time, never whole in memory."""

import mimetypes
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import trio

READ: Final = 256 * 1024  # bytes at a time


async def pieces(file: Path, start: int, size: int) -> AsyncIterator[tuple[bytes, int]]:
    """A file's bytes from `start` to `size`, and the place behind each piece; as many as promised, or an error."""
    descriptor = await trio.to_thread.run_sync(os.open, file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        place = start
        while place < size:
            data = await trio.to_thread.run_sync(os.pread, descriptor, min(READ, size - place), place)
            if not data:
                raise OSError(f"{file.name} became shorter while it was sent")
            place += len(data)
            yield data, place
    finally:
        os.close(descriptor)


def content_type(file: Path) -> str:
    """What a file seems to be, by its name; the server looks for itself."""
    return mimetypes.guess_type(file.name)[0] or "application/octet-stream"
