"""Offers: what becomes of them, who may do what, and what the other side is told."""

from __future__ import annotations

from typing import Any

import trio

from tests.market.conftest import Market, Person, refused
from veza.db import offers


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


def steps(told: list[dict[str, Any]]) -> list[tuple[int, str, int | None]]:
    """Who hears of which step, of whom; cards are counted too, as their first word."""
    return [
        (
            e["target_id"],
            e["data"]["step"] if e["kind"] == "offer" else e["data"]["content"].split()[0],
            e["actor_id"],
        )
        for e in told
    ]


async def test_a_counter_offer_is_the_buyers_to_decide(market: Market) -> None:
    ann, bob = await market.people(2)
    bass = (await market.listing(ann, title="Jazz bass", currency="JPY", price_cents=90_000))["id"]
    amp = (await market.listing(bob, title="Old amp"))["id"]
    offer = (await market.offer(bob, bass, amount_cents=45_000))["id"]
    refused(await market.step("counter", offer, bob, {"amount_cents": 1}), 403, "FORBIDDEN")
    await market.told()
    terms = {"amount_cents": 60_000, "proposed_product_id": amp, "message": "And the amp."}
    countered = (await market.step("counter", offer, ann, terms)).data
    assert countered["status"] == "countered" and countered["amount_cents"] == 45_000
    assert (countered["counter"]["amount_cents"], countered["counter"]["message"]) == (60_000, "And the amp.")
    assert countered["counter"]["proposed_listing"]["id"] == amp and countered["viewed_at"]
    told = await market.told()
    assert told[0]["data"]["content"] == (
        'Counter-offer for "Jazz bass": 60000 JPY and "Old amp" in exchange. And the amp.'
    )
    assert steps(told) == [(bob.id, "Counter-offer", ann.id), (bob.id, "countered", ann.id)]
    refused(await market.step("accept", offer, ann), 403, "FORBIDDEN")
    refused(await market.step("counter", offer, ann, terms), 409, "OFFER_NOT_OPEN")
    accepted = (await market.step("accept", offer, bob)).data
    assert accepted["status"] == "accepted"
    assert steps(await market.told()) == [(ann.id, "Offer", bob.id), (ann.id, "accepted", bob.id)]
    assert [await market.status("listings", each) for each in (bass, amp)] == ["sold", "sold"]
    for step, by in (("accept", ann), ("accept", bob), ("reject", ann), ("withdraw", bob), ("counter", ann)):
        refused(await market.step(step, offer, by, terms), 409, "OFFER_NOT_OPEN")


async def test_saying_no(market: Market) -> None:
    ann, bob, carl = await market.people(3)
    bass = (await market.listing(ann))["id"]
    await market.told()
    for step, by, other in (("reject", ann, bob), ("withdraw", bob, ann)):
        for counter in (False, True):
            offer = (await market.offer(bob, bass))["id"]
            if counter:
                assert (await market.step("counter", offer, ann, {"amount_cents": 7})).status == 200
            elif step == "reject":
                refused(await market.step("reject", offer, bob), 403, "FORBIDDEN")
            else:
                refused(await market.step("withdraw", offer, ann), 403, "FORBIDDEN")
            refused(await market.step(step, offer, carl), 404, "OFFER_NOT_FOUND")
            refused(await market.step(step, 0, by), 404, "OFFER_NOT_FOUND")
            await market.told()
            done = (await market.step(step, offer, by)).data
            assert (
                done["status"] == {"reject": "rejected", "withdraw": "withdrawn"}[step] and done["decided_at"]
            )
            assert steps(await market.told()) == [(other.id, done["status"], by.id)]
    offer = (await market.offer(bob, bass))["id"]
    await market.step("counter", offer, ann, {"amount_cents": 7})
    assert (await market.step("reject", offer, bob)).data["status"] == "rejected"
    assert await market.status("listings", bass) == "open"


