"""Coming, going and coming back: who may join, what the acknowledgement says, and resuming without gap or duplicate."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
import trio

from tests.chat.client import Client, Frame, eventually, fence
from tests.chat.conftest import Build, House
from veza.actors.commands import Person as Speaker
from veza.actors.commands import Say
from veza.actors.room import resuming


async def test_what_a_join_answers(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann)
    a = await house.connect(ann)
    ack = await a.join(room.name)
    assert {k: v for k, v in ack.data.items() if k not in ("ref", "message", "online")} == {
        "room": room.name,
        "room_id": room.id,
        "success": True,
        "members": 1,
        "last_seq": 0,
        "last_rev": 0,
        "last_read_seq": 0,
    }
    await a.say(room.id, "x")
    b = await house.connect(bob)
    ack = await b.join(room.name)  # a public room: joining makes a member
    assert (ack["members"], ack["last_seq"], ack["last_read_seq"]) == (2, 1, 1)  # nothing before is unread
    assert await house.sql("SELECT 1 FROM room_members WHERE room_id = $1 AND user_id = $2", room.id, bob.id)
    assert not b.seen("room_message")  # no since_seq, no replay


async def test_a_room_that_is_not_there_for_somebody(house: House) -> None:
    """Private, direct, deleted, never made: no answer tells them apart, and joining makes nothing."""
    ann, bob, eve = await house.people(3)
    private = await house.room(ann, bob, kind="private", name=f"secret {ann.id}")
    a = await house.enter(ann, private.id)
    b = await house.connect(bob)
    letter = await a.write(bob.id, "hello")
    e = await house.connect(eve)
    count = (await house.sql("SELECT count(*) FROM rooms"))[0][0]
    answers = []
    for room in (private.id, letter["room_id"], private.name, 2**63 - 1, 0, str(private.id), "no such room"):
        error = await e.refused("ROOM_NOT_FOUND", "join_room", room=room)
        answers.append({k: v for k, v in error.data.items() if k != "ref"})
        assert not error.data.get("details")
    assert all(answer == answers[0] for answer in answers)
    for room in ("", "x" * 51, "a\x00b", "a/b", "'; DROP TABLE rooms; --", "\u202e", "１２３"):
        await e.refused("ROOM_NOT_FOUND", "join_room", room=room)
    await e.refused("USER_NOT_FOUND", "join_room", with_user=2**62)
    await e.refused("INVALID_FORMAT", "join_room", with_user=eve.id)
    await e.refused("INVALID_FORMAT", "join_room")
    assert (await house.sql("SELECT count(*) FROM rooms"))[0][0] == count
    await b.join(private.id)
    await b.join(letter["room_id"])
    await b.ask("join_room", "join_room_ack", with_user=ann.id)


async def test_leaving_ends_the_subscription_and_not_the_membership(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, b, b2 = [await house.enter(p, room.id) for p in (ann, bob, bob)]
    left = await b.ask("leave_room", "leave_room_ack", room=room.name)
    assert left["room_id"] == room.id and left["success"] is True
    await b.refused("NOT_JOINED", "leave_room", room=room.name)
    await fence(a, room.id, b2)
    await b.say(room.id, "still a member")  # acknowledged, not echoed
    await b2.expect("room_message", content="still a member")
    await b.pong()
    assert not b.seen("room_message")
    await b.refused("ROOM_NOT_FOUND", "leave_room", room="no such room")
    ack = await b.join(room.id, since_seq=left_seq(b2) - 1)
    assert ack["resume"] == "ok"
    await b.expect("room_message", content="still a member")


def left_seq(client: Client) -> int:
    return max(int(f["seq"]) for f in client.seen("room_message"))


async def test_resuming_replays_exactly_what_was_missed_and_goes_on_live(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a = await house.enter(ann, room.id)
    for i in range(1, 11):
        await a.say(room.id, f"m{i}")
    for since in (0, 4, 9, 10):
        b = await house.connect(bob)
        ack = await b.join(room.id, since_seq=since)
        assert (ack["resume"], ack["first_seq"], ack["last_seq"]) == ("ok", since + 1, 10)
        for i in range(since + 1, 11):
            frame = await b.expect("room_message")
            assert (frame["seq"], frame["content"]) == (i, f"m{i}")
        await b.aclose()
    b = await house.connect(bob)
    ack = await b.join(room.id, since_seq=10)
    await a.say(room.id, "live")
    assert (await b.expect("room_message"))["seq"] == 11
    ack = await b.join(room.id, since_seq=50)  # of another life
    assert (ack["resume"], ack["first_seq"]) == ("too_far", 12)
    assert len(b.seen("room_message")) == 1


async def test_resuming_from_the_database(build: Build) -> None:
    """What the ring has lost (here: a restart of the room, and of the server) comes from the rows."""
    async with build() as house:
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a = await house.enter(ann, room.id)
        for i in range(1, 6):
            await a.say(room.id, f"m{i}", nonce=f"n{i}")
        house.app.core.system.restart(f"rooms/{room.id}")
        b = await house.connect(bob)
        ack = await b.join(room.id, since_seq=1)
        assert (ack["resume"], ack["first_seq"]) == ("ok", 2)
        assert [(await b.expect("room_message"))["seq"] for _ in range(4)] == [2, 3, 4, 5]
        await a.say(room.id, "after the restart")
        assert (await b.expect("room_message"))["seq"] == 6
        assert (await a.expect("room_message", seq=6))["content"] == "after the restart"
        assert [f["seq"] for f in a.seen("room_message")] == [1, 2, 3, 4, 5, 6]
    async with build() as house:
        a, b = await house.connect(ann), await house.connect(bob)
        await b.join(room.id, since_seq=3)
        frames = [await b.expect("room_message") for _ in range(3)]
        assert [(f["seq"], f.data.get("nonce")) for f in frames] == [(4, "n4"), (5, "n5"), (6, None)]
        await a.join(room.id, since_seq=6)
        again = await a.say(room.id, "m5", nonce="n5")  # the answer of the last life
        assert again["seq"] == 5
        await fence(a, room.id, b)
        assert len(b.seen("room_message")) == 4


async def test_too_far_behind_by_number_and_by_bytes(build: Build) -> None:
    async with build(room_ring_messages=10, room_ring_bytes=20_000) as house:
        ann, bob = await house.people(2)
        room, big = await house.room(ann, bob), await house.room(ann, bob)
        a = await house.enter(ann, room.id, big.id)
        for i in range(15):
            await a.say(room.id, f"m{i}")
        for i in range(6):
            await a.say(big.id, f"{i}" * 4000)
        b = await house.connect(bob)
        for name, since, last in ((room.id, 4, 15), (big.id, 0, 6)):
            ack = await b.join(name, since_seq=since)
            assert (ack["resume"], ack["first_seq"], ack["last_seq"]) == ("too_far", last + 1, last)
        assert not b.seen("room_message")
        ack = await b.join(room.id, since_seq=5)
        assert (ack["resume"], ack["first_seq"]) == ("ok", 6)
        assert [(await b.expect("room_message"))["seq"] for _ in range(10)] == list(range(6, 16))
        ack = await b.join(big.id, since_seq=2)
        assert ack["resume"] == "ok"
        assert [(await b.expect("room_message", room=big.name))["seq"] for _ in range(4)] == [3, 4, 5, 6]


async def test_resuming_brings_what_has_changed(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a = await house.enter(ann, room.id)
    ids = [(await a.say(room.id, f"m{i}"))["id"] for i in range(1, 6)]
    await a.send("edit_message", id=ids[0], content="edited")
    await a.send("delete_message", id=ids[1])
    await a.send("add_reaction", id=ids[2], emoji="🎉")
    await a.send("pin_message", id=ids[2])
    rev = (await a.expect("message_pinned"))["rev"]
    assert rev == 4

    b = await house.connect(bob)
    ack = await b.join(room.id, since_seq=5, since_rev=0)
    assert (ack["resume"], ack["last_rev"]) == ("ok", 4)
    updated = [await b.expect("message_updated") for _ in range(3)]
    assert [(f["id"], f["rev"]) for f in updated] == [(ids[0], 1), (ids[1], 2), (ids[2], 4)]
    assert updated[0]["content"] == "edited" and updated[0]["edited_at"]
    assert updated[1]["content"] == "" and updated[1]["deleted_at"]
    assert updated[2]["reactions"] == [{"emoji": "🎉", "count": 1, "user_ids": [ann.id]}]
    assert updated[2]["pinned_at"]

    c = await house.connect(bob)
    await c.join(room.id, since_seq=5, since_rev=2)
    assert (await c.expect("message_updated"))["id"] == ids[2]
    d = await house.connect(bob)
    await d.join(room.id, since_seq=2, since_rev=0)  # what is replayed anyway is replayed as it is now
    replayed = [await d.expect("room_message") for _ in range(3)]
    assert replayed[0]["reactions"][0]["emoji"] == "🎉"
    assert [(await d.expect("message_updated"))["id"] for _ in range(2)] == ids[:2]
    await fence(a, room.id, b, c, d)
    assert [len(x.seen("message_updated")) for x in (b, c, d)] == [3, 1, 2]
    assert len(d.seen("room_message")) == 4
    # A ring never shows what was deleted or edited since.
    e = await house.connect(bob)
    await e.join(room.id, since_seq=0)
    contents = [(await e.expect("room_message"))["content"] for _ in range(5)]
    assert contents == ["edited", "", "m3", "m4", "m5"]


async def test_two_joins_of_one_socket_are_two_answers(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a = await house.enter(ann, room.id)
    for i in range(5):
        await a.say(room.id, f"m{i}")
    house.app.core.system.restart(f"rooms/{room.id}")  # so that replays wait for the database
    b = await house.connect(bob)
    await b.send("join_room", room=room.id, since_seq=0, ref="one")
    await b.send("join_room", room=room.id, since_seq=3, ref="two")
    await b.send("leave_room", room=room.id, ref="left")
    await b.send("join_room", room=room.id, since_seq=4, ref="three")
    for ref in ("one", "two", "left", "three"):
        await b.next(lambda f, ref=ref: f.data.get("ref") == ref, ref)  # type: ignore[misc]
    await fence(a, room.id, b)
    seqs = [f["seq"] for f in b.seen("room_message")]
    assert seqs[-2:] == [5, 6] and seqs.count(6) == 1


async def test_many_join_a_large_room_while_it_talks(house: House) -> None:
    ann = await house.person()
    people = await house.people(40)
    room = await house.room(ann)
    a = await house.enter(ann, room.id)
    clients: list[Client] = []

    async def come(person: object, after: int) -> None:
        client = await house.connect(person)  # type: ignore[arg-type]
        for _ in range(after):
            await trio.lowlevel.checkpoint()
        await client.join(room.id, since_seq=0)
        clients.append(client)

    async def talk() -> None:
        for i in range(60):
            await a.say(room.id, f"m{i}")

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            for i, person in enumerate(people):
                nursery.start_soon(come, person, i * 3)
        await fence(a, room.id, *clients)
    for client in clients:
        assert [f["seq"] for f in client.seen("room_message")] == list(range(1, 62))


class Follower:
    """A client that comes and goes, and resumes from the last number it has seen, as a good client does."""

    def __init__(self, house: House, person: object, room: int) -> None:
        self.house, self.person, self.room = house, person, room
        self.texts: dict[int, str] = {}  # by sequence number, as they are known to it now
        self.last = 0
        self.rev = 0
        self.count = 0

    async def stay(self, until: int | None, pieces: int) -> None:
        """Connect, take so many frames (or all up to number `until`), and be gone."""
        client: Client = await self.house.connect(self.person)  # type: ignore[arg-type]
        ack = await client.join(self.room, since_seq=self.last, since_rev=self.rev)
        if ack["resume"] == "too_far":
            await self.page(client, ack)
        else:
            assert ack["first_seq"] == self.last + 1
        taken = 0
        while (taken < pieces) if until is None else (self.last < until):
            frame = await client.next(
                lambda f: f.type in ("room_message", "message_updated", "message_edited"), "anything"
            )
            self.take(frame)
            taken += 1
        if until is not None:  # what was changed comes behind what was missed
            await client.pong()
            for frame in client.unread:
                if frame.type in ("message_updated", "message_edited"):
                    self.take(frame)
        if self.count % 3:
            await client.aclose()
        else:
            await client.drop()
        self.count += 1

    async def page(self, client: Client, ack: Frame) -> None:
        """Too far behind: what is known is thrown away, and read anew up to where live frames begin."""
        self.last, self.rev, upto = 0, ack["last_rev"], ack["last_seq"]
        while self.last < upto:
            page = await client.ask(
                "room_history", "message_history", room=self.room, after_seq=self.last, limit=50
            )
            for message in page["messages"]:
                if message["seq"] <= upto:
                    assert message["seq"] == self.last + 1
                    self.last = message["seq"]
                    self.texts[self.last] = message["content"]

    def take(self, frame: Frame) -> None:
        if frame.type == "room_message":
            assert frame["seq"] == self.last + 1, (frame["seq"], self.last)
            self.last = frame["seq"]
            self.texts[self.last] = frame["content"]
        elif frame["seq"] <= self.last:
            self.texts[frame["seq"]] = frame["content"]
            self.rev = max(self.rev, frame["rev"])


async def test_whoever_resumes_while_all_post_and_edit_misses_and_repeats_nothing(build: Build) -> None:
    """Random comings and goings, with a ring far too short, restarts of the room, and edits of what was said."""
    dice = random.Random(20261123)
    async with build(room_ring_messages=25, room_ring_bytes=8000) as house:
        ann, bob = await house.people(2)
        readers = await house.people(5)
        room = await house.room(ann, bob, *readers)
        followers = [Follower(house, person, room.id) for person in readers]
        writers = [await house.enter(p, room.id) for p in (ann, bob)]
        total = 150
        finished = [False]
        following: set[Follower] = set()
        expected: dict[int, str] = {}

        async def write(client: Client, who: int) -> None:
            own: list[Frame] = []
            for i in range(total):
                ack = await client.say(room.id, f"{who} says {i} {'x' * dice.randrange(300)}")
                own.append(ack)
                if dice.random() < 0.2:
                    target = dice.choice(own[-10:])
                    edited = f"{who} edits {target['seq']} at {i}"
                    await client.send("edit_message", id=target["id"], content=edited)
                    await client.expect("message_edited", id=target["id"], content=edited)
                    expected[target["seq"]] = edited
                if who == 0 and i % 30 == 29:
                    house.app.core.system.restart(f"rooms/{room.id}")

        async def follow(follower: Follower) -> None:
            following.add(follower)
            while not finished[0]:
                await follower.stay(None, dice.randrange(1, 15))
                for _ in range(dice.randrange(20)):
                    await trio.lowlevel.checkpoint()
            following.remove(follower)

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for follower in followers:
                    nursery.start_soon(follow, follower)
                async with trio.open_nursery() as writing:
                    for who, client in enumerate(writers):
                        writing.start_soon(write, client, who)
                finished[0] = True
                # Whoever still waits for a frame gets some, whenever it comes.
                while following:
                    await writers[0].say(room.id, "more")
            end = (await house.sql("SELECT last_seq FROM rooms WHERE id = $1", room.id))[0][0]
            for follower in followers:
                await follower.stay(end, 0)
        rows = await house.sql("SELECT seq, content FROM messages WHERE room_id = $1 ORDER BY seq", room.id)
        truth = {row[0]: row[1] for row in rows}
        assert sorted(truth) == list(range(1, end + 1))
        assert all(truth[seq] == text for seq, text in expected.items())
        for client in writers:  # who stayed saw everything once, over all restarts
            await client.expect("room_message", seq=end)
            assert [f["seq"] for f in client.seen("room_message")] == list(range(1, end + 1))
        for follower in followers:
            assert sorted(follower.texts) == list(range(1, end + 1))
            assert follower.count > 1
            # An edit made while it was away came with its return.
            wrong = {seq for seq in truth if follower.texts[seq] != truth[seq]}
            assert not wrong, wrong


async def test_a_room_takes_as_many_as_it_may_hold_also_at_once(build: Build) -> None:
    """A join is judged when its turn comes, not when it arrives."""
    async with build(room_members_max=5) as house:
        ann = await house.person()
        people = await house.people(12)
        room = await house.room(ann)
        clients = [await house.connect(person) for person in people]
        answers: list[str] = []

        async def come(client: Client) -> None:
            await client.send("join_room", room=room.id, ref="j")
            frame = await client.next(lambda f: f.data.get("ref") == "j", "an answer")
            answers.append(frame.data.get("code", "joined"))

        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                for client in clients:
                    nursery.start_soon(come, client)
        assert sorted(answers) == ["ROOM_FULL"] * 8 + ["joined"] * 4
        assert (await house.sql("SELECT count(*) FROM room_members WHERE room_id = $1", room.id))[0][0] == 5


async def test_an_idle_room_goes_and_comes_back(build: Build) -> None:
    async with build(room_idle=0.05) as house:
        ann = await house.person()
        room = await house.room(ann)
        a = await house.enter(ann, room.id)
        await a.say(room.id, "one")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert house.app.core.rooms.running(room.id) is not None  # somebody listens
        await a.drop()
        await eventually(lambda: house.app.core.rooms.running(room.id) is None)
        a = await house.connect(ann)
        ack = await a.join(room.id, since_seq=0)
        assert ack["last_seq"] == 1
        await a.expect("room_message", content="one")
        # Posts by REST, each to a room that may be going just now.
        for i in range(30):
            posted = await house.app.core.rooms.ask(
                room.id, Say(person=Speaker(ann.id, ann.name), content=f"rest {i}")
            )
            assert posted.seq == i + 2
            await trio.sleep(0.001 * (i % 3))
        await a.expect("room_message", content="rest 29")


async def test_whoever_joins_while_changes_never_stop_is_let_in(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changes while the rows are read comes with them; the join does not wait for the room to hold still."""
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a = await house.enter(ann, room.id)
    ids = [(await a.say(room.id, f"m{i}"))["id"] for i in range(3)]
    read = resuming._missed
    stop = False

    async def slowly(*args: Any) -> Any:
        """The rows as they were, three changes ago."""
        rows = await read(*args)
        before = house.actor(room.id).summary["last_rev"]
        while house.actor(room.id).summary["last_rev"] < before + 3:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return rows

    async def react(client: Client) -> None:
        while not stop:
            for kind in ("add_reaction", "remove_reaction"):
                for message in ids:
                    await client.ask_frame(kind, "reaction_updated", id=message, emoji="👍")

    monkeypatch.setattr(resuming, "_missed", slowly)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(react, await house.enter(ann, room.id))
            for since_seq, since_rev in ((0, 0), (0, None), (3, 0), (1, 0)):
                house.app.core.system.restart(f"rooms/{room.id}")  # so that all comes from the database
                b = await house.connect(bob)
                how = {"since_seq": since_seq} | ({} if since_rev is None else {"since_rev": since_rev})
                await b.join(room.id, **how)
                await fence(a, room.id, b)
                there: dict[int, bool] = {}  # message → is there a reaction, as this client knows it
                revs: dict[int, int] = {}
                for frame in b.frames:
                    if frame.type in ("room_message", "message_updated"):
                        there[frame["id"]] = bool(frame.data.get("reactions"))
                        revs[frame["id"]] = frame.data.get("rev", 0)
                    elif frame.type == "reaction_updated" and frame["rev"] > revs.get(frame["id"], -1):
                        # Each change leads on from what was there before: none is missing.
                        assert there.get(frame["id"]) is not frame["added"], frame
                        there[frame["id"]] = frame["added"]
                assert len(there) >= 3
                await b.drop()
            stop = True
