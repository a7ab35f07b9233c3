"""The market: listings, their pictures, and offers from the first word to the last."""

from os import PathLike
from pathlib import Path
from typing import Any

import trio

from veza.client.listings import Category, Listing, ListingImage, Offer
from veza.client.models import Page
from veza.client.reading import content_type
from veza.client.transport import Transport, read_list, read_one


class Market(Transport):
    """What `VezaClient` offers of listings and offers. Amounts are whole cents."""

    # Listings ------------------------------------------------------------------------------------------

    async def categories(self) -> list[Category]:
        """What listings are sorted into, in the order they are shown."""
        return read_list(await self.request("GET", "categories"), "categories", Category)

    async def listings(
        self,
        search: str | None = None,
        *,
        category: str | None = None,
        state: str | None = None,
        status: str | None = None,
        currency: str | None = None,
        min_price: int | None = None,
        max_price: int | None = None,
        user_id: int | None = None,
        sort: str = "newest",
        page: int = 1,
        limit: int = 20,
    ) -> Page[Listing]:
        """Open ones, unless `status` (open, sold, closed; with `user_id` also all) says otherwise.

        Args:
            category: a slug.
            min_price, max_price: in cents.
            sort: newest, oldest, price_asc, price_desc or popular.
        """
        params = {
            "search": search,
            "category": category,
            "state": state,
            "status": status,
            "currency": currency,
            "min_price": min_price,
            "max_price": max_price,
            "user_id": user_id,
            "sort": sort,
            "page": page,
            "limit": limit,
        }
        return await self._page("listings", "listings", Listing, params)

    async def listing(self, listing_id: int) -> Listing:
        return read_one(await self.request("GET", f"listings/{listing_id}"), "listing", Listing)

    async def create_listing(
        self,
        title: str,
        category: str | int,
        state: str,
        *,
        description: str = "",
        price_cents: int | None = None,
        currency: str = "EUR",
        exchange_for: str | None = None,
        location: str | None = None,
    ) -> Listing:
        """Put something up for a price, for an exchange, or either; `add_image` shows it."""
        body = {
            "title": title,
            "category": category,
            "state": state,
            "description": description,
            "price_cents": price_cents,
            "currency": currency,
            "exchange_for": exchange_for,
            "location": location,
        }
        return read_one(await self.request("POST", "listings", json=body), "listing", Listing)

    async def update_listing(self, listing_id: int, **fields: Any) -> Listing:
        """Change what `create_listing` takes, or `status` (open, closed): what is not named stays, None clears."""
        return read_one(await self.request("PUT", f"listings/{listing_id}", json=fields), "listing", Listing)

    async def delete_listing(self, listing_id: int) -> None:
        """Take it away, its pictures too; open offers for it are rejected."""
        await self.request("DELETE", f"listings/{listing_id}")

    async def add_image(
        self, listing_id: int, image: bytes | str | PathLike[str], kind: str | None = None
    ) -> ListingImage:
        """Add a picture (JPEG, PNG, WebP, GIF, AVIF) to one's listing, behind those it has.

        Args:
            image: its bytes, or a file.
            kind: its content type; of a file, by its name.

        Raises:
            OSError: the file cannot be read.
            ApiError: 413 when it is too large, 415 `NOT_AN_IMAGE`, 409 when there are enough of them.
        """
        content = await image_content(image, kind)
        data = await self.request("POST", f"listings/{listing_id}/images", content=content)
        return read_one(data, "image", ListingImage)

    async def remove_image(self, listing_id: int, n: int) -> None:
        await self.request("DELETE", f"listings/{listing_id}/images/{n}")

    async def mark(self, listing_id: int) -> None:
        """Remember a listing among one's favorites."""
        await self.request("PUT", f"listings/{listing_id}/favorite")

    async def unmark(self, listing_id: int) -> None:
        await self.request("DELETE", f"listings/{listing_id}/favorite")

    async def favorites(self, *, limit: int = 20, cursor: str | None = None) -> Page[Listing]:
        """Those one has marked, the latest first; `cursor` (a page's `next_cursor`) goes on behind that page."""
        return await self._page("users/me/favorites", "listings", Listing, {"limit": limit, "cursor": cursor})

    # Offers --------------------------------------------------------------------------------------------

    async def make_offer(
        self,
        listing_id: int,
        amount_cents: int | None = None,
        *,
        proposed_listing_id: int | None = None,
        message: str | None = None,
        expires_in_hours: int | None = None,
    ) -> Offer:
        """Offer money, one of one's own open listings, or both.

        Raises:
            ApiError: 409 `OFFER_EXISTS` or `LISTING_NOT_OPEN`, 403 `OWN_LISTING` or `BLOCKED`.
        """
        body = {
            "amount_cents": amount_cents,
            "proposed_listing_id": proposed_listing_id,
            "message": message,
            "expires_in_hours": expires_in_hours,
        }
        given = {name: value for name, value in body.items() if value is not None}
        return read_one(
            await self.request("POST", f"listings/{listing_id}/offers", json=given), "offer", Offer
        )

    async def offers(
        self, which: str = "all", *, status: str | None = None, page: int = 1, limit: int = 20
    ) -> Page[Offer]:
        """One's own, the newest first; `which` is sent, received or all."""
        params = {"type": which, "status": status, "page": page, "limit": limit}
        return await self._page("offers", "offers", Offer, params)

    async def listing_offers(
        self, listing_id: int, *, status: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> Page[Offer]:
        """What was offered for a listing of one's own."""
        params = {"status": status, "limit": limit, "cursor": cursor}
        return await self._page(f"listings/{listing_id}/offers", "offers", Offer, params)

    async def offer(self, offer_id: int) -> Offer:
        """One; the seller's first look is noted (`viewed_at`)."""
        return read_one(await self.request("GET", f"offers/{offer_id}"), "offer", Offer)

    # Each of these answers with the offer as it stands then, and raises ApiError 409 `OFFER_NOT_OPEN` when it is too
    # late, 403 when it is for the other side to say.

    async def accept_offer(self, offer_id: int) -> Offer:
        """Agree, to an offer or to a counter-offer: what is exchanged is sold then."""
        return await self._step(offer_id, "accept")

    async def reject_offer(self, offer_id: int) -> Offer:
        return await self._step(offer_id, "reject")

    async def withdraw_offer(self, offer_id: int) -> Offer:
        return await self._step(offer_id, "withdraw")

    async def counter_offer(
        self,
        offer_id: int,
        amount_cents: int | None = None,
        *,
        proposed_listing_id: int | None = None,
        message: str | None = None,
    ) -> Offer:
        """Say, as the seller, what one would take instead; then the buyer decides."""
        return await self._step(
            offer_id,
            "counter",
            amount_cents=amount_cents,
            proposed_listing_id=proposed_listing_id,
            message=message,
        )

    async def _step(self, offer_id: int, step: str, **terms: Any) -> Offer:
        return read_one(await self.request("POST", f"offers/{offer_id}/{step}", json=terms), "offer", Offer)


async def image_content(image: bytes | str | PathLike[str], kind: str | None) -> tuple[bytes, str]:
    """An image as a request's body; the server looks at the bytes, whatever they are called."""
    if isinstance(image, bytes):
        return image, kind or "application/octet-stream"
    file = Path(image)
    return await trio.to_thread.run_sync(file.read_bytes), kind or content_type(file)
