"""Reads asked together: few queries, everybody's own answer, and a failure or a cancellation harms nobody else."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from veza.db.errors import Unavailable
from veza.db.together import Together


class Slow:
    """A database whose reads last until they are let go."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.go = trio.Event()
        self.broken = False

    async def read(self, unit: Any, keys: Sequence[int]) -> Any:
        self.asked.append(list(keys))
        await self.go.wait()
        if self.broken:
            raise Unavailable("away")
        return await unit(None, keys)


async def squares(_conn: Any, keys: Sequence[int]) -> dict[int, int]:
    return {key: key * key for key in keys if key >= 0}


async def test_those_who_come_during_a_query_share_the_next() -> None:
    db = Slow()
    together: Together[int, int] = Together(db, squares, most=3)  # type: ignore[arg-type]
    got: dict[int, int | None] = {}

    async def ask(key: int) -> None:
        got[key] = await together.read(key)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1)
            await trio.testing.wait_all_tasks_blocked()
            for key in (2, 3, 4, 5, -6):
                nursery.start_soon(ask, key)
            await trio.testing.wait_all_tasks_blocked()
            db.go.set()
    assert got == {1: 1, 2: 4, 3: 9, 4: 16, 5: 25, -6: None}
    assert db.asked[0] == [1]
    assert len(db.asked) == 3 and all(len(keys) <= 3 for keys in db.asked)
    assert sorted(key for keys in db.asked for key in keys) == [-6, 1, 2, 3, 4, 5]


async def test_a_failed_query_is_everybodys_error_and_the_next_one_is_asked_anew() -> None:
    db = Slow()
    together: Together[int, int] = Together(db, squares)  # type: ignore[arg-type]
    db.go.set()
    db.broken = True
    with pytest.raises(Unavailable):
        await together.read(1)
    db.broken = False
    assert await together.read(1) == 1


async def test_who_is_cancelled_in_the_middle_leaves_the_rest_their_answers() -> None:
    db = Slow()
    together: Together[int, int] = Together(db, squares)  # type: ignore[arg-type]
    got: list[int | None] = []

    async def ask(key: int, scope: trio.CancelScope) -> None:
        with scope:
            got.append(await together.read(key))

    first, second = trio.CancelScope(), trio.CancelScope()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, 1, trio.CancelScope())
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, 2, first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(ask, 3, second)
            await trio.testing.wait_all_tasks_blocked()
            first.cancel()
            await trio.testing.wait_all_tasks_blocked()
            db.go.set()
    assert sorted(value for value in got if value is not None) == [1, 9]
