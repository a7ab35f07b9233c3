"""What causes notifications: messages, follows, likes, reposts, comments; each tells whom it concerns, nobody else."""

from __future__ import annotations

from tests.notifications.conftest import Hall


async def test_a_message_tells_those_it_names_and_the_one_it_answers(hall: Hall) -> None:
    ann, bob, cat, dan = await hall.people(4)
    room = await hall.house.room(ann, bob, cat, kind="private")
    ears = {p.name: await hall.connect(p) for p in (ann, bob, cat, dan)}
    talk = ears[ann.name]
    await talk.join(room.id)
    first = await hall.house.enter(bob, room.id)
    asked = await first.say(room.id, "who plays the drums?")
    long = f"@{cat.name} does, and @{ann.name} and @{dan.name} sing " + "la " * 100
    sent = await talk.say(room.id, long, reply_to=asked["id"])
    named, answered = await ears[cat.name].expect("notification"), await ears[bob.name].expect("notification")
    fields = {
        "room_id": room.id,
        "room": room.id,
        "message_id": sent["id"],
        "seq": sent["seq"],
        "user_id": ann.id,
    }
    assert (named["kind"], answered["kind"]) == ("mention", "reply")
    for frame in (named, answered):
        assert {key: frame[key] for key in fields} == fields
        assert frame["excerpt"] == long[:140]
    # Told of a message once, though it answers and names him; nobody of his own.
    await talk.say(room.id, f"@{bob.name}: and you?", reply_to=asked["id"])
    assert (await ears[bob.name].expect("notification"))["kind"] == "mention"
    again = await talk.say(room.id, "myself", reply_to=sent["id"])
    await talk.send("room_message", room=room.id, content=f"@{bob.name} twice", nonce="n1")
    await talk.send("room_message", room=room.id, content=f"@{bob.name} twice", nonce="n1")
    assert (await ears[bob.name].expect("notification"))["seq"] == again["seq"] + 1
    await hall.nothing_else(*ears.values())


async def test_a_letter_is_told_of_where_nobody_reads_it_and_once_while_unread(hall: Hall) -> None:
    ann, bob = await hall.people(2)
    client = await hall.connect(ann)
    await client.send("direct_message", to_user_id=bob.id, content="are you there?")
    await client.send("direct_message", to_user_id=bob.id, content="hello?")
    await client.expect("message_ack")
    last = await client.expect("message_ack")
    there = await hall.connect(bob)
    told = await there.expect("notification")
    assert (told["kind"], told["user_id"], told["excerpt"]) == ("direct_message", ann.id, "are you there?")
    await client.send("direct_message", to_user_id=bob.id, content="now you are")
    await there.expect("direct_message", content="now you are")
    await hall.nothing_else(there, client)
    assert last["room_id"] == told["room_id"]
    assert (await hall.house.connect(bob)).welcome["unread_notifications"] == 2


async def test_what_people_do_with_each_other_and_their_tracks(hall: Hall) -> None:
    ann, bob = await hall.people(2)
    ear = await hall.connect(ann)
    track = await hall.track(ann, "Rain")
    for _ in range(2):
        assert (await hall.api.put(f"/users/{ann.id}/follow", token=bob.token)).status == 200
        assert (await hall.api.delete(f"/users/{ann.id}/follow", token=bob.token)).status == 200
        for what in ("like", "repost"):
            assert (await hall.api.put(f"/tracks/{track}/{what}", token=bob.token)).status == 200
            assert (await hall.api.delete(f"/tracks/{track}/{what}", token=bob.token)).status == 200
    body = {"content": "lovely", "at_ms": 10}
    said = await hall.api.post(f"/tracks/{track}/comments", body, token=bob.token)
    assert said.status == 201
    assert (await hall.api.put(f"/tracks/{track}/like", token=ann.token)).status == 200  # her own
    told = [(await ear.expect("notification")).data for _ in range(4)]
    assert [t["kind"] for t in told] == ["follow", "like", "repost", "comment"]
    assert {t["username"] for t in told} == {bob.name}
    assert all((t["track_id"], t["title"]) == (track, "Rain") for t in told[1:])
    assert told[3]["comment_id"] == said.data["id"]
    await hall.nothing_else(ear)
