"""Copying from the older program's database: everything arrives once, in order, whatever shape it was in."""

import asyncio
from typing import Any

import asyncpg
import pytest
import trio

from veza.db import legacy
from veza.db.errors import Unavailable
from veza.db.legacy import Copied, NotLegacy
from veza.db.pool import Database
from veza.security.passwords import Passwords

BCRYPT = "$2b$04$fKVcx4QVnHOiYnVcZMuNheyV3jGjmEpv0u3oOK2N2rQ6CSZSAzeY."  # "correct horse"

SCHEMA = """
CREATE TYPE user_role AS ENUM ('user', 'moderator', 'admin', 'owner');
CREATE TABLE users (id serial PRIMARY KEY, username text, email text, password_hash text, role user_role,
                    first_name text, avatar_url text, is_active boolean, created_at timestamptz);
CREATE TABLE rooms (id serial PRIMARY KEY, name text, is_private boolean, created_at timestamp);
CREATE TABLE messages (id serial PRIMARY KEY, author_id integer, room text, to_user integer, content text,
                       created_at timestamp);
"""

DATA = """
INSERT INTO users VALUES
    (1, 'ada', 'ada@example.org', 'HASH', 'admin', 'Ada', 'https://x/a.png', true, '2020-01-02 03:04:05+00'),
    (2, 'bob', 'bob@example.org', 'HASH', 'user', NULL, NULL, false, NULL),
    (3, 'ADA', 'Ada@Example.org', 'HASH', 'owner', NULL, NULL, NULL, NULL),
    (4, '  ', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO rooms VALUES (1, 'general', false, now()), (2, 'AC/DC', false, '2020-02-02'), (3, '1984', NULL, NULL),
    (4, 'secret', true, NULL), (5, NULL, NULL, NULL);
INSERT INTO messages (author_id, room, to_user, content, created_at) VALUES
    (1, 'general', NULL, 'second', '2020-01-01 10:00:01'),
    (2, 'general', NULL, 'first', '2020-01-01 10:00:00'),
    (2, 'AC/DC', NULL, E'  loud\\x07 \\r\\nlouder ', '2020-01-01 10:00:02'),
    (1, 'forgotten', NULL, 'a room without a row', '2020-01-01 10:00:03'),
    (99, 'general', NULL, 'of somebody who is gone', '2020-01-01 10:00:04'),
    (1, NULL, 2, 'psst', '2020-01-01 10:00:05'),
    (2, NULL, 1, 'yes?', '2020-01-01 10:00:06'),
    (1, NULL, 99, 'to nobody', '2020-01-01 10:00:07'),
    (1, NULL, 1, 'to myself', '2020-01-01 10:00:08'),
    (1, NULL, NULL, 'nowhere', '2020-01-01 10:00:09'),
    (1, 'general', NULL, '   ', '2020-01-01 10:00:10'),
    (1, 'secret', NULL, repeat('long ', 2000), '2020-01-01 10:00:11');
"""


def execute_outside(url: str, *statements: str) -> int:
    """Work on the older database as its own program would: apart from ours. Returns how many messages it holds."""

    async def work() -> int:
        conn: Any = await asyncpg.connect(url)
        try:
            for statement in statements:
                await conn.execute(statement)
            if await conn.fetchval("SELECT to_regclass('messages')") is None:
                return 0
            return int(await conn.fetchval("SELECT count(*) FROM messages"))
        finally:
            await conn.close()

    return asyncio.run(work())


async def execute(url: str, *statements: str) -> int:
    return await trio.to_thread.run_sync(execute_outside, url, *statements)


@pytest.fixture
def older(empty_database_url: str) -> str:
    execute_outside(empty_database_url, SCHEMA, DATA.replace("HASH", BCRYPT))
    return empty_database_url


async def fetch(db: Database, query: str, *args: Any) -> list[tuple[Any, ...]]:
    async def unit(conn: Any) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await conn.fetch(query, *args)]

    return await db.read(unit)


async def copied(db: Database, url: str) -> Copied:
    heard: list[Copied] = []
    done = await db.exclusive(legacy.copy, url, heard.append)
    assert heard
    return done


async def said_in(db: Database, room: str) -> list[tuple[Any, ...]]:
    return await fetch(
        db,
        """SELECT m.seq, u.username, m.content FROM messages m JOIN rooms r ON r.id = m.room_id
           LEFT JOIN users u ON u.id = m.user_id WHERE r.name = $1 ORDER BY m.seq""",
        room,
    )


async def test_people_come_with_their_passwords(db: Database, older: str) -> None:
    assert (await copied(db, older)).users == 4
    people = await fetch(
        db, "SELECT username, email, role, is_active, first_name, avatar FROM users ORDER BY id"
    )
    assert people == [
        ("ada", "ada@example.org", "admin", True, "Ada", "https://x/a.png"),
        ("bob", "bob@example.org", "user", False, None, None),
        (
            "ADA_2",
            "user3@legacy.invalid",
            "user",
            True,
            None,
            None,
        ),  # one name and one address are one person's
        ("user4", "user4@legacy.invalid", "user", True, None, None),
    ]
    ((stored, created),) = await fetch(
        db, "SELECT password_hash, created_at::text FROM users WHERE username = 'ada'"
    )
    assert created.startswith("2020-01-02 03:04:05")
    verdict = await Passwords(64, 1).verify("correct horse", stored)
    assert verdict.outdated == verdict.right


async def test_rooms_get_names_that_rooms_may_have(db: Database, older: str) -> None:
    done = await copied(db, older)
    rooms = await fetch(db, "SELECT name, kind FROM rooms WHERE kind <> 'direct' ORDER BY name")
    assert rooms == [
        ("AC-DC", "public"),
        ("forgotten", "public"),
        ("general", "public"),  # ours, not a second one
        ("room 1984", "public"),
        ("secret", "private"),
    ]
    assert done.rooms == 4
    assert done.left["rooms without a name"] == 1


