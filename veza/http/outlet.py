"""The outlet: the sending side of one WebSocket, a byte queue with an end to its patience.

Every byte of the connection goes through it, trio-websocket's own frames included, so frames never interleave. `post`
writes straight to the socket while nothing waits and queues only what the kernel refuses, as references to blobs that
thousands of outlets share. It never blocks and never awaits: one slow reader must cost nobody else anything.

States, in this order only: open, closing (a Close frame is the last thing queued), dead (the line is closed).
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio
from trio.lowlevel import checkpoint

from veza.http import rfc6455
from veza.http.line import READ_SIZE, Line

TOO_SLOW: Final = 1013
TOO_BIG: Final = 1009
TURN: Final = 256 * 1024  # bytes a flusher writes before others get their turn


class Spawn(Protocol):
    """Starts a background task that outlives the caller; what it runs never raises."""

    def __call__(self, task: Callable[[], Awaitable[None]], /) -> None: ...


class Outlet(trio.abc.HalfCloseableStream):
    """The outlet of an accepted WebSocket; also the stream trio-websocket reads and writes.

    Args:
        line: where the bytes go; its owner closes it in the end, see `end`.
        spawn: starts the flusher, which lives only while something is queued.
        limit: bytes that may wait. One blob is always accepted while nothing waits, however large.
        grace: seconds a closing connection gets before it is reset.
        stall: seconds without progress after which a connection that is not read is reset.
        frame_limit: largest message accepted from the client, in bytes; beyond it Close 1009.
        ahead: bytes read from the line already.

    Attributes:
        last_received: `trio.current_time()` of the last byte that came in.
    """

    __slots__ = (
        "__weakref__",
        "_ahead",
        "_closing",
        "_dead",
        "_deadline",
        "_flushed",
        "_flushing",
        "_gauge",
        "_grace",
        "_limit",
        "_line",
        "_offset",
        "_peer_done",
        "_queue",
        "_queued",
        "_scope",
        "_spawn",
        "_stall",
        "last_received",
    )

    def __init__(
        self,
        line: Line,
        spawn: Spawn,
        *,
        limit: int,
        grace: float,
        stall: float,
        frame_limit: int,
        ahead: bytes = b"",
    ) -> None:
        self.last_received = trio.current_time()
        self._line = line
        self._spawn = spawn
        self._limit = limit
        self._grace = grace
        self._stall = stall
        self._gauge = rfc6455.Gauge(frame_limit)
        self._ahead = ahead
        # While empty, nothing waits: most outlets never need a queue of their own.
        self._queue: deque[bytes] | None = None
        self._queued = 0
        self._offset = 0  # how much of the first blob in the queue the line has taken
        self._flushing = False
        self._flushed: trio.Event | None = None  # made by whoever waits for the flusher to end
        self._scope: trio.CancelScope | None = None  # of the flusher
        self._closing = False
        self._peer_done = False  # the peer's Close, or its end, has been read
        self._dead = False
        self._deadline = float("inf")

    # What the actors use

    @property
    def closed(self) -> bool:
        """Nothing more can be posted."""
        return self._closing or self._dead

    @property
    def queued(self) -> int:
        """Bytes the kernel has not taken yet."""
        return self._queued + self._line.unsent

    def post(self, blob: bytes, *, droppable: bool = False) -> bool:
        """Send whole frames, now or when the peer reads on.

        Args:
            blob: whole, unmasked frames. It is kept as it is and must not change.
            droppable: skip it if anything is waiting (typing, presence).

        Returns:
            False once the connection is closing or dead: it will never take anything again.
        """
        if self._closing or self._dead:
            return False
        if self._queued or self._line.unsent > 0:
            if droppable:
                return True
            if self._behind() + len(blob) > self._limit:
                self._overflow()
                return False
        return self._put(blob)

    def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame after what is queued, and nothing after it.

        The peer gets `grace` seconds to take all that and to answer, then the connection is reset. Only the first call
        counts.
        """
        if self._closing or self._dead:
            return
        self._put(rfc6455.close_frame(code, reason))
        self._begin_closing()

    # What the door uses

    @property
    def close_sent(self) -> bool:
        return self._closing

    async def end(self) -> None:
        """Bring the connection to its end: send what is queued, wait for the peer's Close, close the line.

        Takes `grace` seconds at most. Cancelled, the line is reset.
        """
        try:
            self._begin_closing()
            while not self._peer_done and not self._dead:
                await self._read(READ_SIZE)
            if self._flushing and not self._dead:
                self._flushed = trio.Event()
                if self._scope is not None and not self.queued:
                    self._scope.cancel()
                await self._flushed.wait()
            if not self._dead:
                self._line.finish()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            if not self._peer_done:
                self._line.reset()
            self._die()

    def hurry(self, stall: float) -> None:
        """From now on a peer that takes nothing for `stall` seconds is reset (shutdown)."""
        self._stall = min(self._stall, stall)
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, trio.current_time() + self._stall)

    # What trio-websocket uses

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As `post`: trio-websocket's pongs and closes take their place among the frames of the actors.

        Raises:
            trio.BrokenResourceError: the connection is closing or dead.
        """
        blob = bytes(data)
        if blob and not self.post(blob):
            raise trio.BrokenResourceError("this WebSocket is closing")
        if blob and blob[0] == rfc6455.FINAL_CLOSE:
            self._begin_closing()
        await checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        await checkpoint()

    async def send_eof(self) -> None:
        await checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What the peer sends, until a Close of ours: what comes after that is nobody's business.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: as the line.
        """
        data = await self._read(max_bytes or READ_SIZE)
        if self._closing:
            return b""
        if self._gauge.exceeded:
            self.close(TOO_BIG, "This frame is too large.")
            return b""
        return data

    async def aclose(self) -> None:
        """trio-websocket is done. The line stays open until `end`, so that a Close still reaches the peer."""
        await checkpoint()

    # Receiving

    async def _read(self, size: int) -> bytes:
        if self._ahead:
            data, self._ahead = self._ahead, b""
            await checkpoint()
        else:
            try:
                data = await self._line.receive(size)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self._peer_done = True
                self._die()
                raise
        self.last_received = trio.current_time()
        if not data:
            self._peer_done = True
            return data
        if not self._gauge.exceeded:
            self._gauge.feed(data)
            self._peer_done |= self._gauge.closing
        return data

    # Sending

    def _put(self, blob: bytes) -> bool:
        """Write it, or queue it behind what waits; False if the connection turns out to be dead."""
        line = self._line
        if self._queued or line.unsent > 0:
            self._enqueue(blob, 0)
            return True
        try:
            taken = line.write(blob)
        except OSError:
            self._die()
            return False
        if taken != len(blob):
            self._enqueue(blob, taken)
        elif line.unsent > 0:
            self._flush_soon()
        return True

    def _enqueue(self, blob: bytes, offset: int) -> None:
        if self._queue is None:
            self._queue = deque()
        if not self._queue:
            self._offset = offset
        self._queue.append(blob)
        self._queued += len(blob) - (offset if len(self._queue) == 1 else 0)
        self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._spawn(self._flush)

    def _overflow(self) -> None:
        """Let go of a reader that is too slow: all but the frame in flight is dropped; it resumes by sequence."""
        queue = self._queue
        kept = b""
        if queue and self._offset:
            first = queue[0]
            kept = first[self._offset : rfc6455.boundary(first, self._offset)]
        last = kept + rfc6455.close_frame(TOO_SLOW, "This connection reads too slowly.")
        self._queue = deque((last,))
        self._queued = len(last)
        self._offset = 0
        self._flush_soon()
        self._begin_closing()

    def _behind(self) -> int:
        """Bytes queued behind the blob in flight: one blob may be larger than the limit and is still delivered."""
        return self._queued - (len(self._queue[0]) - self._offset) if self._queue else 0

    def _begin_closing(self) -> None:
        if self._closing or self._dead:
            return
        self._closing = True
        self._deadline = trio.current_time() + self._grace
        if self._scope is not None:
            self._scope.deadline = min(self._scope.deadline, self._deadline)
        if self.queued or not self._peer_done:
            self._flush_soon()  # also with an empty queue: somebody has to see to the deadline

    async def _flush(self) -> None:
        """Write what waits as the peer reads on; once closing, see to the deadline. Raises our own mistakes only."""
        try:
            while self.queued:
                behind = self._line.backlog()
                limit = min(trio.current_time() + self._stall, self._deadline)
                with trio.CancelScope(deadline=limit) as self._scope:
                    await self._line.wait_writable()
                    self._write_some()
                    continue
                # Perhaps the peer reads: the kernel says "writable" only when much of its buffer is free again.
                if trio.current_time() >= self._deadline or self._line.backlog() >= behind:
                    self._line.reset()
                    self._die()
            if self._closing and not self._peer_done and not self._dead:
                with trio.CancelScope(deadline=self._deadline) as self._scope:
                    await trio.sleep_forever()
                if not self._peer_done:
                    self._line.reset()
                    self._die()
        except (trio.ClosedResourceError, OSError):
            self._die()
        except Exception:
            self._die()
            raise
        finally:
            self._scope = None
            self._flushing = False
            if self._flushed is not None:
                self._flushed.set()

    def _write_some(self) -> None:
        """Write until the kernel refuses, or it is somebody else's turn. Raises OSError on a dead connection."""
        line, queue, budget = self._line, self._queue, TURN
        if line.unsent:
            line.write(b"")
        while queue and budget > 0 and not line.unsent:
            blob = queue[0]
            rest = memoryview(blob)[self._offset :] if self._offset else blob
            taken = line.write(rest)
            self._queued -= taken
            budget -= taken
            if taken == len(rest):
                queue.popleft()
                self._offset = 0
            else:
                self._offset += taken
                return
        if not queue:
            self._queue = None

    def _die(self) -> None:
        self._dead = True
        self._queue = None
        self._queued = 0
        self._offset = 0
        self._ahead = b""
        self._line.close()
        if self._scope is not None:
            self._scope.cancel()
