"""Offers: what somebody gives for another's listing, as the two of them see it.

Only the two sides see an offer. A listing that was removed is still told of by the offers that were made for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db import follows, offer_closing, offer_words, outbox
from veza.db.categories import OUT
from veza.db.listing_images import SMALL, address
from veza.db.listings import Somebody
from veza.db.offer_closing import OPEN
from veza.db.offer_words import Deal, Terms

Status = Literal["pending", "countered", "accepted", "rejected", "withdrawn", "expired"]
# Why something was not done: no such offer or listing (for this person); one's own listing; a block between the two;
# the other side is shut out; the listing, or the one in exchange, is not open; there is one already; too many are open,
# or were made; the offer is not in a state for it; it is for the other side to do; its time is over.
Refusal = Literal[
    "gone", "no listing", "own", "blocked", "blocking", "absent", "not open", "no exchange", "exchange not open",
    "exists", "full", "often", "decided", "not yours", "expired",
]  # fmt: skip
A_DAY: Final = 200  # offers of a person, whatever became of them: somebody heard of each


class Brief(msgspec.Struct, frozen=True):
    """A listing in a few words; `status` tells whether it can still be looked at."""

    id: int
    title: str
    status: str
    price_cents: int | None
    currency: str
    thumb_url: str | None
    owner_id: int


class Counter(msgspec.Struct, frozen=True):
    """The terms the seller would take, in place of those that were offered."""

    amount_cents: int | None
    proposed_listing: Brief | None
    message: str | None
    created_at: datetime


class Offer(msgspec.Struct, frozen=True):
    """`amount_cents`: in the smallest unit of `currency`, which was the listing's when the offer was made."""

    id: int
    listing: Brief
    buyer: Somebody
    seller: Somebody
    amount_cents: int | None
    currency: str
    proposed_listing: Brief | None
    message: str | None
    status: Status
    counter: Counter | None
    viewed_at: datetime | None
    expires_at: datetime
    decided_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def __repr__(self) -> str:
        return f"<Offer {self.id}>"


class NewOffer(msgspec.Struct, frozen=True):
    amount_cents: int | None
    proposed_listing_id: int | None
    message: str | None
    expires_in_hours: int


_thumb = msgspec.json.Decoder(tuple[int, str]).decode


def brief_columns(t: str) -> str:
    """The columns of a Brief, of the listings called `t`; see `brief`."""
    return f"""{t}.id, {t}.title, {t}.status, {t}.price_cents, {t}.currency,
        (SELECT json_build_array(i.n, i.hash)::text FROM listing_images i WHERE i.listing_id = {t}.id
         ORDER BY i.position, i.n LIMIT 1), {t}.owner_id"""


COLUMNS: Final = f"""o.id, o.amount_cents, o.currency, o.message, o.status, o.counter_amount_cents, o.counter_message,
    o.countered_at, o.viewed_at, o.expires_at, o.decided_at, o.created_at, o.updated_at,
    b.id, b.username, b.avatar, s.id, s.username, s.avatar,
    {brief_columns("l")}, {brief_columns("p")}, {brief_columns("c")}"""
TABLES: Final = """offers o JOIN users b ON b.id = o.buyer_id JOIN users s ON s.id = o.seller_id
    JOIN listings l ON l.id = o.listing_id
    LEFT JOIN listings p ON p.id = o.proposed_listing_id
    LEFT JOIN listings c ON c.id = o.counter_proposed_listing_id"""


def made(row: Any) -> Offer:
    """A row of COLUMNS."""
    values = tuple(row)
    (id, amount, currency, message, status, counter_amount, counter_message, countered_at, viewed_at, expires_at,
     decided_at, created_at, updated_at) = values[:13]  # fmt: skip
    counter = None
    if countered_at is not None:
        counter = Counter(counter_amount, brief(values[33:40]), counter_message, countered_at)
    listing = brief(values[19:26])
    assert listing is not None  # the join says so
    return Offer(
        id,
        listing,
        Somebody(*values[13:16]),
        Somebody(*values[16:19]),
        amount,
        currency,
        brief(values[26:33]),
        message,
        status,
        counter,
        viewed_at,
        expires_at,
        decided_at,
        created_at,
        updated_at,
    )


def brief(values: Sequence[Any]) -> Brief | None:
    """Values of `brief_columns`; None where a LEFT JOIN found nothing."""
    id, title, status, price_cents, currency, thumb, owner_id = values
    if id is None:
        return None
    thumb_url = None if thumb is None else address(id, *_thumb(thumb), SMALL)
    return Brief(id, title, status, price_cents, currency, thumb_url, owner_id)


