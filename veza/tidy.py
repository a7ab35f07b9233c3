"""Cuts back what only grows: sessions, refresh tokens and mail tokens that nobody can use any more.

Runs beside everything else, seldom and in small pieces, so that nobody notices. A database that is away is no matter:
the next round does it.
"""

from __future__ import annotations

from typing import Final

import trio

from veza import log
from veza.db import mail_tokens, sessions
from veza.db.errors import DatabaseError
from veza.db.pool import Database

_log = log.get("tidy")

FIRST: Final = 600.0  # seconds after the start: not among everything else
EVERY: Final = 6 * 3600.0


async def tidy(db: Database, first: float = FIRST, every: float = EVERY) -> None:
    """Never ends; cancel it."""
    await trio.sleep(first)
    while True:
        try:
            gone = await tidy_once(db)
        except DatabaseError as error:
            _log.warning("not tidied", reason=type(error).__name__)
        else:
            if gone:
                _log.info("tidied", rows=gone)
        await trio.sleep(every)


async def tidy_once(db: Database) -> int:
    """Everything that is due now; how many rows went."""
    gone = await db.write(mail_tokens.purge)
    while some := await db.write(sessions.purge):
        gone += some
    return gone
