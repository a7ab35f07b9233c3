"""What PostgreSQL means to do with queries."""

from __future__ import annotations

import json
from collections.abc import Container
from typing import Any


class Explaining:
    """A connection that has every query explained, and runs it then. `tables`: only these are noted; None: all."""

    how = "FORMAT JSON"

    def __init__(self, conn: Any, tables: Container[str] | None = None) -> None:
        self._conn, self._tables = conn, tables
        self.queries = 0
        self.scans: list[str] = []  # tables that were read through
        self.indexes: dict[str, str] = {}  # name → conditions

    async def _explain(self, query: str, args: tuple[Any, ...]) -> None:
        self.queries += 1
        self._walk(json.loads(await self._conn.fetchval(f"EXPLAIN ({self.how}) {query}", *args))[0]["Plan"])

    def _walk(self, node: dict[str, Any]) -> None:
        if self._tables is None or node.get("Relation Name") in self._tables:
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
