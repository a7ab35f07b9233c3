"""What people are told of an offer: the events of its steps, and the card that goes into their conversation."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from veza.db.currencies import written
from veza.db.outbox import Event

Step = Literal["received", "countered", "accepted", "rejected", "withdrawn", "expired"]
Reason = Literal["sold", "closed", "account_deleted"]


class Deal(msgspec.Struct, frozen=True):
    """What an offer is about, as far as words need it."""

    offer_id: int
    listing_id: int
    title: str
    buyer_id: int
    seller_id: int


class Terms(msgspec.Struct, frozen=True):
    """Money, a listing in exchange (by its title), or both; and what was said to it."""

    amount_cents: int | None
    currency: str
    proposed_title: str | None
    message: str | None


def event(deal: Deal, step: Step, target_id: int, reason: Reason | None = None) -> Event:
    """One of the two is to hear of a step; the other one counts as who took it."""
    data: dict[str, Any] = {
        "offer_id": deal.offer_id,
        "listing_id": deal.listing_id,
        "title": deal.title,
        "step": step,
    }
    if reason is not None:
        data["reason"] = reason
    actor_id = deal.seller_id if target_id == deal.buyer_id else deal.buyer_id
    return Event("offer", target_id, actor_id, f"offer:{deal.offer_id}:{step}", data)


def card(deal: Deal, step: Step, actor_id: int, terms: Terms) -> Event:
    """A message from who acts to the other one, in their conversation."""
    target_id = deal.seller_id if actor_id == deal.buyer_id else deal.buyer_id
    content = _sentence(deal.title, step, terms)
    return Event(
        "card",
        target_id,
        actor_id,
        f"offer-{deal.offer_id}-{step}",
        {"content": content, "media_url": f"/api/v1/offers/{deal.offer_id}"},
    )


def _sentence(title: str, step: Step, terms: Terms) -> str:
    what = []
    if terms.amount_cents is not None:
        what.append(written(terms.amount_cents, terms.currency))
    if terms.proposed_title is not None:
        what.append(f'"{terms.proposed_title}" in exchange')
    beginning = {
        "received": f'Offer for "{title}"',
        "countered": f'Counter-offer for "{title}"',
        "accepted": f'Offer for "{title}" accepted',
    }[step]
    end = f" {terms.message}" if terms.message else ""
    return f"{beginning}: {' and '.join(what)}.{end}"
