"""How a command that is not `serve` reaches the database: the configured one, or the data directory's own.

Without `DATABASE_URL` that is the PostgreSQL of the running server, or one started for as long as the command runs.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from veza.config import Settings
from veza.db.embedded import embedded_url
from veza.db.migrate import migrate
from veza.db.pool import Database, open_database

T = TypeVar("T")


@asynccontextmanager
async def reachable(settings: Settings) -> AsyncIterator[str]:
    """The database's URL, while it can be reached. Holds a password: never print it."""
    if settings.database_url is not None:
        yield settings.database_url
    else:
        async with embedded_url(settings.data) as url:
            yield url


def with_database(settings: Settings, work: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Run `work(database, *args)` on the database, brought up to date first."""

    async def main() -> T:
        async with reachable(settings) as url:
            await migrate(url)
            async with open_database(url, size=2, warm=0) as database:
                return await _once(database)

    async def _once(database: Database) -> T:
        return await work(database, *args)

    return trio.run(main)
