"""What people try once a deal is made, or a person is gone: none of it goes through, and nobody is flooded."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio

from tests.market.conftest import Market, refused
from veza.actors import listing_images
from veza.db import listings, offers
from veza.db.listing_images import Image
from veza.media.images import Picture


async def test_images_of_what_is_sold_stay_as_they_were(market: Market) -> None:
    ann, bob = await market.people(2)
    bass = (await market.listing(ann))["id"]
    await market.sql(
        """INSERT INTO listing_images (listing_id, n, position, hash, width, height)
           SELECT $1, n, n, md5(n::text)::char(20), 1, 1 FROM generate_series(1, 2) n RETURNING 1""",
        bass,
    )
    await market.step("accept", (await market.offer(bob, bass))["id"], ann)
    path = f"/listings/{bass}/images"
    refused(await market.api.delete(f"{path}/1", token=ann.token), 409, "LISTING_NOT_OPEN")
    refused(
        await market.api.put(f"{path}/order", {"order": [2, 1]}, token=ann.token), 409, "LISTING_NOT_OPEN"
    )
    refused(await market.api.delete(f"{path}/1", token=bob.token), 403, "FORBIDDEN")
    shown = (await market.api.get(f"/listings/{bass}")).data["images"]
    assert [image["n"] for image in shown] == [1, 2]


@pytest.mark.parametrize("out", ["is_active = false", "banned_until = 'infinity'"])
async def test_nobody_makes_a_deal_with_who_was_shut_out(market: Market, out: str) -> None:
    ann, bob = await market.people(2)
    things = [(await market.listing(ann))["id"] for _ in range(2)]
    amp = (await market.listing(bob))["id"]
    barter = (await market.offer(bob, things[0], proposed_listing_id=amp))["id"]
    paid = (await market.offer(bob, things[1]))["id"]
    countered = (await market.offer(ann, amp))["id"]
    assert (await market.step("counter", countered, bob, {"amount_cents": 5})).status == 200
    await market.sql(f"UPDATE users SET {out} WHERE id = $1 RETURNING 1", bob.id)
    await market.told()
    for offer in (barter, paid, countered):
        refused(await market.step("accept", offer, ann), 409, "OFFER_NOT_OPEN")
    refused(await market.step("counter", paid, ann, {"amount_cents": 7}), 409, "OFFER_NOT_OPEN")
    assert await market.told() == []
    assert [await market.status("listings", id) for id in (*things, amp)] == ["open"] * 3
    # To say no is always possible; and once he is back, so is the rest.
    assert (await market.step("reject", barter, ann)).status == 200
    await market.sql(
        "UPDATE users SET is_active = true, banned_until = NULL WHERE id = $1 RETURNING 1", bob.id
    )
    assert (await market.step("accept", paid, ann)).status == 200


async def test_nobody_is_flooded_with_offers_and_listings(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is taken back counts as well: each was told to somebody."""
    monkeypatch.setattr(offers, "A_DAY", 3)
    monkeypatch.setattr(listings, "A_DAY", 3)
    ann, bob = await market.people(2)
    bass = (await market.listing(ann))["id"]
    made: Any = None
    for _ in range(3):
        made = (await market.offer(bob, bass))["id"]
        assert (await market.step("withdraw", made, bob)).status == 200
    await market.told()
    answer = await market.api.post(f"/listings/{bass}/offers", {"amount_cents": 5}, token=bob.token)
    refused(answer, 409, "TOO_MANY_OFFERS")
    assert await market.told() == []
    await market.sql(
        "UPDATE offers SET created_at = now() - interval '25 hours' WHERE buyer_id = $1 RETURNING 1", bob.id
    )
    assert await market.offer(bob, bass)

    for _ in range(2):
        another = (await market.listing(ann))["id"]
        assert (await market.api.delete(f"/listings/{another}", token=ann.token)).status == 200
    await market.told()
    body = {"title": "One more", "category": "basses", "state": "good", "price_cents": 5}
    refused(await market.api.post("/listings", body, token=ann.token), 409, "TOO_MANY_LISTINGS")
    assert await market.told() == []
    # One that is there is opened again all the same.
    for status in ("closed", "open"):
        assert (await market.api.put(f"/listings/{bass}", {"status": status}, token=ann.token)).status == 200


async def test_pictures_of_who_was_shut_out_are_not_sent(market: Market) -> None:
    ann, bob = await market.people(2)
    bass = (await market.listing(ann))["id"]
    services = market.api.services
    picture = Picture("0" * 20, 1, 1, {1280: b"large", 320: b"small"})
    added = await listing_images.add(services.db, services.listing_images, bass, ann.id, picture)
    assert isinstance(added, Image)
    path = added.thumb_url.removeprefix("/api/v1")
    assert (await market.api.get(path)).raw == b"small"
    offer = (await market.offer(bob, bass))["id"]
    await market.sql("UPDATE users SET banned_until = 'infinity' WHERE id = $1 RETURNING 1", ann.id)
    refused(await market.api.get(path), 404, "IMAGE_NOT_FOUND")
    refused(await market.api.get(f"/listings/{bass}"), 404, "LISTING_NOT_FOUND")
    refused(await market.api.put(f"/listings/{bass}/favorite", token=bob.token), 404, "LISTING_NOT_FOUND")
    assert await market.sql("SELECT count(*) FROM listing_favorites WHERE listing_id = $1", bass) == 0
    assert (await market.api.get(f"/offers/{offer}", token=bob.token)).status == 200


async def test_the_first_look_counts_and_only_the_sellers(market: Market) -> None:
    ann, bob = await market.people(2)
    offer = (await market.offer(bob, (await market.listing(ann))["id"]))["id"]
    look = "SELECT viewed_at FROM offers WHERE id = $1"
    for person in (bob, await market.person()):
        await market.db.write(offers.viewed, offer, person.id)
    assert await market.sql(look, offer) is None
    await market.db.write(offers.viewed, offer, ann.id)
    first = await market.sql(look, offer)
    await market.db.write(offers.viewed, offer, ann.id)  # another of her windows, at the same moment
    assert first is not None and await market.sql(look, offer) == first


async def test_of_many_at_once_no_more_are_made_than_one_may_have(market: Market) -> None:
    ann, bob = await market.people(2)
    things = [(await market.listing(ann))["id"] for _ in range(10)]
    made: Counter[str] = Counter()

    async def note(write: Any, *args: Any) -> None:
        result = await market.db.write(write, *args)
        made[result if isinstance(result, str) else write.__module__] += 1

    async with trio.open_nursery() as nursery:
        for thing in things:
            nursery.start_soon(note, offers.create, thing, bob.id, offers.NewOffer(5, None, None, 1), 1)
            new = listings.NewListing("Bass", "", "basses", "good", 1, "EUR", None, None)
            nursery.start_soon(note, listings.create, bob.id, new, 1)
    assert made == {"veza.db.offers": 1, "veza.db.listings": 1, "full": 18}
    # What is open already is not one more.
    mine = await market.sql("SELECT id FROM listings WHERE owner_id = $1", bob.id)
    change = listings.ListingChange(frozenset({"status"}), status="open")
    assert isinstance(await market.db.write(listings.update, mine, bob.id, change, 1), listings.Listing)
