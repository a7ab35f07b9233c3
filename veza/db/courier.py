"""From the outbox to the people: what was caused becomes what each of them is told.

An event and the notifications it becomes change places in one transaction, so none is lost and none comes twice,
whenever the program ends. All expansion takes its turn behind one lock: notifications become visible in the order of
their ids, on which the notifiers rely.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from veza.db.notifications import JOINED, MAILED, VIEW, Notification, made
from veza.db.users import HERE

EVENTS: Final = 500  # a pass
COUNTED: Final = 10_000  # what waits is counted up to here and no further
PEOPLE: Final = 250  # a page of followers or members: no more, for whoever talks meanwhile waits behind it

# Who is really told: not of his own acts, nor by anybody he blocked or muted, or who blocked him; a member, of a
# message; and somebody who wants it at all. Of letters one is enough while it is unread. What the house decided about
# somebody he is told in any case. Who was shut out is announced to nobody, nor is what was taken away.
_WANTED: Final = f"""
    FROM candidates c JOIN users u ON u.id = c.user_id AND u.is_active
    LEFT JOIN notification_preferences p ON p.user_id = c.user_id AND p.kind = c.kind
    WHERE c.actor_id IS DISTINCT FROM c.user_id
      AND (c.kind = 'moderation' OR coalesce(p.socket, true) OR coalesce(p.email, c.kind = ANY ($1::text[])))
      AND (c.actor_id IS NULL OR NOT EXISTS (
            SELECT FROM mutes m WHERE m.muter_id = c.user_id AND m.muted_id = c.actor_id)
        AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocker_id = c.user_id AND b.blocked_id = c.actor_id)
        AND NOT EXISTS (SELECT FROM blocks b WHERE b.blocker_id = c.actor_id AND b.blocked_id = c.user_id))
      AND (c.kind NOT IN ('listing', 'stream_started') OR EXISTS (
            SELECT FROM users u WHERE u.id = c.actor_id AND {HERE}))
      AND (c.kind <> 'listing' OR NOT EXISTS (
            SELECT FROM listings l WHERE l.id = (c.data->>'listing_id')::bigint AND l.status = 'removed'))
      AND (c.kind NOT IN ('mention', 'reply', 'direct_message') OR EXISTS (
            SELECT FROM room_members rm
            WHERE rm.room_id = (c.data->>'room_id')::bigint AND rm.user_id = c.user_id))
      AND (c.kind <> 'direct_message' OR c.turn = 1 AND NOT EXISTS (
            SELECT FROM notifications o WHERE o.user_id = c.user_id AND o.read_at IS NULL
                AND o.kind = 'direct_message' AND o.actor_id = c.actor_id))
"""
_STORE: Final = f"""
    INSERT INTO notifications (user_id, kind, key, actor_id, data, created_at, told_at)
    SELECT c.user_id, c.kind, c.key, c.actor_id, c.data, c.created_at,
           CASE WHEN coalesce(p.socket, true) THEN NULL ELSE now() END
    {_WANTED} ORDER BY c.event_id, c.user_id
    ON CONFLICT (user_id, key) DO NOTHING
"""
_PERSONS: Final = f"""
    WITH candidates AS (
        SELECT o.*, o.id AS event_id, o.target_id AS user_id,
               row_number() OVER (PARTITION BY o.kind, o.target_id, o.actor_id ORDER BY o.id) AS turn
        FROM outbox o WHERE o.id = ANY ($2::bigint[])
    ), n AS ({_STORE} RETURNING *)
    SELECT n.user_id, n.told_at IS NOT NULL, {VIEW} FROM n {JOINED} ORDER BY n.id
"""
_AUDIENCES: Final = {
    "followers": "SELECT f.follower_id AS user_id FROM follows f WHERE f.followed_id = $1 AND f.follower_id > $2"
    " ORDER BY f.follower_id",
    "room": "SELECT m.user_id FROM room_members m WHERE m.room_id = $1 AND m.user_id > $2 ORDER BY m.user_id",
}


class Waiting(msgspec.Struct, frozen=True):
    """What the outbox holds: how many, and in how many seconds the next one that was put off is due."""

    events: int
    due_in: float | None


class Note(msgspec.Struct, frozen=True):
    """Something stored just now for somebody; `silent`: he does not want to hear of it on his sockets."""

    user_id: int
    id: int
    silent: bool
    notification: Notification  # of several people told the same, the first one's

    def __repr__(self) -> str:
        return f"<Note {self.id}>"


class Taken(msgspec.Struct, frozen=True):
    """What a pass did: `events` it looked at, `more` if there may be further ones that are due."""

    events: int
    notes: list[Note]
    more: bool


class Card(msgspec.Struct, frozen=True):
    """A message somebody's act sends to another person, in their private conversation. `key` is its nonce."""

    id: int
    actor_id: int
    username: str | None  # None: he is gone
    target_id: int
    key: str
    content: str
    media_url: str | None
    tries: int

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Card {self.key}>"


