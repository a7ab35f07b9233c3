"""What the database may answer besides rows: the few typed errors that leave this layer.

Everything asyncpg or the operating system raises is mapped here, once, and only here. An error that is none of these
(a wrong table name, a broken function) is a defect of ours and passes through as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Final

import asyncpg

from veza.errors import Problem


class DatabaseError(Exception):
    """Base of all errors of this layer. Its text is one line for people and holds no data and no password."""


class Unavailable(DatabaseError):
    """The database cannot be asked now, and nothing was stored: try again later (HTTP 503)."""


class OutcomeUnknown(Unavailable):
    """A write was cut in two: it is stored entirely, or not at all, and nobody can say which. Never retried here."""


class QueryTimeout(Unavailable):
    """The statement ran longer than it may; it was stopped, and nothing was stored."""


class DataRefused(DatabaseError):
    """The database refuses these values (SQLSTATE classes 22 and 23); sending them again changes nothing."""

    def __init__(self, sentence: str, *, sqlstate: str = "22000", constraint: str | None = None) -> None:
        super().__init__(sentence)
        self.sqlstate = sqlstate
        self.constraint = constraint


class Conflict(DataRefused):
    """A value that must be unique is taken (SQLSTATE 23505); `constraint` names the index."""


class Stop(DatabaseError, Problem):
    """The database cannot be used as things stand, and only a person can change that: the start ends with this line."""


class DataDirectoryInUse(Stop):
    """Another server works on this data directory."""


class DataDirectoryUnusable(Stop):
    """The data directory cannot be made, written or read."""


class EmbeddedFailed(Stop):
    """The embedded PostgreSQL does not start."""


class DatabaseInUse(Stop):
    """Another server works on this database."""


class SchemaMismatch(Stop):
    """The database's schema is not one this program knows how to bring up to date."""


# Serialization failure and deadlock: PostgreSQL undid one transaction so that others may go on.
RETRYABLE: Final = frozenset({"40001", "40P01"})

# 53 insufficient resources, 57P01..3 shutdown, crash, starting up, 57P05 idle session, 08 connection, 58 system error,
# 25P03 idle in transaction, 28 and 3D000: not let in. All mean: not now.
_UNAVAILABLE_CLASSES: Final = frozenset({"08", "53", "58", "28"})
_UNAVAILABLE_STATES: Final = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "3D000"})
_TIMEOUT_STATES: Final = frozenset({"57014", "55P03", "25P04"})


def translate(error: BaseException) -> DatabaseError | None:
    """The typed error for what asyncpg or the system raised; None where it is none of ours to translate."""
    if isinstance(error, DatabaseError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        return _from_sqlstate(error)
    if isinstance(error, asyncpg.DataError):  # refused by asyncpg's encoder, before anything was sent
        return DataRefused("a value does not fit its column")
    if isinstance(error, TimeoutError):  # before OSError, whose subclass it is
        return QueryTimeout("the database did not answer in time")
    if isinstance(error, OSError):
        return Unavailable(f"the database cannot be reached: {_reason(error)}")
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)) and _is_about_closing(error):
        return Unavailable("the connection to the database was lost")
    return None


def _reason(error: OSError) -> str:
    """The system's words where it has some; what asyncio puts in their place reads `Connect call failed`."""
    if error.errno is not None and error.errno in errno.errorcode:
        return os.strerror(error.errno).lower()
    return error.strerror or str(error)


@contextlib.contextmanager
def ungrouped() -> Iterator[None]:
    """Let the only error of a nursery come out as itself: whoever opens a database knows nothing of our nurseries."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


def is_unsent(error: BaseException) -> bool:
    """Whether the connection was found broken before anything of the statement was sent.

    asyncpg says it in an odd way where the server's farewell is read already, but not yet the end of the stream.
    """
    return isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error)


def is_lost(error: BaseException) -> bool:
    """Whether `error` says that the connection broke, so that the outcome of what was under way is unknown."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] == "08" or state in ("57P01", "57P02", "57P05", "25P03")
    if isinstance(error, (asyncpg.InterfaceError, asyncpg.InternalClientError)):
        return _is_about_closing(error)
    return isinstance(error, OSError)


def _is_about_closing(error: BaseException) -> bool:
    text = str(error)
    return "clos" in text or "connection_lost" in text or "unexpected" in text or is_unsent(error)


def _from_sqlstate(error: asyncpg.PostgresError) -> DatabaseError | None:
    state = error.sqlstate or ""
    if state == "23505":
        return Conflict("a value is taken", sqlstate=state, constraint=error.constraint_name)
    if state[:2] in ("22", "23"):
        return DataRefused("the database refuses a value", sqlstate=state, constraint=error.constraint_name)
    if state in _TIMEOUT_STATES:
        return QueryTimeout("the statement took too long and was stopped")
    if state in RETRYABLE:
        return Unavailable("other transactions stood in the way, again and again")
    if state[:2] == "08" and state != "08001":
        return Unavailable("the connection to the database was lost")
    if state[:2] in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_STATES:
        return Unavailable(f"the database refuses to serve: {error.args[0] if error.args else state}")
    return None
