"""Categories of the market, kept by administrators, in the order they chose.

A category that listings stand in cannot go: those listings would stand nowhere.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from veza.db import audit
from veza.db.audit import Act
from veza.db.users import COUNTED

SLUG_TAKEN: Final = "categories_slug"

# Somebody whose listings nobody sees: disabled, deleted or banned. The first part is the index users_out's own.
OUT: Final = """(NOT u.is_active OR u.deleted_at IS NOT NULL OR u.banned_until IS NOT NULL)
    AND (NOT u.is_active OR u.deleted_at IS NOT NULL OR u.banned_until > now())"""
# NOT IN is one look for all of a list; NOT EXISTS was a join, planned for one such person and slow for a hundred.
SHOWN: Final = f"l.owner_id NOT IN (SELECT u.id FROM users u WHERE {OUT})"


class Category(msgspec.Struct, frozen=True):
    """`count`: open listings that everybody sees, up to COUNTED."""

    id: int
    slug: str
    name: str
    position: int
    count: int


class Written(msgspec.Struct, frozen=True):
    """A category as an administrator writes it."""

    slug: str
    name: str
    position: int


_CATEGORY: Final = f"""SELECT c.id, c.slug, c.name, c.position,
        (SELECT count(*) FROM (SELECT FROM listings l WHERE l.category_id = c.id AND l.status = 'open' AND {SHOWN}
                               LIMIT {COUNTED}) AS matches)
    FROM categories c"""


async def listed(conn: Any) -> list[Category]:
    """All of them, in their order."""
    rows = await conn.fetch(f"{_CATEGORY} ORDER BY c.position, c.id")
    return [Category(*row) for row in rows]


async def create(conn: Any, act: Act, written: Written) -> Category:
    """Raises Conflict with SLUG_TAKEN as its constraint."""
    id = await conn.fetchval(
        "INSERT INTO categories (slug, name, position) VALUES ($1, $2, $3) RETURNING id",
        written.slug,
        written.name,
        written.position,
    )
    await audit.record(conn, act, "category.create", "category", id, msgspec.to_builtins(written))
    return Category(id, written.slug, written.name, written.position, 0)


async def update(
    conn: Any, act: Act, id: int, slug: str | None, name: str | None, position: int | None
) -> Category | None:
    """Change what is given; None: no such category. Raises Conflict with SLUG_TAKEN as its constraint."""
    done = await conn.execute(
        """UPDATE categories SET slug = coalesce($2, slug), name = coalesce($3, name),
                                 position = coalesce($4, position) WHERE id = $1""",
        id,
        slug,
        name,
        position,
    )
    if str(done).endswith(" 0"):
        return None
    category = Category(*await conn.fetchrow(f"{_CATEGORY} WHERE c.id = $1", id))
    details = {"slug": category.slug, "name": category.name, "position": category.position}
    await audit.record(conn, act, "category.update", "category", id, details)
    return category


async def remove(conn: Any, act: Act, id: int) -> Literal["done", "gone", "used"]:
    """Remove one that no listing stands in, not even one that was removed."""
    slug = await conn.fetchval("SELECT slug FROM categories WHERE id = $1 FOR UPDATE", id)
    if slug is None:
        return "gone"
    if await conn.fetchval("SELECT EXISTS (SELECT FROM listings WHERE category_id = $1)", id):
        return "used"
    await conn.execute("DELETE FROM categories WHERE id = $1", id)
    await audit.record(conn, act, "category.delete", "category", id, {"slug": slug})
    return "done"
