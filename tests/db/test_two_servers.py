"""One server a data directory and one a database: a second one says so in one line and leaves the first alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from veza.app import serve
from veza.config import Settings
from veza.db.errors import DatabaseInUse, DataDirectoryInUse
from veza.db.lock import SERVER_LOCK
from veza.db.pool import with_connection


async def _is_free(conn: Any) -> bool:
    free: bool = await conn.fetchval("SELECT pg_try_advisory_xact_lock($1)", SERVER_LOCK)
    return free


async def test_a_second_server_on_the_same_database_refuses_to_start(
    database_url: str, tmp_path: Path
) -> None:
    def settings(data: str) -> Settings:
        return Settings(port=0, data=tmp_path / data, database_url=database_url).with_secrets()

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(partial(serve, settings("one")))
            with pytest.raises(DatabaseInUse, match="another server works on this database") as refused:
                await serve(settings("two"))
            assert "\n" not in str(refused.value)
            with pytest.raises(DataDirectoryInUse, match="in use by another server"):
                await serve(settings("one"))
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            async with stream:
                await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
            nursery.cancel_scope.cancel()
        # The first one's end leaves everything free, as soon as PostgreSQL has seen it.
        while not await with_connection(database_url, _is_free):  # noqa: ASYNC110 - of PostgreSQL
            await trio.sleep(0.01)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, settings("two")))
            nursery.cancel_scope.cancel()
