"""Who follows whom, who has blocked whom, and the lists of them.

A block and a follow between the same two people take turns (an advisory lock of the pair, held to the end of the
transaction): a follow that was on its way when the block came must not outlive it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from msgspec import structs

from veza.db import outbox, users
from veza.db.keys import Stamp
from veza.db.outbox import Event
from veza.db.users import Profile

# How one asked for a tie to somebody ended: it is there (now or already), or why not.
Outcome = Literal["done", "already", "nobody", "blocked", "blocking", "full"]

COUNTED: Final = 100_000  # followers are counted up to here and no further
_PROFILE: Final = "u.id, u.username, u.first_name, u.last_name, u.bio, u.avatar, u.created_at"


class Ties(msgspec.Struct, frozen=True):
    """How many follow a person, how many he follows, how many public tracks he has; how the reader stands to him.

    The first two are counted up to `COUNTED`.
    """

    follower_count: int
    following_count: int
    track_count: int
    is_following: bool  # the reader follows him
    follows_me: bool  # he follows the reader
    is_blocked: bool  # the reader has blocked him
    is_muted: bool  # the reader hears nothing of what he does


class Person(Profile, frozen=True):
    """Somebody's public side, with his ties. See `Ties`."""

    follower_count: int
    following_count: int
    track_count: int
    is_following: bool
    follows_me: bool
    is_blocked: bool
    is_muted: bool


class Page(msgspec.Struct, frozen=True):
    """People, the latest tie first; `next` None: no more follow."""

    people: list[Profile]
    next: str | None


async def _take_turns(conn: Any, one: int, other: int) -> None:
    await conn.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('tie ' || least($1::bigint, $2::bigint) || ' '"
        " || greatest($1::bigint, $2::bigint), 0))",
        one,
        other,
    )


async def between(conn: Any, one: int, other: int) -> Outcome | None:
    """What a block says of something `one` wants of `other`: "blocked", "blocking" (his own block), or nothing."""
    rows = await conn.fetch(
        "SELECT blocker_id FROM blocks WHERE (blocker_id = $1 AND blocked_id = $2)"
        " OR (blocker_id = $2 AND blocked_id = $1)",
        one,
        other,
    )
    blockers = {row[0] for row in rows}
    return "blocked" if other in blockers else "blocking" if one in blockers else None


async def _is_there(conn: Any, user_id: int) -> bool:
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = $1 AND is_active)", user_id))


async def follow(conn: Any, follower: int, followed: int, most: int) -> Outcome:
    """Follow somebody. "full": `most` are followed already."""
    await _take_turns(conn, follower, followed)
    if not await _is_there(conn, followed):
        return "nobody"
    if (why := await between(conn, follower, followed)) is not None:
        return why
    held = await conn.fetchval("SELECT count(*) FROM follows WHERE follower_id = $1", follower)
    known = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM follows WHERE follower_id = $1 AND followed_id = $2)", follower, followed
    )
    if known:
        return "already"
    if held >= most:
        return "full"
    await conn.execute(
        "INSERT INTO follows (follower_id, followed_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        follower,
        followed,
    )
    await outbox.put(conn, Event("follow", followed, follower, f"follow:{follower}"))
    return "done"


async def unfollow(conn: Any, follower: int, followed: int) -> bool:
    """Follow somebody no longer; False where one did not."""
    done = await conn.execute(
        "DELETE FROM follows WHERE follower_id = $1 AND followed_id = $2", follower, followed
    )
    return not str(done).endswith(" 0")


async def block(conn: Any, blocker: int, blocked: int, most: int) -> Outcome:
    """Block somebody; neither follows the other any more. "full": `most` are blocked already."""
    await _take_turns(conn, blocker, blocked)
    # An account that was disabled may be blocked too: it may come back.
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = $1)", blocked):
        return "nobody"
    known = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM blocks WHERE blocker_id = $1 AND blocked_id = $2)", blocker, blocked
    )
    if known:
        return "already"
    if await conn.fetchval("SELECT count(*) FROM blocks WHERE blocker_id = $1", blocker) >= most:
        return "full"
    await conn.execute("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)", blocker, blocked)
    await conn.execute(
        "DELETE FROM follows WHERE (follower_id = $1 AND followed_id = $2)"
        " OR (follower_id = $2 AND followed_id = $1)",
        blocker,
        blocked,
    )
    return "done"


async def unblock(conn: Any, blocker: int, blocked: int) -> bool:
    """Block somebody no longer; False where one did not. Who followed whom before does not come back."""
    await _take_turns(conn, blocker, blocked)
    done = await conn.execute(
        "DELETE FROM blocks WHERE blocker_id = $1 AND blocked_id = $2", blocker, blocked
    )
    return not str(done).endswith(" 0")


