"""Slugs of live streams: what stands in their addresses. Made once from the title, never changed.

The random end keeps slugs apart, and makes the link of an unlisted stream one that nobody guesses (51 bits).
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from typing import Final

_LONGEST_TITLE: Final = 32  # with the dash and the end: 43, so that `stream-{slug}` is a room's name
_END: Final = 10
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
# Letters that have no decomposition of their own.
_SPELT: Final = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "þ": "th", "ð": "d", "ı": "i"}
)


def slug_of(title: str) -> str:
    """A new slug for a title: its Latin letters and digits, the rest as dashes, and a random end."""
    spelt = title.casefold().translate(_SPELT)
    plain = unicodedata.normalize("NFKD", spelt).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:_LONGEST_TITLE].strip("-")
    end = "".join(secrets.choice(_LETTERS) for _ in range(_END))
    return f"{words or 'stream'}-{end}"
