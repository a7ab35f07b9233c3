"""The audit log only grows: whatever the program, or somebody at a prompt, asks for."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from veza.db import audit
from veza.db.pool import Database


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_entries_are_never_changed(db: Database, statement: str) -> None:
    act = audit.Act(7, "192.0.2.1")
    await db.write(audit.record, act, "user.ban", "user", 9, {"reason": 'it\'s "noise" \u2028 {}'})

    async def tamper(conn: Any) -> None:
        await conn.execute(statement)

    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await db.write(tamper)
    (entry,) = await db.read(audit.entries, audit.Wanted(), None, 10)
    assert (entry.actor_id, entry.action, entry.target_id, entry.ip) == (7, "user.ban", 9, "192.0.2.1")
    assert entry.details == {"reason": 'it\'s "noise" \u2028 {}'}
    assert entry.actor is None and entry.target is None, "people may go; the log stays"


async def test_an_entry_of_a_transaction_that_fails_is_not_there(db: Database) -> None:
    async def half(conn: Any) -> None:
        await audit.record(conn, audit.Act(7, None), "user.ban", "user", 9, {})
        raise RuntimeError

    with pytest.raises(RuntimeError):
        await db.write(half)
    assert await db.read(audit.entries, audit.Wanted(), None, 10) == []
