"""Pictures: what people send becomes small images in a few sizes, kept under the hash of what they hold.

An image is decoded in a child process of its own (`image_child.py`), `AT_ONCE` at a time. Under one hash there is
always the same image, so whoever has it need never ask again; which hashes are whose is the database's to say.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal
from weakref import WeakValueDictionary

import msgspec
import trio

from veza import log
from veza.disk import sync_directory
from veza.media.child import ENVIRONMENT

SECONDS: Final = 20.0  # for one image; and, before that, until its turn comes
AT_ONCE: Final = 2
_CHILD: Final = Path(__file__).with_name("image_child.py")
_HASH: Final = re.compile(r"[0-9a-f]{20}")
_log = log.get("images")


class NotAnImage(Exception):
    """`reason` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Busy(Exception):
    """So many images are waiting to be decoded that this one's turn did not come."""


class Shape(msgspec.Struct, frozen=True):
    """What is made of an image.

    Attributes:
        how: `square`: its middle, cut and brought to exactly these sizes; `within`: all of it, made smaller where its
            longest side is longer.
        sizes: pixels, the largest first.
    """

    how: Literal["square", "within"]
    sizes: tuple[int, ...]

    def fitting(self, size: int) -> int:
        """The smallest rendition that is at least this large, else the largest."""
        return min((each for each in self.sizes if each >= size), default=max(self.sizes))


AVATAR: Final = Shape("square", (256, 64))
LISTING: Final = Shape("within", (1280, 320))


class Picture(msgspec.Struct, frozen=True):
    """The renditions of one image: size → WebP. `width` and `height` are the largest's."""

    hash: str
    width: int
    height: int
    images: dict[int, bytes]


class Pictures:
    """Below one directory, a directory a thing (a person, a listing) that has pictures: `ID/SIZE-HASH.webp`.

    Args:
        decoders: so many children at once; several may share it.
    """

    def __init__(self, directory: Path, shape: Shape, decoders: trio.CapacityLimiter) -> None:
        self.shape = shape
        self._directory = directory
        self._decoders = decoders
        self._turns: WeakValueDictionary[int, trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, id: int) -> AsyncIterator[None]:
        """One change of a thing's pictures after the other: what is removed then is always what no row names."""
        lock = self._turns.get(id)
        if lock is None:
            lock = self._turns[id] = trio.Lock()
        async with lock:
            yield

    async def make(self, data: bytes) -> Picture:
        """Decode an image and make its renditions. Cancelled, the child is ended.

        Raises:
            NotAnImage: it is none, or it is damaged or too large.
            Busy: its turn did not come; nothing is known of it.
        """
        command = [sys.executable, "-I", str(_CHILD), self.shape.how, *map(str, self.shape.sizes)]
        begun = False
        with trio.move_on_after(SECONDS) as patience:
            async with self._decoders:
                begun, patience.deadline = True, trio.current_time() + SECONDS
                done = await trio.run_process(
                    command,
                    stdin=data,
                    capture_stdout=True,
                    stderr=subprocess.DEVNULL,
                    check=False,
                    env=ENVIRONMENT,  # ours holds secrets
                    cwd="/",
                )
            return _read(done.returncode, done.stdout)
        if not begun:
            raise Busy
        raise NotAnImage("This image takes too long to decode.")

    def path(self, id: int, hash: str, size: int) -> Path:
        """Where a rendition lies (or would). Raises ValueError: no hash or size of ours."""
        if not _HASH.fullmatch(hash) or size not in self.shape.sizes:
            raise ValueError("no picture of ours")
        return self._of(id) / f"{size}-{hash}.webp"

    def store(self, id: int, picture: Picture) -> None:
        """Write all renditions, each whole or not at all, and durably: a row that names them may follow. Blocks.

        Raises:
            OSError: the disk is full, or will not be written.
        """
        directory = self._of(id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for size, image in picture.images.items():
            path = self.path(id, picture.hash, size)
            temporary = path.with_name(f"{secrets.token_hex(8)}.part")
            try:
                with temporary.open("xb") as file:
                    file.write(image)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        for each in (directory, self._directory):
            sync_directory(each)

    def keep_only(self, id: int, hashes: Collection[str] | None) -> None:
        """Remove every other picture of this thing; without any to keep, all. Blocks; what cannot be removed stays."""
        if not hashes:
            shutil.rmtree(self._of(id), ignore_errors=True)
            return
        for path in self._of(id).glob("*"):
            if path.stem.rpartition("-")[2] not in hashes:
                path.unlink(missing_ok=True)

    def kept(self, older_than: float) -> dict[int, set[str]]:
        """All things that have pictures, and which (by hash), if nobody touched them for so many seconds. Blocks."""
        latest = time.time() - older_than
        found: dict[int, set[str]] = {}
        for directory in self._directory.iterdir():
            try:
                if directory.name.isdigit() and directory.stat().st_mtime <= latest:
                    hashes = {path.stem.rpartition("-")[2] for path in directory.iterdir()}
                    found[int(directory.name)] = hashes
            except FileNotFoundError:
                continue  # it went this very moment
        return found

    def _of(self, id: int) -> Path:
        return self._directory / str(int(id))


def _read(code: int, output: bytes) -> Picture:
    header, _, images = output.partition(b"\n")
    if code != 0 or not header:
        _log.warning("the decoder of an image ended by itself", code=code)
        raise NotAnImage("This image cannot be decoded.")
    said = json.loads(header)
    if "reason" in said:
        raise NotAnImage(said["reason"])
    found: dict[int, bytes] = {}
    for size, length in said["sizes"]:
        found[size], images = images[:length], images[length:]
    width, height = said["pixels"]
    return Picture(hashlib.sha256(found[max(found)]).hexdigest()[:20], width, height, found)
