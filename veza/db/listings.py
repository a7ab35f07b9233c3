"""Listings: what somebody sells or would exchange.

Whoever changes a listing's status, or makes an offer that rests on it, holds its row first; of several, in the order of
their ids. Offers are locked after listings, so that accepting, withdrawing and closing never wait for each other in a
circle.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from veza.db import offer_closing, outbox
from veza.db.categories import OUT
from veza.db.listing_images import Image, image
from veza.db.outbox import Event

State = Literal["new", "like_new", "good", "fair", "poor"]
Status = Literal["open", "sold", "closed", "removed"]
# Why something was not done: no such listing (for this person), no such category, sold already, too many are open,
# too many were made, neither a price nor a wish would be left.
Refusal = Literal["gone", "category", "sold", "full", "often", "nothing"]
A_DAY: Final = 200  # listings of a person, removed ones included: followers heard of each


class Somebody(msgspec.Struct, frozen=True):
    """A person, as the market shows people."""

    id: int
    username: str
    avatar: str | None


class Listing(msgspec.Struct, frozen=True):
    """`price_cents`: in the smallest unit of `currency` (ISO 4217); None where only an exchange is wished for."""

    id: int
    owner: Somebody
    title: str
    description: str
    category: str
    category_name: str
    state: State
    price_cents: int | None
    currency: str
    exchange_for: str | None
    location: str | None
    status: Status
    images: list[Image]
    favorite_count: int
    is_favorite: bool
    created_at: datetime
    updated_at: datetime
    sold_at: datetime | None


class NewListing(msgspec.Struct, frozen=True):
    """`category`: a slug, or an id."""

    title: str
    description: str
    category: str | int
    state: State
    price_cents: int | None
    currency: str
    exchange_for: str | None
    location: str | None


class ListingChange(msgspec.Struct, frozen=True):
    """New values; a field left out of `fields` stays as it is."""

    fields: frozenset[str]
    title: str | None = None
    description: str | None = None
    category: str | int | None = None
    state: State | None = None
    price_cents: int | None = None
    currency: str | None = None
    exchange_for: str | None = None
    location: str | None = None
    status: Literal["open", "closed"] | None = None


_json = msgspec.json.Decoder(list[tuple[int, str, int, int]]).decode

# `$1` is the reader.
COLUMNS: Final = """l.id, u.id, u.username, u.avatar, l.title, l.description, c.slug, c.name, l.state, l.price_cents,
    l.currency, l.exchange_for, l.location, l.status,
    (SELECT json_agg(json_build_array(i.n, i.hash, i.width, i.height) ORDER BY i.position, i.n)::text
     FROM listing_images i WHERE i.listing_id = l.id),
    l.favorite_count,
    EXISTS (SELECT FROM listing_favorites f WHERE f.listing_id = l.id AND f.user_id = $1::bigint),
    l.created_at, l.updated_at, l.sold_at"""
TABLES: Final = "listings l JOIN users u ON u.id = l.owner_id JOIN categories c ON c.id = l.category_id"


def made(row: Any) -> Listing:
    """A row of COLUMNS."""
    values = list(row)
    id, images = values[0], values[14]
    values[14] = [image(id, *each) for each in _json(images)] if images else []
    return Listing(*[id, Somebody(*values[1:4]), *values[4:]])


async def one(conn: Any, listing_id: int, reader_id: int | None) -> Listing | None:
    """A listing everybody may see; None: there is none, or its owner is not here any more."""
    row = await conn.fetchrow(
        f"SELECT {COLUMNS} FROM {TABLES} WHERE l.id = $2 AND l.status <> 'removed' AND NOT ({OUT})",
        reader_id,
        listing_id,
    )
    return None if row is None else made(row)


async def create(conn: Any, owner_id: int, new: NewListing, most: int) -> Listing | Refusal:
    """A new, open listing; those who follow its owner are to hear of it. "full": `most` of his are open already;
    "often": he made A_DAY of them since yesterday."""
    category_id = await _category(conn, new.category)
    if category_id is None:
        return "category"
    if await _open_count(conn, owner_id) >= most:
        return "full"
    if await conn.fetchval(
        """SELECT created_at > now() - interval '1 day' FROM listings WHERE owner_id = $1
           ORDER BY id DESC OFFSET $2 LIMIT 1""",
        owner_id,
        A_DAY - 1,
    ):
        return "often"
    id = await conn.fetchval(
        """INSERT INTO listings (owner_id, title, description, category_id, state, price_cents, currency,
                                 exchange_for, location)
           VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id""",
        owner_id,
        new.title,
        new.description,
        category_id,
        new.state,
        new.price_cents,
        new.currency,
        new.exchange_for,
        new.location,
    )
    await outbox.put(
        conn,
        Event(
            "listing",
            owner_id,
            owner_id,
            f"listing:{id}",
            {"listing_id": id, "title": new.title},
            audience="followers",
        ),
    )
    return await one(conn, id, owner_id) or "gone"


async def update(
    conn: Any, listing_id: int, owner_id: int, change: ListingChange, most: int
) -> Listing | Refusal:
    """Change one's own listing. Closed, the open offers that rest on it are rejected."""
    opens = "status" in change.fields and change.status == "open"
    full = opens and await _open_count(conn, owner_id) >= most
    held = await conn.fetchrow(
        """SELECT status, price_cents, exchange_for FROM listings
           WHERE id = $1 AND owner_id = $2 AND status <> 'removed' FOR NO KEY UPDATE""",
        listing_id,
        owner_id,
    )
    if held is None:
        return "gone"
    if held["status"] == "sold":
        return "sold"
    if full and held["status"] != "open":
        return "full"
    price, wish = (
        getattr(change, name) if name in change.fields else held[name]
        for name in ("price_cents", "exchange_for")
    )
    if price is None and wish is None:
        return "nothing"
    columns = {name: getattr(change, name) for name in change.fields if name != "category"}
    if "category" in change.fields:
        category_id = await _category(conn, change.category)
        if category_id is None:
            return "category"
        columns["category_id"] = category_id
    if columns:
        assignments = ", ".join(f"{name} = ${at}" for at, name in enumerate(columns, 2))
        await conn.execute(
            f"UPDATE listings SET {assignments}, updated_at = now() WHERE id = $1",
            listing_id,
            *columns.values(),
        )
    if columns.get("status") == "closed" and held["status"] == "open":
        await offer_closing.reject(conn, [listing_id], "closed", (owner_id,))
    return await one(conn, listing_id, owner_id) or "gone"


