"""The feed: everything new from those one follows, once, in order, and nothing else; cheap when tables are large."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bench.plans import Explaining
from tests.db.plans import filled
from tests.social.conftest import Person, Town, refused
from veza.db import feed as feed_db
from veza.db import follows, playlists, track_social
from veza.db.keys import Stamp
from veza.db.pool import open_database

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


async def _stream(town: Town, owner: Person, at: datetime | None, **how: str) -> int:
    fields = {"state": "live", "visibility": "public"} | how
    return int(
        await town.sql(
            """INSERT INTO streams (owner_id, slug, title, category, key_hash, state, visibility, started_at)
               VALUES ($1, 's' || substr(md5(random()::text), 1, 20), 'On air', 'music', '', $2, $3, $4)
               RETURNING id""",
            owner.id,
            fields["state"],
            fields["visibility"],
            at,
        )
    )


async def _repost(town: Town, by: Person, track: int, at: datetime) -> None:
    await town.sql(
        "INSERT INTO track_reposts (track_id, user_id, created_at) VALUES ($1, $2, $3)", track, by.id, at
    )


async def _follow(town: Town, follower: Person, *others: Person) -> None:
    for other in others:
        assert await town.db.write(follows.follow, follower.id, other.id, 100) == "done"


def _what(entry: dict[str, Any]) -> tuple[str, int, int]:
    thing = entry["stream"] if entry["kind"] == "stream" else entry["track"]
    assert (entry["stream"] is None) == (entry["kind"] != "stream")
    return entry["kind"], thing["id"], entry["by"]["id"]


async def test_it_holds_what_is_new_and_nothing_else(town: Town) -> None:
    me, ann, bob, stranger = await town.people(4)
    await _follow(town, me, ann, bob)
    hour = timedelta(hours=1)
    song = await town.track(ann, at=NOON)
    theirs = await town.track(stranger, at=NOON)
    await town.track(ann, at=NOON, public=False)
    await town.track(ann, at=NOON, status="processing")
    hidden = await town.track(stranger, public=False)
    await _repost(town, bob, theirs, NOON + hour)
    await _repost(town, bob, hidden, NOON + hour)
    await _repost(town, stranger, song, NOON + hour)
    live = await _stream(town, bob, NOON + 2 * hour)
    waiting = await _stream(town, ann, NOON - hour, state="interrupted")
    for state, visibility in (("ended", "public"), ("live", "unlisted"), ("live", "private")):
        await _stream(town, bob, NOON, state=state, visibility=visibility)
    await _stream(town, bob, None, state="created")
    await _stream(town, stranger, NOON)
    entries = (await town.api.get("/feed", token=me.token)).data["entries"]
    assert [_what(entry) for entry in entries] == [
        ("stream", live, bob.id),
        ("repost", theirs, bob.id),
        ("track", song, ann.id),
        ("stream", waiting, ann.id),
    ]
    assert entries[2]["by"] == {"id": ann.id, "username": ann.username, "avatar": None}
    assert entries[1]["track"]["owner"]["id"] == stranger.id
    assert entries[0]["at"] == "2026-01-01T14:00:00Z" and entries[0]["stream"]["state"] == "live"
    assert (await town.api.get("/feed", token=stranger.token)).data == {"entries": []}
    refused(await town.api.get("/feed"), 401, "AUTH_REQUIRED")


async def test_blocked_people_are_not_in_it(town: Town) -> None:
    me, friend, troll, shy = await town.people(4)
    await _follow(town, me, friend)
    for by, blocker, blocked in ((troll, me, troll), (shy, shy, me)):
        track = await town.track(by)
        await _repost(town, friend, track, NOON)
        assert len((await town.api.get("/feed", token=me.token)).data["entries"]) == 1
        await town.api.put(f"/users/{blocked.id}/block", token=blocker.token)
        assert (await town.api.get("/feed", token=me.token)).data == {"entries": []}
    await town.track(friend)
    assert len((await town.api.get("/feed", token=me.token)).data["entries"]) == 1
    await town.api.put(f"/users/{friend.id}/block", token=me.token)
    assert (await town.api.get("/feed", token=me.token)).data == {"entries": []}
    # Accounts that are disabled rest.
    other = await town.person()
    await _follow(town, me, other)
    await town.track(other)
    await town.sql("UPDATE users SET is_active = false WHERE id = $1", other.id)
    assert (await town.api.get("/feed", token=me.token)).data == {"entries": []}


async def test_much_that_is_hidden_does_not_hide_what_is_not(town: Town) -> None:
    """Somebody passed a whole album on, which is private by now."""
    me, friend, other = await town.people(3)
    await _follow(town, me, friend)
    visible = [await town.track(other) for _ in range(3)]
    album = [await town.track(other) for _ in range(45)]
    at = NOON
    for track in (visible[0], *album[:40], visible[1], *album[40:], visible[2]):
        at -= timedelta(seconds=1)
        await _repost(town, friend, track, at)
    await town.sql("UPDATE tracks SET is_public = false WHERE id = ANY ($1)", album)
    for limit in (1, 2, 50):
        found = await town.all_pages("/feed", "entries", token=me.token, limit=limit)
        assert [entry["track"]["id"] for entry in found] == visible


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_page_by_page_everything_comes_once(town: Town, limit: int) -> None:
    """Also where many things of every kind happened at the same moment."""
    rng = random.Random(limit)
    me, *others = await town.people(5)
    await _follow(town, me, *others)
    moments = [NOON + timedelta(microseconds=n) for n in range(3)]
    expected = []
    for other in others:
        for _ in range(3):
            at = rng.choice(moments)
            track = await town.track(other, at=at)
            expected.append((at, 0, track, other.id))
            fan = rng.choice(others)
            at = rng.choice(moments)
            await _repost(town, fan, track, at)
            expected.append((at, 1, track, fan.id))
        at = rng.choice(moments)
        expected.append((at, 2, await _stream(town, other, at), other.id))
    expected.sort(reverse=True)
    found = await town.all_pages("/feed", "entries", token=me.token, limit=limit)
    kinds = ("track", "repost", "stream")
    assert [_what(entry) for entry in found] == [(kinds[kind], id, by) for _, kind, id, by in expected]


async def test_a_cursor_that_nobody_gave(town: Town) -> None:
    me = await town.person()
    for cursor in ("1", "1-2", "1-3-1-1", "9" * 19 + "-0-1-1", "a-b-c-d"):
        answer = await town.api.get(f"/feed?cursor={cursor}", token=me.token)
        refused(answer, 400, "VALIDATION_ERROR")


# How it is found -------------------------------------------------------------------------------------

# Person 1 follows 60 of 3,000, each with 5 tracks, 5 reposts, a broadcast on air and two that are over; 2,000 people
# follow him, and all like track 1, on which 5,000 things were said.
# What none of this needs takes most of the time of filling: indexes for searching by text, triggers, foreign keys.
_FILL = """
    ALTER TABLE track_reposts DISABLE TRIGGER USER; ALTER TABLE track_likes DISABLE TRIGGER USER;
    ALTER TABLE track_comments DISABLE TRIGGER USER;
    DROP INDEX users_name_trgm; DROP INDEX tracks_text_trgm; DROP INDEX tracks_tags;
    INSERT INTO users (username, email, password_hash)
        SELECT 'fan' || n, 'fan' || n || '@example.org', 'none' FROM generate_series(1, 9000) n;
    INSERT INTO tracks (owner_id, name, title, extension, content_type, size, status, duration_ms, created_at)
        SELECT 1 + n % 3000, 't' || n, 'song', 'mp3', 'audio/mpeg', 1, 'ready', 60000, now() - n * interval '1 s'
        FROM generate_series(1, 15000) n;
    INSERT INTO track_reposts (track_id, user_id, created_at)
        SELECT n, 1 + n * 7 % 3000, now() - n * interval '1 s' FROM generate_series(1, 15000) n;
    INSERT INTO track_likes SELECT 1, n, now() - n * interval '1 s' FROM generate_series(1, 2000) n;
    INSERT INTO track_likes (track_id, user_id) SELECT n, 1 + n % 3000 FROM generate_series(2, 10000) n;
    INSERT INTO track_comments (track_id, user_id, content, at_ms)
        SELECT CASE WHEN n <= 5000 THEN 1 ELSE n END, 1 + n % 3000, 'nice', n % 60000 FROM generate_series(1, 12000) n;
    INSERT INTO streams (owner_id, slug, title, category, key_hash, state, started_at)
        SELECT 1 + n % 3000, 's' || n, 'air', 'music', '', CASE WHEN n <= 3000 THEN 'live' ELSE 'ended' END,
            now() - n * interval '1 s'
        FROM generate_series(1, 9000) n;
    INSERT INTO follows (follower_id, followed_id) SELECT 1, n FROM generate_series(2, 61) n;
    INSERT INTO follows SELECT n, 1, now() - n * interval '1 s' FROM generate_series(2, 2001) n;
    INSERT INTO follows (follower_id, followed_id)
        SELECT 2 + n % 2999, 2 + (n * 13 + 1) % 2999 FROM generate_series(1, 20000) n
        WHERE n % 2999 <> (n * 13 + 1) % 2999 ON CONFLICT DO NOTHING;
    INSERT INTO blocks (blocker_id, blocked_id) SELECT n, n + 1 FROM generate_series(1, 2900) n;
    INSERT INTO mutes (muter_id, muted_id) SELECT n, n + 1 FROM generate_series(1, 2900) n;
    INSERT INTO playlists (owner_id, title) SELECT 1 + n % 3000, 'list' FROM generate_series(1, 9000) n;
    INSERT INTO playlist_items (playlist_id, track_id, position)
        SELECT 1 + n / 20, 1 + n, n % 20 FROM generate_series(0, 9999) n;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def full(postgres: Any) -> Iterator[str]:
    with filled(postgres, _FILL, unchecked=True) as url:
        yield url


