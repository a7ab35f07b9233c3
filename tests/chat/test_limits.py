"""Rates and sanctions, as they are felt on live connections."""

from __future__ import annotations

import contextlib
import itertools
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
import trio
from wsproto.utilities import LocalProtocolError

from tests.chat.client import PATIENCE, Client, eventually, fence
from tests.chat.conftest import Build, House, Person
from veza.actors import roster
from veza.actors.commands import Kick, Lift, Quit, Remove, Sanction, SetRole, Update, Wish
from veza.actors.commands import Person as Speaker
from veza.actors.errors import Refused


async def wish(
    house: House, room: int, what: type[Wish], person: Person, /, standing: str = "user", **how: Any
) -> Any:
    """What REST asks of a room."""
    speaker = Speaker(person.id, person.name, standing)
    return await house.app.core.rooms.ask(room, what(person=speaker, **how), timeout=PATIENCE)


async def test_message_rate_is_per_person_over_all_connections(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with build(rate_messages_per_minute=60.0, rate_messages_burst=4) as house:
        now = 1000.0  # what the rate counts by: nothing comes back while a slow machine works
        monkeypatch.setattr(house.app.services.message_rates, "_clock", lambda: now)
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a, a2, b = [await house.enter(p, room.id) for p in (ann, ann, bob)]
        for i in range(4):
            await (a if i % 2 else a2).say(room.id, f"m{i}")
        for client in (a, a2):
            error = await client.refused("RATE_LIMITED", "room_message", room=room.id, content="x")
            assert 0 < error["details"]["retry_after"] <= 1
        await a.refused("RATE_LIMITED", "direct_message", to_user_id=bob.id, content="x")
        await a.pong()  # other frames have a rate of their own
        await b.say(room.id, "another person")
        now += error["details"]["retry_after"]  # as we were told
        await a.say(room.id, "again")
        await a.refused("RATE_LIMITED", "room_message", room=room.id, content="and again")


async def test_frame_rate_and_abuse(build: Build) -> None:
    async with build(
        rate_frames_per_second=0.001, rate_frames_burst=5, abuse_refusals=20, abuse_window=3600.0
    ) as house:
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a, b = await house.connect(ann), await house.enter(bob, room.id)
        for _ in range(5):
            await a.pong()
        for kind in ("ping", "join_room", "nonsense", "room_history", "mark_read", "set_presence"):
            await a.refused("RATE_LIMITED", kind, room=room.id)
        await a.text("not even JSON")
        await a.error("RATE_LIMITED")
        assert a.code is None
        # It may be closed before all is said.
        with contextlib.suppress(LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            for _ in range(20):
                await a.text("{}")
        assert await a.closed() == 4008
        assert len(a.seen("error")) == 20
        await b.pong()
        # The person may come back, and is as slow as before.
        a = await house.connect(ann)
        await a.refused("RATE_LIMITED", "ping")


async def test_what_comes_behind_the_close_is_not_heard(build: Build) -> None:
    """Frames in the same packet as the one that closed the socket are read already, and yet too late."""
    async with build(
        rate_frames_per_second=0.001, rate_frames_burst=5, abuse_refusals=5, abuse_window=3600.0
    ) as house:
        ann, bob = await house.people(2)
        room = await house.room(ann, bob)
        a, b = await house.connect(ann), await house.enter(bob, room.id)
        ping = masked('{"type": "ping"}')
        late = masked(f'{{"type": "room_message", "data": {{"room": {room.id}, "content": "too late"}}}}')
        await a.stream.send_all(ping * 10 + late * 3)
        assert await a.closed() == 4008
        await eventually(lambda: len(house.app.chat) == 1)
        await b.say(room.id, "and then")
        assert [frame["content"] for frame in b.seen("room_message")] == ["and then"]


def masked(text: str) -> bytes:
    """A client's frame."""
    assert len(text) < 126
    return bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text.encode()


async def test_mute(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, bob = await house.people(2)
    room = await house.room(owner, bob)
    b = await house.enter(bob, room.id)
    said = await b.say(room.id, "before")
    until = datetime.now(UTC) + timedelta(hours=1)
    await wish(house, room.id, Sanction, owner, target=bob.id, kind="mute", until=until, reason="loud")
    notice = await b.error("MUTED")
    assert notice["details"]["room"] == room.name and notice["details"]["reason"] == "loud"
    assert datetime.fromisoformat(notice["details"]["until"]) == until
    for kind, more in (
        ("room_message", {"room": room.id, "content": "x"}),
        ("edit_message", {"id": said["id"], "content": "x"}),
        ("add_reaction", {"id": said["id"], "emoji": "👍"}),
        ("typing", {"room": room.id}),
    ):
        error = await b.refused("MUTED", kind, **more)
        assert datetime.fromisoformat(error["details"]["until"]) == until, kind
    await b.ask("room_history", "message_history", room=room.id)  # he still listens
    await b.ask_frame("delete_message", "message_deleted", id=said["id"])  # and may take back
    again = await house.connect(bob)  # over a new connection, and a restart of the room
    house.app.core.system.restart(f"rooms/{room.id}")
    await again.join(room.id)
    await again.refused("MUTED", "room_message", room=room.id, content="x")
    assert await wish(house, room.id, Lift, owner, target=bob.id, kind="mute") is True
    await b.say(room.id, "after")
    until = datetime.now(UTC) + timedelta(hours=1)
    await wish(house, room.id, Sanction, owner, target=bob.id, kind="mute", until=until)
    await b.refused("MUTED", "room_message", room=room.id, content="x")

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr(roster, "datetime", Later)  # an hour goes by
    await b.say(room.id, "it is over")


async def test_kick_and_ban_take_effect_on_live_connections_at_once(house: House) -> None:
    owner, bob, cleo = await house.people(3)
    room = await house.room(owner, bob, cleo)
    o, b, b2, c = [await house.enter(p, room.id) for p in (owner, bob, bob, cleo)]
    await wish(house, room.id, Kick, owner, target=bob.id)
    for client in (b, b2):
        assert (await client.error("NOT_JOINED"))["details"]["reason"] == "kicked"
    await c.expect("user_disconnected", user_id=bob.id)
    await fence(o, room.id, c)
    await b.pong()
    assert not b.seen("room_message")
    await b.refused("NOT_JOINED", "room_message", room=room.id, content="x")
    await b.join(room.id)  # kicked is not banned
    await wish(house, room.id, Sanction, owner, target=bob.id, kind="ban", reason="enough")
    assert (await b.error("BANNED"))["details"]["reason"] == "enough"
    await fence(o, room.id, c)
    for kind, more in (("join_room", {}), ("room_message", {"content": "x"})):
        await b.refused("BANNED", kind, room=room.id, **more)
    await b.refused("ROOM_NOT_FOUND", "room_history", room=room.id)
    house.app.core.system.restart(f"rooms/{room.id}")
    await b2.refused("BANNED", "join_room", room=room.id)
    assert not b2.seen("room_message") or b2.seen("room_message")[-1]["seq"] <= 1
    await wish(house, room.id, Lift, owner, target=bob.id, kind="ban")
    await b.join(room.id)
    assert (await c.join(room.id))["members"] == 3


async def test_a_ban_while_a_join_waits_wins(house: House) -> None:
    """A join is judged when its turn comes."""
    owner = await house.person()
    people = await house.people(8)
    room = await house.room(owner)
    o = await house.enter(owner, room.id)
    clients = [await house.connect(person) for person in people]
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for person, client in zip(people, clients, strict=True):
                nursery.start_soon(wish_ban, house, room.id, owner, person)
                await client.send("join_room", room=room.id, ref="join")
                await client.send("room_message", room=room.id, content="I am in", ref="said")
        for client in clients:
            await client.next(lambda f: f.data.get("ref") == "join", "an answer to the join")
            await client.next(lambda f: f.data.get("ref") == "said", "an answer to the message")
        await fence(o, room.id)
        for client in clients:
            await client.pong()
            assert not client.seen("room_message", content="never")
    await o.say(room.id, "never")
    for client in clients:
        await client.pong()
        assert not client.seen("room_message", content="never")
        await client.refused("BANNED", "room_message", room=room.id, content="x")
    assert (await house.sql("SELECT count(*) FROM room_members WHERE room_id = $1", room.id))[0][0] == 1


async def wish_ban(house: House, room: int, owner: Person, person: Person) -> None:
    await wish(house, room, Sanction, owner, target=person.id, kind="ban")


async def test_sanctions_act_only_downwards(house: House) -> None:
    owner, mod, mod2, bob, stranger = await house.people(5)
    admin = await house.person(role="admin")
    room = await house.room(owner, bob, admin, moderators=(mod, mod2))
    await house.enter(owner, room.id)

    async def refused(what: type[Wish], by: Person, code: str = "PERMISSION_DENIED", /, **how: Any) -> None:
        with pytest.raises(Refused) as refusal:
            await wish(house, room.id, what, by, **how)
        assert refusal.value.code == code, (what, how)

    for target in (owner, mod2, mod, admin):
        await refused(Kick, mod, target=target.id)
        await refused(Sanction, mod, target=target.id, kind="ban")
        await refused(Sanction, mod, target=target.id, kind="mute")
    for target in (bob, stranger, owner):
        await refused(Kick, bob, target=target.id)
        await refused(Sanction, bob, target=target.id, kind="mute")
    await refused(Sanction, owner, target=admin.id, kind="ban")
    await refused(Kick, owner, target=admin.id)
    await refused(SetRole, mod, target=bob.id, role="moderator")
    await refused(SetRole, owner, "USER_NOT_FOUND", target=stranger.id, role="moderator")
    await refused(Kick, owner, "USER_NOT_FOUND", target=stranger.id)
    await refused(Sanction, owner, "USER_NOT_FOUND", target=2**60, kind="ban")
    await wish(house, room.id, Sanction, mod, target=stranger.id, kind="ban")  # before he comes at all
    await wish(house, room.id, Sanction, admin, standing="admin", target=owner.id, kind="mute")
    await wish(house, room.id, SetRole, owner, target=bob.id, role="moderator")
    await refused(Kick, mod, target=bob.id)
    await wish(house, room.id, Kick, owner, target=bob.id)


async def test_quitting_ends_membership_and_every_subscription(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a, b, b2 = [await house.enter(p, room.id) for p in (ann, bob, bob)]
    await wish(house, room.id, Quit, bob)
    await fence(a, room.id)
    for client in (b, b2):
        await client.refused("NOT_JOINED", "room_message", room=room.id, content="x")
        assert not client.seen("room_message")
    assert (await b.join(room.id))["members"] == 2


async def test_a_deleted_room_answers_everybody_and_is_gone(house: House) -> None:
    owner, bob, cleo = await house.people(3)
    room = await house.room(owner, bob)
    o, b = await house.enter(owner, room.id), await house.enter(bob, room.id)
    first = await b.say(room.id, "x")
    late: list[Client] = [await house.connect(cleo)]

    async def keep_asking(client: Client, what: str, **more: Any) -> None:
        """Whatever is under way when the room goes is answered."""
        for i in itertools.count():
            await client.send(what, ref=f"{what}{i}", **more)
            frame = await client.next(
                lambda f, i=i: f.data.get("ref") == f"{what}{i}",  # type: ignore[misc]
                f"an answer to {what}",
            )
            if frame.type == "error":
                assert frame["code"] in ("ROOM_NOT_FOUND", "MESSAGE_NOT_FOUND"), frame
                return

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: keep_asking(b, "room_message", room=room.id, content="x"))
            nursery.start_soon(lambda: keep_asking(late[0], "join_room", room=room.id))
            for _ in range(3):
                await o.say(room.id, "y")
            await wish(house, room.id, Remove, owner)
        for client in (o, b):
            await client.expect("error", message="This room was deleted.")
    await b.refused("MESSAGE_NOT_FOUND", "add_reaction", id=first["id"], emoji="👍")
    await b.refused("ROOM_NOT_FOUND", "join_room", room=room.name)
    await eventually(lambda: house.app.core.rooms.running(room.id) is None)
    # Its name is free.
    assert room.name is not None
    again = await house.room(bob, name=room.name)
    assert (await b.join(room.name))["room_id"] == again.id


async def test_a_room_that_changes_its_name_or_becomes_private(house: House) -> None:
    owner, bob, eve = await house.people(3)
    room = await house.room(owner, bob)
    b, e = await house.enter(bob, room.id), await house.connect(eve)
    assert room.name is not None
    await b.say(room.name, "one")
    new = f"renamed {room.id}"
    await wish(house, room.id, Update, owner, name=new)
    await b.refused("ROOM_NOT_FOUND", "join_room", room=room.name)
    b2 = await house.connect(bob)
    assert (await b2.join(new, since_seq=0))["room"] == new
    replayed = await b2.expect("room_message", room=new)
    assert replayed["seq"] == 1  # replays name the room as it is named now
    await wish(house, room.id, Update, owner, is_private=True)
    await e.refused("ROOM_NOT_FOUND", "join_room", room=new)
    await e.refused("ROOM_NOT_FOUND", "join_room", room=room.id)
    said = await b.say(room.id, "two")
    assert said["room"] == room.id  # private rooms are named by their id


async def test_an_edit_counts_as_a_message_and_a_status_has_a_rate_of_its_own(build: Build) -> None:
    async with build(
        rate_messages_per_minute=0.01,
        rate_messages_burst=2,
        rate_statuses_per_minute=0.01,
        rate_statuses_burst=2,
    ) as house:
        (ann,) = await house.people(1)
        room = await house.room(ann)
        a = await house.enter(ann, room.id)
        said = await a.say(room.id, "one")
        await a.ask_frame("edit_message", "message_edited", id=said["id"], content="two")
        await a.refused("RATE_LIMITED", "edit_message", id=said["id"], content="three")
        await a.refused("RATE_LIMITED", "room_message", room=room.id, content="four")
        for status in ("away", "busy"):
            await a.send("set_presence", status=status)
        await a.refused("RATE_LIMITED", "set_presence", status="online")
        await a.pong()
