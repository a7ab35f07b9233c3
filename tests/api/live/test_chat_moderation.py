"""Roles, kicks, mutes and bans: downwards only, and at once on live connections."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import trio

from tests.api.conftest import Answer, Api, Person
from tests.api.live.conftest import Listener
from tests.api.live.people import join, make, private, say, staff
from veza.app import Core


async def cast(api: Api) -> tuple[int, Person, Person, Person, Person]:
    """A room with an owner, two moderators and a member."""
    owner, one, two, member = [await api.person(name) for name in ("owner", "modone", "modtwo", "member")]
    room = await make(api, owner)
    await join(api, room, one, two, member)
    for moderator in (one, two):
        answer = await api.put(
            f"/chat/rooms/{room}/members/{moderator.id}", {"role": "moderator"}, token=owner.token
        )
        assert answer.status == 200
    return room, owner, one, two, member


async def test_sanctions_and_roles_go_downwards_only(api: Api) -> None:
    room, owner, one, two, member = await cast(api)

    async def kick(by: Person, whom: Person) -> int:
        return (await api.delete(f"/chat/rooms/{room}/members/{whom.id}", token=by.token)).status

    async def punish(by: Person, whom: Person, what: str) -> int:
        path = f"/chat/rooms/{room}/{what}"
        return (await api.post(path, {"user_id": whom.id}, token=by.token)).status

    async def give(by: Person, whom: Person, role: str) -> int:
        path = f"/chat/rooms/{room}/members/{whom.id}"
        return (await api.put(path, {"role": role}, token=by.token)).status

    for by, whom in [(member, one), (member, owner), (one, two), (one, owner), (one, one), (owner, owner)]:
        assert await kick(by, whom) == 403, (by.username, whom.username)
        assert await punish(by, whom, "mutes") == 403
        assert await punish(by, whom, "bans") == 403
        assert await give(by, whom, "member") == 403
    assert await give(one, member, "moderator") == 403, "only the owner gives roles"
    assert await give(one, member, "owner") == 403
    members = (await api.get(f"/chat/rooms/{room}/members", token=member.token)).data["members"]
    assert [m["role"] for m in members] == ["owner", "moderator", "moderator", "member"]
    assert await punish(one, member, "mutes") == 201
    assert await kick(one, member) == 200
    assert await kick(one, member) == 404
    assert await give(owner, member, "moderator") == 404
    assert await give(owner, one, "owner") == 200
    assert await give(owner, two, "member") == 403, "a moderator now"
    shown = (await api.get(f"/chat/rooms/{room}", token=owner.token)).data
    assert (shown["owner_id"], shown["role"]) == (one.id, "moderator")


async def test_a_kick_ends_live_connections_and_a_ban_keeps_out(api: Api, core: Core) -> None:
    room, owner, one, _, member = await cast(api)
    ear, watcher = Listener(core, member), Listener(core, owner)
    for listener in (ear, watcher):
        await listener.connect()
        await listener.join(room)
    assert (await api.delete(f"/chat/rooms/{room}/members/{member.id}", token=one.token)).status == 200
    notice = await ear.ear.heard("error")
    assert notice["code"] == "NOT_JOINED" and notice["details"]["reason"] == "kicked"
    assert (await watcher.ear.heard("user_disconnected"))["user_id"] == member.id
    await say(api, room, owner, "without him")
    assert not ear.ear.of("room_message")
    await ear.join(room)  # nothing keeps him from coming back
    ban = await api.post(
        f"/chat/rooms/{room}/bans", {"user_id": member.id, "reason": "again"}, token=one.token
    )
    assert ban.status == 201 and ban.data == {"user_id": member.id, "until": None}
    assert (await ear.ear.heard("error", 2))["details"]["reason"] == "again"
    await say(api, room, owner, "still without him")
    assert not ear.ear.of("room_message")
    assert (await api.post(f"/chat/rooms/{room}/join", token=member.token)).code == "BANNED"
    assert (await api.get(f"/chat/rooms/{room}/messages", token=member.token)).status == 404
    shown = (await api.get(f"/chat/rooms/{room}", token=member.token)).data
    assert shown["last_message"] is None and shown["role"] is None
    assert (await api.get(f"/chat/search?q=without&room={room}", token=member.token)).data["messages"] == []
    assert (await api.delete(f"/chat/rooms/{room}/bans/{member.id}", token=one.token)).status == 200
    assert (
        await api.delete(f"/chat/rooms/{room}/bans/{member.id}", token=one.token)
    ).code == "SANCTION_NOT_FOUND"
    await join(api, room, member)


async def test_a_mute_silences_everywhere_and_ends_by_itself(api: Api, core: Core) -> None:
    room, _, one, _, member = await cast(api)
    said = await say(api, room, member)
    muted = await api.post(
        f"/chat/rooms/{room}/mutes", {"user_id": member.id, "duration": 3600}, token=one.token
    )
    ends = datetime.fromisoformat(muted.data["until"])
    assert timedelta(minutes=59) < ends - datetime.now(UTC) < timedelta(minutes=61)
    for method, path, body in [
        ("POST", f"/rooms/{room}/messages", {"content": "but"}),
        ("PUT", f"/messages/{said['id']}", {"content": "but"}),
        ("PUT", f"/messages/{said['id']}/reactions/%F0%9F%91%8D", None),
    ]:
        answer = await api.request(method, "/chat" + path, body, token=member.token)
        assert answer.code == "MUTED", path
        assert answer.details["until"]
    await api.post(f"/chat/rooms/{room}/leave", token=member.token)
    await join(api, room, member)
    again = await api.post(f"/chat/rooms/{room}/messages", {"content": "but"}, token=member.token)
    assert again.code == "MUTED", "coming back changes nothing"
    listed = (await api.get(f"/chat/rooms/{room}/mutes", token=one.token)).data["sanctions"]
    assert [(s["username"], s["by_user_id"]) for s in listed] == [("member", one.id)]
    assert (await api.get(f"/chat/rooms/{room}/mutes", token=member.token)).status == 403
    lift = await api.delete(f"/chat/rooms/{room}/mutes", {"user_id": member.id}, token=one.token)
    assert lift.status == 200
    await say(api, room, member, "free")
    path = f"/chat/rooms/{room}/mutes"
    answer = await api.post(path, {"user_id": member.id, "duration": 3600}, token=one.token)
    assert answer.status == 201
    answer = await api.post(f"/chat/rooms/{room}/messages", {"content": "now"}, token=member.token)
    assert answer.code == "MUTED"
    for seconds in (0.3, 3, 30):  # none in the past is taken, and it may take a moment to get there
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        answer = await api.post(path, {"user_id": member.id, "until": until.isoformat()}, token=one.token)
        if answer.status == 201:
            break
    assert answer.status == 201
    with trio.fail_after(60):
        while True:
            answer = await api.post(f"/chat/rooms/{room}/messages", {"content": "now"}, token=member.token)
            if answer.status == 201:
                break
            assert answer.code == "MUTED"
            await trio.sleep(0.05)
    assert datetime.now(UTC) >= until


async def test_nobody_lifts_a_sanction_from_himself(api: Api) -> None:
    room, owner, one, two, _ = await cast(api)
    assert (await api.post(f"/chat/rooms/{room}/mutes", {"user_id": one.id}, token=owner.token)).status == 201
    for who in (one, two):
        lift = await api.delete(f"/chat/rooms/{room}/mutes?user_id={one.id}", token=who.token)
        assert lift.status == 403
    assert (await api.delete(f"/chat/rooms/{room}/mutes?user_id={one.id}", token=owner.token)).status == 200


async def test_platform_moderators_stand_above_a_rooms_people_where_they_may_be(api: Api) -> None:
    room, owner, one, _, member = await cast(api)
    platform = await staff(api, "moderator")
    hidden = await private(api, owner, member)
    assert (await api.delete(f"/chat/rooms/{room}/members/{member.id}", token=platform.token)).status == 200
    assert (await api.delete(f"/chat/rooms/{room}/members/{one.id}", token=platform.token)).status == 403
    assert (await api.delete(f"/chat/rooms/{hidden}/members/{member.id}", token=platform.token)).status == 404
    admin = await staff(api, "admin")
    assert (await api.delete(f"/chat/rooms/{room}/members/{owner.id}", token=admin.token)).status == 200


async def test_forms_of_sanctions(api: Api) -> None:
    room, owner, _, _, member = await cast(api)
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat()
    for what in ("mutes", "bans"):
        path = f"/chat/rooms/{room}/{what}"
        bad: Any
        for bad in (
            {}, {"user_id": "x"}, {"user_id": 0}, {"user_id": -1}, {"user_id": 10**30}, {"user_id": None},
            {"user_id": member.id, "until": past}, {"user_id": member.id, "until": "soon"},
            {"user_id": member.id, "duration": 0}, {"user_id": member.id, "duration": -3},
            {"user_id": member.id, "duration": 10**18}, {"user_id": member.id, "duration": "1h"},
            {"user_id": member.id, "duration": 5, "until": "2100-01-01T00:00:00Z"},
            {"user_id": member.id, "reason": "x" * 501}, {"user_id": member.id, "reason": "a\x00b"},
            {"user_id": member.id, "reason": 5}, {"user_id": member.id, "until": "9999-12-31T23:59:59-14:00"},
        ):  # fmt: skip
            answer = await api.post(path, bad, token=owner.token)
            assert answer.status == 400, (bad, answer.raw)
        assert (await api.post(path, {"user_id": 10**9}, token=owner.token)).code == "USER_NOT_FOUND"
        assert (await api.delete(path, token=owner.token)).status == 400
        assert (await api.delete(f"{path}?user_id=x", token=owner.token)).status == 400
        injected = {"user_id": member.id, "reason": "'); DROP TABLE users; --"}
        assert (await api.post(path, injected, token=owner.token)).status == 201
    naive = {"user_id": member.id, "until": "2100-01-01T00:00:00"}
    assert (await api.post(f"/chat/rooms/{room}/bans", naive, token=owner.token)).data["until"].endswith("Z")
    for bad_role in ({}, {"role": "king"}, {"role": 1}, {"role": None}, {"role": "owner\x00"}):
        put = await api.put(f"/chat/rooms/{room}/members/{member.id}", bad_role, token=owner.token)
        assert put.status == 400, bad_role
    for path in (f"/chat/rooms/{room}/members/0", f"/chat/rooms/{room}/members/99999999999999999999"):
        assert (await api.delete(path, token=owner.token)).status == 404


async def test_members_are_paged_and_say_who_is_here(api: Api, core: Core) -> None:
    room, owner, one, two, member = await cast(api)
    here, hiding = Listener(core, one), Listener(core, two)
    await here.connect()
    await hiding.connect()
    from veza.actors.presence import SetPresence

    await core.presence.ask(SetPresence(two.id, "invisible", None))
    await core.presence.ask(SetPresence(one.id, "busy", "on tour"))
    everybody = await api.get(f"/chat/rooms/{room}/members", token=owner.token)
    assert everybody.json["meta"]["total"] == 4
    seen = {m["username"]: (m["is_online"], m["status"], m["status_text"]) for m in everybody.data["members"]}
    assert seen["modone"] == (True, "busy", "on tour")
    assert seen["modtwo"] == seen["owner"] == seen["member"] == (False, None, None)
    assert "email" not in everybody.raw.decode()
    first: Answer = await api.get(f"/chat/rooms/{room}/members?limit=3", token=member.token)
    cursor = first.json["meta"]["next_cursor"]
    rest = await api.get(f"/chat/rooms/{room}/members?limit=3&cursor={cursor}", token=member.token)
    assert [m["username"] for m in rest.data["members"]] == ["member"] and "next_cursor" not in rest.json[
        "meta"
    ]
    second = await api.get(f"/chat/rooms/{room}/members?limit=3&page=2", token=member.token)
    assert second.data == rest.data
    for bad in ("limit=0", "limit=101", "page=0", "cursor=x"):
        assert (await api.get(f"/chat/rooms/{room}/members?{bad}", token=member.token)).status == 400
