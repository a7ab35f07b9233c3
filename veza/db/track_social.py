"""What people do with tracks: like them, pass them on, say something at a moment in them.

The counts in `tracks` follow by themselves (triggers), in the same transaction. Who may see a track is asked of
`tracks.visible`, in the same transaction too; who has blocked whom, of `follows.between`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db import follows, outbox, tracks
from veza.db.keys import Stamp, joined
from veza.db.outbox import Event
from veza.db.tracks import COLUMNS, VISIBLE, Track, TrackOwner, made

Kind = Literal["like", "repost"]
# "gone": there is no such thing for this person.
Outcome = Literal["done", "gone", "blocked", "blocking", "late", "denied"]

_TABLES: Final[dict[Kind, str]] = {"like": "track_likes", "repost": "track_reposts"}


class Mark(msgspec.Struct, frozen=True):
    """How a like or a repost ended; the track's counts as they are afterwards."""

    outcome: Outcome
    like_count: int = 0
    repost_count: int = 0


class Comment(msgspec.Struct, frozen=True):
    """Something said at a moment of a track. `user` is null once that account is gone."""

    id: int
    track_id: int
    user: TrackOwner | None
    content: str
    at_ms: int
    created_at: datetime

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Comment {self.id}>"


class Comments(msgspec.Struct, frozen=True):
    """A page; `total` is the track's own count, so nothing is counted."""

    comments: list[Comment]
    total: int
    next: str | None


class TrackPage(msgspec.Struct, frozen=True):
    tracks: list[Track]
    next: str | None


async def _about(conn: Any, track_id: int, person: int) -> tuple[Outcome, Track | None]:
    """May this person do something with the track?"""
    track = await tracks.visible(conn, track_id, person)
    if track is None:
        return "gone", None
    why = await follows.between(conn, person, track.owner.id)
    return ("blocked" if why == "blocked" else "blocking" if why == "blocking" else "done"), track


def _told(kind: str, track: Track, person: int, key: str, **more: int) -> Event:
    """Its owner hears of it."""
    return Event(kind, track.owner.id, person, key, {"track_id": track.id, "title": track.title, **more})


async def mark(conn: Any, kind: Kind, track_id: int, person: int) -> Mark:
    """Like or repost a track; nothing happens where one does already."""
    outcome, track = await _about(conn, track_id, person)
    if outcome != "done" or track is None:
        return Mark(outcome)
    done = await conn.execute(
        f"INSERT INTO {_TABLES[kind]} (track_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        track_id,
        person,
    )
    if not str(done).endswith(" 0"):
        await outbox.put(conn, _told(kind, track, person, f"{kind}:{track_id}:{person}"))
    return await _counts(conn, track_id)


async def unmark(conn: Any, kind: Kind, track_id: int, person: int) -> Mark:
    """Take a like or a repost back. It can be taken back from a track one may no longer see."""
    removed = await conn.execute(
        f"DELETE FROM {_TABLES[kind]} WHERE track_id = $1 AND user_id = $2", track_id, person
    )
    if str(removed).endswith(" 0") and await tracks.visible(conn, track_id, person) is None:
        return Mark("gone")
    return await _counts(conn, track_id)


async def _counts(conn: Any, track_id: int) -> Mark:
    row = await conn.fetchrow("SELECT like_count, repost_count FROM tracks WHERE id = $1", track_id)
    return Mark("gone") if row is None else Mark("done", *row)


async def liked(conn: Any, person: int, after: Stamp | None, limit: int) -> TrackPage:
    """The tracks a person likes and may (still) see, the latest like first."""
    where = "" if after is None else "AND (x.created_at, x.track_id) < ($3, $4)"
    rows = await conn.fetch(
        f"""SELECT x.created_at AS at, {COLUMNS} FROM track_likes x
            JOIN tracks t ON t.id = x.track_id JOIN users u ON u.id = t.owner_id
            WHERE x.user_id = $1 AND {VISIBLE} {where}
            ORDER BY x.created_at DESC, x.track_id DESC LIMIT $2""",
        person,
        limit + 1,
        *(() if after is None else (after.at, after.id)),
    )
    page = [(row[0], made(tuple(row)[1:])) for row in rows[:limit]]
    next_ = str(Stamp(page[-1][0], page[-1][1].id)) if len(rows) > limit else None
    return TrackPage([track for _, track in page], next_)


async def of_person(conn: Any, owner: int, reader: int | None, before: int | None, limit: int) -> TrackPage:
    """A person's tracks as far as the reader may see them, the newest first."""
    where, args = ("", ()) if before is None else ("AND t.id < $4", (before,))
    rows = await conn.fetch(
        f"""SELECT {COLUMNS} FROM tracks t JOIN users u ON u.id = t.owner_id
            WHERE t.owner_id = $2 AND {VISIBLE} {where} ORDER BY t.id DESC LIMIT $3""",
        reader,
        owner,
        limit + 1,
        *args,
    )
    page = [made(row) for row in rows[:limit]]
    return TrackPage(page, joined(page[-1].id) if len(rows) > limit else None)


