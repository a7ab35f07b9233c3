"""What people say of listings and offers, as types.

Money is a whole number of a currency's smallest unit, never a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from veza.db.currencies import DIGITS
from veza.db.listings import ListingChange, NewListing, State
from veza.db.offers import NewOffer, Status
from veza.http.api.chat import BIGINT, Id
from veza.http.api.models import Paging, SearchText, plain
from veza.http.api.pages import KeyPaging

MOST_CENTS: Final = 10_000_000_000
_WEEK: Final = 168  # hours
_LINE: Final = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$"
_CURRENCY_SAYS: Final = "Must be a currency of ISO 4217, such as EUR."
_STATES: Final = "Must be new, like_new, good, fair or poor."


def _text(least: int, most: int, *, line: bool = False) -> Meta:
    what = "one line of" if line else "a text of"
    bounds = f"{least} to {most}" if least else f"at most {most}"
    return Meta(
        min_length=least or None,
        max_length=most,
        pattern=_LINE if line else None,
        extra={"says": f"Must be {what} {bounds} characters.", "trim": True},
    )


def _cents(least: int) -> Meta:
    says = f"Must be a whole number from {least} to {MOST_CENTS}, in the currency's smallest unit (cents)."
    return Meta(ge=least, le=MOST_CENTS, extra={"says": says})


Title = Annotated[str, _text(3, 100, line=True)]
Description = Annotated[str, _text(0, 5000)]
Category = Annotated[
    Annotated[str, Meta(max_length=40)] | Annotated[int, Meta(ge=1, le=BIGINT)],
    Meta(extra={"says": "Must be a category's slug or id."}),
]
Price = Annotated[int, _cents(0)]
Amount = Annotated[int, _cents(1)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", extra={"says": _CURRENCY_SAYS, "trim": True})]
Wish = Annotated[str, _text(0, 500)]
Location = Annotated[str, _text(0, 100, line=True)]
Condition = Annotated[State, Meta(extra={"says": _STATES})]
Message = Annotated[str, _text(0, 1000)]
Hours = Annotated[int, Meta(ge=1, le=720, extra={"says": "Must be a whole number of hours from 1 to 720."})]
OfferStatus = Annotated[
    Status,
    Meta(extra={"says": "Must be pending, countered, accepted, rejected, withdrawn or expired."}),
]


def _plain(form: Any, *names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        yield from plain(name, getattr(form, name))


def _real(currency: str | UnsetType | None) -> Iterator[tuple[str, str]]:
    if isinstance(currency, str) and currency not in DIGITS:
        yield "currency", _CURRENCY_SAYS


class ListingForm(Struct, frozen=True):
    """A price, a wish for an exchange, or both. `category`: a slug, or an id. Without a `currency`: EUR."""

    title: Title
    category: Category
    state: Condition
    description: Description | None = None
    price_cents: Price | None = None
    currency: Currency | None = None
    exchange_for: Wish | None = None
    location: Location | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _plain(self, "description", "exchange_for")
        yield from _real(self.currency)
        if self.price_cents is None and not self.exchange_for:
            yield "price_cents", "Say a price, what you would take in exchange, or both."

    def listing(self) -> NewListing:
        return NewListing(
            self.title,
            self.description or "",
            self.category,
            self.state,
            self.price_cents,
            self.currency or "EUR",
            self.exchange_for or None,
            self.location or None,
        )


class ListingEdit(Struct, frozen=True):
    """What is left out stays; null takes a price, a wish, a place or the description away. `status`: closed, or open
    again."""

    title: Title | UnsetType = UNSET
    category: Category | UnsetType = UNSET
    state: Condition | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    price_cents: Price | UnsetType | None = UNSET
    currency: Currency | UnsetType = UNSET
    exchange_for: Wish | UnsetType | None = UNSET
    location: Location | UnsetType | None = UNSET
    status: (
        Annotated[Literal["open", "closed"], Meta(extra={"says": "Must be open or closed."})] | UnsetType
    ) = UNSET

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _plain(self, "description", "exchange_for")
        yield from _real(self.currency)

    def change(self) -> ListingChange:
        given: dict[str, Any] = {}
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not UNSET:
                given[name] = (value or None) if name in ("exchange_for", "location") else value
        if "description" in given:
            given["description"] = given["description"] or ""
        return ListingChange(frozenset(given), **given)


class OfferForm(Struct, frozen=True):
    """Money, one of one's own open listings in exchange, or both; for 7 days unless it says otherwise."""

    amount_cents: Amount | None = None
    proposed_listing_id: Id | None = None
    proposed_product_id: Annotated[Id, Meta(description="The older name of proposed_listing_id.")] | None = (
        None
    )
    message: Message | None = None
    expires_in_hours: Hours | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _plain(self, "message")
        yield from _terms(self)

    def offer(self) -> NewOffer:
        proposed = self.proposed_listing_id or self.proposed_product_id
        return NewOffer(self.amount_cents, proposed, self.message or None, self.expires_in_hours or _WEEK)


class CounterForm(Struct, frozen=True):
    """The terms the seller would take: money, one of the buyer's open listings, or both."""

    amount_cents: Amount | None = None
    proposed_listing_id: Id | None = None
    proposed_product_id: Annotated[Id, Meta(description="The older name of proposed_listing_id.")] | None = (
        None
    )
    message: Message | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        yield from _plain(self, "message")
        yield from _terms(self)

    def offer(self) -> NewOffer:
        proposed = self.proposed_listing_id or self.proposed_product_id
        return NewOffer(self.amount_cents, proposed, self.message or None, 0)


def _terms(form: OfferForm | CounterForm) -> Iterator[tuple[str, str]]:
    one, older = form.proposed_listing_id, form.proposed_product_id
    if one is not None and older is not None and one != older:
        yield "proposed_product_id", "Is another name of proposed_listing_id; say one of the two."
    if form.amount_cents is None and one is None and older is None:
        yield "amount_cents", "Say an amount, a listing in exchange, or both."


# Lists -------------------------------------------------------------------------------------------------


class ListingsQuery(Paging, frozen=True, kw_only=True):
    """`category`: a slug. Prices are in the smallest unit, of whatever currency unless one is named. `status=all` goes
    with `user_id` only."""

    search: SearchText | None = None
    category: Annotated[str, Meta(max_length=40, extra={"says": "Must be a category's slug."})] | None = None
    state: Condition | None = None
    status: Annotated[
        Literal["open", "sold", "closed", "all"], Meta(extra={"says": "Must be open, sold, closed or all."})
    ] = "open"
    currency: Currency | None = None
    min_price: Price | None = None
    max_price: Price | None = None
    user_id: Id | None = None
    sort: Annotated[
        Literal["newest", "oldest", "price_asc", "price_desc", "popular"],
        Meta(extra={"says": "Must be newest, oldest, price_asc, price_desc or popular."}),
    ] = "newest"

    def check(self) -> Iterator[tuple[str, str]]:
        yield from super().check()
        if self.status == "all" and self.user_id is None:
            yield "status", "Must be open, sold or closed; all is for one person's listings (user_id)."


class OffersQuery(Paging, frozen=True, kw_only=True):
    type: Annotated[
        Literal["sent", "received", "all"], Meta(extra={"says": "Must be sent, received or all."})
    ] = "all"
    status: OfferStatus | None = None


class ListingOffersQuery(KeyPaging, frozen=True, kw_only=True):
    status: OfferStatus | None = None
