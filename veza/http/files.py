"""Files on their way to a socket: opened once for all who read them, sent without passing through Python objects.

All files together get 2 ms of a scheduler pass, and a page that is not in memory is read in a thread: files never cost
chat its latency. A slow reader holds a place in a file, not a descriptor: beyond `OPEN` descriptors they are lent out
only while something is sent. Under TLS files are read in 64 KiB pieces.
"""

import errno
import os
import stat
import time
from pathlib import Path
from typing import Final

import trio
from trio.lowlevel import checkpoint

from veza.http.refusal import Refused
from veza.http.wire import Disconnected, Wire

TURN: Final = 1024 * 1024  # bytes of one sendfile: a fraction of a millisecond
PIECE: Final = 64 * 1024  # bytes of one read
HEAD: Final = 4 * 1024  # bytes of an answer's head that are sent together with the first piece
PROBE: Final = 128 * 1024  # distance at which pages are looked for in memory
READ_AHEAD: Final = 1024 * 1024  # bytes a thread brings into memory when a page is cold
PASS: Final = 0.002  # seconds all files together may take of one scheduler pass
FRESH: Final = 0.5  # seconds for which an open file is taken to be what its path still names
ASKERS: Final = 32  # tasks that look at every pass whether it is their turn
OPEN: Final = 512  # descriptors that readers who wait may keep
SAID: Final = 1024  # files whose lines are remembered
_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)
_NO_PLACE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

Identity = tuple[int, int, int, int]  # device, inode, size, time of the last change


class File:
    """An open file, shared by its readers.

    Attributes:
        descriptor: −1 once nobody reads it any more.
        size, modified_ns: as they were when it was opened.
        lines: what heads of answers say of it, by whoever writes them.
    """

    __slots__ = ("checked", "descriptor", "identity", "lines", "modified_ns", "path", "readers", "size")

    def __init__(self, path: str, descriptor: int, info: os.stat_result, lines: dict[object, bytes]) -> None:
        self.path = path
        self.descriptor = descriptor
        self.identity = _identity(info)
        self.size = info.st_size
        self.modified_ns = info.st_mtime_ns
        self.checked = time.monotonic()
        self.readers = 0
        self.lines = lines


