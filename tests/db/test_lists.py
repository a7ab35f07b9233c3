"""Lists stay cheap when tables are large: every one of them finds its rows by an index, shown by EXPLAIN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from bench.plans import Explaining
from tests.db.plans import filled
from veza.db import (
    administration,
    audit,
    messages,
    notifications,
    reports,
    room_lists,
    room_words,
    rooms,
    sanctions,
    users,
)
from veza.db.administration import AccountFilter
from veza.db.pool import Database

ROOMS, PEOPLE = 30_000, 20_000

# Person 1 is in 40 rooms and writes with 30 people; room 1 has 4,000 members and 20,000 messages.
_FILL = f"""
    INSERT INTO users (username, email, password_hash)
        SELECT left(md5(n::text), 20), 'person' || n || '@example.org', 'none' FROM generate_series(1, {PEOPLE}) n;
    INSERT INTO rooms (kind, name, member_count, last_seq, last_message_at)
        SELECT CASE WHEN n % 3 = 0 THEN 'private' ELSE 'public' END, 'room ' || md5(n::text), 1, 0, now()
        FROM generate_series(2, {ROOMS}) n;
    INSERT INTO rooms (kind, user_low, user_high, member_count, last_seq, last_message_at)
        SELECT 'direct', low, high, 2, 1, now() FROM generate_series(1, 300) low, generate_series(301, 400) high
        WHERE low > 1 OR high <= 330;
    INSERT INTO room_members (room_id, user_id) SELECT 1, n FROM generate_series(1, 4000) n;
    INSERT INTO room_members (room_id, user_id) SELECT n, 1 + n % {PEOPLE} FROM generate_series(2, {ROOMS}) n;
    INSERT INTO room_members (room_id, user_id) SELECT n * 30, 1 FROM generate_series(1, 40) n ON CONFLICT DO NOTHING;
    INSERT INTO room_members (room_id, user_id)
        SELECT id, unnest(ARRAY[user_low, user_high]) FROM rooms WHERE kind = 'direct';
    INSERT INTO messages (room_id, seq, user_id, nonce, content, created_at)
        SELECT 1, n, 1 + n % 4000, n::text, 'word' || n % 5000, now() FROM generate_series(1, 20000) n;
    INSERT INTO messages (room_id, seq, user_id, nonce, content, created_at)
        SELECT id, 1, user_low, 'n', 'letter', now() FROM rooms WHERE kind = 'direct';
    UPDATE messages SET pinned_at = now() WHERE room_id = 1 AND seq % 1000 = 0;
    UPDATE rooms SET last_seq = 20000 WHERE id = 1;
    INSERT INTO reports (reporter_id, message_id, target_id, reason, status)
        SELECT 1 + n % 4000, id, id, 'rude', CASE WHEN n % 100 = 0 THEN 'open' ELSE 'resolved' END
        FROM (SELECT id, row_number() OVER () AS n FROM messages LIMIT 10000) AS m;
    UPDATE reports SET accused_id = 1 + id % 3000;
    INSERT INTO sanctions (user_id, kind, by_user_id) SELECT 1 + n % 3000, 'mute', 1 FROM generate_series(1, 10000) n;
    INSERT INTO room_words (room_id, word) SELECT 1 + n % 100, 'word' || n FROM generate_series(1, 10000) n;
    INSERT INTO audit_log (actor_id, action, target_type, target_id)
        SELECT 1 + n % 50, 'user.ban', 'user', n % 5000 FROM generate_series(1, 20000) n;
    INSERT INTO room_sanctions (room_id, user_id, kind) SELECT 1, n, 'mute' FROM generate_series(1, 2000) n;
    INSERT INTO reactions (message_id, emoji, user_id)
        SELECT id, 'x', 1 + n % 4000 FROM (SELECT id, row_number() OVER () AS n FROM messages LIMIT 20000) AS m;
    INSERT INTO listings (owner_id, title, category_id, state, price_cents)
        SELECT 1 + n % 4000, 'thing ' || n, 1, 'good', n FROM generate_series(1, 3000) n;
    INSERT INTO notifications (user_id, kind, key, actor_id, data, read_at, told_at)
        SELECT 1 + n % CASE WHEN n % 40 = 0 THEN 1 ELSE 4000 END, CASE n % 3 WHEN 0 THEN 'like' ELSE 'mention' END,
               n::text, 1 + n % 50, jsonb_build_object('room_id', 1, 'message_id', n),
               CASE WHEN n % 2 = 0 THEN now() END, CASE WHEN n % 10 > 0 THEN now() END
        FROM generate_series(1, 40000) n;
    INSERT INTO room_invites (code, room_id) SELECT md5(n::text), 1 + n % 1000 FROM generate_series(1, 5000) n;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def full(postgres: Any) -> Iterator[str]:
    with filled(postgres, _FILL) as url:
        yield url


