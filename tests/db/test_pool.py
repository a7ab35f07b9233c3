"""The pool: whole units, typed errors, and a pool that is whole again whatever was cancelled when."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import math
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.conftest import PATIENCE
from veza.db import connections
from veza.db.errors import (
    Conflict,
    DataRefused,
    OutcomeUnknown,
    QueryTimeout,
    Unavailable,
)
from veza.db.pool import Database, open_database

PACKAGE = Path(__file__).parents[2] / "veza"
BOUND = 2 * PATIENCE  # seconds, for whole tests


def pool(url: str, **limits: Any) -> AbstractAsyncContextManager[Database]:
    """A pool that gives up nothing that is merely slow, but for what a test is about."""
    patient = {"acquire_timeout": PATIENCE, "statement_timeout": PATIENCE, "close_patience": PATIENCE}
    return open_database(url, **{**patient, **limits})


async def add(conn: Any, a: int, b: int) -> int:
    return int(await conn.fetchval("SELECT $1::int + $2::int", a, b))


async def sleep(conn: Any, seconds: float) -> None:
    await conn.execute("SELECT pg_sleep($1)", seconds)


async def make_table(conn: Any) -> None:
    await conn.execute("CREATE TABLE marks (id bigint PRIMARY KEY, note text CHECK (note <> 'bad'))")


async def put(conn: Any, number: int, note: str = "") -> None:
    await conn.execute("INSERT INTO marks VALUES ($1, $2)", number, note)


async def marks(conn: Any) -> list[int]:
    return [row[0] for row in await conn.fetch("SELECT id FROM marks ORDER BY id")]


async def sessions(conn: Any) -> list[str]:
    """The states of all other sessions on this database."""
    rows = await conn.fetch(
        "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND backend_type = 'client backend'"
    )
    return [row[0] for row in rows]


async def backend(conn: Any) -> int:
    return int(await conn.fetchval("SELECT pg_backend_pid()"))


async def kill_others(conn: Any) -> int:
    return int(
        await conn.fetchval(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    )


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens elsewhere. The test around it has a deadline."""
    while not condition():  # noqa: ASYNC110
        await trio.sleep(0.002)


def at_work(db: Database) -> bool:
    return db.statistics().idle < db.statistics().open


async def settled(db: Database, size: int) -> None:
    """Wait until every connection is idle; if this takes for ever the pool was not whole."""
    await until(lambda: not at_work(db) and not db.statistics().opening and db.statistics().open <= size)


async def all_at_rest(db: Database) -> None:
    """Wait until the database itself says that nothing is left open and nothing still running."""
    while not set(await db.read(sessions)) <= {"idle"}:  # noqa: ASYNC110 - of PostgreSQL
        await trio.sleep(0.002)


async def test_a_unit_runs_and_answers(db: Database) -> None:
    with trio.fail_after(BOUND):
        assert await db.read(add, 2, b=3) == 5
        assert await db.write(add, 2, 3) == 5
        assert await db.write_shielded(add, 2, 3) == 5
        assert await db.exclusive(add, 2, 3) == 5
        await db.ping()
        assert db.healthy


async def test_each_test_has_a_database_with_the_schema(db: Database) -> None:
    async def rooms(conn: Any) -> list[str]:
        return [row[0] for row in await conn.fetch("SELECT name FROM rooms")]

    with trio.fail_after(BOUND):
        assert await db.read(rooms) == ["general"]


async def test_a_write_is_whole_or_not_at_all(db: Database) -> None:
    async def two(conn: Any, fails: bool) -> None:
        await put(conn, 1)
        if fails:
            raise ValueError("changed my mind")
        await put(conn, 2)

    with trio.fail_after(BOUND):
        await db.write(make_table)
        with pytest.raises(ValueError, match="changed my mind"):
            await db.write(two, True)
        assert await db.read(marks) == []
        await db.write(two, False)
        assert await db.read(marks) == [1, 2]


