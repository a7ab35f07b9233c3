"""Keeps the index of messages quick to write and quick to read.

New messages enter it as a list that somebody has to work in: PostgreSQL has whoever posts do so once the list is long,
and everybody behind him wait for it, up to a second; and every search reads the whole list. So we do it, often, beside
everything else. Nothing depends on it but time.
"""

from __future__ import annotations

from typing import Final

import trio

from veza import log
from veza.db import message_search
from veza.db.pool import Database

_log = log.get("indexing")

EVERY: Final = 1.0  # seconds
_AWAY: Final = 10.0  # while the database is


async def keep_quick(db: Database, every: float = EVERY) -> None:
    """Work in what was posted, again and again. Never ends; cancel it."""
    away = False
    while True:
        try:
            await db.write(message_search.work_in)
            away = False
        except Exception as error:  # also a role that may not, for it does not own the table
            if not away:
                _log.warning("messages are not worked into the index", reason=type(error).__name__)
            away = True
        await trio.sleep(_AWAY if away else every)
