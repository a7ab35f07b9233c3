"""Tables filled once for a file of tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg


@contextmanager
def filled(postgres: Any, statements: str, *, unchecked: bool = False) -> Iterator[str]:
    """The URL of a database in which these statements were run, one by one; it is gone afterwards.

    `unchecked`: without foreign keys, which cost more than the rows.
    """
    url = postgres.create()

    async def fill() -> None:
        conn = await asyncpg.connect(url)
        if unchecked:
            for table, name in await conn.fetch(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype = 'f'"
            ):
                await conn.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for statement in statements.split(";\n"):
            if statement.strip():
                await conn.execute(statement)
        await conn.close()

    postgres._run(fill)
    yield url
    postgres.drop(url)