async def remove(conn: Any, listing_id: int, owner_id: int | None) -> int | None:
    """Take a listing away, with its images' rows; open offers that rest on it are rejected. Whose it was; None: there
    is no such listing.

    Args:
        owner_id: whose it must be; None: anybody's, for a moderator.
    """
    owner = await conn.fetchval(
        """SELECT owner_id FROM listings WHERE id = $1 AND status <> 'removed'
           AND ($2::bigint IS NULL OR owner_id = $2) FOR NO KEY UPDATE""",
        listing_id,
        owner_id,
    )
    if owner is None:
        return None
    await conn.execute("UPDATE listings SET status = 'removed', updated_at = now() WHERE id = $1", listing_id)
    await conn.execute("DELETE FROM listing_images WHERE listing_id = $1", listing_id)
    await offer_closing.reject(conn, [listing_id], "closed", () if owner_id is None else (owner_id,))
    return int(owner)


async def favorite(conn: Any, listing_id: int, user_id: int) -> bool:
    """Mark a listing, once; False: there is none to be seen."""
    known = await conn.fetchval(
        f"""SELECT l.id FROM listings l JOIN users u ON u.id = l.owner_id
            WHERE l.id = $1 AND l.status <> 'removed' AND NOT ({OUT})""",
        listing_id,
    )
    if known is None:
        return False
    await conn.execute(
        "INSERT INTO listing_favorites (listing_id, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        listing_id,
        user_id,
    )
    return True


async def unfavorite(conn: Any, listing_id: int, user_id: int) -> None:
    """Mark it no longer, whether it is still to be seen or not."""
    await conn.execute(
        "DELETE FROM listing_favorites WHERE listing_id = $1 AND user_id = $2", listing_id, user_id
    )


async def _category(conn: Any, named: str | int | None) -> int | None:
    column = "id" if isinstance(named, int) else "slug"
    id: int | None = await conn.fetchval(
        f"SELECT id FROM categories WHERE {column} = $1 FOR KEY SHARE", named
    )
    return id


async def _open_count(conn: Any, owner_id: int) -> int:
    """How many are open. The owner's row is held, so that two new ones are counted in turn."""
    await conn.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", owner_id)
    count: int = await conn.fetchval(
        "SELECT count(*) FROM listings WHERE owner_id = $1 AND status = 'open'", owner_id
    )
    return count
