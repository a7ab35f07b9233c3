"""The one way to the database: whole units of asyncpg work, entered from trio by one crossing each.

A unit is an asyncio coroutine `async def something(conn, ...)` in this package. Nothing else may cross: a connection or
a transaction opened piecewise from trio leaks under cancellation. So `Database` hands out no connection, ever.

Whatever is cancelled when, the pool is whole afterwards (see `connections.py`), and an error says what is known of the
outcome: nothing was stored, or nobody can tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Final, NoReturn, ParamSpec, TypeVar

import asyncpg
import structlog
import trio
import trio_asyncio

from veza.db.connections import Connection, Connections, PoolStatistics, connect
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

__all__ = ["Connection", "Database", "PoolStatistics", "Unit", "open_database", "with_connection"]

log = structlog.get_logger("veza.db.pool")

P = ParamSpec("P")
T = TypeVar("T")

RETRIES: Final = 5  # of a transaction that PostgreSQL undid in favour of others

Unit = Callable[Concatenate[Connection, P], Awaitable[T]]


class _Progress:
    """How far a write got: past the point where a broken connection leaves its outcome unknown?"""

    __slots__ = ("doubtful",)

    def __init__(self) -> None:
        self.doubtful = False


class _Limit:
    """A context manager: past its deadline what is inside is cancelled, and the code behind it runs."""

    __slots__ = ("_scope", "_under_way")

    def __init__(self, under_way: set[trio.CancelScope], deadline: float, shield: bool) -> None:
        self._under_way = under_way
        self._scope = trio.CancelScope(deadline=deadline, shield=shield)

    def __enter__(self) -> None:
        self._under_way.add(self._scope)
        self._scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._under_way.discard(self._scope)
        return bool(self._scope.__exit__(kind, error, trace))


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
        self._connections = Connections(loop, url, size, acquire_timeout, statement_timeout)
        self._url = url
        # The server stops a statement by itself. If not even that is heard, the line is dead.
        self._limit_single = acquire_timeout + statement_timeout + 2.0
        self._limit = self._limit_single + 2 * statement_timeout
        self._end = math.inf
        self._under_way: set[trio.CancelScope] = set()

    def hurry(self, seconds: float = math.inf) -> None:
        """Shutting down: from now on nobody waits for the database longer than so many seconds, shielded or not.

        Without an argument this is over.
        """
        self._end = trio.current_time() + seconds
        for scope in self._under_way:
            scope.deadline = min(scope.deadline, self._end)

    def _within(self, seconds: float, *, shield: bool = False) -> _Limit:
        return _Limit(self._under_way, min(trio.current_time() + seconds, self._end), shield)

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
        with self._within(self._limit):
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
        with self._within(self._limit):
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
        with self._within(self._limit_single, shield=True):
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
            if not conn.is_closed() and conn.is_in_transaction():
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
                # The second: statements were prepared before a migration that another process made just now.
                if attempt == 1 and (
                    is_lost(error) or isinstance(error, asyncpg.InvalidCachedStatementError)
                ):
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
            if not conn.is_closed() and conn.is_in_transaction():
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
        await database._cross(connections.begin())
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


async def _on_own_connection(url: str, fn: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
    try:
        conn = await connect(url, 0)
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
