"""What nobody can use any more goes, and nothing else."""

from __future__ import annotations

from typing import Any

import trio

from veza.db.errors import Unavailable
from veza.db.pool import Database
from veza.tidy import tidy, tidy_once


async def furnish(conn: Any) -> None:
    await conn.execute("INSERT INTO users (username, email, password_hash) VALUES ('nina', 'n@x.org', 'x')")
    await conn.execute(
        """INSERT INTO sessions (id, user_id, expires_at)
           SELECT gen_random_uuid(), 1, now() + make_interval(days => days)
           FROM unnest(ARRAY[-60, -31, -29, 1]) AS days"""
    )
    await conn.execute(
        """INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
           SELECT sha256(id::text::bytea), id, now() + interval '1 day' FROM sessions WHERE expires_at > now()"""
    )
    await conn.execute(
        """INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
           SELECT sha256(n::text::bytea), s.id, now() - interval '1 second'
           FROM generate_series(1, 10500) AS n, sessions s WHERE s.expires_at > now()"""
    )
    await conn.execute(
        """INSERT INTO mail_tokens (token_hash, user_id, purpose, email, expires_at)
           SELECT sha256(days::text::bytea), 1, 'reset', 'n@x.org', now() + make_interval(days => days)
           FROM unnest(ARRAY[-8, -1, 1]) AS days"""
    )


async def counts(conn: Any) -> tuple[int, int, int]:
    row = await conn.fetchrow(
        """SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM refresh_tokens),
                  (SELECT count(*) FROM mail_tokens)"""
    )
    return row[0], row[1], row[2]


async def test_what_is_due_goes_and_nothing_else(db: Database) -> None:
    await db.write(furnish)
    assert await db.read(counts) == (4, 10501, 3)
    assert await tidy_once(db) == 2 + 10500 + 1
    assert await db.read(counts) == (2, 1, 2)
    assert await tidy_once(db) == 0


async def test_a_database_away_is_tried_again() -> None:
    enough = trio.Event()

    class Away:
        calls = 0

        async def write(self, *_: Any) -> int:
            await trio.lowlevel.checkpoint()
            self.calls += 1
            if self.calls == 6:
                enough.set()
            if self.calls < 3:
                raise Unavailable("away")
            return 0

    away: Any = Away()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tidy, away, 0.0, 0.001)
            await enough.wait()
            nursery.cancel_scope.cancel()
