"""Rooms, their members, sanctions and invitations. A direct conversation is a room of kind `direct`.

Queries for a person show that person's rooms and the public ones, nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec


class Member(msgspec.Struct):
    """One membership as the room's actor holds it; `last_read_seq` moves, so it is not frozen."""

    user_id: int
    username: str
    role: str
    last_read_seq: int


class Sanction(msgspec.Struct, frozen=True):
    """A mute or a ban; `until` None means for good."""

    user_id: int
    kind: str
    until: datetime | None


class Room(msgspec.Struct, frozen=True):
    id: int
    kind: str
    name: str | None
    description: str | None
    owner_id: int | None
    people: tuple[int, int] | None
    slow_mode_s: int
    last_seq: int
    last_rev: int
    member_count: int
    created_at: datetime


class Loaded(msgspec.Struct, frozen=True):
    """All a room's actor starts with."""

    room: Room
    members: list[Member]
    sanctions: list[Sanction]


_COLUMNS = """r.id, r.kind, r.name, r.description, r.owner_id, r.user_low, r.user_high, r.slow_mode_s, r.last_seq,
    r.last_rev, r.member_count, r.created_at"""


def _room(row: Any) -> Room:
    id, kind, name, description, owner, low, high, slow, seq, rev, count, created = row
    people = None if low is None else (low, high)
    return Room(id, kind, name, description, owner, people, slow, seq, rev, count, created)


async def load(conn: Any, room_id: int) -> Loaded | None:
    row = await conn.fetchrow(f"SELECT {_COLUMNS} FROM rooms r WHERE r.id = $1", room_id)
    if row is None:
        return None
    members = await conn.fetch(
        "SELECT m.user_id, u.username, m.role, m.last_read_seq FROM room_members m JOIN users u ON u.id = m.user_id"
        " WHERE m.room_id = $1",
        room_id,
    )
    sanctions = await conn.fetch(
        "SELECT user_id, kind, until FROM room_sanctions WHERE room_id = $1 AND (until IS NULL OR until > now())",
        room_id,
    )
    return Loaded(_room(row), [Member(*m) for m in members], [Sanction(*s) for s in sanctions])


async def id_of_public(conn: Any, name: str) -> int | None:
    """The public room of that name, letter case aside."""
    found = await conn.fetchval(
        "SELECT id FROM rooms WHERE kind = 'public' AND lower(name) = lower($1)", name
    )
    return None if found is None else int(found)


async def create(conn: Any, owner_id: int, kind: str, name: str, description: str | None) -> Room:
    """Raises Conflict where a public room has the name."""
    room_id = await conn.fetchval(
        "INSERT INTO rooms (kind, name, description, owner_id, member_count) VALUES ($1, $2, $3, $4, 1) RETURNING id",
        kind,
        name,
        description,
        owner_id,
    )
    await conn.execute(
        "INSERT INTO room_members (room_id, user_id, role) VALUES ($1, $2, 'owner')", room_id, owner_id
    )
    return _room(await conn.fetchrow(f"SELECT {_COLUMNS} FROM rooms r WHERE r.id = $1", room_id))


async def create_within(
    conn: Any, most: int, owner_id: int, kind: str, name: str, description: str | None
) -> Room | None:
    """`create`, but None where the owner has `most` rooms already, not counting those of his streams.

    His row is held, so that rooms count in turn.
    """
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
    owned = await conn.fetchval(
        "SELECT count(*) FROM room_members m WHERE m.user_id = $1 AND m.role = 'owner'"
        " AND NOT EXISTS (SELECT FROM streams s WHERE s.room_id = m.room_id)",
        owner_id,
    )
    return None if owned >= most else await create(conn, owner_id, kind, name, description)


async def direct(conn: Any, one: int, other: int) -> int | None:
    """The conversation of two people, made on first use; None where either does not exist or is not active."""
    low, high = sorted((one, other))
    found = await conn.fetchval(
        "SELECT id FROM rooms WHERE kind = 'direct' AND user_low = $1 AND user_high = $2", low, high
    )
    if found is not None:
        return int(found)
    if await conn.fetchval("SELECT count(*) FROM users WHERE id IN ($1, $2) AND is_active", low, high) != 2:
        return None
    # Two first letters at once: the loser of the race reads what the winner made.
    await conn.execute(
        "INSERT INTO rooms (kind, user_low, user_high, member_count) VALUES ('direct', $1, $2, 2)"
        " ON CONFLICT (user_low, user_high) WHERE kind = 'direct' DO NOTHING",
        low,
        high,
    )
    room_id = await conn.fetchval(
        "SELECT id FROM rooms WHERE kind = 'direct' AND user_low = $1 AND user_high = $2", low, high
    )
    await conn.execute(
        "INSERT INTO room_members (room_id, user_id) VALUES ($1, $2), ($1, $3) ON CONFLICT DO NOTHING",
        room_id,
        low,
        high,
    )
    return int(room_id)


