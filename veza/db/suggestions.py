"""Autocompletion: names with a word that begins like each word typed so far, of what the asker may see.

Asked at every key, so it must be quick whatever is typed: of beginnings that thousands of names have, those of the most
popular are enough. Private letters and messages are no names and never suggested.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from veza.db.like import literal
from veza.db.search import LISTING, PERSON, ROOM, TRACK
from veza.db.search_words import Reading

_COMPARED: Final = 300
_COMMON: Final = 40  # of the most popular: then nobody looks further


class Suggestion(msgspec.Struct, frozen=True):
    """`text` completes what was typed; `detail` tells it from others of the same name."""

    type: str  # people, rooms, tracks, listings
    id: int
    text: str
    detail: str | None


class _Kind(msgspec.Struct, frozen=True):
    """`$1` is the asker, `$2` the beginnings, `$3` what was typed, `$4` how many."""

    table: str  # with its alias
    visible: str
    names: str
    text: str
    detail: str
    liked: str
    kept: str  # what the index of names is made for
    popular: str  # ids and names in the order of an index, the first some hundreds; `$2` how usernames begin


_KINDS: Final[dict[str, _Kind]] = {
    "people": _Kind(
        "users u", PERSON, "u.names", "u.username",
        "nullif(concat_ws(' ', u.first_name, u.last_name), '')", "(0 + 0)", "",
        "SELECT p.id, p.names FROM users p WHERE lower(p.username) LIKE lower($2) ORDER BY lower(p.username) LIMIT 300",
    ),
    "rooms": _Kind(
        "rooms r", ROOM, "plain_words(r.name)", "r.name",
        "r.member_count || CASE r.member_count WHEN 1 THEN ' member' ELSE ' members' END", "ln(1 + r.member_count)",
        "AND r.kind <> 'direct'",
        "SELECT p.id, plain_words(p.name) AS names FROM rooms p WHERE p.kind = 'public' ORDER BY p.id LIMIT 200",
    ),
    "tracks": _Kind(
        "tracks t", TRACK, "t.names", "t.title",
        "coalesce(t.artist, (SELECT u.username FROM users u WHERE u.id = t.owner_id))", "ln(1 + t.play_count)", "",
        "SELECT p.id, p.names FROM tracks p WHERE p.is_public AND p.status = 'ready'"
        " ORDER BY p.play_count DESC, p.id DESC LIMIT 1000",
    ),
    "listings": _Kind(
        "listings l", LISTING, "l.names", "l.title", "l.location", "ln(1 + l.favorite_count)", "",
        "SELECT p.id, p.names FROM listings p WHERE p.status = 'open' ORDER BY p.id DESC LIMIT 1000",
    ),
}  # fmt: skip
KINDS: Final = tuple(_KINDS)


async def begun(conn: Any, asker: int | None, kind: str, reading: Reading, limit: int) -> list[Suggestion]:
    """The likeliest ends of what was typed, for one of `KINDS`."""
    if reading.begun is None:
        return []
    of = _KINDS[kind]
    t = of.table.split()[1]
    common: list[int] = await conn.fetchval(
        f"""SELECT ARRAY(SELECT p.id FROM ({of.popular}) AS p
                         WHERE coalesce(p.names @@ $1::tsquery, false) AND $2::text IS NOT NULL LIMIT {_COMPARED})""",
        reading.begun,
        f"{literal(reading.text)}%",
    )
    source = "unnest($5::bigint[]) AS c (id)"
    if len(common) < _COMMON:
        # Without a limit where the index is asked, for else reading the table from its beginning looks cheap.
        source = """(SELECT unnest($5::bigint[]) AS id
            UNION ALL SELECT h.id FROM hits h WHERE h.id <> ALL ($5::bigint[])) AS c"""
    hits = (
        f"WITH hits AS MATERIALIZED (SELECT {t}.id FROM {of.table} WHERE {of.names} @@ $2::tsquery {of.kept})"
    )
    rows = await conn.fetch(
        f"""{hits if len(common) < _COMMON else "WITH hits AS (SELECT $2::text)"}, matches AS MATERIALIZED (
                SELECT {t}.id FROM {source} JOIN {of.table} ON {t}.id = c.id WHERE {of.visible} LIMIT {_COMPARED}
            )
            SELECT {t}.id, {of.text}, {of.detail}
            FROM matches JOIN {of.table} ON {t}.id = matches.id
            ORDER BY lower({of.text}) = lower($3) DESC, starts_with(lower({of.text}), lower($3)) DESC, {of.liked} DESC,
                     char_length({of.text}), {t}.id
            LIMIT $4""",
        asker,
        reading.begun,
        reading.text,
        limit,
        common,
    )
    return [Suggestion(kind, *row) for row in rows]