class Files:
    """The files that are open now, by path; also the pace at which all of them together are sent.

    Attributes:
        sent: bytes of files the kernel took so far.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.pace = Pace()
        self._first = memoryview(bytearray(HEAD + PIECE))  # filled and emptied without a pause
        self._open: dict[str, File] = {}  # what the path named last; older ones live on with their readers
        self._count = 0
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
        if file is None or time.monotonic() - file.checked > FRESH:
            file = self._renew(path, file)
        file.readers += 1
        return file

    def give(self, file: File) -> None:
        """One reader fewer; the last closes it."""
        file.readers -= 1
        if not file.readers:
            os.close(file.descriptor)
            file.descriptor = -1
            self._count -= 1
            if self._open.get(file.path) is file:
                del self._open[file.path]

    def _renew(self, path: str, known: File | None) -> File:
        try:
            descriptor = os.open(path, _FLAGS)
        except OSError as error:
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

    async def send(self, wire: Wire, start: bytes, file: File, offset: int, stop: int) -> None:
        """Send an answer's head and these bytes of a file that was taken; it is given back, come what may.

        Raises:
            Disconnected: the client left or takes nothing any more, or the file is not what it was.
        """
        held: File | None = file
        secure = wire.line.secure
        try:
            if not secure:
                offset = await self._send_first(wire, start, file, offset, min(PIECE, stop - offset))
            while offset < stop:
                if self.pace.spent:
                    await self.pace.turn()
                if secure:
                    data = await _read(file.descriptor, offset, min(PIECE, stop - offset))
                    sent, count = len(data), 0
                else:
                    count = await _warm(file.descriptor, offset, min(TURN, stop - offset))
                    sent = self._send_some(wire, file, offset, count)
                offset += sent
                self.sent += sent
                if not secure and (sent == count or offset == stop):
                    continue
                # From here to the next bytes it may be long.
                if self.crowded:
                    self.give(file)
                    held = None
                if secure:
                    await self._send_secretly(wire, start, data)
                    start = b""
                else:
                    await wire.wait_writable()
                if held is None and offset < stop:
                    held = file = self._again(file)
        finally:
            if held is not None:
                self.give(held)

    async def _send_first(self, wire: Wire, start: bytes, file: File, offset: int, count: int) -> int:
        """Send the head, and with it what is in memory of the first piece; up to where the file was sent.

        Copying so little costs less than `sendfile` does, and one call takes both.
        """
        began = time.perf_counter()
        size = len(start)
        if size > HEAD:
            await wire.send_first(start)
            return offset
        view = self._first
        view[:size] = start
        try:
            got = os.preadv(file.descriptor, [view[size : size + count]], offset, _NOWAIT) if _NOWAIT else 0
        except OSError:
            got = 0
        try:
            taken = wire.line.write(view[: size + got])
        except OSError:
            raise Disconnected from None
        self.pace.took(time.perf_counter() - began)
        if taken < size:
            await wire.send(start[taken:])
            return offset
        self.sent += taken - size
        return offset + taken - size

    def _send_some(self, wire: Wire, file: File, offset: int, count: int) -> int:
        """What the kernel takes of it now."""
        began = time.perf_counter()
        try:
            sent: int = os.sendfile(wire.line.fileno(), file.descriptor, offset, count)
        except BlockingIOError:
            return 0
        except OSError:
            raise Disconnected from None
        finally:
            self.pace.took(time.perf_counter() - began)
        if not sent:
            raise Disconnected  # the file became shorter than what was promised
        return sent

    def _again(self, file: File) -> File:
        """Take a file that was given back in the middle of an answer."""
        try:
            found = self.take(file.path)
        except Refused:
            raise Disconnected from None
        if found.identity != file.identity:
            self.give(found)
            raise Disconnected
        return found

    async def _send_secretly(self, wire: Wire, start: bytes, data: bytes) -> None:
        """Encrypt and send. What it waits is counted too, which only makes files humbler."""
        began = time.perf_counter()
        await wire.send(start, data)
        self.pace.took(time.perf_counter() - began)


class Pace:
    """All files together get 2 ms of a scheduler pass.

    Whoever finds the pass spent waits for a later one; whoever wakes first there opens it for everybody. Of those who
    wait a few ask at every pass and the others queue: thousands that ask would be a pass of their own.
    """

    def __init__(self) -> None:
        self._pass = object()
        self._spent = 0.0
        self._askers = trio.Semaphore(ASKERS)

    @property
    def spent(self) -> bool:
        return self._spent >= PASS

    def took(self, seconds: float) -> None:
        self._spent += seconds

    async def turn(self) -> None:
        """Wait until there is time to work in this pass. Always a checkpoint."""
        current = self._pass
        async with self._askers:
            while self._spent >= PASS:
                if current is self._pass:
                    self._pass = object()
                    self._spent = 0.0
                    return
                current = self._pass
                await checkpoint()


def _identity(info: os.stat_result) -> Identity:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns


_probe: Final = bytearray(1)


async def _warm(descriptor: int, offset: int, count: int) -> int:
    """How many of these bytes are in memory, at least one: `sendfile` would have everybody wait for the disk."""
    if not _NOWAIT:
        return count
    last = offset + count - 1
    places: list[int] = [*range(offset, last, PROBE), last]
    for at in places:
        try:
            os.preadv(descriptor, [_probe], at, _NOWAIT)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return count  # this file system cannot tell
            if at > offset:
                return at - offset
            await trio.to_thread.run_sync(os.pread, descriptor, READ_AHEAD, offset)
            return min(count, READ_AHEAD)
    return count


async def _read(descriptor: int, offset: int, count: int) -> bytes:
    """Bytes of the file: from memory at once, from the disk in a thread. Raises Disconnected if it is shorter."""
    buffer = bytearray(count)
    got = 0
    if _NOWAIT:
        try:
            got = os.preadv(descriptor, [buffer], offset, _NOWAIT)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL):
                raise Disconnected from None
    if got == count:
        return bytes(buffer)
    data: bytes = await trio.to_thread.run_sync(os.pread, descriptor, count, offset)
    if not data:
        raise Disconnected
    return data
