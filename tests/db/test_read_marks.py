"""Read marks of all rooms are written together, and every room hears whether its own were."""

from typing import Any

import trio
import trio.testing

from veza.actors.marks import ReadMarks
from veza.db.errors import Unavailable
from veza.db.pool import Database

ROOMS = 40


class Counted:
    """A database whose writes are counted, and fail while `away`."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.writes = 0
        self.away = False

    async def write_shielded(self, unit: Any, *args: Any) -> Any:
        self.writes += 1
        if self.away:
            await trio.lowlevel.checkpoint()
            raise Unavailable("away")
        return await self._db.write_shielded(unit, *args)


async def test_what_all_rooms_save_at_one_time_takes_few_statements(db: Database) -> None:
    with trio.fail_after(60):
        user, rooms = await db.write(_furnish)
        counted = Counted(db)
        marks = ReadMarks(counted, 1.0)  # type: ignore[arg-type]
        async with trio.open_nursery() as nursery:
            for seq, room in enumerate(rooms, 1):
                nursery.start_soon(marks.save, room, {user: seq})
        assert counted.writes <= 3
        await marks.save(rooms[-1], {user: 1})
        stored = await db.read(_stored, user)
    assert stored == {room: seq for seq, room in enumerate(rooms, 1)}  # and the last one did not move back


async def test_every_room_hears_of_a_failure_and_may_try_again(db: Database) -> None:
    with trio.fail_after(60):
        user, rooms = await db.write(_furnish)
        counted = Counted(db)
        marks = ReadMarks(counted, 1.0)  # type: ignore[arg-type]
        counted.away = True
        refused: list[int] = []

        async def save(room: int) -> None:
            try:
                await marks.save(room, {user: 7})
            except Unavailable:
                refused.append(room)

        async with trio.open_nursery() as nursery:
            for room in rooms:
                nursery.start_soon(save, room)
        assert sorted(refused) == rooms
        counted.away = False
        await marks.save(rooms[0], {user: 7})
        assert (await db.read(_stored, user))[rooms[0]] == 7


async def test_whoever_is_cancelled_keeps_nobody_from_writing(db: Database) -> None:
    with trio.fail_after(60):
        user, rooms = await db.write(_furnish)
        marks = ReadMarks(db, 1.0)
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def impatient() -> None:
                with scope:
                    await marks.save(rooms[0], {user: 1})

            nursery.start_soon(impatient)
            nursery.start_soon(marks.save, rooms[1], {user: 2})
            await trio.testing.wait_all_tasks_blocked(0)
            scope.cancel()
        assert (await db.read(_stored, user))[rooms[1]] == 2


async def _furnish(conn: Any) -> tuple[int, list[int]]:
    user = await conn.fetchval(
        "INSERT INTO users (username, email, password_hash) VALUES ('reader', 'reader@veza.test', '!') RETURNING id"
    )
    rows = await conn.fetch(
        "INSERT INTO rooms (kind, name) SELECT 'public', 'read ' || i FROM generate_series(1, $1::int) i RETURNING id",
        ROOMS,
    )
    rooms = sorted(row[0] for row in rows)
    await conn.execute(
        "INSERT INTO room_members (room_id, user_id) SELECT unnest($1::bigint[]), $2", rooms, user
    )
    return user, rooms


async def _stored(conn: Any, user: int) -> dict[int, int]:
    return dict(await conn.fetch("SELECT room_id, last_read_seq FROM room_members WHERE user_id = $1", user))