async def mute(conn: Any, muter: int, muted: int, most: int) -> Outcome:
    """Be told nothing of what somebody does. "full": `most` are muted already."""
    if not await conn.fetchval("SELECT EXISTS (SELECT FROM users WHERE id = $1)", muted):
        return "nobody"
    known = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM mutes WHERE muter_id = $1 AND muted_id = $2)", muter, muted
    )
    if known:
        return "already"
    if await conn.fetchval("SELECT count(*) FROM mutes WHERE muter_id = $1", muter) >= most:
        return "full"
    await conn.execute(
        "INSERT INTO mutes (muter_id, muted_id) VALUES ($1, $2) ON CONFLICT DO NOTHING", muter, muted
    )
    return "done"


async def unmute(conn: Any, muter: int, muted: int) -> bool:
    """Be told of it again; False where one was."""
    done = await conn.execute("DELETE FROM mutes WHERE muter_id = $1 AND muted_id = $2", muter, muted)
    return not str(done).endswith(" 0")


async def ties(conn: Any, user_id: int, reader_id: int) -> Ties:
    """One query; every part of it is a look into one index."""
    row = await conn.fetchrow(
        """SELECT (SELECT count(*) FROM (SELECT FROM follows WHERE followed_id = $1 LIMIT $3) AS counted),
                  (SELECT count(*) FROM (SELECT FROM follows WHERE follower_id = $1 LIMIT $3) AS counted),
                  (SELECT count(*) FROM tracks WHERE owner_id = $1 AND is_public AND status = 'ready'),
                  EXISTS (SELECT FROM follows WHERE follower_id = $2 AND followed_id = $1),
                  EXISTS (SELECT FROM follows WHERE follower_id = $1 AND followed_id = $2),
                  EXISTS (SELECT FROM blocks WHERE blocker_id = $2 AND blocked_id = $1),
                  EXISTS (SELECT FROM mutes WHERE muter_id = $2 AND muted_id = $1)""",
        user_id,
        reader_id,
        COUNTED,
    )
    return Ties(*row)


async def person(conn: Any, user_id: int, reader_id: int) -> Person | None:
    """Anybody's public side as the reader sees it; disabled accounts have none."""
    profile = await users.profile(conn, user_id)
    if profile is None:
        return None
    return Person(*structs.astuple(profile), *structs.astuple(await ties(conn, user_id, reader_id)))


async def followers(conn: Any, user_id: int, after: Stamp | None, limit: int) -> Page:
    """Who follows a person, the newest first."""
    return await _people(conn, "follows", "followed_id", "follower_id", user_id, after, limit)


async def following(conn: Any, user_id: int, after: Stamp | None, limit: int) -> Page:
    """Whom a person follows, the newest first."""
    return await _people(conn, "follows", "follower_id", "followed_id", user_id, after, limit)


async def blocks(conn: Any, user_id: int, after: Stamp | None, limit: int) -> Page:
    """Whom a person has blocked, the newest first. Disabled accounts are among them."""
    return await _people(conn, "blocks", "blocker_id", "blocked_id", user_id, after, limit, active="")


async def mutes(conn: Any, user_id: int, after: Stamp | None, limit: int) -> Page:
    """Whom a person has muted, the newest first. Disabled accounts are among them."""
    return await _people(conn, "mutes", "muter_id", "muted_id", user_id, after, limit, active="")


async def likers(conn: Any, track_id: int, after: Stamp | None, limit: int) -> Page:
    """Who likes a track, the newest first. Whether the reader may see the track is for the caller to ask."""
    return await _people(conn, "track_likes", "track_id", "user_id", track_id, after, limit)


async def _people(
    conn: Any,
    table: str,
    of: str,
    whom: str,
    id: int,
    after: Stamp | None,
    limit: int,
    active: str = "AND u.is_active",
) -> Page:
    # Written out by case: a plan that is good for both, with an OR in it, would read the list from its beginning.
    where = "" if after is None else f"AND (x.created_at, x.{whom}) < ($3, $4)"
    rows = await conn.fetch(
        f"""SELECT x.created_at, {_PROFILE} FROM {table} x JOIN users u ON u.id = x.{whom}
            WHERE x.{of} = $1 {active} {where} ORDER BY x.created_at DESC, x.{whom} DESC LIMIT $2""",
        id,
        limit + 1,
        *(() if after is None else (after.at, after.id)),
    )
    people = [(row[0], Profile(*row[1:])) for row in rows[:limit]]
    next_: str | None = None
    if len(rows) > limit:
        stamp: datetime = people[-1][0]
        next_ = str(Stamp(stamp, people[-1][1].id))
    return Page([profile for _, profile in people], next_)
