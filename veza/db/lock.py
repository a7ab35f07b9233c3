"""Who works on a data directory: one server at a time.

A lock here is an advisory `flock` on a file that also says whose it is. The kernel releases it when its holder dies,
however that happens, so a lock is never stale; the file stays, and what it says counts only while the lock is held.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from veza.db.errors import DataDirectoryInUse, DataDirectoryUnusable


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
        if self.held or not self.path.exists():
            return False
        free = self.acquire_quietly()
        return not free

    def acquire_quietly(self) -> bool:
        """Whether it could be taken, without taking it for longer than it takes to find out."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


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
