"""Commits whose outcome nobody knows: what was said is stored once or refused, never both, and never twice."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import trio

import veza.app
from tests.chat.books import heard, stored, until, with_the_ledger
from tests.chat.cable import Cable
from tests.chat.client import PATIENCE, fence
from tests.chat.conftest import House, open_house
from tests.chat.talkers import Talker, check
from veza.app import open_core, open_server
from veza.config import Settings
from veza.db.errors import OutcomeUnknown
from veza.db.pool import Database, open_database

BOUND = 120


@pytest.fixture
async def cable(database_url: str) -> AsyncIterator[Cable]:
    cable = Cable(database_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(cable.serve)
        yield cable
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def house_at(cable: Cable, settings: Settings) -> AsyncIterator[House]:
    """A house at the far end of the cable."""
    # In the end a connection may be left that is silent: nobody need wait for it.
    database = open_database(
        cable.url, acquire_timeout=PATIENCE, statement_timeout=PATIENCE, close_patience=0.1
    )
    async with database as db, open_house(settings, db) as house:
        yield house


def give_up_waiting(db: Database) -> None:
    """Whoever waits for the database just now has waited for so long that he takes the line for dead."""
    db.hurry(0.0)
    db.hurry()


@pytest.mark.parametrize("plan", ["before", "after", "silent", "late"])
async def test_a_cut_commit_is_stored_once_and_acknowledged(
    cable: Cable, settings: Settings, plan: str
) -> None:
    with trio.fail_after(BOUND):
        async with house_at(cable, settings) as house:
            people = await house.people(2)
            room, elsewhere = await house.room(*people), await house.room(*people)
            one, other = [await house.enter(person, room.id, elsewhere.id) for person in people]
            await fence(one, room.id, other)
            cable.lie_in_wait("cut me", plan)
            said = {"room": room.id, "content": "cut me", "nonce": "once"}
            await one.send("room_message", ref="cut", **said)
            await cable.caught.wait()
            if plan == "silent":
                await cable.carried_out.wait()
            if plan in ("silent", "late"):
                give_up_waiting(house.db)
            await Talker("meanwhile", other, elsewhere.id).say("meanwhile")
            ack = await one.expect("message_ack", ref="cut", within=math.inf)
            if plan == "late":
                cable.let_go()
            if plan != "before":
                await cable.carried_out.wait()
            again = await one.ask("room_message", "message_ack", **said)
            assert [ack[key] for key in ("id", "seq", "created_at")] == [
                again[key] for key in ("id", "seq", "created_at")
            ]
            await fence(other, room.id, one)
            everything = await stored(house, room.id)
            assert [text for _, text in everything].count("cut me") == 1
            assert heard(one, room.id) == heard(other, room.id) == everything
            assert not one.seen("error")
            assert len(await stored(house, elsewhere.id)) == 1
            assert house.actor(room.id).summary["in_flight"] == 0


async def test_the_line_is_cut_again_and_again_under_load(cable: Cable, settings: Settings) -> None:
    with trio.fail_after(BOUND):
        async with house_at(cable, settings) as house, trio.open_nursery() as nursery:
            people = await house.people(9)
            rooms = [(await house.room(*people)).id for _ in range(3)]
            talkers = [
                Talker(f"talker{i}", await house.enter(person, *rooms), rooms[i % 3], stubborn=i % 2 == 0)
                for i, person in enumerate(people)
            ]
            for talker in talkers:
                nursery.start_soon(talker.talk)
            for i in range(12):
                cable.lie_in_wait(talkers[i % 9].name, "after" if i % 3 else "before")
                await cable.caught.wait()
                count = sum(len(talker.acked) for talker in talkers)
                await until(lambda count=count: sum(len(t.acked) for t in talkers) > count + 20)
            for talker in talkers:
                talker.done = True
            await until(lambda: all(talker.open is None for talker in talkers))
            ears = [talker.client for talker in talkers]
            for room in rooms:
                await fence(ears[0], room, *ears)
                check(room, await stored(house, room), talkers, *ears)


async def test_who_does_not_wait_for_the_answer_has_said_it_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket and a request end while the commit of what they said is under way; both say it again."""
    with trio.fail_after(BOUND):
        people = await house.people(3)
        room = await house.room(*people)
        watcher, one = await house.enter(people[0], room.id), await house.enter(people[1], room.id)
        under_way, go_on = trio.Event(), trio.Event()
        write = house.db.write_shielded

        async def slowly(unit: Any, posts: Any) -> Any:
            receipts = await write(unit, posts)
            under_way.set()
            await go_on.wait()
            return receipts

        monkeypatch.setattr(house.db, "write_shielded", slowly)
        await one.send("room_message", room=room.id, content="by socket", nonce="s")
        await under_way.wait()
        await one.drop()
        path, letter = f"/api/v1/chat/rooms/{room.id}/messages", {"content": "by request", "nonce": "r"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{house.port}",
            headers={"Authorization": f"Bearer {people[2].token}"},
            timeout=None,
        ) as rest:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(lambda: rest.post(path, json=letter))
                await until(lambda: len(house.app.core.books.gathered) == 1)
                nursery.cancel_scope.cancel()
            go_on.set()
            answer = await rest.post(path, json=letter)
            assert answer.status_code == 201, answer.text
            assert answer.json()["data"]["seq"] == 2
        again = await house.enter(people[1], room.id)
        assert (await again.say(room.id, "by socket", nonce="s"))["seq"] == 1
        await fence(again, room.id, watcher)
        assert heard(watcher, room.id)[:2] == [(1, "by socket"), (2, "by request")]
        assert heard(watcher, room.id) == await stored(house, room.id)


async def test_at_the_end_what_is_in_doubt_is_neither_acknowledged_nor_refused(
    settings: Settings, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, long = [
        msgspec.structs.replace(settings, shutdown_timeout=seconds) for seconds in (3.0, BOUND / 2)
    ]
    # The actors are given long, all else is given up soon.
    monkeypatch.setattr(veza.app, "open_core", lambda _, db: open_core(long, db))
    with trio.fail_after(BOUND):
        write = db.write_shielded

        async def cut(unit: Any, posts: Any) -> Any:
            await write(unit, posts)
            raise OutcomeUnknown("cut")

        async with trio.open_nursery() as nursery:
            async with open_server(short, db) as app:
                house = House(app, db, nursery)
                people = await house.people(2)
                room = await house.room(*people)
                one, other = [await house.enter(person, room.id) for person in people]
                monkeypatch.setattr(db, "write_shielded", cut)
                await one.send("room_message", room=room.id, content="in doubt", ref="x", nonce="once")
                await with_the_ledger(house, room.id, one)
                await until(lambda: app.core.books.uncertain)
                await other.refused("UNAVAILABLE", "room_message", room=room.id, content="too late")
                began = trio.current_time()
            # Not as long as actors that never settle are given.
            assert trio.current_time() - began < long.shutdown_timeout
            assert (await one.closed(), await other.closed()) == (1001, 1001)
            assert not [frame for frame in one.frames if frame.data.get("ref") == "x"]
        assert app.core.books.committed == 0
        monkeypatch.undo()
        async with open_house(settings, db) as house:
            one = await house.connect(people[0])
            await one.join(room.id, since_seq=0)
            await one.expect("room_message", content="in doubt", seq=1)
            assert (await one.say(room.id, "in doubt", nonce="once"))["seq"] == 1
            assert await stored(house, room.id) == [(1, "in doubt")]
