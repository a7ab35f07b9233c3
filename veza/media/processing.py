"""Has a file processed by a child process of its own, and puts what comes of it where everybody finds it.

The child (`worker.py`) writes into a directory nobody else knows. Only what is complete and on the disk is moved, each
thing by one rename, so that a track has all of its renditions or none.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from veza.disk import sync_directory
from veza.media.child import ChildEnded, open_child
from veza.media.findings import Done, Findings, Later, Progress, Refused, Said
from veza.media.library import Library

SILENCE: Final = (
    60.0  # seconds without a word after which a worker counts as hung; it speaks several times in one
)
HLS: Final = "hls"
FILES: Final = ("peaks.json", "cover.webp")
_WORKER: Final = "veza.media.worker"


class Unusable(Exception):
    """Nothing can be made of this file, now or later. `reason` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TryLater(Exception):
    """It did not work this time, for a reason that lies with the machine. `reason` is a few words for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def run_worker(path: Path, into: Path, told: Callable[[Progress], None]) -> Findings:
    """Process the file at `path` into the directory `into`. Cancelled, the child is killed.

    Args:
        told: called with what the worker says of its progress; must not block.

    Raises:
        Unusable: see there.
        TryLater: the disk is full, among others.
        ChildEnded, ChildSilent: the child was killed, crashed or hung.
        OSError: it could not be started.
    """
    async with open_child(_WORKER, str(path), str(into)) as child:
        while (line := await child.line(SILENCE)) is not None:
            match _read(line):
                case Progress() as progress:
                    told(progress)
                case Done(findings=findings):
                    return findings
                case Refused(reason=reason):
                    raise Unusable(reason)
                case Later(reason=reason):
                    raise TryLater(reason)
    raise ChildEnded(0, "it said nothing of an end")


@asynccontextmanager
async def workshop(library: Library) -> AsyncIterator[Path]:
    """A new, empty directory on the library's file system, gone afterwards with all that is in it. Raises OSError."""
    path = library.incoming / f"work-{secrets.token_hex(8)}"
    await trio.to_thread.run_sync(_make, path)
    try:
        yield path
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(_remove, path)


def put_in_place(library: Library, name: str, made: Path) -> None:
    """Move what a worker made into the directory of the track; what was there before goes. Blocks.

    Raises:
        FileNotFoundError: that directory is gone: the track was deleted.
        OSError: it cannot be written.
    """
    track = library.track(name)
    if (made / HLS).is_dir():
        old = made / "old"
        try:
            library.hls(name).rename(old)
        except FileNotFoundError:
            pass
        (made / HLS).rename(library.hls(name))
    for file in FILES:
        if (made / file).exists():
            (made / file).replace(track / file)
    sync_directory(track)


def _read(line: Any) -> Said:
    try:
        said: Said = msgspec.convert(line, Said)
    except msgspec.ValidationError as error:
        raise ChildEnded(None, f"it said something we do not know: {error}") from None
    return said


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700)


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
