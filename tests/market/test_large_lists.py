"""The market's lists stay cheap when there is much in it: every one finds its rows by an index, shown by EXPLAIN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from bench.plans import Explaining
from tests.db.plans import filled
from veza.db import categories, listing_lists, listings, offer_closing, offer_lists, offers
from veza.db.keys import Stamp
from veza.db.listing_lists import Sort, Wanted
from veza.db.pool import Database
from veza.db.users import COUNTED

# Person 1 has 300 listings, 2,000 offers for one of them, and made 2,000 himself; a hundred people are not here.
_FILL = """
    INSERT INTO users (username, email, password_hash, is_active)
        SELECT 'person' || n, 'person' || n || '@example.org', 'none', n % 100 > 0 FROM generate_series(1, 10000) n;
    ALTER TABLE listings DISABLE TRIGGER USER;
    INSERT INTO listings (owner_id, title, category_id, state, price_cents, currency, status, favorite_count)
        SELECT CASE WHEN n <= 300 THEN 1 ELSE 1 + n % 10000 END,
            CASE n % 40 WHEN 1 THEN 'Jazz bass' WHEN 2 THEN 'Tube amp' ELSE 'Horn' END || ' ' || left(md5(n::text), 6),
            (SELECT min(id) FROM categories) + n % 16,
            (ARRAY['new', 'like_new', 'good', 'fair', 'poor'])[1 + n % 5],
            n * 7919 % 200000, CASE WHEN n % 10 = 0 THEN 'USD' ELSE 'EUR' END,
            CASE WHEN n % 10 < 7 THEN 'open' WHEN n % 10 < 9 THEN 'sold' ELSE 'closed' END, n * 31 % 97
        FROM generate_series(1, 20000) n;
    ALTER TABLE listings ENABLE TRIGGER USER;
    INSERT INTO listing_images (listing_id, n, position, hash, width, height)
        SELECT id, n, n, left(md5(id::text), 20), 1, 1 FROM listings, generate_series(1, 2) n;
    ALTER TABLE listing_favorites DISABLE TRIGGER USER;
    INSERT INTO listing_favorites (listing_id, user_id)
        SELECT id, u FROM listings, unnest(ARRAY[2 + id % 5000, CASE WHEN id % 20 = 0 THEN 1 END]) AS u
        WHERE u IS NOT NULL;
    ALTER TABLE listing_favorites ENABLE TRIGGER USER;
    INSERT INTO offers
            (listing_id, buyer_id, seller_id, amount_cents, currency, proposed_listing_id, status, expires_at)
        SELECT (SELECT min(id) FROM listings WHERE owner_id = 1), n, 1, 5, 'EUR',
            (SELECT min(id) + n FROM listings), (ARRAY['pending', 'rejected'])[1 + n % 2], now() + n * interval '1 min'
        FROM generate_series(2, 2001) n;
    INSERT INTO offers (listing_id, buyer_id, seller_id, amount_cents, currency, status, expires_at)
        SELECT id, 1 + id % 3000, owner_id, 5, 'EUR', 'withdrawn', now() FROM listings WHERE owner_id > 3000;
    INSERT INTO offers (listing_id, buyer_id, seller_id, amount_cents, currency, status, expires_at)
        SELECT id, 1, owner_id, 5, 'EUR', 'expired', now() FROM listings WHERE owner_id > 1 ORDER BY id LIMIT 2000;
    ANALYZE;
