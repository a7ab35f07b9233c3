"""Who is there, who types, who has read: who hears of it, and who must not."""

from __future__ import annotations

from typing import Any

import trio

from tests.chat.client import Client, eventually, fence
from tests.chat.conftest import Build, House


async def test_the_first_connection_arrives_and_the_last_one_leaves(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a = await house.enter(ann, room.id)
    b = await house.enter(bob, room.id)
    came = await a.expect("user_connected")
    assert came.data == {"user_id": bob.id, "username": bob.name, "room": room.name, "room_id": room.id}
    b2 = await house.enter(bob, room.id)
    await b.drop()
    await b2.ask("leave_room", "leave_room_ack", room=room.id)
    left = await a.expect("user_disconnected")
    assert (left["user_id"], left["room"]) == (bob.id, room.name)
    await b2.join(room.id)
    await a.expect("user_connected", user_id=bob.id)
    await b2.drop()
    await a.expect("user_disconnected", user_id=bob.id)
    await a.pong()
    assert len(a.seen("user_connected")) == 2 and len(a.seen("user_disconnected")) == 2
    assert not a.seen("user_connected", user_id=ann.id)  # nobody hears of himself
    assert not b.seen("user_connected") and not b2.seen("user_connected")


async def test_a_large_room_sums_presence_up(build: Build) -> None:
    async with build(room_presence_limit=3) as house:
        people = await house.people(9)
        room = await house.room(*people)
        watcher = await house.enter(people[0], room.id)
        began = trio.current_time()
        clients = [await house.enter(person, room.id) for person in people[1:]]
        summary = await watcher.expect("room_presence", online=9)
        assert summary.data == {"room": room.name, "room_id": room.id, "online": 9}
        assert len(watcher.seen("user_connected")) == 2  # up to the limit of three
        assert len(watcher.seen("room_presence")) <= trio.current_time() - began  # at most once a second
        for client in clients[3:]:
            await client.drop()
        await watcher.expect("room_presence", online=4)
        # Below the limit they are named again.
        await clients[2].drop()
        await watcher.expect("user_disconnected", user_id=people[3].id)


async def test_typing_ends_by_itself(build: Build) -> None:
    async with build(typing_expires=0.3) as house:
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
        began = trio.current_time()
        await a.send("typing", room=room.name, is_typing=True)
        await b.expect("typing", is_typing=True)
        await b.expect("typing", is_typing=False)
        assert trio.current_time() - began > 0.25
        await fence(a, room.id, b)
        assert len(b.seen("typing")) == 2 and not a.seen("typing")


async def test_typing_is_for_the_others(build: Build) -> None:
    async with build(typing_expires=600.0) as house:
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a, a2, b = [await house.enter(p, room.id) for p in (ann, ann, bob)]
        await a.send("typing", room=room.name, is_typing=True)
        typing = await b.expect("typing")
        assert typing.data == {
            "room": room.name,
            "room_id": room.id,
            "user_id": ann.id,
            "username": ann.name,
            "is_typing": True,
        }
        await a.send("typing", room=room.name)  # still: nothing new for the others
        await a.send("typing", room=room.name, is_typing=False)
        await b.expect("typing", is_typing=False)
        await a.send("typing", room=room.name, is_typing=True)
        await b.expect("typing", is_typing=True)
        await a.say(room.id, "said")  # who has spoken types no more
        await b.expect("typing", is_typing=False)
        await b.expect("room_message")
        await a.send("typing", room=room.name, is_typing=True)
        await b.expect("typing", is_typing=True)
        await a.drop()
        await a2.drop()
        await b.expect("typing", is_typing=False)
        assert len(b.seen("typing")) == 6
        assert not a.seen("typing") and not a2.seen("typing")
        await b.refused("INVALID_FORMAT", "typing", room=room.name, is_typing="yes")
        await b.refused("INVALID_FORMAT", "typing")
        elsewhere = await house.connect(bob)
        await elsewhere.refused("NOT_JOINED", "typing", room=room.name)
        assert not await house.sql("SELECT 1 FROM messages WHERE content LIKE '%typing%'")


async def test_typing_in_a_letter(house: House) -> None:
    ann, bob, eve = await house.people(3)
    a, b, e = [await house.connect(p) for p in (ann, bob, eve)]
    room = (await a.write(bob.id, "x"))["room_id"]
    await a.send("typing", to_user_id=bob.id, is_typing=True)
    typing = await b.expect("typing")
    assert (typing["room"], typing["user_id"], typing["is_typing"]) == (room, ann.id, True)
    await e.pong()
    assert not e.seen("typing") and not a.seen("typing")


async def test_read_marks_move_forward_and_are_told(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, a2, b = [await house.enter(p, room.id) for p in (ann, ann, bob)]
    for i in range(5):
        await a.say(room.id, f"m{i}")
    await b.send("mark_read", room=room.name, seq=3)
    for client in (a, a2, b):
        receipt = await client.expect("read_receipt")
        assert receipt.data == {"room": room.name, "room_id": room.id, "user_id": bob.id, "seq": 3}
    await b.send("mark_read", room=room.name, seq=2)  # never back
    await b.send("mark_read", room=room.name, seq=3)
    await b.send("mark_read", room=room.name, seq=2**63 - 1)  # and not beyond what there is
    assert (await a.expect("read_receipt"))["seq"] == 5
    await fence(a, room.id, b)
    assert len(b.seen("read_receipt")) == 2
    await house.enter(ann, room.id)
    late = await house.connect(bob)
    assert (await late.join(room.id))["last_read_seq"] == 5
    for bad in ({"seq": -1}, {"seq": 1.5}, {"seq": "1"}, {}, {"seq": 2**63}):
        await b.refused("INVALID_FORMAT", "mark_read", room=room.name, **bad)
    await b.refused("INVALID_FORMAT", "mark_read", seq=1)
    eve = await house.connect(await house.person())
    await eve.refused("NOT_JOINED", "mark_read", room=room.name, seq=1)

    async def written() -> int:
        rows = await house.sql(
            "SELECT last_read_seq FROM room_members WHERE room_id = $1 AND user_id = $2", room.id, bob.id
        )
        return int(rows[0][0])

    with trio.fail_after(120):
        while await written() != 5:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_read_marks_of_letters(house: House) -> None:
    ann, bob = await house.people(2)
    a, b = await house.connect(ann), await house.connect(bob)
    letter = await a.write(bob.id, "x")
    await b.expect("direct_message")
    await b.send("mark_read", with_user=ann.id, seq=1)
    receipt = await a.expect("read_receipt")
    assert (receipt["room"], receipt["user_id"], receipt["seq"]) == (letter["room_id"], bob.id, 1)
    late = await house.connect(bob)
    assert late.welcome["conversations"][0]["last_read_seq"] == 1


async def test_a_crowd_sends_no_receipts(build: Build) -> None:
    async with build(room_receipts_limit=2) as house:
        ann, bob, cleo = await house.people(3)
        room = await house.room(ann, bob)
        a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
        await a.say(room.id, "x")
        await b.send("mark_read", room=room.id, seq=1)
        await a.expect("read_receipt")
        await house.enter(cleo, room.id)
        await a.say(room.id, "y")
        await b.send("mark_read", room=room.id, seq=2)
        await fence(a, room.id, b)
        assert len(a.seen("read_receipt")) == 1
        assert (await b.join(room.id))["last_read_seq"] == 2  # but the mark counts


async def test_a_status_reaches_those_who_share_a_room_or_a_conversation_once(house: House) -> None:
    ann, bob, cleo, dan, eve = await house.people(5)
    one, two = await house.room(ann, bob), await house.room(ann, bob)
    a = await house.enter(ann, one.id, two.id)
    b = await house.enter(bob, one.id, two.id)  # shares two rooms
    c = await house.connect(cleo)  # shares a conversation
    d = await house.enter(dan, two.id)  # shares one room, and a conversation
    e = await house.connect(eve)  # shares nothing
    await a.write(cleo.id, "x")
    await a.write(dan.id, "x")
    await a.send("set_presence", status="away", text="at lunch 🍝👨‍👩‍👧")
    for client in (b, c, d):
        presence = await client.expect("presence", user_id=ann.id)
        assert presence.data == {
            "user_id": ann.id,
            "status": "away",
            "text": "at lunch 🍝👨‍👩‍👧",
            "last_seen": None,
        }
    await fence(a, one.id, b)
    await fence(a, two.id, b, d)
    await a.write(cleo.id, "y")
    await c.expect("direct_message", content="y")
    assert [len(x.seen("presence", user_id=ann.id)) for x in (a, b, c, d)] == [0, 1, 1, 1]
    await e.pong()
    assert not e.seen("presence")
    # It is remembered, and coming and going tells friends.
    await a.aclose()
    gone = await c.expect("presence", status="offline")
    assert gone["last_seen"] is not None and gone["text"] is None
    await house.connect(ann)
    back = await c.expect("presence")
    assert (back["status"], back["text"]) == ("away", "at lunch 🍝👨‍👩‍👧")
    assert len(b.seen("presence")) == 1  # those who share only a room see who comes there instead


async def test_statuses_that_are_none(house: House) -> None:
    a = await house.connect(await house.person())
    for bad in (
        {"status": "dead"},
        {"status": ""},
        {"status": 5},
        {},
        {"status": "away", "text": "x" * 141},
        {"status": "away", "text": "a\nb"},
        {"status": "away", "text": "\x00"},
        {"status": "away", "text": 5},
    ):
        await a.refused("INVALID_FORMAT", "set_presence", **bad)
    await a.pong()


async def nothing_of(person_id: int, *clients: Client) -> None:
    for client in clients:
        told = [f for f in client.frames if f.data.get("user_id") == person_id and f.type != "room_message"]
        assert not told, told


async def test_invisible_people_cause_nothing(house: House) -> None:
    ann, bob = await house.people(2)
    ghost = await house.person(presence="invisible")
    room = await house.room(ann, bob, ghost)
    a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
    g = await house.connect(ghost)
    await g.write(ann.id, "a letter from nowhere")
    await a.expect("direct_message")
    ack = await g.join(room.id)
    assert ack["online"] == 2  # ann and bob
    await a.say(room.id, "x")
    await g.expect("room_message")
    await g.send("typing", room=room.id, is_typing=True)
    await g.send("typing", to_user_id=ann.id, is_typing=True)
    await g.send("mark_read", room=room.id, seq=1)
    await g.send("mark_read", with_user=ann.id, seq=1)
    g2 = await house.enter(ghost, room.id)
    await g2.drop()
    await g.ask("leave_room", "leave_room_ack", room=room.id)
    await g.join(room.id)
    await g.aclose()
    g = await house.enter(ghost, room.id)
    await fence(a, room.id, b, g)
    c = await house.connect(await house.person())
    assert (await c.join(room.id))["online"] == 3  # ann, bob and this one
    await a.pong()
    await nothing_of(ghost.id, a, b)
    # What they say is heard, of course.
    await g.say(room.id, "boo")
    await a.expect("room_message", content="boo")
    await nothing_of(ghost.id, a, b)


async def test_becoming_invisible_looks_like_leaving(house: House) -> None:
    ann, bob, cleo = await house.people(3)
    room = await house.room(ann, bob)
    a, b, c = await house.enter(ann, room.id), await house.enter(bob, room.id), await house.connect(cleo)
    await a.write(cleo.id, "x")
    await a.send("typing", room=room.id, is_typing=True)
    await b.expect("typing", is_typing=True)
    await a.send("set_presence", status="invisible", text="hidden words")
    for client in (b, c):
        presence = await client.expect("presence", user_id=ann.id)
        assert (presence["status"], presence["text"]) == ("offline", None)
        assert presence["last_seen"] is not None
    await b.expect("user_disconnected", user_id=ann.id)
    await b.expect("typing", is_typing=False)
    b.forget()
    c.forget()
    await a.send("set_presence", status="invisible", text="other words")
    await a.send("typing", room=room.id, is_typing=True)
    await a.pong()
    await fence(b, room.id, a)
    await nothing_of(ann.id, b, c)
    await a.send("set_presence", status="busy")
    for client in (b, c):
        assert (await client.expect("presence", user_id=ann.id))["status"] == "busy"
    await b.expect("user_connected", user_id=ann.id)
    await a.aclose()
    await b.expect("user_disconnected", user_id=ann.id)
    assert (await c.expect("presence", user_id=ann.id))["status"] == "offline"
    await eventually(lambda: len(house.app.chat) == 2)


async def test_when_somebody_was_seen_last_does_not_give_the_invisible_away(house: House) -> None:
    ann = await house.person()

    async def last_seen(user_id: int = ann.id) -> Any:
        return (await house.sql("SELECT last_seen_at FROM users WHERE id = $1", user_id))[0][0]

    async def moved(before: Any, user_id: int = ann.id) -> Any:
        with trio.fail_after(120):
            while (seen := await last_seen(user_id)) == before:  # noqa: ASYNC110
                await trio.sleep(0.02)
        return seen

    a = await house.connect(ann)
    await a.send("set_presence", status="invisible")
    hidden = await moved(None)  # whoever hides seems to leave then
    await a.aclose()
    a = await house.connect(ann)
    await a.aclose()
    await eventually(lambda: not house.app.chat)
    bob = await house.person()  # his end is noted with ann's, if hers is
    await (await house.connect(bob)).aclose()
    await moved(None, bob.id)
    assert await last_seen() == hidden
    a = await house.connect(ann)
    await a.send("set_presence", status="online")
    await a.pong()
    await a.aclose()
    await moved(hidden)


async def test_a_room_that_restarted_still_tells_of_who_comes_and_goes(house: House) -> None:
    ann, bob = await house.people(2)
    ghost = await house.person(presence="invisible")
    room = await house.room(ann, bob, ghost)
    a = await house.enter(ann, room.id)
    g = await house.enter(ghost, room.id)
    house.app.core.system.restart(f"rooms/{room.id}")
    ack = await a.join(room.id)
    assert ack["online"] == 1
    b = await house.enter(bob, room.id)
    await a.expect("user_connected", user_id=bob.id)
    await b.drop()
    await a.expect("user_disconnected", user_id=bob.id)
    assert house.actor(room.id).restarts == 1
    await fence(a, room.id, g)
    await nothing_of(ghost.id, a)
