"""How an image comes to its listing, and what is left of those that went.

A picture's files are there before the row that names them, and go after it: who is killed in between leaves files that
no row names, and `sweep` finds them; never a row without its files.
"""

from __future__ import annotations

from typing import Final, Literal

import trio

from veza.db import listing_images
from veza.db.listing_images import Image, Refusal
from veza.db.pool import Database
from veza.media.images import Picture, Pictures

MOST: Final = 8  # images of a listing
ORPHAN_AGE: Final = 3600.0  # seconds after which files without a row are nobody's
_SWEEP_BATCH: Final = 500


async def add(
    db: Database, pictures: Pictures, listing_id: int, owner_id: int, picture: Picture
) -> Image | Refusal:
    """Keep a picture, as the last image of one's listing.

    Cancelled, it may be one of its images or not; what is left over is swept.

    Raises:
        OSError: the disk is full.
        DatabaseError: see `Database.write`.
    """
    async with pictures.turn(listing_id):
        await trio.to_thread.run_sync(pictures.store, listing_id, picture)
        added = await db.write(
            listing_images.add, listing_id, owner_id, picture.hash, picture.width, picture.height, MOST
        )
        if not isinstance(added, Image):
            await _tidy(db, pictures, listing_id)
    return added


async def remove(
    db: Database, pictures: Pictures, listing_id: int, owner_id: int, n: int
) -> Literal["done"] | Refusal:
    """Take an image away; see `listing_images.remove`."""
    async with pictures.turn(listing_id):
        done = await db.write(listing_images.remove, listing_id, owner_id, n)
        if done == "done":
            await _tidy(db, pictures, listing_id)
    return done


async def forget(db: Database, pictures: Pictures, listing_id: int) -> None:
    """A listing was removed: its files go. To be called after the commit, also where nobody knows whether it came
    about: what a row still names stays."""
    async with pictures.turn(listing_id):
        await _tidy(db, pictures, listing_id)


async def sweep(db: Database, pictures: Pictures, older_than: float = ORPHAN_AGE) -> int:
    """Remove files that no row names: of accounts deleted, of commits that never were. How many listings had some.

    Args:
        older_than: seconds for which nobody must have touched them.

    Raises:
        DatabaseError: the database cannot be asked; nothing is removed then.
    """
    gone = 0
    kept = await trio.to_thread.run_sync(pictures.kept, older_than)
    ids = sorted(kept)
    for start in range(0, len(ids), _SWEEP_BATCH):
        batch = ids[start : start + _SWEEP_BATCH]
        named = await db.read(listing_images.hashes, batch)
        for listing_id in batch:
            if kept[listing_id] - named.get(listing_id, set()) or listing_id not in named:
                await forget(db, pictures, listing_id)
                gone += 1
    return gone


async def _tidy(db: Database, pictures: Pictures, listing_id: int) -> None:
    """Keep the files that rows name. The turn is the caller's, so none is about to get its row."""
    named = await db.read(listing_images.hashes, [listing_id])
    await trio.to_thread.run_sync(pictures.keep_only, listing_id, named.get(listing_id, ()))
