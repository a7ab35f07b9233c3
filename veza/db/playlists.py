"""Playlists: tracks in an order somebody chose.

Positions count from 0 without gaps. Whoever changes the order holds the playlist's row first (and before it the row of
a track that is added, as those do who delete one), so that changes come one after the other.

A track that its owner has made private, or that is not ready, is not shown to others, and keeps its place until it
comes back. Positions as clients know them are those of what is shown: 0, 1, 2… without gaps too; `Order` translates.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db import tracks
from veza.db.keys import joined
from veza.db.tracks import COLUMNS, VISIBLE, Track, TrackOwner, made

# Why a change was not made: no such playlist, item or track for this person; no room; a place behind the end; an order
# that does not name exactly what is there.
Refusal = Literal["gone", "no item", "no track", "full", "beyond", "differs"]


class Playlist(msgspec.Struct, frozen=True):
    """`item_count` counts what is in it, shown to the reader or not."""

    id: int
    title: str
    description: str | None
    is_public: bool
    item_count: int
    created_at: datetime
    updated_at: datetime
    owner: TrackOwner


class Item(msgspec.Struct, frozen=True):
    """A track in a playlist. The same track may stand in it more than once, as different items."""

    id: int
    position: int
    added_at: datetime
    track: Track


class Opened(Playlist, frozen=True):
    """A playlist with what is in it, as the reader may see it."""

    items: list[Item]


class Listed(msgspec.Struct, frozen=True):
    playlists: list[Playlist]
    next: str | None


class PlaylistChange(msgspec.Struct, frozen=True):
    """New values; a field left out of `fields` stays as it is."""

    fields: frozenset[str]
    title: str | None = None
    description: str | None = None
    is_public: bool | None = None


class Order:
    """The items of a playlist, those shown and those that are not. Pure: every method gives the whole new order.

    What is not shown keeps its place: to whoever moves the others it is not there.
    """

    def __init__(self, items: Sequence[tuple[int, bool]]) -> None:
        self._items = list(items)
        self.shown = [id for id, shown in items if shown]

    def arranged(self, ids: Sequence[int]) -> list[int] | None:
        """What is shown in this order; None unless these are exactly the items that are."""
        if sorted(ids) != sorted(self.shown):
            return None
        following = iter(ids)
        return [next(following) if shown else id for id, shown in self._items]

    def moved(self, id: int, position: int) -> list[int] | None:
        """This item at another place; None where there is no such place."""
        if not 0 <= position < len(self.shown):
            return None
        rest = [each for each in self.shown if each != id]
        return self.arranged([*rest[:position], id, *rest[position:]])

    def with_new(self, id: int, position: int | None) -> list[int] | None:
        """A further item there, or at the end; None where there is no such place."""
        everything = [each for each, _ in self._items]
        if position is None or position == len(self.shown):
            return [*everything, id]
        if not 0 <= position < len(self.shown):
            return None
        at = everything.index(self.shown[position])
        return [*everything[:at], id, *everything[at:]]


_PLAYLIST: Final = """p.id, p.title, p.description, p.is_public, p.item_count, p.created_at, p.updated_at,
    o.id, o.username, o.avatar"""


def _playlist(row: Any) -> Playlist:
    id, title, description, is_public, count, created_at, updated_at, *owner = row
    return Playlist(id, title, description, is_public, count, created_at, updated_at, TrackOwner(*owner))


async def create(
    conn: Any, owner_id: int, title: str, description: str | None, is_public: bool, most: int
) -> Playlist | None:
    """A new, empty playlist; None where its owner has `most` already. His row is held, so that they count in turn."""
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
    if await conn.fetchval("SELECT count(*) FROM playlists WHERE owner_id = $1", owner_id) >= most:
        return None
    row = await conn.fetchrow(
        f"""WITH p AS (INSERT INTO playlists (owner_id, title, description, is_public) VALUES ($1, $2, $3, $4)
                       RETURNING *)
            SELECT {_PLAYLIST} FROM p JOIN users o ON o.id = p.owner_id""",
        owner_id,
        title,
        description,
        is_public,
    )
    return _playlist(row)


async def listed(conn: Any, owner_id: int, reader_id: int | None, before: int | None, limit: int) -> Listed:
    """A person's playlists, the newest first; to others only the public ones."""
    where, args = ("", ()) if before is None else ("AND p.id < $4", (before,))
    rows = await conn.fetch(
        f"""SELECT {_PLAYLIST} FROM playlists p JOIN users o ON o.id = p.owner_id
            WHERE p.owner_id = $2 AND (p.owner_id = $1 OR (p.is_public AND o.is_active)) {where}
            ORDER BY p.id DESC LIMIT $3""",
        reader_id,
        owner_id,
        limit + 1,
        *args,
    )
    page = [_playlist(row) for row in rows[:limit]]
    return Listed(page, joined(page[-1].id) if len(rows) > limit else None)


async def opened(conn: Any, playlist_id: int, reader_id: int | None) -> Opened | None:
    """A playlist with what is in it; None where there is none for this reader."""
    row = await conn.fetchrow(
        f"""SELECT {_PLAYLIST} FROM playlists p JOIN users o ON o.id = p.owner_id
            WHERE p.id = $2 AND (p.owner_id = $1 OR (p.is_public AND o.is_active))""",
        reader_id,
        playlist_id,
    )
    if row is None:
        return None
    found = _playlist(row)
    rows = await conn.fetch(
        f"""SELECT i.id, i.added_at, {COLUMNS} FROM playlist_items i
            JOIN tracks t ON t.id = i.track_id JOIN users u ON u.id = t.owner_id
            WHERE i.playlist_id = $2 AND {VISIBLE} ORDER BY i.position""",
        reader_id,
        playlist_id,
    )
    items = [Item(row[0], place, row[1], made(tuple(row)[2:])) for place, row in enumerate(rows)]
    return Opened(**msgspec.structs.asdict(found), items=items)