async def find_direct(conn: Any, one: int, other: int) -> int | None:
    low, high = sorted((one, other))
    found = await conn.fetchval(
        "SELECT id FROM rooms WHERE kind = 'direct' AND user_low = $1 AND user_high = $2", low, high
    )
    return None if found is None else int(found)


async def conversation(conn: Any, one: int, other: int) -> tuple[bool, int | None]:
    """Is there an `other` at all, and the id of the conversation the two have, if they have one."""
    found = await conn.fetchrow(
        "SELECT r.id FROM users u LEFT JOIN rooms r ON r.kind = 'direct' AND r.user_low = least($1, u.id)"
        " AND r.user_high = greatest($1, u.id) WHERE u.id = $2",
        one,
        other,
    )
    return found is not None, found[0] if found is not None else None


async def blocked_between(conn: Any, one: int, other: int) -> list[tuple[int, int]]:
    """Which of the two have blocked the other: (blocker, blocked) pairs. A deleted account takes no letters either."""
    rows = await conn.fetch(
        "SELECT blocker_id, blocked_id FROM blocks WHERE (blocker_id = $1 AND blocked_id = $2)"
        " OR (blocker_id = $2 AND blocked_id = $1)"
        " UNION SELECT id, $1 + $2 - id FROM users WHERE id IN ($1, $2) AND deleted_at IS NOT NULL",
        one,
        other,
    )
    return [(row[0], row[1]) for row in rows]


async def _recount(conn: Any, room_id: int, by: int) -> None:
    if by:
        await conn.execute("UPDATE rooms SET member_count = member_count + $2 WHERE id = $1", room_id, by)


async def add_members(
    conn: Any, room_id: int, user_ids: Sequence[int], codes: Sequence[str | None] = ()
) -> list[Member]:
    """Make people members; the new ones and those who were already come back alike. Read up to now from the start.

    Who comes with an invitation code (`codes`, one for each, None for who needs none) uses it up by one, unless a
    member already; who comes with one that is no good stays outside.
    """
    await conn.execute("SELECT 1 FROM rooms WHERE id = $1 FOR NO KEY UPDATE", room_id)
    if any(codes):
        user_ids = await _let_in(conn, room_id, user_ids, codes)
    added = await conn.fetch(
        # The owner who left an empty room comes back as its owner.
        "INSERT INTO room_members (room_id, user_id, role, last_read_seq)"
        " SELECT r.id, u, CASE WHEN r.owner_id = u THEN 'owner' ELSE 'member' END, r.last_seq"
        " FROM rooms r, unnest($2::bigint[]) AS u WHERE r.id = $1 ON CONFLICT DO NOTHING RETURNING user_id",
        room_id,
        list(user_ids),
    )
    await _recount(conn, room_id, len(added))
    rows = await conn.fetch(
        "SELECT m.user_id, u.username, m.role, m.last_read_seq FROM room_members m JOIN users u ON u.id = m.user_id"
        " WHERE m.room_id = $1 AND m.user_id = ANY ($2)",
        room_id,
        list(user_ids),
    )
    return [Member(*row) for row in rows]


async def _let_in(conn: Any, room_id: int, user_ids: Sequence[int], codes: Sequence[str | None]) -> list[int]:
    """Those of them who need no invitation, or whose invitation was good."""
    rows = await conn.fetch(
        "SELECT user_id FROM room_members WHERE room_id = $1 AND user_id = ANY ($2::bigint[])",
        room_id,
        list(user_ids),
    )
    inside = {int(row[0]) for row in rows} | {
        u for u, code in zip(user_ids, codes, strict=True) if code is None
    }
    for user_id, code in zip(user_ids, codes, strict=True):
        if user_id not in inside and code is not None and await redeem(conn, user_id, code) == room_id:
            inside.add(user_id)
    return [user_id for user_id in user_ids if user_id in inside]


