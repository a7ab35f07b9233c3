"""The end of an account.

`close` is the point of no return and one transaction: nobody logs in any more, the name is free, offers are decided.
What is left is found by `user_id` in `deletions` and goes in small batches, each step of which may be the last one of a
process and may be repeated. The row of `users` stays, under no name of anybody's: what others said to it stays theirs.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from veza.db import offer_closing, powers, two_factor, users
from veza.db.audit import Act, record
from veza.db.powers import Check

BATCH: Final = 500
SETTLED: Final = 120.0  # seconds after which no request of his is under way any more


class LastOfThem(Exception):
    """The last super_admin: who else would appoint one?"""


class Stale(Exception):
    """The account is gone already, or its password was changed, since it was looked at."""


class Closed(msgspec.Struct, frozen=True):
    """What of an account that was closed just now others must be told at once."""

    user_id: int
    username: str  # the one it has now


class Waiting(msgspec.Struct, frozen=True):
    """An account that was closed; `settled`: so long ago that nothing of his comes any more."""

    user_id: int
    settled: bool


class OwnedStream(msgspec.Struct, frozen=True):
    id: int
    room_id: int | None


# Closing ------------------------------------------------------------------------------------------------


async def close_own(
    conn: Any, user_id: int, verified_hash: str, proof: two_factor.Proof | None, name: str
) -> Closed:
    """The person wishes it, and has proven who he is.

    Args:
        verified_hash: what his password was compared with.
        name: the username it will have; free, or Conflict is raised.

    Raises:
        Stale, LastOfThem, two_factor.NotProven: nothing has happened.
    """
    role = await conn.fetchval("SELECT role FROM users WHERE id = $1", user_id)
    if role == "super_admin":
        # All of them, in one order: two who leave at the same moment do not each count on the other.
        rows = await conn.fetch(
            "SELECT u.id FROM users u WHERE u.role = 'super_admin' AND (u.id = $1 OR u.is_active"
            f" AND NOT {users.BANNED}) ORDER BY u.id FOR NO KEY UPDATE",
            user_id,
        )
        if {row[0] for row in rows} == {user_id}:
            raise LastOfThem
    row = await conn.fetchrow(
        "SELECT role, password_hash FROM users WHERE id = $1 AND deleted_at IS NULL FOR NO KEY UPDATE",
        user_id,
    )
    if row is None or row["password_hash"] != verified_hash or row["role"] != role:
        raise Stale
    factor = await two_factor.of(conn, user_id)
    if factor is not None and factor.enabled:
        await two_factor.take(conn, user_id, proof)
    await record(conn, Act(user_id, None), "user.delete", "user", user_id, {})
    return await _close(conn, user_id, name)


async def close_other(
    conn: Any, act: Act, user_id: int, check: Check, reason: str | None, name: str
) -> Closed | None:
    """An administrator wishes it. None: there is no such account (any more). `check` raises what forbids it."""
    if not await powers.hold(conn, act.actor_id, user_id, check):
        return None
    await record(conn, act, "user.delete", "user", user_id, {"reason": reason} if reason else {})
    return await _close(conn, user_id, name)


async def _close(conn: Any, user_id: int, name: str) -> Closed:
    """The row is held. Everything here is bounded by what one person may have open."""
    await conn.execute(
        # The address is nobody's and leads nowhere (RFC 6761); no password has this hash.
        """UPDATE users SET username = $2, email = $2 || '@deleted.invalid', password_hash = '!', first_name = NULL,
               last_name = NULL, bio = NULL, avatar = NULL, role = 'user', is_active = false, is_verified = false,
               presence = 'invisible', presence_text = NULL, last_seen_at = NULL, last_login_at = NULL,
               banned_until = NULL, muted_until = NULL, deleted_at = now(), updated_at = now()
           WHERE id = $1""",
        user_id,
        name,
    )
    await conn.execute("INSERT INTO deletions (user_id) VALUES ($1) ON CONFLICT DO NOTHING", user_id)
    await conn.execute("DELETE FROM sessions WHERE user_id = $1", user_id)
    await conn.execute("DELETE FROM mail_tokens WHERE user_id = $1", user_id)
    await two_factor.remove(conn, user_id)
    await conn.execute("DELETE FROM notification_preferences WHERE user_id = $1", user_id)
    await conn.execute("DELETE FROM digests WHERE user_id = $1", user_id)
    # What he caused and nobody has been told of yet, before what others are to be told of his end.
    await conn.execute("DELETE FROM outbox WHERE actor_id = $1", user_id)
    await conn.execute("DELETE FROM outbox WHERE audience = 'person' AND target_id = $1", user_id)
    await leave_market(conn, user_id)
    # No key opens his streams any more, and nothing that was recorded becomes a track.
    await conn.execute(
        "UPDATE streams SET key_hash = sha256(gen_random_uuid()::text::bytea) WHERE owner_id = $1", user_id
    )
    await conn.execute(
        """DELETE FROM stream_recordings WHERE track_id IS NULL
           AND stream_id IN (SELECT id FROM streams WHERE owner_id = $1)""",
        user_id,
    )
    await conn.execute("DELETE FROM room_invites WHERE by_user_id = $1 OR for_user_id = $1", user_id)
    return Closed(user_id, name)


async def leave_market(conn: Any, user_id: int) -> None:
    """Open deals end, the other sides are to hear of it; listings and their pictures' rows go.

    Listings first, as whoever accepts an offer holds them: then nobody waits for the other.
    """
    await conn.execute(
        "SELECT 1 FROM listings WHERE owner_id = $1 AND status <> 'removed' ORDER BY id FOR NO KEY UPDATE",
        user_id,
    )
    await offer_closing.leave(conn, user_id)
    await conn.execute(
        """DELETE FROM listing_images WHERE listing_id IN (SELECT id FROM listings WHERE owner_id = $1)""",
        user_id,
    )
    # The title stays in what others offered for it.
    await conn.execute(
        """UPDATE listings SET status = 'removed', description = '', location = NULL,
               exchange_for = CASE WHEN price_cents IS NULL THEN '-' END, updated_at = now()
           WHERE owner_id = $1 AND (status <> 'removed' OR description <> '' OR location IS NOT NULL)""",
        user_id,
    )


# What is left ---------------------------------------------------------------------------------------------


def _some(verb: str, table: str, key: str, condition: str) -> str:
    return f"{verb} WHERE ({key}) IN (SELECT {key} FROM {table} WHERE {condition} LIMIT $2)"


def _gone(table: str, key: str, column: str, but: str = "") -> str:
    return _some(f"DELETE FROM {table}", table, key, f"{column} = $1{but}")


# Each ends where nothing of him is left, `$2` rows at a time. All look into an index.
_SWEEPS: Final = (
    _gone("follows", "follower_id, followed_id", "follower_id"),
    _gone("follows", "follower_id, followed_id", "followed_id"),
    _gone("blocks", "blocker_id, blocked_id", "blocker_id"),
    _gone("blocks", "blocker_id, blocked_id", "blocked_id"),
    _gone("mutes", "muter_id, muted_id", "muter_id"),
    _gone("mutes", "muter_id, muted_id", "muted_id"),
    _gone("notifications", "id", "user_id"),
    # But for what tells of his end.
    _gone("notifications", "id", "actor_id", " AND data->>'reason' IS DISTINCT FROM 'account_deleted'"),
    _gone("track_likes", "track_id, user_id", "user_id"),
    _gone("track_reposts", "track_id, user_id", "user_id"),
    _gone("track_comments", "id", "user_id"),
    _gone("playlists", "id", "owner_id"),
    _gone("listing_favorites", "listing_id, user_id", "user_id"),
    # Who complained is nobody's business any more; the complaint stays.
    _some("UPDATE reports SET reporter_id = NULL", "reports", "id", "reporter_id = $1"),
    # That it was heard stays in the counts of whose track it is; by whom does not.
    _some(
        "UPDATE track_plays SET user_id = NULL, listener = 'x' || replace(gen_random_uuid()::text, '-', '')",
        "track_plays",
        "track_id, day, listener",
        "user_id = $1",
    ),
    _some("UPDATE room_parties SET started_by = NULL", "room_parties", "room_id", "started_by = $1"),
    # What a request or a socket that was under way has put there again.
    _gone("two_factor", "user_id", "user_id"),
    _gone("recovery_codes", "user_id, code_hash", "user_id"),
    _gone("mail_tokens", "token_hash", "user_id"),
    _gone("notification_preferences", "user_id, kind", "user_id"),
    _some(
        "UPDATE users SET presence = 'invisible', presence_text = NULL, last_seen_at = NULL",
        "users",
        "id",
        "id = $1 AND deleted_at IS NOT NULL AND (presence_text IS NOT NULL OR last_seen_at IS NOT NULL)",
    ),
)
SWEEPS: Final = len(_SWEEPS)


async def waiting(conn: Any, limit: int = 100) -> list[Waiting]:
    """Accounts of which something may be left, the oldest first."""
    rows = await conn.fetch(
        """SELECT user_id, began_at < now() - make_interval(secs => $2) FROM deletions ORDER BY began_at, user_id
           LIMIT $1""",
        limit,
        SETTLED,
    )
    return [Waiting(*row) for row in rows]


async def tombstone(conn: Any, user_id: int) -> str:
    """What a deleted account is called now."""
    return str(await conn.fetchval("SELECT username FROM users WHERE id = $1", user_id))


async def sweep(conn: Any, user_id: int, step: int) -> bool:
    """One batch of one step (0 … SWEEPS - 1); whether there may be more of it."""
    done = await conn.execute(_SWEEPS[step], user_id, BATCH)
    return int(str(done).rpartition(" ")[2]) >= BATCH


async def streams(conn: Any, user_id: int) -> list[OwnedStream]:
    rows = await conn.fetch(
        "SELECT id, room_id FROM streams WHERE owner_id = $1 ORDER BY id LIMIT 100", user_id
    )
    return [OwnedStream(*row) for row in rows]


async def rooms(conn: Any, user_id: int, after: int) -> list[int]:
    """Rooms he is in or owns, but for private conversations, by id from after `after`."""
    rows = await conn.fetch(
        """SELECT m.room_id AS id FROM room_members m JOIN rooms r ON r.id = m.room_id
           WHERE m.user_id = $1 AND m.room_id > $2 AND r.kind <> 'direct'
           UNION SELECT id FROM rooms WHERE owner_id = $1 AND id > $2
           ORDER BY id LIMIT 100""",
        user_id,
        after,
    )
    return [row[0] for row in rows]


async def spoke_in(conn: Any, user_id: int) -> list[int]:
    """The rooms in which something was said by him. One look into the index for each."""
    rows = await conn.fetch(
        """WITH RECURSIVE found AS (
               SELECT min(room_id) AS room_id FROM messages WHERE user_id = $1
               UNION ALL
               SELECT (SELECT min(m.room_id) FROM messages m WHERE m.user_id = $1 AND m.room_id > f.room_id)
               FROM found f WHERE f.room_id IS NOT NULL
           ) SELECT room_id FROM found WHERE room_id IS NOT NULL""",
        user_id,
    )
    return [row[0] for row in rows]


async def take_tracks(conn: Any, user_id: int) -> list[tuple[int, str]]:
    """Remove some of his tracks with all that hangs on them; ids and names, whose files are to go next."""
    rows = await conn.fetch(
        "SELECT id, name FROM tracks WHERE owner_id = $1 ORDER BY id LIMIT 20 FOR UPDATE", user_id
    )
    ids = [row[0] for row in rows]
    if ids:
        await conn.execute("DELETE FROM uploads WHERE track_id = ANY ($1::bigint[])", ids)
        await conn.execute("DELETE FROM tracks WHERE id = ANY ($1::bigint[])", ids)
    return [(row[0], row[1]) for row in rows]


async def uploads(conn: Any, user_id: int) -> list[UUID]:
    """Resumable uploads of his."""
    rows = await conn.fetch("SELECT id FROM uploads WHERE user_id = $1 ORDER BY id LIMIT 1000", user_id)
    return [row[0] for row in rows]


async def drop_uploads(conn: Any, upload_ids: list[UUID]) -> None:
    await conn.execute("DELETE FROM uploads WHERE id = ANY ($1::uuid[])", upload_ids)


async def listings(conn: Any, user_id: int) -> list[int]:
    """All he ever offered: of each there may be files."""
    rows = await conn.fetch("SELECT id FROM listings WHERE owner_id = $1 ORDER BY id", user_id)
    return [row[0] for row in rows]


async def done(conn: Any, user_id: int) -> None:
    """Nothing is left."""
    await conn.execute("DELETE FROM deletions WHERE user_id = $1", user_id)
