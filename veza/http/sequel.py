"""The next range of the same file, asked for in the same words: players do that hundreds of times on one connection.

A head that differs from the one before in nothing but the digits of its range means the same in all else, so it need
not be read again. Whatever is not exactly that is none of our business and goes the ordinary way.
"""

import re
from typing import Final

_WANTED: Final = re.compile(rb"\r\nrange: ?bytes=(\d{1,18}-\d{0,18})\r\n", re.I)
_DECISIVE: Final = re.compile(rb"\r\n(?:range:|if-)", re.I)
_DIGITS: Final = re.compile(rb"(\d{1,18})-(\d{0,18})")


class Sequel:
    """What the words of one request were, apart from its range."""

    __slots__ = ("_after", "_before")

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before = before
        self._after = after

    def range(self, raw: bytes) -> tuple[int, int | None] | None:
        """First and last position, if these bytes are one whole head in the same words; None if they are not."""
        if not raw.startswith(self._before) or not raw.endswith(self._after):
            return None
        found = _DIGITS.fullmatch(raw, len(self._before), len(raw) - len(self._after))
        return None if found is None else (int(found[1]), int(found[2]) if found[2] else None)


def sequel_of(raw: bytes) -> Sequel | None:
    """What could follow this head; None if it asks for no plain range, or on a condition.

    Args:
        raw: a head that was read and found good, to its empty line.
    """
    found = _WANTED.search(raw)
    # Twice it is no range at all, however the second is written.
    if found is None or len(_DECISIVE.findall(raw)) > 1:
        return None
    return Sequel(raw[: found.start(1)], raw[found.end(1) :])
