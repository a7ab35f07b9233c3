"""Cards whose rooms hang, events with very many people, a database that goes in between: nobody else waits for them."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.chat.conftest import Person
from tests.notifications.conftest import Hall, event
from veza.actors.notices import cards
from veza.actors.notices.notices import Notices
from veza.actors.notices.told import Book
from veza.actors.rooms import Rooms
from veza.db import courier, digests
from veza.db.errors import Unavailable
from veza.db.outbox import Event

BOUND = 300  # seconds; what takes longer hangs


def card(actor: Person, target: Person, content: str) -> Event:
    return Event("card", target.id, actor.id, f"card {actor.id} {content}", {"content": content})


async def test_a_room_that_hangs_keeps_no_other_card(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the cards of hanging rooms fill a whole pass; and they come once their rooms answer."""
    ask, hanging = Rooms.ask, trio.Event()

    async def hangs(rooms: Rooms, room_id: int, wish: Any, **more: Any) -> Any:
        if getattr(wish, "content", "") == "slow" and not hanging.is_set():
            await trio.sleep_forever()
        return await ask(rooms, room_id, wish, **more)

    monkeypatch.setattr(Rooms, "ask", hangs)
    monkeypatch.setattr(cards, "MOST", 1)
    monkeypatch.setattr(cards, "PATIENCE", 0.25)
    with trio.fail_after(BOUND):
        me, slow, fine = await hall.people(3)
        ears = [await hall.connect(slow), await hall.connect(fine)]
        await hall.cause(card(me, slow, "slow"), card(me, fine, "fine"), event(me, fine))
        assert (await ears[1].expect("direct_message"))["content"] == "fine"
        assert (await ears[1].expect("notification"))["kind"] == "follow"
        # The other one's row may be a moment in going.
        rows = await hall.sql(
            "SELECT tries, run_after > created_at FROM outbox WHERE actor_id = $1 AND data->>'content' = 'slow'",
            me.id,
        )
        assert rows and rows[0][0] >= 1 and rows[0][1]
        # However often it hung, it is not given up but put off for a minute: the room has not died of it.
        await hall.sql("UPDATE outbox SET tries = 30, run_after = now() WHERE actor_id = $1", me.id)
        hall.house.app.core.notices.poke()
        put_off = (
            "SELECT FROM outbox WHERE actor_id = $1 AND tries > 30 AND run_after > now() + interval '30 s'"
        )
        while not await hall.sql(put_off, me.id):  # noqa: ASYNC110 - rows
            await trio.sleep(0.01)
        hanging.set()
        await hall.sql("UPDATE outbox SET tries = 0, run_after = now() WHERE actor_id = $1", me.id)
        hall.house.app.core.notices.poke()
        assert (await ears[0].expect("direct_message"))["content"] == "slow"
        await hall.until_none("outbox", me)


