"""Listings: who may do what with them, what lists show, what is refused."""

from __future__ import annotations

from tests.market.conftest import Market, refused
from veza.db import listings as listings_db


async def test_a_listing_from_its_making_to_its_end(market: Market) -> None:
    ann, bob = await market.people(2)
    await market.told()
    made = await market.listing(
        ann,
        title="  Jazz bass  ",
        description="A lovely one.\nFretless.",
        exchange_for=" An amp ",
        location="Lyon",
    )
    assert made["owner"] == {"id": ann.id, "username": ann.username, "avatar": None}
    assert (made["title"], made["category"], made["category_name"]) == ("Jazz bass", "basses", "Basses")
    assert (made["price_cents"], made["currency"], made["exchange_for"]) == (50_000, "EUR", "An amp")
    assert (made["status"], made["images"], made["favorite_count"], made["sold_at"]) == ("open", [], 0, None)
    (event,) = await market.told()
    assert (event["kind"], event["audience"], event["target_id"]) == ("listing", "followers", ann.id)
    assert event["data"] == {"listing_id": made["id"], "title": "Jazz bass"}
    at = f"/listings/{made['id']}"
    assert (await market.api.get(at)).data == made

    amps = await market.sql("SELECT id FROM categories WHERE slug = 'amps'")
    assert (await market.api.put(at, {"description": None}, token=ann.token)).data["description"] == ""
    change = {"title": "Bass", "category": amps, "price_cents": None, "location": None, "nonsense": 1}
    changed = (await market.api.put(at, change, token=ann.token)).data
    assert (changed["title"], changed["category"]) == ("Bass", "amps")
    assert (changed["price_cents"], changed["location"], changed["exchange_for"]) == (None, None, "An amp")
    answer = await market.api.put(at, {"exchange_for": None}, token=ann.token)
    refused(answer, 400, "VALIDATION_ERROR")
    refused(await market.api.put(at, {"category": "cats"}, token=ann.token), 404, "CATEGORY_NOT_FOUND")
    for method, body in (("PUT", {"title": "Mine"}), ("DELETE", None)):
        refused(await market.api.request(method, at, body, token=bob.token), 403, "FORBIDDEN")
        refused(
            await market.api.request(method, "/listings/0", body, token=bob.token), 404, "LISTING_NOT_FOUND"
        )
        refused(await market.api.request(method, at, body), 401, "AUTH_REQUIRED")
    assert (await market.api.put(at, {"status": "closed"}, token=ann.token)).data["status"] == "closed"
    assert (await market.api.put(at, {"status": "open"}, token=ann.token)).data["status"] == "open"
    refused(await market.api.put(at, {"status": "sold"}, token=ann.token), 400, "VALIDATION_ERROR")

    offer = await market.offer(bob, made["id"])
    await market.told()
    assert (await market.api.delete(at, token=ann.token)).status == 200
    (event,) = await market.told()
    assert event["target_id"] == bob.id
    assert (event["data"]["step"], event["data"]["reason"]) == ("rejected", "closed")
    refused(await market.api.get(at), 404, "LISTING_NOT_FOUND")
    refused(await market.api.get(at, token=ann.token), 404, "LISTING_NOT_FOUND")
    refused(await market.api.delete(at, token=ann.token), 404, "LISTING_NOT_FOUND")
    told_of = (await market.api.get(f"/offers/{offer['id']}", token=bob.token)).data
    assert (told_of["status"], told_of["listing"]["status"]) == ("rejected", "removed")


