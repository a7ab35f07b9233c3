"""The market as this client reads it. Money is whole cents (the currency's smallest unit), never a float."""

from datetime import datetime

from veza.client.frames import Frame
from veza.client.media import Person


class Category(Frame, frozen=True, kw_only=True):
    """What listings are sorted into; `slug` is its name in addresses, `count` how many open ones it has."""

    id: int
    slug: str
    name: str
    count: int = 0


class ListingImage(Frame, frozen=True, kw_only=True):
    """A picture of a listing; `n` is its name within it. Addresses may be relative to the server's."""

    n: int
    width: int
    height: int
    url: str
    thumb_url: str | None = None


class Listing(Frame, frozen=True, kw_only=True):
    """Something for sale or exchange.

    `state` is how it is preserved: new, like_new, good, fair, poor; `status` is open, sold, closed or removed.
    `price_cents` is None where only an exchange is wished for.
    """

    id: int
    title: str
    category: str
    state: str
    status: str = "open"
    owner: Person | None = None
    description: str = ""
    category_name: str | None = None
    price_cents: int | None = None
    currency: str = "EUR"
    exchange_for: str | None = None
    location: str | None = None
    images: tuple[ListingImage, ...] = ()
    favorite_count: int = 0
    is_favorite: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    sold_at: datetime | None = None


class BriefListing(Frame, frozen=True, kw_only=True):
    """A listing as offers and searches show it."""

    id: int
    title: str
    status: str
    owner_id: int | None = None
    price_cents: int | None = None
    currency: str = "EUR"
    thumb_url: str | None = None


class Counter(Frame, frozen=True, kw_only=True):
    """What the seller would take instead."""

    amount_cents: int | None = None
    proposed_listing: BriefListing | None = None
    message: str | None = None
    created_at: datetime | None = None


class Offer(Frame, frozen=True, kw_only=True):
    """An offer, as its two sides see it: money, a listing of the buyer's, or both.

    `status` is pending, countered, accepted, rejected, withdrawn or expired; a countered one is the buyer's to decide.
    """

    id: int
    listing: BriefListing
    buyer: Person
    seller: Person
    status: str
    amount_cents: int | None = None
    currency: str = "EUR"
    proposed_listing: BriefListing | None = None
    message: str | None = None
    counter: Counter | None = None
    viewed_at: datetime | None = None
    expires_at: datetime | None = None
    decided_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