async def test_a_card_that_cannot_be_said_by_a_mistake_of_ours_stops_no_notification(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = Rooms.direct

    async def mistaken(rooms: Rooms, one: int, other: int, **more: Any) -> int:
        if other == bad.id:
            raise ZeroDivisionError
        return await direct(rooms, one, other, **more)

    monkeypatch.setattr(Rooms, "direct", mistaken)
    with trio.fail_after(BOUND):
        me, bad, fine = await hall.people(3)
        ear = await hall.connect(fine)
        await hall.cause(card(me, bad, "never"), card(me, fine, "fine"), event(me, fine))
        assert (await ear.expect("direct_message"))["content"] == "fine"
        assert (await ear.expect("notification"))["kind"] == "follow"
        # The other one's row may be a moment in going.
        never = "SELECT FROM outbox WHERE actor_id = $1 AND data->>'content' = 'never'"
        assert len(await hall.sql(never, me.id)) == 1
        monkeypatch.setattr(cards, "CRASHES", 2)
        await hall.sql("UPDATE outbox SET run_after = now() WHERE actor_id = $1", me.id)
        hall.house.app.core.notices.poke()
        await hall.until_none("outbox", me)  # given up


async def test_a_database_that_goes_while_cards_are_said_is_no_crash(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crashing would have everybody who is online read anew, again and again while it is away."""
    drop = courier.drop
    away: list[int] = []
    reread: list[int] = []

    async def goes(conn: Any, id: int) -> None:
        if len(away) < 2:
            away.append(id)
            raise Unavailable("the database is away")
        await drop(conn, id)

    with trio.fail_after(BOUND):
        me, one, two = await hall.people(3)
        ears = [await hall.connect(one), await hall.connect(two)]
        monkeypatch.setattr(courier, "drop", goes)
        monkeypatch.setattr(Notices, "reread", lambda notices: reread.append(1))
        await hall.cause(card(me, one, "one"), card(me, two, "two"), event(me, two))
        for ear, content in zip(ears, ("one", "two"), strict=True):
            assert (await ear.expect("direct_message"))["content"] == content
        assert (await ears[1].expect("notification"))["kind"] == "follow"
        await hall.until_none("outbox", me)
        assert len(away) == 2 and not reread


async def test_who_has_few_followers_does_not_wait_for_who_has_many(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "PEOPLE", 10)
    many, few, fan = await hall.people(3)
    await hall.sql(
        """WITH fans AS (INSERT INTO users (username, email, password_hash)
               SELECT 'one of ' || $1::text || ' ' || n, 'one' || n || '.' || $1::text || '@example.org', '!'
               FROM generate_series(1, 100) AS n RETURNING id)
           INSERT INTO follows (follower_id, followed_id) SELECT id, $2::bigint FROM fans
           UNION ALL SELECT $3::bigint, $4::bigint""",
        str(many.id),
        many.id,
        fan.id,
        few.id,
    )
    expand = courier.expand
    looked: list[set[int]] = []

    async def looks(conn: Any, only: int | None = None) -> Any:
        taken = await expand(conn, only)
        left = await conn.fetch("SELECT actor_id FROM outbox WHERE actor_id = ANY ($1)", [many.id, few.id])
        looked.append({row[0] for row in left})
        return taken

    monkeypatch.setattr(courier, "expand", looks)
    listings = [
        Event("listing", who.id, who.id, f"listing:{who.id}", {"title": "Drums"}, "followers")
        for who in (many, few)
    ]
    with trio.fail_after(BOUND):
        await hall.cause(*listings)
        await hall.until_none("outbox", many)
        assert {many.id} in looked, "the few were told before the last of the many"
        rows = await hall.sql(
            "SELECT count(*), count(DISTINCT user_id) FROM notifications WHERE actor_id = $1", many.id
        )
        assert tuple(rows[0]) == (100, 100)


async def test_followers_hear_nothing_more_of_who_was_shut_out_or_of_what_was_taken_away(hall: Hall) -> None:
    """The courier takes a while with many followers; moderators may be quicker."""
    banned, gone, seller, fan = await hall.people(4)
    ear = await hall.connect(fan)
    for who in (banned, gone, seller):
        await hall.sql("INSERT INTO follows (follower_id, followed_id) VALUES ($1, $2)", fan.id, who.id)
    rows = await hall.sql(
        """INSERT INTO listings (owner_id, title, description, category_id, state, price_cents, status)
           SELECT $1, s, '', 1, 'good', 5000, s FROM unnest(ARRAY['removed', 'open']) AS s RETURNING id""",
        seller.id,
    )
    await hall.sql("UPDATE users SET banned_until = 'infinity' WHERE id = $1", banned.id)
    await hall.sql("UPDATE users SET is_active = false WHERE id = $1", gone.id)
    with trio.fail_after(BOUND):
        await hall.cause(
            *(
                Event("listing", who.id, who.id, f"listing:x{who.id}", {"title": "x"}, "followers")
                for who in (banned, gone)
            ),
            *(
                Event(
                    "listing", seller.id, seller.id, f"listing:{row[0]}", {"listing_id": row[0]}, "followers"
                )
                for row in rows
            ),
        )
        assert (await ear.expect("notification"))["listing_id"] == rows[1][0]
        await hall.nothing_else(ear)
        rows = await hall.sql(
            "SELECT count(*) FROM notifications WHERE user_id = $1 AND kind = 'listing'", fan.id
        )
        assert rows[0][0] == 1


def test_the_book_gives_those_that_wait_longest_and_no_more() -> None:
    book = Book()
    for id in range(10):
        book.add(id % 3, id)
    some = book.some(4)
    assert sorted(some) == [(0, 0), (0, 3), (0, 6), (0, 9)]
    book.marked(some)
    assert len(book) == 6 and book.pending(0) == frozenset()
    assert len(book.some(100)) == 6


async def test_what_was_taken_away_or_is_of_somebody_blocked_since_is_repeated_to_nobody(hall: Hall) -> None:
    """In the list what moderators removed loses its title; no mail speaks of whom one blocked or muted meanwhile."""
    me, seller, muted, blocked, blocker = await hall.people(5)
    await hall.sql("UPDATE users SET is_verified = true WHERE id = $1", me.id)
    rows = await hall.sql(
        """INSERT INTO listings (owner_id, title, description, category_id, state, price_cents)
           SELECT $1, 'Drums', '', 1, 'good', 5000 FROM generate_series(1, 2) RETURNING id""",
        seller.id,
    )
    ear = await hall.connect(me)
    with trio.fail_after(BOUND):
        about = [{"listing_id": row[0], "title": f"Drums {row[0]}"} for row in rows]
        await hall.cause(
            *(event(seller, me, "listing", data=each) for each in about),
            *(event(who, me, "offer", data={"title": "x"}) for who in (seller, muted, blocked, blocker)),
        )
        await hall.until_unread(ear, 6)
        await hall.sql("UPDATE listings SET status = 'removed' WHERE id = $1", rows[0][0])
        await hall.sql("UPDATE listings SET status = 'sold' WHERE id = $1", rows[1][0])
        listed = (await hall.api.get("/notifications?kind=listing", token=me.token)).data["notifications"]
        titles = {each["listing_id"]: each.get("title") for each in listed}
        assert titles == {rows[0][0]: None, rows[1][0]: about[1]["title"]}
        await hall.mute(me, muted)
        await hall.block(me, blocked)
        await hall.block(blocker, me)
        await hall.sql(
            "UPDATE notifications SET created_at = now() - interval '1 hour' WHERE user_id = $1", me.id
        )
        chosen, _ = await hall.house.db.write(digests.choose, me.id - 1, 86_400.0)
        mails = [each for each in chosen if each.user_id == me.id]
        assert [(each.count, [n.user_id for n in each.notifications]) for each in mails] == [(1, [seller.id])]
