"""The ledger's one call: what it promises about order, numbers and nonces, and that its cost does not grow."""

import random
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import trio

from tests.conftest import Cluster
from veza.db.ledger import Post, Receipt, append
from veza.db.pool import Database

PEOPLE, POSTS, AT_ONCE = 2, 600, 20


@pytest.fixture
def database_url(postgres: Cluster) -> Iterator[str]:
    """A new one: what PostgreSQL counted in one that was lent before would be counted here."""
    url = postgres.create()
    yield url
    postgres.drop(url)


async def test_a_post_reads_no_older_messages_although_the_plan_was_made_on_an_empty_table(
    db: Database,
) -> None:
    with trio.fail_after(60):
        read = await db.exclusive(_talk_and_look)
    # Two looks at each message that is answered: is it there, and whose. Any other plan reads a room or a person for
    # each post: 90,000 and more.
    assert read <= POSTS


async def test_repeated_nonces_bad_rooms_and_bad_answers_leave_every_sequence_gapless(db: Database) -> None:
    with trio.fail_after(60):
        await db.exclusive(_talk_wildly)


async def _talk_and_look(conn: Any) -> int:
    users, (room,) = await _setting(conn, 1)
    last = None
    for _ in range(POSTS // AT_ONCE):
        posts = [
            Post(room, users[i % PEOPLE], uuid4().hex, "again", reply_to=last if i % 2 else None)
            for i in range(AT_ONCE)
        ]
        receipts = await append(conn, posts)
        assert all(receipt.fresh for receipt in receipts)
        last = receipts[0].id
    await conn.execute("SELECT pg_stat_force_next_flush()")
    read: int = await conn.fetchval(
        """
        SELECT (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'messages')::bigint
             + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'messages')
        """
    )
    return read


async def _talk_wildly(conn: Any) -> None:
    """Against a model: what was stored under each nonce, and up to where each room counts."""
    chance = random.Random(7)
    users, rooms = await _setting(conn, 3)
    nowhere = max(rooms) + 1000
    stored: dict[tuple[int, int, str], Receipt] = {}
    counted = dict.fromkeys(rooms, 0)
    for _ in range(60):
        posts = [
            Post(
                chance.choice([*rooms, *rooms, nowhere]),
                chance.choice(users),
                # Few enough to meet again, in this call or a later one; sometimes none repeats.
                str(chance.randrange(400)) if chance.random() < 0.5 else uuid4().hex,
                "…",
                reply_to=chance.choice(
                    [None, None, 999_999_999, *(r.id for r in list(stored.values())[-3:])]
                ),
                mentions=chance.choice([None, users]),
            )
            for _ in range(chance.randrange(1, 12))
        ]
        answerable = {receipt.id: room for (room, _, _), receipt in stored.items()}
        receipts = await append(conn, posts)
        assert len(receipts) == len(posts)
        refused: dict[tuple[int, int, str], str] = {}
        for post, receipt in zip(posts, receipts, strict=True):
            key = (post.room_id, post.user_id, post.nonce)
            if key in stored:
                # Known, in this call or before it: the first answer again, whatever else the post says now.
                assert (receipt.id, receipt.seq) == (stored[key].id, stored[key].seq)
            elif key in refused:
                assert (receipt.id, receipt.refusal) == (
                    None,
                    refused[key],
                )  # the first of a call speaks for all
            elif post.room_id == nowhere:
                assert (receipt.id, receipt.refusal) == (None, "room")
                refused[key] = "room"
            elif post.reply_to is not None and answerable.get(post.reply_to) != post.room_id:
                assert (receipt.id, receipt.refusal) == (None, "reply")
                refused[key] = "reply"
            else:
                counted[post.room_id] += 1
                assert receipt.refusal is None and receipt.fresh
                assert receipt.seq == counted[post.room_id]
                stored[key] = receipt
    for room in rooms:
        seqs = await conn.fetch("SELECT seq FROM messages WHERE room_id = $1 ORDER BY id", room)
        assert [row[0] for row in seqs] == list(range(1, counted[room] + 1))
        assert await conn.fetchval("SELECT last_seq FROM rooms WHERE id = $1", room) == counted[room]


async def _setting(conn: Any, rooms: int) -> tuple[list[int], list[int]]:
    users = [
        await conn.fetchval(
            "INSERT INTO users (username, email, password_hash) VALUES ($1, $1 || '@veza.test', '!') RETURNING id",
            f"talker{i}",
        )
        for i in range(PEOPLE)
    ]
    return users, [
        await conn.fetchval(
            "INSERT INTO rooms (kind, name) VALUES ('public', $1) RETURNING id", f"much talk {i}"
        )
        for i in range(rooms)
    ]