async def test_what_no_listing_can_be(market: Market) -> None:
    ann = await market.person()
    good = {"title": "Bass", "category": "basses", "state": "good", "price_cents": 1}
    wrong = {
        "title": ["", "ab", "a" * 101, "two\nlines", 7, None, "nul\x00", "\u200b\u3164 \u2060"],
        "description": ["a" * 5001, "bell\x07", 7, []],
        "category": [None, True, 1.5, [], 0, -1],
        "state": ["old", "", None, 1],
        "price_cents": [-1, 1.5, 1.0, "5", True, 10**10 + 1, 10**30, [], {}],
        "currency": ["eur", "EURO", "XXX", "XAU", "ZZZ", "", 978],
        "exchange_for": ["a" * 501, 7, "bell\x07"],
        "location": ["a" * 101, "two\nlines", 7],
    }
    for field, values in wrong.items():
        for value in values:
            answer = await market.api.post("/listings", {**good, field: value}, token=ann.token)
            refused(answer, 400, "VALIDATION_ERROR")
            assert set(answer.details) == {field}, (field, value, answer.details)
    nothing = {**good, "price_cents": None, "exchange_for": "  "}
    assert set((await market.api.post("/listings", nothing, token=ann.token)).details) == {"price_cents"}
    assert set((await market.api.post("/listings", {}, token=ann.token)).details) == {
        "title",
        "category",
        "state",
    }
    refused(
        await market.api.post("/listings", {**good, "category": 10**9}, token=ann.token),
        404,
        "CATEGORY_NOT_FOUND",
    )
    assert await market.sql("SELECT count(*) FROM listings WHERE owner_id = $1", ann.id) == 0
    bare = {**good, "description": None, "currency": None, "exchange_for": None, "location": None}
    made = (await market.api.post("/listings", bare, token=ann.token)).data
    assert (made["description"], made["currency"], made["location"]) == ("", "EUR", None)


async def test_lists_show_what_is_asked_for(market: Market) -> None:
    ann, bob = await market.people(2)
    ids = []
    for number, (title, category, state, price, currency) in enumerate(
        [
            ("Red rocket bass", "basses", "good", 30_000, "EUR"),
            ("Blue rocket amp", "amps", "new", 10_000, "USD"),
            ("Green rocket", "other", "poor", None, "EUR"),
            ("100% rocket_pedal", "effects", "fair", 20_000, "EUR"),
        ]
    ):
        fields = {"price_cents": price, "currency": currency, "exchange_for": "anything"}
        fields["description"] = "It crackled only once." if title.startswith("Blue") else ""
        made = await market.listing(ann, title=title, category=category, state=state, **fields)
        ids.append(made["id"])
        assert number < 3 or made["id"] == ids[-1]
    for marked in (ids[2], ids[1], ids[2]):
        await market.api.put(f"/listings/{marked}/favorite", token=bob.token)
    red, blue, green, pedal = ids

    async def found(query: str) -> list[int]:
        answer = await market.api.get(f"/listings?user_id={ann.id}&{query}")
        assert answer.status == 200, answer.raw
        assert answer.json["meta"]["total"] >= len(answer.data["listings"])
        return [each["id"] for each in answer.data["listings"]]

    assert await found("") == [pedal, green, blue, red]
    assert await found("sort=oldest&limit=3") == [red, blue, green]
    assert await found("sort=oldest&limit=3&page=2") == [pedal]
    assert await found("sort=price_asc") == [blue, pedal, red, green]
    assert await found("sort=price_desc") == [red, pedal, blue, green]
    assert (await found("sort=popular"))[:2] == [green, blue]
    assert await found("search=ROCKET%20red") == [red]
    assert await found("search=100%25%20rocket_") == [pedal]
    assert await found("search=roc%20bl") == [blue]  # beginnings, in titles
    assert await found("search=rockets") == [pedal, green, blue, red]
    assert await found("search=r%C3%B6cket%20-green%20-pedal&sort=price_asc") == [blue, red]
    assert await found("search=%25") == [] and await found("search=%22%27%5C%20%26%21%3A%2A") == []
    assert await found("search=crackles") == [blue]  # in its description
    assert await found("search=re") == [red]
    assert await found("category=amps") == [blue] and await found("category=cats") == []
    assert await found("state=poor") == [green]
    assert await found("min_price=10000&max_price=20000") == [pedal, blue]
    assert await found("min_price=10000&max_price=20000&currency=EUR") == [pedal]
    everybody = await market.api.get("/listings?search=rocket_pedal")
    assert [each["id"] for each in everybody.data["listings"]] == [pedal]

    await market.api.put(f"/listings/{red}", {"status": "closed"}, token=ann.token)
    await market.api.delete(f"/listings/{blue}", token=ann.token)
    assert await found("") == [pedal, green] and await found("status=closed") == [red]
    assert await found("status=all") == [pedal, green, red] and await found("status=sold") == []
    for query in (
        "status=removed",
        "status=all",
        "min_price=-1",
        "max_price=1.5",
        "sort=x",
        "limit=0",
        "page=9999",
    ):
        refused(await market.api.get(f"/listings?{query}"), 400, "VALIDATION_ERROR")

    for out in ("is_active = false", "banned_until = 'infinity'", "is_active = false, deleted_at = now()"):
        await market.sql(f"UPDATE users SET {out} WHERE id = $1", ann.id)
        assert await found("") == []
        refused(await market.api.get(f"/listings/{pedal}"), 404, "LISTING_NOT_FOUND")
        refused(
            await market.api.put(f"/listings/{pedal}/favorite", token=bob.token), 404, "LISTING_NOT_FOUND"
        )
        marked = await market.api.get("/users/me/favorites", token=bob.token)
        assert marked.data["listings"] == []
        await market.sql(
            "UPDATE users SET is_active = true, banned_until = NULL, deleted_at = NULL WHERE id = $1", ann.id
        )
    await market.sql("UPDATE users SET banned_until = now() - interval '1 s' WHERE id = $1", ann.id)
    assert await found("") == [pedal, green]