async def remove_member(conn: Any, room_id: int, user_id: int) -> int | None:
    """End a membership. An owner's room goes to the moderator, else the member, who was there first; his id, if any."""
    await conn.execute("SELECT 1 FROM rooms WHERE id = $1 FOR NO KEY UPDATE", room_id)
    role = await conn.fetchval(
        "DELETE FROM room_members WHERE room_id = $1 AND user_id = $2 RETURNING role", room_id, user_id
    )
    await _recount(conn, room_id, 0 if role is None else -1)
    return await _bequeath(conn, room_id) if role == "owner" else None


class Departed(msgspec.Struct, frozen=True):
    """Somebody's account is gone: who has his room now, if anybody; whether the room went with him."""

    heir: int | None
    removed: bool


async def depart(conn: Any, room_id: int, user_id: int) -> Departed:
    """End the membership of a deleted account. Its room goes to the moderator, else the member, who was there first;
    a room with nobody left is deleted."""
    row = await conn.fetchrow(
        "SELECT kind, owner_id FROM rooms WHERE id = $1 AND kind <> 'direct' FOR NO KEY UPDATE", room_id
    )
    if row is None:
        return Departed(None, False)
    await conn.execute("DELETE FROM room_invites WHERE room_id = $1 AND by_user_id = $2", room_id, user_id)
    done = await conn.execute(
        "DELETE FROM room_members WHERE room_id = $1 AND user_id = $2", room_id, user_id
    )
    await _recount(conn, room_id, -int(done.rpartition(" ")[2]))
    owned = row["owner_id"] == user_id
    if owned and (heir := await _bequeath(conn, room_id)) is not None:
        return Departed(heir, False)
    empty = not await conn.fetchval("SELECT EXISTS (SELECT FROM room_members WHERE room_id = $1)", room_id)
    # Nobody could ever enter an empty private room again.
    if empty and (owned or row["kind"] == "private"):
        return Departed(None, await remove(conn, room_id))
    if owned:
        await conn.execute("UPDATE rooms SET owner_id = NULL WHERE id = $1", room_id)
    return Departed(None, False)


async def _bequeath(conn: Any, room_id: int) -> int | None:
    heir = await conn.fetchval(
        "SELECT m.user_id FROM room_members m JOIN users u ON u.id = m.user_id WHERE m.room_id = $1 AND u.is_active"
        " ORDER BY m.role = 'moderator' DESC, m.joined_at, m.user_id LIMIT 1",
        room_id,
    )
    if heir is None:
        return None
    await set_role(conn, room_id, heir, "owner")
    return int(heir)


async def set_role(conn: Any, room_id: int, user_id: int, role: str) -> None:
    """Give a role; a new owner also becomes the room's owner of record, and the old one a moderator."""
    if role == "owner":
        await conn.execute(
            "UPDATE room_members SET role = 'moderator' WHERE room_id = $1 AND role = 'owner'", room_id
        )
        await conn.execute("UPDATE rooms SET owner_id = $2 WHERE id = $1", room_id, user_id)
    await conn.execute(
        "UPDATE room_members SET role = $3 WHERE room_id = $1 AND user_id = $2", room_id, user_id, role
    )


async def platform_role(conn: Any, user_id: int) -> str | None:
    """The person's role on the platform; None where there is no such person."""
    found = await conn.fetchval("SELECT role FROM users WHERE id = $1", user_id)
    return None if found is None else str(found)


async def belongs(conn: Any, room_id: int, user_id: int) -> bool:
    """Is he a member?"""
    return bool(
        await conn.fetchval(
            "SELECT EXISTS (SELECT FROM room_members WHERE room_id = $1 AND user_id = $2)", room_id, user_id
        )
    )


async def sanction(
    conn: Any, room_id: int, user_id: int, kind: str, until: datetime | None, reason: str | None, by: int
) -> int | None:
    """Mute or ban (a ban ends membership too, and may give the room to an heir like `remove_member`)."""
    await conn.execute(
        "INSERT INTO room_sanctions (room_id, user_id, kind, until, reason, by_user_id) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (room_id, user_id, kind) DO UPDATE SET until = excluded.until, reason = excluded.reason,"
        " by_user_id = excluded.by_user_id, created_at = now()",
        room_id,
        user_id,
        kind,
        until,
        reason,
        by,
    )
    return await remove_member(conn, room_id, user_id) if kind == "ban" else None


async def lift(conn: Any, room_id: int, user_id: int, kind: str) -> bool:
    done = await conn.execute(
        "DELETE FROM room_sanctions WHERE room_id = $1 AND user_id = $2 AND kind = $3", room_id, user_id, kind
    )
    return not done.endswith(" 0")


