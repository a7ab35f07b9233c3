"""Likes, reposts and timed comments: exact counts, whoever comes at once; nothing for who may not see the track."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.social.conftest import Person, Town, refused
from veza.db import tracks

KINDS = [
    ("like", "liked", "like_count", "track_likes"),
    ("repost", "reposted", "repost_count", "track_reposts"),
]


@pytest.mark.parametrize(("path", "flag", "count", "table"), KINDS)
async def test_a_track_is_marked_once_and_the_mark_is_taken_back(
    town: Town, path: str, flag: str, count: str, table: str
) -> None:
    ann, bob = await town.people(2)
    track = await town.track(ann)
    for by, many in ((bob, 1), (bob, 1), (ann, 2)):
        answer = await town.api.put(f"/tracks/{track}/{path}", token=by.token)
        assert answer.data == {flag: True, count: many}
    shown = await town.db.read(tracks.visible, track, bob.id)
    assert shown is not None and getattr(shown, flag) and getattr(shown, count) == 2
    for many in (1, 1):
        answer = await town.api.delete(f"/tracks/{track}/{path}", token=bob.token)
        assert answer.data == {flag: False, count: many}


@pytest.mark.parametrize(("path", "flag", "count", "table"), KINDS)
async def test_counts_are_exact_whoever_comes_at_once(
    town: Town, path: str, flag: str, count: str, table: str
) -> None:
    """Many people, each hitting the button several times, some taking it back; and one whose account ends."""
    owner, leaver, *fans = await town.people(10)
    track = await town.track(owner)

    async def hammer(fan: Person, methods: str) -> None:
        for method in methods.split():
            assert (await town.api.request(method, f"/tracks/{track}/{path}", token=fan.token)).status == 200

    async with trio.open_nursery() as nursery:
        for number, fan in enumerate([leaver, *fans]):
            for _ in range(2):
                nursery.start_soon(hammer, fan, "PUT PUT DELETE PUT" if number % 3 else "PUT DELETE")
    rows = await town.sql(f"SELECT count(*) FROM {table} WHERE track_id = $1", track)
    assert await town.sql(f"SELECT {count} FROM tracks WHERE id = $1", track) == rows >= 6
    await town.api.put(f"/tracks/{track}/{path}", token=leaver.token)
    await town.sql("DELETE FROM users WHERE id = $1", leaver.id)
    rows = await town.sql(f"SELECT count(*) FROM {table} WHERE track_id = $1", track)
    assert await town.sql(f"SELECT {count} FROM tracks WHERE id = $1", track) == rows
    await town.sql("DELETE FROM tracks WHERE id = $1", track)
    assert await town.sql(f"SELECT count(*) FROM {table} WHERE track_id = $1", track) == 0


async def test_what_one_may_not_see_does_not_exist(town: Town) -> None:
    ann, bob = await town.people(2)
    hidden = [await town.track(ann, public=False), await town.track(ann, status="processing"), 0, 10**15]
    for track in hidden:
        at = f"/tracks/{track}"
        for method, path in (("PUT", "like"), ("DELETE", "like"), ("PUT", "repost"), ("DELETE", "repost")):
            answer = await town.api.request(method, f"{at}/{path}", token=bob.token)
            refused(answer, 404, "TRACK_NOT_FOUND")
        for path in ("likes", "comments", "comments?sort=time"):
            refused(await town.api.get(f"{at}/{path}", token=bob.token), 404, "TRACK_NOT_FOUND")
            refused(await town.api.get(f"{at}/{path}"), 404, "TRACK_NOT_FOUND")
        body = {"content": "x", "at_ms": 0}
        refused(await town.api.post(f"{at}/comments", body, token=bob.token), 404, "TRACK_NOT_FOUND")
        refused(await town.api.delete(f"{at}/comments/1", token=bob.token), 404, "COMMENT_NOT_FOUND")
    assert (await town.api.put(f"/tracks/{hidden[0]}/like", token=ann.token)).status == 200
    assert (await town.api.put(f"/tracks/{hidden[0]}/like")).status == 401


async def test_a_like_can_be_taken_back_from_a_track_that_became_private(town: Town) -> None:
    ann, bob = await town.people(2)
    track = await town.track(ann)
    await town.api.put(f"/tracks/{track}/like", token=bob.token)
    await town.sql("UPDATE tracks SET is_public = false WHERE id = $1", track)
    assert await town.all_pages("/users/me/likes", "tracks", token=bob.token) == []
    answer = await town.api.delete(f"/tracks/{track}/like", token=bob.token)
    assert answer.data == {"liked": False, "like_count": 0}
    refused(await town.api.delete(f"/tracks/{track}/like", token=bob.token), 404, "TRACK_NOT_FOUND")


@pytest.mark.parametrize("blocker", ["owner", "fan"])
async def test_between_people_who_blocked_each_other_nothing_new_is_done(town: Town, blocker: str) -> None:
    owner, fan = await town.people(2)
    track = await town.track(owner)
    await town.api.put(f"/tracks/{track}/repost", token=fan.token)
    one, other = (owner, fan) if blocker == "owner" else (fan, owner)
    await town.api.put(f"/users/{other.id}/block", token=one.token)
    refused(await town.api.put(f"/tracks/{track}/like", token=fan.token), 403, "BLOCKED")
    refused(await town.api.put(f"/tracks/{track}/repost", token=fan.token), 403, "BLOCKED")
    body = {"content": "x", "at_ms": 0}
    refused(await town.api.post(f"/tracks/{track}/comments", body, token=fan.token), 403, "BLOCKED")
    assert (await town.api.get(f"/tracks/{track}/comments", token=fan.token)).status == 200
    assert (await town.api.delete(f"/tracks/{track}/repost", token=fan.token)).data["repost_count"] == 0
    assert await town.sql("SELECT like_count + comment_count FROM tracks WHERE id = $1", track) == 0


async def test_who_likes_a_track_and_what_somebody_likes(town: Town) -> None:
    owner, *fans = await town.people(5)
    songs = [await town.track(owner) for _ in range(4)]
    for fan in fans:
        await town.api.put(f"/tracks/{songs[0]}/like", token=fan.token)
    for song in songs[1:]:
        await town.api.put(f"/tracks/{song}/like", token=fans[0].token)
    likers = await town.all_pages(f"/tracks/{songs[0]}/likes", "users", limit=3)
    assert [u["id"] for u in likers] == [fan.id for fan in reversed(fans)]
    assert (await town.api.get(f"/tracks/{songs[0]}/likes")).json["meta"]["total"] == 4
    liked = await town.all_pages("/users/me/likes", "tracks", token=fans[0].token)
    assert [t["id"] for t in liked] == list(reversed(songs))
    assert all(t["liked"] and not t["reposted"] and t["owner"]["id"] == owner.id for t in liked)


async def test_tracks_of_somebody(town: Town) -> None:
    ann, bob = await town.people(2)
    songs = [await town.track(ann) for _ in range(3)]
    hidden = [await town.track(ann, public=False), await town.track(ann, status="failed")]
    await town.track(bob)
    path = f"/users/{ann.id}/tracks"
    assert [t["id"] for t in await town.all_pages(path, "tracks")] == list(reversed(songs))
    assert [t["id"] for t in await town.all_pages(path, "tracks", token=bob.token)] == list(reversed(songs))
    mine = await town.all_pages(path, "tracks", token=ann.token)
    assert [t["id"] for t in mine] == list(reversed(songs + hidden))


# Comments --------------------------------------------------------------------------------------------


async def _say(town: Town, track: int, by: Person, content: str, at_ms: int) -> dict[str, Any]:
    answer = await town.api.post(
        f"/tracks/{track}/comments", {"content": content, "at_ms": at_ms}, token=by.token
    )
    assert answer.status == 201, answer.raw
    return dict(answer.data)


async def test_comments_stand_at_their_moment(town: Town) -> None:
    ann, bob = await town.people(2)
    track = await town.track(ann, duration_ms=60_000)
    moments = [60_000, 0, 30_000, 30_000, 1_000]
    said = [
        await _say(town, track, ann if at else bob, f"  nice\r\n{number} ", at)
        for number, at in enumerate(moments)
    ]
    assert said[1]["user"] == {"id": bob.id, "username": bob.username, "avatar": None}
    assert (said[2]["content"], said[2]["at_ms"], said[2]["track_id"]) == ("nice\n2", 30_000, track)
    at = f"/tracks/{track}/comments"
    newest = await town.all_pages(at, "comments")
    assert [c["id"] for c in newest] == [c["id"] for c in reversed(said)]
    timed = await town.all_pages(f"{at}?sort=time", "comments")
    assert [c["at_ms"] for c in timed] == sorted(moments)
    assert [c["id"] for c in timed if c["at_ms"] == 30_000] == [said[2]["id"], said[3]["id"]]
    part = await town.all_pages(f"{at}?from_ms=1000&to_ms=60000", "comments")
    assert [c["at_ms"] for c in part] == [1_000, 30_000, 30_000]
    assert [c["at_ms"] for c in await town.all_pages(f"{at}?to_ms=1000", "comments")] == [0]
    assert (await town.api.get(f"{at}?from_ms=60001")).data == {"comments": []}
    assert (await town.api.get(at)).json["meta"]["total"] == 5
    refused(await town.api.get(f"{at}?sort=time&cursor=5"), 400, "VALIDATION_ERROR")
    refused(await town.api.get(f"{at}?cursor=5-5"), 400, "VALIDATION_ERROR")
    refused(await town.api.get(f"{at}?sort=loud"), 400, "VALIDATION_ERROR")


async def test_comments_that_cannot_be(town: Town) -> None:
    ann = await town.person()
    track = await town.track(ann, duration_ms=60_000)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"content": "x", "at_ms": 60_001}, "at_ms"),
        ({"content": "x", "at_ms": -1}, "at_ms"),
        ({"content": "x", "at_ms": 1.5}, "at_ms"),
        ({"content": "x", "at_ms": "5"}, "at_ms"),
        ({"content": "x", "at_ms": 2**70}, "at_ms"),
        ({"content": " \n ", "at_ms": 1}, "content"),
        ({"content": "x" * 1001, "at_ms": 1}, "content"),
        ({"content": "a\x1bb", "at_ms": 1}, "content"),
        ({"content": "a\x00b", "at_ms": 1}, "content"),
        ({"content": 5, "at_ms": 1}, "content"),
        ({"at_ms": 1}, "content"),
    ]
    for body, field in cases:
        answer = await town.api.post(f"/tracks/{track}/comments", body, token=ann.token)
        refused(answer, 400, "VALIDATION_ERROR")
        assert list(answer.details) == [field]
    assert await town.sql("SELECT comment_count FROM tracks WHERE id = $1", track) == 0


async def test_who_may_delete_a_comment(town: Town) -> None:
    owner, author, other = await town.people(3)
    moderator = await town.person(role="moderator")
    track, elsewhere = await town.track(owner), await town.track(owner)
    for who, status in ((other, 403), (author, 200), (owner, 200), (moderator, 200)):
        comment = await _say(town, track, author, "hm", 5)
        refused(
            await town.api.delete(f"/tracks/{elsewhere}/comments/{comment['id']}", token=author.token),
            404,
            "COMMENT_NOT_FOUND",
        )
        answer = await town.api.delete(f"/tracks/{track}/comments/{comment['id']}", token=who.token)
        assert answer.status == status, answer.raw
        if status == 200:
            again = await town.api.delete(f"/tracks/{track}/comments/{comment['id']}", token=who.token)
            refused(again, 404, "COMMENT_NOT_FOUND")
    assert await town.sql("SELECT comment_count FROM tracks WHERE id = $1", track) == 1


async def test_comments_of_who_was_blocked_and_of_who_is_gone(town: Town) -> None:
    owner, reader, troll, gone = await town.people(4)
    track = await town.track(owner)
    for by in (troll, gone):
        await _say(town, track, by, f"by {by.id}", 1)
    await town.api.put(f"/users/{troll.id}/block", token=reader.token)
    await town.sql("DELETE FROM users WHERE id = $1", gone.id)
    mine = (await town.api.get(f"/tracks/{track}/comments", token=reader.token)).data["comments"]
    assert [(c["content"], c["user"]) for c in mine] == [(f"by {gone.id}", None)]
    assert len((await town.api.get(f"/tracks/{track}/comments")).data["comments"]) == 2


async def test_comments_count_as_messages(town: Town, settings: Any) -> None:
    ann = await town.person()
    track = await town.track(ann)
    while town.api.services.message_rates.take(ann.id) == 0:
        pass
    answer = await town.api.post(f"/tracks/{track}/comments", {"content": "x"}, token=ann.token)
    refused(answer, 429, "RATE_LIMITED")
    assert int(answer.headers["retry-after"]) >= 1
