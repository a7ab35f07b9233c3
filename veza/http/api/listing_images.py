"""`/listings/{id}/images`: pictures of what is for sale.

An upload is read as it comes (a form with a file, or the image itself), at most `LISTING_IMAGE_LIMIT`, and only once it
is known that the listing is the sender's and has room for it. Anybody may look, as pages do with `<img>`; an address
names what it holds (`v`), so it can be kept for ever.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors import listing_images as images
from veza.actors.listing_images import MOST
from veza.actors.registry import Identity
from veza.db import listing_images as images_db
from veza.db import listings as listings_db
from veza.db.listing_images import LARGE, Image
from veza.http.api.access import signed_in
from veza.http.api.avatars import NoFields
from veza.http.api.envelope import ApiError, conflict, not_found, ok
from veza.http.api.images import decoded, received, receiving, sent, storing
from veza.http.api.intake import takes, takes_query
from veza.http.api.listings import must_be_own, no_listing, sold
from veza.http.api.openapi import answers, describe, fails
from veza.http.api.services import services
from veza.http.rawasgi import Answer, Call, Route, success

listing_images = Blueprint("listing_images", __name__, url_prefix="/listings")

_FILES: Final = ("image", "file")  # the names of the form's part


class Images(Struct, frozen=True):
    images: list[Image]


class ImageQuery(Struct, frozen=True):
    """`size`: pixels of the longest side; the smallest picture that is at least as large is sent, of 320 and 1280.
    `v`: what the listing's addresses say."""

    size: Annotated[
        int, Meta(ge=1, le=4096, extra={"says": "Must be a number of pixels from 1 to 4096."})
    ] = LARGE
    v: Annotated[str, Meta(max_length=64)] | None = None


class Order(Struct, frozen=True):
    """The numbers (`n`) of all images, in the new order."""

    order: Annotated[
        list[int], Meta(max_length=MOST, extra={"says": "Must be a list of the images' numbers."})
    ]


@answers(Image, 201)
@fails(400, 403, 404, 409, 413, 415, 507)
async def put_image(call: Call) -> Answer:
    """Add a picture to one's listing: JPEG, PNG, WebP, GIF or AVIF.

    It is decoded, turned upright, made smaller and encoded anew, in two sizes; nothing else of the file is kept.
    """
    user_id = call.user().user_id
    named = call.parameters["listing_id"]
    listing_id = int(named) if named.isdecimal() and len(named) < 19 else 0
    s = call.services
    place = await s.db.read(images_db.place, listing_id, user_id)
    if place is None:
        raise await _not_own(call, listing_id)
    if place.sold:
        raise sold()
    if place.count >= MOST:
        raise _full()
    with receiving(call, user_id):
        made = await decoded(s.listing_images, await received(call, s.settings.listing_image_limit, _FILES))
    async with storing():
        added = await images.add(s.db, s.listing_images, listing_id, user_id, made)
    if not isinstance(added, Image):
        raise {"full": _full, "sold": sold}.get(added, no_listing)()
    return success(added, status=201, message="The picture is saved.")


describe(put_image).login = True
_note = describe(put_image)
_note.form, _note.files, _note.bytes_of = NoFields, _FILES, "image/*"

LISTING_IMAGE_ROUTES: Final = (
    Route(
        method="POST", path="/api/v1/listings/<listing_id>/images", handler=put_image, tag="listing_images"
    ),
)


@listing_images.delete("/<id:listing_id>/images/<id:n>")
@signed_in
@answers()
@fails(403, 404, 409)
async def delete_image(listing_id: int, n: int, identity: Identity) -> Response:
    """Take a picture away; the others keep their numbers."""
    s = services()
    outcome = await images.remove(s.db, s.listing_images, listing_id, identity.user_id, n)
    if outcome == "sold":
        raise sold()
    if outcome != "done":
        await must_be_own(listing_id, identity)
        raise no_image()
    return ok(message="The picture is gone.")


@listing_images.put("/<id:listing_id>/images/order")
@signed_in
@takes(Order)
@answers(Images)
@fails(403, 404, 409)
async def arrange_images(listing_id: int, identity: Identity, data: Order) -> Response:
    """Give all pictures another order; the first one is what lists show."""
    db = services().db
    outcome = await db.write(images_db.arrange, listing_id, identity.user_id, data.order)
    if outcome == "sold":
        raise sold()
    if outcome == "differs":
        raise conflict("CONFLICT", "These are not exactly the images of the listing; look again.")
    found = await db.read(listings_db.one, listing_id, identity.user_id)
    if outcome == "gone" or found is None:
        await must_be_own(listing_id, identity)
        raise no_listing()
    return ok(Images(found.images))


@listing_images.get("/<id:listing_id>/images/<id:n>")
@takes_query(ImageQuery)
@answers(content_type="image/webp")
@fails(404)
async def show_image(listing_id: int, n: int, query: ImageQuery) -> Response:
    """A picture. Asked for with the `v` of the listing's addresses it may be kept for ever."""
    s = services()
    shown = await s.db.read(images_db.shown, listing_id, n)
    if shown is None:
        raise no_image()
    pictures = s.listing_images
    size = pictures.shape.fitting(query.size)
    found = await sent(
        pictures.path(listing_id, shown.hash, size), f"{shown.hash}-{size}", forever=query.v == shown.hash
    )
    if found is None:
        raise no_image()
    return found


def no_image() -> ApiError:
    return not_found("This image", "IMAGE_NOT_FOUND")


def _full() -> ApiError:
    return conflict("TOO_MANY_IMAGES", f"A listing has at most {MOST} images; take one away first.")


async def _not_own(call: Call, listing_id: int) -> ApiError:
    if await call.services.db.read(listings_db.one, listing_id, None) is None:
        return no_listing()
    return ApiError(403, "FORBIDDEN", "This listing is not yours.")
