"""Direct messages: to every connection of both people, and to nobody else."""

from __future__ import annotations

import trio

from tests.chat.client import Client, Frame
from tests.chat.conftest import Build, House
from veza.db import follows


async def test_a_letter_reaches_every_connection_of_both_people(house: House) -> None:
    """None of them has joined anything, and all were open before the conversation existed."""
    ann, bob, eve = await house.people(3)
    a, a2, b, b2, e = [await house.connect(p) for p in (ann, ann, bob, bob, eve)]
    ack = await a.write(bob.id, "Liebe Grüße", nonce="n")
    for client in (a, a2, b, b2):
        frame = await client.expect("direct_message")
        assert frame.data == {
            "id": ack["id"],
            "room_id": ack["room_id"],
            "seq": 1,
            "from_user_id": ann.id,
            "from_username": ann.name,
            "to_user_id": bob.id,
            "content": "Liebe Grüße",
            "message_type": "text",
            "created_at": ack["created_at"],
            "nonce": "n",
        }
    assert [f.type for f in a.frames if f.type != "welcome"] == ["message_ack", "direct_message"]
    answer = await b2.write(ann.id, "Danke", reply_to=ack["id"])
    assert (answer["room_id"], answer["seq"]) == (ack["room_id"], 2)
    for client in (a, a2, b, b2):
        frame = await client.expect("direct_message")
        assert (frame["from_user_id"], frame["to_user_id"], frame["reply_to"]) == (bob.id, ann.id, ack["id"])
    late = await house.connect(bob)  # and whoever comes later
    assert late.welcome["conversations"] == [
        {"room_id": ack["room_id"], "with_user": ann.id, "last_seq": 2, "last_read_seq": 2}
    ]
    await a.write(bob.id, "third")
    assert (await late.expect("direct_message"))["seq"] == 3
    await e.pong()
    assert [f.type for f in e.frames] == ["welcome", "pong"]
    again = await a2.write(bob.id, "Liebe Grüße", nonce="n")
    assert again["id"] == ack["id"]
    await a.write(bob.id, "fourth")
    assert (await b.expect("direct_message", content="fourth"))["seq"] == 4


async def test_sockets_that_open_while_a_conversation_begins_miss_nothing(house: House) -> None:
    """At whatever moment the first letters are written, every socket has each of them once, from its welcome on."""
    for round in range(12):
        ann, bob = await house.people(2)
        a = await house.connect(ann)
        late: list[Client] = []

        async def write(a: Client = a, to: int = bob.id) -> None:
            for i in range(3):
                await a.write(to, f"letter {i}")

        async def come(after: int, bob: object = bob, late: list[Client] = late) -> None:
            for _ in range(after):
                await trio.lowlevel.checkpoint()
            late.append(await house.connect(bob))  # type: ignore[arg-type]

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                for i in range(6):
                    nursery.start_soon(come, i * 4 + round)
            for client in late:
                # The welcome may count a letter that is on its way to this socket; none is left out after it.
                known = next((c["last_seq"] for c in client.welcome["conversations"]), 0)
                if known < 3:
                    await client.expect("direct_message", seq=3)
                await client.pong()  # so all that was on its way is here
                seqs = [f["seq"] for f in client.seen("direct_message")]
                assert seqs == list(range(seqs[0] if seqs else 4, 4))
                assert not seqs or seqs[0] <= known + 1
            await a.write(bob.id, "last")
            for client in late:
                await client.expect("direct_message", seq=4)
                assert len(client.seen("direct_message", seq=3)) <= 1


