"""Fixtures everybody may use: a real PostgreSQL for the whole run, a fresh database for each test that wants one.

`postgres`      the server: our embedded one in a temporary directory, one per xdist worker; or, where
                VEZA_TEST_DATABASE_URL names one (its role must be allowed to create databases), that one
`database_url`  a database with the whole schema, as new
`empty_database_url`  a new database with nothing in it
`db`            an open `veza.db.pool.Database` on `database_url`
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest
import trio

from veza.db import connections
from veza.db.embedded import EmbeddedPostgres
from veza.db.migrate import load_migrations, migrate_connection, schema_path
from veza.db.pool import Database, open_database
from veza.http.api.app import LateRule

# No example is wrong for being slow, nor for being made slowly: others may need the machine. The suite tries the same
# examples each time, so that whoever changes something sees what the change did, and not what luck found.
# `make test ARGS="--hypothesis-profile=explore"` goes looking for new ones.
hypothesis.settings.register_profile(
    "same", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile(
    "explore", deadline=None, max_examples=2000, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("same")


def _routes_compiled_once() -> None:
    """The same routes are made for a thousand applications; to compile them was a sixth of the REST tests' time."""
    known: dict[str, tuple[Any, ...]] = {}
    compile_route = LateRule.compile

    def compile_once(self: Any) -> None:
        if self.rule not in known:
            compile_route(self)
            known[self.rule] = self._parts, self._trace, self._converters, set(self.arguments)
            return
        self._parts, self._trace, self._converters, arguments = known[self.rule]
        self.arguments |= arguments
        self._build = self._compile_builder(False).__get__(self, None)
        self._build_unknown = self._compile_builder(True).__get__(self, None)

    LateRule.compile = compile_once  # type: ignore[method-assign]


_routes_compiled_once()

# Seconds, for whatever waits for PostgreSQL here: only what hangs takes that long.
PATIENCE: Final = 30.0


@asynccontextmanager
async def real_time(seconds: float = 2 * PATIENCE) -> AsyncIterator[None]:
    """A guard for what runs on a `MockClock`, by which no time passes where a test hangs."""
    over = threading.Event()

    async def watch() -> None:
        if not await trio.to_thread.run_sync(over.wait, seconds, abandon_on_cancel=True):
            raise trio.TooSlowError

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        try:
            yield
        finally:
            over.set()


# All that makes a database another one but the rows of its tables: what is in its catalog, what the planner was told of
# it. The same in two databases made from one template, whose catalogs are copies.
SHAPE: Final = """
    SELECT concat_ws('/',
        (SELECT md5(string_agg(concat_ws(',', oid, relname, relnamespace, relkind, reltuples, reloptions, relacl,
            relhasrules, relrowsecurity), ';' ORDER BY oid)) FROM pg_class WHERE oid >= 16384),
        (SELECT md5(string_agg(concat_ws(',', attrelid, attname, atttypid, attnotnull, atthasdef, attidentity,
            attisdropped), ';' ORDER BY attrelid, attnum)) FROM pg_attribute WHERE attrelid >= 16384),
        (SELECT md5(string_agg(concat_ws(',', oid, tgenabled), ';' ORDER BY oid)) FROM pg_trigger),
        (SELECT md5(string_agg(concat_ws(',', oid, proname, prosrc, proconfig), ';' ORDER BY oid))
            FROM pg_proc WHERE oid >= 16384),
        (SELECT md5(string_agg(concat_ws(',', oid, convalidated), ';' ORDER BY oid)) FROM pg_constraint),
        (SELECT md5(string_agg(concat_ws(',', indexrelid, indisvalid), ';' ORDER BY indexrelid))
            FROM pg_index WHERE indexrelid >= 16384),
        (SELECT md5(string_agg(concat_ws(',', oid, nspname, nspacl), ';' ORDER BY oid))
            FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'),
        (SELECT md5(string_agg(extname, ';' ORDER BY extname)) FROM pg_extension),
        (SELECT count(*) FROM pg_stats WHERE schemaname = 'public'),
        (SELECT concat_ws(',', datallowconn, datconnlimit, datacl) FROM pg_database WHERE datname = current_database()),
        (SELECT count(*) FROM pg_db_role_setting d JOIN pg_database b ON b.oid = d.setdatabase
            WHERE b.datname = current_database())
    )
"""
OTHERS: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
# Those that point at others first, so that what they point at can go after them.
TABLES: Final = """
    WITH RECURSIVE refers AS (
        SELECT conrelid AS one, confrelid AS other FROM pg_constraint WHERE contype = 'f' AND conrelid <> confrelid
    ), ranked AS (
        SELECT oid, 0 AS rank FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
        UNION
        SELECT other, rank + 1 FROM ranked JOIN refers ON one = oid WHERE rank < 10
    )
    SELECT r.oid::regclass::text, EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = r.oid AND NOT t.tgisinternal)
    FROM ranked r GROUP BY r.oid ORDER BY max(r.rank), 1
"""
SEQUENCES: Final = """
    SELECT format('%I.%I', schemaname, sequencename), coalesce(last_value, start_value), last_value IS NOT NULL
    FROM pg_sequences WHERE schemaname = 'public'
"""


@pytest.hookimpl(optionalhook=True)  # there is no such hook without xdist
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: one more than there are processors, for tests of servers often wait."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


