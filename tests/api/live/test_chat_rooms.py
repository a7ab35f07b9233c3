"""Rooms over REST: listed, made, changed, joined and left."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio

from tests.api.conftest import Answer, Api, Person
from tests.api.live.conftest import Listener
from tests.api.live.people import join, make, say, staff
from veza.app import Core
from veza.config import Settings

FIELDS = {
    "id", "name", "description", "kind", "is_private", "owner_id", "member_count", "online", "unread", "last_message",
    "created_at", "role", "last_seq", "last_read_seq", "slow_mode_s", "with_user",
}  # fmt: skip


def names(answer: Answer) -> list[str]:
    return [room["name"] for room in answer.data["rooms"]]


async def test_general_is_there_from_the_start(api: Api) -> None:
    alice = await api.person("alice")
    answer = await api.get("/chat/rooms", token=alice.token)
    assert answer.json["meta"] == {"page": 1, "per_page": 20, "total": 1, "total_pages": 1}
    (room,) = answer.data["rooms"]
    assert set(room) == FIELDS
    assert (room["name"], room["owner_id"], room["role"], room["last_message"]) == (
        "general",
        None,
        None,
        None,
    )


async def test_a_room_from_its_making_to_its_end(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    made = await api.post("/chat/rooms", {"name": " Jazz ", "description": "swing"}, token=alice.token)
    assert made.status == 201 and set(made.data) == FIELDS
    assert made.headers["location"] == f"/api/v1/chat/rooms/{made.data['id']}"
    assert (made.data["name"], made.data["owner_id"], made.data["role"]) == ("Jazz", alice.id, "owner")
    assert (await api.post("/chat/rooms", {"name": "jAZZ"}, token=bob.token)).code == "CONFLICT"
    assert (await api.post("/chat/rooms/Jazz/join", token=bob.token)).data["member_count"] == 2
    said = await say(api, "Jazz", bob, "hi")
    shown = (await api.get("/chat/rooms/JAZZ", token=alice.token)).data
    assert shown["last_message"]["content"] == "hi" and shown["last_message"]["username"] == "bob"
    assert shown["unread"] == 1 and shown["last_message"]["id"] == said["id"]
    assert (await api.get("/chat/rooms/jazz", token=bob.token)).data["unread"] == 0, "one's own is read"
    assert (await api.delete("/chat/rooms/Jazz", token=bob.token)).status == 403
    assert (await api.delete("/chat/rooms/Jazz", token=alice.token)).status == 200
    for person in (alice, bob):
        assert (await api.get("/chat/rooms/Jazz", token=person.token)).code == "ROOM_NOT_FOUND"
        assert (await api.get(f"/chat/rooms/{made.data['id']}", token=person.token)).status == 404
        assert names(await api.get("/chat/rooms", token=person.token)) == ["general"]
    assert (await api.get(f"/chat/messages/{said['id']}", token=bob.token)).status == 404
    again = await api.post("/chat/rooms", {"name": "Jazz"}, token=bob.token)
    assert again.status == 201 and again.data["id"] != made.data["id"]
    assert (await api.get("/chat/rooms/Jazz", token=alice.token)).data["id"] == again.data["id"]


async def test_lists_show_public_rooms_and_ones_own(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    await make(api, alice, "secret", is_private=True)
    await make(api, alice, "open")
    await api.post(f"/chat/dm/{bob.id}", {"content": "x"}, token=alice.token)
    assert names(await api.get("/chat/rooms", token=alice.token)) == ["general", "secret", "open"]
    assert names(await api.get("/chat/rooms", token=bob.token)) == ["general", "open"]
    assert names(await api.get("/chat/rooms?mine=true", token=alice.token)) == ["secret", "open"]
    assert names(await api.get("/chat/rooms?mine=true", token=bob.token)) == []
    assert names(await api.get("/chat/rooms?search=secre", token=bob.token)) == []
    assert (await api.get("/chat/rooms?search=secre", token=bob.token)).json["meta"]["total"] == 0


async def test_lists_are_searched_literally(api: Api) -> None:
    alice = await api.person("alice")
    for name in ("Blues Bar", "blue notes", "100% swing", "under_score", "under-score", "ÉTUDES"):
        await make(api, alice, name)

    async def found(text: str) -> list[str]:
        return names(await api.get(f"/chat/rooms?search={quote(text)}", token=alice.token))

    assert await found("BLUE") == ["Blues Bar", "blue notes"]
    assert await found("bl") == ["Blues Bar", "blue notes"]
    assert await found("0% s") == ["100% swing"]
    assert await found("er_s") == ["under_score"]
    assert await found("études") == ["ÉTUDES"]
    for nothing in ("%", "_", "\\", "' OR 1=1 --", "'; DROP TABLE rooms; --", "%%%"):
        assert await found(nothing) == [], nothing
    assert await found(" ") == [
        "general",
        *await found("bl"),
        "100% swing",
        "under_score",
        "under-score",
        "ÉTUDES",
    ]


async def test_lists_are_paged_by_number_and_by_cursor(api: Api) -> None:
    alice = await api.person("alice")
    for n in range(6):
        await make(api, alice, f"room {n}", is_private=n % 2 == 0)
    pages = [await api.get(f"/chat/rooms?limit=3&page={n}", token=alice.token) for n in (1, 2, 3, 4)]
    assert [name for page in pages for name in names(page)] == ["general", *(f"room {n}" for n in range(6))]
    assert [len(names(page)) for page in pages] == [3, 3, 1, 0]
    assert pages[0].json["meta"]["total"] == 7 and pages[0].json["meta"]["total_pages"] == 3
    by_cursor, cursor = [], ""
    while True:
        page = await api.get(f"/chat/rooms?limit=2{cursor}", token=alice.token)
        by_cursor += names(page)
        if "next_cursor" not in page.json["meta"]:
            break
        cursor = f"&cursor={page.json['meta']['next_cursor']}"
    assert by_cursor == ["general", *(f"room {n}" for n in range(6))]


async def test_numbers_out_of_range(api: Api) -> None:
    alice = await api.person("alice")
    for query in (
        "page=0", "page=-1", "page=x", "limit=0", "limit=101", "limit=-5", "limit=1e9", "page=1000000", "cursor=-1",
        "cursor=99999999999999999999", "search=%00", "search=" + "x" * 101, "mine=perhaps",
    ):  # fmt: skip
        answer = await api.get(f"/chat/rooms?{query}", token=alice.token)
        assert answer.status == 400 and answer.details, query


async def test_rooms_that_cannot_be(api: Api) -> None:
    alice = await api.person("alice")
    for body in (
        {}, {"name": ""}, {"name": "   "}, {"name": "x" * 51}, {"name": "12345"}, {"name": "١٢٣"}, {"name": "a/b"},
        {"name": "nul\x00"}, {"name": "line\nbreak"}, {"name": "\u2028"}, {"name": 5}, {"name": None}, {"name": ["x"]},
        {"name": "ok", "description": "x" * 1001}, {"name": "ok", "description": "\x07"},
        {"name": "ok", "description": 1}, {"name": "ok", "is_private": "yes"}, {"name": "ok", "is_private": None},
        [], "x", 5,
    ):  # fmt: skip
        answer = await api.post("/chat/rooms", body, token=alice.token)
        assert answer.status == 400 and answer.code, body
    assert names(await api.get("/chat/rooms", token=alice.token)) == ["general"]


async def test_names_of_every_script_find_their_room(api: Api) -> None:
    alice = await api.person("alice")
    for name in ("日本語", "مرحبا", "🎸🎷", "a", "x" * 50, "2 Tone", "Robert'); DROP TABLE users;--", "%2F"):
        room = await make(api, alice, name)
        shown = await api.get(f"/chat/rooms/{quote(name, safe='')}", token=alice.token)
        assert shown.data["id"] == room, name


async def test_letter_case_is_the_databases_to_judge(api: Api) -> None:
    alice = await api.person("alice")
    room = await make(api, alice, "İstanbul")
    assert (await api.get(f"/chat/rooms/{quote('İstanbul')}", token=alice.token)).data["id"] == room


async def test_many_make_one_room_at_the_same_moment(api: Api) -> None:
    people = [await api.person() for _ in range(6)]
    statuses: list[int] = []

    async def one(person: Person) -> None:
        statuses.append((await api.post("/chat/rooms", {"name": "Rush"}, token=person.token)).status)

    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(one, person)
    assert sorted(statuses) == [201] + [409] * 5


class TestLimit:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, rooms_owned_max=3, room_members_max=3)

    async def test_nobody_owns_more_rooms_than_allowed_however_fast(self, api: Api) -> None:
        alice = await api.person("alice")
        statuses: list[int] = []

        async def one(n: int) -> None:
            statuses.append((await api.post("/chat/rooms", {"name": f"r{n}"}, token=alice.token)).status)

        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(one, n)
        assert sorted(statuses) == [201] * 3 + [409] * 5
        mine = (await api.get("/chat/rooms?mine=true", token=alice.token)).data["rooms"]
        await api.delete(f"/chat/rooms/{mine[0]['id']}", token=alice.token)
        assert (await api.post("/chat/rooms", {"name": "one more"}, token=alice.token)).status == 201

    async def test_a_full_room_lets_nobody_in(self, api: Api) -> None:
        people = [await api.person() for _ in range(6)]
        room = await make(api, people[0])
        answers: list[Answer] = []

        async def enter(person: Person) -> None:
            answers.append(await api.post(f"/chat/rooms/{room}/join", token=person.token))

        async with trio.open_nursery() as nursery:
            for person in people[1:]:
                nursery.start_soon(enter, person)
        assert sorted(answer.status for answer in answers) == [200, 200, 409, 409, 409]
        assert {answer.code for answer in answers if answer.status == 409} == {"ROOM_FULL"}
        assert (await api.get(f"/chat/rooms/{room}", token=people[0].token)).data["member_count"] == 3


async def test_many_join_at_the_same_moment_and_twice(api: Api) -> None:
    people = [await api.person() for _ in range(8)]
    room = await make(api, people[0])
    async with trio.open_nursery() as nursery:
        for person in people[1:] * 2:
            nursery.start_soon(join, api, room, person)
    shown = (await api.get(f"/chat/rooms/{room}", token=people[0].token)).data
    members = await api.get(f"/chat/rooms/{room}/members", token=people[0].token)
    assert shown["member_count"] == 8 == len(members.data["members"]) == members.json["meta"]["total"]


async def test_what_was_said_before_one_came_is_read(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    for _ in range(3):
        await say(api, room, alice)
    await join(api, room, bob)
    assert (await api.get(f"/chat/rooms/{room}", token=bob.token)).data["unread"] == 0
    await say(api, room, alice)
    assert (await api.get(f"/chat/rooms/{room}", token=bob.token)).data["unread"] == 1


async def test_changing_a_room(api: Api) -> None:
    alice, bob, carl = await api.person("alice"), await api.person("bob"), await api.person("carl")
    room = await make(api, alice, description="old")
    await join(api, room, bob, carl)
    await api.put(f"/chat/rooms/{room}/members/{bob.id}", {"role": "moderator"}, token=alice.token)

    async def put(by: Person, **body: Any) -> Answer:
        return await api.put(f"/chat/rooms/{room}", body, token=by.token)

    assert (await put(carl, description="mine")).status == 403
    assert (await put(bob, name="Bebop")).status == 403
    assert (await put(bob, is_private=True)).status == 403
    assert (await put(bob, description="new", slow_mode_s=5)).data["description"] == "new"
    assert (await put(alice, description="")).data["description"] is None
    changed = await put(alice, name="Bebop", is_private=True)
    assert (changed.data["name"], changed.data["kind"], changed.data["slow_mode_s"]) == (
        "Bebop",
        "private",
        5,
    )
    assert (await api.get("/chat/rooms/Jazz", token=alice.token)).status == 404
    assert (await api.get("/chat/rooms/Bebop", token=alice.token)).status == 404, "private rooms go by id"
    assert (await api.get(f"/chat/rooms/{room}", token=carl.token)).status == 200
    for bad in ({"name": ""}, {"name": "7"}, {"slow_mode_s": -1}, {"slow_mode_s": 10**9}, {"is_private": 1},
                {"description": "\x00"}, {"name": {"a": 1}}):  # fmt: skip
        assert (await put(alice, **bad)).status == 400, bad
    assert (await put(alice, name="general", is_private=False)).code == "CONFLICT"
    assert (await put(alice)).data["name"] == "Bebop", "nothing said, nothing changed"


async def test_a_freed_name_is_anothers_at_once(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    first = await make(api, alice)
    assert (await api.get("/chat/rooms/Jazz", token=bob.token)).data["id"] == first
    assert (await api.put("/chat/rooms/Jazz", {"name": "Old Jazz"}, token=alice.token)).status == 200
    second = await make(api, bob)
    assert (await api.get("/chat/rooms/Jazz", token=alice.token)).data["id"] == second
    assert (await api.get("/chat/rooms/old%20jazz", token=alice.token)).data["id"] == first


async def test_online_counts_who_listens(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    assert (await api.get(f"/chat/rooms/{room}", token=alice.token)).data["online"] == 0
    one, two = Listener(core, bob), Listener(core, bob)
    for listener in (one, two):
        await listener.connect()
        await listener.join(room)
    assert (await api.get(f"/chat/rooms/{room}", token=alice.token)).data["online"] == 1
    (shown,) = [r for r in (await api.get("/chat/rooms", token=alice.token)).data["rooms"] if r["id"] == room]
    assert shown["online"] == 1


async def test_leaving_ends_every_subscription(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    ear = Listener(core, bob)
    await ear.connect()
    await ear.join(room)
    assert (await api.post(f"/chat/rooms/{room}/leave", token=bob.token)).status == 200
    assert (await api.post(f"/chat/rooms/{room}/leave", token=bob.token)).code == "NOT_JOINED"
    await say(api, room, alice, "gone?")
    assert not ear.ear.of("room_message")
    assert (
        await api.post(f"/chat/rooms/{room}/messages", {"content": "x"}, token=bob.token)
    ).code == "NOT_JOINED"
    assert (await api.get(f"/chat/rooms/{room}/messages", token=bob.token)).status == 200, (
        "public rooms are open"
    )


async def test_everything_needs_a_token(api: Api) -> None:
    for method, path in [
        ("GET", "/rooms"), ("POST", "/rooms"), ("GET", "/rooms/1"), ("PUT", "/rooms/1"), ("DELETE", "/rooms/1"),
        ("POST", "/rooms/1/join"), ("POST", "/rooms/1/leave"), ("POST", "/rooms/1/invites"), ("POST", "/invites/x"),
        ("GET", "/rooms/1/members"), ("PUT", "/rooms/1/members/1"), ("DELETE", "/rooms/1/members/1"),
        ("GET", "/rooms/1/mutes"), ("POST", "/rooms/1/mutes"), ("DELETE", "/rooms/1/bans"),
        ("DELETE", "/rooms/1/bans/1"), ("GET", "/rooms/1/messages"),
        ("POST", "/rooms/1/messages"), ("GET", "/rooms/1/pins"), ("GET", "/messages/1"),
        ("PUT", "/messages/1"), ("DELETE", "/messages/1"), ("PUT", "/messages/1/reactions/x"),
        ("DELETE", "/messages/1/reactions/x"), ("PUT", "/messages/1/pin"), ("POST", "/messages/1/report"),
        ("GET", "/conversations"), ("GET", "/dm/1"), ("POST", "/dm/1"), ("GET", "/unread"), ("GET", "/search?q=x"),
    ]:  # fmt: skip
        answer = await api.request(method, "/chat" + path)
        assert answer.status == 401 and answer.code == "AUTH_REQUIRED", (method, path)


async def test_a_room_whose_owner_leaves_goes_to_who_was_there_first(api: Api) -> None:
    alice, bob, carl, dora = [await api.person(name) for name in ("alice", "bob", "carl", "dora")]
    room = await make(api, alice)
    await join(api, room, bob, carl, dora)
    await api.put(f"/chat/rooms/{room}/members/{carl.id}", {"role": "moderator"}, token=alice.token)

    async def leave(who: Person) -> None:
        assert (await api.post(f"/chat/rooms/{room}/leave", token=who.token)).status == 200

    async def owner() -> tuple[int, list[str]]:
        shown = (await api.get(f"/chat/rooms/{room}", token=alice.token)).data
        members = (await api.get(f"/chat/rooms/{room}/members", token=alice.token)).data["members"]
        return shown["owner_id"], [m["username"] for m in members if m["role"] == "owner"]

    await leave(alice)
    assert await owner() == (carl.id, ["carl"]), "moderators come first"
    assert (await api.put(f"/chat/rooms/{room}", {"name": "Carl's"}, token=carl.token)).status == 200
    await leave(carl)
    assert await owner() == (bob.id, ["bob"])
    await leave(dora)
    await leave(bob)
    assert await owner() == (bob.id, [])
    await join(api, room, alice, bob)
    assert await owner() == (bob.id, ["bob"]), "who left it empty finds it as it was"
    admin = await staff(api, "admin")
    assert (await api.delete(f"/chat/rooms/{room}/members/{bob.id}", token=admin.token)).status == 200
    assert await owner() == (alice.id, ["alice"])


async def test_the_last_one_in_a_private_room_deletes_it_rather_than_leave(api: Api) -> None:
    alice = await api.person("alice")
    room = (await api.post("/chat/rooms", {"name": "attic", "is_private": True}, token=alice.token)).data[
        "id"
    ]
    refused = await api.post(f"/chat/rooms/{room}/leave", token=alice.token)
    assert refused.status == 403 and refused.code == "PERMISSION_DENIED"
    assert (await api.delete(f"/chat/rooms/{room}", token=alice.token)).status == 200
