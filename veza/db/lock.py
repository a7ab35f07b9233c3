"""Who works on a data directory, and on a database: one server at a time.

On a directory it is an advisory `flock` on a file that also says whose it is; on a database an advisory lock of a
session. Both end with their holder, however it ends, so neither is ever stale. (The file stays; what it says counts
only while it is locked.)
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import structlog
import trio

from veza.db.connections import Connection
from veza.db.errors import DatabaseError, DatabaseInUse, DataDirectoryInUse, DataDirectoryUnusable, ungrouped
from veza.db.pool import Database

log = structlog.get_logger("veza.db.lock")

SERVER_LOCK: Final = 0x76657A61_00000002  # "veza", then 2 for the server


def prepare_directory(path: Path) -> Path:
    """The data directory as an absolute path: made if missing, proven writable.

    Raises:
        DataDirectoryUnusable: one line that says why not.
    """
    path = Path(os.path.abspath(path))
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".writable-{os.getpid()}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataDirectoryUnusable(f"the data directory {str(path)!r} is not writable: {reason}") from None
    return path


class FileLock:
    """An exclusive lock on a file, held from `acquire` to `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock if it is free; never waits. The file then names this process."""
        if self.held:
            return True
        try:
            # Not inherited by child processes: a lock must end with its holder.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataDirectoryUnusable(f"{str(self.path)!r} cannot be used: {reason}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except OSError as error:
            os.close(descriptor)
            raise DataDirectoryUnusable(
                f"{str(self.path)!r} cannot be locked: {(error.strerror or str(error)).lower()}"
            ) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> int | None:
        """The pid of whoever holds or last held it, as far as the file says."""
        try:
            return int(self.path.read_text(encoding="ascii").split()[0])
        except (OSError, ValueError, IndexError):
            return None

    def is_taken(self) -> bool:
        """Whether another process holds it now."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return not self.held
        else:
            return False
        finally:
            os.close(descriptor)


def server_lock(data: Path) -> FileLock:
    """The lock `serve` holds for as long as it runs."""
    return FileLock(data / "server.lock")


@contextlib.contextmanager
def hold_data_directory(data: Path) -> Iterator[Path]:
    """Hold the data directory as its only server.

    Raises:
        DataDirectoryInUse: another server holds it.
        DataDirectoryUnusable: it cannot be written.
    """
    path = prepare_directory(data)
    lock = server_lock(path)
    if not lock.acquire():
        holder = lock.holder()
        who = f" (pid {holder})" if holder else ""
        raise DataDirectoryInUse(f"the data directory {str(path)!r} is in use by another server{who}")
    try:
        yield path
    finally:
        lock.release()


@contextlib.asynccontextmanager
async def hold_database(db: Database, *, patience: float = 3.0) -> AsyncIterator[None]:
    """Hold the database as its only server, on a connection of its own.

    When the connection is lost the lock is taken again as soon as the database is back; should another server have been
    faster, the body is cancelled and this raises.

    Args:
        patience: how long the lock may be held by somebody else, such as a server that is just ending, seconds.

    Raises:
        DatabaseInUse: another server holds it.
        Unavailable: the database cannot be reached.
    """
    held = trio.Event()
    with ungrouped():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep, db, held, patience)
            await held.wait()
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()


async def _keep(db: Database, held: trio.Event, patience: float) -> None:
    pause = 0.05
    while True:
        try:
            await db.exclusive(_hold, held, patience)
            pause = 0.05
        except DatabaseInUse:
            raise
        except DatabaseError:
            if not held.is_set():
                raise
        log.warning("the database forgot that it is ours, taking it again")
        await trio.sleep(pause)
        pause = min(pause * 2, 1.0)


async def _hold(conn: Connection, held: trio.Event, patience: float) -> None:
    """Take the lock and keep the session until it breaks."""
    lost = asyncio.Event()
    conn.add_termination_listener(lambda _: lost.set())
    # A machine that vanished must not hold the lock for hours. (Means nothing on a socket.)
    await conn.execute(
        "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
    )
    loop = asyncio.get_running_loop()
    until = loop.time() + patience
    while not await conn.fetchval("SELECT pg_try_advisory_lock($1)", SERVER_LOCK):
        if loop.time() >= until:
            raise DatabaseInUse(f"another server works on this database{await _holder(conn)}")
        await asyncio.sleep(0.05)
    held.set()
    await lost.wait()


async def _holder(conn: Connection) -> str:
    row = await conn.fetchrow(
        """
        SELECT host(a.client_addr), to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database
                                                                      WHERE datname = current_database())
          AND l.classid::bigint << 32 | l.objid::bigint = $1
        """,
        SERVER_LOCK,
    )
    if row is None or row[1] is None:
        return ""
    return f" (from {row[0] or 'this machine'}, since {row[1]} UTC)"
