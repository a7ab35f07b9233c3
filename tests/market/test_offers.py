"""Offers: what becomes of them, who may do what, and what the other side is told."""

from __future__ import annotations

from tests.market.conftest import Market, refused


async def test_an_offer_from_its_making_to_the_deal(market: Market) -> None:
    ann, bob, carl = await market.people(3)
    bass = await market.listing(ann, title="Jazz bass")
    amp = await market.listing(bob, title="Old amp")
    await market.told()
    offer = await market.offer(
        bob, bass["id"], amount_cents=45_000, proposed_listing_id=amp["id"], message="Is it still there?"
    )
    assert (offer["status"], offer["currency"], offer["counter"]) == ("pending", "EUR", None)
    assert offer["listing"]["title"] == "Jazz bass" and offer["proposed_listing"]["id"] == amp["id"]
    assert (offer["buyer"]["id"], offer["seller"]["id"]) == (bob.id, ann.id)
    card, event = await market.told()
    assert (card["kind"], card["key"]) == ("card", f"offer-{offer['id']}-received")
    assert (card["actor_id"], card["target_id"]) == (bob.id, ann.id)
    assert card["data"] == {
        "content": 'Offer for "Jazz bass": 450.00 EUR and "Old amp" in exchange. Is it still there?',
        "media_url": f"/api/v1/offers/{offer['id']}",
    }
    assert (event["kind"], event["key"]) == ("offer", f"offer:{offer['id']}:received")
    assert (event["actor_id"], event["target_id"]) == (bob.id, ann.id)
    assert event["data"] == {
        "offer_id": offer["id"], "listing_id": bass["id"], "title": "Jazz bass", "step": "received"
    }  # fmt: skip
    at = f"/offers/{offer['id']}"
    assert (await market.api.get(at, token=bob.token)).data["viewed_at"] is None
    seen = (await market.api.get(at, token=ann.token)).data["viewed_at"]
    assert seen and (await market.api.get(at, token=ann.token)).data["viewed_at"] == seen
    refused(await market.api.get(at, token=carl.token), 404, "OFFER_NOT_FOUND")
    accepted = await market.step("accept", offer["id"], ann)
    assert accepted.data["status"] == "accepted" and accepted.data["decided_at"]
    assert [await market.status("listings", each["id"]) for each in (bass, amp)] == ["sold", "sold"]
    card, event = await market.told()
    assert card["data"]["content"] == 'Offer for "Jazz bass" accepted: 450.00 EUR and "Old amp" in exchange.'
    assert (event["data"]["step"], event["target_id"]) == ("accepted", bob.id)
