"""Lists of tracks stay cheap when there are many: every one of them finds its rows by an index, shown by EXPLAIN."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.plans import Explaining
from tests.db.plans import filled
from veza.db import track_lists, track_plays, tracks, uploads
from veza.db.pool import Database
from veza.db.track_lists import Wanted

TRACKS, PEOPLE = 2_000, 1_500
_TODAY = datetime.date(2026, 1, 31)

_FILL = f"""
    INSERT INTO users (username, email, password_hash, is_active)
        SELECT 'p' || n, 'p' || n || '@example.org', 'none', n % 500 > 0 FROM generate_series(1, {PEOPLE}) n;
    INSERT INTO tracks (owner_id, name, title, artist, album, genre, tags, is_public, status, extension, content_type,
                        size, play_count)
        SELECT 1 + n % {PEOPLE}, 'name' || n, md5(n::text), md5((n % 700)::text), md5((n % 900)::text),
               'Genre ' || n % 300, ARRAY['tag' || n % 100, 'tag' || n % 211], n % 5 > 0,
               CASE n % 7 WHEN 0 THEN 'processing' ELSE 'ready' END, 'mp3', 'audio/mpeg', 1, n % 1000
        FROM generate_series(1, {TRACKS}) n;
    INSERT INTO track_plays (track_id, day, listener, listened_ms, counted)
        SELECT 1 + n % 50, date '2026-01-01' + n % 365, 'u' || n, 30000, true FROM generate_series(1, 8000) n;
    INSERT INTO track_likes (track_id, user_id)
        SELECT 1 + n % {TRACKS}, 1 + n % {PEOPLE} FROM generate_series(1, 100) n ON CONFLICT DO NOTHING;
    INSERT INTO track_reposts (track_id, user_id)
        SELECT 1 + n % {TRACKS}, 1 + n % {PEOPLE} FROM generate_series(1, 100) n ON CONFLICT DO NOTHING;
    INSERT INTO uploads (id, user_id, length, track_id, expires_at)
        SELECT gen_random_uuid(), 1 + n % {PEOPLE}, 1, NULL, now() + (n - 20) * interval '1 second'
        FROM generate_series(1, 1000) n;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def full(postgres: Any) -> Iterator[str]:
    with filled(postgres, _FILL) as url:
        yield url


@pytest.fixture
def database_url(full: str) -> str:
    return full


def _listed(sort: Any = "new", offset: int = 0, **wanted: Any) -> tuple[Any, ...]:
    return (7, Wanted(**wanted), sort, 20, offset)


class Plans(Explaining):
    """Also of what changes rows."""

    async def execute(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._conn.execute(query, *args)


# What is looked up, and the index it must be found by.
_CASES: list[tuple[str, Callable[..., Any], tuple[Any, ...]]] = [
    ("tracks_pkey", tracks.visible, (77, 7)),
    ("tracks_name", tracks.by_name, ("name77",)),
    ("tracks_owner", tracks.room_left, (7, 2000)),
    ("tracks_public_new", track_lists.listed, _listed()),
    ("tracks_public_new", track_lists.listed, _listed(offset=100)),
    ("tracks_public_popular", track_lists.listed, _listed("popular")),
    ("tracks_public_title", track_lists.listed, _listed("title")),
    ("tracks_text_trgm", track_lists.listed, _listed(search="a1b2c3 4d5e")),
    ("tracks_title_prefix", track_lists.listed, _listed(search="ab")),
    ("tracks_tags", track_lists.listed, _listed(tags=("tag7", "tag77"))),
    ("tracks_public_genre", track_lists.listed, _listed(genre="genre 77")),
    ("tracks_public_artist", track_lists.listed, _listed(artist="ABC")),
    ("tracks_feed or tracks_owner", track_lists.listed, _listed(uploader=77)),
    ("tracks_feed or tracks_owner", track_lists.listed, _listed(uploader="P77")),
    ("tracks_owner", track_lists.mine, (77, None, 20, 0)),
    ("tracks_public_new", track_lists.genres, ()),
    ("tracks_public_new", track_lists.tags, ("tag7", 20)),
    ("track_plays_pkey", track_plays.by_day, (7, _TODAY - datetime.timedelta(days=29), _TODAY)),
    ("uploads_expiry", uploads.expired, (10,)),
]


_GIN = {"tracks_text_trgm", "tracks_tags"}
# With so few tracks, all of them by one of these cost less than those by a GIN index.
_CHEAPER = (
    "tracks_feed",
    "tracks_title_prefix",
    *(f"tracks_public_{name}" for name in ("new", "popular", "title", "genre", "artist")),
)


async def test_every_list_finds_its_rows_by_an_index(db: Database) -> None:
    async def look(conn: Any, index: str, unit: Callable[..., Any], args: tuple[Any, ...]) -> Plans:
        plans = Plans(conn)
        # The table is small, so walking through it would be cheap: what counts is that it need not be.
        await conn.execute("BEGIN; SET LOCAL enable_seqscan = off")
        if index in _GIN:
            await conn.execute(f"SET LOCAL enable_indexscan = off; DROP INDEX {', '.join(_CHEAPER)}")
        try:
            await unit(plans, *args)
        finally:
            await conn.execute("ROLLBACK")
        return plans

    for index, unit, args in _CASES:
        plans = await db.read(look, index, unit, args)
        assert not plans.scans, (unit, args)
        assert plans.indexes.keys() & set(index.split(" or ")), (unit, args, plans.indexes)


async def test_a_list_finds_what_it_should(db: Database) -> None:
    found = await db.read(track_lists.listed, 7, Wanted(genre="genre 77"), "new", 100, 0)
    ids = [track.id for track in found.tracks]
    assert ids == sorted(ids, reverse=True) and found.total == len(ids) > 5
    assert {track.genre for track in found.tracks} == {"Genre 77"}
    assert all(track.status == "ready" and track.is_public for track in found.tracks)
    everything = await db.read(track_lists.listed, None, Wanted(), "new", 20, 60)
    barred = set(range(500, PEOPLE + 1, 500))
    count = sum(1 for n in range(1, TRACKS + 1) if n % 5 and n % 7 and 1 + n % PEOPLE not in barred)
    assert everything.total == count
