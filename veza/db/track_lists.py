"""Tracks as lists show them: found by words, tags, genre, artist or uploader, and one's own.

A numbered page skips ids alone, never whole rows, and no further than lists are counted (`COUNTED`). What genres and
tags there are is told of the newest `_NEWEST` tracks, so that it costs the same however many there will be.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from veza.db import search_words
from veza.db.like import literal
from veza.db.search_words import Reading
from veza.db.tracks import COLUMNS, PUBLIC, Track, made
from veza.db.users import COUNTED

Sort = Literal["new", "popular", "title"]

_ORDER: Final[dict[Sort, str]] = {
    "new": "t.id DESC",
    "popular": "t.play_count DESC, t.id DESC",
    "title": "lower(t.title), t.id",
}
# The very expression of the index tracks_text_trgm.
_TEXT: Final = "lower(t.title || ' ' || coalesce(t.artist, '') || ' ' || coalesce(t.album, ''))"
_WORDS: Final = 8  # of a search that count
_GENRES: Final = 200
_NEWEST: Final = 3_000  # tracks of which genres and tags are told; more take longer than lists may


class Wanted(msgspec.Struct, frozen=True):
    """Which public tracks; None means any. `tags` as they are stored, all of them; `uploader` an id or a username."""

    search: str | None = None
    tags: tuple[str, ...] = ()
    genre: str | None = None
    artist: str | None = None
    uploader: int | str | None = None


class TrackPage(msgspec.Struct, frozen=True):
    """`total` is counted up to COUNTED."""

    tracks: list[Track]
    total: int


class GenreCount(msgspec.Struct, frozen=True):
    """A genre as most spell it, and how many tracks are of it, whatever their spelling."""

    genre: str
    count: int


class TagCount(msgspec.Struct, frozen=True):
    tag: str
    count: int


async def listed(
    conn: Any, reader_id: int | None, wanted: Wanted, sort: Sort, limit: int, offset: int
) -> TrackPage:
    """Public tracks. The caller bounds `limit + offset` by COUNTED."""
    reading = await search_words.read(conn, wanted.search) if wanted.search else None
    where, args = _conditions(wanted, reading)
    condition = " AND ".join([PUBLIC, *where])
    order = _ORDER[sort]
    total = await conn.fetchrow(
        f"SELECT count(*), $1::bigint FROM (SELECT FROM tracks t WHERE {condition} LIMIT {COUNTED}) AS matches",
        reader_id,
        *args,
    )
    at = len(args) + 2
    rows = await conn.fetch(
        f"""WITH page AS (
                SELECT t.id FROM tracks t WHERE {condition} ORDER BY {order} LIMIT ${at} OFFSET ${at + 1}
            )
            SELECT {COLUMNS} FROM page JOIN tracks t ON t.id = page.id JOIN users u ON u.id = t.owner_id
            ORDER BY {order}""",
        reader_id,
        *args,
        limit,
        offset,
    )
    return TrackPage([made(row) for row in rows], total[0])


async def mine(conn: Any, owner_id: int, status: str | None, limit: int, offset: int) -> TrackPage:
    """A person's own tracks, the newest first, whatever their state."""
    condition = "t.owner_id = $1 AND ($2::text IS NULL OR t.status = $2)"
    total = await conn.fetchval(f"SELECT count(*) FROM tracks t WHERE {condition}", owner_id, status)
    rows = await conn.fetch(
        f"""WITH page AS (
                SELECT t.id FROM tracks t WHERE {condition} ORDER BY t.id DESC LIMIT $3 OFFSET $4
            )
            SELECT {COLUMNS} FROM page JOIN tracks t ON t.id = page.id JOIN users u ON u.id = t.owner_id
            ORDER BY t.id DESC""",
        owner_id,
        status,
        limit,
        offset,
    )
    return TrackPage([made(row) for row in rows], total)


async def genres(conn: Any) -> list[GenreCount]:
    """The genres of the newest public tracks, the most frequent first."""
    rows = await conn.fetch(
        f"""SELECT mode() WITHIN GROUP (ORDER BY genre), count(*)
            FROM (SELECT t.genre FROM tracks t WHERE {PUBLIC} ORDER BY t.id DESC LIMIT {_NEWEST}) AS newest
            WHERE genre IS NOT NULL
            GROUP BY lower(genre) ORDER BY count(*) DESC, lower(genre) LIMIT {_GENRES}"""
    )
    return [GenreCount(*row) for row in rows]


async def tags(conn: Any, beginning: str, limit: int) -> list[TagCount]:
    """The tags of the newest public tracks that begin so, the most frequent first."""
    rows = await conn.fetch(
        f"""SELECT tag, count(*)
            FROM (SELECT t.tags FROM tracks t WHERE {PUBLIC} ORDER BY t.id DESC LIMIT {_NEWEST}) AS newest,
                 unnest(tags) AS tag
            WHERE tag LIKE $1
            GROUP BY tag ORDER BY count(*) DESC, tag LIMIT $2""",
        f"{literal(beginning)}%",
        limit,
    )
    return [TagCount(*row) for row in rows]


async def trending(conn: Any, days: int, limit: int) -> list[TagCount]:
    """The tags of the tracks of the last days (of the newest `_NEWEST`, at most), those played and liked most first."""
    rows = await conn.fetch(
        f"""SELECT tag, count(*)
            FROM (SELECT t.tags, t.created_at, t.play_count + 5 * (t.like_count + t.repost_count) AS heard
                  FROM tracks t WHERE {PUBLIC} ORDER BY t.id DESC LIMIT {_NEWEST}) AS newest,
                 unnest(tags) AS tag
            WHERE created_at > now() - make_interval(days => $1)
            GROUP BY tag ORDER BY sum(1 + ln(1 + heard)) DESC, tag LIMIT $2""",
        days,
        limit,
    )
    return [TagCount(*row) for row in rows]


def _conditions(wanted: Wanted, reading: Reading | None) -> tuple[list[str], list[Any]]:
    """Conditions beside PUBLIC, and their arguments, which begin at `$2`."""
    where: list[str] = []
    args: list[Any] = []

    def add(condition: str, value: Any) -> None:
        args.append(value)
        where.append(condition.format(f"${len(args) + 1}"))

    words = (wanted.search or "").lower().split()[:_WORDS]
    if any(len(word) >= 3 for word in words):
        # As they are spelt, wherever in a word; or as beginnings of words, whatever their accents.
        found = []
        for word in words:
            add(f"{_TEXT} LIKE {{}}", f"%{literal(word)}%")
            found.append(where.pop())
        spelt = " AND ".join(found)
        if reading is None or reading.begun is None or not all(word.isalnum() for word in words):
            where.append(spelt)  # with signs in it, it is meant to the letter
        else:
            add("t.words @@ {}::tsquery", reading.begun)
            where.append(f"(({spelt}) OR {where.pop()})")
    elif words:
        # Trigrams need three characters; with fewer, the beginning of the title.
        add("lower(t.title) LIKE {}", f"{literal(' '.join(words))}%")
    if wanted.tags:
        add("t.tags @> {}::text[]", list(wanted.tags))
    if wanted.genre:
        add("lower(t.genre) = lower({})", wanted.genre)
    if wanted.artist:
        add("lower(t.artist) = lower({})", wanted.artist)
    if isinstance(wanted.uploader, int):
        add("t.owner_id = {}", wanted.uploader)
    elif wanted.uploader is not None:
        add("t.owner_id = (SELECT id FROM users WHERE lower(username) = lower({}))", wanted.uploader)
    return where, args
