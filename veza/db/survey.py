"""What a database is like before anything is done with it: for those who look after one."""

from __future__ import annotations

import time
from typing import Any, Final

import msgspec

EXTENSIONS: Final = ("pg_trgm",)  # what schema.sql creates


class Survey(msgspec.Struct, frozen=True):
    """`schema` is the newest migration applied, None where there was never any; `round_trip` in seconds."""

    version: str
    version_number: int
    missing_extensions: list[str]
    schema: int | None
    tables: bool
    round_trip: float


async def look(conn: Any) -> Survey:
    """Look, and change nothing."""
    began = time.perf_counter()
    version, number = await conn.fetchrow(
        "SELECT current_setting('server_version'), current_setting('server_version_num')::integer"
    )
    took = time.perf_counter() - began
    missing = await conn.fetch(
        """SELECT wanted FROM unnest($1::text[]) AS wanted
           WHERE NOT EXISTS (SELECT FROM pg_available_extensions e WHERE e.name = wanted)""",
        list(EXTENSIONS),
    )
    schema = None
    if await conn.fetchval("SELECT to_regclass('schema_migrations')") is not None:
        schema = await conn.fetchval("SELECT max(version) FROM schema_migrations")
    tables = await conn.fetchval(
        """SELECT EXISTS (SELECT FROM pg_class
                          WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace)"""
    )
    return Survey(version, number, [row[0] for row in missing], schema, tables, took)