@pytest.fixture
def database_url(full: str) -> str:
    return full


_CASES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("one room", room_lists.one, (1, 1)),
    ("my rooms", room_lists.listed, (1, None, True, 0, 20, 0)),
    ("rooms behind a cursor", room_lists.listed, (1, None, False, 20_000, 20, 0)),
    ("rooms by name", room_lists.listed, (1, "a1b2", False, 0, 20, 0)),
    ("members", room_lists.members, (1, 1, 0, 20, 0)),
    ("members behind a cursor", room_lists.members, (1, 1, 3000, 20, 0)),
    ("conversations", room_lists.conversations, (1, 20, 0)),
    ("unread", room_lists.unread, (1,)),
    ("mutes", room_lists.sanctions, (1, "mute", 500, 20)),
    ("history", messages.history, (1, 1, 50, 10_000)),
    ("pins", messages.pins, (1, 1)),
    ("a message", messages.shown, (1, 100)),
    ("where a message is", messages.place, (1, 100)),
    ("arrivals", rooms.arrivals, ([1, 2, 3],)),
    ("an invitation", rooms.invited_to, (1, "code")),
    ("accounts behind a cursor", administration.accounts, (AccountFilter("abcd"), 100, 20, 0)),
    ("an account by address", administration.accounts, (AccountFilter("person7@example.org"), 0, 20, 0)),
    ("open reports", reports.listed, (reports.Wanted("open"), 1, None, 20)),
    ("the oldest reports", partial(reports.listed, oldest_first=True), (reports.Wanted("open"), 1, 5000, 20)),
    ("reports about a thing", reports.listed, (reports.Wanted(None, "message", 77), 1, None, 20)),
    ("reports about somebody", reports.listed, (reports.Wanted(accused_id=77), 1, None, 20)),
    ("what is known of somebody", sanctions.record, (77, 1)),
    ("words not said in a room", room_words.of_room, (1,)),
    ("the audit log", audit.entries, (audit.Wanted(), 5000, 20)),
    ("what one admin did", audit.entries, (audit.Wanted(actor_id=7), None, 20)),
    ("what was done to somebody", audit.entries, (audit.Wanted(target_type="user", target_id=77), None, 20)),
    ("standings", users.standings, ([1, 2, 3],)),
    ("notifications", partial(notifications.page, unread=False, kind=None, before=None, limit=20), (1,)),
    (
        "unread notifications",
        partial(notifications.page, unread=True, kind="like", before=20_000, limit=20),
        (1,),
    ),
    ("what was not told", notifications.standings, ([1, 2, 3],)),
]


async def test_every_list_finds_its_rows_by_an_index(db: Database) -> None:
    async def look(conn: Any, unit: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
        explaining = Explaining(conn)
        await unit(explaining, *args)
        return explaining.scans

    scanned = {what: scans for what, unit, args in _CASES if (scans := await db.read(look, unit, args))}
    assert scanned == {}


async def test_a_list_of_all_rooms_counts_to_a_bound_and_skips_ids_alone(db: Database) -> None:
    page = await db.read(room_lists.listed, 1, None, False, 0, 20, 9_000)
    assert page.total == users.COUNTED and page.more and len(page.rooms) == 20
    found = await db.read(room_lists.listed, 1, "room", False, 0, 20, 0)
    assert found.total == users.COUNTED and len(found.rooms) == 20
    mine = await db.read(room_lists.listed, 1, None, True, 0, 100, 0)
    assert {room.role for room in mine.rooms} == {"member"}
    assert [room.id for room in mine.rooms] == sorted(room.id for room in mine.rooms)