async def test_messages_come_in_the_order_they_were_said(db: Database, older: str) -> None:
    done = await copied(db, older)
    assert await said_in(db, "general") == [
        (1, "bob", "first"),
        (2, "ada", "second"),
        (3, None, "of somebody who is gone"),
    ]
    assert await said_in(db, "AC-DC") == [(1, "bob", "loud \nlouder")]
    long = await said_in(db, "secret")
    assert [seq for seq, *_ in long] == [1, 2, 3]
    assert " ".join(content for *_, content in long) == ("long " * 2000).strip()
    assert done.messages == 10
    assert done.left == {
        "rooms without a name": 1,
        "private messages of somebody who is gone": 1,
        "private messages to oneself": 1,
        "messages of no room": 1,
        "messages without text": 1,
    }


async def test_private_messages_become_one_conversation(db: Database, older: str) -> None:
    await copied(db, older)
    letters = await fetch(
        db,
        """SELECT m.seq, u.username, m.content, r.member_count, r.last_seq FROM messages m
           JOIN rooms r ON r.id = m.room_id JOIN users u ON u.id = m.user_id WHERE r.kind = 'direct' ORDER BY m.seq""",
    )
    assert letters == [(1, "ada", "psst", 2, 2), (2, "bob", "yes?", 2, 2)]


async def test_whoever_spoke_belongs_there_and_has_read_it(db: Database, older: str) -> None:
    await copied(db, older)
    members = await fetch(
        db,
        """SELECT r.name, u.username, m.last_read_seq, r.member_count FROM room_members m
           JOIN rooms r ON r.id = m.room_id JOIN users u ON u.id = m.user_id
           WHERE r.kind <> 'direct' ORDER BY 1, 2""",
    )
    assert members == [
        ("AC-DC", "bob", 1, 1),
        ("forgotten", "ada", 1, 1),
        ("general", "ada", 3, 2),
        ("general", "bob", 3, 2),
        ("secret", "ada", 3, 1),
    ]


async def test_copying_again_brings_only_what_is_new(db: Database, older: str) -> None:
    await copied(db, older)
    again = await copied(db, older)
    assert (again.users, again.rooms, again.messages, again.known) == (0, 0, 0, 10)
    await execute(
        older,
        "INSERT INTO users (id, username, email) VALUES (7, 'eve', 'eve@example.org')",
        "INSERT INTO messages (author_id, room, content, created_at) VALUES (7, 'general', 'new', now())",
    )
    later = await copied(db, older)
    assert (later.users, later.rooms, later.messages, later.known) == (1, 0, 1, 10)
    assert (await said_in(db, "general"))[-1] == (4, "eve", "new")


async def test_who_is_here_already_is_not_made_again(db: Database, older: str) -> None:
    async def unit(conn: Any) -> None:
        await conn.execute(
            "INSERT INTO users (username, email, password_hash) VALUES ('lovelace', 'ADA@example.org', 'x')"
        )

    await db.write(unit)
    assert (await copied(db, older)).users == 3
    assert (await said_in(db, "general"))[1] == (2, "lovelace", "second")
    ((stored,),) = await fetch(db, "SELECT password_hash FROM users WHERE username = 'lovelace'")
    assert stored == "x"


async def test_the_older_database_is_only_read(db: Database, older: str) -> None:
    await copied(db, older)
    assert await execute(older) == 12


async def test_columns_of_later_versions(db: Database, empty_database_url: str) -> None:
    await execute(
        empty_database_url,
        "CREATE TABLE users (id serial, username text, email text, password_hash text)",
        "CREATE TABLE rooms (id serial, name text, is_public boolean, owner_id integer)",
        """CREATE TABLE messages (id serial, from_user integer, recipient_id integer, room_id integer, content text,
                                  message_type text, created_at timestamptz, deleted_at timestamptz)""",
        "INSERT INTO users VALUES (1, 'ada', 'a@x.org', 'h'), (2, 'bob', 'b@x.org', 'h')",
        "INSERT INTO rooms VALUES (5, 'studio', false, 2)",
        """INSERT INTO messages (from_user, recipient_id, room_id, content, message_type, created_at, deleted_at) VALUES
           (1, NULL, 5, 'take one', 'system', now(), NULL), (1, NULL, 5, 'gone', 'text', now(), now()),
           (1, 2, NULL, 'psst', 'TEXT!', now(), NULL)""",
    )
    done = await copied(db, empty_database_url)
    assert (done.users, done.rooms, done.messages) == (2, 1, 2)
    assert await said_in(db, "studio") == [(1, "ada", "take one")]
    assert await fetch(
        db,
        "SELECT m.role, r.kind FROM room_members m JOIN rooms r ON r.id = m.room_id WHERE r.name = 'studio' ORDER BY 1",
    ) == [("member", "private"), ("owner", "private")]
    assert await fetch(db, "SELECT message_type FROM messages ORDER BY id") == [("system",), ("text",)]


async def test_something_else_is_told_for_what_it_is(db: Database, empty_database_url: str) -> None:
    with pytest.raises(NotLegacy, match="no table users"):
        await db.exclusive(legacy.copy, empty_database_url, lambda _: None)
    await execute(empty_database_url, "CREATE TABLE users (id integer, username text)")
    with pytest.raises(NotLegacy, match="no column password_hash in its table users"):
        await db.exclusive(legacy.copy, empty_database_url, lambda _: None)
    with pytest.raises(Unavailable):
        await db.exclusive(legacy.copy, "postgresql://nobody@127.0.0.1:1/none", lambda _: None)