async def update(
    conn: Any,
    room_id: int,
    name: str | None,
    description: str | None,
    kind: str | None,
    slow_mode_s: int | None,
) -> Room | None:
    """Change what is not None; an empty description takes it away. Raises Conflict where a public room has the name."""
    row = await conn.fetchrow(
        f"UPDATE rooms r SET name = coalesce($2, r.name), description = nullif(coalesce($3, r.description), ''),"
        f" kind = coalesce($4, r.kind), slow_mode_s = coalesce($5, r.slow_mode_s) WHERE r.id = $1 RETURNING {_COLUMNS}",
        room_id,
        name,
        description,
        kind,
        slow_mode_s,
    )
    return None if row is None else _room(row)


async def is_streams(conn: Any, room_id: int) -> bool:
    """Is it the room of a live stream?"""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM streams WHERE room_id = $1)", room_id))


async def seclude(conn: Any, room_id: int, but: int) -> tuple[Room, list[int]] | None:
    """Make the room private; everybody but its owner, its moderators and `but` is a member no more, and no invitation
    is good. The room, and who had to go; None if it is gone."""
    if not await conn.fetchval("SELECT true FROM rooms WHERE id = $1 FOR NO KEY UPDATE", room_id):
        return None
    gone = await conn.fetch(
        "DELETE FROM room_members WHERE room_id = $1 AND role = 'member' AND user_id <> $2 RETURNING user_id",
        room_id,
        but,
    )
    await conn.execute("DELETE FROM room_invites WHERE room_id = $1", room_id)
    row = await conn.fetchrow(
        "UPDATE rooms r SET kind = 'private', member_count = member_count - $2 WHERE r.id = $1"
        f" RETURNING {_COLUMNS}",
        room_id,
        len(gone),
    )
    return _room(row), [g[0] for g in gone]


async def remove(conn: Any, room_id: int) -> bool:
    done = await conn.execute("DELETE FROM rooms WHERE id = $1", room_id)
    return not done.endswith(" 0")


async def save_reads(
    conn: Any, room_ids: Sequence[int], user_ids: Sequence[int], seqs: Sequence[int]
) -> None:
    """Move read marks forward, never back: one element for each mark."""
    await conn.execute(
        "UPDATE room_members m SET last_read_seq = v.seq"
        " FROM (SELECT room_id, user_id, max(seq) AS seq FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])"
        "       AS v (room_id, user_id, seq) GROUP BY room_id, user_id ORDER BY room_id, user_id) AS v"
        " WHERE m.room_id = v.room_id AND m.user_id = v.user_id AND m.last_read_seq < v.seq",
        list(room_ids),
        list(user_ids),
        list(seqs),
    )


# Invitations ----------------------------------------------------------------------------------------

# Is the invitation `i` good, for whom it is meant? Only while its maker might make it still: who was banned, removed or
# demoted, or belonged to a room before it became private, lets nobody in. (What `RoomBase._may_invite` says, in SQL.)
_GOOD = """(i.uses_left IS NULL OR i.uses_left > 0) AND (i.expires_at IS NULL OR i.expires_at > now())
    AND EXISTS (SELECT 1 FROM room_members by_m JOIN rooms by_r ON by_r.id = by_m.room_id
                JOIN users by_u ON by_u.id = by_m.user_id
                WHERE by_m.room_id = i.room_id AND by_m.user_id = i.by_user_id
                  AND (by_r.kind = 'public' OR by_m.role <> 'member' OR by_u.role <> 'user'))"""


async def invite(
    conn: Any,
    room_id: int,
    by: int,
    code: str,
    for_user_id: int | None,
    uses: int | None,
    expires_at: datetime | None,
) -> None:
    await conn.execute(
        "INSERT INTO room_invites (code, room_id, by_user_id, for_user_id, uses_left, expires_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        code,
        room_id,
        by,
        for_user_id,
        uses,
        expires_at,
    )


async def invited_to(conn: Any, user_id: int, code: str) -> int | None:
    """The room an invitation is for: if `user_id` could use it now, or belongs to the room already."""
    room_id = await conn.fetchval(
        "SELECT i.room_id FROM room_invites i WHERE i.code = $1 AND ((i.for_user_id IS NULL OR i.for_user_id = $2)"
        f" AND {_GOOD}"
        " OR EXISTS (SELECT 1 FROM room_members m WHERE m.room_id = i.room_id AND m.user_id = $2))",
        code,
        user_id,
    )
    return None if room_id is None else int(room_id)