class Looking(Explaining):
    """Also notes how many rows were looked at."""

    how = "ANALYZE, FORMAT JSON"
    rows = 0

    def note(self, node: dict[str, Any]) -> None:
        super().note(node)
        if "Scan" in node["Node Type"]:
            looked = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            self.rows += round(looked * node["Actual Loops"])


async def _look(conn: Any, unit: Any, args: tuple[Any, ...]) -> Looking:
    explaining = Looking(conn)
    await unit(explaining, *args)
    return explaining


async def test_every_page_is_found_by_indexes(full: str) -> None:
    async with open_database(full, acquire_timeout=30, statement_timeout=30) as db:
        place = feed_db.Place(datetime.now(UTC) - timedelta(hours=3), 1, 5, 5)
        for after in (None, place):
            seen = await db.read(_look, feed_db.feed, (1, after, 20))
            assert seen.queries <= 3, "as many queries whatever is on the page"
            assert seen.scans == []
            assert {"tracks_feed", "track_reposts_user", "streams_feed"} <= set(seen.indexes)
            if after is not None:
                for index, column in (
                    ("tracks_feed", "created_at"),
                    ("track_reposts_user", "created_at"),
                    ("streams_feed", "started_at"),
                ):
                    assert column in seen.indexes[index], "a later page must not read all those before it"
            # 60 people with 5 tracks and 5 reposts each, whatever else there is.
            assert seen.rows < 60 * 40, seen.rows
        stamp = Stamp(datetime.now(UTC) + timedelta(hours=1), 2**62)
        cases: list[tuple[Any, tuple[Any, ...]]] = [
            (follows.person, (1, 2)),
            (follows.followers, (1, stamp, 20)),
            (follows.following, (1, stamp, 20)),
            (follows.blocks, (1, None, 20)),
            (follows.likers, (1, None, 20)),
            (follows.likers, (1, stamp, 20)),
            (track_social.liked, (1, stamp, 20)),
            (track_social.of_person, (2, 1, 14_000, 20)),
            (track_social.newest_comments, (1, 1, None, 20)),
            (track_social.newest_comments, (1, 1, 4000, 20)),
            (track_social.timed_comments, (1, 1, 1000, 2000, None, 20)),
            (playlists.listed, (1, 1, 8000, 20)),
            (playlists.opened, (1, 1)),
        ]
        for unit, args in cases:
            seen = await db.read(_look, unit, args)
            assert seen.scans == [], unit
            assert unit is follows.person or seen.rows < 300, (unit, seen.rows)