async def test_refusals_are_typed_and_leave_the_pool_whole(database_url: str) -> None:
    async def query(conn: Any, sql: str, *args: Any) -> Any:
        return await conn.fetchval(sql, *args)

    with trio.fail_after(BOUND):
        async with pool(database_url, size=2) as db:
            await db.write(make_table)
            await db.write(put, 1)
            for run in (db.write, db.write_shielded, db.read):
                with pytest.raises(Conflict) as taken:
                    await run(put, 1)
                assert (taken.value.sqlstate, taken.value.constraint) == ("23505", "marks_pkey")
                with pytest.raises(DataRefused) as bad:
                    await run(put, 2, "bad")
                assert bad.value.constraint == "marks_note_check"
                with pytest.raises(DataRefused):  # a NUL character: PostgreSQL's text holds none
                    await run(put, 3, "\0")
                with pytest.raises(DataRefused):  # refused by asyncpg, nothing is sent
                    await run(put, 2**70)
                with pytest.raises(DataRefused):  # half of a surrogate pair is no text
                    await run(put, 3, "\ud800")
                with pytest.raises(DataRefused):
                    await run(query, "SELECT 1 / $1::int", 0)
                with pytest.raises(
                    Exception, match="no_such_table"
                ) as defect:  # a defect of ours stays what it is
                    await run(query, "SELECT * FROM no_such_table")
                assert not isinstance(defect.value, (Unavailable, DataRefused))
                await settled(db, 2)
            assert await db.read(marks) == [1]
            assert db.statistics().lost == 0
            assert "secret" not in str(taken.value)


async def test_a_statement_that_takes_too_long_is_stopped(database_url: str) -> None:
    with trio.fail_after(BOUND):
        async with pool(database_url, size=1, statement_timeout=0.1) as db:
            for run in (db.read, db.write, db.write_shielded):
                with pytest.raises(QueryTimeout):
                    await run(sleep, 3600)
            await settled(db, 1)
            while True:
                with contextlib.suppress(QueryTimeout):  # so short a time may pass even here
                    assert await db.read(add, 1, 1) == 2
                    break


async def test_a_busy_pool_refuses_after_a_deadline(database_url: str) -> None:
    with trio.fail_after(BOUND):
        async with pool(database_url, size=2, acquire_timeout=0.2) as db:
            await until(lambda: db.statistics().idle == 2)
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(db.read, sleep, 3600)
                await until(lambda: db.statistics().open == 2 and not db.statistics().idle)
                with pytest.raises(Unavailable, match="busy"):
                    await db.read(add, 1, 1)
                assert db.statistics().waiting == 0
                nursery.cancel_scope.cancel()
            await settled(db, 2)
            assert await db.read(add, 1, 1) == 2


