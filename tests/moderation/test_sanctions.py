"""Warnings, mutes and bans: who may impose them on whom, how they are felt at once, and how they end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio

from tests.chat.conftest import Person
from tests.moderation.conftest import Court, refused
from veza.db import sanctions as sanctions_db
from veza.db.audit import Act
from veza.http.api.sanctions import _undo


class Forbidden(Exception):
    """What a check of these tests says."""


async def test_acts_go_strictly_downwards(court: Court) -> None:
    """Not upwards, not sideways, not on oneself; and what is refused leaves no trace."""
    user, peer = await court.person(), await court.person(role="moderator")
    for kind in ("warning", "mute", "ban"):
        for by, target in (
            (court.moderator, court.admin),
            (court.moderator, peer),
            (court.moderator, court.moderator),
            (user, peer),
            (user, user),
            (court.admin, court.admin),
        ):
            answer = await court.impose(by, target, kind, **({} if kind == "warning" else {"duration": 60}))
            refused(answer, 403, "FORBIDDEN")
        refused(
            await court.impose(court.moderator, Person(10**9, "", "", ""), kind), 404, "USER_NOT_FOUND"
        ) if (kind != "ban") else None
    for kind in ("mute", "ban"):
        refused(await court.lift(court.moderator, court.admin, kind), 403, "FORBIDDEN")
        refused(await court.lift(user, peer, kind), 403, "FORBIDDEN")
        refused(await court.lift(court.moderator, user, kind), 404, "SANCTION_NOT_FOUND")
    refused(await court.get(f"/moderation/users/{user.id}", user), 403, "FORBIDDEN")
    people = [user.id, peer.id, court.moderator.id, court.admin.id]
    assert await court.sql("SELECT count(*) FROM sanctions WHERE user_id = ANY ($1::bigint[])", people) == 0
    assert await court.sql("SELECT count(*) FROM outbox WHERE target_id = ANY ($1::bigint[])", people) == 0
    for person in people:
        assert await court.acts("user.warn", "user.mute", "user.ban", target=person) == []


async def test_forms_that_say_nothing_that_could_be_done(court: Court) -> None:
    user = await court.person()
    path = f"/moderation/users/{user.id}/sanctions"
    for bad in (
        {},
        {"kind": "exile"},
        {"kind": "warning"},
        {"kind": "warning", "reason": "  "},
        {"kind": "warning", "reason": "x", "duration": 5},
        {"kind": "mute", "duration": 0},
        {"kind": "mute", "duration": 5, "until": "2100-01-01T00:00:00Z"},
        {"kind": "mute", "until": "2001-01-01T00:00:00Z"},
        {"kind": "mute", "duration": 60, "reason": "two\nlines"},
        {"kind": "mute", "duration": 60, "report_id": 0},
    ):
        answer = await court.post(path, bad, court.moderator)
        assert (answer.status, answer.code) == (400, "VALIDATION_ERROR"), (bad, answer.raw)
    other = await court.person()
    track = await court.track(other)
    about_other = (await court.report(user, "track", track)).data["report_id"]
    for nothing in (about_other, 10**9):
        body = {"kind": "mute", "duration": 60, "report_id": nothing}
        refused(await court.post(path, body, court.moderator), 404, "REPORT_NOT_FOUND")
    assert await court.sql("SELECT muted_until FROM users WHERE id = $1", user.id) is None


async def test_only_administrators_ban_without_an_end(court: Court) -> None:
    user = await court.person()
    for forever in ({}, {"duration": 400 * 86_400}):
        refused(await court.impose(court.moderator, user, "ban", **forever), 403, "FORBIDDEN")
    assert (await court.impose(court.admin, user, "ban")).data["user"]["banned_until"] is None
    # What somebody above imposed a moderator neither lifts nor shortens.
    refused(await court.lift(court.moderator, user, "ban"), 403, "FORBIDDEN")
    refused(await court.impose(court.moderator, user, "ban", duration=60), 403, "FORBIDDEN")
    assert (await court.impose(court.admin, user, "ban", duration=3600)).status == 201
    refused(await court.lift(court.moderator, user, "ban"), 403, "FORBIDDEN")
    assert (await court.lift(court.admin, user, "ban")).data["is_banned"] is False
    # By an administrator's own way it is no other ban.
    assert (await court.post(f"/admin/users/{user.id}/ban", {"reason": "x"}, court.admin)).status == 200
    assert (await court.get(f"/moderation/users/{user.id}", court.moderator)).data["sanctions"][0]["in_force"]
    assert await court.acts("user.ban", "user.unban", target=user.id) == [
        ("user.ban", court.admin.id),
        ("user.ban", court.admin.id),
        ("user.unban", court.admin.id),
        ("user.ban", court.admin.id),
    ]


async def test_somebody_who_is_promoted_at_the_same_moment(court: Court) -> None:
    """Roles are looked at in the transaction: whoever comes second sees what the first has done."""
    user = await court.person()
    db, act = court.house.db, Act(court.moderator.id, None)
    seen: list[tuple[str, str]] = []

    def check(mine: str, theirs: str) -> None:
        seen.append((mine, theirs))
        if theirs != "user":
            raise Forbidden

    held = trio.Event()

    async def promote(conn: Any) -> None:
        await conn.execute("UPDATE users SET role = 'moderator' WHERE id = $1", user.id)
        held.set()
        # The row is held until the other one waits for it.
        while not await conn.fetchval(  # noqa: ASYNC110
            "SELECT count(*) FROM pg_locks WHERE NOT granted"
        ):
            await asyncio.sleep(0.002)

    async def impose() -> None:
        await held.wait()
        with pytest.raises(Forbidden):
            await db.write(sanctions_db.impose, act, user.id, "mute", None, None, None, check, _undo)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(db.write, promote)
        nursery.start_soon(impose)
    assert seen == [("moderator", "moderator")]
    assert await court.sql("SELECT muted_until FROM users WHERE id = $1", user.id) is None
    # And a moderator who is banned himself has no powers, whatever his token says.
    await court.sql(
        "UPDATE users SET banned_until = now() + interval '1 h' WHERE id = $1", court.moderator.id
    )
    other = await court.person()
    with pytest.raises(Forbidden):
        await db.write(sanctions_db.impose, act, other.id, "mute", None, None, None, _powerful, _undo)


def _powerful(mine: str, theirs: str) -> None:
    if mine != "moderator":
        raise Forbidden


async def test_a_mute_is_felt_at_once_and_ends_by_itself(court: Court) -> None:
    user, friend = await court.people(2)
    room = (await court.house.room(user, friend)).id
    phone, desk = await court.house.enter(user, room), await court.house.enter(user, room)
    ear = await court.house.enter(friend, room)
    said = await phone.say(room, "la")
    await ear.expect("room_message", id=said["id"])
    track, own = await court.track(friend), await court.track(user)
    listing = await court.listing(friend)

    imposed = await court.impose(court.moderator, user, "mute", duration=3600, reason="shouting")
    assert imposed.status == 201, imposed.raw
    assert imposed.data["user"]["is_muted"] and imposed.data["sanction"]["reason"] == "shouting"
    until = imposed.data["user"]["muted_until"]
    told = await court.notified(desk, "mute")
    assert (told["reason"], told["until"]) == ("shouting", until)
    for socket in (phone, desk):
        assert (await socket.error("MUTED"))["details"]["until"] == until
        for type, more in (
            ("room_message", {"room": room, "content": "la la"}),
            ("direct_message", {"to_user_id": friend.id, "content": "psst"}),
            ("edit_message", {"id": said["id"], "content": "LA"}),
            ("add_reaction", {"id": said["id"], "emoji": "🎵"}),
            ("party_start", {"room": room, "track_id": track}),
            ("typing", {"room": room, "is_typing": True}),
        ):
            refusal = await socket.refused("MUTED", type, **more)
            assert refusal["details"]["until"] == until, type
    posts: list[tuple[str, str, Any]] = [
        ("POST", f"/chat/rooms/{room}/messages", {"content": "la"}),
        ("POST", f"/chat/dm/{friend.id}", {"content": "la"}),
        ("PUT", f"/chat/messages/{said['id']}", {"content": "LA"}),
        ("PUT", f"/chat/messages/{said['id']}/reactions/🎵", None),
        ("POST", "/chat/rooms", {"name": "elsewhere"}),
        ("PUT", f"/chat/rooms/{room}", {"description": "la"}),
        ("POST", f"/tracks/{track}/comments", {"content": "la", "at_ms": 0}),
        ("PUT", f"/tracks/{track}/like", None),
        ("PUT", f"/tracks/{own}", {"title": "la"}),
        ("POST", "/listings", {"title": "A horn"}),
        ("POST", f"/listings/{listing}/offers", {"amount_cents": 5}),
        ("POST", "/streams", {"title": "la"}),
        ("POST", "/playlists", {"title": "la"}),
        ("PUT", "/users/me", {"bio": "la"}),
    ]
    for method, path, body in posts:
        answer = await court.api.request(method, path, body, token=user.token)
        assert (answer.status, answer.code) == (403, "MUTED"), (path, answer.raw)
        assert answer.details["until"] == until, path
    for path in ("/tracks", "/uploads", "/users/me/avatar"):  # their bodies are read beside the application
        head = f"POST /api/v1{path} HTTP/1.1"
        reply = await court.air.ask(head, f"Authorization: Bearer {user.token}", "Content-Length: 0")
        assert reply.status == 403 and b'"MUTED"' in reply.body, (path, reply)
    # He reads, takes back what he said, and keeps house.
    for method, path in (
        ("GET", f"/chat/rooms/{room}/messages"),
        ("GET", "/users/me"),
        ("POST", "/notifications/read-all"),
        ("PUT", f"/users/{friend.id}/block"),
        ("DELETE", f"/users/{friend.id}/block"),
        ("DELETE", f"/chat/messages/{said['id']}"),
        ("POST", f"/chat/rooms/{room}/leave"),
        ("POST", f"/chat/rooms/{room}/join"),
    ):
        assert (await court.api.request(method, path, token=user.token)).status == 200, path
    assert await court.sql("SELECT count(*) FROM messages WHERE user_id = $1", user.id) == 1

    # A shorter one in its place; then nobody does anything but wait.
    for socket in (phone, desk):
        await socket.join(room)
    assert (await court.impose(court.moderator, user, "mute", duration=1)).status == 201
    await _may_write_again(court, user, room)
    again = await phone.say(room, "at last")
    await ear.expect("room_message", id=again["id"])
    record = (await court.get(f"/moderation/users/{user.id}", court.moderator)).data
    assert record["user"]["is_muted"] is False
    assert [(one["kind"], one["in_force"]) for one in record["sanctions"]] == [
        ("mute", False),
        ("mute", False),
    ]


async def test_a_mute_that_is_lifted_and_one_without_an_end(court: Court) -> None:
    user, friend = await court.people(2)
    room = (await court.house.room(friend, user)).id
    socket = await court.house.enter(user, room)
    for by, how in ((court.moderator, {"duration": 3600}), (court.admin, {})):
        assert (await court.impose(by, user, "mute", **how)).status == 201
        await socket.error("MUTED")
    refusal = await socket.refused("MUTED", "room_message", room=room, content="la")
    assert "until" not in refusal["details"]
    # A socket that opens now is no way around, nor is a moderator a way around an administrator.
    fresh = await court.house.enter(user, room)
    await fresh.refused("MUTED", "room_message", room=room, content="la")
    refused(await court.lift(court.moderator, user, "mute"), 403, "FORBIDDEN")
    assert (await court.lift(court.admin, user, "mute")).data["is_muted"] is False
    await court.notified(socket, "unmute")
    await _may_write_again(court, user, room)
    async with trio.open_nursery() as nursery:
        for each in (socket, fresh):
            nursery.start_soon(_speaks_again, each, room)
    refused(await court.lift(court.admin, user, "mute"), 404, "SANCTION_NOT_FOUND")


async def _may_write_again(court: Court, user: Person, room: int) -> None:
    """Nothing tells when a mute ends by itself: he tries until it has."""
    with trio.fail_after(60):
        while True:
            answer = await court.post(f"/chat/rooms/{room}/messages", {"content": "?"}, user)
            if answer.status == 201:
                return
            refused(answer, 403, "MUTED")
            await trio.sleep(0.02)


async def _speaks_again(socket: Any, room: int) -> None:
    """His sockets hear of it a moment later than who asked for it."""
    with trio.fail_after(60):
        while True:
            await socket.send("room_message", room=room, content="la", ref="again")
            frame = await socket.next(lambda f: f.data.get("ref") == "again", "an answer")
            if frame.type == "message_ack":
                return
            assert frame["code"] == "MUTED"
            await trio.sleep(0.01)


async def test_a_ban_closes_everything_and_says_so_at_the_door(court: Court) -> None:
    user = await court.person()
    await court.let_log_in(user)
    sockets = [await court.house.connect(user) for _ in range(2)]
    # Twice: the second takes the place of the first.
    for hours in (1, 2):
        answer = await court.impose(court.moderator, user, "ban", duration=3600 * hours, reason="noise")
        assert answer.status == 201, answer.raw
    until = answer.data["user"]["banned_until"]
    for socket in sockets:
        assert await socket.closed() == 4003
        (notice,) = socket.seen("error")
        assert notice["code"] == "BANNED" and notice["details"]["reason"] == "noise"
    assert (await court.get("/users/me", user)).status == 401
    refused(await court.login(user, "not this one"), 401, "INVALID_CREDENTIALS")
    barred = await court.login(user)
    refused(barred, 423, "ACCOUNT_BANNED")
    assert datetime.fromisoformat(barred.details["until"]) == datetime.fromisoformat(until)
    imposed = (await court.get(f"/moderation/users/{user.id}", court.moderator)).data["sanctions"]
    assert [one["in_force"] for one in imposed] == [True, False]
    # Unbanned once he is unbanned.
    assert (await court.lift(court.moderator, user, "ban")).data["is_banned"] is False
    refused(await court.lift(court.moderator, user, "ban"), 404, "SANCTION_NOT_FOUND")
    back = await court.login(user)
    assert back.status == 200
    token, told = back.data["access_token"], []
    with trio.fail_after(60):
        while len(told) < 3:  # no socket of his is there to hear of it
            await trio.sleep(0.01)
            told = (await court.api.get("/notifications", token=token)).data["notifications"]
    assert [one["action"] for one in told] == ["unban", "ban", "ban"]
    # And one that ends does so by itself.
    assert (await court.impose(court.moderator, user, "ban", duration=3600)).status == 201
    refused(await court.login(user), 423, "ACCOUNT_BANNED")
    await court.sql("UPDATE users SET banned_until = now() - interval '1 s' WHERE id = $1", user.id)
    assert (await court.login(user)).status == 200
    for good in (await court.impose(court.admin, user, "ban"), await court.login(user)):
        assert good.status in (201, 423)
    assert good.details == {}, "without an end there is none to be told"


async def test_a_warning_changes_nothing_but_that_one_is_warned(court: Court) -> None:
    user = await court.person()
    socket = await court.house.connect(user)
    answer = await court.impose(court.moderator, user, "warning", reason="mind your words")
    assert answer.status == 201 and answer.data["sanction"]["in_force"] is False
    assert (await court.notified(socket, "warning"))["reason"] == "mind your words"
    assert (await court.post(f"/chat/dm/{court.admin.id}", {"content": "sorry"}, user)).status == 201
    assert await court.acts("user.warn", target=user.id) == [("user.warn", court.moderator.id)]
    refused(await court.lift(court.moderator, user, "warning"), 404, "NOT_FOUND")


async def test_what_moderators_see_of_somebody(court: Court) -> None:
    user, friend = await court.people(2)
    public = await court.house.room(friend, user)
    private = await court.house.room(friend, user, kind="private")
    for room in (public, private):
        ear = await court.house.enter(user, room.id)
        body = {"user_id": user.id, "duration": 3600, "reason": "loud"}
        assert (await court.post(f"/chat/rooms/{room.id}/mutes", body, friend)).status == 201
        told = await court.notified(ear, "mute")
        assert (told["target_type"], told["target_id"], told["reason"]) == ("room", room.id, "loud")
    filed = await court.report(friend, "user", user.id, category="spam")
    report_id = filed.data["report_id"]
    about = {"duration": 3600, "report_id": report_id}
    assert (await court.impose(court.moderator, user, "mute", **about)).data["sanction"][
        "report_id"
    ] == report_id
    answer = await court.get(f"/moderation/users/{user.id}", court.moderator)
    assert b"example.org" not in answer.raw
    seen = answer.data
    assert [(one["room_id"], one["room"], one["kind"]) for one in seen["room_sanctions"]] == [
        (private.id, None, "mute"),
        (public.id, public.name, "mute"),
    ]
    assert [(one["id"], one["category"]) for one in seen["reports"]] == [(report_id, "spam")]
    (mute,) = seen["sanctions"]
    assert (mute["by"], mute["report_id"]) == (court.moderator.name, report_id)
    # One's own file is open, but for who complained of one.
    await court.report(friend, "user", court.moderator.id)
    assert (await court.get(f"/moderation/users/{court.moderator.id}", court.moderator)).data["reports"] == []
    refused(await court.get("/moderation/users/1000000000", court.moderator), 404, "USER_NOT_FOUND")
    # Room sanctions are in the audit log, lifting too.
    assert (await court.delete(f"/chat/rooms/{public.id}/mutes/{user.id}", friend)).status == 200
    assert (await court.delete(f"/chat/rooms/{public.id}/members/{user.id}", friend)).status == 200
    acts = await court.acts("room.mute", "room.unmute", "room.kick", target=user.id)
    assert [act for act, by in acts if by == friend.id] == [
        "room.mute",
        "room.mute",
        "room.unmute",
        "room.kick",
    ]


async def test_two_who_ban_at_the_same_moment(court: Court) -> None:
    """Both are recorded, one holds, and one lifting is enough."""
    user = await court.person()
    ends = datetime.now(UTC) + timedelta(hours=1)

    async def ban(by: Person) -> None:
        answer = await court.impose(by, user, "ban", until=ends.isoformat())
        assert answer.status == 201, answer.raw

    others = [await court.person(role="moderator") for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for by in others:
            nursery.start_soon(ban, by)
    imposed = (await court.get(f"/moderation/users/{user.id}", court.moderator)).data["sanctions"]
    assert sorted(one["in_force"] for one in imposed) == [False, False, True]
    assert (await court.lift(others[0], user, "ban")).status == 200
    assert await court.sql("SELECT banned_until FROM users WHERE id = $1", user.id) is None
