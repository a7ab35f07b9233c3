"""No search reads a large table through: 20,000 people, tracks and listings and 40,000 messages, by EXPLAIN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.plans import Explaining
from tests.db.plans import filled
from veza.db import message_search, search, search_words, suggestions, track_lists, users
from veza.db.message_search import Where
from veza.db.pool import Database

ROWS = 20_000
_LARGE = {"users", "tracks", "listings", "rooms", "messages", "vocabulary"}

# Of the titles every second has "common", every fiftieth "seldom"; person 1 is in 60 rooms, person 2 in two.
_FILL = f"""
    INSERT INTO users (username, email, password_hash, first_name)
        SELECT left(md5(n::text), 12) || n, 'person' || n || '@example.org', 'none',
               CASE WHEN n % 50 = 0 THEN 'Seldom' WHEN n % 2 = 0 THEN 'Common' END
        FROM generate_series(1, {ROWS}) n;
    INSERT INTO tracks (owner_id, name, title, status, extension, content_type, size, play_count)
        SELECT n, 'track' || n, concat_ws(' ', 'song', md5(n::text), CASE WHEN n % 2 = 0 THEN 'common' END,
               CASE WHEN n % 50 = 0 THEN 'seldom' END), 'ready', 'mp3', 'audio/mpeg', 1, n % 1000
        FROM generate_series(1, {ROWS}) n;
    INSERT INTO listings (owner_id, title, category_id, state, price_cents)
        SELECT n, concat_ws(' ', 'thing', md5(n::text), CASE WHEN n % 2 = 0 THEN 'common' END,
               CASE WHEN n % 50 = 0 THEN 'seldom' END), 1, 'good', n FROM generate_series(1, {ROWS}) n;
    INSERT INTO rooms (kind, name, last_seq)
        SELECT CASE WHEN n % 3 = 0 THEN 'private' ELSE 'public' END, concat_ws(' ', 'room', left(md5(n::text), 20),
               CASE WHEN n % 2 = 0 THEN 'common' END, CASE WHEN n % 50 = 0 THEN 'seldom' END), 20
        FROM generate_series(2, {ROWS}) n;
    INSERT INTO room_members (room_id, user_id) SELECT n * 30 + 1, 1 FROM generate_series(1, 60) n;
    INSERT INTO room_members (room_id, user_id) VALUES (31, 2), (61, 2);
    INSERT INTO messages (room_id, seq, user_id, nonce, content, created_at)
        SELECT 1 + n % 2000, 1 + n / 2000, 1 + n % 4000, n::text, concat_ws(' ', md5((n % 5000)::text),
               CASE WHEN n % 2 = 0 THEN 'common' END, CASE WHEN n % 50 = 0 THEN 'seldom' END), now()
        FROM generate_series(0, {ROWS} * 2 - 1) n;
    INSERT INTO blocks (blocker_id, blocked_id) SELECT n, n + 1 FROM generate_series(1, 1000) n;
    INSERT INTO follows (follower_id, followed_id) SELECT n, 1 + n % 100 FROM generate_series(200, 5000) n;
    INSERT INTO vocabulary SELECT DISTINCT left(translate(md5(n::text), '0123456789', 'ghijklmnop'), 9)
        FROM generate_series(1, {ROWS}) n;
    INSERT INTO vocabulary VALUES ('common'), ('seldom') ON CONFLICT DO NOTHING;
    VACUUM ANALYZE;
