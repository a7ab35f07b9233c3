"""Fixtures everybody may use: a real PostgreSQL for the whole run, a fresh database for each test that wants one.

`postgres`      the server: our embedded one in a temporary directory, one per xdist worker; or, where
                VEZA_TEST_DATABASE_URL names one (its role must be allowed to create databases), that one
`database_url`  a new database with the whole schema, dropped after the test
`empty_database_url`  a new database with nothing in it
`db`            an open `veza.db.pool.Database` on `database_url`
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import trio

from veza.db.embedded import EmbeddedPostgres
from veza.db.migrate import load_migrations, migrate_connection, schema_path
from veza.db.pool import Database, open_database


class Cluster:
    """A PostgreSQL server for tests. Used outside of trio only: its methods block."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._runner = asyncio.Runner(loop_factory=asyncio.SelectorEventLoop)  # not trio-asyncio's
        self._admin: Any = self._run(self._connect, url)
        self._names = (f"veza_test_{os.getpid()}_{number}" for number in itertools.count())
        self._template: str | None = None
        self._made: list[str] = []

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
        self._run(self._admin.execute, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._made.remove(name)

    def close(self) -> None:
        for name in list(self._made):
            self._run(self._admin.execute, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        self._run(self._admin.close)
        self._runner.close()

    def _create(self, template: str) -> str:
        name = next(self._names)
        self._run(self._admin.execute, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
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
        finally:
            await conn.close()


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
    server = EmbeddedPostgres(data, settings={"fsync": "off", "shared_buffers": "64MB"})
    try:
        trio.run(server.start)
        cluster = Cluster(server.url)
        yield cluster
        cluster.close()
    finally:
        trio.run(server.stop)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def database_url(postgres: Cluster) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def empty_database_url(postgres: Cluster) -> Iterator[str]:
    url = postgres.create(empty=True)
    yield url
    postgres.drop(url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url) as database:
        yield database
