"""Sanctions and live streams: what a banned person broadcasts ends, what he hears too; a mute stops his words alone."""

from __future__ import annotations

from tests.live.radio import mp3
from tests.live.test_sockets import connect
from tests.moderation.conftest import Court, refused


async def test_a_ban_ends_what_he_broadcasts_and_what_he_hears(court: Court) -> None:
    air, user, friend = court.air, await court.person(), await court.person()
    await court.let_log_in(user)
    mine = await air.stream(owner=user)
    source = await air.source(mine)
    fan = await air.listener(mine.path)
    browser = await connect(air, f"/ws/stream/{mine.slug}")
    # A friend's private stream, which he may hear: by token, by a signed address, in the browser; and a public one.
    private = await air.stream(owner=friend, visibility="private")
    room = (await court.house.room(friend, user, kind="private")).id
    await court.sql("UPDATE streams SET room_id = $2 WHERE id = $1", private.id, room)
    theirs = await air.source(private)
    signed = (await court.get(f"/streams/{private.slug}/listen", user)).data["progressive"]
    kept = (await court.get(f"/streams/{private.slug}/listen", friend)).data["progressive"]
    public = await air.stream(owner=friend)
    await air.source(public)
    ears = [
        await air.listener(private.path, f"Authorization: Bearer {user.token}"),
        await air.listener(signed),
        await air.listener(f"{public.path}?token={user.token}"),
    ]
    stays = [await air.listener(kept), await air.listener(public.path)]
    sockets = [await connect(air, f"/ws/stream/{each.slug}?token={user.token}") for each in (private, public)]
    chat = await court.house.connect(user)
    for socket in sockets:
        await socket.hear_until(mp3(9, 1))

    answer = await court.impose(court.moderator, user, "ban", duration=3600, reason="noise")
    assert answer.status == 201, answer.raw
    assert await chat.closed() == 4003
    while await source.more():
        pass
    assert await fan.hear_all() == mp3(0, 10)
    assert (await browser.told_of("ended"))["slug"] == mine.slug
    await air.stored(mine, "ended")
    for ear in ears:
        await ear.hear_all()
    for socket in sockets:
        notice = await socket.told_of("error")
        assert (notice["code"], notice["details"]["reason"]) == ("BANNED", "noise")
        assert await socket.close_code() == 4003
    # Nor does he come back, by any of these ways.
    assert (await air.ask(f"GET {signed}/index.m3u8 HTTP/1.1")).status == 404
    assert (await air.ask(f"GET {signed} HTTP/1.1")).status == 404
    assert (
        await air.ask(f"GET {private.path} HTTP/1.1", f"Authorization: Bearer {user.token}")
    ).status == 401
    # The others heard nothing of it.
    await theirs.send(mp3(10, 1))
    assert await stays[0].hear_until(mp3(10, 1)) == mp3(0, 11)
    # Let in again he hears as before.
    assert (await court.lift(court.moderator, user, "ban")).status == 200
    again = await air.listener(signed)
    assert await again.hear_until(mp3(10, 1)) == mp3(0, 11)


async def test_a_muted_owner_goes_on_playing_and_says_nothing(court: Court) -> None:
    air, user = court.air, await court.person()
    stream = await air.stream(owner=user)
    source = await air.source(stream)
    ear = await air.listener(stream.path)
    room = await court.sql("SELECT room_id FROM streams WHERE id = $1", stream.id)
    chat = await court.house.enter(user, room)
    assert (await court.impose(court.moderator, user, "mute", duration=3600)).status == 201
    await chat.error("MUTED")
    await chat.refused("MUTED", "room_message", room=room, content="thank you all")
    refused(await court.put(f"/streams/{stream.slug}", {"title": "la"}, user), 403, "MUTED")
    refused(await court.post("/streams", {"title": "la"}, user), 403, "MUTED")
    await source.send(mp3(10, 5))
    assert await ear.hear_until(mp3(14, 1)) == mp3(0, 15)
    # To end it is his still.
    assert (await court.post(f"/streams/{stream.slug}/end", None, user)).status == 200
    await air.stored(stream, "ended")


async def test_an_address_of_a_private_stream_is_its_holders_as_long_as_he_may_hear(court: Court) -> None:
    air, user = court.air, await court.person()
    stream = await air.stream(visibility="private")
    room = await court.sql("SELECT room_id FROM streams WHERE id = $1", stream.id)
    await court.sql("INSERT INTO room_members (room_id, user_id) VALUES ($1, $2)", room, user.id)
    await air.source(stream)
    signed = (await court.get(f"/streams/{stream.slug}/listen", user)).data["progressive"]
    prefix, _, slug = signed.rpartition("/")
    for forged in (
        f"{prefix.rpartition('.')[0]}.{court.admin.id}/{slug}",
        f"{prefix.rpartition('.')[0]}/{slug}",
        f"{prefix}0/{slug}",
    ):
        reply = await air.ask(f"GET {forged} HTTP/1.1")
        assert (reply.status, b"SIGNATURE_INVALID" in reply.body) == (403, True), forged
    ear = await air.listener(signed)
    await ear.hear(1)
    await court.sql("DELETE FROM room_members WHERE room_id = $1 AND user_id = $2", room, user.id)
    assert (await air.ask(f"GET {signed} HTTP/1.1")).status == 404
