"""Lists that are read by key: `limit`, and `cursor`, which is an earlier page's `next_cursor`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from veza.db import keys
from veza.http.api import envelope
from veza.http.api.envelope import ApiError

_CURSOR_SAYS = "Must be what `next_cursor` said."


class KeyPaging(Struct, frozen=True, kw_only=True):
    """A page behind another one; without `cursor` the first."""

    limit: Annotated[int, Meta(ge=1, le=100, extra={"says": "Must be a whole number from 1 to 100."})] = 20
    cursor: Annotated[str, Meta(max_length=100, extra={"says": _CURSOR_SAYS})] | None = None


def stamp(query: KeyPaging) -> keys.Stamp | None:
    """The place a list by time goes on behind; raises ApiError."""
    if query.cursor is None:
        return None
    try:
        return keys.Stamp.read(query.cursor)
    except ValueError:
        raise wrong_cursor() from None


def numbers(query: KeyPaging, count: int) -> list[int] | None:
    """The numbers a list goes on behind; raises ApiError."""
    if query.cursor is None:
        return None
    try:
        return keys.split(query.cursor, count)
    except ValueError:
        raise wrong_cursor() from None


def wrong_cursor() -> ApiError:
    return envelope.invalid({"cursor": _CURSOR_SAYS})


def key_meta(limit: int, next_cursor: str | None, total: int | None = None) -> envelope.Meta:
    """`meta` of a page by key."""
    return envelope.Meta(per_page=limit, total=total, next_cursor=next_cursor)
