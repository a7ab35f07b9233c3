"""Lists of offers: what somebody has sent and received, and what there is for a listing. The newest first."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from veza.db.offers import COLUMNS, TABLES, Offer, Status, made
from veza.db.users import COUNTED

Side = Literal["sent", "received", "all"]

_SIDES: Final[dict[Side, tuple[str, ...]]] = {
    "sent": ("buyer_id",),
    "received": ("seller_id",),
    "all": ("buyer_id", "seller_id"),
}


class OfferPage(msgspec.Struct, frozen=True):
    """`total` is counted up to COUNTED."""

    offers: list[Offer]
    total: int


class OffersBehind(msgspec.Struct, frozen=True):
    """A page by key; `next` None: no more follow."""

    offers: list[Offer]
    next: str | None


async def listed(
    conn: Any, user_id: int, side: Side, status: Status | None, limit: int, offset: int
) -> OfferPage:
    """Somebody's offers. The caller bounds `limit + offset` by COUNTED."""
    # Each side has its own index; nobody is on both of an offer.
    either = " UNION ALL ".join(
        f"""(SELECT id FROM offers WHERE {column} = $1 AND ($2::text IS NULL OR status = $2)
             ORDER BY id DESC LIMIT {{}})"""
        for column in _SIDES[side]
    )
    total = await conn.fetchval(
        f"SELECT least(count(*), {COUNTED}) FROM ({either.format(*[COUNTED] * 2)}) AS matches",
        user_id,
        status,
    )
    rows = await conn.fetch(
        f"""WITH page AS (
                SELECT id FROM ({either.format("$3", "$3")}) AS both_sides
                ORDER BY id DESC LIMIT $4 OFFSET $5
            )
            SELECT {COLUMNS} FROM page JOIN ({TABLES}) ON o.id = page.id ORDER BY o.id DESC""",
        user_id,
        status,
        limit + offset,
        limit,
        offset,
    )
    return OfferPage([made(row) for row in rows], total)


async def of_listing(
    conn: Any, listing_id: int, owner_id: int, status: Status | None, before: int | None, limit: int
) -> OffersBehind | None:
    """What there is for a listing, for its owner; None: no such listing of his."""
    known = await conn.fetchval(
        "SELECT EXISTS (SELECT FROM listings WHERE id = $1 AND owner_id = $2 AND status <> 'removed')",
        listing_id,
        owner_id,
    )
    if not known:
        return None
    where = "" if before is None else "AND o.id < $4"
    rows = await conn.fetch(
        f"""SELECT {COLUMNS} FROM {TABLES}
            WHERE o.listing_id = $1 AND ($2::text IS NULL OR o.status = $2) {where}
            ORDER BY o.id DESC LIMIT $3""",
        listing_id,
        status,
        limit + 1,
        *([] if before is None else [before]),
    )
    offers = [made(row) for row in rows[:limit]]
    return OffersBehind(offers, None if len(rows) <= limit else str(offers[-1].id))