# Run by one worker each: they share what is dear, a browser or tables that were filled. By path, for the marks of
# xdist's own groups do not reach its scheduler under pytest 9.
TOGETHER: Final = (
    "tests/browser/",
    "tests/chat/test_bad_days_server.py",
    "tests/db/test_lists.py",
    "tests/market/test_large_lists.py",
    "tests/search/test_plans.py",
    "tests/search/test_words.py",
    "tests/social/test_feed.py",
    "tests/tracks/test_track_lists.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests one by one to whichever worker is free, but for those that belong together."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPath(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((each for each in TOGETHER if nodeid.startswith(each)), nodeid)

    return ByPath(config, log)


class Cluster:
    """A PostgreSQL server for tests. Used outside of trio only: its methods block."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)  # not trio-asyncio's
        self._admin: Any = self._run(self._connect, url)
        self._names = (f"veza_test_{os.getpid()}_{number}" for number in itertools.count())
        self._template: str | None = None
        self._made: list[str] = []
        self._spare: list[str] = []  # URLs of those that were lent, and are as new
        self._shape = ""
        self._as_new = ""

    def url_of(self, database: str) -> str:
        """The URL of a database on this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def create(self, *, empty: bool = False) -> str:
        """Make a database, with our schema unless `empty`; its URL."""
        if not empty and self._template is None:
            self._template = self._create("template0")
            self._run(self._install, self.url_of(self._template))
        return self.url_of(self._create("template0" if empty else self._template or ""))

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        name = urlsplit(url).path.lstrip("/")
        self._run(self._drop, name)
        self._made.remove(name)

    def lend(self) -> str:
        """A database with our schema, as new: one that was given back, or a new one; its URL."""
        return self._spare.pop() if self._spare else self.create()

    def give_back(self, url: str) -> None:
        """Empty it and lend it again, which is a hundred times cheaper than a new one; a test that touched more than
        rows, or left somebody connected, has spoilt it."""
        if self._run(self._renew, url):
            self._spare.append(url)
        else:
            self.drop(url)

    def close(self) -> None:
        for name in list(self._made):
            self._run(self._drop, name)
        self._run(self._admin.close)
        self._runner.close()

    async def _drop(self, name: str) -> None:
        await self._until_free(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def _until_free(self, statement: str) -> None:
        """Run what PostgreSQL refuses while somebody is in the database: autovacuum, which is not ours to end and ends
        soon; a connection that was closed and is slow in going, for which it waits five seconds itself."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                await self._admin.execute(statement)
                return
            except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectInUseError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    def _create(self, template: str) -> str:
        name = next(self._names)
        self._run(self._until_free, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        self._made.append(name)
        return name

    def _run(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        async def call() -> Any:
            return await fn(*args)

        return self._runner.run(call())

    async def _connect(self, url: str) -> Any:
        return await asyncpg.connect(url)

    async def _install(self, url: str) -> None:
        conn: Any = await asyncpg.connect(url)
        try:
            await migrate_connection(conn, load_migrations(), schema_path().read_text(encoding="utf-8"))
            self._shape = await conn.fetchval(SHAPE)
            self._as_new = await _as_new(conn)
        finally:
            await conn.close()

    async def _renew(self, url: str) -> bool:
        """Whether it is as new now."""
        try:
            conn: Any = await asyncpg.connect(url)
        except (asyncpg.PostgresError, OSError):
            return False
        try:
            for _ in range(50):  # connections that were closed may be a moment in going
                if not await conn.fetchval(OTHERS):
                    break
                await asyncio.sleep(0.01)
            else:
                return False
            if await conn.fetchval(SHAPE) != self._shape:
                return False
            await conn.execute(self._as_new)
        except asyncpg.PostgresError:
            return False
        finally:
            await conn.close()
        return True


async def _as_new(conn: Any) -> str:
    """The statements that make a database what this one is now: nothing but what a new one holds."""
    tables = await conn.fetch(TABLES)
    lines = [f"ALTER TABLE {name} DISABLE TRIGGER USER;" for name, triggers in tables if triggers]
    lines += [f"DELETE FROM {name};" for name, _ in tables]
    for name, _ in reversed(tables):
        held = await conn.fetchval(f"SELECT json_agg(t)::text FROM {name} t")
        if held is not None:
            held = held.replace("'", "''")
            lines.append(
                f"INSERT INTO {name} OVERRIDING SYSTEM VALUE"
                f" SELECT * FROM json_populate_recordset(NULL::{name}, '{held}');"
            )
    lines += [
        f"SELECT setval('{name}', {value}, {called});" for name, value, called in await conn.fetch(SEQUENCES)
    ]
    lines += [f"ALTER TABLE {name} ENABLE TRIGGER USER;" for name, triggers in tables if triggers]
    return "\n".join(lines)  # sent as one, which is one transaction


@contextmanager
def _patient_to_connect() -> Iterator[None]:
    """The first connection of all must not fail because a machine is slow: every test that wants it would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "CONNECT_TIMEOUT", PATIENCE)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    given = os.environ.get("VEZA_TEST_DATABASE_URL")
    if given:
        cluster = Cluster(given)
        yield cluster
        cluster.close()
        return
    data = Path(tempfile.mkdtemp(prefix="veza-tests-"))
    # What is stored here outlives no machine, so it need not be flushed; everything else is as in production.
    server = EmbeddedPostgres(data, settings={"fsync": "off", "shared_buffers": "64MB", "autovacuum": "off"})
    try:
        with _patient_to_connect():
            trio.run(server.start)
        cluster = Cluster(server.url)
        yield cluster
        cluster.close()
    finally:
        trio.run(server.stop)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def database_url(postgres: Cluster) -> Iterator[str]:
    url = postgres.lend()
    yield url
    postgres.give_back(url)


@pytest.fixture
def empty_database_url(postgres: Cluster) -> Iterator[str]:
    url = postgres.create(empty=True)
    yield url
    postgres.drop(url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        opened = open_database(database_url, acquire_timeout=PATIENCE, statement_timeout=PATIENCE)
        with _patient_to_connect():
            database = await stack.enter_async_context(opened)
        yield database
