"""Things that moderators take away: with the act in the audit log and the owner told, in the transaction of the act.

Whose it is must be below the actor as both are in this transaction. Files that go with a thing are the caller's to
remove, after the commit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from veza.db import audit, avatars, listings, messages, outbox, playlists, tracks
from veza.db.audit import Act
from veza.db.messages import Message
from veza.db.powers import Check, hold, moderation


class Why(msgspec.Struct, frozen=True):
    """Who takes it away, and why. `report_id`: on account of that report.

    Attributes:
        check: given the roles of the actor and of whose it is ('': of nobody); raises what forbids it.
    """

    act: Act
    reason: str | None
    report_id: int | None
    check: Check

    def __repr__(self) -> str:
        return f"<Why of {self.act.actor_id}>"


async def message(conn: Any, room_id: int, message_id: int, why: Why) -> Message | None:
    """A message; the row stays, what it said goes. None: there is no such message."""
    author = await conn.fetchrow(
        "SELECT user_id FROM messages WHERE room_id = $1 AND id = $2 AND deleted_at IS NULL",
        room_id,
        message_id,
    )
    if author is None:
        return None
    await _allow(conn, why, author["user_id"])
    gone = await messages.delete(conn, room_id, message_id, why.act.actor_id, lambda _: None)
    if gone is not None:
        await _done(conn, why, "message", message_id, author["user_id"])
    return gone


async def room_of(conn: Any, message_id: int) -> int | None:
    """Where a message is, whoever asks: for moderators."""
    found = await conn.fetchval("SELECT room_id FROM messages WHERE id = $1", message_id)
    return None if found is None else int(found)


async def track(conn: Any, track_id: int, why: Why) -> str | None:
    """A track; its name, whose files are to go next. None: there is no such track."""
    found = await conn.fetchrow("SELECT owner_id, title FROM tracks WHERE id = $1", track_id)
    if found is None:
        return None
    await _allow(conn, why, found["owner_id"])
    name = await tracks.delete(conn, track_id, None)
    if name is not None:
        await _done(conn, why, "track", track_id, found["owner_id"], title=found["title"])
    return name


async def comment(conn: Any, comment_id: int, why: Why, track_id: int | None = None) -> bool:
    """A comment of a track (`track_id`: of this one); False: there is no such comment."""
    author = await conn.fetchrow(
        "SELECT user_id FROM track_comments WHERE id = $1 AND ($2::bigint IS NULL OR track_id = $2)",
        comment_id,
        track_id,
    )
    if author is None:
        return False
    await _allow(conn, why, author["user_id"])
    done = await conn.execute("DELETE FROM track_comments WHERE id = $1", comment_id)
    if done.endswith(" 0"):
        return False
    await _done(conn, why, "comment", comment_id, author["user_id"])
    return True


async def listing(conn: Any, listing_id: int, why: Why) -> bool:
    """A listing; what was offered for it is rejected. False: there is no such listing."""
    owner = await conn.fetchval(
        "SELECT owner_id FROM listings WHERE id = $1 AND status <> 'removed'", listing_id
    )
    if owner is None:
        return False
    await _allow(conn, why, owner)
    if await listings.remove(conn, listing_id, None) is None:
        return False
    await _done(conn, why, "listing", listing_id, owner)
    return True


async def stream(conn: Any, stream_id: int, why: Why) -> bool:
    """That a live stream is to end; its actor ends it next. False: there is none that has not ended.

    Told once, however often it is asked for.
    """
    found = await conn.fetchrow(
        "SELECT owner_id, title, state FROM streams WHERE id = $1 FOR NO KEY UPDATE", stream_id
    )
    if found is None:
        return False
    await _allow(conn, why, found["owner_id"])
    if found["state"] == "ended":
        return False
    await _done(
        conn,
        why,
        "stream",
        stream_id,
        found["owner_id"],
        action="stream.end",
        title=found["title"],
        key=f"stream-{stream_id}",
    )
    return True


async def playlist(conn: Any, playlist_id: int, why: Why) -> bool:
    """A playlist; its tracks stay. False: there is no such playlist."""
    found = await conn.fetchrow("SELECT owner_id, title FROM playlists WHERE id = $1", playlist_id)
    if found is None:
        return False
    await _allow(conn, why, found["owner_id"])
    if not await playlists.remove(conn, playlist_id, found["owner_id"]):
        return False
    await _done(conn, why, "playlist", playlist_id, found["owner_id"], title=found["title"])
    return True


async def name(conn: Any, user_id: int, why: Why) -> bool:
    """Somebody's first and last name; False: he has none. The username stays: by that he is known and logs in."""
    if not await conn.fetchval(
        "SELECT first_name IS NOT NULL OR last_name IS NOT NULL FROM users WHERE id = $1", user_id
    ):
        return False
    await _allow(conn, why, user_id)
    await conn.execute(
        "UPDATE users SET first_name = NULL, last_name = NULL, updated_at = now() WHERE id = $1", user_id
    )
    await _done(conn, why, "name", user_id, user_id)
    return True


async def bio(conn: Any, user_id: int, why: Why) -> bool:
    """What somebody says of himself; False: he says nothing."""
    if not await conn.fetchval("SELECT bio IS NOT NULL FROM users WHERE id = $1", user_id):
        return False
    await _allow(conn, why, user_id)
    await conn.execute("UPDATE users SET bio = NULL, updated_at = now() WHERE id = $1", user_id)
    await _done(conn, why, "bio", user_id, user_id)
    return True


async def avatar(conn: Any, user_id: int, why: Why) -> bool:
    """Somebody's picture; False: he has none."""
    if not await conn.fetchval("SELECT avatar IS NOT NULL FROM users WHERE id = $1", user_id):
        return False
    await _allow(conn, why, user_id)
    await avatars.put(conn, user_id, None)
    await _done(conn, why, "avatar", user_id, user_id)
    return True


async def _allow(conn: Any, why: Why, owner_id: int | None) -> None:
    await hold(conn, why.act.actor_id, owner_id, why.check)


async def _done(
    conn: Any,
    why: Why,
    what: str,
    target_id: int,
    owner_id: int | None,
    *,
    action: str | None = None,
    title: str | None = None,
    key: str | None = None,
) -> None:
    details = {"title": title, "owner_id": owner_id, "reason": why.reason, "report_id": why.report_id}
    entry = await audit.record(conn, why.act, action or f"{what}.delete", what, target_id, details)
    if owner_id is not None:
        key = f"removed:{key or entry}"
        told = moderation(owner_id, "removed", key, reason=why.reason, target_type=what, target_id=target_id)
        await outbox.put(conn, told)
