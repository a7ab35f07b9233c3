"""`/listings`: what people sell or would exchange. Offers are in `offers.py`, images in `listing_images.py`."""

from __future__ import annotations

from typing import NoReturn

from msgspec import Struct
from quart import Blueprint, Response

from veza.actors import listing_images
from veza.actors.registry import Identity
from veza.db import listing_lists
from veza.db import listings as listings_db
from veza.db.listing_lists import Wanted
from veza.db.listings import Listing, Refusal
from veza.http.api.access import perhaps_signed_in, signed_in
from veza.http.api.envelope import ApiError, conflict, created, invalid, not_found, ok, page_meta
from veza.http.api.intake import takes, takes_query
from veza.http.api.listing_forms import ListingEdit, ListingForm, ListingsQuery
from veza.http.api.openapi import answers, fails
from veza.http.api.pages import KeyPaging, key_meta, stamp
from veza.http.api.services import services

listings = Blueprint("listings", __name__, url_prefix="/listings")
favorites = Blueprint("favorites", __name__, url_prefix="/users/me/favorites")


class Listings(Struct, frozen=True):
    listings: list[Listing]


class Marking(Struct, frozen=True):
    """Whether one has marked it, and how many have."""

    is_favorite: bool
    favorite_count: int


@listings.get("")
@perhaps_signed_in
@takes_query(ListingsQuery)
@answers(Listings, listing=True)
async def list_listings(identity: Identity | None, query: ListingsQuery) -> Response:
    """What is there, the newest first unless told otherwise; `search` looks for words."""
    wanted = Wanted(
        None if query.status == "all" else query.status,
        query.search,
        query.category,
        query.state,
        query.currency,
        query.min_price,
        query.max_price,
        query.user_id,
    )
    page = await services().db.read(
        listing_lists.listed, _reader(identity), wanted, query.sort, query.limit, query.offset
    )
    return ok(Listings(page.listings), meta=page_meta(query.page, query.limit, page.total))


@listings.post("")
@signed_in
@takes(ListingForm)
@answers(Listing, 201)
@fails(404, 409)
async def create_listing(identity: Identity, data: ListingForm) -> Response:
    """Put something up for sale or exchange; those who follow one hear of it."""
    s = services()
    try:
        made = await s.db.write(
            listings_db.create, identity.user_id, data.listing(), s.settings.listings_open_max
        )
    finally:
        s.poke()
    if not isinstance(made, Listing):
        _refuse(made)
    return created(made, location=f"/api/v1/listings/{made.id}")


@listings.get("/<id:listing_id>")
@perhaps_signed_in
@answers(Listing)
@fails(404)
async def one_listing(listing_id: int, identity: Identity | None) -> Response:
    """One listing, also one that is sold or closed."""
    return ok(await _found(listing_id, identity))


@listings.put("/<id:listing_id>")
@signed_in
@takes(ListingEdit)
@answers(Listing)
@fails(403, 404, 409)
async def change_listing(listing_id: int, identity: Identity, data: ListingEdit) -> Response:
    """Change one's listing, close it or open it again. Closed, the open offers for it are rejected."""
    s = services()
    try:
        changed = await s.db.write(
            listings_db.update, listing_id, identity.user_id, data.change(), s.settings.listings_open_max
        )
    finally:
        s.poke()
    if not isinstance(changed, Listing):
        if changed == "gone":
            await must_be_own(listing_id, identity)
        _refuse(changed)
    return ok(changed)


@listings.delete("/<id:listing_id>")
@signed_in
@answers()
@fails(403, 404)
async def delete_listing(listing_id: int, identity: Identity) -> Response:
    """Take one's listing away, its images too; the open offers for it are rejected."""
    s = services()
    try:
        owner = await s.db.write(listings_db.remove, listing_id, identity.user_id)
    finally:
        s.poke()
    if owner is None:
        await must_be_own(listing_id, identity)
        raise no_listing()
    await listing_images.forget(s.db, s.listing_images, listing_id)
    return ok(message="The listing is gone.")


@listings.put("/<id:listing_id>/favorite")
@signed_in
@answers(Marking)
@fails(404)
async def mark(listing_id: int, identity: Identity) -> Response:
    """Mark a listing to find it again."""
    if not await services().db.write(listings_db.favorite, listing_id, identity.user_id):
        raise no_listing()
    return await _marking(listing_id, identity)


@listings.delete("/<id:listing_id>/favorite")
@signed_in
@answers(Marking)
@fails(404)
async def unmark(listing_id: int, identity: Identity) -> Response:
    """Mark it no longer."""
    await services().db.write(listings_db.unfavorite, listing_id, identity.user_id)
    return await _marking(listing_id, identity)


@favorites.get("")
@signed_in
@takes_query(KeyPaging)
@answers(Listings, listing=True)
async def list_favorites(identity: Identity, query: KeyPaging) -> Response:
    """The listings one has marked, the latest first; those that may no longer be seen are left out."""
    page = await services().db.read(listing_lists.marked, identity.user_id, stamp(query), query.limit)
    return ok(Listings(page.listings), meta=key_meta(query.limit, page.next))


def no_listing() -> ApiError:
    return not_found("This listing", "LISTING_NOT_FOUND")


def sold() -> ApiError:
    return conflict("LISTING_NOT_OPEN", "This listing is sold: it stays as it was.")


async def must_be_own(listing_id: int, identity: Identity) -> None:
    """Raises ApiError: 404 where there is no such listing, 403 where it is another's."""
    found = await _found(listing_id, identity)
    if found.owner.id != identity.user_id:
        raise ApiError(403, "FORBIDDEN", "This listing is not yours.")


def _reader(identity: Identity | None) -> int | None:
    return None if identity is None else identity.user_id


async def _found(listing_id: int, identity: Identity | None) -> Listing:
    found = await services().db.read(listings_db.one, listing_id, _reader(identity))
    if found is None:
        raise no_listing()
    return found


async def _marking(listing_id: int, identity: Identity) -> Response:
    found = await _found(listing_id, identity)
    return ok(Marking(found.is_favorite, found.favorite_count))


def _refuse(why: Refusal) -> NoReturn:
    match why:
        case "category":
            raise not_found("This category", "CATEGORY_NOT_FOUND")
        case "sold":
            raise sold()
        case "full":
            most = services().settings.listings_open_max
            raise conflict(
                "TOO_MANY_LISTINGS", f"Nobody has more than {most} open listings; close one first."
            )
        case "often":
            raise conflict("TOO_MANY_LISTINGS", f"Nobody makes more than {listings_db.A_DAY} listings a day.")
        case "nothing":
            raise invalid({"price_cents": "Say a price, what you would take in exchange, or both."})
        case "gone":
            raise no_listing()
