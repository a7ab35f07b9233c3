"""From the outbox to the sockets: everybody whom it concerns, on every connection, once and in order."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
import trio

from tests.api.conftest import Api
from tests.chat.client import Client, eventually
from tests.chat.conftest import Build
from tests.notifications.conftest import Hall, event
from veza.actors.kernel import NoSuchActor
from veza.db import rooms as rooms_db
from veza.db.outbox import Event


async def test_a_cause_reaches_every_connection_once(hall: Hall) -> None:
    me, you = await hall.people(2)
    phone, tab = await hall.connect(me), await hall.connect(me)
    assert phone.welcome["unread_notifications"] == 0
    await hall.cause(
        event(you, me, "like", key="like:1:2", data={"track_id": 1, "title": "A song"}),
        event(you, me, "like", key="like:1:2", data={"track_id": 1, "title": "A song"}),
        event(you, me, key="follow:x"),
    )
    seen = []
    for client in (phone, tab):
        liked, followed = await client.expect("notification"), await client.expect("notification")
        assert liked.data == {
            "id": liked["id"],
            "kind": "like",
            "created_at": liked["created_at"],
            "user_id": you.id,
            "username": you.name,
            "avatar": None,
            "track_id": 1,
            "title": "A song",
            "unread": liked["unread"],
        }
        assert (followed["kind"], followed["unread"]) == ("follow", 2)
        assert liked["id"] < followed["id"] and liked["unread"] in (1, 2), "as many as are stored by then"
        seen.append((liked["id"], followed["id"]))
    assert seen[0] == seen[1]
    late = await hall.connect(me)
    assert late.welcome["unread_notifications"] == 2
    await hall.cause(event(you, me, "repost", data={"track_id": 1}))
    for client in (phone, tab, late):
        assert (await client.expect("notification"))["kind"] == "repost", "nobody hears again what was told"


async def test_a_card_is_said_in_the_private_conversation_once(hall: Hall) -> None:
    seller, buyer = await hall.people(2)
    client, other = await hall.connect(seller), await hall.connect(buyer)
    card = Event(
        "card",
        seller.id,
        buyer.id,
        "offer-7-received",
        {"content": "An offer: 80 EUR", "media_url": "/offers/7"},
    )
    await hall.cause(
        card, event(buyer, seller, "offer", key="offer:7:received", data={"offer_id": 7, "step": "received"})
    )
    letter = await client.expect("direct_message")
    assert (letter["content"], letter["message_type"], letter["media_url"]) == (
        "An offer: 80 EUR",
        "offer",
        "/offers/7",
    )
    assert (letter["from_user_id"], letter["to_user_id"]) == (buyer.id, seller.id)
    assert (await client.expect("notification"))["offer_id"] == 7
    await other.expect("direct_message", id=letter["id"])
    await hall.cause(card, event(buyer, seller, "offer", key="offer:7:withdrawn", data={"step": "withdrawn"}))
    assert (await client.expect("notification"))["step"] == "withdrawn"
    await hall.until_none("outbox", buyer)
    found = await hall.sql("SELECT FROM messages WHERE user_id = $1 AND message_type = 'offer'", buyer.id)
    assert len(found) == 1


async def test_what_comes_while_a_socket_is_being_welcomed_is_told(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when the socket's welcome was read, and nobody could be told yet when it was stored."""
    read, go = threading.Event(), threading.Event()
    arrivals = rooms_db.arrivals

    async def slow(conn: Any, user_ids: Any) -> Any:
        found = await arrivals(conn, user_ids)
        read.set()
        while not go.is_set():  # noqa: ASYNC110 - another loop's
            await asyncio.sleep(0.001)
        return found

    monkeypatch.setattr(rooms_db, "arrivals", slow)
    async with build() as house, trio.open_nursery() as nursery:
        hall = Hall(house, Api(None, house.app.services))
        me, you = await hall.people(2)
        comes: list[Client] = []

        async def come() -> None:
            comes.append(await hall.connect(me))

        nursery.start_soon(come)
        await eventually(read.is_set)
        await hall.cause(event(you, me, "like"))
        await hall.until_none("outbox", you)
        go.set()
        await eventually(lambda: bool(comes))
        assert comes[0].welcome["unread_notifications"] == 0
        assert (await comes[0].expect("notification"))["kind"] == "like"
        await hall.nothing_else(*comes)


async def test_a_notifier_ends_with_its_person_and_begins_anew(hall: Hall) -> None:
    me, you = await hall.people(2)
    system = hall.house.app.core.system

    def runs() -> bool:
        try:
            return system.inspect(f"notices/{me.id}") is not None
        except NoSuchActor:
            return False

    for number in range(3):
        client = await hall.connect(me)
        assert client.welcome["unread_notifications"] == number
        assert not runs(), "who is told nothing needs none"
        await hall.cause(event(you, me, "like"))
        assert (await client.expect("notification"))["unread"] == number + 1
        assert runs()
        await trio.aclose_forcefully(client.stream)
        await eventually(lambda: not runs())
        await hall.until_none("notifications", you, "AND told_at IS NULL")
