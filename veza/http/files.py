"""The files that are open to be sent: opened once for all their readers, and for a moment longer.

A slow reader holds a place in a file, not a descriptor: once many are open, they are lent out only while something is
sent. No symbolic link in the last part of a path is followed.
"""

import errno
import os
import stat
import time
from pathlib import Path
from typing import Final

import trio

from veza.http.refusal import Refused

FRESH: Final = 0.5  # seconds for which a file that is open and not deleted is taken to be what its path names
SURE: Final = 0.001  # seconds for which that it is not deleted needs no second look
OPEN: Final = 512  # descriptors that readers who wait may keep
SAID: Final = 1024  # files whose lines are remembered
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NO_PLACE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

Identity = tuple[int, int, int, int]  # device, inode, size, time of the last change


class File:
    """An open file, shared by its readers.

    Attributes:
        descriptor: −1 once nobody reads it any more.
        size, modified_ns: as they were when it was opened.
        lines: what heads of answers say of it, by whoever writes them.
        warm: until when its blocks are taken to be in memory.
    """

    __slots__ = (
        "checked",
        "descriptor",
        "identity",
        "lines",
        "modified_ns",
        "path",
        "readers",
        "size",
        "sure_until",
        "warm",
    )

    def __init__(self, path: str, descriptor: int, info: os.stat_result, lines: dict[object, bytes]) -> None:
        self.path = path
        self.descriptor = descriptor
        self.identity = _identity(info)
        self.size = info.st_size
        self.modified_ns = info.st_mtime_ns
        self.checked = time.monotonic()
        self.sure_until = 0.0
        self.readers = 0
        self.lines = lines
        self.warm: dict[int, float] = {}


class Files:
    """The files that are open now, by path."""

    def __init__(self) -> None:
        self._open: dict[str, File] = {}  # what the path named last; older ones live on with their readers
        self._count = 0
        self._swept = False
        self._said: dict[str, tuple[Identity, dict[object, bytes]]] = {}  # the oldest first; bounded

    @property
    def count(self) -> int:
        """Descriptors held."""
        return self._count

    @property
    def crowded(self) -> bool:
        return self._count > OPEN

    def take(self, path: Path | str) -> File:
        """The file, to be given back by `give`. No symbolic link in its last part is followed.

        Raises:
            Refused: 404, there is no such regular file; 503, no descriptor is left.
        """
        path = str(path)
        file = self._open.get(path)
        if file is None or (time.monotonic() > file.sure_until and not self._still(file)):
            file = self._renew(path, file)
        file.readers += 1
        return file

    def _still(self, file: File) -> bool:
        """Is it fresh, and not deleted?"""
        now = time.monotonic()
        file.sure_until = now + SURE
        return now - file.checked <= FRESH and os.fstat(file.descriptor).st_nlink > 0

    def give(self, file: File) -> None:
        """One reader fewer. After the last it is closed: at once, or if `sweep` runs by that, soon."""
        file.readers -= 1
        if not file.readers and (not self._swept or self.crowded or self._open.get(file.path) is not file):
            self._close(file)

    async def sweep(self) -> None:
        """Close what nobody reads any more, for ever. Who asks for one range after another finds his file open."""
        self._swept = True
        try:
            while True:
                await trio.sleep(FRESH)
                now = time.monotonic()
                for file in [file for file in self._open.values() if not file.readers]:
                    if now - file.checked > FRESH:
                        self._close(file)
        finally:
            self._swept = False
            for file in [file for file in self._open.values() if not file.readers]:
                self._close(file)

    def _close(self, file: File) -> None:
        os.close(file.descriptor)
        file.descriptor = -1
        self._count -= 1
        if self._open.get(file.path) is file:
            del self._open[file.path]

    def _renew(self, path: str, known: File | None) -> File:
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
            if known is not None and not known.readers:
                self._close(known)
            if error.errno in _NO_PLACE:
                raise Refused(503, headers=[(b"retry-after", b"5")]) from None
            raise Refused(404) from None
        info = os.fstat(descriptor)
        if known is not None and known.identity == _identity(info):
            os.close(descriptor)
            known.checked = time.monotonic()
            return known
        if not stat.S_ISREG(info.st_mode):
            os.close(descriptor)
            raise Refused(404)
        if known is not None and not known.readers:
            self._close(known)
        file = self._open[path] = File(path, descriptor, info, self._lines(path, _identity(info)))
        self._count += 1
        return file

    def _lines(self, path: str, identity: Identity) -> dict[object, bytes]:
        """What was said of this very file before; kept longer than the file is open."""
        said = self._said.pop(path, None)
        if said is None or said[0] != identity:
            said = identity, {}
        self._said[path] = said
        if len(self._said) > SAID:
            del self._said[next(iter(self._said))]
        return said[1]


def _identity(info: os.stat_result) -> Identity:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns
