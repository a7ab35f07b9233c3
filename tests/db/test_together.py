"""Reads asked together: few queries, nothing older than the call, and nobody harmed by another's end."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from veza.db.errors import Unavailable
from veza.db.pool import Database
from veza.db.rooms import arrivals
from veza.db.together import Together


class Slow:
    """A database whose queries wait until they are let go."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.answer = trio.Event()
        self.away = False

    async def read(self, unit: Any, keys: Sequence[int]) -> dict[int, str]:
        self.asked.append(list(keys))
        await self.answer.wait()
        if self.away:
            raise Unavailable("away")
        return {key: f"value {key}" for key in keys if key >= 0}


async def nothing(conn: Any, keys: Sequence[int]) -> dict[int, str]:
    return {}


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def together(slow: Slow) -> Together[int, str]:
    return Together(slow, nothing, most=10)  # type: ignore[arg-type]


async def test_those_who_come_during_a_query_share_the_next(slow: Slow, together: Together[int, str]) -> None:
    found: dict[int, str | None] = {}

    async def ask(key: int) -> None:
        found[key] = await together.read(key)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1)
            await trio.testing.wait_all_tasks_blocked()
            for key in (-5, *range(2, 14)):
                nursery.start_soon(ask, key)
            await trio.testing.wait_all_tasks_blocked()
            assert slow.asked == [[1]]
            slow.answer.set()
    assert [len(keys) for keys in slow.asked] == [1, 10, 3]
    assert found.pop(-5) is None
    assert found == {key: f"value {key}" for key in range(1, 14)}


async def test_a_failed_query_fails_for_all_of_it_and_the_next_may_succeed(
    slow: Slow, together: Together[int, str]
) -> None:
    refused = []

    async def ask(key: int) -> None:
        try:
            await together.read(key)
        except Unavailable:
            refused.append(key)

    slow.away = True
    slow.answer.set()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for key in range(5):
                nursery.start_soon(ask, key)
        assert sorted(refused) == [0, 1, 2, 3, 4]
        slow.away = False
        assert await together.read(7) == "value 7"


async def test_whoever_asks_for_all_may_be_cancelled(slow: Slow, together: Together[int, str]) -> None:
    found: list[str | None] = []
    scope = trio.CancelScope()

    async def ask(key: int) -> None:
        found.append(await together.read(key))

    async def impatient() -> None:
        with scope:
            await ask(2)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(impatient)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, 3)
            await trio.testing.wait_all_tasks_blocked()
            first, slow.answer = slow.answer, trio.Event()
            first.set()
            await trio.testing.wait_all_tasks_blocked()
            assert slow.asked == [[1], [2, 3]]
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            assert slow.asked == [[1], [2, 3], [2, 3]]
            slow.answer.set()
    assert found == ["value 1", "value 3"]


async def test_arrivals_of_many_are_as_those_of_each(db: Database) -> None:
    with trio.fail_after(60):
        people = await db.write(_furnish)
        together = await db.read(arrivals, [*people, 0])
        assert sorted(together) == people
        for person in people:
            assert await db.read(arrivals, [person]) == {person: together[person]}
        first = together[people[0]]
        assert (first.presence, first.presence_text) == ("away", "back soon")
        # the latest first, the one where nothing was said last
        assert [c.with_user for c in first.conversations] == [people[2], people[1], people[3]]
        assert [c.last_seq for c in first.conversations] == [9, 4, 0]
        assert [c.last_read_seq for c in first.conversations] == [2, 2, 2]
        assert together[people[4]].conversations == []


async def _furnish(conn: Any) -> list[int]:
    rows = await conn.fetch(
        "INSERT INTO users (username, email, password_hash, presence, presence_text)"
        " SELECT 'p' || i, 'p' || i || '@veza.test', '!', CASE i WHEN 1 THEN 'away' ELSE 'online' END,"
        "        CASE i WHEN 1 THEN 'back soon' END FROM generate_series(1, 5) AS i RETURNING id"
    )
    people = sorted(row[0] for row in rows)
    for other, seq, said in ((1, 4, "2024-01-01"), (2, 9, "2024-01-02"), (3, 0, None)):
        room = await conn.fetchval(
            "INSERT INTO rooms (kind, user_low, user_high, last_seq, last_message_at, member_count)"
            " VALUES ('direct', $1, $2, $3, $4::text::timestamptz, 2) RETURNING id",
            people[0],
            people[other],
            seq,
            said,
        )
        await conn.execute(
            "INSERT INTO room_members (room_id, user_id, last_read_seq) VALUES ($1, $2, 2), ($1, $3, 0)",
            room,
            people[0],
            people[other],
        )
    return people