"""


@pytest.fixture(scope="module")
def full(postgres: Any) -> Iterator[str]:
    with filled(postgres, _FILL) as url:
        yield url


@pytest.fixture
def database_url(full: str) -> str:
    return full


def _page(wanted: Wanted, sort: Sort = "newest", offset: int = 0) -> tuple[Any, ...]:
    return (listing_lists.listed, (1, wanted, sort, 20, offset))


_NOW = Stamp(datetime(2100, 1, 1, tzinfo=UTC), 10)
_CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    **{f"open, {sort}": _page(Wanted(), sort) for sort in get_args(Sort)},
    **{f"sold, {sort}": _page(Wanted("sold"), sort, 2000) for sort in get_args(Sort)},
    **{f"basses, {sort}": _page(Wanted(category="basses"), sort) for sort in get_args(Sort)},
    **{f"one's own, {sort}": _page(Wanted(None, owner_id=1), sort) for sort in get_args(Sort)},
    "far behind": _page(Wanted(), "newest", 9_000),
    "by price": _page(Wanted(min_price=1000, max_price=2000)),
    "by price and state": _page(Wanted(min_price=1000, currency="EUR", state="new"), "price_asc"),
    "by a word": _page(Wanted(search="jazz bass")),
    "by a rare word": _page(Wanted(search="c4ca42"), "price_desc"),
    **{f"by a common word, {sort}": _page(Wanted(search="horn"), sort, 200) for sort in get_args(Sort)},
    "by two letters": _page(Wanted(search="tu")),
    "one listing": (listings.one, (5, 1)),
    "marked": (listing_lists.marked, (1, None, 20)),
    "marked, behind": (listing_lists.marked, (1, _NOW, 20)),
    "categories": (categories.listed, ()),
    "sent": (offer_lists.listed, (1, "sent", None, 20, 0)),
    "received": (offer_lists.listed, (1, "received", "pending", 20, 500)),
    "sent and received": (offer_lists.listed, (1, "all", None, 20, 100)),
    "for a listing": (offer_lists.of_listing, (1, 1, None, None, 20)),
    "for a listing, behind": (offer_lists.of_listing, (1, 1, "pending", 1500, 20)),
    "one offer": (offers.one, (7, 1)),
    "what is due": (offer_closing.expire, (20,)),
    "what rests on a listing": (offer_closing.reject, ([3, 4], "sold", (1,))),
}
# A few rows, always.
_SMALL = {"categories"}


class Writing(Explaining):
    """Also explains what changes rows by a condition of its own."""

    async def execute(self, query: str, *args: Any) -> Any:
        if query.lstrip().startswith(("UPDATE", "DELETE")):
            await self._explain(query, args)
        return await self._conn.execute(query, *args)


async def test_every_list_finds_its_rows_by_an_index(db: Database) -> None:
    async def look(conn: Any, unit: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
        explaining = Writing(conn)
        await unit(explaining, *args)
        return [table for table in explaining.scans if table not in _SMALL]

    scanned = {
        what: scans for what, (unit, args) in _CASES.items() if (scans := await db.write(look, unit, args))
    }
    assert scanned == {}


async def test_pages_count_to_a_bound_and_leave_nothing_out(db: Database) -> None:
    page = await db.read(listing_lists.listed, None, Wanted(), "newest", 20, 9_980)
    assert page.total == COUNTED and len(page.listings) == 20
    dear = await db.read(listing_lists.listed, None, Wanted(category="amps"), "price_desc", 100, 0)
    prices = [each.price_cents or 0 for each in dear.listings]
    assert prices == sorted(prices, reverse=True) and {each.category for each in dear.listings} == {"amps"}
    assert all(each.owner.id % 100 for each in dear.listings)
    found = await db.read(listing_lists.listed, None, Wanted(search="jazz basses"), "newest", 20, 490)
    assert found.total == 500 and len(found.listings) == 10
    counts = {each.slug: each.count for each in await db.read(categories.listed)}
    assert counts["amps"] == dear.total < 20_000


async def test_what_a_common_word_finds_is_first_in_any_order(db: Database) -> None:
    """Of the 14,000 that are open, nineteen in twenty are horns: of the first 5,000 they are found."""
    keys: dict[Sort, Callable[[Any], Any]] = {
        "newest": lambda row: -row["id"],
        "oldest": lambda row: row["id"],
        "price_asc": lambda row: (row["price_cents"], row["id"]),
        "price_desc": lambda row: (-row["price_cents"], -row["id"]),
        "popular": lambda row: (-row["favorite_count"], -row["id"]),
    }

    async def rows(conn: Any) -> Any:
        return await conn.fetch("SELECT * FROM listings WHERE status = 'open'")

    opened = await db.read(rows)
    for sort in get_args(Sort):
        first = sorted(opened, key=keys[sort])[:5_000]
        horns = [row["id"] for row in first if row["title"].startswith("Horn") and row["owner_id"] % 100]
        for offset in (0, 2_000, len(horns) - 5, len(horns)):
            page = await db.read(listing_lists.listed, None, Wanted(search="horn"), sort, 20, offset)
            assert [each.id for each in page.listings] == horns[offset : offset + 20]
            assert page.total == len(horns) > 4_000
