"""Where a page of a list ends, and the next one begins: a place in the list's order, as text that clients hand back.

A list that is read page by page while it grows must not show anything twice or leave anything out, so its pages go by
the order's own values, never by counting. Times are kept to the microsecond, as PostgreSQL keeps them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS: Final = re.compile(r"\d{1,19}(-\d{1,19}){0,3}", re.ASCII)
_LAST_MOMENT: Final = (
    250_000_000_000_000_000  # microseconds: before the year 9999 ends, which Python cannot tell
)


def joined(*numbers: int) -> str:
    """The text of a place."""
    return "-".join(map(str, numbers))


def split(text: str, count: int) -> list[int]:
    """The numbers of a place.

    Raises:
        ValueError: it is none of this list's.
    """
    if not _NUMBERS.fullmatch(text):
        raise ValueError("no place in a list")
    numbers = [int(part) for part in text.split("-")]
    if len(numbers) != count or max(numbers) >= 2**63:
        raise ValueError("no place in this list")
    return numbers


def micros(moment: datetime) -> int:
    """Microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def moment(micros: int) -> datetime:
    """The time of so many microseconds since 1970. Raises ValueError where there is none."""
    if not 0 <= micros < _LAST_MOMENT:
        raise ValueError("no time of ours")
    return _EPOCH + timedelta(microseconds=micros)


class Stamp:
    """A place in a list of things ordered by when they came, and by an id where two came together."""

    __slots__ = ("at", "id")

    def __init__(self, at: datetime, id: int) -> None:
        self.at = at
        self.id = id

    @classmethod
    def read(cls, text: str) -> Stamp:
        """Raises ValueError."""
        at, id = split(text, 2)
        return cls(moment(at), id)

    def __str__(self) -> str:
        return joined(micros(self.at), self.id)
