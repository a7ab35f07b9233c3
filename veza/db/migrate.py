"""Bringing a database to the schema of this program: from nothing, or from any older version of it.

An empty database gets `schema.sql` whole; an older one the migrations it lacks, in order, one transaction each. The
table `schema_migrations` remembers what was applied, with checksums: a migration that changed after it was applied, or
one this program does not know, stops the start rather than leave anybody guessing. Nothing is ever migrated downwards.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

import msgspec
import structlog

from veza.db.connections import Connection
from veza.db.errors import SchemaMismatch
from veza.db.pool import with_connection

log = structlog.get_logger("veza.db.migrate")

# Any number will do, as long as all versions use the same one. ("veza", then 1 for migrations.)
MIGRATION_LOCK: Final = 0x76657A61_00000001
MIGRATIONS: Final = Path(__file__).with_name("migrations")
_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    checksum    text NOT NULL,
    applied_at  timestamptz NOT NULL DEFAULT now()
)
"""


class Migration(msgspec.Struct, frozen=True):
    """One step. `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    sql: str
    checksum: str


class Migrated(msgspec.Struct, frozen=True):
    """What was done: `fresh` when the database was empty, and the versions applied now."""

    fresh: bool
    applied: tuple[int, ...]


def schema_path() -> Path:
    """`schema.sql`: at the top of a checkout, beside this file in an installed wheel."""
    for path in (Path(__file__).with_name("schema.sql"), Path(__file__).parents[2] / "schema.sql"):
        if path.is_file():
            return path
    raise SchemaMismatch("schema.sql is missing from this installation of veza: install it again")


def load_migrations(directory: Path = MIGRATIONS) -> tuple[Migration, ...]:
    """The migrations of this program, in order.

    Raises:
        SchemaMismatch: the files are not numbered 1, 2, 3 …
    """
    found = []
    for path in sorted(directory.glob("*.sql")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            raise SchemaMismatch(f"the migration {path.name!r} is not named NNNN_words.sql")
        sql = path.read_text(encoding="utf-8")
        found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql.encode()).hexdigest()))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise SchemaMismatch(
            "the migrations of this installation are not numbered 1, 2, 3 …: install it again"
        )
    return tuple(found)


async def migrate(url: str) -> Migrated:
    """Bring the database at `url` up to date. Any number of processes may do so at once: one works, the others wait.

    Raises:
        SchemaMismatch: the database is not one this program can bring up to date; the text says why.
        Unavailable: it cannot be reached.
    """
    done = await with_connection(url, migrate_connection, load_migrations(), schema_path().read_text("utf-8"))
    if done.applied:
        log.info("database schema is up to date", fresh=done.fresh, applied=list(done.applied))
    return done


async def migrate_connection(
    conn: Connection, migrations: tuple[Migration, ...], schema: str | None
) -> Migrated:
    """The same on a connection. Without `schema` an empty database is built by the migrations alone."""
    await conn.execute("SELECT pg_advisory_lock($1)", MIGRATION_LOCK)
    try:
        applied = await _applied(conn)
        if applied is None:
            if await _has_tables(conn):
                raise SchemaMismatch(
                    "the database holds tables that are not veza's: set DATABASE_URL to an empty database "
                    "(veza import-legacy copies data from an older installation)"
                )
            if schema is not None:
                async with conn.transaction():
                    await conn.execute(schema)
                    await conn.execute(_TABLE)
                    for migration in migrations:
                        await _remember(conn, migration)
                return Migrated(True, tuple(migration.version for migration in migrations))
            applied = {}
        fresh = not applied
        _compare(applied, migrations)
        now = []
        for migration in migrations:
            if migration.version not in applied:
                async with conn.transaction():
                    await conn.execute(migration.sql)
                    await conn.execute(_TABLE)
                    await _remember(conn, migration)
                now.append(migration.version)
        return Migrated(fresh, tuple(now))
    finally:
        if not conn.is_closed():
            await conn.execute("SELECT pg_advisory_unlock($1)", MIGRATION_LOCK)


def _compare(applied: dict[int, tuple[str, str]], migrations: tuple[Migration, ...]) -> None:
    known = {migration.version: migration for migration in migrations}
    for version, (name, checksum) in sorted(applied.items()):
        if version not in known:
            raise SchemaMismatch(
                f"the database is newer than this program: it has migration {version:04}_{name}, which this veza "
                "does not know; use a newer veza, or a backup"
            )
        if known[version].checksum != checksum:
            raise SchemaMismatch(
                f"migration {version:04}_{name} is not the one this database was made with (its checksum differs): "
                "use the veza that made it, or an empty database"
            )


async def _applied(conn: Connection) -> dict[int, tuple[str, str]] | None:
    """Version → name and checksum; None where nothing was ever applied."""
    if await conn.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return None
    rows = await conn.fetch("SELECT version, name, checksum FROM schema_migrations")
    return {version: (name, checksum) for version, name, checksum in rows}


async def _has_tables(conn: Connection) -> bool:
    """Whether the schema we would create ours in holds tables already (those of extensions do not count)."""
    found: bool = await conn.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM pg_class c
            WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
              AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                              AND d.deptype = 'e'))
        """
    )
    return found


async def _remember(conn: Connection, migration: Migration) -> None:
    await conn.execute(
        "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
        migration.version,
        migration.name,
        migration.checksum,
    )
