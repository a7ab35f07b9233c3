"""The queue of media: what is said of it when there is nothing in it."""

from __future__ import annotations

from veza.db import media_jobs
from veza.db.pool import Database


async def test_of_an_empty_queue_nobody_says_that_something_is_due(db: Database) -> None:
    backlog = await db.read(media_jobs.backlog)
    assert (backlog.waiting, backlog.due_in) == (0, None)