async def test_a_pool_that_waits_for_little_takes_its_time_to_open(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = connections.connect

    async def slowly(*args: Any) -> Any:
        await asyncio.sleep(0.1)
        return await connect(*args)

    monkeypatch.setattr(connections, "connect", slowly)
    with trio.fail_after(BOUND):
        async with pool(database_url, acquire_timeout=0.01, warm=0) as db:
            assert db.healthy
            assert await db.read(add, 1, 1) == 2


async def test_waiting_units_are_served_in_order_and_share_few_connections(database_url: str) -> None:
    seen: list[int] = []

    async def note(conn: Any, number: int) -> None:
        seen.append(number)
        await conn.execute("SELECT 1")

    with trio.fail_after(BOUND):
        async with pool(database_url, size=1, warm=0) as db:
            async with trio.open_nursery() as nursery:
                for number in range(200):
                    nursery.start_soon(db.read, note, number)
                    await trio.lowlevel.checkpoint()
            assert seen == list(range(200))
            assert db.statistics().open == 1


async def test_hundreds_of_cancellations_leave_the_pool_whole(database_url: str) -> None:
    chance = random.Random(4)
    acknowledged: set[int] = set()
    tried: set[int] = set()

    async def slowly(conn: Any, number: int) -> None:
        await put(conn, number)
        await sleep(conn, 0.002)
        await put(conn, number + 100_000)

    async def one(number: int) -> None:
        kind = number % 4
        patience = chance.random() * chance.choice((0.005, 0.05, 0.5))
        if number % 16 in (6, 7):  # some are never cancelled: on a slow machine all others may be
            patience = math.inf
        with trio.move_on_after(patience):
            if kind == 0:
                await db.read(sleep, 0.01)
            elif kind == 1:
                await db.read(add, 1, 2)
            elif kind == 2:
                tried.add(number)
                await db.write(slowly, number)
                acknowledged.add(number)
            else:
                tried.add(number)
                await db.write(put, number)
                acknowledged.add(number)

    with trio.fail_after(BOUND):
        async with pool(database_url, size=6) as db:
            await db.write(make_table)
            for round_ in range(6):
                async with trio.open_nursery() as nursery:
                    for number in range(100):
                        nursery.start_soon(one, round_ * 100 + number)
            await settled(db, 6)
            assert db.statistics().waiting == 0
            stored = set(await db.read(marks))
            await all_at_rest(db)
            # Every connection works.
            async with trio.open_nursery() as nursery:
                for _ in range(6):
                    nursery.start_soon(db.write, sleep, 0.05)
            await until(lambda: db.statistics().open == 6)
            # Acknowledged means stored; what was cancelled is stored whole or not at all.
            assert acknowledged <= stored
            assert {number for number in stored if number < 100_000} <= tried
            for number in tried:
                if number % 4 == 2:
                    assert (number in stored) == (number + 100_000 in stored)
            assert 20 < len(acknowledged) < len(tried)


async def test_cancelling_everything_at_once_while_others_wait(database_url: str) -> None:
    with trio.fail_after(BOUND):
        async with pool(database_url, size=3) as db:
            for delay in (0.0, 0.001, 0.01, 0.03):
                with trio.move_on_after(delay):
                    async with trio.open_nursery() as nursery:
                        for _ in range(300):
                            nursery.start_soon(db.read, sleep, 0.01)
            await settled(db, 3)
            assert await db.read(add, 1, 1) == 2
            await all_at_rest(db)


async def test_a_cancelled_statement_is_stopped_in_the_database(database_url: str) -> None:
    with trio.fail_after(BOUND):
        # PostgreSQL would stop it by itself, but not before this test's deadline.
        async with pool(database_url, size=2, statement_timeout=2 * BOUND) as db:
            with trio.move_on_after(0.1):
                await db.read(sleep, 3600)
            await settled(db, 2)
            await all_at_rest(db)
            assert db.statistics().lost == 0


async def test_a_unit_cancelled_before_it_starts_does_nothing(db: Database) -> None:
    ran = False

    async def unit(conn: Any) -> None:
        nonlocal ran
        ran = True

    with trio.fail_after(BOUND):
        with trio.CancelScope() as scope:
            scope.cancel()
            await db.write(unit)
        assert scope.cancelled_caught
        assert not ran


async def test_a_shielded_write_ends_as_if_nobody_had_cancelled(db: Database) -> None:
    async def slowly(conn: Any, number: int) -> int:
        return int(
            await conn.fetchval(
                "WITH nap AS MATERIALIZED (SELECT pg_sleep(0.1)) INSERT INTO marks SELECT $1 FROM nap RETURNING id",
                number,
            )
        )

    answers: list[int] = []
    with trio.fail_after(BOUND):
        await db.write(make_table)
        with trio.move_on_after(0.01) as scope:
            answers.append(await db.write_shielded(slowly, 7))
            await trio.lowlevel.checkpoint()
        assert scope.cancelled_caught
        assert answers == [7]
        assert await db.read(marks) == [7]


async def test_a_write_whose_connection_breaks_in_the_middle_has_an_unknown_outcome(db: Database) -> None:
    async def killed(conn: Any) -> None:
        await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with trio.fail_after(BOUND):
        with pytest.raises(OutcomeUnknown):
            await db.write_shielded(killed)
        assert await db.read(add, 1, 1) == 2


async def test_a_commit_that_is_cut_has_an_unknown_outcome(db: Database) -> None:
    async def cut_at_commit(conn: Any) -> None:
        await conn.execute(
            """
            CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
            CREATE TABLE cuts (id int);
            CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON cuts DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION cut();
            """
        )
        await conn.execute("INSERT INTO cuts VALUES (1)")

    with trio.fail_after(BOUND):
        with pytest.raises(OutcomeUnknown):
            await db.write(cut_at_commit)
        assert await db.read(add, 1, 1) == 2


async def test_a_transaction_cut_before_its_commit_runs_again(db: Database) -> None:
    runs = 0

    async def cut_once(conn: Any) -> None:
        nonlocal runs
        runs += 1
        await put(conn, runs)
        if runs == 1:
            await conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with trio.fail_after(BOUND):
        await db.write(make_table)
        await db.write(cut_once)
        assert await db.read(marks) == [2]


async def test_a_constraint_checked_at_commit_is_a_plain_refusal(db: Database) -> None:
    async def prepare(conn: Any) -> None:
        await conn.execute("CREATE TABLE once (id int, UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)")

    async def twice(conn: Any) -> None:
        await conn.execute("INSERT INTO once VALUES (1), (1)")

    with trio.fail_after(BOUND):
        await db.write(prepare)
        for _ in range(10):  # more often than there are connections
            with pytest.raises(Conflict):
                await db.write(twice)
        assert await db.write(add, 1, 1) == 2


async def test_deadlocked_transactions_are_run_again(database_url: str) -> None:
    async def lock_both(conn: Any, first: int, second: int) -> None:
        await conn.execute("UPDATE marks SET note = note || 'x' WHERE id = $1", first)
        await sleep(conn, 0.05)
        await conn.execute("UPDATE marks SET note = note || 'x' WHERE id = $1", second)

    async def fill(conn: Any) -> None:
        await put(conn, 1)
        await put(conn, 2)

    async def lengths(conn: Any) -> list[int]:
        return [row[0] for row in await conn.fetch("SELECT length(note) FROM marks")]

    with trio.fail_after(BOUND):
        async with pool(database_url, size=4) as db:
            await db.write(make_table)
            await db.write(fill)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(db.write, lock_both, 1, 2)
                nursery.start_soon(db.write, lock_both, 2, 1)
            assert await db.read(lengths) == [2, 2]


async def test_the_pool_heals_when_all_its_connections_are_killed(database_url: str) -> None:
    with trio.fail_after(BOUND):
        async with pool(database_url, size=4) as db:
            for _ in range(5):
                async with trio.open_nursery() as nursery:
                    for _ in range(4):
                        nursery.start_soon(db.read, sleep, 0.02)
                await settled(db, 4)  # none is on its way, to be killed when it has just come
                await db.exclusive(kill_others)
                assert await db.read(add, 1, 1) == 2  # a read whose connection broke is run again
                assert await db.write(add, 1, 1) == 2
            assert db.healthy


async def test_connections_that_died_while_idle_are_noticed_and_replaced(database_url: str) -> None:
    with trio.fail_after(BOUND):
        async with pool(database_url, size=1) as db:
            first = await db.read(backend)
            await db.exclusive(kill_others)
            await until(lambda: db.statistics().lost > 0)
            assert await db.write_shielded(backend) != first


async def test_an_unreachable_database_is_one_clear_line(postgres: Any, tmp_path: Path) -> None:
    with trio.fail_after(BOUND):
        for url in (
            f"postgresql://veza@/veza?host={tmp_path}",
            "postgresql://veza@127.0.0.1:1/veza",
            postgres.url_of("no_such_database"),
            postgres.url.replace(":", ":wrong", 2).replace("postgresql:wrong", "postgresql"),
        ):
            with pytest.raises(Unavailable) as refused:
                async with open_database(url):
                    pass
            assert "\n" not in str(refused.value)
            assert str(refused.value)


async def test_units_at_work_finish_before_the_pool_closes_and_others_are_refused(database_url: str) -> None:
    ended: list[str] = []
    begun = trio.Event()

    async def slowly(conn: Any) -> None:
        begun.set()
        await sleep(conn, 0.2)

    async def write(db: Database) -> None:
        await db.write_shielded(slowly)
        ended.append("write")

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            async with pool(database_url) as db:
                nursery.start_soon(write, db)
                await begun.wait()
            assert ended == ["write"] or db.statistics().open == 0
        assert ended == ["write"]
        with pytest.raises(Unavailable):
            await db.read(add, 1, 1)


async def test_closing_does_not_wait_for_ever(database_url: str) -> None:
    outcome: list[BaseException] = []

    async def write(db: Database) -> None:
        try:
            await db.write_shielded(sleep, 3600)
        except Unavailable as error:
            outcome.append(error)

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            async with pool(database_url, close_patience=0.1) as db:
                nursery.start_soon(write, db)
                await until(partial(at_work, db))
        assert [type(error) for error in outcome] == [OutcomeUnknown]


async def test_errors_come_out_of_the_database_as_themselves(database_url: str) -> None:
    with pytest.raises(KeyError):
        async with pool(database_url):
            raise KeyError("mine")
    with trio.move_on_after(0.05) as scope:
        async with pool(database_url):
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_units_run_from_any_task_and_beside_each_other(db: Database) -> None:
    """A task that was started outside of the database's own context finds the loop all the same."""
    answers: list[int] = []

    async def ask(token: trio.lowlevel.TrioToken) -> None:
        answers.append(await db.read(add, len(answers), 1))

    async def uses_timeouts(conn: Any) -> bool:
        async with asyncio.timeout(PATIENCE):
            await asyncio.sleep(0.001)
            return asyncio.get_running_loop() is db._loop

    with trio.fail_after(BOUND):
        task = trio.lowlevel.spawn_system_task(ask, trio.lowlevel.current_trio_token())
        await until(lambda: bool(answers))
        assert task is not None
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(ask, trio.lowlevel.current_trio_token())
        assert len(answers) == 51
        assert await db.read(uses_timeouts)


async def test_the_loop_is_as_we_know_it(db: Database) -> None:
    """If this fails, trio-asyncio changed inside: all works, at twice the cost; look at veza/db/crossing.py."""
    assert db._crossing.direct


async def test_callbacks_of_a_busy_unit_do_not_keep_others_from_running(db: Database) -> None:
    turns = 0

    async def spin(conn: Any) -> None:
        for _ in range(20_000):
            await asyncio.sleep(0)

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with trio.fail_after(BOUND):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await db.read(spin)
            nursery.cancel_scope.cancel()
    assert turns > 50


def test_only_the_pool_crosses_into_asyncio_and_it_hands_out_no_connection() -> None:
    """Piecewise use from trio leaks connections under cancellation, so nothing else may be able to."""
    crossing = {"pool.py", "crossing.py"}
    for path in PACKAGE.rglob("*.py"):
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
        in_db = path.parent == PACKAGE / "db"
        assert "trio_asyncio" not in names or (in_db and path.name in crossing), path
        assert "asyncpg" not in names or in_db, path
        assert "asyncio" not in names or in_db, path
    public = {name for name in vars(Database) if not name.startswith("_")}
    assert public == {
        "exclusive",
        "healthy",
        "hurry",
        "ping",
        "read",
        "statistics",
        "write",
        "write_shielded",
    }
