"""Letters between two people, and what waits to be read."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Api, Person
from tests.api.live.conftest import Listener
from tests.api.live.people import join, make, say
from veza.actors.commands import MarkRead
from veza.app import Core


async def write(api: Api, by: Person, to: Person, text: str = "hello") -> Any:
    answer = await api.post(f"/chat/dm/{to.id}", {"content": text}, token=by.token)
    assert answer.status == 201, answer.raw
    return answer.data


async def conversations(api: Api, person: Person) -> list[Any]:
    found: list[Any] = (await api.get("/chat/conversations", token=person.token)).data["conversations"]
    return found


async def test_a_letter_reaches_every_connection_of_both(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    ears = [Listener(core, alice), Listener(core, bob), Listener(core, bob)]
    for ear in ears:
        await ear.connect()
    letter = await write(api, alice, bob, "psst")
    assert (letter["from_user_id"], letter["to_user_id"], letter["seq"]) == (alice.id, bob.id, 1)
    for ear in ears:
        assert await ear.ear.heard("direct_message") == letter
    both = [(await api.get(f"/chat/dm/{b.id}", token=a.token)).data for a, b in ((alice, bob), (bob, alice))]
    assert [page["messages"] for page in both] == [[letter], [letter]]
    assert [page["with_user"] for page in both] == [bob.id, alice.id]


async def test_conversations_come_latest_first(api: Api, core: Core) -> None:
    alice = await api.person("alice")
    others = [await api.person(name, first_name=name.title()) for name in ("bob", "carl", "dora")]
    for other in others:
        await write(api, other, alice, f"from {other.username}")
    await write(api, alice, others[0], "back")
    ear = Listener(core, others[1])
    await ear.connect()
    found = await conversations(api, alice)
    assert [c["username"] for c in found] == ["bob", "dora", "carl"]
    bob, _, carl = found
    assert (bob["last_message"], bob["last_message_user_id"], bob["unread_count"]) == ("back", alice.id, 0)
    assert (carl["last_message"], carl["unread_count"], carl["is_online"]) == ("from carl", 1, True)
    assert bob["is_online"] is False and bob["first_name"] == "Bob" and bob["last_activity"]
    assert set(bob) >= {
        "user_id", "username", "avatar", "last_message", "last_activity", "unread_count", "is_online", "last_seen",
    }  # fmt: skip
    first = await api.get("/chat/conversations?limit=2", token=alice.token)
    assert first.json["meta"]["total"] == 3 and len(first.data["conversations"]) == 2
    second = await api.get("/chat/conversations?limit=2&page=2", token=alice.token)
    assert [c["username"] for c in second.data["conversations"]] == ["carl"]


async def test_a_look_at_letters_makes_no_conversation(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    page = (await api.get(f"/chat/dm/{bob.id}", token=alice.token)).data
    assert (
        page["messages"] == []
        and page["total"] == 0
        and page["with_user"] == bob.id
        and page["room_id"] is None
    )
    assert await conversations(api, alice) == []


async def test_letters_that_cannot_be(api: Api) -> None:
    alice = await api.person("alice")
    assert (await api.post("/chat/dm/999999", {"content": "x"}, token=alice.token)).code == "USER_NOT_FOUND"
    assert (await api.get("/chat/dm/999999", token=alice.token)).code == "USER_NOT_FOUND"
    for method in ("GET", "POST"):
        answer = await api.request(
            method, f"/chat/dm/{alice.id}", {"content": "x"} if method == "POST" else None, token=alice.token
        )
        assert answer.status == 400, "to oneself"
    for path in (
        "/chat/dm/0",
        "/chat/dm/-1",
        "/chat/dm/99999999999999999999",
        "/chat/dm/bob",
        "/chat/dm/1%00",
    ):
        assert (await api.get(path, token=alice.token)).status == 404, path


async def test_blocked_people_cannot_be_written_to(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")

    async def block(conn: Any) -> None:
        await conn.execute("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)", bob.id, alice.id)

    await api.services.db.write(block)
    for by, to in ((alice, bob), (bob, alice)):
        answer = await api.post(f"/chat/dm/{to.id}", {"content": "x"}, token=by.token)
        assert answer.status == 403 and answer.code == "BLOCKED"


async def test_unread_follows_reading_at_once(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    for _ in range(3):
        await say(api, room, alice)
    await write(api, alice, bob)
    await write(api, alice, bob)
    unread = (await api.get("/chat/unread", token=bob.token)).data
    assert unread["unread_count"] == 5
    assert [(r["room"], r["kind"], r["with_user"], r["unread_count"]) for r in unread["rooms"][1:]] == [
        ("Jazz", "public", None, 3)
    ]
    assert unread["rooms"][0]["with_user"] == alice.id and unread["rooms"][0]["unread_count"] == 2
    assert (await api.get("/chat/unread", token=alice.token)).data == {"unread_count": 0, "rooms": []}
    await core.rooms.ask(room, MarkRead(person=Listener(core, bob).person, seq=2))
    assert (await api.get("/chat/unread", token=bob.token)).data["unread_count"] == 3
    assert (await api.get(f"/chat/rooms/{room}", token=bob.token)).data["unread"] == 1
    await write(api, bob, alice, "an answer reads what was before it")
    assert (await api.get("/chat/unread", token=bob.token)).data["unread_count"] == 1
    assert (await conversations(api, bob))[0]["unread_count"] == 0
    await api.post(f"/chat/rooms/{room}/leave", token=bob.token)
    assert (await api.get("/chat/unread", token=bob.token)).data["unread_count"] == 0


async def test_two_first_letters_at_once_are_one_conversation(api: Api) -> None:
    import trio

    alice, bob = await api.person("alice"), await api.person("bob")
    async with trio.open_nursery() as nursery:
        for by, to in ((alice, bob), (bob, alice)) * 3:
            nursery.start_soon(write, api, by, to)
    page = (await api.get(f"/chat/dm/{bob.id}", token=alice.token)).data
    assert [m["seq"] for m in page["messages"]] == [1, 2, 3, 4, 5, 6]
    assert len({m["room_id"] for m in page["messages"]}) == 1
