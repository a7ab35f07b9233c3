"""Cuts back what only grows: what lies in the database or on the disk and is of no use to anybody any more.

Runs beside everything else, seldom and in small pieces, so that nobody notices. A database that is away is no matter:
the next round does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from veza import log
from veza.db import mail_tokens, notifications, sessions
from veza.db.errors import DatabaseError
from veza.db.pool import Database

_log = log.get("tidy")

FIRST: Final = 600.0  # seconds after the start: not among everything else
EVERY: Final = 6 * 3600.0


async def tidy(db: Database, first: float = FIRST, every: float = EVERY) -> None:
    """Sessions, refresh tokens and mail tokens that nobody can use, notifications nobody will look at again. Never
    ends; cancel it."""
    await trio.sleep(first)
    await again_and_again("rows", partial(tidy_once, db), every)


async def again_and_again(what: str, once: Callable[[], Awaitable[int]], every: float = EVERY) -> None:
    """Do `once` now and every so many seconds. Never ends; cancel it.

    Args:
        what: goes, as the log has it.
        once: answers how many went; may raise DatabaseError.
    """
    while True:
        try:
            gone = await once()
        except DatabaseError as error:
            _log.warning("not tidied", what=what, reason=type(error).__name__)
        else:
            if gone:
                _log.info("tidied", what=what, gone=gone)
        await trio.sleep(every)


async def tidy_once(db: Database) -> int:
    """Everything that is due now; how many rows went."""
    gone = await db.write(mail_tokens.purge)
    while some := await db.write(sessions.purge):
        gone += some
    while some := await db.write(notifications.purge):
        gone += some
    return gone
