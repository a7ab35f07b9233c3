"""What people are told: stored, counted, read, wanted or not. Nobody sees anybody else's.

What a notification says of others (their name, a message's beginning) is joined when it is read, never stored: a
message that was deleted, or is in a room its reader was sent away from, is quoted to nobody, and a listing that
moderators removed is not named.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from veza.db.keys import joined

EXCERPT: Final = 140  # characters of a message
KEPT: Final = 1_000  # a person, at most
KEPT_DAYS: Final = 90  # those that were read
UNTOLD: Final = 100  # that are sent to somebody who comes back
_TIDIED_AT_ONCE: Final = 5_000


class Wanted(msgspec.Struct, frozen=True):
    """Where somebody wants to hear of one kind of thing."""

    socket: bool = True
    email: bool = False


# Every kind there is, and where it is told unless somebody says otherwise.
DEFAULTS: Final[Mapping[str, Wanted]] = {
    "mention": Wanted(email=True),
    "reply": Wanted(email=True),
    "direct_message": Wanted(email=True),
    "follow": Wanted(),
    "like": Wanted(),
    "repost": Wanted(),
    "comment": Wanted(),
    "offer": Wanted(email=True),
    "listing": Wanted(),
    "stream_started": Wanted(),
    "track_ready": Wanted(),
    "moderation": Wanted(email=True),
}
MAILED: Final = [kind for kind, wanted in DEFAULTS.items() if wanted.email]


class Notification(msgspec.Struct, frozen=True):
    """One, as its reader sees it now. `user_id`, `username` and `avatar` are whose act it was; None: the house's.

    `data` are the fields of its kind, `room` (a public room's name, another's id) and `excerpt` those of a message.
    """

    id: int
    kind: str
    created_at: datetime
    read_at: datetime | None
    user_id: int | None
    username: str | None
    avatar: str | None
    room: str | int | None
    excerpt: str | None
    data: dict[str, Any]

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Notification {self.id} {self.kind}>"

    def flat(self) -> dict[str, Any]:
        """The public form: one level of fields, those that say nothing left out."""
        about: dict[str, Any] = {"id": self.id, "kind": self.kind, "created_at": self.created_at}
        if self.read_at is not None:
            about["read_at"] = self.read_at
        if self.user_id is not None:
            about |= {"user_id": self.user_id, "username": self.username, "avatar": self.avatar}
        if self.room is not None:
            about["room"] = self.room
        if self.excerpt is not None:
            about["excerpt"] = self.excerpt
        return {**self.data, **about}


class Page(msgspec.Struct, frozen=True):
    notifications: list[Notification]
    unread: int
    next: str | None


class Standing(msgspec.Struct, frozen=True):
    """What somebody has not read and not been told, all as of one moment.

    `last_id` is the highest there was then: what is above it came later. `untold` are the newest UNTOLD, ascending.
    """

    unread: int
    last_id: int
    untold: list[Notification]


# Behind `FROM notifications n`: the actor, and the message with its room as far as the reader is a member.
VIEW: Final = """n.id, n.kind, n.created_at, n.read_at, n.actor_id, a.username, a.avatar,
    x.room_kind, x.room_name, x.room_id, x.excerpt, CASE WHEN n.kind = 'listing' AND EXISTS (
        SELECT FROM listings l WHERE l.id = (n.data->>'listing_id')::bigint AND l.status = 'removed'
    ) THEN n.data - 'title' ELSE n.data END::text"""
JOINED: Final = f"""LEFT JOIN users a ON a.id = n.actor_id
    LEFT JOIN LATERAL (
        SELECT r.kind AS room_kind, r.name AS room_name, r.id AS room_id, left(m.content, {EXCERPT}) AS excerpt
        FROM room_members rm JOIN rooms r ON r.id = rm.room_id
        LEFT JOIN messages m ON m.id = (n.data->>'message_id')::bigint AND m.room_id = r.id AND m.deleted_at IS NULL
        WHERE n.kind IN ('mention', 'reply', 'direct_message')
            AND rm.room_id = (n.data->>'room_id')::bigint AND rm.user_id = n.user_id
    ) AS x ON true"""
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def made(row: Sequence[Any]) -> Notification:
    """Of the columns of VIEW."""
    id, kind, created, read, actor, username, avatar, room_kind, name, room_id, excerpt, data = row
    room = name if room_kind == "public" else room_id
    return Notification(id, kind, created, read, actor, username, avatar, room, excerpt, _decode(data))


async def standings(conn: Any, user_ids: Sequence[int]) -> dict[int, Standing]:
    """Everybody's, in one query and so as of one moment."""
    rows = await conn.fetch(
        f"""SELECT p.id, (SELECT count(*) FROM notifications c WHERE c.user_id = p.id AND c.read_at IS NULL),
                   coalesce((SELECT max(c.id) FROM notifications c WHERE c.user_id = p.id), 0), v.*
            FROM unnest($1::bigint[]) AS p (id)
            LEFT JOIN LATERAL (
                SELECT {VIEW} FROM (
                    SELECT * FROM notifications u WHERE u.user_id = p.id AND u.told_at IS NULL
                    ORDER BY u.id DESC LIMIT {UNTOLD}
                ) AS n {JOINED}
            ) AS v ON true ORDER BY v.id""",
        list(user_ids),
    )
    found: dict[int, Standing] = {}
    for user_id, unread, last_id, *view in rows:
        if user_id not in found:
            found[user_id] = Standing(unread, last_id, [])
        if view[0] is not None:
            found[user_id].untold.append(made(view))
    return found


