"""The index of messages is worked in beside everything else; a database from before search gets it with its rows."""

from __future__ import annotations

import itertools
from typing import Any

import asyncpg
import pytest
import trio

from tests.search.conftest import Library
from veza.db import message_search
from veza.db.errors import Unavailable
from veza.db.migrate import load_migrations, migrate_connection
from veza.db.pool import Database, with_connection
from veza.indexing import keep_quick


async def test_what_was_posted_is_found_before_and_after_it_is_worked_in(
    library: Library, db: Database
) -> None:
    owner = await library.person()
    room = await library.room("Fresh", owner)
    message = await library.said(room, owner, "siciliana")
    assert await library.found("messages", "siciliana", owner) == [message]
    assert await library.sql("SELECT gin_clean_pending_list('messages_words')") > 0  # it did wait there
    assert await library.found("messages", "siciliana", owner) == [message]
    later = await library.said(room, owner, "another siciliana")
    await db.write(message_search.work_in)
    assert await library.sql("SELECT gin_clean_pending_list('messages_words')") == 0
    assert await library.found("messages", "siciliana", owner) == [later, message]


@pytest.mark.parametrize("error", [Unavailable("gone"), asyncpg.InsufficientPrivilegeError("must be owner")])
async def test_it_goes_on_after_the_database_was_away(autojump_clock: Any, error: Exception) -> None:
    """Or will not have it, as from a role that does not own the tables: the server does not end over it."""
    tried: list[float] = []

    class Away:
        async def write(self, unit: Any) -> None:
            assert unit is message_search.work_in
            tried.append(trio.current_time())
            await trio.lowlevel.checkpoint()
            if len(tried) in (2, 3):
                raise error
            if len(tried) == 6:
                scope.cancel()

    with trio.CancelScope() as scope:
        await keep_quick(Away())  # type: ignore[arg-type]
    pauses = [round(b - a) for a, b in itertools.pairwise(tried)]
    assert pauses == [1, 10, 10, 1, 1]


_BEFORE = """
    INSERT INTO users (username, email, password_hash, first_name) VALUES ('old_zoe', 'z@example.org', 'none', 'Zoé');
    INSERT INTO tracks (owner_id, name, title, status, extension, content_type, size, tags)
        VALUES (1, 'old', 'Vieilles guitares', 'ready', 'mp3', 'audio/mpeg', 1, '{électro,live}');
    INSERT INTO listings (owner_id, title, category_id, state, price_cents) VALUES (1, 'Vieux violon', 1, 'good', 1);
    INSERT INTO rooms (kind, name, last_seq) VALUES ('private', 'Anciens', 2);
"""


async def test_a_database_with_rows_is_brought_to_it(empty_database_url: str) -> None:
    async def fill(conn: Any) -> None:
        for statement in _BEFORE.split(";\n"):
            if statement.strip():
                await conn.execute(statement)
        other = await conn.fetchval(
            "INSERT INTO users (username, email, password_hash) VALUES ('other', 'o@e.org', 'none') RETURNING id"
        )
        await conn.execute("INSERT INTO rooms (kind, user_low, user_high) VALUES ('direct', 1, $1)", other)
        room = await conn.fetchval("SELECT id FROM rooms WHERE name = 'Anciens'")
        await conn.execute("INSERT INTO room_members (room_id, user_id) VALUES ($1, 1)", room)
        await conn.execute(
            """INSERT INTO messages (room_id, seq, user_id, nonce, content, created_at)
               VALUES ($1, 1, 1, 'a', 'Répétitions demain', now()), ($1, 2, 1, 'b', NULL, now())""",
            room,
        )

    async def look(conn: Any) -> list[Any]:
        found = []
        for statement in (
            "SELECT count(*) FROM users WHERE words @@ 'zoe'::tsquery AND names @@ 'old:*'::tsquery",
            "SELECT count(*) FROM tracks WHERE words @@ 'guitar & electro & vieilles'::tsquery",
            "SELECT count(*) FROM listings WHERE words @@ 'violon'::tsquery AND names @@ 'vie:*'::tsquery",
            "SELECT count(*) FROM messages WHERE stems(content) @@ websearch_to_tsquery('search_french', 'répétition')",
            "SELECT count(*) FROM vocabulary WHERE word IN ('vieilles', 'violon', 'anciens', 'other')",
        ):
            found.append(await conn.fetchval(statement))
        return found

    migrations = load_migrations()
    before = next(step.version for step in migrations if step.name == "search") - 1
    with trio.fail_after(60):
        await with_connection(empty_database_url, migrate_connection, migrations[:before], None)
        await with_connection(empty_database_url, fill)
        done = await with_connection(empty_database_url, migrate_connection, migrations, None)
        assert done.applied[0] == before + 1
        assert await with_connection(empty_database_url, look) == [1, 1, 1, 1, 4]


@pytest.mark.parametrize("text", ["Ça va à Noël, œuvre", "l'été — naïve café", "GROSS Groß"])
async def test_folding_is_the_same_in_writing_and_in_asking(library: Library, text: str) -> None:
    matches = await library.sql(
        "SELECT plain_words($1) @@ plainto_tsquery('search_plain', upper($1)) AND stems($1) IS NOT NULL", text
    )
    assert matches
