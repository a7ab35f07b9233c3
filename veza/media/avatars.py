"""Avatars: what people send becomes small square images, kept under the hash of what they hold.

An image is decoded in a child process of its own (`avatar_child.py`), two at a time. Under one hash there is always the
same image, so whoever has it need never ask again; which hash is a person's is the database's to say.
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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

import msgspec
import trio

from veza import log
from veza.media.child import ENVIRONMENT

SIZES: Final = (256, 64)  # pixels
SECONDS: Final = 20.0  # for one image, waiting for the machine included
AT_ONCE: Final = 2
_CHILD: Final = Path(__file__).with_name("avatar_child.py")
_HASH: Final = re.compile(r"[0-9a-f]{20}")
_log = log.get("avatars")


class NotAnImage(Exception):
    """`reason` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Avatar(msgspec.Struct, frozen=True):
    """The renditions of one image: pixels → WebP."""

    hash: str
    images: dict[int, bytes]


class Avatars:
    """Below one directory, a directory a person: `ID/SIZE-HASH.webp`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._turns: WeakValueDictionary[int, trio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, user_id: int) -> AsyncIterator[None]:
        """One change of a person's avatar after the other: what is removed then is always the older one."""
        lock = self._turns.get(user_id)
        if lock is None:
            lock = self._turns[user_id] = trio.Lock()
        async with lock:
            yield

    async def make(self, data: bytes) -> Avatar:
        """Decode an image and make its renditions. Cancelled, the child is ended.

        Raises:
            NotAnImage: it is none, or it is damaged or too large.
        """
        command = [sys.executable, "-I", str(_CHILD), *map(str, SIZES)]
        with trio.move_on_after(SECONDS):
            async with self._limiter:
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
        raise NotAnImage("This image takes too long to decode.")

    def path(self, user_id: int, hash: str, size: int) -> Path:
        """Where a rendition lies (or would). Raises ValueError: no hash or size of ours."""
        if not _HASH.fullmatch(hash) or size not in SIZES:
            raise ValueError("no avatar of ours")
        return self._of(user_id) / f"{size}-{hash}.webp"

    def store(self, user_id: int, avatar: Avatar) -> None:
        """Write all renditions, each whole or not at all. Blocks. Raises OSError."""
        self._of(user_id).mkdir(mode=0o700, parents=True, exist_ok=True)
        for size, image in avatar.images.items():
            path = self.path(user_id, avatar.hash, size)
            temporary = path.with_name(f"{secrets.token_hex(8)}.part")
            try:
                temporary.write_bytes(image)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    def keep_only(self, user_id: int, hash: str | None) -> None:
        """Remove every other avatar of this person. Blocks; what cannot be removed stays for the next time."""
        if hash is None:
            shutil.rmtree(self._of(user_id), ignore_errors=True)
            return
        for path in self._of(user_id).glob("*"):
            if not path.name.endswith(f"-{hash}.webp"):
                path.unlink(missing_ok=True)

    def _of(self, user_id: int) -> Path:
        return self._directory / str(int(user_id))


def fitting(size: int) -> int:
    """The smallest rendition that is at least this large, else the largest."""
    return min((each for each in SIZES if each >= size), default=max(SIZES))


def _read(code: int, output: bytes) -> Avatar:
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
    return Avatar(hashlib.sha256(found[max(SIZES)]).hexdigest()[:20], found)
