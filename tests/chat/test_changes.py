"""What happens to a message after it was said: edits, deletion, reactions, pins."""

from __future__ import annotations

import trio

from tests.chat.client import Client, fence
from tests.chat.conftest import Build, House


async def test_edits(house: House) -> None:
    ann, bob, mod = await house.people(3)
    room = await house.room(ann, bob, moderators=(mod,))
    a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
    m = await house.enter(mod, room.id)
    ack = await a.say(room.id, "frist")
    await a.send("edit_message", id=ack["id"], content=f" first, @{bob.name} ")
    for client in (a, b):
        edited = (await client.expect("message_edited")).data
        assert edited.pop("edited_at")
        assert edited == {
            "id": ack["id"],
            "room": room.name,
            "room_id": room.id,
            "seq": ack["seq"],
            "rev": 1,
            "content": f"first, @{bob.name}",
            "edited_by": ann.id,
            "mentions": [bob.id],
        }
    stored = (await b.ask("room_history", "message_history", room=room.id))["messages"][-1]
    assert stored["content"] == f"first, @{bob.name}" and stored["edited_at"] and stored["rev"] == 1
    for client in (b, m):  # nobody else, moderators included
        await client.refused("PERMISSION_DENIED", "edit_message", id=ack["id"], content="mine")
    for content, code in (
        ("", "INVALID_FORMAT"),
        ("x" * 4001, "MESSAGE_TOO_LONG"),
        ("\x00", "INVALID_FORMAT"),
    ):
        await a.refused(code, "edit_message", id=ack["id"], content=content)
    await a.refused("INVALID_FORMAT", "edit_message", id=ack["id"])
    await fence(a, room.id, b)
    assert len(b.seen("message_edited")) == 1


async def test_deletion(house: House) -> None:
    ann, bob, mod, mod2 = await house.people(4)
    room = await house.room(ann, bob, moderators=(mod, mod2))
    a, b, m = [await house.enter(p, room.id) for p in (ann, bob, mod)]
    own = await b.say(room.id, "mine", media_url="https://x/y", media_type="a/b", duration=1)
    await a.ask_frame("add_reaction", "reaction_updated", id=own["id"], emoji="👍")
    await m.ask_frame("pin_message", "message_pinned", id=own["id"])
    await b.send("delete_message", id=own["id"])
    deleted = await a.expect("message_deleted")
    assert (deleted["id"], deleted["room"], deleted["deleted_by"]) == (own["id"], room.name, bob.id)
    row = (await b.ask("room_history", "message_history", room=room.id))["messages"][-1]
    assert row["content"] == "" and row["deleted_at"] and row["seq"] == own["seq"]
    assert not {"media_url", "media_type", "duration", "reactions", "pinned_at"} & set(row)
    stored = (await house.sql("SELECT content, media_url FROM messages WHERE id = $1", own["id"]))[0]
    assert tuple(stored) == (None, None)
    # What is deleted is gone for everything.
    for kind, more in (
        ("delete_message", {}),
        ("edit_message", {"content": "x"}),
        ("add_reaction", {"emoji": "👍"}),
        ("remove_reaction", {"emoji": "👍"}),
        ("pin_message", {}),
        ("unpin_message", {}),
    ):
        client = m if "pin" in kind else b
        await client.refused("MESSAGE_NOT_FOUND", kind, id=own["id"], **more)
    await b.refused("MESSAGE_NOT_FOUND", "room_message", room=room.id, content="re", reply_to=own["id"])
    # Moderators delete what people below them said.
    second = await b.say(room.id, "rude")
    await m.ask_frame("delete_message", "message_deleted", id=second["id"])
    owners, mods = await a.say(room.id, "the owner's"), await m.say(room.id, "a moderator's")
    await b.refused("PERMISSION_DENIED", "delete_message", id=owners["id"])
    await m.refused("PERMISSION_DENIED", "delete_message", id=owners["id"])
    m2 = await house.connect(mod2)
    await m2.refused("PERMISSION_DENIED", "delete_message", id=mods["id"])
    await a.ask_frame("delete_message", "message_deleted", id=mods["id"])
    # Between two people only the author does.
    letter = await a.write(bob.id, "letter")
    await b.refused("PERMISSION_DENIED", "delete_message", id=letter["id"])
    await a.send("delete_message", id=letter["id"])
    await b.expect("message_deleted", id=letter["id"])


async def test_reactions(build: Build) -> None:
    async with build(reactions_max=6) as house:
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
        ack = await a.say(room.id, "x")
        graphemes = ["👍", "👩‍👩‍👧‍👦", "🇫🇷", "👋🏽", "❤️", "1️⃣"]
        for emoji in graphemes:
            await b.send("add_reaction", id=ack["id"], emoji=emoji)
            frame = await a.expect("reaction_updated")
            assert {k: frame[k] for k in ("id", "room", "emoji", "count", "user_id", "added")} == {
                "id": ack["id"],
                "room": room.name,
                "emoji": emoji,
                "count": 1,
                "user_id": bob.id,
                "added": True,
            }
        await a.send("add_reaction", id=ack["id"], emoji="👍")
        assert (await b.expect("reaction_updated", user_id=ann.id))["count"] == 2
        error = await a.refused("INVALID_FORMAT", "add_reaction", id=ack["id"], emoji="🎸")
        assert error["details"]["limit"] == 6
        # The same again changes nothing, and only the asker hears of it.
        before = len(a.seen("reaction_updated"))
        await b.ask_frame("add_reaction", "reaction_updated", id=ack["id"], emoji="👍")
        await b.send("remove_reaction", id=ack["id"], emoji="🎸")
        gone = await b.expect("reaction_updated", emoji="🎸")
        assert (gone["count"], gone["added"]) == (0, False)
        await fence(a, room.id, b)
        assert len(a.seen("reaction_updated")) == before
        await b.send("remove_reaction", id=ack["id"], emoji="👍")
        frame = await a.expect("reaction_updated", added=False)
        assert (frame["emoji"], frame["count"], frame["user_id"]) == ("👍", 1, bob.id)
        for bad in ("", "x", "👍👍", "👍 ", "ab", "\x00", "1", "🇫", "\u200d", "a\u0301", "👍" * 20, "<b>"):
            await a.refused("INVALID_FORMAT", "add_reaction", id=ack["id"], emoji=bad)
        message = (await a.ask("room_history", "message_history", room=room.id))["messages"][0]
        oldest_first = [*graphemes[1:], "👍"]  # bob took the oldest away, ann's came last
        assert [(r["emoji"], r["count"]) for r in message["reactions"]] == [(e, 1) for e in oldest_first]


