"""`/offers` and `/listings/{id}/offers`: bids for listings, and what becomes of them.

Only the two sides see an offer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from msgspec import Struct
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import offer_lists, offer_steps
from veza.db import offers as offers_db
from veza.db.offers import Offer, Refusal
from veza.http.api.access import signed_in
from veza.http.api.envelope import ApiError, conflict, created, forbidden, not_found, ok, page_meta
from veza.http.api.intake import takes, takes_query
from veza.http.api.listing_forms import CounterForm, ListingOffersQuery, OfferForm, OffersQuery
from veza.http.api.listings import must_be_own, no_listing
from veza.http.api.openapi import answers, fails
from veza.http.api.pages import key_meta, numbers
from veza.http.api.services import services
from veza.http.api.social import blocked

offers = Blueprint("offers", __name__)


class Offers(Struct, frozen=True):
    offers: list[Offer]


@offers.post("/listings/<id:listing_id>/offers")
@signed_in
@takes(OfferForm)
@answers(Offer, 201)
@fails(403, 404, 409)
async def make_offer(listing_id: int, identity: Identity, data: OfferForm) -> Response:
    """Offer money, one of one's own open listings, or both. It opens, or goes on with, the conversation of the two."""
    return await _make(listing_id, identity, data)


@offers.post("/offers/listings/<id:listing_id>/offers")
@signed_in
@takes(OfferForm)
@answers(Offer, 201)
@fails(403, 404, 409)
async def make_offer_as_of_old(listing_id: int, identity: Identity, data: OfferForm) -> Response:
    """The older spelling of `POST /listings/{listing_id}/offers`."""
    return await _make(listing_id, identity, data)


@offers.get("/listings/<id:listing_id>/offers")
@signed_in
@takes_query(ListingOffersQuery)
@answers(Offers, listing=True)
@fails(403, 404)
async def offers_of_listing(listing_id: int, identity: Identity, query: ListingOffersQuery) -> Response:
    """What was offered for one's listing, the newest first."""
    place = numbers(query, 1)
    page = await services().db.read(
        offer_lists.of_listing,
        listing_id,
        identity.user_id,
        query.status,
        None if place is None else place[0],
        query.limit,
    )
    if page is None:
        await must_be_own(listing_id, identity)
        raise no_listing()
    return ok(Offers(page.offers), meta=key_meta(query.limit, page.next))


@offers.get("/offers")
@signed_in
@takes_query(OffersQuery)
@answers(Offers, listing=True)
async def list_offers(identity: Identity, query: OffersQuery) -> Response:
    """One's own offers, sent and received, the newest first."""
    page = await services().db.read(
        offer_lists.listed, identity.user_id, query.type, query.status, query.limit, query.offset
    )
    return ok(Offers(page.offers), meta=page_meta(query.page, query.limit, page.total))


@offers.get("/offers/<id:offer_id>")
@signed_in
@answers(Offer)
@fails(404)
async def one_offer(offer_id: int, identity: Identity) -> Response:
    """An offer, for its two sides. The seller's first look is noted (`viewed_at`)."""
    db = services().db
    found = await db.read(offers_db.one, offer_id, identity.user_id)
    if found is not None and found.viewed_at is None and found.seller.id == identity.user_id:
        await db.write(offers_db.viewed, offer_id, identity.user_id)
        found = await db.read(offers_db.one, offer_id, identity.user_id)
    if found is None:
        raise no_offer()
    return ok(found)


@offers.post("/offers/<id:offer_id>/accept")
@signed_in
@answers(Offer)
@fails(403, 404, 409)
async def accept_offer(offer_id: int, identity: Identity) -> Response:
    """Accept: what was offered, by the seller; what he asks for instead, by the buyer. Both listings are sold then, and
    whatever else was open on them is rejected."""
    return await _step(offer_steps.accept, offer_id, identity)


@offers.post("/offers/<id:offer_id>/reject")
@signed_in
@answers(Offer)
@fails(403, 404, 409)
async def reject_offer(offer_id: int, identity: Identity) -> Response:
    """Say no: to an offer, its seller; to a counter-offer, either side."""
    return await _step(offer_steps.reject, offer_id, identity)


@offers.post("/offers/<id:offer_id>/withdraw")
@signed_in
@answers(Offer)
@fails(403, 404, 409)
async def withdraw_offer(offer_id: int, identity: Identity) -> Response:
    """Take one's offer back while it is open."""
    return await _step(offer_steps.withdraw, offer_id, identity)


@offers.post("/offers/<id:offer_id>/counter")
@signed_in
@takes(CounterForm)
@answers(Offer)
@fails(403, 404, 409)
async def counter_offer(offer_id: int, identity: Identity, data: CounterForm) -> Response:
    """Say what one would take instead: money, one of the buyer's open listings, or both. Then the buyer decides."""
    return await _step(offer_steps.counter, offer_id, identity, data.offer())


async def _make(listing_id: int, identity: Identity, data: OfferForm) -> Response:
    s = services()
    try:
        made = await s.db.write(
            offers_db.create, listing_id, identity.user_id, data.offer(), s.settings.offers_open_max
        )
    finally:
        s.poke()
    if not isinstance(made, Offer):
        _refuse(made)
    if s.market is not None:
        s.market.offered(made.expires_at)
    return created(made, location=f"/api/v1/offers/{made.id}")


async def _step(
    step: Callable[..., Awaitable[Offer | Refusal]], offer_id: int, identity: Identity, *args: Any
) -> Response:
    s = services()
    try:
        done = await s.db.write(step, offer_id, identity.user_id, *args)
    finally:
        s.poke()
    if not isinstance(done, Offer):
        _refuse(done)
    return ok(done)


def no_offer() -> ApiError:
    return not_found("This offer", "OFFER_NOT_FOUND")


def _refuse(why: Refusal) -> NoReturn:
    match why:
        case "gone":
            raise no_offer()
        case "no listing":
            raise no_listing()
        case "own":
            raise forbidden("Nobody makes himself an offer.", "OWN_LISTING")
        case "blocked" | "blocking":
            raise blocked(why)
        case "absent":
            raise conflict("OFFER_NOT_OPEN", "The other side cannot make a deal now; you can say no.")
        case "not open":
            raise conflict("LISTING_NOT_OPEN", "This listing is not open any more.")
        case "no exchange":
            raise not_found("The listing in exchange", "LISTING_NOT_FOUND")
        case "exchange not open":
            raise conflict("LISTING_NOT_OPEN", "The listing in exchange is not open any more.")
        case "exists":
            raise conflict("OFFER_EXISTS", "You have an open offer for this listing; withdraw it first.")
        case "full":
            most = services().settings.offers_open_max
            raise conflict("TOO_MANY_OFFERS", f"Nobody has more than {most} open offers; withdraw one first.")
        case "often":
            raise conflict("TOO_MANY_OFFERS", f"Nobody makes more than {offers_db.A_DAY} offers a day.")
        case "expired":
            raise conflict("OFFER_NOT_OPEN", "This offer has expired.")
        case "decided":
            raise conflict("OFFER_NOT_OPEN", "This offer is decided, or not in a state for this.")
        case "not yours":
            raise forbidden("This is for the other side to do.")