async def test_favourites(market: Market) -> None:
    ann, bob, carl = await market.people(3)
    ids = [(await market.listing(ann))["id"] for _ in range(5)]
    for each in ids:
        answer = await market.api.put(f"/listings/{each}/favorite", token=bob.token)
        assert answer.data == {"is_favorite": True, "favorite_count": 1}
    first = f"/listings/{ids[0]}"
    again = await market.api.put(f"{first}/favorite", token=bob.token)
    assert again.data == {"is_favorite": True, "favorite_count": 1}
    await market.api.put(f"{first}/favorite", token=carl.token)
    for who, mine in ((bob, True), (ann, False)):
        seen = (await market.api.get(first, token=who.token)).data
        assert (seen["favorite_count"], seen["is_favorite"]) == (2, mine)
    marked = await market.all_pages("/users/me/favorites", "listings", token=bob.token)
    assert [each["id"] for each in marked] == ids[::-1] and all(each["is_favorite"] for each in marked)
    for _ in range(2):
        answer = await market.api.delete(f"{first}/favorite", token=bob.token)
        assert answer.data == {"is_favorite": False, "favorite_count": 1}
    refused(await market.api.put("/listings/0/favorite", token=bob.token), 404, "LISTING_NOT_FOUND")
    refused(await market.api.put(f"{first}/favorite"), 401, "AUTH_REQUIRED")
    assert len((await market.api.get("/users/me/favorites", token=bob.token)).data["listings"]) == 4


async def test_nobody_has_more_open_listings_than_he_may(market: Market) -> None:
    ann = await market.person()
    new = listings_db.NewListing("Bass", "", "basses", "good", 1, "EUR", None, None)
    one = await market.api.services.db.write(listings_db.create, ann.id, new, 1)
    assert isinstance(one, listings_db.Listing)
    write = market.api.services.db.write
    assert await write(listings_db.create, ann.id, new, 1) == "full"
    closed = listings_db.ListingChange(frozenset({"status"}), status="closed")
    await write(listings_db.update, one.id, ann.id, closed, 1)
    assert isinstance(await write(listings_db.create, ann.id, new, 1), listings_db.Listing)
    opened = listings_db.ListingChange(frozenset({"status"}), status="open")
    assert await write(listings_db.update, one.id, ann.id, opened, 1) == "full"
    assert isinstance(await write(listings_db.update, one.id, ann.id, opened, 2), listings_db.Listing)


async def test_categories_count_what_is_open(market: Market) -> None:
    ann = await market.person()

    async def count() -> int:
        listed = (await market.api.get("/categories")).data["categories"]
        assert [each["position"] for each in listed] == sorted(each["position"] for each in listed)
        return int(next(each["count"] for each in listed if each["slug"] == "scores"))

    before = await count()
    made = await market.listing(ann, category="scores")
    assert await count() == before + 1
    await market.api.put(f"/listings/{made['id']}", {"status": "closed"}, token=ann.token)
    assert await count() == before
