"""From the outbox to the sockets: everybody whom it concerns, on every connection, once and in order."""

from __future__ import annotations

from tests.notifications.conftest import Hall, event
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
    assert await hall.sql("SELECT FROM outbox WHERE actor_id = $1", buyer.id) == []
    found = await hall.sql("SELECT FROM messages WHERE user_id = $1 AND message_type = 'offer'", buyer.id)
    assert len(found) == 1