async def test_pins(build: Build) -> None:
    async with build(room_pins_max=3) as house:
        ann, bob, mod = await house.people(3)
        room = await house.room(ann, bob, moderators=(mod,))
        a, b, m = [await house.enter(p, room.id) for p in (ann, bob, mod)]
        ids = [(await b.say(room.id, f"m{i}"))["id"] for i in range(4)]
        await b.refused("PERMISSION_DENIED", "pin_message", id=ids[0])
        for client, message in zip((a, m, a), ids, strict=False):
            await client.send("pin_message", id=message)
            pinned = await b.expect("message_pinned")
            assert (pinned["id"], pinned["room"]) == (message, room.name)
        error = await a.refused("INVALID_FORMAT", "pin_message", id=ids[3])
        assert error["details"]["limit"] == 3
        await a.ask_frame("pin_message", "message_pinned", id=ids[0])  # pinned already: answered all the same
        await m.send("unpin_message", id=ids[0])
        assert (await b.expect("message_unpinned"))["id"] == ids[0]
        await m.ask_frame("unpin_message", "message_unpinned", id=ids[0])
        await a.ask_frame("pin_message", "message_pinned", id=ids[3])
        await fence(a, room.id, b)
        assert len(b.seen("message_pinned")) == 4 and len(b.seen("message_unpinned")) == 1
        # Either of two people pins a letter.
        letter = await a.write(bob.id, "letter")
        await b.send("pin_message", id=letter["id"])
        await a.expect("message_pinned", id=letter["id"])


async def test_the_asker_hears_of_it_wherever_he_looks_from(house: House) -> None:
    """A member's socket that is not subscribed to the room gets its answers too."""
    ann = await house.person()
    room = await house.room(ann)
    a, elsewhere = await house.enter(ann, room.id), await house.connect(ann)
    ack = await a.say(room.id, "x")
    for kind, answer, more in (
        ("edit_message", "message_edited", {"content": "y"}),
        ("add_reaction", "reaction_updated", {"emoji": "👍"}),
        ("remove_reaction", "reaction_updated", {"emoji": "👍"}),
        ("pin_message", "message_pinned", {}),
        ("unpin_message", "message_unpinned", {}),
        ("delete_message", "message_deleted", {}),
    ):
        await elsewhere.ask_frame(kind, answer, id=ack["id"], **more)
        await a.expect(answer)
    await a.pong()
    assert len(a.frames) == len({f.raw for f in a.frames})


async def test_other_peoples_messages_do_not_exist(house: House) -> None:
    ann, bob, eve = await house.people(3)
    private = await house.room(ann, bob, kind="private")
    a, e = await house.connect(ann), await house.connect(eve)
    secret = await a.say(private.id, "secret")
    letter = await a.write(bob.id, "letter")
    answers = []
    for message in (secret["id"], letter["id"], 0, 2**63 - 1):
        for kind, more in (
            ("edit_message", {"content": "x"}),
            ("delete_message", {}),
            ("add_reaction", {"emoji": "👍"}),
            ("remove_reaction", {"emoji": "👍"}),
            ("pin_message", {}),
            ("unpin_message", {}),
        ):
            error = await e.refused("MESSAGE_NOT_FOUND", kind, id=message, **more)
            answers.append({k: v for k, v in error.data.items() if k != "ref"})
    assert all(answer == answers[0] for answer in answers)
    # In a public room it exists, and is for members to change.
    public = await house.room(ann)
    said = await a.say(public.id, "x")
    await e.refused("NOT_JOINED", "add_reaction", id=said["id"], emoji="👍")
    await e.refused("NOT_JOINED", "delete_message", id=said["id"])


async def test_changes_of_one_room_go_out_in_the_order_of_their_numbers(house: House) -> None:
    room, clients = await house.company(5)
    ids = [(await clients[0].say(room.id, f"m{i}"))["id"] for i in range(4)]

    async def fiddle(client: Client, who: int) -> None:
        for i in range(20):
            kind = "add_reaction" if i % 2 == 0 else "remove_reaction"
            await client.send(kind, id=ids[i % 4 // 2], emoji="👍")
            await client.say(room.id, f"{who} {i}")

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for who, client in enumerate(clients):
                nursery.start_soon(fiddle, client, who)
        for client in clients:
            while len(client.seen("reaction_updated")) < 100:
                await client.expect("reaction_updated")
    for client in clients:
        assert [f["rev"] for f in client.seen("reaction_updated")] == list(range(1, 101))
    rows = await house.sql("SELECT last_rev, last_seq FROM rooms WHERE id = $1", room.id)
    assert tuple(rows[0]) == (100, 104)
