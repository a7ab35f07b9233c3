"""Who gets a mail today, and of what: chosen and written down as sent in one transaction, so that nobody gets it twice.

A mail that is lost after that is lost; what it told of stays unread in its reader's list.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from veza.db.notifications import JOINED, MAILED, VIEW, Notification, made
from veza.db.users import HERE

LINES: Final = 20  # of a mail
AFTER_MINUTES: Final = 10  # who reads at once needs no mail
_PAGE: Final = 1_000  # people looked at in one transaction


class Digest(msgspec.Struct, frozen=True):
    """A mail to write: `count` unread things, the newest LINES of them."""

    user_id: int
    username: str
    email: str
    count: int
    notifications: list[Notification]

    def __repr__(self) -> str:
        return f"<Digest for {self.user_id}>"


async def choose(conn: Any, after_id: int, every_s: float) -> tuple[list[Digest], int | None]:
    """The mails for the people of the next page, by id; and where that page ended, None behind the last one.

    Mailed is what is unread, wanted by mail, older than a few minutes and newer than the last mail, to confirmed
    addresses of accounts in use, whose last mail is `every_s` ago. Nothing of people they muted or blocked since, or
    who blocked them.
    """
    last = await conn.fetchval(
        "SELECT max(id) FROM (SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2) AS page",
        after_id,
        _PAGE,
    )
    if last is None:
        return [], None
    rows = await conn.fetch(
        f"""WITH due AS (
                SELECT u.id, u.username, u.email, w.count, w.last_id, w.ids
                FROM users u LEFT JOIN digests d ON d.user_id = u.id, LATERAL (
                    SELECT count(*) FILTER (WHERE o.mailed), max(o.id) AS last_id,
                           (array_agg(o.id ORDER BY o.id DESC) FILTER (WHERE o.mailed))[1:{LINES}] AS ids
                    FROM (
                        SELECT n.id, coalesce(p.email, n.kind = ANY ($4::text[])) AND (
                            n.actor_id IS NULL OR NOT EXISTS (
                                SELECT FROM mutes m WHERE m.muter_id = u.id AND m.muted_id = n.actor_id
                                UNION ALL SELECT FROM blocks b WHERE (b.blocker_id, b.blocked_id)
                                    IN ((u.id, n.actor_id), (n.actor_id, u.id)))) AS mailed
                        FROM notifications n
                        LEFT JOIN notification_preferences p ON p.user_id = n.user_id AND p.kind = n.kind
                        WHERE n.user_id = u.id AND n.read_at IS NULL AND n.id > coalesce(d.last_id, 0)
                          AND n.created_at < now() - interval '{AFTER_MINUTES} minutes'
                    ) AS o
                ) AS w
                WHERE u.id > $1 AND u.id <= $2 AND u.is_verified AND {HERE}
                  AND (d.sent_at IS NULL OR d.sent_at <= now() - make_interval(secs => $3)) AND w.count > 0
            ), noted AS (
                INSERT INTO digests (user_id, sent_at, last_id) SELECT id, now(), last_id FROM due
                ON CONFLICT (user_id) DO UPDATE SET sent_at = excluded.sent_at, last_id = excluded.last_id
            )
            SELECT due.id, due.username, due.email, due.count, {VIEW}
            FROM due JOIN notifications n ON n.id = ANY (due.ids) {JOINED} ORDER BY due.id, n.id DESC""",
        after_id,
        last,
        every_s,
        MAILED,
    )
    digests: dict[int, Digest] = {}
    for user_id, username, email, count, *view in rows:
        digest = digests.setdefault(user_id, Digest(user_id, username, email, count, []))
        digest.notifications.append(made(view))
    return list(digests.values()), last
