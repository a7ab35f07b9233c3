"""A process that runs the embedded PostgreSQL until it is killed; started by the tests beside it.

Arguments: the data directory, and what to do: `hold` (say the server's pid, wait), `write` (insert numbers, saying each
that is stored), `lifeline` (as `hold`, tied by a pipe instead of by the kernel), `server` (as `hold`, as `serve` does).
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import trio

from veza.db.embedded import EmbeddedPostgres, run_embedded
from veza.db.lock import hold_data_directory
from veza.db.pool import open_database


async def insert(conn: Any, number: int) -> None:
    await conn.execute("INSERT INTO stored VALUES ($1)", number)


async def table(conn: Any) -> None:
    await conn.execute("CREATE TABLE IF NOT EXISTS stored (number bigint PRIMARY KEY)")


async def main(data: Path, what: str) -> None:
    if what == "lifeline":
        EmbeddedPostgres.lifeline = True
    with contextlib.ExitStack() as stack:
        if what == "server":
            stack.enter_context(hold_data_directory(data))
        async with run_embedded(data) as server:
            print(server.pid, flush=True)
            if what != "write":
                await trio.sleep_forever()
            async with open_database(server.url) as db:
                await db.write(table)
                async with trio.open_nursery() as nursery:
                    for start in range(4):
                        nursery.start_soon(write, db, start)


async def write(db: Any, start: int) -> None:
    for number in range(start, 1_000_000, 4):
        await db.write_shielded(insert, number)
        print(number, flush=True)


trio.run(main, Path(sys.argv[1]), sys.argv[2])
