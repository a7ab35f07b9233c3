"""Listings as lists show them: found by words, category, state, price or owner, and those one marked.

A numbered page skips ids alone, never whole rows, and no further than lists are counted (`COUNTED`). What somebody
disabled, deleted or banned has put here is in no list.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from veza.db import search_words
from veza.db.categories import OUT, SHOWN
from veza.db.keys import Stamp
from veza.db.listings import COLUMNS, TABLES, Listing, State, made
from veza.db.search_words import Reading
from veza.db.users import COUNTED

_TRIED: Final = 1_000  # listings, the first in their order, tell whether a search is for what is common
_COMMON: Final = (
    50  # of them fit: then looking at _WALKED is less work than finding all, of a hundred thousand
)
_WALKED: Final = 5_000

Sort = Literal["newest", "oldest", "price_asc", "price_desc", "popular"]

# Each is the order of an index, behind its status.
_ORDER: Final[dict[Sort, str]] = {
    "newest": "l.id DESC",
    "oldest": "l.id",
    "price_asc": "l.price_cents, l.id",
    "price_desc": "l.price_cents DESC NULLS LAST, l.id DESC",
    "popular": "l.favorite_count DESC, l.id DESC",
}


class Wanted(msgspec.Struct, frozen=True):
    """Which listings; None means any. `status` None, which is for one person's listings only: all but removed ones.

    `category` is a slug; prices are in the smallest unit, of whatever currency unless one is named.
    """

    status: Literal["open", "sold", "closed"] | None = "open"
    search: str | None = None
    category: str | None = None
    state: State | None = None
    currency: str | None = None
    min_price: int | None = None
    max_price: int | None = None
    owner_id: int | None = None


class ListingPage(msgspec.Struct, frozen=True):
    """`total` is counted up to COUNTED; see `_found` for searches."""

    listings: list[Listing]
    total: int


class Marked(msgspec.Struct, frozen=True):
    """Listings somebody has marked, the latest first; `next` None: no more follow."""

    listings: list[Listing]
    next: str | None


async def listed(
    conn: Any, reader_id: int | None, wanted: Wanted, sort: Sort, limit: int, offset: int
) -> ListingPage:
    """A page. The caller bounds `limit + offset` by COUNTED."""
    category_id = None
    if wanted.category is not None:
        category_id = await conn.fetchval("SELECT id FROM categories WHERE slug = $1", wanted.category)
        if category_id is None:
            return ListingPage([], 0)
    reading = await search_words.read(conn, wanted.search) if wanted.search else None
    where, args = _conditions(wanted, category_id, reading)
    order = _ORDER[sort]
    at = len(args) + 1
    if reading is None:
        # Along an index that holds most of what is asked, never through the table.
        along = "l.id DESC" if wanted.min_price is wanted.max_price is None else "l.price_cents, l.id"
        total = await conn.fetchval(
            f"SELECT count(*) FROM (SELECT FROM listings l WHERE {where} ORDER BY {along} LIMIT {COUNTED}) AS m",
            *args,
        )
        ids = await conn.fetch(
            f"SELECT l.id FROM listings l WHERE {where} ORDER BY {order} LIMIT ${at} OFFSET ${at + 1}",
            *args,
            limit,
            offset,
        )
    else:
        ids, total = await _found(conn, wanted, where, args, order, limit, offset)
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM {TABLES} WHERE l.id = ANY($2::bigint[])", reader_id, [row[0] for row in ids]
    )
    page = {row[0]: made(row) for row in rows}
    return ListingPage([page[row[0]] for row in ids if row[0] in page], total)


async def _found(
    conn: Any, wanted: Wanted, where: str, args: list[Any], order: str, limit: int, offset: int
) -> tuple[list[Any], int]:
    """Ids of a page of what a search finds, and how many there are, up to COUNTED.

    What has the words is found by them, and then put in order: to look into words along an order costs more. Where one
    listing in twenty has them it costs less, and then only the first _WALKED in the order are looked at; whoever has no
    more than so many finds everything. The statements leave the planner no choice, which knows no words when it plans.
    """
    if wanted.status is not None and wanted.owner_id is None:
        along = f"SELECT * FROM listings l WHERE l.status = '{wanted.status}' ORDER BY {order} LIMIT"
        hits = await conn.fetchval(
            f"SELECT count(*) FILTER (WHERE {where}) FROM ({along} {_TRIED}) AS l", *args
        )
        if hits >= _COMMON:
            found = await conn.fetch(
                f"SELECT l.id FROM ({along} {_WALKED}) AS l WHERE {where} ORDER BY {order}", *args
            )
            return found[offset : offset + limit], len(found)
    at = len(args) + 1
    ids = await conn.fetch(
        f"""WITH matches AS MATERIALIZED (
                SELECT l.id, l.price_cents, l.favorite_count FROM listings l WHERE {where}
            ), page AS (
                SELECT l.id, row_number() OVER (ORDER BY {order}) AS place FROM matches l
                ORDER BY place LIMIT ${at} OFFSET ${at + 1}
            )
            SELECT page.id, counted.total
            FROM (SELECT least(count(*), {COUNTED}) AS total FROM matches) AS counted LEFT JOIN page ON true
            ORDER BY page.place""",
        *args,
        limit,
        offset,
    )
    return ids, ids[0]["total"]


async def marked(conn: Any, user_id: int, after: Stamp | None, limit: int) -> Marked:
    """What somebody has marked; what may no longer be seen is left out."""
    where = "" if after is None else "AND (f.created_at, f.listing_id) < ($3, $4)"
    rows = await conn.fetch(
        f"""SELECT f.created_at, {COLUMNS} FROM listing_favorites f JOIN ({TABLES}) ON l.id = f.listing_id
            WHERE f.user_id = $1 {where} AND l.status <> 'removed' AND NOT ({OUT})
            ORDER BY f.created_at DESC, f.listing_id DESC LIMIT $2""",
        user_id,
        limit + 1,
        *([] if after is None else [after.at, after.id]),
    )
    page = rows[:limit]
    listings = [made(tuple(row)[1:]) for row in page]
    last = None if len(rows) <= limit else str(Stamp(page[-1][0], listings[-1].id))
    return Marked(listings, last)


def _conditions(wanted: Wanted, category_id: int | None, reading: Reading | None) -> tuple[str, list[Any]]:
    """The condition, and its arguments."""
    where = [SHOWN]
    args: list[Any] = []

    def add(condition: str, value: Any) -> None:
        args.append(value)
        where.append(condition.format(f"${len(args)}"))

    if wanted.status is None:
        where.append("l.status <> 'removed'")
    else:
        where.append(f"l.status = '{wanted.status}'")
    if wanted.owner_id is not None:
        add("l.owner_id = {}", wanted.owner_id)
    if category_id is not None:
        add("l.category_id = {}", category_id)
    if wanted.state is not None:
        add("l.state = {}", wanted.state)
    if wanted.currency is not None:
        add("l.currency = {}", wanted.currency)
    if wanted.min_price is not None:
        add("l.price_cents >= {}", wanted.min_price)
    if wanted.max_price is not None:
        add("l.price_cents <= {}", wanted.max_price)
    if reading is not None:
        # Words anywhere, or beginnings of words of the title; none that can be looked for match nothing.
        add("(l.words @@ {}::tsquery", reading.named)
        add("l.names @@ {}::tsquery)", reading.begun)
        where[-2:] = [" OR ".join(where[-2:])]
    return " AND ".join(where), args
