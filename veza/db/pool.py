"""The one way to the database: whole units of asyncpg work, entered from trio by one crossing each.

A unit is an asyncio coroutine `async def something(conn, ...)` in this package. Nothing else may cross: a connection or
a transaction opened piecewise from trio leaks under cancellation. So `Database` hands out no connection, ever.

What is promised, whatever is cancelled when: a connection is used by one unit at a time, goes back to the pool with no
transaction open, and is thrown away if that cannot be made sure. asyncpg's own pool is not used: it resets the session
with a round trip after every unit, and cannot tell a write that was surely not stored from one that may have been.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Concatenate, Final, NoReturn, ParamSpec, Protocol, TypeVar

import asyncpg
import structlog
import trio
import trio_asyncio

from veza.db.crossing import Crossing
from veza.db.errors import (
    RETRYABLE,
    OutcomeUnknown,
    QueryTimeout,
    Unavailable,
    is_lost,
    is_unsent,
    translate,
    ungrouped,
)

log = structlog.get_logger("veza.db.pool")

P = ParamSpec("P")
T = TypeVar("T")

APPLICATION: Final = "veza"
CONNECT_TIMEOUT: Final = 5.0
MEND_TIMEOUT: Final = 5.0  # to cancel what a cancelled unit left running, and roll back
RETRIES: Final = 5  # of a transaction that PostgreSQL undid in favour of others
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


Unit = Callable[Concatenate[Connection, P], Awaitable[T]]


class _Progress:
    """How far a write got: past the point where a broken connection leaves its outcome unknown?"""

    __slots__ = ("doubtful",)

    def __init__(self) -> None:
        self.doubtful = False


class PoolStatistics:
    """A snapshot: connections open, idle, being opened; units waiting for one; connections lost so far."""

    __slots__ = ("idle", "lost", "open", "opening", "waiting")

    def __init__(self, open: int, idle: int, opening: int, waiting: int, lost: int) -> None:
        self.open, self.idle, self.opening, self.waiting, self.lost = open, idle, opening, waiting, lost

    def __repr__(self) -> str:
        return (
            f"PoolStatistics(open={self.open}, idle={self.idle}, opening={self.opening}, "
            f"waiting={self.waiting}, lost={self.lost})"
        )


class _Connections:
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
        self._waiting: collections.deque[asyncio.Future[Connection]] = collections.deque()
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False
        self._failed_at = -1.0
        self._failure: Unavailable | None = None
        self._healer: asyncio.Task[None] | None = None
        self.healthy = False
        self.lost = 0

    def statistics(self) -> PoolStatistics:
        waiting = sum(not waiter.done() for waiter in self._waiting)
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
        self._waiting.append(waiter)
        self._open_wanted()
        timer = self._loop.call_later(self._acquire_timeout, self._give_up, waiter)
        try:
            conn = await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(waiter.result())  # it came at the moment we were cancelled
            raise
        finally:
            timer.cancel()
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
            waiter = self._waiting.popleft()
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

    def _give_up(self, waiter: asyncio.Future[Connection]) -> None:
        if not waiter.done():
            waiter.set_exception(Unavailable("all connections to the database are busy"))
            with contextlib.suppress(ValueError):
                self._waiting.remove(waiter)

    # Opening and losing

    def _open_wanted(self) -> None:
        wanted = sum(not waiter.done() for waiter in self._waiting) if self._waiting else 0
        while self._opening < wanted and len(self._all) + self._opening < self._size and not self._closed:
            self._opening += 1
            self._spawn(self._open())

    async def _open(self) -> None:
        try:
            conn = await self._connect()
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

    async def _connect(self) -> Connection:
        conn: Connection = await asyncpg.connect(
            self._url,
            timeout=CONNECT_TIMEOUT,
            statement_cache_size=500,
            max_cached_statement_lifetime=0,  # for as long as the connection lives
            server_settings=session_settings(self._statement_timeout),
        )
        return conn

    def _failed(self, failure: Unavailable) -> None:
        """A connection could not be opened: whoever waits hears of it now, unless others are open to wait for."""
        self._failure, self._failed_at = failure, self._loop.time()
        if self._all:
            return
        if self.healthy:
            log.error("the database went away", reason=str(failure))
            self.healthy = False
        while self._waiting:
            waiter = self._waiting.popleft()
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
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(Unavailable("the database is being shut down"))
        until = self._loop.time() + patience
        while len(self._all) > len(self._idle) and self._loop.time() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        idle, self._idle = self._idle, []
        with contextlib.suppress(Exception):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(conn.close() for conn in idle), return_exceptions=True)
        for task in list(self._background):
            task.cancel()
        for conn in list(self._all):
            conn.terminate()
        self._all.clear()


class Database:
    """The database as trio sees it. Any number of tasks may use it at once.

    Cancellation: a unit that is cancelled is stopped in the database too, and its connection is mended in the
    background. A cancelled write may have been stored all the same: whoever cancels one must treat it as unknown.
    """

    def __init__(
        self,
        loop: trio_asyncio.TrioEventLoop,
        url: str,
        *,
        size: int,
        acquire_timeout: float,
        statement_timeout: float,
    ) -> None:
        self._loop = loop
        self._crossing = Crossing(loop)
        self._connections = _Connections(loop, url, size, acquire_timeout, statement_timeout)
        self._url = url
        # The server stops a statement by itself. If not even that is heard, the line is dead.
        self._limit_single = acquire_timeout + statement_timeout + 2.0
        self._limit = self._limit_single + 2 * statement_timeout

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to reach the database succeeded. Costs nothing; see `ping`."""
        return self._connections.healthy

    def statistics(self) -> PoolStatistics:
        return self._connections.statistics()

    async def read(self, fn: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit that changes nothing. Each of its statements sees what is committed when it starts.

        If the connection breaks it is run once more on another one, so it must not write.

        Raises:
            Unavailable, QueryTimeout, DataRefused: see `veza.db.errors`.
        """
        with trio.move_on_after(self._limit):
            return await self._cross(self._read(fn, args, kwargs))
        raise QueryTimeout("the database did not answer in time")

    async def write(self, fn: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit in one transaction and commit it.

        A transaction that PostgreSQL undoes in favour of others (deadlock, serialization) is run again a few times, and
        so is one whose connection breaks before its commit: the unit may run twice, but is stored once at most.

        Raises:
            OutcomeUnknown: the connection broke during the commit.
            Unavailable, QueryTimeout, DataRefused, Conflict: nothing was stored.
        """
        progress = _Progress()
        with trio.move_on_after(self._limit):
            return await self._cross(self._write(progress, fn, args, kwargs))
        if progress.doubtful:
            raise OutcomeUnknown("the database did not answer a commit in time")
        raise QueryTimeout("the database did not answer in time")

    async def write_shielded(self, fn: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit of one single statement, its own transaction, to its end, whatever is cancelled around it.

        Saves the two round trips of BEGIN and COMMIT. A cancellation from outside is felt at the next checkpoint.

        Raises:
            OutcomeUnknown: the connection broke, or the line is dead: it may have been stored.
            Unavailable, QueryTimeout, DataRefused, Conflict: nothing was stored.
        """
        progress = _Progress()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + self._limit_single):
            return await self._cross(self._write_single(progress, fn, args, kwargs))
        if progress.doubtful:
            raise OutcomeUnknown("the database did not answer a write in time")
        raise QueryTimeout("the database did not answer in time")

    async def exclusive(self, fn: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a unit on a connection of its own, without any time limit: for migrations and imports.

        Raises:
            Unavailable, DataRefused, OutcomeUnknown: see `veza.db.errors`.
        """
        return await self._cross(_on_own_connection(self._url, fn, args, kwargs))

    async def ping(self) -> None:
        """Ask the database whether it answers.

        Raises:
            Unavailable: it does not.
        """
        await self.read(_ping)

    # One crossing each

    async def _cross(self, unit: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._crossing.run(unit)
        except RuntimeError:
            if self._loop.is_closed():
                raise Unavailable("the database is shut down") from None
            raise
        except asyncio.CancelledError:  # not by us: the loop ended under it
            raise Unavailable("the database was shut down") from None

    async def _read(self, fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
        connections = self._connections
        again = True
        while True:
            conn = await connections.acquire()
            try:
                result = await fn(conn, *args, **kwargs)
            except BaseException as error:
                connections.mend(conn, error)
                if again and is_lost(error):
                    again = False
                    continue
                _raise_typed(error)
            if conn.is_in_transaction():
                connections.mend(conn)
                raise RuntimeError(f"{fn!r} left a transaction open")
            connections.release(conn)
            return result

    async def _write(self, progress: _Progress, fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
        connections = self._connections
        attempt = 0
        while True:
            attempt += 1
            conn = await connections.acquire()
            transaction = conn.transaction()
            try:
                await transaction.start()
                result = await fn(conn, *args, **kwargs)
                progress.doubtful = True
                await transaction.commit()
            except BaseException as error:
                connections.mend(conn, error)
                if is_lost(error) and progress.doubtful:
                    raise OutcomeUnknown("the connection to the database was lost during a commit") from error
                progress.doubtful = progress.doubtful and not isinstance(error, Exception)
                if is_lost(error) and attempt == 1:
                    continue
                if getattr(error, "sqlstate", None) in RETRYABLE and attempt < RETRIES:
                    await asyncio.sleep(random.random() * 0.01 * attempt)
                    continue
                _raise_typed(error)
            connections.release(conn)
            return result

    async def _write_single(
        self, progress: _Progress, fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any
    ) -> T:
        connections = self._connections
        attempt = 0
        while True:
            attempt += 1
            conn = await connections.acquire()
            progress.doubtful = True
            try:
                result = await fn(conn, *args, **kwargs)
            except BaseException as error:
                connections.mend(conn, error)
                if is_unsent(error) and attempt == 1:
                    progress.doubtful = False
                    continue
                if is_lost(error):
                    raise OutcomeUnknown("the connection to the database was lost during a write") from error
                progress.doubtful = not isinstance(error, Exception)
                if getattr(error, "sqlstate", None) in RETRYABLE and attempt < RETRIES:
                    await asyncio.sleep(random.random() * 0.01 * attempt)
                    continue
                _raise_typed(error)
            if conn.is_in_transaction():
                connections.mend(conn)
                raise RuntimeError(f"{fn!r} left a transaction open")
            connections.release(conn)
            return result


@contextlib.asynccontextmanager
async def open_database(
    url: str,
    *,
    size: int = 8,
    warm: int = 2,
    acquire_timeout: float = 5.0,
    statement_timeout: float = 10.0,
    close_patience: float = 5.0,
) -> AsyncIterator[Database]:
    """The database at `url`, for the length of a `with`. It starts with one connection; others come when needed.

    Args:
        size: most connections at once.
        warm: connections to open in the background right away.
        acquire_timeout: longest wait for a free connection, seconds.
        statement_timeout: longest time of one statement, seconds; PostgreSQL itself stops it.
        close_patience: how long units at work may take to finish at the end, seconds; they end even when cancelled.

    Raises:
        Unavailable: it cannot be reached; the text says why.
    """
    async with _loop() as loop:
        database = Database(
            loop, url, size=size, acquire_timeout=acquire_timeout, statement_timeout=statement_timeout
        )
        connections = database._connections
        await database.ping()
        connections._spawn(connections.warm(warm))
        try:
            yield database
        finally:
            with trio.CancelScope(shield=True):
                await database._cross(connections.close(close_patience))


async def with_connection(url: str, fn: Unit[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run one unit on a connection opened for it, without a pool and without time limits.

    Raises:
        Unavailable, DataRefused, OutcomeUnknown: see `veza.db.errors`.
    """
    async with _loop() as loop:
        result: T = await loop.run_aio_coroutine(_on_own_connection(url, fn, args, kwargs))
    return result


def session_settings(statement_timeout: float) -> dict[str, str]:
    """What every session sets, so that a server that is not ours behaves like ours."""
    return {
        "application_name": APPLICATION,
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": str(round(statement_timeout * 1000)),
        "idle_in_transaction_session_timeout": "60s",
    }


async def _on_own_connection(url: str, fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
    try:
        conn: Connection = await asyncpg.connect(
            url, timeout=CONNECT_TIMEOUT, server_settings=session_settings(0)
        )
    except Exception as error:
        _raise_typed(error)
    try:
        try:
            return await fn(conn, *args, **kwargs)
        except Exception as error:
            if is_lost(error):
                raise OutcomeUnknown("the connection to the database was lost") from error
            _raise_typed(error)
    finally:
        conn.terminate()


async def _ping(conn: Connection) -> None:
    await conn.fetchval("SELECT 1")


def _raise_typed(error: BaseException) -> NoReturn:
    typed = translate(error)
    if typed is None or typed is error:
        raise error
    raise typed from error


@contextlib.asynccontextmanager
async def _loop() -> AsyncIterator[trio_asyncio.TrioEventLoop]:
    """An asyncio loop that outlives cancellation until its user is done."""
    with ungrouped():
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(_loop_error)
            yield loop


def _loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A background callback of asyncpg failed (a cancel request that found nobody, a socket reset): nobody's crash."""
    error, what = context.get("exception"), str(context.get("message"))
    if what.startswith("Resetting connection with an active transaction"):
        return  # by `mend`, on purpose
    log.warning("database connection trouble", what=what, error=type(error).__name__)