async def test_what_is_no_offer(market: Market) -> None:
    ann, bob, carl = await market.people(3)
    bass = (await market.listing(ann))["id"]
    mine, anothers = (await market.listing(bob))["id"], (await market.listing(carl))["id"]
    at = f"/listings/{bass}/offers"
    wrong = {
        "amount_cents": [0, -1, 1.5, 1.0, "450", True, False, 10**10 + 1, 10**30, [], {}, "NaN"],
        "proposed_listing_id": [0, -1, 1.5, "x", True, 2**63],
        "message": ["a" * 1001, 7, "bell\x07", "nul\x00"],
        "expires_in_hours": [0, 721, 1.5, "8", True],
    }
    for field, values in wrong.items():
        for value in values:
            answer = await market.api.post(at, {"amount_cents": 1, field: value}, token=bob.token)
            refused(answer, 400, "VALIDATION_ERROR")
            assert set(answer.details) == {field}, (field, value, answer.details)
    for raw in (b'{"amount_cents": 1e400}', b'{"amount_cents": NaN}', b'{"amount_cents": 1E3}'):
        answer = await market.api.post(at, raw=raw, token=bob.token)
        assert answer.status == 400, answer.raw
    for body in ({}, {"message": "hello"}, {"amount_cents": None}):
        assert set((await market.api.post(at, body, token=bob.token)).details) == {"amount_cents"}
    both = {"proposed_listing_id": mine, "proposed_product_id": mine + 1}
    assert set((await market.api.post(at, both, token=bob.token)).details) == {"proposed_product_id"}

    good = {"amount_cents": 1}
    refused(await market.api.post(at, good), 401, "AUTH_REQUIRED")
    refused(await market.api.post(at, good, token=ann.token), 403, "OWN_LISTING")
    refused(await market.api.post("/listings/0/offers", good, token=bob.token), 404, "LISTING_NOT_FOUND")
    for other in (anothers, bass, 10**12):
        answer = await market.api.post(at, {"proposed_listing_id": other}, token=bob.token)
        refused(answer, 404, "LISTING_NOT_FOUND")
    await market.api.put(f"/listings/{mine}", {"status": "closed"}, token=bob.token)
    refused(
        await market.api.post(at, {"proposed_listing_id": mine}, token=bob.token), 409, "LISTING_NOT_OPEN"
    )
    offer = (await market.offer(bob, bass))["id"]
    refused(await market.api.post(at, good, token=bob.token), 409, "OFFER_EXISTS")
    counter = await market.step("counter", offer, ann, {"proposed_listing_id": anothers})
    refused(counter, 404, "LISTING_NOT_FOUND")
    for body in ({}, {"amount_cents": 0}, {"amount_cents": 1.5}):
        refused(await market.step("counter", offer, ann, body), 400, "VALIDATION_ERROR")
    await market.api.put(f"/listings/{bass}", {"status": "closed"}, token=ann.token)
    assert await market.status("offers", offer) == "rejected"
    refused(await market.api.post(at, good, token=bob.token), 409, "LISTING_NOT_OPEN")
    assert await market.sql("SELECT count(*) FROM offers WHERE listing_id = $1", bass) == 1


async def test_blocked_people_make_no_deals(market: Market) -> None:
    ann, bob = await market.people(2)
    bass, amp = (await market.listing(ann))["id"], (await market.listing(bob))["id"]
    for blocker, blocked in ((ann, bob), (bob, ann)):
        offer = (await market.offer(bob, bass))["id"]
        countered = (await market.offer(ann, amp))["id"]
        await market.step("counter", countered, bob, {"amount_cents": 9})
        await market.sql(
            "INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)", blocker.id, blocked.id
        )
        refused(await market.step("accept", offer, ann), 403, "BLOCKED")
        refused(await market.step("counter", offer, ann, {"amount_cents": 9}), 403, "BLOCKED")
        refused(await market.step("accept", countered, ann), 403, "BLOCKED")
        assert (await market.step("withdraw", offer, bob)).status == 200
        assert (await market.step("reject", countered, ann)).status == 200
        for buyer, listing in ((bob, bass), (ann, amp)):
            answer = await market.api.post(
                f"/listings/{listing}/offers", {"amount_cents": 1}, token=buyer.token
            )
            refused(answer, 403, "BLOCKED")
        await market.sql("DELETE FROM blocks WHERE blocker_id = $1", blocker.id)


async def test_lists_of_offers(market: Market) -> None:
    ann, bob, carl = await market.people(3)
    bass, amp, drum = [(await market.listing(ann))["id"] for _ in range(3)]
    theirs = (await market.listing(bob))["id"]
    first = (await market.offer(bob, bass))["id"]
    second = (await market.offer(carl, bass, proposed_listing_id=(await market.listing(carl))["id"]))["id"]
    third = (await market.offer(ann, theirs))["id"]
    fourth = (await market.offer(bob, amp))["id"]
    await market.step("withdraw", first, bob)

    async def found(who: Person, query: str = "") -> list[int]:
        answer = await market.api.get(f"/offers?{query}", token=who.token)
        assert answer.json["meta"]["total"] >= len(answer.data["offers"])
        return [offer["id"] for offer in answer.data["offers"]]

    assert await found(ann) == [fourth, third, second, first]
    assert await found(ann, "limit=3&page=2") == [first]
    assert await found(ann, "type=sent") == [third]
    assert await found(ann, "type=received") == [fourth, second, first]
    assert await found(ann, "type=received&status=withdrawn") == [first]
    assert await found(bob, "type=sent&status=pending") == [fourth]
    assert await found(carl) == [second]
    for query in ("type=x", "status=x", "page=0"):
        refused(await market.api.get(f"/offers?{query}", token=ann.token), 400, "VALIDATION_ERROR")
    refused(await market.api.get("/offers"), 401, "AUTH_REQUIRED")

    at = f"/listings/{bass}/offers"
    assert [o["id"] for o in await market.all_pages(at, "offers", token=ann.token, limit=1)] == [
        second,
        first,
    ]
    pending = await market.api.get(f"{at}?status=pending", token=ann.token)
    assert [o["id"] for o in pending.data["offers"]] == [second]
    refused(await market.api.get(at, token=bob.token), 403, "FORBIDDEN")
    refused(await market.api.get("/listings/0/offers", token=bob.token), 404, "LISTING_NOT_FOUND")
    assert (await market.api.get(f"/listings/{drum}/offers", token=ann.token)).data["offers"] == []
    old = await market.api.post(
        f"/offers/listings/{drum}/offers", {"proposed_product_id": theirs}, token=bob.token
    )
    assert old.status == 201 and old.data["proposed_listing"]["id"] == theirs


