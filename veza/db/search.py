"""People, rooms, tracks and listings by words: what matches best first, and only what the asker may see.

Nobody finds, or is found among people, tracks and listings by, somebody who blocked him or whom he blocked; who is
disabled, deleted or banned is in no result. The asker's own tracks are found whatever their state, and private rooms by
their members.

Of a word that thousands have, the best cannot be found by comparing them all: where many of the most played tracks, of
the newest listings or of the first people have it, those are compared, with the names that begin so. Where words find
little, their likely spellings are tried as well (`search_words.mend`) and come behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final, TypeVar

import msgspec

from veza.db import search_words, tracks
from veza.db.like import literal
from veza.db.offers import Brief, brief, brief_columns
from veza.db.search_words import Reading
from veza.db.tracks import Track
from veza.db.users import HERE, Profile

T = TypeVar("T")

COMPARED: Final = 500  # matches that are ranked
_WALKED: Final = 1_000  # of the most popular, among which it shows whether a word is common
_COMMON: Final = 50  # of those: then they are enough
_FEW: Final = 5  # with fewer results, other spellings are tried


class RoomFound(msgspec.Struct, frozen=True):
    """A room as searches show it; `role` None: the asker is not a member."""

    id: int
    name: str
    description: str | None
    kind: str
    is_private: bool
    owner_id: int | None
    member_count: int
    role: str | None
    created_at: datetime


# In each of these `$1` is the asker (null for nobody), `$2` the query, `$3` what was typed, `$4` how many.
# No block either way; takes the column of the other person. Those apart are looked up once for all rows.
_APART: Final = """{} <> ALL (ARRAY(SELECT b.blocked_id FROM blocks b WHERE b.blocker_id = $1
    UNION ALL SELECT b.blocker_id FROM blocks b WHERE b.blocked_id = $1))"""
# A value and not EXISTS, which may be answered by reading all people once.
_OWNER: Final = f"(SELECT {HERE} FROM users u WHERE u.id = {{}})"

PERSON: Final = f"{HERE} AND {_APART.format('u.id')}"
ROOM: Final = """r.kind <> 'direct' AND (r.kind = 'public'
    OR EXISTS (SELECT FROM room_members m WHERE m.room_id = r.id AND m.user_id = $1))"""
TRACK: Final = f"""(t.owner_id = $1 OR (t.is_public AND t.status = 'ready' AND {_OWNER.format("t.owner_id")}
    AND {_APART.format("t.owner_id")}))"""
LISTING: Final = f"l.status = 'open' AND {_OWNER.format('l.owner_id')} AND {_APART.format('l.owner_id')}"

# What is spelt exactly so comes first, then what begins so, then what has the words in a better place or more of them.
_EXACT: Final = (
    "CASE WHEN lower({0}) = lower($3) THEN 2.0 WHEN starts_with(lower({0}), lower($3)) THEN 0.5 ELSE 0.0 END"
)


async def people(conn: Any, asker: int | None, reading: Reading, limit: int) -> list[Profile]:
    """People by their names and what they say of themselves."""

    async def matching(query: str, limit: int) -> list[int]:
        common = await _common(conn, "SELECT u.id, u.words FROM users u ORDER BY u.id", query)
        hits = "SELECT unnest($6::bigint[]) AS id"
        if len(common) < _COMMON:
            hits = "SELECT h.id FROM users h WHERE h.words @@ $2::tsquery AND $6::bigint[] IS NOT NULL"
        # How many follow somebody counts among those whose names match about as well.
        return await conn.fetchval(  # type: ignore[no-any-return]
            f"""WITH hits AS MATERIALIZED ({hits}), matches AS MATERIALIZED (
                    (SELECT u.id FROM users u
                     WHERE lower(u.username) LIKE lower($5) AND {PERSON} LIMIT 100)
                    UNION (SELECT u.id FROM hits JOIN users u ON u.id = hits.id WHERE {PERSON} LIMIT {COMPARED})
                ), ranked AS (
                    SELECT u.id, ts_rank(u.words, $2::tsquery) + {_EXACT.format("u.username")} AS score
                    FROM matches JOIN users u ON u.id = matches.id ORDER BY score DESC, u.id LIMIT $4 + 30
                ), known AS (
                    SELECT r.id, r.score + ln(1 + (SELECT count(*) FROM (
                        SELECT FROM follows f WHERE f.followed_id = r.id LIMIT 200) AS followers)) / 20 AS score
                    FROM ranked r
                )
                SELECT array_agg(id ORDER BY score DESC, id) FROM (
                    SELECT id, score FROM known ORDER BY score DESC, id LIMIT $4) AS best""",
            asker,
            query,
            reading.text,
            limit,
            f"{literal(reading.text)}%",
            common,
        )

    ids = await _ids(conn, reading, limit, matching)
    rows = await conn.fetch(
        """SELECT u.id, u.username, u.first_name, u.last_name, u.bio, u.avatar, u.created_at
           FROM users u WHERE u.id = ANY ($1::bigint[])""",
        ids,
    )
    return _ordered(ids, {row[0]: Profile(*row) for row in rows})


async def rooms(conn: Any, asker: int | None, reading: Reading, limit: int) -> list[RoomFound]:
    """Rooms by their names and descriptions, those with more members first."""
    words = "all_words(r.name || ' ' || coalesce(r.description, ''))"

    async def matching(query: str, limit: int) -> list[int]:
        return await conn.fetchval(  # type: ignore[no-any-return]
            f"""WITH matches AS MATERIALIZED (
                    SELECT r.id, r.name, r.member_count FROM rooms r
                    WHERE {words} @@ $2::tsquery AND {ROOM} LIMIT {COMPARED}
                ), ranked AS (
                    SELECT r.id, {_EXACT.format("r.name")} + ln(1 + r.member_count) / 20
                        + CASE WHEN all_words(r.name) @@ $2::tsquery THEN 0.6 ELSE 0.0 END AS score
                    FROM matches r
                )
                SELECT array_agg(id ORDER BY score DESC, id) FROM (
                    SELECT id, score FROM ranked ORDER BY score DESC, id LIMIT $4) AS best""",
            asker,
            query,
            reading.text,
            limit,
        )

    ids = await _ids(conn, reading, limit, matching)
    rows = await conn.fetch(
        """SELECT r.id, r.name, r.description, r.kind, r.kind <> 'public', r.owner_id, r.member_count,
                  (SELECT m.role FROM room_members m WHERE m.room_id = r.id AND m.user_id = $1), r.created_at
           FROM rooms r WHERE r.id = ANY ($2::bigint[])""",
        asker,
        ids,
    )
    return _ordered(ids, {row[0]: RoomFound(*row) for row in rows})


async def found_tracks(conn: Any, asker: int | None, reading: Reading, limit: int) -> list[Track]:
    """Tracks by title, artist, album, genre, tags and description, those played more first."""
    ids = await _ids(
        conn,
        reading,
        limit,
        lambda query, limit: _ranked(
            conn,
            "tracks t",
            TRACK,
            "SELECT t.id, t.words FROM tracks t WHERE t.is_public AND t.status = 'ready'"
            " ORDER BY t.play_count DESC, t.id DESC",
            "t.title",
            "ln(1 + t.play_count) / 30",
            (asker, query, reading.text, limit),
        ),
    )
    rows = await conn.fetch(
        f"SELECT {tracks.COLUMNS} FROM tracks t JOIN users u ON u.id = t.owner_id WHERE t.id = ANY ($2::bigint[])",
        asker,
        ids,
    )
    return _ordered(ids, {row[0]: tracks.made(row) for row in rows})


async def listings(conn: Any, asker: int | None, reading: Reading, limit: int) -> list[Brief]:
    """Open listings by title, place, what they are exchanged for, and description."""
    ids = await _ids(
        conn,
        reading,
        limit,
        lambda query, limit: _ranked(
            conn,
            "listings l",
            LISTING,
            "SELECT l.id, l.words FROM listings l WHERE l.status = 'open' ORDER BY l.id DESC",
            "l.title",
            "ln(1 + l.favorite_count) / 30",
            (asker, query, reading.text, limit),
        ),
    )
    rows = await conn.fetch(
        f"SELECT {brief_columns('l')} FROM listings l WHERE l.id = ANY ($1::bigint[])", ids
    )
    return _ordered(ids, {row[0]: brief(tuple(row)) for row in rows})


async def _ranked(
    conn: Any, table: str, visible: str, popular: str, title: str, liked: str, args: tuple[Any, ...]
) -> list[int]:
    """The ids that match best. `popular` gives ids and words in the order of an index."""
    t = table.split()[1]
    best = f"""ranked AS (
            SELECT {t}.id, ts_rank({t}.words, $2::tsquery) + {_EXACT.format(title)} + {liked} AS score
            FROM matches JOIN {table} ON {t}.id = matches.id WHERE $1::bigint IS NULL OR true
        )
        SELECT array_agg(id ORDER BY score DESC, id DESC) FROM (
            SELECT id, score FROM ranked ORDER BY score DESC, id DESC LIMIT $4) AS best"""
    common = await _common(conn, popular, args[1])
    if len(common) >= _COMMON:
        begun = ""
        if t == "t":  # of listings no index knows how their titles begin
            begun = f"""UNION (SELECT t.id FROM tracks t WHERE t.is_public AND t.status = 'ready'
                AND lower(t.title) LIKE lower($6) AND t.words @@ $2::tsquery AND {visible} LIMIT 50)"""
        return (
            await conn.fetchval(
                f"""WITH matches AS MATERIALIZED (
                        SELECT {t}.id FROM unnest($5::bigint[]) AS c (id) JOIN {table} ON {t}.id = c.id
                        WHERE {visible} {begun}
                    ), {best}""",
                *args,
                common,
                *([f"{literal(args[2])}%"] if begun else []),
            )
            or []
        )
    # Without a limit where the index is asked, for else reading the table from its beginning looks cheap.
    return (
        await conn.fetchval(
            f"""WITH hits AS MATERIALIZED (SELECT h.id FROM {table.split()[0]} h WHERE h.words @@ $2::tsquery),
                matches AS MATERIALIZED (
                    SELECT {t}.id FROM hits JOIN {table} ON {t}.id = hits.id WHERE {visible} LIMIT {COMPARED}
                ), {best}""",
            *args,
        )
        or []
    )


async def _common(conn: Any, popular: str, query: str) -> list[int]:
    """Those of the popular that match; from `_COMMON` on nobody looks further."""
    # The condition is written so that no index fits it.
    found: list[int] = await conn.fetchval(
        f"""SELECT ARRAY(SELECT p.id FROM ({popular} LIMIT {_WALKED}) AS p
                         WHERE coalesce(p.words @@ $1::tsquery, false) LIMIT {COMPARED})""",
        query,
    )
    return found


async def _ids(
    conn: Any, reading: Reading, limit: int, matching: Callable[[str, int], Awaitable[list[int] | None]]
) -> list[int]:
    """What matches the words, and behind it, where that is little, what matches words like them."""
    found: list[int] = []
    if reading.named is not None:
        found = await matching(reading.named, limit) or []
    if len(found) < min(_FEW, limit) and (mended := await search_words.mend(conn, reading)) is not None:
        more = await matching(mended, limit) or []
        found += [id for id in more if id not in found]
    return found[:limit]


def _ordered(ids: list[int], found: dict[int, T | None]) -> list[T]:
    return [value for id in ids if (value := found.get(id)) is not None]
