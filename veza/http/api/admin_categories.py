"""`/admin/categories`: where listings may stand, kept by administrators. Every change is in the audit log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from msgspec import Meta, Struct
from quart import Blueprint, Response

from veza.actors.registry import Identity
from veza.db import categories as categories_db
from veza.db.audit import Act
from veza.db.categories import SLUG_TAKEN, Category, Written
from veza.db.errors import Conflict
from veza.http.api.access import address, requires
from veza.http.api.categories import Categories
from veza.http.api.envelope import ApiError, conflict, created, not_found, ok
from veza.http.api.intake import takes
from veza.http.api.openapi import answers, fails
from veza.http.api.services import services

admin_categories = Blueprint("admin_categories", __name__, url_prefix="/admin/categories")

_SLUG_SAYS: Final = "Must have 1 to 40 lower case letters, digits and hyphens, and begin with no hyphen."
Slug = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$", extra={"says": _SLUG_SAYS, "trim": True})]
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=60,
        pattern="^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        extra={"says": "Must be one line of 1 to 60 characters.", "trim": True},
    ),
]
Position = Annotated[
    int,
    Meta(ge=-(2**31), le=2**31 - 1, extra={"says": "Must be a whole number; small ones come first."}),
]


class NewCategory(Struct, frozen=True):
    """Those with a smaller `position` come first."""

    slug: Slug
    name: Name
    position: Position = 0


class CategoryEdit(Struct, frozen=True):
    """What is left out stays. A listing's category is the same one under its new slug."""

    slug: Slug | None = None
    name: Name | None = None
    position: Position | None = None

    def check(self) -> Iterator[tuple[str, str]]:
        if self.slug is None and self.name is None and self.position is None:
            yield "name", "Say a slug, a name or a position."


@admin_categories.get("")
@requires("admin")
@answers(Categories)
async def list_all(identity: Identity) -> Response:
    """All categories in their order."""
    return ok(Categories(await services().db.read(categories_db.listed)))


@admin_categories.post("")
@requires("admin")
@takes(NewCategory)
@answers(Category, 201)
@fails(409)
async def create_category(identity: Identity, data: NewCategory) -> Response:
    """A further category."""
    written = Written(data.slug, data.name, data.position)
    try:
        made = await services().db.write(categories_db.create, _act(identity), written)
    except Conflict as error:
        raise _taken(error) from None
    return created(made)


@admin_categories.put("/<id:category_id>")
@requires("admin")
@takes(CategoryEdit)
@answers(Category)
@fails(404, 409)
async def change_category(category_id: int, identity: Identity, data: CategoryEdit) -> Response:
    """Name it otherwise, or move it."""
    try:
        changed = await services().db.write(
            categories_db.update, _act(identity), category_id, data.slug, data.name, data.position
        )
    except Conflict as error:
        raise _taken(error) from None
    if changed is None:
        raise no_category()
    return ok(changed)


@admin_categories.delete("/<id:category_id>")
@requires("admin")
@answers()
@fails(404, 409)
async def delete_category(category_id: int, identity: Identity) -> Response:
    """Remove one that no listing stands in."""
    match await services().db.write(categories_db.remove, _act(identity), category_id):
        case "gone":
            raise no_category()
        case "used":
            raise conflict("CATEGORY_IN_USE", "Listings stand in this category, if only some that are gone.")
    return ok(message="The category is gone.")


def no_category() -> ApiError:
    return not_found("This category", "CATEGORY_NOT_FOUND")


def _act(identity: Identity) -> Act:
    return Act(identity.user_id, address())


def _taken(error: Conflict) -> ApiError:
    if error.constraint != SLUG_TAKEN:
        raise error
    return conflict("CATEGORY_EXISTS", "There is a category of this slug.")
