"""Messages over REST: stored when answered, seen at once by who is online, changed by who may."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec
import pytest
import trio

from tests.api.conftest import Answer, Api, Person
from tests.api.live.conftest import Listener
from tests.api.live.people import join, make, private, say, staff
from veza.app import Core
from veza.config import Settings

THUMB = quote("👍")


async def history(api: Api, room: int, person: Person, query: str = "") -> Any:
    answer = await api.get(f"/chat/rooms/{room}/messages{query}", token=person.token)
    assert answer.status == 200, answer.raw
    return answer.data


async def test_a_post_is_stored_and_seen_by_who_is_online(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    ear = Listener(core, bob)
    await ear.connect()
    await ear.join(room)
    said = await say(
        api, room, alice, "  hi @bob\r\nthere ", nonce="n1", message_type="audio", media_url="/a.ogg",
        media_type="audio/ogg", duration=1.5,
    )  # fmt: skip
    heard = await ear.ear.heard("room_message")
    assert heard == said
    assert (said["content"], said["mentions"], said["nonce"], said["seq"]) == (
        "hi @bob\nthere",
        [bob.id],
        "n1",
        1,
    )
    assert (said["media_url"], said["media_type"], said["duration"]) == ("/a.ogg", "audio/ogg", 1.5)
    reply = await say(api, room, bob, "yes", reply_to=said["id"])
    assert reply["reply_to"] == said["id"] and "nonce" not in reply
    page = await history(api, room, bob)
    assert page["messages"] == [said, reply]
    assert (page["room"], page["room_id"], page["total"], page["has_more"]) == ("Jazz", room, 2, False)
    assert (await api.get(f"/chat/messages/{said['id']}", token=bob.token)).data == said


async def test_one_nonce_is_one_message_however_often_it_comes(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    ear = Listener(core, bob)
    await ear.connect()
    await ear.join(room)
    ids: list[int] = []

    async def post() -> None:
        ids.append((await say(api, room, alice, "once", nonce="same"))["id"])

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(post)
    assert len(set(ids)) == 1
    other = await say(api, room, bob, "mine", nonce="same")
    assert other["id"] not in ids, "a nonce is its author's"
    await ear.ear.heard("room_message", 2)
    assert [m["content"] for m in ear.ear.of("room_message")] == ["once", "mine"]
    assert (await history(api, room, alice))["total"] == 2


async def test_many_at_once_are_numbered_without_gaps(api: Api) -> None:
    alice = await api.person("alice")
    room = await make(api, alice)
    async with trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(say, api, room, alice, f"m{n}")
    page = await history(api, room, alice, "?limit=100")
    assert [m["seq"] for m in page["messages"]] == list(range(1, 41))
    assert sorted(m["content"] for m in page["messages"]) == sorted(f"m{n}" for n in range(40))


async def test_history_pages_by_sequence(api: Api) -> None:
    alice = await api.person("alice")
    room = await make(api, alice)
    for n in range(25):
        await say(api, room, alice, f"m{n}")

    def seqs(page: Any) -> list[int]:
        return [m["seq"] for m in page["messages"]]

    newest = await history(api, room, alice)
    assert seqs(newest) == list(range(6, 26)) and newest["has_more"] and newest["next_before_seq"] == 6
    older = await history(api, room, alice, "?before_seq=6")
    assert seqs(older) == list(range(1, 6)) and not older["has_more"] and older["next_before_seq"] is None
    after = await history(api, room, alice, "?after_seq=3&limit=4")
    assert seqs(after) == [4, 5, 6, 7] and after["has_more"]
    assert seqs(await history(api, room, alice, "?after_seq=25")) == []
    assert seqs(await history(api, room, alice, "?before_seq=9223372036854775807&limit=1")) == [25]
    assert seqs(await history(api, room, alice, "?before_seq=0")) == []
    for bad in (
        "limit=0", "limit=-1", "limit=101", "limit=x", "before_seq=-1", "after_seq=-1", "before_seq=x",
        "before_seq=9223372036854775808", "after_seq=1&before_seq=2",
    ):  # fmt: skip
        assert (await api.get(f"/chat/rooms/{room}/messages?{bad}", token=alice.token)).status == 400, bad


async def test_messages_that_cannot_be(api: Api) -> None:
    alice = await api.person("alice")
    room = await make(api, alice)
    path = f"/chat/rooms/{room}/messages"
    for body in (
        {}, {"content": ""}, {"content": " \n "}, {"content": "nul\x00"}, {"content": "bell\x07"}, {"content": 5},
        {"content": None}, {"content": ["x"]}, {"content": "x", "nonce": ""}, {"content": "x", "nonce": "x" * 65},
        {"content": "x", "nonce": 5}, {"content": "x", "reply_to": -1}, {"content": "x", "reply_to": "1"},
        {"content": "x", "reply_to": 10**30}, {"content": "x", "message_type": "NOT OK"},
        {"content": "x", "media_url": "javascript:alert(1)"}, {"content": "x", "media_url": "x" * 3000},
        {"content": "x", "duration": -1}, {"content": "x", "duration": 1e99}, {"content": "x", "duration": "1"},
        [], "x",
    ):  # fmt: skip
        answer = await api.post(path, body, token=alice.token)
        assert answer.status == 400, (body, answer.raw)
    long = await api.post(path, {"content": "x" * 4001}, token=alice.token)
    assert long.status == 400 and long.code == "MESSAGE_TOO_LONG"
    nowhere = await api.post(path, {"content": "x", "reply_to": 10**9}, token=alice.token)
    assert nowhere.code == "MESSAGE_NOT_FOUND"
    surrogate = await api.post(path, raw=b'{"content": "\\ud800"}', token=alice.token)
    assert surrogate.status == 400
    assert (await history(api, room, alice))["total"] == 0


async def test_texts_come_back_as_they_were(api: Api) -> None:
    alice = await api.person("alice")
    room = await make(api, alice)
    for text in (
        "'; DROP TABLE messages; --", "<script>alert(1)</script>", "مرحبا بالعالم", "👩‍👩‍👧‍👦🏳️‍🌈", "x" * 4000,
        "𝄞" * 4000, "\u202eright to left", "a\tb\nc", "%s %d {0} $1 \\ \"",
    ):  # fmt: skip
        assert (await say(api, room, alice, text))["content"] == text


async def test_ones_own_message_is_edited_and_deleted(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    ear = Listener(core, bob)
    await ear.connect()
    await ear.join(room)
    said = await say(api, room, alice, "teh song")
    path = f"/chat/messages/{said['id']}"
    assert (await api.put(path, {"content": "mine"}, token=bob.token)).status == 403
    assert (await api.delete(path, token=bob.token)).status == 403
    edited = await api.put(path, {"content": "the song"}, token=alice.token)
    assert edited.data["content"] == "the song" and edited.data["edited_at"]
    assert (await ear.ear.heard("message_edited"))["content"] == "the song"
    for bad in ({}, {"content": ""}, {"content": "\x00"}, {"content": 1}, {"content": "x" * 4001}):
        assert (await api.put(path, bad, token=alice.token)).status == 400
    deleted = await api.delete(path, token=alice.token)
    assert deleted.data["content"] == "" and deleted.data["deleted_at"]
    assert (await ear.ear.heard("message_deleted"))["id"] == said["id"]
    assert (await api.delete(path, token=alice.token)).code == "MESSAGE_NOT_FOUND"
    assert (await api.put(path, {"content": "x"}, token=alice.token)).status == 404
    (left,) = (await history(api, room, bob))["messages"]
    assert left["seq"] == 1 and left["content"] == "" and left["deleted_at"]
    assert "song" not in (await api.get(f"/chat/rooms/{room}", token=bob.token)).raw.decode()
    assert (await api.get("/chat/search?q=song", token=bob.token)).data["messages"] == []


async def test_reactions(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    ear = Listener(core, bob)
    await ear.connect()
    await ear.join(room)
    said = await say(api, room, alice)
    path = f"/chat/messages/{said['id']}/reactions"
    for emoji in ("👍", "🏳️‍🌈", "👩🏽‍🎤", "#️⃣", "❤️"):
        reacted = await api.put(f"{path}/{quote(emoji, safe='')}", token=bob.token)
        assert reacted.status == 200, (emoji, reacted.raw)
        assert reacted.data["reactions"][-1] == {"emoji": emoji, "count": 1, "user_ids": [bob.id]}
    assert (await ear.ear.heard("reaction_updated"))["emoji"] == "👍"
    assert (await api.put(f"{path}/{THUMB}", token=alice.token)).data["reactions"][0]["count"] == 2
    assert (await api.put(f"{path}/{THUMB}", token=alice.token)).data["reactions"][0]["count"] == 2
    left = (await api.delete(f"{path}/{THUMB}", token=bob.token)).data["reactions"]
    assert [r["user_ids"] for r in left if r["emoji"] == "👍"] == [[alice.id]]
    for bad in ("x", "%20", "%00", quote("👍👍"), "%F0%9F", "1", quote("'; --", safe="")):
        assert (await api.put(f"{path}/{bad}", token=bob.token)).status == 400, bad
    assert (await api.put(f"{path}/", token=bob.token)).status == 404
    assert (
        await api.put(f"/chat/messages/999999/reactions/{THUMB}", token=bob.token)
    ).code == "MESSAGE_NOT_FOUND"
    outsider = await api.person("carl")
    assert (await api.put(f"{path}/{THUMB}", token=outsider.token)).code == "NOT_JOINED"


async def test_pins(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    one, two = await say(api, room, bob, "one"), await say(api, room, bob, "two")
    assert (await api.put(f"/chat/messages/{one['id']}/pin", token=bob.token)).status == 403
    for said in (one, two):
        assert (await api.put(f"/chat/messages/{said['id']}/pin", token=alice.token)).data["pinned_at"]
    pins = await api.get(f"/chat/rooms/{room}/pins", token=bob.token)
    assert [m["content"] for m in pins.data["messages"]] == ["two", "one"]
    assert (await api.delete(f"/chat/messages/{two['id']}/pin", token=alice.token)).status == 200
    pins = await api.get(f"/chat/rooms/{room}/pins", token=bob.token)
    assert [m["content"] for m in pins.data["messages"]] == ["one"]


async def test_search_finds_only_what_one_may_read(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    open_, hidden = await make(api, alice), await private(api, alice)
    public = await say(api, open_, alice, "a blue guitar")
    secret = await say(api, hidden, alice, "a blue secret")
    letter = (await api.post(f"/chat/dm/{bob.id}", {"content": "blue letter"}, token=alice.token)).data

    async def found(who: Person, query: str) -> list[int]:
        answer = await api.get(f"/chat/search?{query}", token=who.token)
        assert answer.status == 200, answer.raw
        return [m["id"] for m in answer.data["messages"]]

    assert await found(alice, "q=blue") == [letter["id"], secret["id"], public["id"]]
    assert await found(bob, "q=blue") == [letter["id"], public["id"]]
    assert await found(bob, "q=BLUE+guitar") == [public["id"]]
    assert await found(bob, "q=blue+-guitar") == [letter["id"]]
    assert await found(alice, f"q=blue&room={hidden}") == [secret["id"]]
    assert await found(alice, "q=blue&room=jazz") == [public["id"]]
    assert await found(bob, "q=blue&from=ALICE") == [letter["id"], public["id"]]
    assert await found(bob, f"q=blue&from={bob.id}") == []
    page = (await api.get("/chat/search?q=blue&limit=2", token=alice.token)).data
    assert page["has_more"] and page["next_before"] == secret["id"]
    assert await found(alice, f"q=blue&before={page['next_before']}") == [public["id"]]
    for odd in (
        "'",
        "%27%3B--",
        "%22",
        "%26%7C%21",
        "%3C-%3E",
        "%2A",
        "%F0%9F%8E%B8",
        "%29%28",
        "%5C",
    ):
        assert await found(bob, f"q={odd}") == [], odd
    for bad in (
        "", "q=", "q=%20", "q=" + "x" * 201, "q=x&limit=0", "q=x&limit=101", "q=x&before=-1", "q=x&before=y", "q=%00",
        "q=x&from=nobody", "q=x&room=%00",
    ):  # fmt: skip
        assert (await api.get(f"/chat/search?{bad}", token=bob.token)).status == 400, bad
    assert (await api.get("/chat/search?q=x&room=nowhere", token=bob.token)).status == 404
    assert (await api.get("/chat/search?q=x&from=99999999999999999999", token=bob.token)).status == 404


async def test_moderators_delete_what_people_below_them_said(api: Api) -> None:
    owner, one, member = await api.person("owner"), await api.person("one"), await api.person("member")
    room = await make(api, owner)
    await join(api, room, one, member)
    await api.put(f"/chat/rooms/{room}/members/{one.id}", {"role": "moderator"}, token=owner.token)
    by_owner, by_member = await say(api, room, owner), await say(api, room, member)
    assert (await api.delete(f"/chat/messages/{by_owner['id']}", token=one.token)).status == 403
    assert (await api.delete(f"/chat/messages/{by_member['id']}", token=one.token)).status == 200
    outsider = await staff(api, "moderator")
    assert (await api.delete(f"/chat/messages/{by_owner['id']}", token=outsider.token)).status == 403


async def test_slow_mode(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    await join(api, room, bob)
    await api.put(f"/chat/rooms/{room}", {"slow_mode_s": 600}, token=alice.token)
    await say(api, room, bob)
    answer = await api.post(f"/chat/rooms/{room}/messages", {"content": "x"}, token=bob.token)
    assert (
        answer.status == 429
        and answer.code == "SLOW_MODE"
        and 500 <= int(answer.headers["retry-after"]) <= 600
    )
    await say(api, room, alice)


class TestRates:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, rate_messages_burst=3, rate_messages_per_minute=60.0)

    async def test_messages_are_counted_per_person_letters_included(self, api: Api, clock: Any) -> None:
        alice, bob = await api.person("alice"), await api.person("bob")
        room = await make(api, alice)
        await join(api, room, bob)
        for _ in range(2):
            await say(api, room, alice)
        letter: Answer = await api.post(f"/chat/dm/{bob.id}", {"content": "x"}, token=alice.token)
        assert letter.status == 201
        refused = await api.post(f"/chat/rooms/{room}/messages", {"content": "x"}, token=alice.token)
        assert (
            refused.status == 429 and refused.code == "RATE_LIMITED" and refused.headers["retry-after"] == "1"
        )
        assert (await api.post(f"/chat/dm/{bob.id}", {"content": "x"}, token=alice.token)).status == 429
        await say(api, room, bob)
        clock.pass_(1)
        await say(api, room, alice)