async def test_both_write_the_first_letter_at_the_same_moment(house: House) -> None:
    pairs = [await house.people(2) for _ in range(10)]
    with trio.fail_after(120):
        for ann, bob in pairs:
            a, b = await house.connect(ann), await house.connect(bob)
            acks: list[Frame] = []

            async def write(client: Client, to: int, acks: list[Frame] = acks) -> None:
                acks.append(await client.write(to, "first"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write, a, bob.id)
                nursery.start_soon(write, b, ann.id)
            assert len({ack["room_id"] for ack in acks}) == 1
            assert sorted(ack["seq"] for ack in acks) == [1, 2]
            for client in (a, b):
                assert [(await client.expect("direct_message"))["seq"] for _ in range(2)] == [1, 2]


async def test_who_cannot_be_written_to(house: House) -> None:
    ann, bob = await house.people(2)
    gone = await house.person()
    await house.sql("UPDATE users SET is_active = false WHERE id = $1 RETURNING 1", gone.id)
    a = await house.connect(ann)
    for to in (2**63 - 1, 0, 987654321, gone.id):
        await a.refused("USER_NOT_FOUND", "direct_message", to_user_id=to, content="x")
    await a.refused("INVALID_FORMAT", "direct_message", to_user_id=ann.id, content="x")
    await a.refused("INVALID_FORMAT", "direct_message", content="x")
    await a.refused("INVALID_FORMAT", "direct_message", to_user_id=bob.id, content="")
    await a.refused("INVALID_FORMAT", "direct_message", to_user_id=bob.id)


async def test_blocking_ends_writing_both_ways_at_once(house: House) -> None:
    ann, bob = await house.people(2)
    a, b = await house.connect(ann), await house.connect(bob)
    ack = await a.write(bob.id, "before")
    await b.expect("direct_message")
    rooms = house.app.core.rooms
    await house.db.write(follows.block, bob.id, ann.id, 10)
    await rooms.blocks_changed(ann.id, bob.id)
    await a.refused("BLOCKED", "direct_message", to_user_id=bob.id, content="x")
    await b.refused("BLOCKED", "direct_message", to_user_id=ann.id, content="x")
    await a.refused("BLOCKED", "edit_message", id=ack["id"], content="x")
    await a.refused("BLOCKED", "add_reaction", id=ack["id"], emoji="👍")
    await a.refused("BLOCKED", "typing", to_user_id=bob.id)
    # A restarted room knows it from the database.
    house.app.core.system.restart(f"rooms/{ack['room_id']}")
    await a.refused("BLOCKED", "direct_message", to_user_id=bob.id, content="x")
    await house.db.write(follows.unblock, bob.id, ann.id)
    await rooms.blocks_changed(bob.id, ann.id)
    await a.write(bob.id, "after")
    await b.expect("direct_message", content="after")
    assert [f["content"] for f in b.seen("direct_message")] == ["before", "after"]


async def test_looking_at_a_conversation_does_not_make_one(house: House) -> None:
    ann, bob = await house.people(2)
    a = await house.connect(ann)
    history = await a.ask("dm_history", "message_history", with_user=bob.id)
    assert (history["with_user"], history["messages"], history["total"], history["has_more"]) == (
        bob.id,
        [],
        0,
        False,
    )
    await a.send("typing", to_user_id=bob.id)
    await a.send("mark_read", with_user=bob.id, seq=5)
    await a.refused("NOT_JOINED", "leave_room", with_user=bob.id)
    await a.pong()
    assert not a.seen("error", ref=None)
    assert not await house.sql("SELECT 1 FROM rooms WHERE $1 IN (user_low, user_high)", ann.id)
    for kind in ("dm_history", "mark_read", "leave_room"):
        await a.refused("USER_NOT_FOUND", kind, with_user=2**60, seq=1)
    await a.refused("USER_NOT_FOUND", "typing", to_user_id=2**60)


async def test_a_conversation_can_be_joined_and_resumed_like_any_room(house: House) -> None:
    ann, bob, eve = await house.people(3)
    a = await house.connect(ann)
    acks = [await a.write(bob.id, f"letter {i}") for i in range(1, 5)]
    b = await house.connect(bob)
    ack = await b.ask("join_room", "join_room_ack", with_user=ann.id, since_seq=1)
    assert (ack["with_user"], ack["room"], ack["room_id"]) == (
        ann.id,
        acks[0]["room_id"],
        acks[0]["room_id"],
    )
    assert (ack["resume"], ack["first_seq"], ack["last_seq"], ack["members"]) == ("ok", 2, 4, 2)
    assert [(await b.expect("direct_message"))["seq"] for _ in range(3)] == [2, 3, 4]
    await a.write(bob.id, "letter 5")
    assert (await b.expect("direct_message"))["seq"] == 5
    assert len(b.seen("direct_message")) == 4  # joined and subscribed by itself: still once
    # Its id is a room like any other, for the two.
    posted = await b.say(ack["room_id"], "by id")
    assert (await a.expect("direct_message", content="by id"))["seq"] == posted["seq"] == 6
    e = await house.connect(eve)
    for kind in ("join_room", "room_history", "leave_room", "typing"):
        await e.refused("ROOM_NOT_FOUND", kind, room=ack["room_id"])
    await e.refused("ROOM_NOT_FOUND", "room_message", room=ack["room_id"], content="x")
    await e.refused("ROOM_NOT_FOUND", "mark_read", room=ack["room_id"], seq=1)


async def test_a_restart_of_a_conversation_is_no_more_than_a_pause(build: Build) -> None:
    async with build(room_idle=0.05) as house:
        ann, bob = await house.people(2)
        a, b = await house.connect(ann), await house.connect(bob)
        room = (await a.write(bob.id, "letter 1"))["room_id"]
        for i in range(2, 12):
            house.app.core.system.restart(f"rooms/{room}")
            late = await house.connect(bob)
            await a.write(bob.id, f"letter {i}")
            assert (await late.expect("direct_message"))["seq"] == i
            await late.drop()
        assert [(await b.expect("direct_message"))["seq"] for _ in range(11)] == list(range(1, 12))
        await a.pong()
        assert len(b.seen("direct_message")) == len(a.seen("direct_message")) == 11
        # Both gone, the actor gone, both back.
        await a.drop()
        await b.drop()
        with trio.fail_after(120):
            while house.app.core.rooms.running(room) is not None:  # noqa: ASYNC110
                await trio.sleep(0.005)
        a, b = await house.connect(ann), await house.connect(bob)
        await b.write(ann.id, "letter 12")
        assert (await a.expect("direct_message"))["seq"] == 12
        assert (await b.expect("direct_message"))["seq"] == 12
