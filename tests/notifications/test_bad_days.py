"""What must hold on bad days: nothing is lost, nothing comes under two ids, and who is in the way holds nobody up."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.chat.cable import Cable
from tests.chat.client import Client
from tests.chat.conftest import Build, House, Person, open_house
from tests.chat.far_house import far_house
from tests.notifications.conftest import Hall, event
from veza.actors.commands import Say
from veza.actors.notices import courier as courier_actor
from veza.actors.notices.courier import CourierActor
from veza.actors.notices.notifier import NotifierActor
from veza.actors.notices.told import Book
from veza.actors.room import RoomActor
from veza.config import Settings
from veza.db import connections, courier, outbox
from veza.db.outbox import Event
from veza.db.pool import open_database

BOUND = 300  # seconds; what takes longer hangs, also where servers are started


class Bug(Exception):
    """What a programmer overlooked."""


def crash_once(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, when: Callable[..., bool]
) -> list[int]:
    """Make a method raise before it does anything, the first time that `when(self, *args)` holds."""
    original = getattr(where, name)
    crashes: list[int] = []

    def bugged(self: Any, *args: Any, **more: Any) -> Any:
        if not crashes and when(self, *args):
            crashes.append(1)
            raise Bug
        return original(self, *args, **more)

    monkeypatch.setattr(where, name, bugged)
    return crashes


def of(number: int, actor: Person, target: Person, **more: Any) -> Event:
    return event(actor, target, "like", data={"track_id": number}, **more)


async def numbers(client: Client, count: int) -> list[int]:
    """The numbers of the next notifications; their ids rise."""
    told = [await client.expect("notification") for _ in range(count)]
    ids = [each["id"] for each in told]
    assert ids == sorted(set(ids))
    return [each["track_id"] for each in told]


# The server ends ---------------------------------------------------------------------------------------


async def test_what_a_server_did_not_get_to_tell_the_next_one_does(build: Build, db: Any) -> None:
    """The row is there, and whoever wrote it is no more."""
    with trio.fail_after(BOUND):
        async with build() as house:
            me, you = await house.people(2)
        await db.write(outbox.put, of(1, you, me), of(2, you, me))
        await db.write(outbox.put, Event("card", me.id, you.id, "offer-1-received", {"content": "80 EUR"}))
        # It notes on its way out what it told; that it hurries then is not what this is about.
        async with build(shutdown_timeout=120.0) as house:
            client = await house.connect(me)
            assert await numbers(client, 2) == [1, 2]
            await Hall(house, None).until_none("outbox", you)  # type: ignore[arg-type]
            letters = await house.sql("SELECT content FROM messages WHERE user_id = $1", you.id)
            assert [row[0] for row in letters] == ["80 EUR"]
            # Told and marked so: the next server has nothing more to say.
        async with build() as house:
            again = await house.connect(me)
            assert again.welcome["unread_notifications"] == 2
            await Hall(house, None).nothing_else(again)  # type: ignore[arg-type]


async def test_killed_between_the_commit_and_the_telling(tmp_path: Path) -> None:
    """`veza serve`, killed while messages come that name somebody: each that is stored is told, under one id."""
    with trio.fail_after(BOUND):
        told: dict[int, set[int]] = {}

        def note(client: Client) -> None:
            for frame in client.seen("notification"):
                told.setdefault(frame["message_id"], set()).add(frame["id"])

        async with far_house(tmp_path) as house:
            me, you = await house.people(2)
            room = await house.room(you, me)
            client, talk = await house.connect(me), await house.enter(you, room.id)
            for number in range(90):  # fewer than one is told who comes back
                await talk.send("room_message", room=room.id, content=f"@{me.name} {number}")
            await client.expect("notification")
            assert house.server is not None
            house.server.process.send_signal(signal.SIGKILL)
            await client.ended.wait()
            note(client)
        async with far_house(tmp_path) as house:
            rows = await house.sql("SELECT id FROM messages WHERE room_id = $1", room.id)
            stored = {row[0] for row in rows}
            assert len(stored) > 0
            client = await house.connect(me)
            note(client)
            while set(told) != stored:
                await client.expect("notification")
                note(client)
            assert {len(ids) for ids in told.values()} == {1}
            rows = await house.sql("SELECT count(*) FROM notifications WHERE user_id = $1", me.id)
            assert rows[0][0] == len(stored) == len(set.union(*told.values()))


# The database is away -----------------------------------------------------------------------------------


@asynccontextmanager
async def far_from_its_database(settings: Settings, url: str) -> AsyncIterator[tuple[House, Cable]]:
    cable = Cable(url)
    async with trio.open_nursery() as nursery:
        await nursery.start(cable.serve)
        async with (
            open_database(cable.url, size=4, acquire_timeout=30.0) as db,
            open_house(settings, db) as house,
        ):
            yield house, cable
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("plan", ["before", "after"])
async def test_the_line_to_the_database_breaks_in_a_pass(
    settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    """Cut before the pass is stored, or after it and before anybody heard so: everybody is told, once."""
    monkeypatch.setattr(courier_actor, "_AGAIN", 0.05)
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT", 30.0)
    with trio.fail_after(BOUND):
        async with far_from_its_database(settings, database_url) as (house, cable):
            me, you = await house.people(2)
            client = await house.connect(me)
            hall = Hall(house, None)  # type: ignore[arg-type]
            await hall.cause(of(0, you, me))
            assert await numbers(client, 1) == [0]
            expand = courier.expand

            async def watched(conn: Any, only: int | None = None) -> Any:
                cable.lie_in_wait("COMMIT", plan)
                monkeypatch.setattr(courier, "expand", expand)
                return await expand(conn, only)

            monkeypatch.setattr(courier, "expand", watched)
            await hall.cause(of(1, you, me), of(2, you, me))
            assert await numbers(client, 2) == [1, 2]
            assert cable.caught.is_set()
            await hall.nothing_else(client)


# Actors crash -------------------------------------------------------------------------------------------


async def test_a_courier_that_crashes_loses_nothing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(BOUND):
        me, you = await hall.people(2)
        client = await hall.connect(me)
        await hall.cause(of(0, you, me))
        assert await numbers(client, 1) == [0]
        crashes = crash_once(monkeypatch, CourierActor, "_go_in", lambda actor, seconds: True)
        await hall.cause(of(1, you, me))
        assert await numbers(client, 1) == [1]
        await hall.cause(of(2, you, me))
        assert await numbers(client, 1) == [2] and crashes
        # Stored, but it dies before it tells anybody.
        crashes = crash_once(
            monkeypatch, type(hall.house.app.core.notices), "tell", lambda notices, notes: bool(notes)
        )
        await hall.cause(of(3, you, me))
        await hall.cause(of(4, you, me))
        assert await numbers(client, 2) == [3, 4] and crashes
        await hall.nothing_else(client)


async def test_a_notifier_that_crashes_loses_nothing(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(BOUND):
        me, you, other = await hall.people(3)
        client, phone, beside = await hall.connect(me), await hall.connect(me), await hall.connect(other)
        await hall.cause(of(0, you, me), of(0, you, other))
        for ear in (client, phone, beside):
            assert await numbers(ear, 1) == [0]
        crashes = crash_once(
            monkeypatch, NotifierActor, "_tell", lambda actor, desk, note: actor._user_id == me.id
        )
        await hall.cause(of(1, you, me), of(2, you, me), of(1, you, other))
        for ear in (client, phone):
            assert await numbers(ear, 2) == [1, 2]
        assert await numbers(beside, 1) == [1] and crashes
        crashes = crash_once(monkeypatch, Book, "add", lambda book, user_id, id: user_id == me.id)
        await hall.cause(of(3, you, me), of(4, you, me))
        assert await numbers(client, 2) == [3, 4] and crashes
        await hall.nothing_else(beside)


async def test_what_does_not_fit_into_a_mailbox_is_read_instead(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        monkeypatch.setattr(NotifierActor, "mailbox_capacity", 1)
        me, you = await hall.people(2)
        client = await hall.connect(me)
        await hall.cause(*(of(number, you, me) for number in range(60)))
        assert await numbers(client, 60) == list(range(60))
        assert client.seen("notification")[-1]["unread"] == 60
        await hall.nothing_else(client)


# Somebody is in the way ---------------------------------------------------------------------------------


async def test_an_event_that_cannot_be_carried_out_holds_nobody_up(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        me, you = await hall.people(2)
        client = await hall.connect(me)
        await hall.sql(
            "CREATE FUNCTION refuse_poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " RAISE division_by_zero; END $$"
        )
        await hall.sql(
            "CREATE TRIGGER poison BEFORE INSERT ON notifications FOR EACH ROW WHEN (NEW.key = 'poison')"
            " EXECUTE FUNCTION refuse_poison()"
        )
        try:
            await hall.cause(of(1, you, me), of(2, you, me, key="poison"), of(3, you, me))
            assert await numbers(client, 2) == [1, 3]
            left = await hall.sql(
                "SELECT key, tries > 0, run_after >= created_at + interval '1 s' FROM outbox WHERE actor_id = $1",
                you.id,
            )
            assert [tuple(row) for row in left] == [("poison", True, True)]
            monkeypatch.setattr(courier_actor, "TRIES", 2)
            await hall.sql("UPDATE outbox SET run_after = now() WHERE actor_id = $1", you.id)
            hall.house.app.core.notices.poke()
            await hall.until_none("outbox", you)
            assert hall.house.app.core.notices.tally.given_up == 1
        finally:
            await hall.sql("DROP TRIGGER poison ON notifications")
            await hall.sql("DROP FUNCTION refuse_poison")
        await hall.nothing_else(client)


async def test_a_card_that_is_refused_goes_and_one_that_cannot_be_said_now_waits(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        me, blocker, stuck, fine, gone = await hall.people(5)
        await hall.block(blocker, me)
        await hall.sql("UPDATE users SET is_active = false WHERE id = $1", gone.id)
        ears = {p.id: await hall.connect(p) for p in (blocker, stuck, fine)}
        crashes = crash_once(
            monkeypatch,
            RoomActor,
            "_say",
            lambda room, wish: isinstance(wish, Say) and wish.content == "stuck 1",
        )

        def card(target: Person, content: str) -> Event:
            return Event("card", target.id, me.id, f"card {content}", {"content": content})

        await hall.cause(
            card(gone, "gone 1"),
            card(blocker, "blocked 1"),
            card(stuck, "stuck 1"),
            card(stuck, "stuck 2"),
            card(fine, "fine 1"),
            of(1, me, fine),
        )
        assert (await ears[fine.id].expect("direct_message"))["content"] == "fine 1"
        assert await numbers(ears[fine.id], 1) == [1]
        for content in ("stuck 1", "stuck 2"):
            assert (await ears[stuck.id].expect("direct_message"))["content"] == content, (
                "in order all the same"
            )
        await hall.until_none("outbox", me)
        assert crashes and not ears[blocker.id].seen("direct_message")


# Many ---------------------------------------------------------------------------------------------------


async def test_five_thousand_followers_are_told_once_each_over_a_crash_in_the_middle(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(BOUND):
        me, fan, blocked = await hall.people(3)
        await hall.sql(
            """WITH fans AS (INSERT INTO users (username, email, password_hash)
                   SELECT 'fan of ' || $1::text || ' ' || n, 'fan' || n || '.' || $1::text || '@example.org', '!'
                   FROM generate_series(1, 5000) AS n RETURNING id)
               INSERT INTO follows (follower_id, followed_id)
               SELECT id, $2::bigint FROM fans UNION ALL SELECT f, $2::bigint FROM unnest($3::bigint[]) AS f""",
            str(me.id),
            me.id,
            [fan.id, blocked.id],
        )
        await hall.block(me, blocked)
        ear, other = await hall.connect(fan), await hall.connect(blocked)
        page, calls = courier._page, []

        async def breaks(*args: Any) -> Any:
            found = await page(*args)
            calls.append(1)
            if len(calls) == 3:
                raise Bug  # its transaction is undone with it
            return found

        monkeypatch.setattr(courier, "_page", breaks)
        listing = Event(
            "listing", me.id, me.id, "listing:1", {"listing_id": 1, "title": "Drums"}, "followers"
        )
        await hall.cause(listing, of(7, me, fan))
        told = [await ear.expect("notification"), await ear.expect("notification")]
        assert sorted(each["kind"] for each in told) == ["like", "listing"]
        while await hall.sql("SELECT FROM outbox WHERE actor_id = $1", me.id):
            await hall.sql("UPDATE outbox SET run_after = now() WHERE actor_id = $1", me.id)
            hall.house.app.core.notices.poke()
            await trio.sleep(0.01)
        rows = await hall.sql(
            "SELECT user_id FROM notifications WHERE actor_id = $1 AND kind = 'listing'", me.id
        )
        counted = Counter(row[0] for row in rows)
        assert len(counted) == 5001 and set(counted.values()) == {1}
        assert blocked.id not in counted and len(calls) >= 6
        await hall.nothing_else(ear, other)


async def test_who_comes_back_hears_the_newest_hundred_and_finds_the_rest_in_his_list(hall: Hall) -> None:
    with trio.fail_after(BOUND):
        me, you = await hall.people(2)
        await hall.cause(*(of(number, you, me) for number in range(130)))
        await hall.until_none("outbox", you)
        client = await hall.connect(me)
        assert client.welcome["unread_notifications"] == 130
        assert await numbers(client, 100) == list(range(30, 130))
        await hall.until_none("notifications", you, "AND told_at IS NULL")
        again = await hall.connect(me)
        await hall.nothing_else(client, again)