# Comments --------------------------------------------------------------------------------------------

_COMMENT: Final = "c.id, c.track_id, u.id, u.username, u.avatar, c.content, c.at_ms, c.created_at"


def _comment(row: Any) -> Comment:
    id, track_id, user_id, username, avatar, content, at_ms, created_at = row
    user = None if user_id is None else TrackOwner(user_id, username, avatar)
    return Comment(id, track_id, user, content, at_ms, created_at)


async def comment(conn: Any, track_id: int, person: int, content: str, at_ms: int) -> Outcome | Comment:
    """Say something at a moment of a track. "late": the track is over by then, or nobody knows yet how long it is."""
    outcome, track = await _about(conn, track_id, person)
    if outcome != "done" or track is None:
        return outcome
    if at_ms > (track.duration_ms or 0):
        return "late"
    row = await conn.fetchrow(
        f"""WITH c AS (INSERT INTO track_comments (track_id, user_id, content, at_ms) VALUES ($1, $2, $3, $4)
                       RETURNING *)
            SELECT {_COMMENT} FROM c LEFT JOIN users u ON u.id = c.user_id""",
        track_id,
        person,
        content,
        at_ms,
    )
    made_ = _comment(row)
    await outbox.put(conn, _told("comment", track, person, f"comment:{made_.id}", comment_id=made_.id))
    return made_


async def newest_comments(
    conn: Any, track_id: int, reader: int | None, before: int | None, limit: int
) -> Comments | None:
    """What was said about a track, the newest first; None: no such track for the reader.

    What people say whom the reader has blocked is left out.
    """
    where, args = ("", ()) if before is None else ("AND c.id < $4", (before,))
    found = await _comments(conn, track_id, reader, limit, where, "c.id DESC", args)
    if found is None:
        return None
    comments, total, more = found
    return Comments(comments, total, joined(comments[-1].id) if more else None)


async def timed_comments(
    conn: Any,
    track_id: int,
    reader: int | None,
    from_ms: int,
    to_ms: int | None,
    after: tuple[int, int] | None,
    limit: int,
) -> Comments | None:
    """The same in the order of the music: those from `from_ms` up to, not including, `to_ms`."""
    args: list[int] = list(after or (from_ms, 0))
    where = "AND (c.at_ms, c.id) > ($4, $5)"
    if to_ms is not None:
        args.append(to_ms)
        where += " AND c.at_ms < $6"
    found = await _comments(conn, track_id, reader, limit, where, "c.at_ms, c.id", tuple(args))
    if found is None:
        return None
    comments, total, more = found
    return Comments(comments, total, joined(comments[-1].at_ms, comments[-1].id) if more else None)


async def _comments(
    conn: Any, track_id: int, reader: int | None, limit: int, where: str, order: str, args: tuple[int, ...]
) -> tuple[list[Comment], int, bool] | None:
    total = await conn.fetchval(
        f"SELECT t.comment_count FROM tracks t JOIN users u ON u.id = t.owner_id WHERE t.id = $2 AND {VISIBLE}",
        reader,
        track_id,
    )
    if total is None:
        return None
    rows = await conn.fetch(
        f"""SELECT {_COMMENT} FROM track_comments c LEFT JOIN users u ON u.id = c.user_id
            WHERE c.track_id = $1 AND NOT EXISTS
                (SELECT FROM blocks b WHERE b.blocker_id = $2 AND b.blocked_id = c.user_id) {where}
            ORDER BY {order} LIMIT $3""",
        track_id,
        reader,
        limit + 1,
        *args,
    )
    return [_comment(row) for row in rows[:limit]], total, len(rows) > limit


async def remove_comment(conn: Any, track_id: int, comment_id: int, person: int) -> Outcome:
    """Delete a comment: its author or the track's owner; others are "denied"."""
    row = await conn.fetchrow(
        f"""SELECT c.user_id = $1, t.owner_id = $1, {VISIBLE}
            FROM track_comments c JOIN tracks t ON t.id = c.track_id JOIN users u ON u.id = t.owner_id
            WHERE c.id = $2 AND c.track_id = $3""",
        person,
        comment_id,
        track_id,
    )
    if row is None:
        return "gone"
    author, owner, visible = row
    if not (author or owner):
        return "denied" if visible else "gone"
    await conn.execute("DELETE FROM track_comments WHERE id = $1", comment_id)
    return "done"
