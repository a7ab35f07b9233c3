"""Three writers append to the same rooms at once: numbers stay gapless, a nonce is stored once, nobody meets errors."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import Any

import trio

from veza.db.ledger import Post, Receipt, append
from veza.db.pool import Database, open_database

ROOMS, PEOPLE, CALLS = 4, 3, 40
Key = tuple[int, int, str]


async def test_three_writers_with_repeated_nonces(db: Database, database_url: str) -> None:
    with trio.fail_after(60):
        users, rooms = await db.write(_setting)
        told: list[tuple[Key, Receipt]] = []
        calls = [0, 0, 0]
        ahead = trio.Event()  # the writers take turns only in that none is done before each has begun

        async def write(number: int, writer: Database) -> None:
            chance = random.Random(number)
            for call in range(CALLS):
                posts = [
                    Post(
                        chance.choice(rooms),
                        chance.choice(users),
                        # Many meet again: in this call, in a later one, and in those of the others at the same time.
                        f"nonce {chance.randrange(call * 5, call * 5 + 15)}",
                        f"writer {number}",
                    )
                    for _ in range(chance.randrange(1, 20))
                ]
                receipts = await writer.write_shielded(append, posts)
                assert len(receipts) == len(posts)
                for post, receipt in zip(posts, receipts, strict=True):
                    told.append(((post.room_id, post.user_id, post.nonce), receipt))
                calls[number] += 1
                if all(calls):
                    ahead.set()
                if call == 0:
                    await ahead.wait()

        async with AsyncExitStack() as stack:
            writers = [await stack.enter_async_context(open_database(database_url, size=1)) for _ in range(3)]
            async with trio.open_nursery() as nursery:
                for number, writer in enumerate(writers):
                    nursery.start_soon(write, number, writer)
        stored = await db.read(_stored)
        for room in rooms:
            numbers = [seq for (room_id, _, _), (_, seq) in stored.items() if room_id == room]
            assert sorted(numbers) == list(range(1, len(numbers) + 1))
            assert await db.read(_last_seq, room) == len(numbers)
        assert stored.keys() == {key for key, _ in told}
        fresh = [key for key, receipt in told if receipt.fresh]
        assert len(fresh) == len(set(fresh)) == len(stored)
        assert len(told) > len(stored) * 1.2  # nonces were repeated
        for key, receipt in told:
            assert receipt.refusal is None
            assert (receipt.id, receipt.seq) == stored[key]


async def _setting(conn: Any) -> tuple[list[int], list[int]]:
    users = [
        await conn.fetchval(
            "INSERT INTO users (username, email, password_hash) VALUES ($1, $1 || '@veza.test', '!') RETURNING id",
            f"writer{i}",
        )
        for i in range(PEOPLE)
    ]
    rooms = [
        await conn.fetchval("INSERT INTO rooms (kind, name) VALUES ('public', $1) RETURNING id", f"page {i}")
        for i in range(ROOMS)
    ]
    return users, rooms


async def _stored(conn: Any) -> dict[Key, tuple[int, int]]:
    """Fails where a nonce is stored twice."""
    rows = await conn.fetch("SELECT room_id, user_id, nonce, id, seq FROM messages")
    found = {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}
    assert len(found) == len(rows)
    return found


async def _last_seq(conn: Any, room: int) -> int:
    last: int = await conn.fetchval("SELECT last_seq FROM rooms WHERE id = $1", room)
    return last
