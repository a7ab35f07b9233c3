"""The desk where uploads are handed in: how many a person has under way, which resumable one is being written, how many
files are looked at together; and what nobody will come back for is thrown away.

One desk a server: it holds what is true of this process alone, so it keeps nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import trio

from veza import log
from veza.db import uploads
from veza.db.pool import Database
from veza.media import checking
from veza.media.library import Library

_log = log.get("uploads")

CHECKS: Final = 2  # files looked at together: each is a process of its own
STRAY_AGE: Final = 3600.0  # seconds after which a file without a row is nobody's
_BATCH: Final = 500


class Busy(Exception):
    """Somebody is writing to this upload."""


class TooMany(Exception):
    """This person has as many uploads under way as one may have."""


class Desk:
    """See above. All of it without awaiting, but `check` and what sweeps."""

    def __init__(self) -> None:
        self._under_way: Counter[int] = Counter()
        self._held: set[UUID] = set()
        self._checks = trio.CapacityLimiter(CHECKS)

    @property
    def open(self) -> int:
        """Uploads under way now."""
        return self._under_way.total()

    @contextlib.contextmanager
    def under_way(self, user_id: int, most: int) -> Iterator[None]:
        """Around one upload of this person. Raises TooMany: he has `most`."""
        if self._under_way[user_id] >= most:
            raise TooMany
        self._under_way[user_id] += 1
        try:
            yield
        finally:
            self._under_way[user_id] -= 1
            if not self._under_way[user_id]:
                del self._under_way[user_id]

    @contextlib.contextmanager
    def holding(self, upload_id: UUID) -> Iterator[None]:
        """Around what changes a resumable upload: one at a time. Raises Busy, at once: who comes second asks again."""
        if upload_id in self._held:
            raise Busy
        self._held.add(upload_id)
        try:
            yield
        finally:
            self._held.discard(upload_id)

    async def check(self, path: Path) -> checking.Checked:
        """What a file really is. Raises checking.NotMedia, with the reason."""
        async with self._checks:
            return await checking.check(path)

    async def sweep(self, db: Database, library: Library) -> int:
        """Remove resumable uploads whose time is over, and files nobody knows. How many went.

        Raises:
            DatabaseError: the database cannot be asked; what was not removed yet stays.
        """
        gone = 0
        while due := await db.read(uploads.expired, _BATCH):
            due = [upload_id for upload_id in due if upload_id not in self._held]
            if not due:
                break
            await db.write(uploads.remove, due)
            for upload_id in due:
                await remove_file(library, upload_id)
            gone += len(due)
        strays = await trio.to_thread.run_sync(_old_files, library)
        for start in range(0, len(strays), _BATCH):
            batch = strays[start : start + _BATCH]
            known = await db.read(uploads.known, batch)
            for upload_id in batch:
                if upload_id not in known and upload_id not in self._held:
                    await remove_file(library, upload_id)
                    gone += 1
        return gone


def file_of(library: Library, upload_id: UUID) -> Path:
    """Where the bytes of a resumable upload lie."""
    return library.resumable / upload_id.hex


async def remove_file(library: Library, upload_id: UUID) -> None:
    await trio.Path(file_of(library, upload_id)).unlink(missing_ok=True)


def _old_files(library: Library) -> list[UUID]:
    found = []
    newest = time.time() - STRAY_AGE
    for path in library.resumable.iterdir():
        with contextlib.suppress(ValueError, FileNotFoundError):
            if path.lstat().st_mtime < newest:
                found.append(UUID(hex=path.name))
    return found
