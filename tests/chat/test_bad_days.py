"""Bad days of one person: what he sends goes wrong, and nobody else hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from tests.chat.books import Tap, heard, stored, with_the_ledger
from tests.chat.client import fence
from tests.chat.conftest import House
from veza.db.ledger import Post, append


@pytest.fixture
def database_url(postgres: Any) -> Iterator[str]:
    """A database of its own for each of these tests: they change what it accepts."""
    url = postgres.create()
    yield url
    postgres.drop(url)


async def test_a_post_the_database_refuses_concerns_its_sender_only(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trio.fail_after(120):
        await house.sql("ALTER TABLE messages ADD CONSTRAINT no_curse CHECK (content NOT LIKE '%cursed%')")
        good, bad = await house.people(2)
        room, elsewhere = await house.room(good, bad), await house.room(good, bad)
        one = await house.enter(good, room.id, elsewhere.id)
        other = await house.enter(bad, room.id)
        tap = Tap(house, monkeypatch)
        texts = [f"text {i}" for i in range(40)]
        for text in texts[:20]:
            await one.send("room_message", room=room.id, content=text, ref=text)
        await with_the_ledger(house, room.id, one)
        await other.send("room_message", room=room.id, content="cursed be you", ref="curse")
        await with_the_ledger(house, room.id, other)
        for text in texts[20:]:
            await one.send("room_message", room=room.id, content=text, ref=text)
        await one.send("room_message", room=elsewhere.id, content="far away", ref="far away")
        await with_the_ledger(house, room.id, one)
        await with_the_ledger(house, elsewhere.id, one)
        tap.open()
        error = await other.error("INVALID_FORMAT", ref="curse")
        for i, text in enumerate(texts, 1):
            assert (await one.expect("message_ack", ref=text))["seq"] == i
        assert (await one.expect("message_ack", ref="far away"))["seq"] == 1
        await fence(one, room.id, other)
        assert max(map(len, tap.batches)) > 20  # it did stand in the middle of others
        assert "cursed" not in error.raw
        assert not one.seen("error")
        assert len(other.seen("error")) == 1
        expected = list(enumerate(texts, 1))
        assert (await stored(house, room.id))[:40] == expected
        assert heard(one, room.id)[:40] == heard(other, room.id)[:40] == expected


async def test_what_another_writer_stored_is_delivered_in_its_place(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else appends to the same room in the same database, before posts that this server has in hand."""
    with trio.fail_after(120):
        people = await house.people(3)
        room = await house.room(*people)
        one, other = [await house.enter(person, room.id) for person in people[:2]]
        await one.say(room.id, "first")
        tap = Tap(house, monkeypatch)
        for text in ("mine", "mine too"):
            await one.send("room_message", room=room.id, content=text, ref=text, nonce=text)
        await with_the_ledger(house, room.id, one)
        theirs = [Post(room.id, people[2].id, f"theirs {i}", f"theirs {i}") for i in range(5)]
        # The other writer has even stored one of ours: this server sent it before, and never heard of it.
        theirs.append(Post(room.id, people[0].id, "mine too", "mine too"))
        await house.db.write(append, theirs)
        tap.open()
        assert (await one.expect("message_ack", ref="mine"))["seq"] == 8
        assert (await one.expect("message_ack", ref="mine too"))["seq"] == 7
        await fence(one, room.id, other)
        everything = await stored(house, room.id)
        assert [text for _, text in everything[:8]] == [
            *("first", "theirs 0", "theirs 1", "theirs 2", "theirs 3", "theirs 4", "mine too", "mine")
        ]
        assert heard(one, room.id) == heard(other, room.id) == everything
