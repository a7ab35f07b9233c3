"""The ledger's SQL: what a commit costs must not depend on how much was said before."""

from typing import Any
from uuid import uuid4

import trio

from veza.db.ledger import Post, append
from veza.db.pool import Database

PEOPLE, POSTS, AT_ONCE = 2, 600, 20


async def test_a_post_reads_no_older_messages_although_the_plan_was_made_on_an_empty_table(
    db: Database,
) -> None:
    with trio.fail_after(60):
        read = await db.exclusive(_talk_and_look)
    # Looking a new nonce up finds nothing; only the first few plans, made for a handful of rows, may scan them. A plan
    # on another index, or none, reads everything of the person or room for each post: 90,000 rows here, or more.
    assert read < POSTS


async def _talk_and_look(conn: Any) -> int:
    users = [
        await conn.fetchval(
            "INSERT INTO users (username, email, password_hash) VALUES ($1, $1 || '@veza.test', '!') RETURNING id",
            f"talker{i}",
        )
        for i in range(PEOPLE)
    ]
    room = await conn.fetchval("INSERT INTO rooms (kind, name) VALUES ('public', 'much talk') RETURNING id")
    for _ in range(POSTS // AT_ONCE):
        posts = [Post(room, users[i % PEOPLE], uuid4().hex, "again") for i in range(AT_ONCE)]
        assert all(receipt.fresh for receipt in await append(conn, posts))
    await conn.execute("SELECT pg_stat_force_next_flush()")
    read: int = await conn.fetchval(
        """
        SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'messages')::bigint
             + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'messages')
        """
    )
    return read
