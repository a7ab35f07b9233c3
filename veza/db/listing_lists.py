"""Listings as lists show them: found by words of their title, category, state, price or owner, and those one marked.

A numbered page skips ids alone, never whole rows, and no further than lists are counted (`COUNTED`). What somebody
disabled, deleted or banned has put here is in no list.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from veza.db.categories import OUT, SHOWN
from veza.db.keys import Stamp
from veza.db.listings import COLUMNS, TABLES, Listing, State, made
from veza.db.users import COUNTED

Sort = Literal["newest", "oldest", "price_asc", "price_desc", "popular"]

# Each is the order of an index, behind its status.
_ORDER: Final[dict[Sort, str]] = {
    "newest": "l.id DESC",
    "oldest": "l.id",
    "price_asc": "l.price_cents, l.id",
    "price_desc": "l.price_cents DESC NULLS LAST, l.id DESC",
    "popular": "l.favorite_count DESC, l.id DESC",
}
_WORDS: Final = 8  # of a search that count


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
    """`total` is counted up to COUNTED."""

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
    where, args = _conditions(wanted, category_id)
    order = _ORDER[sort]
    total = await conn.fetchval(
        f"SELECT count(*) FROM (SELECT FROM listings l WHERE {where} ORDER BY l.id DESC LIMIT {COUNTED}) AS matches",
        *args,
    )
    at = len(args) + 1
    ids = await conn.fetch(
        f"SELECT l.id FROM listings l WHERE {where} ORDER BY {order} LIMIT ${at} OFFSET ${at + 1}",
        *args,
        limit,
        offset,
    )
    rows = await conn.fetch(
        f"SELECT {COLUMNS} FROM {TABLES} WHERE l.id = ANY($2::bigint[])", reader_id, [row[0] for row in ids]
    )
    found = {row[0]: made(row) for row in rows}
    return ListingPage([found[row[0]] for row in ids if row[0] in found], total)


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


def _conditions(wanted: Wanted, category_id: int | None) -> tuple[str, list[Any]]:
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
    words = (wanted.search or "").lower().split()[:_WORDS]
    if any(len(word) >= 3 for word in words):
        for word in words:
            add("lower(l.title) LIKE {}", f"%{_escaped(word)}%")
    elif words:
        # Trigrams need three characters; with fewer, the beginning of the title.
        add("lower(l.title) LIKE {}", f"{_escaped(' '.join(words))}%")
    return " AND ".join(where), args


def _escaped(text: str) -> str:
    """A text as LIKE takes it to the letter."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