async def expand(conn: Any, only: int | None = None) -> Taken:
    """Make notifications of what is due, in order: all that concern one person each, and a page of one that concerns
    many. `only`: of this one event alone, due or not."""
    await _take_turn(conn)
    rows = await conn.fetch(
        """SELECT id, audience, target_id, after_id FROM outbox
           WHERE kind <> 'card' AND CASE WHEN $2::bigint IS NULL THEN run_after <= now() ELSE id = $2 END
           ORDER BY id LIMIT $1""",
        EVENTS,
        only,
    )
    notes: list[Note] = []
    direct = [row["id"] for row in rows if row["audience"] == "person"]
    wide = [row for row in rows if row["audience"] != "person"]
    if direct:
        stored = await conn.fetch(_PERSONS, MAILED, direct)
        notes += [Note(row[0], row[2], row[1], made(row[2:])) for row in stored]
        await _delete(conn, direct)
    whole = True
    if wide:
        # The one that came least far: somebody's few followers do not wait for another's hundred thousand.
        found, whole = await _page(conn, *min(wide, key=itemgetter("after_id")))
        notes += found
    return Taken(len(direct) + len(wide[:1]), notes, len(rows) == EVENTS or len(wide) > 1 or not whole)


async def _take_turn(conn: Any) -> None:
    await conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('courier', 0))")


async def _page(
    conn: Any, event_id: int, audience: str, target_id: int, after_id: int
) -> tuple[list[Note], bool]:
    """The next people an event concerns; and whether that was all of them."""
    members = await conn.fetch(f"{_AUDIENCES[audience]} LIMIT $3", target_id, after_id, PEOPLE)
    people = [row[0] for row in members]
    rows = await conn.fetch(
        f"""WITH candidates AS (
                SELECT o.*, o.id AS event_id, w.id AS user_id, 1 AS turn
                FROM outbox o, unnest($3::bigint[]) AS w (id) WHERE o.id = $2
            ) {_STORE} RETURNING id, user_id, told_at IS NOT NULL""",
        MAILED,
        event_id,
        people,
    )
    notes: list[Note] = []
    if rows:
        rows = sorted(rows, key=itemgetter(0))
        first = made(
            await conn.fetchrow(f"SELECT {VIEW} FROM notifications n {JOINED} WHERE n.id = $1", rows[0][0])
        )
        notes = [Note(user_id, id, silent, first) for id, user_id, silent in rows]
    if len(people) < PEOPLE:
        await _delete(conn, [event_id])
        return notes, True
    await conn.execute("UPDATE outbox SET after_id = $2, tries = 0 WHERE id = $1", event_id, people[-1])
    return notes, False


async def _delete(conn: Any, ids: Sequence[int]) -> None:
    await conn.execute("DELETE FROM outbox WHERE id = ANY ($1::bigint[])", list(ids))


async def due(conn: Any) -> list[tuple[int, int]]:
    """The ids of the events of one pass, with how often each was tried."""
    rows = await conn.fetch(
        "SELECT id, tries FROM outbox WHERE kind <> 'card' AND run_after <= now() ORDER BY id LIMIT $1",
        EVENTS,
    )
    return [(row[0], row[1]) for row in rows]


async def cards(conn: Any, limit: int) -> list[Card]:
    """Cards that are due, in order; none whose conversation waits for an earlier one."""
    rows = await conn.fetch(
        """SELECT o.id, o.actor_id, CASE WHEN u.is_active THEN u.username END, o.target_id, o.key,
                  o.data->>'content', o.data->>'media_url', o.tries
           FROM outbox o JOIN users u ON u.id = o.actor_id
           WHERE o.kind = 'card' AND o.run_after <= now() AND NOT EXISTS (
               SELECT FROM outbox e WHERE e.kind = 'card' AND e.id < o.id AND e.run_after > now()
                   AND (e.actor_id, e.target_id) IN ((o.actor_id, o.target_id), (o.target_id, o.actor_id)))
           ORDER BY o.id LIMIT $1""",
        limit,
    )
    return [Card(*row) for row in rows]


async def drop(conn: Any, id: int) -> None:
    """It is done with, or given up."""
    await _delete(conn, [id])


async def put_off(conn: Any, id: int, seconds: float) -> None:
    """A try failed; there is another after so many seconds."""
    await conn.execute(
        "UPDATE outbox SET tries = tries + 1, run_after = now() + make_interval(secs => $2) WHERE id = $1",
        id,
        seconds,
    )


async def waiting(conn: Any) -> Waiting:
    """Counted up to COUNTED, the oldest first."""
    row = await conn.fetchrow(
        "SELECT count(*), CASE WHEN count(*) > 0"
        " THEN greatest(0, extract(epoch FROM min(run_after) - now()))::float8 END"
        " FROM (SELECT run_after FROM outbox ORDER BY id LIMIT $1) AS oldest",
        COUNTED,
    )
    return Waiting(*row)
