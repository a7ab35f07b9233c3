"""`/streams`: who sees which, who may change what, and what that does to sources, rooms and listeners."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.social.conftest import Person, refused
from tests.streams.conftest import Studio
from veza.actors.errors import Refused
from veza.db import stream_lists
from veza.db import streams as streams_db
from veza.security.signing import Signer
from veza.security.stream_keys import fits


async def test_a_new_stream_comes_with_all_that_its_source_needs(studio: Studio) -> None:
    me = await studio.person()
    made = await studio.stream(
        me, title="  Éclair & Straße – Nº 5 ", description="Slow\nsongs", category="talk"
    )
    assert re.fullmatch(r"eclair-strasse-no-5-[a-z0-9]{10}", made["slug"])
    assert made["title"] == "Éclair & Straße – Nº 5" and made["description"] == "Slow\nsongs"
    assert (made["category"], made["visibility"], made["record"], made["state"]) == (
        "talk",
        "public",
        False,
        "created",
    )
    assert made["owner"] == {"id": me.id, "username": me.username, "avatar": None}
    assert (made["room"], made["listeners"], made["peak_listeners"]) == (f"stream-{made['slug']}", 0, 0)
    key, source, slug = made["stream_key"], made["source"], made["slug"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{32}", key)
    assert source == {
        "server": "localhost",
        "port": 8080,
        "tls": False,
        "mount": f"/live/{slug}",
        "user": "source",
        "password": key,
        "icecast_url": f"icecast://source:{key}@localhost:8080/live/{slug}",
        "ffmpeg": source["ffmpeg"],
        "publish_socket": f"ws://localhost:8080/ws/stream/{slug}/publish",
        "rtmp_url": None,
        "listen": {
            "progressive": f"http://localhost:8080/live/{slug}",
            "hls": f"http://localhost:8080/live/{slug}/index.m3u8",
            "socket": f"ws://localhost:8080/ws/stream/{slug}",
        },
    }
    assert source["ffmpeg"].startswith("ffmpeg -re -i INPUT ")
    assert source["ffmpeg"].endswith(f" -f mp3 {source['icecast_url']}")
    mount = await studio.db.read(streams_db.mount, slug)
    assert mount is not None and fits(key, mount.key_hash) and not fits(key + "x", mount.key_hash)
    shown = await studio.get(f"/streams/{made['id']}", me)
    assert key not in shown.raw.decode(), "the key is shown once"
    assert await studio.room(made["room_id"]) == ("public", {me.id})


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("音楽", "stream"),
        ("!!!", "stream"),
        ("x" * 200, "x" * 32),
        ("--a--b--", "a-b"),
        ("ŁÓDŹ ıışç", "lodz-iisc"),
    ],
)
async def test_a_slug_is_made_of_any_title(studio: Studio, title: str, slug: str) -> None:
    made = await studio.stream(await studio.person(), title=title)
    assert made["slug"].rpartition("-")[0] == slug and len(made["room"]) <= 50


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({"title": ""}, {"title"}),
        ({"title": " \u200b\u2060 "}, {"title"}),
        ({"title": "x" * 201}, {"title"}),
        ({"title": "two\nlines"}, {"title"}),
        ({"title": "nul\x00"}, {"title"}),
        ({"title": 5, "category": "opera"}, {"title", "category"}),
        ({"visibility": "secret", "record": "yes"}, {"visibility", "record"}),
        ({"description": "x" * 5001}, {"description"}),
        ({"description": "bell\x07"}, {"description"}),
    ],
)
async def test_what_is_wrong_is_said_by_field(
    studio: Studio, wrong: dict[str, Any], fields: set[str]
) -> None:
    me = await studio.person()
    good = {"title": "Good", "category": "music", "visibility": "public"}
    answer = await studio.post("/streams", me, {**good, **wrong})
    refused(answer, 400, "VALIDATION_ERROR")
    assert set(answer.details) == fields
    made = await studio.stream(me)
    answer = await studio.put(f"/streams/{made['id']}", wrong, me)
    refused(answer, 400, "VALIDATION_ERROR")
    assert set(answer.details) == fields


async def test_who_sees_which_stream(studio: Studio) -> None:
    owner, other, guest = await studio.people(3)
    made = {v: await studio.stream(owner, visibility=v) for v in ("public", "unlisted", "private")}
    await studio.db.write(_enroll, made["private"]["room_id"], guest.id)

    async def sees(who: Person | None, key: str) -> set[str]:
        return {v for v, s in made.items() if (await studio.get(f"/streams/{s[key]}", who)).status == 200}

    assert await sees(owner, "id") == await sees(owner, "slug") == {"public", "unlisted", "private"}
    for who in (other, None):
        assert await sees(who, "id") == {"public"}, "ids can be counted through"
        assert await sees(who, "slug") == {"public", "unlisted"}
    assert await sees(guest, "slug") == {"public", "unlisted", "private"}, "he was let into its room"
    listed = (await studio.get(f"/streams?owner={owner.id}", owner)).data
    assert [s["slug"] for s in listed["streams"]] == [made["public"]["slug"]] and listed["total"] == 1
    mine = (await studio.get("/streams/mine", owner)).data
    assert [s["visibility"] for s in mine["streams"]] == ["private", "unlisted", "public"]
    refused(await studio.get("/streams/mine"), 401, "AUTH_REQUIRED")
    for nothing in ("0", "9" * 30, "no-such-slug", "No-Slug", "a_b", "%00", "..", "a" * 44):
        refused(await studio.get(f"/streams/{nothing}", owner), 404, "STREAM_NOT_FOUND")
    await studio.sql("UPDATE users SET is_active = false WHERE id = $1", owner.id)
    assert await sees(other, "slug") == set()
    assert (await studio.get(f"/streams?owner={owner.id}", other)).data["total"] == 0


async def _enroll(conn: Any, room_id: int, user_id: int) -> None:
    await conn.execute("INSERT INTO room_members (room_id, user_id) VALUES ($1, $2)", room_id, user_id)


Act = Callable[[Studio, str, Person | None], Awaitable[Any]]
ACTS: dict[str, Act] = {
    "change": lambda studio, slug, who: studio.put(f"/streams/{slug}", {"title": "Mine now"}, who),
    "delete": lambda studio, slug, who: studio.delete(f"/streams/{slug}", who),
    "end": lambda studio, slug, who: studio.post(f"/streams/{slug}/end", who),
    "key": lambda studio, slug, who: studio.post(f"/streams/{slug}/key", who),
    "stats": lambda studio, slug, who: studio.get(f"/streams/{slug}/stats", who),
}


@pytest.mark.parametrize("act", ACTS)
async def test_only_its_owner_has_a_say(studio: Studio, act: str) -> None:
    owner, other = await studio.people(2)
    for visibility, status in (("public", 403), ("unlisted", 403), ("private", 404)):
        made = await studio.stream(owner, visibility=visibility)
        assert (await ACTS[act](studio, made["slug"], other)).status == status
        assert (await ACTS[act](studio, made["slug"], None)).status == 401
        assert (await studio.get(f"/streams/{made['id']}", owner)).data["state"] == "created"
        assert (await ACTS[act](studio, made["slug"], owner)).status == 200


async def test_moderators_end_and_delete_and_that_is_written_down(studio: Studio) -> None:
    owner, moderator = await studio.person(), await studio.person("moderator")
    made = await studio.stream(owner, visibility="private", title="Noise")
    path = f"/streams/{made['id']}"
    refused(await studio.put(path, {"title": "Quiet"}, moderator), 404, "STREAM_NOT_FOUND")
    assert (await studio.post(f"{path}/end", moderator)).data["state"] == "ended"
    assert (await studio.delete(path, moderator)).status == 200

    async def entries(conn: Any) -> Any:
        rows = await conn.fetch(
            "SELECT action, target_type, target_id, details->>'title', ip FROM audit_log"
            " WHERE actor_id = $1 ORDER BY id",
            moderator.id,
        )
        return [tuple(row) for row in rows]

    assert await studio.db.read(entries) == [
        ("stream.end", "stream", made["id"], "Noise", "192.0.2.1"),
        ("stream.delete", "stream", made["id"], "Noise", "192.0.2.1"),
    ]


async def test_a_change_changes_what_it_names(studio: Studio) -> None:
    me = await studio.person()
    made = await studio.stream(me, title="Before", description="Words")
    path = f"/streams/{made['slug']}"
    changed = (await studio.put(path, {"title": "After", "category": "news", "record": True}, me)).data
    assert (changed["title"], changed["category"], changed["record"]) == ("After", "news", True)
    assert (changed["description"], changed["slug"]) == ("Words", made["slug"]), "a slug never changes"
    assert (await studio.put(path, {"description": None}, me)).data["description"] is None
    assert (await studio.put(path, {}, me)).data["title"] == "After"


async def test_lists_show_what_is_on_air_first_then_the_newest(studio: Studio, song: bytes) -> None:
    me, tag = await studio.person(), f"Wren {datetime.now().timestamp()}"
    made = [await studio.stream(me, title=f"{tag} {n}", category="news") for n in range(4)]
    other = await studio.stream(me, title="Nothing of it", category="talk")
    await studio.source(made[1]["id"], song)
    await studio.on_air(made[1]["id"])
    await studio.post(f"/streams/{made[3]['id']}/end", me)

    async def ids(query: str) -> list[int]:
        answer = await studio.get(f"/streams?owner={me.id}&{query}")
        assert answer.status == 200, answer.raw
        return [s["id"] for s in answer.data["streams"]]

    order = [made[1]["id"], other["id"], made[3]["id"], made[2]["id"], made[0]["id"]]
    assert await ids("") == order
    assert await ids("page=1&limit=2") + await ids("page=2&limit=2") + await ids("page=3&limit=2") == order
    assert await ids("category=talk") == [other["id"]]
    assert await ids(f"search={tag.upper()}") == [id for id in order if id != other["id"]]
    assert await ids("search=no") == [other["id"]], "two letters begin the title"
    assert await ids("search=%25") == [] and await ids("search=____") == []
    assert await ids("live=true") == [made[1]["id"]] and await ids("live=false") == order[1:]
    live = (await studio.get(f"/streams/{made[1]['id']}")).data
    assert (live["state"], live["content_type"]) == ("live", "audio/mpeg") and live["started_at"]
    answer = await studio.get("/streams?category=opera&page=0&owner=x&live=perhaps")
    assert set(answer.details) == {"category", "page", "owner", "live"}


async def test_a_new_key_throws_the_old_one_off(studio: Studio, song: bytes) -> None:
    me = await studio.person()
    made = await studio.stream(me)
    source = await studio.source(made["id"], song)
    fresh = (await studio.post(f"/streams/{made['id']}/key", me)).data
    assert fresh["stream_key"] != made["stream_key"] and fresh["source"]["password"] == fresh["stream_key"]
    with trio.fail_after(30):
        await source.gone.wait()
    with pytest.raises(Refused, match="STREAM_KEY_CHANGED"):
        await source.pour(song)
    mount = await studio.db.read(streams_db.mount, made["slug"])
    assert mount is not None and fits(fresh["stream_key"], mount.key_hash)
    assert not fits(made["stream_key"], mount.key_hash)
    await studio.post(f"/streams/{made['id']}/end", me)
    refused(await studio.post(f"/streams/{made['id']}/key", me), 409, "STREAM_ENDED")


async def test_who_ends_a_stream_ends_its_source_for_good(studio: Studio, song: bytes) -> None:
    me = await studio.person()
    made = await studio.stream(me)
    source = await studio.source(made["id"], song)
    ended = (await studio.post(f"/streams/{made['slug']}/end", me)).data
    assert ended["state"] == "ended" and ended["ended_at"] is not None
    assert source.gone.is_set()
    again = (await studio.post(f"/streams/{made['slug']}/end", me)).data
    assert again["ended_at"] == ended["ended_at"], "an end is the end"
    with pytest.raises(Refused, match="STREAM_ENDED"):
        await studio.source(made["id"])


async def test_a_deleted_stream_takes_its_room_and_files_along(studio: Studio, song: bytes) -> None:
    me, other = await studio.people(2)
    made = await studio.stream(me)
    assert (await studio.post(f"/streams/{made['slug']}/chat", other)).data["role"] == "member"
    source = await studio.source(made["id"], song)
    assert (await studio.delete(f"/streams/{made['id']}", me)).status == 200
    assert source.gone.is_set()
    assert await studio.room(made["room_id"]) is None
    refused(await studio.get(f"/chat/rooms/{made['room']}", other), 404, "ROOM_NOT_FOUND")
    refused(await studio.get(f"/streams/{made['id']}", me), 404, "STREAM_NOT_FOUND")
    refused(await studio.delete(f"/streams/{made['id']}", me), 404, "STREAM_NOT_FOUND")
    assert not studio.library.recordings_of(made["id"]).exists()


async def test_the_room_is_as_open_as_the_stream(studio: Studio) -> None:
    me, first, second, third = await studio.people(4)
    made = await studio.stream(me)
    path, room = f"/streams/{made['slug']}", made["room_id"]
    assert (await studio.post(f"{path}/chat", first)).status == 200
    assert (await studio.put(path, {"visibility": "unlisted"}, me)).status == 200
    assert await studio.room(room) == ("private", {me.id, first.id})
    refused(await studio.post(f"/chat/rooms/{room}/join", second), 404, "ROOM_NOT_FOUND")
    entered = await studio.post(f"{path}/chat", second)
    assert entered.data["role"] == "member", "who has the link may talk"
    invite = (await studio.post(f"/chat/rooms/{room}/invites", me, {})).data
    assert (await studio.put(path, {"visibility": "private"}, me)).status == 200
    assert await studio.room(room) == ("private", {me.id}), (
        "who was in by the link is not let hear a private one"
    )
    for who in (first, second, third):
        refused(await studio.post(f"{path}/chat", who), 404, "STREAM_NOT_FOUND")
        refused(await studio.get(f"/chat/rooms/{room}", who), 404, "ROOM_NOT_FOUND")
    refused(await studio.post(f"/chat/invites/{invite['code']}", third), 404, "INVITE_NOT_FOUND")
    invite = (await studio.post(f"/chat/rooms/{room}/invites", me, {})).data
    assert (await studio.post(f"/chat/invites/{invite['code']}", third)).status == 200
    assert (await studio.get(path, third)).status == 200, "who was invited into the room may hear it"
    assert await studio.db.read(streams_db.may_hear, made["id"], third.id)
    assert (await studio.put(path, {"title": "Still private", "visibility": "private"}, me)).status == 200
    assert await studio.room(room) == ("private", {me.id, third.id})
    assert (await studio.put(path, {"visibility": "public"}, me)).status == 200
    assert await studio.room(room) == ("public", {me.id, third.id})


@pytest.mark.parametrize("visibility", ["private", "unlisted", "public"])
async def test_nobody_opens_or_closes_the_room_beside_the_stream(studio: Studio, visibility: str) -> None:
    me, stranger = await studio.people(2)
    made = await studio.stream(me, visibility=visibility)
    room, private = made["room_id"], visibility != "public"
    refused(
        await studio.put(f"/chat/rooms/{room}", {"is_private": not private}, me), 403, "PERMISSION_DENIED"
    )
    assert await studio.room(room) == ("private" if private else "public", {me.id})
    same = await studio.put(f"/chat/rooms/{room}", {"is_private": private, "description": "Talk."}, me)
    assert same.status == 200, same.raw
    if visibility == "private":
        refused(await studio.post(f"/chat/rooms/{room}/join", stranger), 404, "ROOM_NOT_FOUND")
        assert not await studio.db.read(streams_db.may_hear, made["id"], stranger.id)


async def test_a_room_given_away_still_follows_the_stream(studio: Studio) -> None:
    me, heir = await studio.people(2)
    made = await studio.stream(me)
    path, room = f"/streams/{made['id']}", made["room_id"]
    await studio.post(f"{path}/chat", heir)
    given = await studio.put(f"/chat/rooms/{room}/members/{heir.id}", {"role": "owner"}, me)
    assert given.status == 200, given.raw
    await studio.post(f"/chat/rooms/{room}/leave", me)
    assert (await studio.put(path, {"visibility": "private"}, me)).status == 200
    assert await studio.room(room) == ("private", {heir.id})
    assert (await studio.post(f"{path}/chat", me)).data["role"] == "member"
    assert (await studio.delete(path, me)).status == 200
    assert await studio.room(room) is None


async def test_a_room_that_was_deleted_comes_back_when_asked_for(studio: Studio) -> None:
    me, other = await studio.people(2)
    made = await studio.stream(me)
    assert (await studio.delete(f"/chat/rooms/{made['room_id']}", me)).status == 200
    assert (await studio.get(f"/streams/{made['id']}")).data["room_id"] is None
    entered = (await studio.post(f"/streams/{made['id']}/chat", other)).data
    assert entered["name"] == made["room"] and entered["owner_id"] == me.id
    await studio.delete(f"/chat/rooms/{entered['id']}", me)
    assert (await studio.put(f"/streams/{made['id']}", {"visibility": "private"}, me)).status == 200
    assert (await studio.delete(f"/streams/{made['id']}", me)).status == 200


async def test_a_name_that_is_taken_keeps_a_stream_from_becoming_public(studio: Studio) -> None:
    me, other = await studio.people(2)
    made = await studio.stream(me, visibility="unlisted")
    squat = await studio.post("/chat/rooms", other, {"name": made["room"].upper()})
    assert squat.status == 201
    refused(await studio.put(f"/streams/{made['id']}", {"visibility": "public"}, me), 409, "CONFLICT")
    assert (await studio.get(f"/streams/{made['id']}", me)).data["visibility"] == "unlisted"
    assert await studio.room(made["room_id"]) == ("private", {me.id})


async def test_streams_rooms_do_not_use_up_ones_own(studio: Studio) -> None:
    me = await studio.person()
    most = studio.api.services.settings.rooms_owned_max
    await studio.db.write(_rooms, me.id, most - 1)
    await studio.stream(me)
    assert (await studio.post("/chat/rooms", me, {"name": f"last of {me.username}"})).status == 201
    refused(await studio.post("/chat/rooms", me, {"name": f"more of {me.username}"}), 409, "TOO_MANY_ROOMS")


async def _rooms(conn: Any, owner_id: int, count: int) -> None:
    await conn.execute(
        "WITH made AS (INSERT INTO rooms (kind, name, owner_id, member_count)"
        " SELECT 'private', 'r' || n, $1, 1 FROM generate_series(1, $2::int) n RETURNING id)"
        " INSERT INTO room_members (room_id, user_id, role) SELECT id, $1, 'owner' FROM made",
        owner_id,
        count,
    )


async def test_nobody_has_too_many_streams(studio: Studio) -> None:
    me = await studio.person()
    most = studio.api.services.settings.streams_owned_max
    made = [await studio.stream(me) for _ in range(most)]
    body = {"title": "One more"}
    refused(await studio.post("/streams", me, body), 409, "TOO_MANY_STREAMS")
    await studio.post(f"/streams/{made[0]['id']}/end", me)
    assert (await studio.post("/streams", me, body)).status == 201


async def test_where_to_listen(studio: Studio) -> None:
    me, other = await studio.people(2)
    signer = Signer(studio.api.services.settings.secret_key)
    public = await studio.stream(me, visibility="unlisted")
    slug = public["slug"]
    found = (await studio.get(f"/streams/{slug}/listen")).data
    assert found == {
        "progressive": f"/live/{slug}",
        "hls": f"/live/{slug}/index.m3u8",
        "socket": f"/ws/stream/{slug}",
        "expires_at": None,
    }
    whole = (await studio.get(f"/streams/{slug}/listen?absolute=true")).data
    assert whole["hls"] == f"http://localhost:8080{found['hls']}"
    assert whole["socket"] == f"ws://localhost:8080{found['socket']}"
    slug = (await studio.stream(me, visibility="private"))["slug"]
    refused(await studio.get(f"/streams/{slug}/listen"), 404, "STREAM_NOT_FOUND")
    refused(await studio.get(f"/streams/{slug}/listen", other), 404, "STREAM_NOT_FOUND")
    found = (await studio.get(f"/streams/{slug}/listen", me)).data
    match = re.fullmatch(rf"/live/(\d+)\.([0-9a-f]{{64}})\.{me.id}/{slug}", found["progressive"])
    assert match is not None and found["hls"] == found["progressive"] + "/index.m3u8"
    now = datetime.now(UTC)
    until = signer.verify(f"live/{slug}/{me.id}", match[1], match[2], now.timestamp())
    assert datetime.fromisoformat(found["expires_at"]).timestamp() == until
    assert timedelta(hours=5) < datetime.fromtimestamp(until, UTC) - now < timedelta(hours=7)


async def test_the_figures_are_the_owners(studio: Studio, song: bytes) -> None:
    me = await studio.person()
    made = await studio.stream(me, record=True)
    path = f"/streams/{made['id']}/stats"
    fresh = (await studio.get(path, me)).data
    assert fresh["curve"] == {"step_s": 60, "points": []} and fresh["recordings"] == []
    await studio.source(made["id"], song)
    await studio.post(f"/streams/{made['id']}/end", me)
    start = datetime(2026, 5, 1, 20, 0, tzinfo=UTC)
    await studio.db.write(_minutes, made["id"], start, 3_000)
    await studio.db.write(streams_db.count_up, made["id"], peak=9, listeners=12, listened_s=99, bytes_in=1)
    seen = (await studio.get(path, me)).data
    assert (seen["state"], seen["peak_listeners"], seen["listener_count"], seen["listened_s"]) == (
        "ended",
        9,
        12,
        99,
    )
    assert seen["bytes_in"] == len(song) + 1
    assert [r["content_type"] for r in seen["recordings"]] == ["audio/mpeg"]


async def test_a_curve_of_any_length_has_few_points(studio: Studio) -> None:
    made = await studio.stream(await studio.person())
    start = datetime(2026, 5, 1, 20, 0, tzinfo=UTC)
    await studio.db.write(_minutes, made["id"], start, 3_000)
    curve = await studio.db.read(stream_lists.curve, made["id"])
    assert curve.step_s == 180 and len(curve.points) == 1_000
    assert [(p.at, p.listeners) for p in curve.points[:2]] == [(start, 2), (start + timedelta(minutes=3), 5)]


async def _minutes(conn: Any, stream_id: int, start: datetime, count: int) -> None:
    await conn.execute(
        "INSERT INTO stream_minutes SELECT $1, $2::timestamptz + n * interval '1 minute', n"
        " FROM generate_series(0, $3::int - 1) n",
        stream_id,
        start,
        count,
    )


async def test_lists_go_by_their_index(studio: Studio) -> None:
    """Not by sorting everything: among many streams a page costs a page."""
    owner = await studio.person()

    async def explain(conn: Any) -> str:
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute(
            "INSERT INTO streams (owner_id, slug, title, category, key_hash, state)"
            " SELECT $1, 'many-' || n, 'Many ' || n, 'music', ''::bytea, 'ended' FROM generate_series(1, 5000) n",
            owner.id,
        )
        await conn.execute("ANALYZE streams")
        plans = []
        for sql, args in queries:
            rows = await conn.fetch(f"EXPLAIN {sql}", *args)
            plans.append("\n".join(row[0] for row in rows))
        await transaction.rollback()
        return "\n".join(plans)

    class Caught:
        """Notes what a list would ask."""

        async def fetchval(self, sql: str, *args: Any) -> int:
            return 0

        async def fetch(self, sql: str, *args: Any) -> list[Any]:
            queries.append((sql, args))
            return []

    queries: list[tuple[str, tuple[Any, ...]]] = []
    wanted: dict[str, Any] = {"category": None, "search": None, "on_air": None, "owner_id": None}
    wanted |= {"limit": 20, "offset": 0}
    await stream_lists.listed(Caught(), **wanted)
    plan = await studio.db.read(explain)
    assert "streams_public" in plan and "Sort" not in plan, plan
    queries.clear()
    await stream_lists.listed(Caught(), **{**wanted, "search": "any 4711"})
    plan = await studio.db.read(explain)
    assert "streams_title_trgm" in plan, plan
