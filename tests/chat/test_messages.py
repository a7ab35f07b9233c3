"""What is said in a room: acknowledged once durable, to everybody once, in one order."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import trio

from tests.chat.client import Client, fence
from tests.chat.conftest import Build, House
from veza.actors.commands import Person as Speaker
from veza.actors.commands import Posted, Say


async def test_a_message_is_acknowledged_first_and_reaches_everybody_once(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, a2, b = [await house.enter(p, room.name) for p in (ann, ann, bob)]
    ack = await a.say(room.name, "  Grüße, 日本, مرحبا 👋🏽\r\nzweite Zeile\t. ", nonce="n1")
    stored = (await house.sql("SELECT * FROM messages WHERE id = $1", ack["id"]))[0]
    assert (stored["room_id"], stored["seq"], stored["user_id"]) == (room.id, ack["seq"], ann.id)
    assert ack["room"] == room.name and ack["room_id"] == room.id and ack["nonce"] == "n1"
    for client in (a, a2, b):
        frame = await client.expect("room_message")
        assert frame.data == {
            "id": ack["id"],
            "room": room.name,
            "room_id": room.id,
            "seq": ack["seq"],
            "user_id": ann.id,
            "username": ann.name,
            "content": "Grüße, 日本, مرحبا 👋🏽\nzweite Zeile\t.",
            "message_type": "text",
            "created_at": ack["created_at"],
            "nonce": "n1",
        }
        assert frame.user_id == ann.id
    kinds = [f.type for f in a.frames if f.type in ("message_ack", "room_message")]
    assert kinds == ["message_ack", "room_message"]
    assert len({f.raw for c in (a, a2, b) for f in c.seen("room_message")}) == 1  # the same bytes for all
    assert stored["content"] == frame["content"]
    age = datetime.now(UTC) - datetime.fromisoformat(ack["created_at"])
    assert 0 <= age.total_seconds() < 300


async def test_what_goes_with_a_message(house: House) -> None:
    ann, bob, eve = await house.people(3)
    room = await house.room(ann, bob)
    a, b = await house.enter(ann, room.id), await house.enter(bob, room.id)
    first = await b.say(room.id, "first")
    sent = {
        "message_type": "audio",
        "media_url": "https://cdn.example/a.ogg",
        "media_type": "audio/ogg",
        "duration": 12.5,
        "reply_to": first["id"],
    }
    await a.say(room.id, f"listen @{bob.name.upper()}, @{ann.name} and @{eve.name}; x@{bob.name}", **sent)
    await b.expect("room_message", seq=first["seq"])
    frame = await b.expect("room_message")
    assert {k: frame[k] for k in sent} == sent
    assert frame["mentions"] == sorted([ann.id, bob.id])  # eve is no member, and x@name is an address
    assert "nonce" not in frame.data  # the sender gave none
    history = await b.ask("room_history", "message_history", room=room.id)
    assert history["messages"][-1] == frame.data


async def test_refusals_of_a_message(house: House) -> None:
    ann, bob = await house.people(2)
    room, other = await house.room(ann), await house.room(ann)
    a = await house.enter(ann, room.id, other.id)
    elsewhere = await a.say(other.id, "elsewhere")
    for code, field, data in (
        ("INVALID_FORMAT", "content", {"content": ""}),
        ("INVALID_FORMAT", "content", {"content": " \n\t "}),
        ("MESSAGE_TOO_LONG", "content", {"content": "x" * 4001}),
        ("INVALID_FORMAT", "content", {"content": "a\x00b"}),
        ("INVALID_FORMAT", "content", {"content": "a\x1bb"}),
        ("INVALID_FORMAT", "content", {"content": "a\x85b"}),
        ("INVALID_FORMAT", "nonce", {"nonce": ""}),
        ("INVALID_FORMAT", "nonce", {"nonce": "n" * 65}),
        ("INVALID_FORMAT", "nonce", {"nonce": "\x01abc"}),
        ("INVALID_FORMAT", "message_type", {"message_type": "A B"}),
        ("INVALID_FORMAT", "media_url", {"media_url": "javascript:alert(1)"}),
        ("INVALID_FORMAT", "media_url", {"media_url": "https://x/" + "y" * 2000}),
        ("INVALID_FORMAT", "media_type", {"media_type": ""}),
        ("INVALID_FORMAT", "duration", {"duration": -1}),
        ("MESSAGE_NOT_FOUND", "reply_to", {"reply_to": 0}),
        ("MESSAGE_NOT_FOUND", "reply_to", {"reply_to": 2**63 - 1}),
        ("MESSAGE_NOT_FOUND", "reply_to", {"reply_to": elsewhere["id"]}),
    ):
        error = await a.refused(code, "room_message", **({"room": room.id, "content": "x"} | data))
        assert error["details"]["field"] == field, data
    # The longest one there may be, in characters and not in bytes.
    ack = await a.say(room.id, "🎸" * 4000)
    assert (await a.expect("room_message", room_id=room.id))["content"] == "🎸" * 4000
    assert ack["seq"] == 1  # nothing refused took a number
    b = await house.connect(bob)
    await b.refused("NOT_JOINED", "room_message", room=room.id, content="x")
    await b.refused("ROOM_NOT_FOUND", "room_message", room="no such room", content="x")


async def test_rooms_are_named_by_name_or_id_and_names_ignore_case(house: House) -> None:
    ann = await house.person()
    room = await house.room(ann, name="Café Ü1")
    a = await house.connect(ann)
    for name in ("Café Ü1", "café ü1", "Cafe\u0301 U\u03081", "  CAFÉ Ü1 ", room.id, str(room.id)):
        ack = await a.join(name)
        assert (ack["room"], ack["room_id"]) == ("Café Ü1", room.id)
    await a.say("CAFÉ ü1", "x")


async def test_older_clients_and_flat_frames_mean_the_same(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann)
    a, b = await house.connect(ann), await house.connect(bob)

    async def send(**frame: object) -> None:
        await a.text(json.dumps(frame))

    await send(type="join_room", room=room.name, unknown=[1, {"x": None}])
    await a.expect("join_room_ack")
    await send(type="leave", room=room.name, data=None)
    await a.expect("leave_room_ack")
    await send(type="join", room=room.name, data={}, ref="j")
    await a.expect("join_room_ack", ref="j")
    await send(type="message", room=room.name, content="flat")
    await a.expect("room_message", content="flat")
    await send(type="message", data={"room": room.name, "content": "nested"}, content="not this", x=1)
    await a.expect("room_message", content="nested")
    await send(type="dm", to=bob.id, content="letter")
    await b.expect("direct_message", content="letter", from_user_id=ann.id, to_user_id=bob.id)
    await send(type="direct_message", to_user_id=bob.id, content="another")
    await b.expect("direct_message", content="another")
    await send(**{"type": "dm_history", "with": bob.id})
    history = await a.expect("message_history", with_user=bob.id)
    assert [m["content"] for m in history["messages"]] == ["letter", "another"]
    await send(type="room_history", room=room.name, limit=1)
    assert (await a.expect("message_history", room=room.name))["messages"][0]["content"] == "nested"
    await send(type="ping")
    assert (await a.expect("pong"))["timestamp"]
    assert not a.seen("error")


async def test_ping_answers_with_the_time_and_the_ref(house: House) -> None:
    a = await house.connect(await house.person())
    pong = await a.ask("ping", "pong")
    assert abs((datetime.fromisoformat(pong["timestamp"]) - datetime.now(UTC)).total_seconds()) < 300


async def test_the_same_nonce_again_is_the_same_message(house: House) -> None:
    ann, bob = await house.people(2)
    room, other = await house.room(ann, bob), await house.room(ann)
    a, b = await house.enter(ann, room.id, other.id), await house.enter(bob, room.id)
    first = await a.say(room.id, "one", nonce="once")
    for client in (a, await house.connect(ann)):
        again = await client.say(room.id, "one", nonce="once")
        assert {k: again[k] for k in ("id", "seq", "created_at", "nonce")} == {
            k: first[k] for k in ("id", "seq", "created_at", "nonce")
        }
    # Somebody else's, and one in another room, are others.
    assert (await b.say(room.id, "two", nonce="once"))["seq"] == first["seq"] + 1
    assert (await a.say(other.id, "three", nonce="once"))["seq"] == 1
    await fence(a, room.id, b)
    assert len(b.seen("room_message", content="one")) == 1
    assert len(a.seen("room_message", content="one")) == 1


async def test_a_nonce_from_two_sockets_and_rest_at_the_same_moment_is_one_message(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, a2, b = [await house.enter(p, room.id) for p in (ann, ann, bob)]
    answers: dict[str, set[tuple[int, int]]] = {}
    rounds = 25

    async def by_socket(client: Client, nonce: str) -> None:
        ack = await client.say(room.id, f"text of {nonce}", nonce=nonce)
        answers.setdefault(nonce, set()).add((ack["id"], ack["seq"]))

    async def by_rest(nonce: str) -> None:
        say = Say(person=Speaker(ann.id, ann.name), content=f"text of {nonce}", nonce=nonce)
        posted: Posted = await house.app.core.rooms.ask(room.id, say)
        answers.setdefault(nonce, set()).add((posted.id, posted.seq))

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for i in range(rounds):
                for client in (a, a2, a):
                    nursery.start_soon(by_socket, client, f"n{i}")
                nursery.start_soon(by_rest, f"n{i}")
    assert len(answers) == rounds and all(len(got) == 1 for got in answers.values())
    await fence(a, room.id, a2, b)
    for client in (a, a2, b):
        seqs = [f["seq"] for f in client.seen("room_message")]
        assert seqs == list(range(1, rounds + 2))


async def test_everybody_sees_the_same_order(house: House) -> None:
    room, clients = await house.company(6)

    async def talk(client: Client, who: int) -> None:
        for i in range(40):
            await client.send("room_message", room=room.id, content=f"{who}: {i}")
            if i % 7 == 0:
                await client.pong()

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for who, client in enumerate(clients):
                nursery.start_soon(talk, client, who)
        for client in clients:
            while len(client.seen("room_message")) < 240:
                await client.expect("room_message")
    orders = [[(f["seq"], f["content"]) for f in client.seen("room_message")] for client in clients]
    assert all(order == orders[0] for order in orders)
    assert [seq for seq, _ in orders[0]] == list(range(1, 241))
    for who in range(6):  # one socket's messages stay in their order
        assert [c for _, c in orders[0] if c.startswith(f"{who}:")] == [f"{who}: {i}" for i in range(40)]
    for client in clients:  # every acknowledgement before the echo it belongs to
        acked = set()
        for f in client.frames:
            if f.type == "message_ack":
                acked.add(f["seq"])
            elif f.type == "room_message" and f["username"] == client.welcome["username"]:
                assert f["seq"] in acked


async def test_a_batch_is_its_messages_one_by_one_in_order(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann)
    a = await house.connect(ann)
    b = await house.enter(bob, room.id)
    first = await b.say(room.id, "to react to")

    def said(i: int) -> dict[str, object]:
        return {"type": "room_message", "ref": f"m{i}", "data": {"room": room.id, "content": f"c{i}"}}

    batch: list[object] = [
        {"type": "join_room", "data": {"room": room.id}, "ref": "join"},
        *[said(i) for i in range(20)],
        {"type": "room_message", "ref": "bad", "data": {"room": room.id, "content": ""}},
        {"type": "nonsense", "ref": "unknown"},
        "not a frame",
        {"type": "message_batch", "data": {"messages": []}, "ref": "nested"},
        {"type": "dm", "to": bob.id, "content": "flat", "ref": "letter"},
        {"type": "add_reaction", "data": {"id": first["id"], "emoji": "👍"}},
        {"type": "ping", "ref": "ping"},
        said(20),
    ]
    await a.send("message_batch", messages=batch, ref="batch")
    await a.expect("message_ack", ref="m20")
    acks = [f for f in a.frames if f.type == "message_ack" and f["room_id"] == room.id]
    assert [f["ref"] for f in acks] == [f"m{i}" for i in range(21)]
    assert [f["seq"] for f in acks] == list(range(2, 23))
    assert {f.data.get("ref") for f in a.seen("error")} == {"bad", "unknown", None, "nested"}
    await a.expect("message_ack", ref="letter")  # of another room, so it comes when it comes
    assert a.seen("join_room_ack", ref="join") and a.seen("pong")
    await b.expect("reaction_updated", id=first["id"], emoji="👍")
    seen = [f["content"] for f in b.seen("room_message")]
    while len(seen) < 22:
        await b.expect("room_message")
        seen = [f["content"] for f in b.seen("room_message")]
    assert seen == ["to react to", *[f"c{i}" for i in range(21)]]


async def test_a_batch_has_1_to_50_messages(house: House) -> None:
    a = await house.connect(await house.person())
    ping = {"type": "ping"}
    for messages in ([], [ping] * 51, {}, "x", None):
        await a.refused("INVALID_FORMAT", "message_batch", messages=messages)
    await a.refused("INVALID_FORMAT", "message_batch")
    await a.send("message_batch", messages=[ping] * 50)
    for _ in range(50):
        await a.expect("pong")


async def test_a_batch_over_the_rate_says_how_many_were_taken(build: Build) -> None:
    async with build(rate_messages_per_minute=0.01, rate_messages_burst=5) as house:
        ann = await house.person()
        room = await house.room(ann)
        a = await house.enter(ann, room.id)
        said = [
            {"type": "room_message", "data": {"room": room.id, "content": f"c{i}"}, "ref": f"m{i}"}
            for i in range(9)
        ]
        await a.send("message_batch", messages=said, ref="batch")
        error = await a.error("RATE_LIMITED")
        assert error["ref"] == "batch"
        assert error["details"]["accepted"] == 5 and error["details"]["retry_after"] > 0
        for i in range(5):
            await a.expect("message_ack", ref=f"m{i}")
        await a.pong()
        assert len(a.seen("error")) == 1
        assert (await house.sql("SELECT last_seq FROM rooms WHERE id = $1", room.id))[0][0] == 5


async def test_a_client_that_joins_and_writes_in_one_breath_is_heard(house: House) -> None:
    """Nothing a socket sends overtakes its own join, though that waits for the database."""
    ann = await house.person()
    people = await house.people(8)
    room = await house.room(ann)
    a = await house.enter(ann, room.id)

    async def come(person: object) -> None:
        client = await house.connect(person)  # type: ignore[arg-type]
        await client.send("join_room", room=room.name, ref="join")
        await client.send("room_message", room=room.name, content="hello", ref="said")
        await client.send("mark_read", room=room.name, seq=1)
        await client.send("leave_room", room=room.name, ref="left")
        await client.send("join_room", room=room.name, ref="again")
        await client.send("room_message", room=room.name, content="bye", ref="bye")
        for kind, ref in (
            ("join_room_ack", "join"),
            ("message_ack", "said"),
            ("leave_room_ack", "left"),
            ("join_room_ack", "again"),
            ("message_ack", "bye"),
        ):
            await client.expect(kind, ref=ref)
        assert not client.seen("error")

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for person in people:
                nursery.start_soon(come, person)
        while len(a.seen("room_message")) < 16:
            await a.expect("room_message")


async def test_slow_mode(house: House) -> None:
    ann, bob, mod = await house.people(3)
    room = await house.room(ann, bob, moderators=(mod,))
    await house.sql("UPDATE rooms SET slow_mode_s = 3600 WHERE id = $1 RETURNING 1", room.id)
    b, m = await house.enter(bob, room.id), await house.enter(mod, room.id)
    await b.refused("INVALID_FORMAT", "room_message", room=room.id, content="")  # does not count
    first = await b.say(room.id, "one", nonce="n")
    error = await b.refused("SLOW_MODE", "room_message", room=room.id, content="two")
    assert 0 < error["details"]["retry_after"] <= 3600
    again = await b.say(room.id, "one", nonce="n")  # it had not heard the answer: not a second message
    assert again["id"] == first["id"]
    for i in range(3):
        await m.say(room.id, f"moderators may {i}")
