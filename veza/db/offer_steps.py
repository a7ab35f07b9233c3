"""The steps of an offer: pending → accepted, rejected, withdrawn, countered, expired; countered → accepted, rejected,
withdrawn, expired. Every step is one transaction, with what the other side is to hear of it.

Who accepts holds the listings first, in the order of their ids, then the offers: of two who accept at once, also offers
that cross (mine for yours and yours for mine), one goes first, and the other one finds what is sold. Who counters holds
them in the same order; who says no needs the offer alone.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from veza.db import offer_closing, offer_words, outbox
from veza.db.offer_words import Deal, Terms
from veza.db.offers import NewOffer, Offer, Refusal, between, hold, one, wrong_exchange

_OFFER: Final = """id, listing_id, buyer_id, seller_id, amount_cents, currency, proposed_listing_id, status,
    counter_amount_cents, counter_proposed_listing_id, expires_at <= clock_timestamp() AS over"""


async def accept(conn: Any, offer_id: int, user_id: int) -> Offer | Refusal:
    """Accept the terms that stand: a pending offer by its seller, a countered one by its buyer. The listing is sold,
    the one given in exchange too, and whatever else was open on either is rejected."""
    offer = await _look(conn, offer_id, user_id)
    if offer is None:
        return "gone"
    proposed_id = _standing(offer)[1]
    # Terms change with the status only, and once: what is read here holds if the status still does, below.
    held = await hold(conn, offer["listing_id"], proposed_id)
    status = offer["status"]
    offer = await _take(conn, offer_id)
    if (why := _not_now(offer)) is not None:
        return why
    if offer["status"] != status:
        return "decided"
    if user_id != offer["seller_id" if status == "pending" else "buyer_id"]:
        return "not yours"
    if (barred := await between(conn, user_id, _other(offer, user_id))) is not None:
        return barred
    listing = held.get(offer["listing_id"])
    if listing is None or listing["status"] != "open":
        return "not open"
    proposed = held.get(proposed_id) if proposed_id is not None else None
    if proposed_id is not None and wrong_exchange(proposed, offer["buyer_id"]) is not None:
        return "exchange not open"
    if proposed_id is None and _standing(offer)[0] is None:
        return "exchange not open"  # it was for an exchange alone, and that listing went with its owner's account
    sold = sorted(held)
    await conn.execute(
        "UPDATE listings SET status = 'sold', sold_at = now(), updated_at = now() WHERE id = ANY($1::bigint[])",
        sold,
    )
    await conn.execute(
        "UPDATE offers SET status = 'accepted', decided_at = now(), updated_at = now() WHERE id = $1",
        offer_id,
    )
    deal = _deal(offer, listing)
    amount, _ = _standing(offer)
    terms = Terms(amount, offer["currency"], None if proposed is None else proposed["title"], None)
    await outbox.put(
        conn,
        offer_words.card(deal, "accepted", user_id, terms),
        offer_words.event(deal, "accepted", _other(offer, user_id)),
    )
    # To the two of this offer it is no news that what they just exchanged is to be had no more.
    await offer_closing.reject(conn, sold, "sold", (offer["buyer_id"], offer["seller_id"]), but=offer_id)
    return await one(conn, offer_id, user_id) or "gone"


async def counter(conn: Any, offer_id: int, seller_id: int, new: NewOffer) -> Offer | Refusal:
    """The seller would take other terms; the buyer decides then. What he is to give in exchange is an open listing of
    his."""
    offer = await _look(conn, offer_id, seller_id)
    if offer is None:
        return "gone"
    held = await hold(conn, offer["listing_id"], new.proposed_listing_id)
    offer = await _take(conn, offer_id)
    if offer["seller_id"] != seller_id:
        return "not yours"
    if (why := _not_now(offer)) is not None:
        return why
    if offer["status"] != "pending":
        return "decided"
    if (barred := await between(conn, seller_id, offer["buyer_id"])) is not None:
        return barred
    listing = held[offer["listing_id"]]
    if listing["status"] != "open":
        return "not open"
    proposed = held.get(new.proposed_listing_id) if new.proposed_listing_id is not None else None
    if (
        new.proposed_listing_id is not None
        and (why := wrong_exchange(proposed, offer["buyer_id"])) is not None
    ):
        return why
    await conn.execute(
        """UPDATE offers SET status = 'countered', counter_amount_cents = $2, counter_proposed_listing_id = $3,
                             counter_message = $4, countered_at = now(), viewed_at = coalesce(viewed_at, now()),
                             updated_at = now() WHERE id = $1""",
        offer_id,
        new.amount_cents,
        new.proposed_listing_id,
        new.message,
    )
    deal = _deal(offer, listing)
    terms = Terms(
        new.amount_cents, offer["currency"], None if proposed is None else proposed["title"], new.message
    )
    await outbox.put(
        conn,
        offer_words.card(deal, "countered", seller_id, terms),
        offer_words.event(deal, "countered", offer["buyer_id"]),
    )
    return await one(conn, offer_id, seller_id) or "gone"


async def reject(conn: Any, offer_id: int, user_id: int) -> Offer | Refusal:
    """Say no: to a pending offer its seller, to a countered one either side."""
    return await _decline(conn, offer_id, user_id, "rejected")


async def withdraw(conn: Any, offer_id: int, user_id: int) -> Offer | Refusal:
    """The buyer takes his offer back."""
    return await _decline(conn, offer_id, user_id, "withdrawn")


async def _decline(
    conn: Any, offer_id: int, user_id: int, status: Literal["rejected", "withdrawn"]
) -> Offer | Refusal:
    if await _look(conn, offer_id, user_id) is None:
        return "gone"
    offer = await _take(conn, offer_id)
    if (why := _not_now(offer)) is not None:
        return why
    buyers = user_id == offer["buyer_id"]
    if status == "withdrawn" and not buyers:
        return "not yours"
    if status == "rejected" and buyers and offer["status"] != "countered":
        return "not yours"
    await conn.execute(
        "UPDATE offers SET status = $2, decided_at = now(), updated_at = now() WHERE id = $1",
        offer_id,
        status,
    )
    title = await conn.fetchval("SELECT title FROM listings WHERE id = $1", offer["listing_id"])
    deal = Deal(offer_id, offer["listing_id"], title, offer["buyer_id"], offer["seller_id"])
    await outbox.put(conn, offer_words.event(deal, status, _other(offer, user_id)))
    return await one(conn, offer_id, user_id) or "gone"


async def _look(conn: Any, offer_id: int, user_id: int) -> Any:
    return await conn.fetchrow(
        f"SELECT {_OFFER} FROM offers WHERE id = $1 AND $2 IN (buyer_id, seller_id)", offer_id, user_id
    )


async def _take(conn: Any, offer_id: int) -> Any:
    return await conn.fetchrow(f"SELECT {_OFFER} FROM offers WHERE id = $1 FOR UPDATE", offer_id)


def _standing(offer: Any) -> tuple[int | None, int | None]:
    """The terms that stand: an amount, and the listing in exchange."""
    if offer["status"] == "countered":
        return offer["counter_amount_cents"], offer["counter_proposed_listing_id"]
    return offer["amount_cents"], offer["proposed_listing_id"]


def _not_now(offer: Any) -> Refusal | None:
    if offer is None:
        return "gone"
    if offer["status"] not in ("pending", "countered"):
        return "expired" if offer["status"] == "expired" else "decided"
    # Its time may be over though the clock has not come by yet.
    return "expired" if offer["over"] else None


def _other(offer: Any, user_id: int) -> int:
    other: int = offer["seller_id"] if user_id == offer["buyer_id"] else offer["buyer_id"]
    return other


def _deal(offer: Any, listing: Any) -> Deal:
    return Deal(offer["id"], listing["id"], listing["title"], offer["buyer_id"], offer["seller_id"])
