"""The pool: whole units, typed errors, and a pool that is whole again whatever was cancelled."""

from __future__ import annotations

from typing import Any

import trio

from veza.db.pool import Database


async def test_a_unit_runs_and_answers(db: Database) -> None:
    async def add(conn: Any, a: int, b: int) -> int:
        return int(await conn.fetchval("SELECT $1::int + $2::int", a, b))

    with trio.fail_after(10):
        assert await db.read(add, 2, b=3) == 5
        assert await db.write(add, 2, 3) == 5
        assert await db.write_shielded(add, 2, 3) == 5


async def test_each_test_has_a_database_with_the_schema(db: Database) -> None:
    async def rooms(conn: Any) -> list[str]:
        return [row[0] for row in await conn.fetch("SELECT name FROM rooms")]

    with trio.fail_after(10):
        assert await db.read(rooms) == ["general"]
