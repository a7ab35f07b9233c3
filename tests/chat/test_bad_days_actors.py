"""An actor crashes on one message: who sent it hears of it, everybody else notices a short pause and misses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from tests.chat.books import Tap, heard, stored, until, with_the_ledger
from tests.chat.client import Client, fence
from tests.chat.conftest import House
from veza.actors.fanout import Fanout
from veza.actors.ledger import Committed, LedgerActor, Rejected
from veza.actors.presence import PresenceActor, Statistics
from veza.actors.room import RoomActor
from veza.actors.session import SessionActor

BOUND = 120  # seconds; what takes longer hangs


class Bug(Exception):
    """What a programmer overlooked."""


def crash(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, when: Callable[..., bool], times: int = 1
) -> list[int]:
    """Make a method raise before it does anything, the first times that `when(self, *args)` holds."""
    original = getattr(where, name)
    crashes: list[int] = []

    def bugged(self: Any, *args: Any) -> Any:
        if len(crashes) < times and when(self, *args):
            crashes.append(1)
            raise Bug
        return original(self, *args)

    monkeypatch.setattr(where, name, bugged)
    return crashes


def errors(*clients: Client) -> list[Any]:
    return [frame.data for client in clients for frame in client.seen("error")]


def comings_and_goings(client: Client) -> int:
    return len(client.seen("user_connected")) + len(client.seen("user_disconnected"))


async def test_a_room_that_crashes_on_a_post_tells_its_sender_and_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        crash(monkeypatch, RoomActor, "_say", lambda room, wish: wish.content == "boom", times=2)
        people = await house.people(3)
        room = await house.room(*people)
        one, other, watcher = [await house.enter(person, room.id) for person in people]
        await fence(one, room.id, other, watcher)
        for client in (one, other, watcher):
            client.forget()
        for i in range(5):
            await other.send("room_message", room=room.id, content=f"before {i}", ref=f"before {i}")
        await one.refused("INTERNAL", "room_message", room=room.id, content="boom")
        for i in range(5):
            await other.send("room_message", room=room.id, content=f"after {i}", ref=f"after {i}")
        acks = [
            await other.expect("message_ack", ref=f"{w} {i}") for w in ("before", "after") for i in range(5)
        ]
        assert [ack["seq"] for ack in acks] == list(range(2, 12))
        base = f"http://127.0.0.1:{house.port}/api/v1"
        async with httpx.AsyncClient(base_url=base, timeout=BOUND) as rest:
            answer = await rest.post(
                f"/chat/rooms/{room.id}/messages",
                json={"content": "boom"},
                headers={"Authorization": f"Bearer {people[0].token}"},
            )
        assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert int(answer.headers["retry-after"]) >= 1
        await fence(one, room.id, other, watcher)
        assert not errors(other, watcher)
        assert len(errors(one)) == 1
        everything = (await stored(house, room.id))[1:]
        for client in (one, other, watcher):
            assert heard(client, room.id) == everything
            assert not comings_and_goings(client)
        actor = house.actor(room.id)
        assert (actor.state, actor.failures, actor.restarts) == ("running", 2, 2)
        assert actor.summary["online"] == 3
        assert actor.summary["in_flight"] == 0


def _on_committed(room: RoomActor, message: Any) -> bool:
    return isinstance(message, Committed)


def _on_text_four(room: RoomActor, message: Any) -> bool:
    return bool(message.content == "text 4")


def _on_the_third_pass(fanout: Fanout, seq: int, rev: int) -> bool:
    return fanout.waiting and seq > 3


@pytest.mark.parametrize(
    ("where", "name", "when"),
    [
        (RoomActor, "_dispatch", _on_committed),
        (RoomActor, "_publish", _on_text_four),
        (Fanout, "run", _on_the_third_pass),
    ],
    ids=["as a commit is told", "in the middle of a batch", "before it is delivered"],
)
async def test_posts_in_flight_are_acknowledged_once_and_nobody_misses_one(
    house: House, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, when: Callable[..., bool]
) -> None:
    with trio.fail_after(BOUND):
        room, clients = await house.company(3)
        watcher = clients[2]
        tap = Tap(house, monkeypatch)
        crashes = crash(monkeypatch, where, name, when)
        for i in range(12):
            sender = clients[i % 2]
            await sender.send("room_message", room=room.id, content=f"text {i}", ref=str(i))
            await with_the_ledger(house, room.id, sender)
        tap.open()
        acks = [await clients[i % 2].expect("message_ack", ref=str(i)) for i in range(12)]
        assert [ack["seq"] for ack in acks] == list(range(1, 13))
        await fence(watcher, room.id, *clients)
        assert crashes
        everything = await stored(house, room.id)
        assert [text for _, text in everything][:12] == [f"text {i}" for i in range(12)]
        for client in clients:
            assert heard(client, room.id) == everything
        assert not errors(*clients)
        assert [len(client.seen("message_ack")) for client in clients] == [6, 6, 1]
        actor = house.actor(room.id)
        assert (actor.failures, actor.summary["in_flight"]) == (1, 0)


async def test_a_room_that_crashes_over_a_join_still_acknowledges_what_was_said_before_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        person = await house.person()
        room = await house.room(person)
        one = await house.connect(person)
        waits = [True]  # as behind a costly pass: what is to be sent stays with the room
        monkeypatch.setattr(Fanout, "delay", lambda fanout: 3600.0 if waits else 0.0)
        await one.send("room_message", room=room.id, content="said before", ref="said")
        await one.pong()
        await until(lambda: house.actor(room.id).summary.get("last_seq") == 1)
        crash(monkeypatch, RoomActor, "_join_ack", lambda room, resume, complete: bool(waits.pop()))
        await one.refused("INTERNAL", "join_room", room=room.id)
        assert (await one.expect("message_ack", ref="said"))["seq"] == 1


async def test_somebody_leaving_as_the_room_crashes_is_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        room, (one, other) = await house.company(2)
        crash(monkeypatch, RoomActor, "_leave", lambda room, wish: wish.quiet)
        await other.aclose()
        await until(lambda: house.actor(room.id).restarts == 1)
        await fence(one, room.id)
        summary = house.actor(room.id).summary
        assert (summary["online"], summary["subscribers"]) == (1, 1)


async def test_a_ledger_that_crashes_on_a_post_tells_its_sender_and_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        room, clients = await house.company(2)
        one, other = clients
        tap = Tap(house, monkeypatch)
        crash(monkeypatch, LedgerActor, "_take", lambda ledger, entry: entry.post.content == "boom")
        for i in range(5):
            await other.send("room_message", room=room.id, content=f"text {i}", ref=str(i))
        await with_the_ledger(house, room.id, other)
        await one.refused("INTERNAL", "room_message", room=room.id, content="boom")
        for i in range(5, 10):
            await other.send("room_message", room=room.id, content=f"text {i}", ref=str(i))
        await with_the_ledger(house, room.id, other)
        tap.open()
        acks = [await other.expect("message_ack", ref=str(i)) for i in range(10)]
        assert [ack["seq"] for ack in acks] == list(range(1, 11))
        await fence(one, room.id, other)
        assert house.app.core.system.inspect("platform/ledger").failures == 1
        everything = await stored(house, room.id)
        assert len(everything) == 11
        assert heard(one, room.id) == heard(other, room.id) == everything
        assert house.actor(room.id).summary["in_flight"] == 0


async def test_a_room_that_crashes_over_a_refusal_tells_it_all_the_same(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        room, (one, other) = await house.company(2)
        crash(monkeypatch, LedgerActor, "_take", lambda ledger, entry: entry.post.content == "boom")
        crashes = crash(
            monkeypatch, RoomActor, "_dispatch", lambda room, message: isinstance(message, Rejected)
        )
        await one.refused("INTERNAL", "room_message", room=room.id, content="boom")
        assert crashes
        await fence(one, room.id, other)
        assert len(errors(one, other)) == 1
        assert heard(one, room.id) == heard(other, room.id) == await stored(house, room.id)
        actor = house.actor(room.id)
        assert (actor.failures, actor.summary["in_flight"]) == (1, 0)


async def test_a_ledger_that_crashes_over_a_commit_looks_again_what_became_of_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        room, clients = await house.company(2)
        tap = Tap(house, monkeypatch)
        crashes = crash(monkeypatch, LedgerActor, "_settle", lambda ledger, batch, outcome: True)
        for i in range(10):
            await clients[i % 2].send("room_message", room=room.id, content=f"text {i}", ref=str(i))
            await with_the_ledger(house, room.id, clients[i % 2])
        tap.open()
        acks = [await clients[i % 2].expect("message_ack", ref=str(i)) for i in range(10)]
        assert [ack["seq"] for ack in acks] == list(range(1, 11))
        await fence(clients[0], room.id, clients[1])
        assert crashes
        everything = await stored(house, room.id)
        assert len(everything) == 11
        for client in clients:
            assert heard(client, room.id) == everything
        assert not errors(*clients)
        books = house.app.core.books
        assert (books.committing, books.gathered, books.uncertain) == (0, [], False)


async def test_a_commit_the_ledger_always_crashes_over_is_given_up_for_its_senders_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        room, (one, other) = await house.company(2)

        def cursed(ledger: LedgerActor, batch: Any, outcome: Any) -> bool:
            return any(entry.post.content == "boom" for entry in batch)

        crash(monkeypatch, LedgerActor, "_settle", cursed, times=100)
        await one.refused("INTERNAL", "room_message", room=room.id, content="boom")
        await fence(other, room.id, one)
        everything = await stored(house, room.id)
        assert heard(one, room.id) == heard(other, room.id) == everything
        assert house.actor(room.id).summary["in_flight"] == 0


async def test_presence_that_crashes_ends_that_socket_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        people = await house.people(2)
        room = await house.room(*people)
        one = await house.enter(people[0], room.id)
        mine = people[1].id
        crash(monkeypatch, PresenceActor, "_connected", lambda self, m: m.connection.user_id == mine)
        broken = await house.connect(people[1])
        assert await broken.closed() == 1011
        other = await house.enter(people[1], room.id)
        await fence(one, room.id, other)
        assert not errors(one)
        crash(
            monkeypatch, PresenceActor, "_disconnected", lambda self, connection: connection.user_id == mine
        )
        await other.aclose()
        await until(lambda: house.app.core.system.inspect("platform/presence").restarts == 2)
        counts = await house.app.core.presence.ask(Statistics())
        assert (counts["people"], counts["connections"]) == (1, 1)


async def test_a_session_that_crashes_ends_its_own_socket_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        people = await house.people(2)
        room = await house.room(*people)
        one, same, other = [await house.enter(person, room.id) for person in (*people, people[1])]
        crash(monkeypatch, SessionActor, "_serve", lambda session, request, ref: ref == "boom")
        await other.send("ping", ref="boom")
        assert await other.closed() == 1011
        await fence(one, room.id, same)
        assert not errors(one, same)
        assert not comings_and_goings(one) - 1  # the coming of the second person; he is still here
        again = await house.enter(people[1], room.id)
        await fence(again, room.id, one, same)


async def test_a_room_that_crashes_on_letting_somebody_in_still_hears_what_comes_behind_the_join(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        owner, newcomer = await house.people(2)
        room = await house.room(owner)
        client = await house.connect(newcomer)
        crashes = crash(monkeypatch, RoomActor, "_resume", lambda room, resume: resume.wish is not None)
        await client.send("join_room", ref="in", room=room.id)
        await client.send("room_message", ref="said", room=room.id, content="behind the join")
        await client.error("INTERNAL", ref="in")
        assert (await client.expect("message_ack", ref="said"))["seq"] == 1
        assert crashes
        await client.join(room.id)
        await client.say(room.id, "and after it")