async def redeem(conn: Any, user_id: int, code: str) -> int | None:
    """Use an invitation up by one; the room's id, or None where it is unknown, spent, expired or somebody else's."""
    room_id = await conn.fetchval(
        "UPDATE room_invites AS i SET uses_left = i.uses_left - 1 WHERE i.code = $1"
        f" AND (i.for_user_id IS NULL OR i.for_user_id = $2) AND {_GOOD} RETURNING i.room_id",
        code,
        user_id,
    )
    return None if room_id is None else int(room_id)


class Invitation(msgspec.Struct, frozen=True):
    """An invitation that still opens its room. `uses` None: without end; `expires_at` None: for ever."""

    code: str
    room_id: int
    by_user_id: int | None
    user_id: int | None
    uses: int | None
    expires_at: datetime | None
    created_at: datetime


async def invitations(conn: Any, room_id: int, by: int | None, limit: int) -> list[Invitation]:
    """The newest invitations to the room (`by`: one person's) that are good. Who may look is for the caller to ask."""
    rows = await conn.fetch(
        "SELECT i.code, i.room_id, i.by_user_id, i.for_user_id, i.uses_left, i.expires_at, i.created_at"
        " FROM room_invites i WHERE i.room_id = $1 AND ($2::bigint IS NULL OR i.by_user_id = $2)"
        f" AND {_GOOD} ORDER BY i.created_at DESC, i.code LIMIT $3",
        room_id,
        by,
        limit,
    )
    return [Invitation(*row) for row in rows]


async def revoke_invitation(conn: Any, room_id: int, by: int | None, code: str) -> bool:
    """Take an invitation back (`by`: only if this person made it). False where there is none."""
    done = await conn.execute(
        "DELETE FROM room_invites WHERE code = $1 AND room_id = $2 AND ($3::bigint IS NULL OR by_user_id = $3)",
        code,
        room_id,
        by,
    )
    return not done.endswith(" 0")


# Lists ----------------------------------------------------------------------------------------------


class Conversation(msgspec.Struct, frozen=True):
    """One of a person's direct conversations, as `welcome` names it."""

    room_id: int
    with_user: int
    last_seq: int
    last_read_seq: int


CONVERSATIONS_LISTED = 1000  # in a welcome: the latest


class Arrival(msgspec.Struct, frozen=True):
    """What a new socket is told of its person."""

    presence: str
    presence_text: str | None
    unread_notifications: int
    nothing_untold: bool
    conversations: list[Conversation]


async def arrivals(conn: Any, user_ids: Sequence[int]) -> dict[int, Arrival]:
    """Each person's chosen status and direct conversations, the latest first, in one query."""
    rows = await conn.fetch(
        "SELECT u.id, u.presence, u.presence_text,"
        " (SELECT count(*) FROM notifications n WHERE n.user_id = u.id AND n.read_at IS NULL),"
        " NOT EXISTS (SELECT FROM notifications n WHERE n.user_id = u.id AND n.told_at IS NULL),"
        " d.id, d.other, d.last_seq, d.last_read_seq FROM users u"
        " LEFT JOIN LATERAL ("
        "  SELECT r.id, CASE WHEN r.user_low = u.id THEN r.user_high ELSE r.user_low END AS other, r.last_seq,"
        "         m.last_read_seq, r.last_message_at"
        "  FROM rooms r JOIN room_members m ON m.room_id = r.id AND m.user_id = u.id"
        "  WHERE r.kind = 'direct' AND (r.user_low = u.id OR r.user_high = u.id)"
        "  ORDER BY r.last_message_at DESC NULLS LAST LIMIT $2) AS d ON true"
        " WHERE u.id = ANY ($1::bigint[]) ORDER BY d.last_message_at DESC NULLS LAST",
        list(user_ids),
        CONVERSATIONS_LISTED,
    )
    found: dict[int, Arrival] = {}
    for user_id, presence, text, unread, told, room_id, other, last_seq, last_read_seq in rows:
        if user_id not in found:
            found[user_id] = Arrival(presence, text, unread, told, [])
        if room_id is not None:
            found[user_id].conversations.append(Conversation(room_id, other, last_seq, last_read_seq))
    return found


async def save_presence(conn: Any, user_id: int, status: str, text: str | None) -> None:
    await conn.execute(
        "UPDATE users SET presence = $2, presence_text = $3 WHERE id = $1", user_id, status, text
    )


async def save_last_seen(conn: Any, user_ids: Sequence[int]) -> None:
    await conn.execute("UPDATE users SET last_seen_at = now() WHERE id = ANY ($1::bigint[])", list(user_ids))