async def told(conn: Any, ids: Collection[int]) -> None:
    """These went out to their people. Doing it twice does no harm."""
    await conn.execute(
        "UPDATE notifications SET told_at = now() WHERE id = ANY ($1::bigint[]) AND told_at IS NULL",
        list(ids),
    )


async def pass_over(conn: Any, user_id: int, before: int) -> None:
    """What somebody has not been told and is older than this is in his list, and told no more."""
    await conn.execute(
        "UPDATE notifications SET told_at = now() WHERE user_id = $1 AND id < $2 AND told_at IS NULL",
        user_id,
        before,
    )


async def page(
    conn: Any, user_id: int, *, unread: bool, kind: str | None, before: int | None, limit: int
) -> Page:
    """Somebody's notifications, the newest first; `unread`: those he has not read, `kind`: of one kind."""
    where, args = "n.user_id = $1", [user_id, limit + 1]
    if unread:
        where += " AND n.read_at IS NULL"
    if kind is not None:
        args.append(kind)  # type: ignore[arg-type]
        where += f" AND n.kind = ${len(args)}"
    if before is not None:
        args.append(before)
        where += f" AND n.id < ${len(args)}"
    rows = await conn.fetch(
        f"SELECT {VIEW} FROM (SELECT * FROM notifications n WHERE {where} ORDER BY n.id DESC LIMIT $2) AS n"
        f" {JOINED} ORDER BY n.id DESC",
        *args,
    )
    found = [made(row) for row in rows[:limit]]
    return Page(found, await unread_count(conn, user_id), joined(found[-1].id) if len(rows) > limit else None)


async def unread_count(conn: Any, user_id: int) -> int:
    return int(
        await conn.fetchval(
            "SELECT count(*) FROM notifications WHERE user_id = $1 AND read_at IS NULL", user_id
        )
    )


async def read(conn: Any, user_id: int, id: int) -> int | None:
    """He has read it (now, or already). How many are unread then; None where he has no such notification."""
    done = await conn.execute(
        "UPDATE notifications SET read_at = coalesce(read_at, now()), told_at = coalesce(told_at, now())"
        " WHERE id = $2 AND user_id = $1",
        user_id,
        id,
    )
    return None if str(done).endswith(" 0") else await unread_count(conn, user_id)


async def delete(conn: Any, user_id: int, id: int) -> int | None:
    """How many are unread then; None where he has no such notification."""
    done = await conn.execute("DELETE FROM notifications WHERE id = $2 AND user_id = $1", user_id, id)
    return None if str(done).endswith(" 0") else await unread_count(conn, user_id)


async def read_all(conn: Any, user_id: int, up_to: int | None) -> tuple[int, int]:
    """He has read all up to this one, or all there are: up to which that is, and how many are unread then."""
    if up_to is None:
        up_to = int(
            await conn.fetchval("SELECT coalesce(max(id), 0) FROM notifications WHERE user_id = $1", user_id)
        )
    await conn.execute(
        "UPDATE notifications SET read_at = now(), told_at = coalesce(told_at, now())"
        " WHERE user_id = $1 AND read_at IS NULL AND id <= $2",
        user_id,
        up_to,
    )
    return up_to, await unread_count(conn, user_id)


async def preferences(conn: Any, user_id: int) -> dict[str, Wanted]:
    """Where he wants to hear of each kind, in the order of DEFAULTS."""
    rows = await conn.fetch(
        "SELECT kind, socket, email FROM notification_preferences WHERE user_id = $1", user_id
    )
    chosen = {kind: Wanted(socket, email) for kind, socket, email in rows}
    return {kind: chosen.get(kind, default) for kind, default in DEFAULTS.items()}


async def prefer(
    conn: Any, user_id: int, changes: Mapping[str, tuple[bool | None, bool | None]]
) -> dict[str, Wanted]:
    """Change what he wants of some kinds (socket, e-mail; None leaves it as it is); all he wants then."""
    now = await preferences(conn, user_id)
    changed = {
        kind: Wanted(
            now[kind].socket if socket is None else socket, now[kind].email if email is None else email
        )
        for kind, (socket, email) in changes.items()
    }
    await conn.execute(
        """INSERT INTO notification_preferences (user_id, kind, socket, email)
           SELECT $1, w.* FROM unnest($2::text[], $3::boolean[], $4::boolean[]) AS w
           ON CONFLICT (user_id, kind) DO UPDATE SET socket = excluded.socket, email = excluded.email""",
        user_id,
        list(changed),
        [w.socket for w in changed.values()],
        [w.email for w in changed.values()],
    )
    return {**now, **changed}


async def purge(conn: Any) -> int:
    """Delete some of what was read long ago, and of what is beyond KEPT of one person; how many went."""
    done = await conn.execute(
        f"""DELETE FROM notifications WHERE id IN (
                SELECT id FROM notifications
                WHERE read_at IS NOT NULL AND created_at < now() - interval '{KEPT_DAYS} days'
                ORDER BY id LIMIT {_TIDIED_AT_ONCE})"""
    )
    gone = int(str(done).rpartition(" ")[2])
    done = await conn.execute(
        f"""DELETE FROM notifications WHERE id IN (
                SELECT n.id FROM (SELECT user_id FROM notifications GROUP BY user_id HAVING count(*) > {KEPT}) AS p,
                    LATERAL (SELECT id FROM notifications o WHERE o.user_id = p.user_id
                             ORDER BY o.id DESC OFFSET {KEPT}) AS n
                LIMIT {_TIDIED_AT_ONCE})"""
    )
    return gone + int(str(done).rpartition(" ")[2])
