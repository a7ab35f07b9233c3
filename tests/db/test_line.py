"""A database at the other end of a network line: that is slow, goes dead, or is cut."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit, urlunsplit

import pytest
import trio

from veza.db.errors import OutcomeUnknown, Unavailable
from veza.db.pool import Database, open_database

BOUND = (
    60  # seconds: what is given up in time ends long before, also where a machine stands still now and then
)


class Line:
    """A TCP line to the server of the tests, which listens on a socket file or on a port."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._open: set[trio.SocketStream] = set()
        self._flows = trio.Event()
        self._flows.set()
        self.port = 0

    @property
    def url(self) -> str:
        """The database's URL by way of this line. By name, so that the name is looked up too."""
        account = self._parts.netloc.rpartition("@")[0]
        return urlunsplit(self._parts._replace(netloc=f"{account}@localhost:{self.port}", query=""))

    def go_dead(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._flows = trio.Event()

    def revive(self) -> None:
        self._flows.set()

    async def cut(self) -> None:
        """Every connection ends at once."""
        for stream in list(self._open):
            await trio.aclose_forcefully(stream)

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            (listener,) = await nursery.start(partial(trio.serve_tcp, self._relay, 0, host="127.0.0.1"))
            self.port = listener.socket.getsockname()[1]
            task_status.started()

    async def _relay(self, near: trio.SocketStream) -> None:
        far = await self._far()
        self._open |= {near, far}
        try:
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, nursery.cancel_scope)
        finally:
            self._open -= {near, far}

    async def _far(self) -> trio.SocketStream:
        host = parse_qs(self._parts.query).get("host", [self._parts.hostname or "localhost"])[0]
        port = self._parts.port or parse_qs(self._parts.query).get("port", ["5432"])[0]
        if host.startswith("/"):
            return await trio.open_unix_socket(f"{host}/.s.PGSQL.{port}")
        return await trio.open_tcp_stream(host, int(port))

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await self._flows.wait()
                await sink.send_all(data)
        scope.cancel()


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Line]:
    line = Line(database_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(line.serve)
        yield line
        nursery.cancel_scope.cancel()


async def value(conn: Any, sql: str, *args: Any) -> Any:
    return await conn.fetchval(sql, *args)


async def put(conn: Any, number: int) -> None:
    await conn.execute("INSERT INTO marks VALUES ($1)", number)


async def make_table(conn: Any) -> None:
    await conn.execute("CREATE TABLE marks (id bigint PRIMARY KEY)")


async def marks(conn: Any) -> list[int]:
    return [row[0] for row in await conn.fetch("SELECT id FROM marks ORDER BY id")]


async def recovered(db: Database) -> None:
    """Wait until the database answers again."""
    while True:
        with contextlib.suppress(Unavailable):
            await db.ping()
            return
        await trio.sleep(0.01)


async def test_a_database_on_the_network(line: Line) -> None:
    with trio.fail_after(BOUND):
        async with open_database(line.url) as db:
            assert await db.read(value, "SELECT 1") == 1
            await db.write(make_table)
            await db.write_shielded(put, 1)
            assert await db.read(marks) == [1]


async def test_a_line_that_is_cut_heals(line: Line) -> None:
    with trio.fail_after(BOUND):
        async with open_database(line.url, size=4) as db:
            await db.write(make_table)
            for number in range(10):
                await line.cut()
                with contextlib.suppress(Unavailable):
                    await db.write(put, number)
                await recovered(db)
                if number not in await db.read(marks):
                    await db.write(put, number)
            assert await db.read(marks) == list(range(10))


async def test_units_under_way_when_the_line_is_cut_get_typed_errors(line: Line, db: Database) -> None:
    errors: list[type[Exception]] = []
    asleep = "FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND wait_event = 'PgSleep'"

    async def one(far: Database) -> None:
        try:
            await far.write_shielded(value, "SELECT pg_sleep(3600)")
        except Exception as error:
            errors.append(type(error))

    with trio.fail_after(BOUND):
        async with open_database(line.url, size=4, statement_timeout=BOUND) as far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one, far)
                nursery.start_soon(one, far)
                while await db.read(value, f"SELECT count(*) {asleep}") < 2:  # noqa: ASYNC110 - of PostgreSQL
                    await trio.sleep(0.002)
                await line.cut()
            assert errors == [OutcomeUnknown, OutcomeUnknown]
            await recovered(far)
            assert await far.read(value, "SELECT 1") == 1
            await db.read(value, f"SELECT count(pg_terminate_backend(pid)) {asleep}")


def give_up_after(db: Database, seconds: float) -> None:
    """From now on nobody waits longer for a connection, and twice as long for an answer. Opening the pool with so
    little patience would give up at the first pause of the machine, where all is well with the line."""
    db._connections._acquire_timeout = seconds
    db._limit = db._limit_single = 2 * seconds


async def test_a_dead_line_is_given_up_in_time(line: Line) -> None:
    """Neither the server nor the kernel says a word: our own deadlines must do."""
    with trio.fail_after(BOUND):
        async with open_database(line.url, size=3, close_patience=0.1) as db:
            await db.write(make_table)
            line.go_dead()
            give_up_after(db, 0.3)
            with pytest.raises(OutcomeUnknown):
                await db.write_shielded(put, 1)
            with pytest.raises(Unavailable):
                await db.read(marks)
            with pytest.raises(Unavailable):
                await db.write(put, 2)
            give_up_after(db, BOUND)
            line.revive()
            await recovered(db)
            assert set(await db.read(marks)) <= {1, 2}
            async with trio.open_nursery() as nursery:
                for number in range(10, 40):
                    nursery.start_soon(db.write, put, number)
            assert len([number for number in await db.read(marks) if number >= 10]) == 30


async def test_closing_on_a_dead_line_does_not_hang(line: Line) -> None:
    with trio.fail_after(BOUND):
        async with open_database(line.url, close_patience=0.1) as db:
            await db.ping()
            line.go_dead()