async def one(conn: Any, offer_id: int, reader_id: int) -> Offer | None:
    """An offer, for its two sides; None for everybody else."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM {TABLES} WHERE o.id = $1 AND $2 IN (o.buyer_id, o.seller_id)",
        offer_id,
        reader_id,
    )
    return None if row is None else made(row)


async def viewed(conn: Any, offer_id: int, seller_id: int) -> None:
    """The seller has looked at it; the first time counts."""
    await conn.execute(
        "UPDATE offers SET viewed_at = now() WHERE id = $1 AND seller_id = $2 AND viewed_at IS NULL",
        offer_id,
        seller_id,
    )


async def create(conn: Any, listing_id: int, buyer_id: int, new: NewOffer, most: int) -> Offer | Refusal:
    """Make an offer for another's open listing; the other side is to hear of it, by a card and a notification.

    Args:
        most: offers he may have open; "full" then. "often": he made A_DAY of them since yesterday.
    """
    # The buyer's row first: two of his offers are counted in turn.
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", buyer_id)
    held = await hold(conn, listing_id, new.proposed_listing_id)
    listing = held.get(listing_id)
    if listing is None or listing["status"] == "removed":
        return "no listing"
    seller_id = listing["owner_id"]
    if seller_id == buyer_id:
        return "own"
    if (why := await between(conn, buyer_id, seller_id)) is not None:
        return "no listing" if why == "absent" else why
    if listing["status"] != "open":
        return "not open"
    proposed = None if new.proposed_listing_id is None else held.get(new.proposed_listing_id)
    if new.proposed_listing_id is not None and (wrong := wrong_exchange(proposed, buyer_id)) is not None:
        return wrong
    await offer_closing.expire(conn, 1, only=(listing_id, buyer_id))
    if await conn.fetchval(
        f"SELECT EXISTS (SELECT FROM offers WHERE listing_id = $1 AND buyer_id = $2 AND {OPEN})",
        listing_id,
        buyer_id,
    ):
        return "exists"
    if await conn.fetchval(f"SELECT count(*) FROM offers WHERE buyer_id = $1 AND {OPEN}", buyer_id) >= most:
        return "full"
    if await conn.fetchval(
        """SELECT created_at > now() - interval '1 day' FROM offers WHERE buyer_id = $1
           ORDER BY id DESC OFFSET $2 LIMIT 1""",
        buyer_id,
        A_DAY - 1,
    ):
        return "often"
    id = await conn.fetchval(
        """INSERT INTO offers (listing_id, buyer_id, seller_id, amount_cents, currency, proposed_listing_id, message,
                               expires_at)
           VALUES ($1, $2, $3, $4, $5, $6, $7, now() + make_interval(hours => $8)) RETURNING id""",
        listing_id,
        buyer_id,
        seller_id,
        new.amount_cents,
        listing["currency"],
        new.proposed_listing_id,
        new.message,
        new.expires_in_hours,
    )
    deal = Deal(id, listing_id, listing["title"], buyer_id, seller_id)
    terms = Terms(
        new.amount_cents, listing["currency"], None if proposed is None else proposed["title"], new.message
    )
    await outbox.put(
        conn,
        offer_words.card(deal, "received", buyer_id, terms),
        offer_words.event(deal, "received", seller_id),
    )
    return await one(conn, id, buyer_id) or "gone"


async def hold(conn: Any, *listing_ids: int | None) -> dict[int, Any]:
    """These listings, in the order of their ids, so that none is sold or closed before the caller is done."""
    rows = await conn.fetch(
        """SELECT id, owner_id, title, status, currency FROM listings WHERE id = ANY($1::bigint[])
           ORDER BY id FOR NO KEY UPDATE""",
        [id for id in listing_ids if id is not None],
    )
    return {row["id"]: row for row in rows}


async def between(conn: Any, one: int, other: int) -> Literal["blocked", "blocking", "absent"] | None:
    """Why `one` makes no deal with `other` now: a block between the two, or that the other one is shut out."""
    why = await follows.between(conn, one, other)
    if why in ("blocked", "blocking"):
        return why
    return "absent" if await conn.fetchval(f"SELECT ({OUT}) FROM users u WHERE u.id = $1", other) else None


def wrong_exchange(proposed: Any, buyer_id: int) -> Refusal | None:
    """Why this listing (a row of `hold`) cannot be given in exchange by this person."""
    if proposed is None or proposed["owner_id"] != buyer_id or proposed["status"] == "removed":
        return "no exchange"
    return None if proposed["status"] == "open" else "exchange not open"
