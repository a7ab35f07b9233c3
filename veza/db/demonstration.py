"""Past days for a community that was made this minute: times set back, nothing else touched.

Only for `veza demo`, on the database it made itself. Times keep the order of what they belong to: in a room they rise
with the sequence, in a person's notifications with the id.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec


class Past(msgspec.Struct, frozen=True):
    """When things were, by id; `hours` counts back from now."""

    messages: Mapping[int, datetime]
    people_days: Mapping[int, int]
    tracks_hours: Mapping[int, float]
    listings_hours: Mapping[int, float]
    offers_hours: Mapping[int, float]


async def waiting(conn: Any) -> int:
    """How many events are still to be carried to people."""
    count: int = await conn.fetchval("SELECT count(*) FROM outbox")
    return count


async def set_back(conn: Any, past: Past) -> None:
    """Set times back. Messages that are not named, such as offers' cards, follow the offers they tell of."""
    await conn.execute(
        """UPDATE users u SET created_at = now() - make_interval(days => p.days)
           FROM unnest($1::bigint[], $2::int[]) AS p (id, days) WHERE u.id = p.id""",
        list(past.people_days),
        list(past.people_days.values()),
    )
    await conn.execute(
        """UPDATE messages m SET created_at = p.at FROM unnest($1::bigint[], $2::timestamptz[]) AS p (id, at)
           WHERE m.id = p.id""",
        list(past.messages),
        list(past.messages.values()),
    )
    await _hours(conn, "tracks", past.tracks_hours)
    await _hours(conn, "listings", past.listings_hours)
    await _hours(conn, "offers", past.offers_hours)
    await conn.execute(_FOLLOWING)


async def _hours(conn: Any, table: str, hours: Mapping[int, float]) -> None:
    await conn.execute(
        f"""UPDATE {table} t SET created_at = p.at, updated_at = p.at
            FROM (SELECT id, now() - make_interval(secs => hours * 3600) AS at
                  FROM unnest($1::bigint[], $2::float8[]) AS h (id, hours)) AS p WHERE t.id = p.id""",
        list(hours),
        list(hours.values()),
    )


# Everything else takes its time from what it hangs on: a like comes after its track, an answer after its offer.
_FOLLOWING = """
UPDATE rooms r SET created_at = now() - interval '39 days'
    WHERE NOT EXISTS (SELECT FROM streams s WHERE s.room_id = r.id);
UPDATE room_members m SET joined_at = greatest(r.created_at, u.created_at) + interval '1 hour'
    FROM rooms r, users u WHERE r.id = m.room_id AND u.id = m.user_id
        AND NOT EXISTS (SELECT FROM streams s WHERE s.room_id = r.id);
UPDATE follows f SET created_at = greatest(a.created_at, b.created_at) + (now() - greatest(a.created_at, b.created_at))
        * ((f.follower_id * 7 + f.followed_id * 13) % 90 / 100.0)
    FROM users a, users b WHERE a.id = f.follower_id AND b.id = f.followed_id;
UPDATE track_likes l SET created_at = t.created_at + (now() - t.created_at) * ((l.user_id * 37 % 90 + 5) / 100.0)
    FROM tracks t WHERE t.id = l.track_id;
UPDATE track_reposts l SET created_at = t.created_at + (now() - t.created_at) * ((l.user_id * 37 % 60 + 35) / 100.0)
    FROM tracks t WHERE t.id = l.track_id;
UPDATE track_comments c SET created_at = t.created_at + (now() - t.created_at)
        * ((SELECT count(*) FROM track_comments b WHERE b.track_id = c.track_id AND b.id <= c.id) / 6.0)
    FROM tracks t WHERE t.id = c.track_id AND (SELECT count(*) FROM track_comments b WHERE b.track_id = c.track_id) < 6;
UPDATE listing_images i SET created_at = l.created_at FROM listings l WHERE l.id = i.listing_id;
UPDATE listing_favorites f SET created_at = l.created_at + (now() - l.created_at) * ((f.user_id * 37 % 90 + 5) / 100.0)
    FROM listings l WHERE l.id = f.listing_id;
UPDATE offers SET expires_at = created_at + interval '7 days',
    viewed_at = created_at + (now() - created_at) * 0.3,
    countered_at = CASE WHEN countered_at IS NOT NULL THEN created_at + (now() - created_at) * 0.5 END,
    decided_at = CASE WHEN decided_at IS NOT NULL THEN created_at + (now() - created_at) * 0.8 END,
    updated_at = created_at + (now() - created_at)
        * CASE WHEN decided_at IS NOT NULL THEN 0.8 WHEN countered_at IS NOT NULL THEN 0.5 ELSE 0 END;
UPDATE offers SET viewed_at = NULL WHERE status = 'pending';
UPDATE listings l SET sold_at = o.decided_at, updated_at = o.decided_at
    FROM offers o WHERE o.listing_id = l.id AND o.status = 'accepted' AND l.sold_at IS NOT NULL;
UPDATE messages m SET created_at = CASE split_part(m.nonce, '-', 3)
        WHEN 'received' THEN o.created_at WHEN 'countered' THEN o.countered_at ELSE o.decided_at END
    FROM offers o WHERE m.message_type = 'offer' AND m.nonce LIKE 'offer-%-%'
        AND o.id::text = split_part(m.nonce, '-', 2)
        AND (split_part(m.nonce, '-', 3) = 'received' OR o.countered_at IS NOT NULL OR o.decided_at IS NOT NULL);
UPDATE messages m SET created_at = e.at
    FROM (SELECT id, max(created_at) OVER (PARTITION BY room_id ORDER BY seq) AS at FROM messages) AS e
    WHERE e.id = m.id AND e.at > m.created_at;
UPDATE reactions r SET created_at = m.created_at + interval '2 minutes' FROM messages m WHERE m.id = r.message_id;
UPDATE messages SET pinned_at = created_at + interval '5 minutes' WHERE pinned_at IS NOT NULL;
UPDATE rooms r SET last_message_at = m.at
    FROM (SELECT room_id, max(created_at) AS at FROM messages GROUP BY room_id) AS m WHERE m.room_id = r.id;
UPDATE playlists SET created_at = now() - interval '3 hours', updated_at = now() - interval '3 hours';
UPDATE notifications n SET created_at = now() - interval '4 minutes' * power(e.age, 1.7),
        read_at = CASE WHEN e.age > 4 THEN now() - interval '4 minutes' * power(e.age, 1.7) / 2 END
    FROM (SELECT id, row_number() OVER (PARTITION BY user_id ORDER BY id DESC) AS age FROM notifications) AS e
    WHERE e.id = n.id;
"""
