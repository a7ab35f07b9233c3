"""Migrations: from nothing or from any older version to exactly `schema.sql`; never a guess."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import trio

from veza.db.errors import DatabaseInUse, SchemaMismatch
from veza.db.lock import SERVER_LOCK, hold_database
from veza.db.migrate import Migration, load_migrations, migrate, migrate_connection, schema_path
from veza.db.pool import open_database, with_connection

ROOT = Path(__file__).parents[2]
BOUND = 60  # seconds

# Everything that makes a schema, in words that do not depend on the order in which it was made.
CATALOG = {
    "columns": """
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
               pg_get_expr(d.adbin, d.adrelid), a.attcollation::regcollation::text, a.attstorage, a.attcompression
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
          AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c')""",
    "relations": """
        SELECT relname, relkind, relpersistence, reloptions, relrowsecurity, pg_get_userbyid(relowner),
               CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(oid) END
        FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'""",
    "constraints": """
        SELECT conrelid::regclass::text, pg_get_constraintdef(oid), convalidated, condeferrable
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
    "indexes": """
        SELECT pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisprimary, i.indisclustered, c.reloptions
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = 'public'::regnamespace""",
    "functions": """
        SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace
          AND p.prokind IN ('f', 'p')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')""",
    "triggers": "SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal",
    "rules": "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_class > 16384",
    "types": """
        SELECT t.typname, t.typtype, (SELECT array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e
                                      WHERE e.enumtypid = t.oid)
        FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace AND t.typtype IN ('e', 'd', 'r')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')""",
    "statistics": "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext",
    "text search": """
        SELECT c.cfgname, m.maptokentype, m.mapseqno, d.dictname
        FROM pg_ts_config c JOIN pg_ts_config_map m ON m.mapcfg = c.oid JOIN pg_ts_dict d ON d.oid = m.mapdict
        WHERE c.cfgnamespace = 'public'::regnamespace""",
    "extensions": "SELECT extname, extversion FROM pg_extension",
    "comments": "SELECT objoid::regclass::text, objsubid, description FROM pg_description WHERE objoid > 16384"
    " AND classoid = 'pg_class'::regclass",
    "rooms": "SELECT id, kind, name, description, last_seq FROM rooms",
    "migrations": "SELECT version, name, checksum FROM schema_migrations",
}


