"""Files on their way to a socket, without passing through Python objects.

All files together get 2 ms of a scheduler pass, and a page that is not in memory is read in a thread: files never cost
chat its latency. What waits for a slow reader are the pages of the file itself. Under TLS files are read in 64 KiB
pieces.
"""

import errno
import os
import time
from collections import OrderedDict
from typing import Final

import trio
from trio.lowlevel import Abort, Task, checkpoint, current_task, reschedule, wait_task_rescheduled

from veza.http.files import File, Files
from veza.http.refusal import Refused
from veza.http.wire import Disconnected, Wire

TURN: Final = 2 * 1024 * 1024  # bytes of a block, and at most of one sendfile: about a millisecond
PIECE: Final = 64 * 1024  # bytes of one read
HEAD: Final = 4 * 1024  # bytes of an answer's head that are sent together with a small part
PROBE: Final = 128 * 1024  # distance at which pages are looked for in memory
WARM: Final = 2.0  # seconds for which a block that was in memory is not looked for again
PASS: Final = 0.002  # seconds all files together may take of one scheduler pass
_NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0)


class Sender:
    """Sends files, as many at once as there are readers.

    Attributes:
        files: those that are open.
        sent: bytes of files the kernel took so far.
    """

    def __init__(self, files: Files | None = None) -> None:
        self.files = files or Files()
        self.pace = Pace()
        self.sent = 0
        self._first = memoryview(bytearray(HEAD + PIECE))  # filled and emptied without a pause

    def begin(self, wire: Wire, start: bytes, file: File, offset: int, stop: int) -> int:
        """Send an answer's head together with a part that is small and in memory.

        Copying 64 KiB costs less than `sendfile` does with them. More is never copied: what waits in the kernel for a
        slow reader are the very pages of the file.

        Returns:
            how much of both was taken; 0 where this is not the way.

        Raises:
            Disconnected: the client is gone.
        """
        size, count = len(start), stop - offset
        if count > PIECE or size > HEAD or not _NOWAIT or wire.line.secure:
            return 0
        view = self._first
        view[:size] = start
        try:
            got = os.preadv(file.descriptor, [view[size : size + count]], offset, _NOWAIT)
        except OSError:
            got = 0
        try:
            taken = wire.line.write(view[: size + got])
        except OSError:
            raise Disconnected from None
        if taken > size:
            self.sent += taken - size
        return taken

    async def send(
        self, wire: Wire, start: bytes, file: File, offset: int, stop: int, taken: int | None = None
    ) -> None:
        """Send an answer's head and these bytes of a file that was taken; it is given back, come what may.

        Args:
            taken: what `begin` returned, if that was called.

        Raises:
            Disconnected: the client left or takes nothing any more, or the file is not what it was.
        """
        held: File | None = file
        secure = wire.line.secure
        try:
            if taken is None:
                if self.pace.spent:
                    await self.pace.turn()
                began = time.perf_counter()
                taken = self.begin(wire, start, file, offset, stop)
                self.pace.took(time.perf_counter() - began)
            if taken >= len(start):
                offset += taken - len(start)
            elif not secure:
                # A packet of its own: joined to what follows (MSG_MORE), `sendfile` costs half as much again.
                await wire.send(start[taken:])
            while offset < stop:
                if self.pace.spent:
                    await self.pace.turn()
                if secure:
                    data = await _read(file.descriptor, offset, min(PIECE, stop - offset))
                    sent, count = len(data), 0
                else:
                    count = min(TURN - offset % TURN, stop - offset)
                    if time.monotonic() > file.warm.get(offset // TURN, 0.0):
                        count = await _warm(file, offset, count)
                    sent = self._send_some(wire, file, offset, count)
                offset += sent
                self.sent += sent
                if not secure and (sent == count or offset == stop):
                    continue
                # From here to the next bytes it may be long.
                if self.files.crowded:
                    self.files.give(file)
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
                self.files.give(held)

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
            found = self.files.take(file.path)
        except Refused:
            raise Disconnected from None
        if found.identity != file.identity:
            self.files.give(found)
            raise Disconnected
        return found

    async def _send_secretly(self, wire: Wire, start: bytes, data: bytes) -> None:
        """Encrypt and send. What it waits is counted too, which only makes files humbler."""
        began = time.perf_counter()
        await wire.send(start, data)
        self.pace.took(time.perf_counter() - began)


class Pace:
    """All files together get 2 ms of a scheduler pass.

    Who finds the pass spent queues for a later one. While anybody queues, exactly one task opens the next pass: it
    renews the time, and wakes as many as about half of it will be enough for, one of which opens the pass after; the
    rest is for those who have just come. Nobody asks again and again: thousands that did would be a pass of their own.
    """

    def __init__(self) -> None:
        self._spent = 0.0
        self._each = PASS / 4  # what a turn has taken lately, in seconds
        self._queue: OrderedDict[Task, None] = OrderedDict()
        self._opening = False  # somebody will open a pass
        self._opener: Task | None = None  # it is this one, which was woken for it

    @property
    def spent(self) -> bool:
        return self._spent >= PASS

    def took(self, seconds: float) -> None:
        self._spent += seconds
        self._each += (seconds - self._each) / 16

    async def turn(self) -> None:
        """Wait for time to work. Always a checkpoint."""
        if self._opening:
            if await self._queued():
                self._open()
            return
        self._opening = True
        try:
            await checkpoint()
        finally:
            self._open()

    async def _queued(self) -> bool:
        """Wait to be woken; whether this task opens the pass it wakes in."""
        task = current_task()
        self._queue[task] = None

        def leave(_: object) -> Abort:
            del self._queue[task]
            return Abort.SUCCEEDED

        await wait_task_rescheduled(leave)
        return self._opener is task

    def _open(self) -> None:
        """A pass begins."""
        self._spent = 0.0
        count = min(len(self._queue), max(1, int(PASS / 2 / max(self._each, 1e-6))))
        self._opener = None
        for _ in range(count):
            self._opener = self._queue.popitem(last=False)[0]
            reschedule(self._opener)
        self._opening = count > 0


_probe: Final = bytearray(1)


async def _warm(file: File, offset: int, count: int) -> int:
    """How many of these bytes of one block are in memory, at least one: else `sendfile` has everybody wait for the
    disk. A block that is all there is taken to stay for a while."""
    if not _NOWAIT:
        return count
    first = offset - offset % TURN
    end = min(first + TURN, file.size)
    places: list[int] = [*range(offset, end, PROBE), end - 1]
    for at in places:
        try:
            os.preadv(file.descriptor, [_probe], at, _NOWAIT)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return count  # this file system cannot tell
            if at > offset:
                return min(count, at - offset)
            await trio.to_thread.run_sync(os.pread, file.descriptor, end - offset, offset)
            return count
    if offset == first:
        file.warm[offset // TURN] = time.monotonic() + WARM
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
