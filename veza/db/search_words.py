"""What somebody typed into a search, made into queries: words in both languages, beginnings, and words mended.

Words are read as the indexes hold them: without accents, as they are spelt, and as what French and English leave of
them. `"…"`, `or` and `-` mean what they mean elsewhere; any other text whatever is only words. A query without a word
that must be there (nothing but stop words, signs or exclusions) finds nothing, for it would read whole tables.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

SHORTEST: Final = 4  # letters of a word that is mended
LONGEST: Final = 40  # of one the vocabulary holds
_MENDED: Final = 4  # words of a search that are mended
_NEIGHBOURS: Final = 3  # spellings that are tried for each
_WITHIN: Final = re.compile(r"(?<=\w)[-._/@:]+(?=\w)")
_IN_A_ROW: Final = re.compile(r"('(?:[^']|'')*')|<(?:-|\d+)>")
_OPERATORS: Final = re.compile(r'"|(?:^|\s)-|\bor\b', re.IGNORECASE)


class Reading(msgspec.Struct, frozen=True):
    """Queries as PostgreSQL writes them (tsquery).

    `said` is for what people wrote, `named` for names and titles; either is None where nothing can be looked for.
    `loose` is `said` without order: what holds the words in a row is among what it finds, and an index tells it alone.
    `begun`: names with a word that begins like each of `words`. `mendable`: it is words alone, no operators.
    """

    text: str
    said: str | None
    named: str | None
    begun: str | None
    words: tuple[str, ...]
    mendable: bool
    loose: str | None

    def __repr__(self) -> str:  # what people look for stays out of logs
        return "Reading()"


async def read(conn: Any, text: str) -> Reading:
    """What `text` asks for. Any text without NULs will do."""
    named = _WITHIN.sub(" ", text)
    row = await conn.fetchrow(
        """SELECT said::text, querytree(said), wanted::text, querytree(wanted), words
           FROM (SELECT websearch_to_tsquery('search_english', $1) || websearch_to_tsquery('search_french', $1) AS said,
                        websearch_to_tsquery('search_plain', $2) || websearch_to_tsquery('search_english', $2)
                            || websearch_to_tsquery('search_french', $2) AS wanted,
                        tsvector_to_array(plain_words($2)) AS words) AS readings""",
        text,
        named,
    )
    words = tuple(row["words"])
    begun = " & ".join(f"{quoted(word)}:*" for word in words) or None
    said = _usable(row[0], row[1])
    return Reading(
        text,
        said,
        _usable(row[2], row[3]),
        begun,
        words,
        _OPERATORS.search(text) is None,
        # Without exclusions too: words that are excluded in a row may stand apart.
        _IN_A_ROW.sub(lambda part: part[1] or "&", row[1]) if said is not None and "<" in said else said,
    )


def quoted(word: str) -> str:
    """A word as a tsquery takes it to the letter."""
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"


def _usable(query: str, tree: str) -> str | None:
    """A query an index can answer; `tree` is what PostgreSQL can look up of it ("T": everything)."""
    return query if tree not in ("", "T") else None


async def mend(conn: Any, reading: Reading) -> str | None:
    """The query with words of the vocabulary in the place of those like them; None where there are none.

    One mistake is forgiven in words of up to five letters, two in longer ones; letters that changed places are one.
    """
    if not reading.mendable or not any(len(word) >= SHORTEST for word in reading.words):
        return None
    parts = []
    mended = False
    for at, word in enumerate(reading.words):
        spellings = [word]
        if at < _MENDED and SHORTEST <= len(word) <= LONGEST + 2:
            # What has no letters has no trigrams: for that the index would answer with every word there is.
            rows = await conn.fetch(
                """SELECT word FROM vocabulary
                   WHERE show_trgm($1) <> '{}' AND word % $1 AND char_length(word) BETWEEN $2 AND $3
                   ORDER BY similarity(word, $1) DESC, word LIMIT 40""",
                word,
                len(word) - 2,
                len(word) + 2,
            )
            near = nearest(word, [row[0] for row in rows])
            mended = mended or bool(near)
            spellings += near
        parts.append("(" + " | ".join(quoted(spelling) for spelling in spellings) + ")")
    return " & ".join(parts) if mended else None


def nearest(word: str, others: Sequence[str]) -> list[str]:
    """The few of `others` that `word` may have been meant to be, the likeliest first."""
    most = 1 if len(word) <= 5 else 2
    ranked = [(distance(word, other, most), at, other) for at, other in enumerate(others) if other != word]
    return [other for apart, _, other in sorted(ranked) if apart <= most][:_NEIGHBOURS]


def distance(one: str, other: str, most: int) -> int:
    """Letters to change, add or leave out, or neighbours to exchange, from one to the other; past `most`, `most + 1`.

    (Optimal string alignment: Damerau, 1964, without changes inside an exchanged pair.)
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before_that, before, row = before, row, [i]
        for j, theirs in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != theirs))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == theirs:
                cost = min(cost, before_that[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
