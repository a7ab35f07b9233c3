"""What is stored, what is on its way, and a hand on the tap between the two: for tests of bad days."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.chat.client import PATIENCE, Client
from tests.chat.conftest import House
from veza.actors.commands import Settle
from veza.actors.ledger import Balance
from veza.db.ledger import Post

Way = Callable[..., Awaitable[Any]]


class Tap:
    """Stands before the ledger's commits: each waits until the tap is open. Remembers what each was given."""

    def __init__(self, house: House, monkeypatch: Any) -> None:
        self.batches: list[list[Post]] = []
        self.opened = trio.Event()
        self._write: Way = house.db.write_shielded
        monkeypatch.setattr(house.db, "write_shielded", self._commit)

    async def _commit(self, unit: Any, posts: list[Post]) -> Any:
        self.batches.append(posts)
        await self.opened.wait()
        return await self._write(unit, posts)

    def open(self) -> None:
        self.opened.set()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces; the test's own bound ends it."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.005)


async def with_the_ledger(house: House, room: int, *clients: Client) -> None:
    """Everything these clients have said so far has been checked, and taken or refused by the ledger."""
    for client in clients:
        await client.pong()
    await house.app.core.rooms.ask(room, Settle(), timeout=PATIENCE)
    await house.app.core.ledger.ask(Balance(), timeout=PATIENCE)


async def stored(house: House, room: int) -> list[tuple[int, str]]:
    """A room's messages as the database has them; fails where the numbers have a gap."""
    rows = await house.sql("SELECT seq, content FROM messages WHERE room_id = $1 ORDER BY seq", room)
    (last,) = await house.sql("SELECT last_seq FROM rooms WHERE id = $1", room)
    assert [row[0] for row in rows] == list(range(1, last[0] + 1))
    return [(row[0], row[1]) for row in rows]


def heard(client: Client, room: int) -> list[tuple[int, str]]:
    """A room's messages as a client was told of them, in the order it was."""
    return [(frame["seq"], frame["content"]) for frame in client.seen("room_message", room_id=room)]
