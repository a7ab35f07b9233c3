"""What somebody would try who is told to be silent, or who keeps a room only to reach people by it."""

from __future__ import annotations

import pytest
import trio

from tests.chat.conftest import Person
from tests.live.conftest import basic
from tests.live.radio import Reply, Wire, until
from tests.live.test_sockets import knock
from tests.moderation.conftest import Court, refused


async def told(court: Court, who: Person) -> list[str]:
    """What he was told of moderation, the latest first."""
    with trio.fail_after(60):
        while await court.sql("SELECT count(*) FROM outbox WHERE target_id = $1", who.id):  # noqa: ASYNC110
            await trio.sleep(0.01)
    answer = await court.get("/notifications?limit=100", who)
    assert answer.status == 200, answer.raw
    return [one["action"] for one in answer.data["notifications"] if one["kind"] == "moderation"]


async def test_a_room_is_no_way_to_write_to_strangers(court: Court) -> None:
    """Notices of moderation name nobody and pass every block: only who belongs to a room gets its owner's."""
    owner, stranger, member = await court.people(3)
    room = await court.house.room(owner, member)
    assert (await court.put(f"/users/{owner.id}/block", None, stranger)).status == 200
    for kind in ("mutes", "bans"):
        body = {"user_id": stranger.id, "reason": "you play out of tune, and everybody knows"}
        assert (await court.post(f"/chat/rooms/{room.id}/{kind}", body, owner)).status == 201
    assert await told(court, stranger) == []
    # It holds all the same.
    refused(await court.post(f"/chat/rooms/{room.id}/join", None, stranger), 403, "BANNED")
    # Again and again is once.
    for _ in range(3):
        assert (await court.delete(f"/chat/rooms/{room.id}/bans/{stranger.id}", owner)).status == 200
        await court.post(f"/chat/rooms/{room.id}/bans", {"user_id": stranger.id, "reason": "la"}, owner)
    assert await told(court, stranger) == ["unban"]
    for kind in ("mutes", "bans"):
        body = {"user_id": member.id, "reason": "too loud"}
        assert (await court.post(f"/chat/rooms/{room.id}/{kind}", body, owner)).status == 201
    assert await told(court, member) == ["ban", "mute"]


async def test_the_muted_say_nothing_by_their_status(court: Court) -> None:
    user = await court.person()
    chat = await court.house.connect(user)
    await court.impose(court.moderator, user, "mute", duration=3600)
    await chat.error("MUTED")
    await chat.refused("MUTED", "set_presence", status="online", text="silenced by fools")
    await chat.send("set_presence", status="busy")
    await chat.send("set_presence", status="away", text="  ")
    await chat.send("ping")
    await chat.expect("pong")
    assert await court.sql(
        "SELECT presence || coalesce(presence_text, '') FROM users WHERE id = $1", user.id
    ) == ("away")


async def test_the_muted_begin_no_broadcast_and_name_no_song(court: Court) -> None:
    """By the key, by a browser: what is on air goes on, nothing begins."""
    air, user = court.air, await court.person()
    here, later = await air.stream(owner=user), await air.stream(owner=user)
    source = await air.source(here)
    await court.impose(court.moderator, user, "mute", duration=3600)
    keys = {each: f"Authorization: {basic(each.key)}" for each in (here, later)}
    reply = await air.ask(f"PUT {later.path} HTTP/1.1", keys[later], "Content-Length: 3", body=b"abc")
    assert (reply.status, b"MUTED" in reply.body) == (403, True), reply.body
    for shown in (user.token, later.key):
        status, _, body = await knock(air, f"/ws/stream/{later.slug}/publish?token={shown}")
        assert (status, b"MUTED" in body) == (403, True), body
    song = f"GET /admin/metadata?mount={here.path}&mode=updinfo&song=down+with+them HTTP/1.1"
    reply = await air.ask(song, keys[here])
    assert (reply.status, b"MUTED" in reply.body) == (403, True), reply.body
    state = air.state(here)
    assert state is not None and (state.state, state.song) == ("live", None)
    # What is on air may come back.
    await source.close()
    await air.is_(here, "interrupted")
    await air.source(here, "Ice-Genre: down with them")
    await air.is_(here, "live")
    assert (await air.listener(here.path)).reply_.headers["icy-genre"] == "music"  # its category
    await court.lift(court.moderator, user, "mute")
    assert (await air.ask(song, keys[here])).status == 200
    assert (await knock(air, f"/ws/stream/{later.slug}/publish?token={user.token}"))[0] == 101


PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f00010501012718e36600"
    "00000049454e44ae426082"
)


@pytest.mark.parametrize(
    ("how", "status", "code"), [("mute", 403, "MUTED"), ("logout", 401, "SESSION_ENDED")]
)
async def test_requests_that_were_begun_in_time_are_judged_when_they_are_whole(
    court: Court, how: str, status: int, code: str
) -> None:
    """Bodies may come as slowly as they like: nobody keeps some in his sleeve for the day he is shut out."""
    user = await court.person()
    room = await court.house.room(user)
    listing = await court.listing(user)
    before = await court.sql("SELECT count(*) FROM messages")
    json = "application/json"
    counts = court.api.services.registry
    slow: list[tuple[Wire, bytes]] = []
    for method, path, kind, body in (
        ("POST", f"/chat/rooms/{room.id}/messages", json, b'{"content": "you will not hear the last of me"}'),
        ("PUT", "/users/me", json, b'{"bio": "nor read the last"}'),
        ("POST", "/users/me/avatar", "image/png", PIXEL),
        ("POST", f"/listings/{listing}/images", "image/png", PIXEL),
    ):
        wire = Wire(await court.air.dial())
        asked = counts.counts.hits + counts.counts.lookups
        head = [
            f"{method} /api/v1{path} HTTP/1.1",
            "Host: radio",
            f"Authorization: Bearer {user.token}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "",
            "",
        ]
        await wire.send("\r\n".join(head).encode() + body[:5])
        await until(lambda asked=asked: counts.counts.hits + counts.counts.lookups > asked)
        slow.append((wire, body[5:]))
    if how == "mute":
        assert (await court.impose(court.moderator, user, "mute", duration=3600)).status == 201
    else:
        assert (await court.post("/auth/logout", None, user)).status == 200
    for wire, rest in slow:
        await wire.send(rest)
        reply: Reply = await wire.reply()
        assert (reply.status, code.encode() in reply.body) == (status, True), reply
        await wire.close()
    assert await court.sql("SELECT count(*) FROM messages") == before
    assert await court.sql("SELECT bio IS NULL AND avatar IS NULL FROM users WHERE id = $1", user.id)
    assert await court.sql("SELECT count(*) FROM listing_images WHERE listing_id = $1", listing) == 0


async def test_a_ban_that_has_ended_by_itself_lets_him_broadcast(court: Court) -> None:
    """Also where his program has tried all the time, so that the stream never came to rest."""
    air, user = court.air, await court.person()
    stream = await air.stream(owner=user)
    answer = await court.impose(court.moderator, user, "ban", duration=3600)
    assert answer.status == 201, answer.raw

    async def tries() -> int:
        key = f"Authorization: {basic(stream.key)}"
        reply = await air.ask(
            f"PUT {stream.path} HTTP/1.1", key, "Content-Type: audio/mpeg", "Content-Length: 3", body=b"abc"
        )
        return reply.status

    assert [await tries() for _ in range(3)] == [403] * 3
    await court.sql("UPDATE users SET banned_until = now() - interval '1 second' WHERE id = $1", user.id)
    with trio.fail_after(60):
        while await tries() == 403:  # noqa: ASYNC110
            await trio.sleep(0.01)
    await air.source(stream)
    await air.is_(stream, "live")
