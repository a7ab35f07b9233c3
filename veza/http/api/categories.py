"""`/categories`: where listings stand."""

from __future__ import annotations

from msgspec import Struct
from quart import Blueprint, Response

from veza.db import categories as categories_db
from veza.db.categories import Category
from veza.http.api.envelope import ok
from veza.http.api.openapi import answers
from veza.http.api.services import services

categories = Blueprint("categories", __name__, url_prefix="/categories")


class Categories(Struct, frozen=True):
    categories: list[Category]


@categories.get("")
@answers(Categories)
async def list_categories() -> Response:
    """All categories in their order, with how many open listings stand in each."""
    return ok(Categories(await services().db.read(categories_db.listed)))
