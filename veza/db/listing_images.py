"""Images of listings: which there are, in which order, and what they hold. The files are `veza.media.images`'s.

A file is there before the row that names it, and a row goes before its files do: what is shown can be sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec

from veza.db.categories import OUT

LARGE: Final = 1280  # pixels of the longest side
SMALL: Final = 320


class Image(msgspec.Struct, frozen=True):
    """`n` names it within its listing. `width` and `height` are those of the large one, at most LARGE each."""

    n: int
    width: int
    height: int
    url: str
    thumb_url: str


class Shown(msgspec.Struct, frozen=True):
    """What the address of an image needs."""

    hash: str


class Place(msgspec.Struct, frozen=True):
    """Where an image may be put: the listing is there and its owner's, and holds so many. `sold`: it stays as it is."""

    count: int
    sold: bool


Refusal = Literal["gone", "sold", "full", "differs"]


def address(listing_id: int, n: int, hash: str, size: int) -> str:
    """Where a rendition is sent from; it names its content, so it may be kept for ever."""
    return f"/api/v1/listings/{listing_id}/images/{n}?size={size}&v={hash}"


def image(listing_id: int, n: int, hash: str, width: int, height: int) -> Image:
    return Image(n, width, height, address(listing_id, n, hash, LARGE), address(listing_id, n, hash, SMALL))


async def place(conn: Any, listing_id: int, owner_id: int) -> Place | None:
    """None: no such listing of this person's."""
    row = await conn.fetchrow(
        """SELECT (SELECT count(*) FROM listing_images WHERE listing_id = l.id), l.status = 'sold'
           FROM listings l WHERE l.id = $1 AND l.owner_id = $2 AND l.status <> 'removed'""",
        listing_id,
        owner_id,
    )
    return None if row is None else Place(*row)


async def add(
    conn: Any, listing_id: int, owner_id: int, hash: str, width: int, height: int, most: int
) -> Image | Refusal:
    """Put an image behind the others; its files are there already."""
    if (why := await _hold(conn, listing_id, owner_id)) is not None:
        return why
    n = await conn.fetchval(
        "UPDATE listings SET images_made = images_made + 1, updated_at = now() WHERE id = $1 RETURNING images_made",
        listing_id,
    )
    done = await conn.execute(
        """INSERT INTO listing_images (listing_id, n, position, hash, width, height)
           SELECT $1, $2, coalesce(max(position), 0) + 1, $3, $4, $5 FROM listing_images WHERE listing_id = $1
           HAVING count(*) < $6""",
        listing_id,
        n,
        hash,
        width,
        height,
        most,
    )
    return "full" if str(done).endswith(" 0") else image(listing_id, n, hash, width, height)


async def remove(conn: Any, listing_id: int, owner_id: int, n: int) -> Literal["done"] | Refusal:
    """ "gone": no such image of a listing of this person's."""
    if (why := await _hold(conn, listing_id, owner_id)) is not None:
        return why
    done = await conn.execute("DELETE FROM listing_images WHERE listing_id = $1 AND n = $2", listing_id, n)
    return "gone" if str(done).endswith(" 0") else "done"


async def arrange(
    conn: Any, listing_id: int, owner_id: int, order: Sequence[int]
) -> Literal["done"] | Refusal:
    """Give all images another order. "differs": these are not exactly the images there are."""
    if (why := await _hold(conn, listing_id, owner_id)) is not None:
        return why
    rows = await conn.fetch("SELECT n FROM listing_images WHERE listing_id = $1", listing_id)
    there = [row[0] for row in rows]
    if sorted(order) != sorted(there):
        return "differs"
    await conn.execute(
        """UPDATE listing_images i SET position = o.position
           FROM unnest($2::integer[]) WITH ORDINALITY AS o (n, position) WHERE i.listing_id = $1 AND i.n = o.n""",
        listing_id,
        list(order),
    )
    return "done"


async def shown(conn: Any, listing_id: int, n: int) -> Shown | None:
    """None: no such image that everybody may see."""
    hash = await conn.fetchval(
        f"""SELECT i.hash FROM listing_images i JOIN listings l ON l.id = i.listing_id JOIN users u ON u.id = l.owner_id
            WHERE i.listing_id = $1 AND i.n = $2 AND NOT ({OUT})""",
        listing_id,
        n,
    )
    return None if hash is None else Shown(hash)


async def hashes(conn: Any, listing_ids: Sequence[int]) -> dict[int, set[str]]:
    """What the images of these listings hold; a listing without any is left out."""
    rows = await conn.fetch(
        "SELECT listing_id, hash FROM listing_images WHERE listing_id = ANY($1::bigint[])", list(listing_ids)
    )
    found: dict[int, set[str]] = {}
    for listing_id, hash in rows:
        found.setdefault(listing_id, set()).add(hash)
    return found


async def _hold(conn: Any, listing_id: int, owner_id: int) -> Literal["gone", "sold"] | None:
    """Hold a listing, so that its images change in turn; why they may not be changed by this person."""
    status = await conn.fetchval(
        """SELECT status FROM listings WHERE id = $1 AND owner_id = $2 AND status <> 'removed'
           FOR NO KEY UPDATE""",
        listing_id,
        owner_id,
    )
    if status is None:
        return "gone"
    return "sold" if status == "sold" else None
