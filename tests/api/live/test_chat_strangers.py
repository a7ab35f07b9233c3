"""Private rooms and letters do not exist for strangers, whatever they try; invitations open them, and only as meant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import trio

from tests.api.conftest import Answer, Api
from tests.api.live.conftest import Listener
from tests.api.live.people import accept, invite, join, make, private, say, staff
from veza.app import Core

NOWHERE = {"ROOM_NOT_FOUND", "MESSAGE_NOT_FOUND"}


async def test_to_a_stranger_a_private_room_is_as_good_as_none(api: Api) -> None:
    alice, eve = await api.person("alice"), await api.person("eve")
    admin = await staff(api, "admin")
    room = await private(api, alice)
    said = await say(api, room, alice, "hush")
    await api.put(f"/chat/messages/{said['id']}/pin", token=alice.token)
    for stranger in (eve, admin):
        for target, message in ((room, said["id"]), (987654321, 987654321)):
            for method, path, body in [
                ("GET", f"/rooms/{target}", None),
                ("PUT", f"/rooms/{target}", {"name": "mine"}),
                ("DELETE", f"/rooms/{target}", None),
                ("POST", f"/rooms/{target}/join", None),
                ("POST", f"/rooms/{target}/leave", None),
                ("POST", f"/rooms/{target}/invites", {}),
                ("GET", f"/rooms/{target}/members", None),
                ("PUT", f"/rooms/{target}/members/{alice.id}", {"role": "member"}),
                ("DELETE", f"/rooms/{target}/members/{alice.id}", None),
                ("GET", f"/rooms/{target}/mutes", None),
                ("POST", f"/rooms/{target}/mutes", {"user_id": alice.id}),
                ("POST", f"/rooms/{target}/bans", {"user_id": alice.id}),
                ("DELETE", f"/rooms/{target}/bans?user_id={alice.id}", None),
                ("GET", f"/rooms/{target}/messages", None),
                ("POST", f"/rooms/{target}/messages", {"content": "boo"}),
                ("GET", f"/rooms/{target}/pins", None),
                ("GET", f"/messages/{message}", None),
                ("PUT", f"/messages/{message}", {"content": "boo"}),
                ("DELETE", f"/messages/{message}", None),
                ("PUT", f"/messages/{message}/reactions/%F0%9F%91%8D", None),
                ("DELETE", f"/messages/{message}/reactions/%F0%9F%91%8D", None),
                ("PUT", f"/messages/{message}/pin", None),
                ("DELETE", f"/messages/{message}/pin", None),
                ("POST", f"/messages/{message}/report", {"reason": "boo"}),
            ]:
                answer = await api.request(method, "/chat" + path, body, token=stranger.token)
                assert answer.status == 404 and answer.code in NOWHERE, (stranger.username, method, path)
        assert (await api.get("/chat/search?q=hush", token=stranger.token)).data["messages"] == []
        found = await api.get(f"/chat/search?q=hush&room={room}", token=stranger.token)
        assert found.status == 200 and found.data["messages"] == []
        rooms = (await api.get("/chat/rooms", token=stranger.token)).data["rooms"]
        assert [r["name"] for r in rooms] == ["general"]
        assert (await api.get("/chat/unread", token=stranger.token)).data["unread_count"] == 0
    assert (await api.get(f"/chat/messages/{said['id']}", token=alice.token)).data["content"] == "hush"


async def test_letters_are_for_two(api: Api) -> None:
    alice, bob, eve = await api.person("alice"), await api.person("bob"), await api.person("eve")
    letter = (await api.post(f"/chat/dm/{bob.id}", {"content": "hush"}, token=alice.token)).data
    room = letter["room_id"]
    for path in (
        f"/rooms/{room}",
        f"/rooms/{room}/messages",
        f"/rooms/{room}/members",
        f"/messages/{letter['id']}",
    ):
        assert (await api.get("/chat" + path, token=eve.token)).status == 404
        assert (await api.get("/chat" + path, token=bob.token)).status == 200
    assert (await api.post(f"/chat/rooms/{room}/join", token=eve.token)).status == 404
    for path, body in [
        ("leave", None),
        ("invites", {}),
        ("bans", {"user_id": bob.id}),
        ("mutes", {"user_id": bob.id}),
    ]:
        assert (await api.post(f"/chat/rooms/{room}/{path}", body, token=alice.token)).status == 403, path
    assert (await api.delete(f"/chat/rooms/{room}", token=alice.token)).status == 403
    assert (await api.put(f"/chat/rooms/{room}", {"name": "us"}, token=alice.token)).status == 403
    shown = (await api.get(f"/chat/rooms/{room}", token=bob.token)).data
    assert (shown["kind"], shown["with_user"], shown["is_private"]) == ("direct", alice.id, True)


async def test_an_invitation_opens_a_private_room(api: Api, core: Core) -> None:
    alice, bob, carl = await api.person("alice"), await api.person("bob"), await api.person("carl")
    room = await make(api, alice, "Back room", is_private=True)
    made = await api.post(f"/chat/rooms/{room}/invites", token=alice.token)
    assert made.status == 201 and made.data["uses"] is None and made.data["user_id"] is None
    assert datetime.fromisoformat(made.data["expires_at"]).tzinfo is not None
    entered = await accept(api, made.data["code"], bob)
    assert entered.status == 200 and entered.data["id"] == room and entered.data["role"] == "member"
    assert (await accept(api, made.data["code"], bob)).status == 200, "again changes nothing"
    assert (await say(api, room, bob))["room"] == room
    assert (await api.post(f"/chat/rooms/{room}/invites", {}, token=bob.token)).status == 403
    assert (await accept(api, made.data["code"], carl)).data["member_count"] == 3
    ear = Listener(core, carl)
    await ear.connect()
    await ear.join(room)
    await say(api, room, alice, "all here?")
    assert (await ear.ear.heard("room_message"))["content"] == "all here?"


async def test_invitations_that_are_no_good(api: Api) -> None:
    alice, bob, carl = await api.person("alice"), await api.person("bob"), await api.person("carl")
    room = await make(api, alice, "Back room", is_private=True)
    for code in ("nothing", "x" * 65, "%00", "'; DROP TABLE room_invites; --", "%F0%9F%8E%B8"):
        answer = await accept(api, code, bob)
        assert answer.status == 404 and answer.code == "INVITE_NOT_FOUND", code
    for_bob = await invite(api, room, alice, user_id=bob.id)
    assert (await accept(api, for_bob, carl)).code == "INVITE_NOT_FOUND", "somebody else's"
    assert (await accept(api, for_bob, bob)).status == 200
    assert (await accept(api, for_bob, carl)).code == "INVITE_NOT_FOUND"
    short = await invite(api, room, alice, expires_in=3600)

    async def age(conn: Any) -> None:
        await conn.execute(
            "UPDATE room_invites SET expires_at = now() - interval '1 s' WHERE code = $1", short
        )

    await api.services.db.write(age)
    assert (await accept(api, short, carl)).code == "INVITE_NOT_FOUND", "expired"
    gone = await invite(api, room, alice)
    assert (await api.delete(f"/chat/rooms/{room}", token=alice.token)).status == 200
    assert (await accept(api, gone, carl)).code == "INVITE_NOT_FOUND", "its room is gone"


async def test_a_use_is_used_once_however_many_come_together(api: Api) -> None:
    alice = await api.person("alice")
    people = [await api.person() for _ in range(6)]
    room = await make(api, alice, "Back room", is_private=True)
    code = await invite(api, room, alice, uses=2)
    answers: list[Answer] = []

    async def enter(who: Any) -> None:
        answers.append(await accept(api, code, who))

    async with trio.open_nursery() as nursery:
        for person in people:
            nursery.start_soon(enter, person)
    assert sorted(answer.status for answer in answers) == [200, 200, 404, 404, 404, 404]
    assert {answer.code for answer in answers if answer.status == 404} == {"INVITE_NOT_FOUND"}
    assert (await api.get(f"/chat/rooms/{room}", token=alice.token)).data["member_count"] == 3


async def test_a_refused_entry_uses_nothing_up(api: Api) -> None:
    alice, bob, carl = await api.person("alice"), await api.person("bob"), await api.person("carl")
    room = await private(api, alice)
    ban = await api.post(f"/chat/rooms/{room}/bans", {"user_id": bob.id}, token=alice.token)
    assert ban.status == 201
    code = await invite(api, room, alice, uses=1)
    assert (await accept(api, code, bob)).code == "BANNED"
    assert (await accept(api, code, carl)).status == 200
    same = await invite(api, room, alice, uses=1)
    statuses: list[int] = []

    async def enter() -> None:
        statuses.append((await accept(api, same, await api.person("dora"))).status)

    await enter()
    assert statuses == [200]


async def test_one_person_at_the_door_twice_uses_one(api: Api) -> None:
    alice, bob, carl = await api.person("alice"), await api.person("bob"), await api.person("carl")
    room = await make(api, alice, "Back room", is_private=True)
    code = await invite(api, room, alice, uses=2)
    statuses: list[int] = []

    async def enter() -> None:
        statuses.append((await accept(api, code, bob)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(enter)
    assert statuses == [200] * 5
    assert (await accept(api, code, carl)).status == 200


async def test_invitations_are_seen_and_taken_back(api: Api) -> None:
    alice, bob, carl = await api.person("alice"), await api.person("bob"), await api.person("carl")
    room = await make(api, alice)
    await join(api, room, bob)
    hers, his = await invite(api, room, alice), await invite(api, room, bob, uses=1)
    spent = await invite(api, room, bob, uses=1)
    assert (await accept(api, spent, await api.person("dora"))).status == 200
    path = f"/chat/rooms/{room}/invites"

    async def seen(who: Any) -> list[str]:
        return [i["code"] for i in (await api.get(path, token=who.token)).data["invites"]]

    assert await seen(alice) == [his, hers]
    assert await seen(bob) == [his]
    assert await seen(carl) == []
    assert (await api.delete(f"{path}/{hers}", token=bob.token)).code == "INVITE_NOT_FOUND"
    assert (await api.delete(f"{path}/{his}", token=carl.token)).code == "INVITE_NOT_FOUND"
    for code in (his, hers):
        assert (await api.delete(f"{path}/{code}", token=alice.token)).status == 200
        assert (await accept(api, code, carl)).code == "INVITE_NOT_FOUND"
    hidden = await private(api, alice)
    assert (await api.get(f"/chat/rooms/{hidden}/invites", token=carl.token)).status == 404
    assert (await api.delete(f"/chat/rooms/{hidden}/invites/x", token=carl.token)).status == 404


async def test_an_invitation_is_as_good_as_its_maker(api: Api) -> None:
    """Who may not invite any more lets nobody in by what he made before."""
    alice, bob, carl, dora = [await api.person(name) for name in ("alice", "bob", "carl", "dora")]
    room = await make(api, alice, "Back room")
    await join(api, room, bob)
    await join(api, room, carl)
    path = f"/chat/rooms/{room}"
    his, hers = await invite(api, room, bob), await invite(api, room, carl)
    assert (
        await api.put(f"{path}/members/{carl.id}", {"role": "moderator"}, token=alice.token)
    ).status == 200
    assert (await api.put(path, {"is_private": True}, token=alice.token)).status == 200
    assert (await accept(api, his, dora)).code == "INVITE_NOT_FOUND", "the room is private now, he a member"
    assert (await accept(api, his, bob)).status == 200, "he belongs to it himself"
    shown = (await api.get(f"{path}/invites", token=alice.token)).data["invites"]
    assert [one["code"] for one in shown] == [hers]
    assert (await accept(api, hers, dora)).status == 200
    assert (await api.delete(f"{path}/members/{dora.id}", token=alice.token)).status == 200
    assert (await api.post(f"{path}/bans", {"user_id": carl.id}, token=alice.token)).status == 201
    assert (await accept(api, hers, dora)).code == "INVITE_NOT_FOUND", "she is banned"


async def test_forms_of_invitations(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room = await make(api, alice)
    path = f"/chat/rooms/{room}/invites"
    for bad in ({"uses": 0}, {"uses": -1}, {"uses": 10**9}, {"uses": "1"}, {"expires_in": 0}, {"expires_in": -5},
                {"expires_in": 10**12}, {"user_id": 0}, {"user_id": "bob"}, {"user_id": 10**30}, []):  # fmt: skip
        assert (await api.post(path, bad, token=alice.token)).status == 400, bad
    assert (await api.post(path, {"user_id": 10**9}, token=alice.token)).code == "USER_NOT_FOUND"
    assert (await api.post(path, {"expires_in": None}, token=alice.token)).data["expires_at"] is None
    assert (await api.post(path, {"user_id": bob.id}, token=alice.token)).data["uses"] == 1
    assert (await api.post(path, {}, token=bob.token)).code == "NOT_JOINED"
    await join(api, room, bob)
    assert (await api.post(path, {}, token=bob.token)).status == 201, (
        "anybody may bring people to a public room"
    )
