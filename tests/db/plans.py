"""Tables filled once for a file of tests, and what PostgreSQL does with queries on them."""

from __future__ import annotations

import json
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


class Explaining:
    """A connection that has every query explained, and runs it then."""

    how = "FORMAT JSON"

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self.queries = 0
        self.scans: list[str] = []  # tables that were read through
        self.indexes: dict[str, str] = {}  # name → conditions

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        self.queries += 1
        self._walk(json.loads(await self._conn.fetchval(f"EXPLAIN ({self.how}) {query}", *args))[0]["Plan"])

    def _walk(self, node: dict[str, Any]) -> None:
        self.note(node)
        for child in node.get("Plans", ()):
            self._walk(child)

    def note(self, node: dict[str, Any]) -> None:
        """One node of a plan."""
        if node["Node Type"] == "Seq Scan":
            self.scans.append(node["Relation Name"])
        if "Index Name" in node:
            name = node["Index Name"]
            self.indexes[name] = self.indexes.get(name, "") + node.get("Index Cond", "")

    async def fetch(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._conn.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._conn.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._conn.fetchval(query, *args)
