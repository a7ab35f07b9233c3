"""The connections of a pool, seen from asyncio: taken, given back, mended, replaced.

A connection is used by one unit at a time and goes back with no transaction open and nothing running; one of which that
is not certain is thrown away. asyncpg's own pool is not used: it resets the session with a round trip after every unit,
and cannot tell a write that was surely not stored from one that may have been.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol

import asyncpg
import msgspec
import structlog

from veza.db.errors import Unavailable, is_lost, translate

log = structlog.get_logger("veza.db.pool")

APPLICATION: Final = "veza"
CONNECT_TIMEOUT: Final = 5.0
MEND_TIMEOUT: Final = 5.0  # to cancel what a cancelled unit left running, and roll back
BACKOFF: Final = (0.05, 1.0)  # between attempts to reach a database that went away, first and longest
# No more than one attempt in this time while it is away: the others learn at once what the last one found.
ATTEMPT_EVERY: Final = 0.03


class Transaction(Protocol):
    """A transaction, or a savepoint inside one."""

    async def __aenter__(self) -> Any: ...
    async def __aexit__(self, *error: Any) -> Any: ...
    async def start(self) -> None: ...
    async def commit(self) -> None: ...
    async def rollback(self) -> None: ...


class Connection(Protocol):
    """What a unit may do with its connection (a part of `asyncpg.Connection`, which has no types)."""

    async def execute(self, query: str, *args: Any) -> str: ...
    async def executemany(self, query: str, args: Any) -> None: ...
    async def fetch(self, query: str, *args: Any) -> list[Any]: ...
    async def fetchrow(self, query: str, *args: Any) -> Any: ...
    async def fetchval(self, query: str, *args: Any, column: int = 0) -> Any: ...
    def cursor(self, query: str, *args: Any, prefetch: int | None = None) -> Any: ...
    def transaction(self) -> Transaction: ...
    def is_in_transaction(self) -> bool: ...
    def is_closed(self) -> bool: ...
    def add_termination_listener(self, callback: Callable[[Any], None]) -> None: ...
    def terminate(self) -> None: ...
    async def reset(self) -> None: ...
    async def close(self) -> None: ...


class PoolStatistics(msgspec.Struct, frozen=True):
    """A snapshot of a pool."""

    open: int  # connections
    idle: int  # of these, used by no unit
    opening: int  # on their way
    waiting: int  # units that wait for a connection
    lost: int  # connections that broke or were thrown away since the start


class Connections:
    """The connections, seen from asyncio. Every method runs in the loop's own context."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        url: str,
        size: int,
        acquire_timeout: float,
        statement_timeout: float,
    ) -> None:
        self._loop = loop
        self._url = url
        self._size = size
        self._acquire_timeout = acquire_timeout
        self._statement_timeout = statement_timeout
        self._all: set[Connection] = set()  # invariant: len(_all) + _opening <= _size
        self._idle: list[Connection] = []  # the last used first: few connections with warm caches
        self._opening = 0
        # Deadline and future of each unit that waits, first come first served; those that are done stay a while.
        self._waiting: collections.deque[tuple[float, asyncio.Future[Connection]]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None  # for the first of them, as long as there is one
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False
        self._failed_at = -1.0
        self._failure: Unavailable | None = None
        self._healer: asyncio.Task[None] | None = None
        self.healthy = False
        self.lost = 0

    def statistics(self) -> PoolStatistics:
        waiting = sum(not waiter.done() for _, waiter in self._waiting)
        return PoolStatistics(len(self._all), len(self._idle), self._opening, waiting, self.lost)

    # Taking and giving back

    async def acquire(self) -> Connection:
        """A connection that is open as far as we know.

        Raises:
            Unavailable: none can be opened, or none becomes free in time.
        """
        while self._idle:
            conn = self._idle.pop()
            if not conn.is_closed():
                return conn
            self._forget(conn)
        if self._closed:
            raise Unavailable("the database is being shut down")
        if (
            self._failure is not None
            and not self._all
            and self._loop.time() < self._failed_at + ATTEMPT_EVERY
        ):
            raise Unavailable(*self._failure.args)
        waiter: asyncio.Future[Connection] = self._loop.create_future()
        self._waiting.append((self._loop.time() + self._acquire_timeout, waiter))
        if self._timer is None:
            self._timer = self._loop.call_later(self._acquire_timeout, self._give_up)
        self._open_wanted()
        try:
            conn = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())  # it came at the moment we were cancelled
            raise
        if conn.is_closed():  # between being handed over and now
            self._forget(conn)
            raise Unavailable("the connection to the database was lost")
        return conn

    def release(self, conn: Connection) -> None:
        """Back to the pool, clean. A connection in doubt goes through `mend` instead."""
        if self._closed or conn.is_closed() or conn not in self._all:
            self._forget(conn)
            return
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(conn)
                return
        self._idle.append(conn)

    def mend(self, conn: Connection, error: BaseException | None = None) -> None:
        """Take a connection back whose unit failed: stop what still runs, roll back, and only then release it."""
        if error is not None and is_lost(error):
            self._forget(conn)
            # The same has probably happened to those nobody uses. A unit that is run again must not meet one of them.
            for idle in list(self._idle):
                self._forget(idle)
            return
        refused = isinstance(error, asyncpg.PostgresError)  # an answer came, so nothing runs any more
        if conn.is_closed() or (refused and not conn.is_in_transaction()):
            self.release(conn)
        else:
            self._spawn(self._mend(conn))

    async def _mend(self, conn: Connection) -> None:
        try:
            async with asyncio.timeout(MEND_TIMEOUT):
                # Whether a transaction is open cannot be known before the answers to what was cancelled are here, and
                # they are once this is answered. Outside of a transaction it does nothing.
                await conn.execute("ROLLBACK")
                await conn.reset()
                if conn.is_in_transaction():
                    conn.terminate()
        except BaseException as error:
            conn.terminate()
            if not isinstance(error, Exception):
                raise
        finally:
            self.release(conn)

    def _give_up(self) -> None:
        """Refuse those who have waited too long. They wait equally long, so they are the first in the queue."""
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            deadline, waiter = self._waiting[0]
            if not waiter.done():
                if deadline > now:
                    self._timer = self._loop.call_later(deadline - now, self._give_up)
                    return
                waiter.set_exception(Unavailable("all connections to the database are busy"))
            self._waiting.popleft()

    # Opening and losing

    def _open_wanted(self) -> None:
        while (
            len(self._all) + self._opening < self._size
            and self._opening < len(self._waiting)
            and not self._closed
        ):
            self._opening += 1
            self._spawn(self._open())

    async def _open(self) -> None:
        try:
            conn = await connect(self._url, self._statement_timeout)
        except Exception as error:
            failure = translate(error)
            if not isinstance(failure, Unavailable):
                failure = Unavailable(f"the database cannot be reached: {error}")
            self._failed(failure)
            return
        finally:
            self._opening -= 1
        self._all.add(conn)
        conn.add_termination_listener(self._forget)
        self._failure = None
        if not self.healthy:
            if self.lost:
                log.info("the database is back")
            self.healthy = True
        self.release(conn)

    def _failed(self, failure: Unavailable) -> None:
        """A connection could not be opened: whoever waits hears of it now, unless others are open to wait for."""
        self._failure, self._failed_at = failure, self._loop.time()
        if self._all:
            return
        if self.healthy:
            log.error("the database went away", reason=str(failure))
            self.healthy = False
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(Unavailable(*failure.args))
        self._heal()

    def _forget(self, conn: Connection) -> None:
        """A connection that is no more, or must not be. Safe to call again; PostgreSQL's death is heard of here."""
        if conn in self._all:
            self._all.remove(conn)
            if conn in self._idle:
                self._idle.remove(conn)
            self.lost += not self._closed
        if not conn.is_closed():
            conn.terminate()
        if self._closed:
            return
        if not self._all and self._opening == 0:
            if self.healthy:
                log.error("the database went away")
                self.healthy = False
            self._heal()
        else:
            self._open_wanted()

    def _heal(self) -> None:
        if (self._healer is None or self._healer.done()) and not self._closed:
            self._healer = self._spawn(self._reconnect())

    async def _reconnect(self) -> None:
        """Try until there is a connection again, so that recovery does not wait for somebody to ask."""
        pause, longest = BACKOFF
        while not self._all and not self._closed:
            if self._opening == 0:
                self._opening += 1
                await self._open()
                if self._all:
                    return
            await asyncio.sleep(pause * (0.75 + random.random() / 2))
            pause = min(pause * 2, longest)

    async def begin(self) -> None:
        """Open the first connection. No unit waits for it, so it may take longer than one would wait.

        Raises:
            Unavailable: the database cannot be reached.
        """
        await self.warm(1)
        if self._failure is not None:
            raise Unavailable(*self._failure.args)

    async def warm(self, count: int) -> None:
        """Open connections until there are `count`, one after the other."""
        while len(self._all) + self._opening < min(count, self._size) and not self._closed:
            self._opening += 1
            await self._open()
            if self._failure is not None:
                return

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._background.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._background.discard)
        return task

    async def close(self, patience: float) -> None:
        """Refuse new units, give those at work `patience` seconds, then close every connection."""
        self._closed = True
        while self._waiting:
            _, waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(Unavailable("the database is being shut down"))
        until = self._loop.time() + patience
        while len(self._all) > len(self._idle) and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        idle, self._idle = self._idle, []
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(conn.close() for conn in idle), return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._background):
            task.cancel()
        for conn in list(self._all):
            conn.terminate()
        self._all.clear()


async def connect(url: str, statement_timeout: float) -> Connection:
    """A new connection. Raises whatever asyncpg does; `statement_timeout` in seconds, 0 for none."""
    conn: Connection = await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT,
        statement_cache_size=500,
        max_cached_statement_lifetime=0,  # for as long as the connection lives
        server_settings=session_settings(statement_timeout),
    )
    return conn


def session_settings(statement_timeout: float) -> dict[str, str]:
    """What every session sets, so that a server that is not ours behaves like ours."""
    return {
        "application_name": APPLICATION,
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": str(round(statement_timeout * 1000)),
        "idle_in_transaction_session_timeout": "60s",
    }