async def test_what_is_sold_ends_every_offer_that_rests_on_it(market: Market) -> None:
    ann, bob, carl, dora = await market.people(4)
    bass = (await market.listing(ann, title="Bass"))["id"]
    amp = (await market.listing(bob, title="Amp"))["id"]
    horn = (await market.listing(carl, title="Horn"))["id"]
    deal = (await market.offer(bob, bass, proposed_listing_id=amp))["id"]
    on_bass = (await market.offer(carl, bass))["id"]
    on_amp = (await market.offer(dora, amp))["id"]
    with_amp = (await market.offer(bob, horn, proposed_listing_id=amp))["id"]
    # What stands is the counter-offer: it no longer rests on the amp, or only now does.
    without = (await market.offer(bob, (await market.listing(carl))["id"], proposed_listing_id=amp))["id"]
    await market.step("counter", without, carl, {"amount_cents": 5})
    only_now = (await market.offer(bob, (await market.listing(dora))["id"], amount_cents=5))["id"]
    await market.step("counter", only_now, dora, {"proposed_listing_id": amp})
    elsewhere = (await market.offer(dora, horn))["id"]
    await market.told()
    assert (await market.step("accept", deal, ann)).status == 200
    states = {
        o: await market.status("offers", o) for o in (on_bass, on_amp, with_amp, without, only_now, elsewhere)
    }
    assert states == {
        on_bass: "rejected", on_amp: "rejected", with_amp: "rejected", without: "countered", only_now: "rejected",
        elsewhere: "pending",
    }  # fmt: skip
    card, accepted, *rest = await market.told()
    assert (card["kind"], accepted["data"]["step"]) == ("card", "accepted")
    assert {(e["target_id"], e["data"]["offer_id"], e["data"]["step"], e["data"]["reason"]) for e in rest} == {
        (who.id, offer, "rejected", "sold")
        for who, offer in (
            (carl, on_bass), (dora, on_amp), (carl, with_amp), (dora, only_now),
        )
    }  # fmt: skip
    assert len(rest) == 4  # Ann and Bob know what they exchanged
    answer = await market.api.put(f"/listings/{bass}", {"title": "New"}, token=ann.token)
    refused(answer, 409, "LISTING_NOT_OPEN")
    for listing in (bass, amp):
        answer = await market.api.post(f"/listings/{listing}/offers", {"amount_cents": 1}, token=dora.token)
        refused(answer, 409, "LISTING_NOT_OPEN")
    answer = await market.api.post(f"/listings/{horn}/offers", {"proposed_listing_id": amp}, token=bob.token)
    refused(answer, 409, "LISTING_NOT_OPEN")
    counter = await market.step("counter", elsewhere, carl, {"proposed_listing_id": amp})
    refused(counter, 404, "LISTING_NOT_FOUND")


async def test_nobody_has_more_open_offers_than_he_may(market: Market) -> None:
    ann, bob = await market.people(2)
    listings = [(await market.listing(ann))["id"] for _ in range(3)]
    new = offers.NewOffer(5, None, None, 1)
    results: list[Any] = []

    async def offer(listing: int) -> None:
        results.append(await market.db.write(offers.create, listing, bob.id, new, 2))

    async with trio.open_nursery() as nursery:  # counted in turn
        for listing in listings:
            nursery.start_soon(offer, listing)
    assert sorted(r if isinstance(r, str) else "made" for r in results) == ["full", "made", "made"]
    made = next(r for r in results if isinstance(r, offers.Offer))
    assert (await market.step("withdraw", made.id, bob)).status == 200
    left = next(
        id for id in listings if id not in [r.listing.id for r in results if isinstance(r, offers.Offer)]
    )
    await offer(left)
    assert isinstance(results[-1], offers.Offer)
