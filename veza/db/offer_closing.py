"""Open offers that can come to nothing any more: what they rest on was sold or taken away, or their time is over."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Literal

import msgspec

from veza.db import outbox
from veza.db.offer_words import Deal, Reason, Step, event

OPEN: Final = "status IN ('pending', 'countered')"
_DEAL: Final = """o.id, o.listing_id, (SELECT l.title FROM listings l WHERE l.id = o.listing_id), o.buyer_id,
    o.seller_id"""


class Expired(msgspec.Struct, frozen=True):
    """How many expired, and in how many seconds the next one will, by the database's clock; None: none is open."""

    count: int
    next_in: float | None


async def reject(
    conn: Any, listing_ids: Sequence[int], reason: Reason, knowing: Collection[int], *, but: int | None = None
) -> int:
    """Reject what is open for these listings, or gives one of them in exchange by the terms that stand now.

    The caller holds the listings' rows. Both sides are to hear of it. How many.

    Args:
        knowing: who need not hear of it: whose act it is, and who hears of that act itself.
        but: an offer that stays as it is.
    """
    ids = await conn.fetch(
        f"""SELECT id FROM offers
            WHERE id IN (SELECT id FROM offers WHERE listing_id = ANY($1::bigint[]) AND {OPEN}
                         UNION ALL
                         SELECT id FROM offers WHERE proposed_listing_id = ANY($1::bigint[]) AND status = 'pending'
                         UNION ALL
                         SELECT id FROM offers WHERE counter_proposed_listing_id = ANY($1::bigint[])
                             AND status = 'countered')
              AND {OPEN} AND id IS DISTINCT FROM $2
            ORDER BY id FOR UPDATE""",
        list(listing_ids),
        but,
    )
    return await _end(conn, [row[0] for row in ids], "rejected", reason, knowing)


async def leave(conn: Any, user_id: int) -> int:
    """An account goes: reject what it had open, on either side. The other sides are to hear of it. How many."""
    ids = await conn.fetch(
        f"""SELECT id FROM offers WHERE (buyer_id = $1 OR seller_id = $1) AND {OPEN} ORDER BY id FOR UPDATE""",
        user_id,
    )
    return await _end(conn, [row[0] for row in ids], "rejected", "account_deleted", (user_id,))


async def expire(conn: Any, limit: int, only: tuple[int, int] | None = None) -> Expired:
    """Expire offers whose time is over, `limit` at most, both sides to hear of it. Those that somebody holds this very
    moment are left for the next time.

    Args:
        only: a listing and a buyer: nothing but what he has offered for it.
    """
    listing_id, buyer_id = only or (None, None)
    ids = await conn.fetch(
        f"""SELECT id FROM offers WHERE {OPEN} AND expires_at <= now()
              AND ($2::bigint IS NULL OR listing_id = $2 AND buyer_id = $3)
            ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED""",
        limit,
        listing_id,
        buyer_id,
    )
    count = await _end(conn, [row[0] for row in ids], "expired", None, ())
    following: float | None = await conn.fetchval(
        f"SELECT extract(epoch FROM min(expires_at) - now())::float8 FROM offers WHERE {OPEN}"
    )
    return Expired(count, following)


async def _end(
    conn: Any,
    ids: Sequence[int],
    status: Literal["rejected", "expired"],
    reason: Reason | None,
    knowing: Collection[int],
) -> int:
    if not ids:
        return 0
    rows = await conn.fetch(
        f"""UPDATE offers o SET status = $2, decided_at = now(), updated_at = now()
            WHERE o.id = ANY($1::bigint[]) RETURNING {_DEAL}""",
        list(ids),
        status,
    )
    step: Step = status
    deals = sorted((Deal(*row) for row in rows), key=lambda deal: deal.offer_id)
    await outbox.put(
        conn,
        *(
            event(deal, step, target, reason)
            for deal in deals
            for target in (deal.buyer_id, deal.seller_id)
            if target not in knowing
        ),
    )
    return len(deals)