"""


@pytest.fixture(scope="module")
def full(postgres: Any) -> Iterator[str]:
    with filled(postgres, _FILL) as url:
        yield url


@pytest.fixture
def database_url(full: str) -> str:
    return full


def _of(find: Callable[..., Any], *more: Any) -> Callable[..., Any]:
    async def unit(conn: Any, text: str) -> Any:
        return await find(conn, 5, *more, await search_words.read(conn, text), 20)

    return unit


def _heard(where: Where) -> Callable[..., Any]:
    async def unit(conn: Any, text: str) -> Any:
        return (await message_search.heard(conn, where, await search_words.read(conn, text), 20)).messages

    return unit


async def _people(conn: Any, text: str) -> Any:
    return (await users.search(conn, text, None, 20, 0)).profiles


async def _tracks(conn: Any, text: str) -> Any:
    wanted = track_lists.Wanted(search=text)
    return (await track_lists.listed(conn, 5, wanted, "popular", 20, 0)).tracks


_CASES: dict[str, Callable[..., Any]] = {
    "people": _of(search.people),
    "rooms": _of(search.rooms),
    "tracks": _of(search.found_tracks),
    "listings": _of(search.listings),
    **{f"suggested {kind}": _of(suggestions.begun, kind) for kind in suggestions.KINDS},
    "messages in many rooms": _heard(Where(1)),
    "messages in few rooms": _heard(Where(2)),
    "messages in public rooms": _heard(Where(3, public=True)),
    "messages in a room": _heard(Where(3, public=True, room_id=101)),
    "messages of an author": _heard(Where(3, public=True, author_id=101)),
    "GET /users?search": _people,
    "GET /tracks?search": _tracks,
}


async def test_no_search_reads_a_large_table_through(db: Database) -> None:
    async def look(conn: Any) -> tuple[dict[str, set[str]], int, set[str]]:
        scanned: dict[str, set[str]] = {}
        statements, found = 0, set()
        for what, unit in _CASES.items():
            for text in (
                "common",
                "seldom",
                "common seldom",
                "sedlom",
                "nowhere",
                '"common seldom"',
                "co",
                "c4c",
            ):
                explaining = Explaining(conn, _LARGE)
                if await unit(explaining, text):
                    found.add(what)
                statements += explaining.queries
                if explaining.scans:
                    scanned[f"{what}: {text}"] = set(explaining.scans)
        return scanned, statements, found

    scanned, statements, found = await db.read(look)
    assert scanned == {}
    assert statements > 300  # it did look
    assert set(_CASES) - found == set()


async def test_plans_that_are_kept_are_as_good(db: Database) -> None:
    """A connection keeps a plan after some runs, made without knowing the words."""

    async def look(conn: Any) -> dict[str, set[str]] | None:
        if conn.get_server_version().major < 16:
            return None  # it cannot tell
        scanned: dict[str, set[str]] = {}
        for what, unit in _CASES.items():
            explaining = Generic(conn, _LARGE)
            await unit(explaining, "common")
            await unit(explaining, "seldom")
            if explaining.scans:
                scanned[what] = set(explaining.scans)
        return scanned

    scanned = await db.read(look)
    if scanned is None:
        pytest.skip("PostgreSQL 16 is the first to tell of such plans")
    assert scanned == {}


class Generic(Explaining):
    how = "GENERIC_PLAN, FORMAT JSON"


async def test_a_common_word_is_found_in_what_is_popular(db: Database) -> None:
    async def look(conn: Any) -> tuple[list[int], list[int]]:
        reading = await search_words.read(conn, "common")
        tracks = [track.play_count for track in await search.found_tracks(conn, 5, reading, 20)]
        listings = [brief.id for brief in await search.listings(conn, 5, reading, 20)]
        return tracks, listings

    plays, listings = await db.read(look)
    assert len(plays) == len(listings) == 20
    assert min(plays) >= 990
    assert min(listings) > ROWS - 2_100


class Counting(Explaining):
    """A connection that notes how many rows its statements looked at."""

    looked_at = 0
    read_through = 0  # to be thrown away, by the words in them

    how = "ANALYZE, FORMAT JSON"

    def note(self, node: dict[str, Any]) -> None:
        self.looked_at += (
            node["Actual Rows"]
            + node.get("Rows Removed by Index Recheck", 0)
            + node.get("Rows Removed by Filter", 0)
        )
        if "tsquery" in node.get("Filter", "") + node.get("Recheck Cond", ""):
            self.read_through += node.get("Rows Removed by Index Recheck", 0)
            self.read_through += node.get("Rows Removed by Filter", 0) * node["Actual Loops"]


async def test_words_without_letters_are_not_compared_with_every_word_there_is(db: Database) -> None:
    """Signs and pictures have no trigrams; the index answers with all it holds, for each such word of a search."""

    async def mended(conn: Any, text: str) -> tuple[str | None, float]:
        counting = Counting(conn)
        return await search_words.mend(counting, await search_words.read(conn, text)), counting.looked_at

    pictures = " ".join(sign * 4 for sign in "🎸🎹🥁🎺")
    for text in (
        pictures,
        "🎸" * 200,
        "音楽" * 100,
        "音楽演奏 電子楽器",
        "гитара музыка",
        "x" * 200,
        "♯♭♮♯ ‰‰‰‰",
    ):
        query, looked_at = await db.read(mended, text)
        assert query is None and looked_at < 1_000, text
    query, _ = await db.read(mended, "comnon 🎸🎸🎸🎸")
    assert query is not None and "common" in query


async def test_words_in_a_row_have_few_messages_read(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of all hold the word, none twice in a row: no index knows, so all would be read and no page be full."""
    monkeypatch.setattr(message_search, "_CHECKED", 100)

    async def heard(conn: Any) -> tuple[Any, float]:
        counting = Counting(conn)
        reading = await search_words.read(conn, '"common common"')
        return await message_search.heard(counting, Where(1, public=True), reading, 20), counting.read_through

    found, read_through = await db.read(heard)
    assert found.messages == [] and found.before is not None and 0 < read_through <= 100