LOCKS = """
    FROM pg_locks WHERE locktype = 'advisory'
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


async def catalog(conn: Any) -> dict[str, list[str]]:
    return {what: sorted(repr(tuple(row)) for row in await conn.fetch(sql)) for what, sql in CATALOG.items()}


async def run(conn: Any, sql: str, *args: Any) -> None:
    await conn.execute(sql, *args)


async def value(conn: Any, sql: str, *args: Any) -> Any:
    return await conn.fetchval(sql, *args)


def step(version: int, sql: str, name: str = "step") -> Migration:
    return Migration(version, name, sql, hashlib.sha256(sql.encode()).hexdigest())


async def test_migrating_an_empty_database_equals_schema_sql(
    database_url: str, empty_database_url: str
) -> None:
    """Should this fail after a change of schema.sql: write the next migration (before the first release, copy it)."""
    with trio.fail_after(BOUND):
        done = await with_connection(empty_database_url, migrate_connection, load_migrations(), None)
        assert done.fresh
        assert done.applied == tuple(range(1, len(load_migrations()) + 1))
        migrated = await with_connection(empty_database_url, catalog)
        whole = await with_connection(database_url, catalog)
    for what in CATALOG:
        assert migrated[what] == whole[what], what
    assert len(whole["columns"]) > 50  # it did look


async def test_a_second_time_nothing_happens(empty_database_url: str) -> None:
    with trio.fail_after(BOUND):
        assert (await migrate(empty_database_url)).applied
        again = await migrate(empty_database_url)
        assert (again.fresh, again.applied) == (False, ())


async def test_several_at_once_do_it_once(empty_database_url: str) -> None:
    fresh: list[bool] = []

    async def one() -> None:
        done = await migrate(empty_database_url)
        fresh.append(done.fresh)

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(one)
    assert sorted(fresh) == [False] * 5 + [True]


async def test_an_older_database_gets_what_it_lacks_in_order(empty_database_url: str) -> None:
    first = step(1, "CREATE TABLE a (id int)")
    second = step(2, "ALTER TABLE a ADD COLUMN b int; INSERT INTO a VALUES (1, 2)")
    third = step(3, "UPDATE a SET b = b * 10")
    with trio.fail_after(BOUND):
        await with_connection(empty_database_url, migrate_connection, (first,), None)
        done = await with_connection(
            empty_database_url, migrate_connection, (first, second, third), "no schema now"
        )
        assert (done.fresh, done.applied) == (False, (2, 3))
        assert await with_connection(empty_database_url, value, "SELECT b FROM a") == 20


async def test_a_migration_that_fails_leaves_no_trace(empty_database_url: str) -> None:
    first = step(1, "CREATE TABLE a (id int)")
    broken = step(2, "CREATE TABLE b (id int); SELECT 1 / 0")
    with trio.fail_after(BOUND):
        with pytest.raises(Exception, match="refuses a value"):
            await with_connection(empty_database_url, migrate_connection, (first, broken), None)
        assert await with_connection(empty_database_url, value, "SELECT to_regclass('b')") is None
        assert await with_connection(empty_database_url, value, "SELECT count(*) FROM schema_migrations") == 1
        mended = step(2, "CREATE TABLE b (id int)")
        done = await with_connection(empty_database_url, migrate_connection, (first, mended), None)
        assert done.applied == (2,)


async def test_a_changed_an_unknown_and_a_strange_database_are_told(empty_database_url: str) -> None:
    first = step(1, "CREATE TABLE a (id int)", "initial")
    with trio.fail_after(BOUND):
        await with_connection(empty_database_url, migrate_connection, (first,), None)
        changed = step(1, "CREATE TABLE a (id bigint)", "initial")
        with pytest.raises(SchemaMismatch, match=r"0001_initial.*checksum") as refused:
            await with_connection(empty_database_url, migrate_connection, (changed,), None)
        assert "\n" not in str(refused.value)
        with pytest.raises(SchemaMismatch, match="newer than this program"):
            await with_connection(empty_database_url, migrate_connection, (), None)
        await with_connection(empty_database_url, run, "DROP TABLE schema_migrations")
        with pytest.raises(SchemaMismatch, match="not veza's"):
            await migrate(empty_database_url)
        # Nothing was touched, and nobody keeps the lock.
        assert await with_connection(empty_database_url, value, f"SELECT count(*) {LOCKS}") == 0


def test_the_migrations_of_this_program_are_in_order(tmp_path: Path) -> None:
    assert [migration.version for migration in load_migrations()] == list(
        range(1, len(load_migrations()) + 1)
    )
    (tmp_path / "0002_late.sql").touch()
    with pytest.raises(SchemaMismatch, match="numbered"):
        load_migrations(tmp_path)
    (tmp_path / "later.sql").touch()
    with pytest.raises(SchemaMismatch, match=r"later\.sql"):
        load_migrations(tmp_path)


def test_an_installed_wheel_has_the_schema(tmp_path: Path) -> None:
    assert schema_path() == ROOT / "schema.sql"
    built = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(tmp_path),
            str(ROOT),
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if built.returncode != 0 and "hatchling" in built.stderr:
        pytest.skip("hatchling is not installed here")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("veza/db/schema.sql") == (ROOT / "schema.sql").read_bytes()
    for path in (ROOT / "veza/db").rglob("*"):
        if path.suffix in (".py", ".sql"):
            assert str(path.relative_to(ROOT)) in names


async def test_one_server_a_database(database_url: str) -> None:
    with trio.fail_after(BOUND):
        async with open_database(database_url) as one, open_database(database_url) as other:
            async with hold_database(one):
                with pytest.raises(DatabaseInUse, match="another server works on this database") as refused:
                    async with hold_database(other, patience=0.1):
                        pass
                assert "\n" not in str(refused.value)
            async with hold_database(other, patience=BOUND):  # waits for the one that just ended
                pass


async def test_the_lock_is_taken_again_when_the_database_forgot_it(database_url: str) -> None:
    holder = f"SELECT pid {LOCKS} AND granted"
    with trio.fail_after(BOUND):
        async with open_database(database_url) as db, hold_database(db, patience=BOUND):
            first = await db.read(value, holder)
            await db.read(value, "SELECT pg_terminate_backend($1)", first)
            while await db.read(value, holder) in (None, first):  # noqa: ASYNC110 - told by PostgreSQL
                await trio.sleep(0.005)


async def test_whoever_lost_the_database_to_another_stops(database_url: str) -> None:
    async def steal(conn: Any) -> None:
        await conn.execute("SELECT pg_advisory_lock($1)", SERVER_LOCK)
        await conn.execute("SELECT pg_sleep(3600)")

    with trio.fail_after(BOUND):
        async with open_database(database_url) as other, trio.open_nursery() as nursery:
            with pytest.raises(DatabaseInUse):
                async with open_database(database_url) as db, hold_database(db, patience=0.1):
                    nursery.start_soon(other.exclusive, steal)
                    waiting = f"SELECT count(*) {LOCKS} AND NOT granted"
                    while not await db.read(value, waiting):  # noqa: ASYNC110 - told by PostgreSQL
                        await trio.sleep(0.005)
                    await db.read(value, f"SELECT pg_terminate_backend(pid) {LOCKS} AND granted")
                    await trio.sleep_forever()
            nursery.cancel_scope.cancel()