async def update(conn: Any, playlist_id: int, owner_id: int, change: PlaylistChange) -> Playlist | None:
    """Set the fields named in `change.fields`; None if this person has no such playlist."""
    given = change.fields
    row = await conn.fetchrow(
        f"""WITH p AS (UPDATE playlists SET
                title = CASE WHEN $3 THEN $4 ELSE title END,
                description = CASE WHEN $5 THEN $6 ELSE description END,
                is_public = CASE WHEN $7 THEN $8 ELSE is_public END,
                updated_at = now()
            WHERE id = $1 AND owner_id = $2 RETURNING *)
            SELECT {_PLAYLIST} FROM p JOIN users o ON o.id = p.owner_id""",
        playlist_id,
        owner_id,
        "title" in given,
        change.title,
        "description" in given,
        change.description,
        "is_public" in given,
        change.is_public,
    )
    return _playlist(row) if row else None


async def remove(conn: Any, playlist_id: int, owner_id: int) -> bool:
    """Delete it; False if this person has no such playlist."""
    done = await conn.execute("DELETE FROM playlists WHERE id = $1 AND owner_id = $2", playlist_id, owner_id)
    return not str(done).endswith(" 0")


# What is in them -------------------------------------------------------------------------------------


async def add(
    conn: Any, playlist_id: int, owner_id: int, track_id: int, position: int | None, most: int
) -> Item | Refusal:
    """Put a track into a playlist, at the end or before what stands at `position`."""
    await conn.execute("SELECT 1 FROM tracks WHERE id = $1 FOR KEY SHARE", track_id)
    order = await _hold(conn, playlist_id, owner_id)
    if order is None:
        return "gone"
    track = await tracks.visible(conn, track_id, owner_id)
    if track is None:
        return "no track"
    count = await conn.fetchval("SELECT item_count FROM playlists WHERE id = $1", playlist_id)
    if count >= most:
        return "full"
    if position is not None and not 0 <= position <= len(order.shown):
        return "beyond"
    # Behind everything first: that place is free.
    id, added_at = await conn.fetchrow(
        "INSERT INTO playlist_items (playlist_id, track_id, position) VALUES ($1, $2, $3) RETURNING id, added_at",
        playlist_id,
        track_id,
        count,
    )
    place = len(order.shown) if position is None else position
    if (arranged := order.with_new(id, position)) is not None:
        await _store(conn, playlist_id, arranged)
    return Item(id, place, added_at, track)


async def arrange(conn: Any, playlist_id: int, owner_id: int, ids: Sequence[int]) -> Refusal | None:
    """Give what is shown another order, all at once; "differs" unless `ids` are exactly what is shown."""
    order = await _hold(conn, playlist_id, owner_id)
    if order is None:
        return "gone"
    arranged = order.arranged(ids)
    if arranged is None:
        return "differs"
    await _store(conn, playlist_id, arranged)
    return None


async def move(conn: Any, playlist_id: int, owner_id: int, item_id: int, position: int) -> Refusal | None:
    """Put one item at another place; the others close ranks."""
    order = await _hold(conn, playlist_id, owner_id)
    if order is None:
        return "gone"
    if item_id not in order.shown:
        return "no item"
    arranged = order.moved(item_id, position)
    if arranged is None:
        return "beyond"
    await _store(conn, playlist_id, arranged)
    return None


async def take_out(conn: Any, playlist_id: int, owner_id: int, item_id: int) -> Refusal | None:
    """Take one item out; the others close ranks (a trigger, which counts them too)."""
    if await _hold(conn, playlist_id, owner_id) is None:
        return "gone"
    done = await conn.execute(
        "DELETE FROM playlist_items WHERE id = $2 AND playlist_id = $1", playlist_id, item_id
    )
    return "no item" if str(done).endswith(" 0") else None


async def _hold(conn: Any, playlist_id: int, owner_id: int) -> Order | None:
    """The order as it is now and stays until this transaction ends; None if this person has no such playlist."""
    held = await conn.fetchval(
        "SELECT 1 FROM playlists WHERE id = $1 AND owner_id = $2 FOR NO KEY UPDATE", playlist_id, owner_id
    )
    if held is None:
        return None
    rows = await conn.fetch(
        f"""SELECT i.id, {VISIBLE} FROM playlist_items i
            JOIN tracks t ON t.id = i.track_id JOIN users u ON u.id = t.owner_id
            WHERE i.playlist_id = $2 ORDER BY i.position""",
        owner_id,
        playlist_id,
    )
    return Order([(row[0], row[1]) for row in rows])


async def _store(conn: Any, playlist_id: int, ids: Sequence[int]) -> None:
    await conn.execute(
        """UPDATE playlist_items i SET position = o.place - 1
           FROM unnest($2::bigint[]) WITH ORDINALITY AS o (id, place)
           WHERE i.id = o.id AND i.playlist_id = $1 AND i.position <> o.place - 1""",
        playlist_id,
        list(ids),
    )
    await conn.execute(
        "UPDATE playlists SET item_count = $2, updated_at = now() WHERE id = $1", playlist_id, len(ids)
    )
