"""What sources say is playing, in whatever letters they say it."""

from __future__ import annotations

import encodings
from typing import Any

import pytest

from veza.http import live_source


@pytest.mark.parametrize(
    ("charset", "given", "song"),
    [
        (None, "Hälfte".encode(), "Hälfte"),
        (b"UTF-8", "Hälfte".encode(), "Hälfte"),
        (b"ISO-8859-1", "Hälfte".encode("latin-1"), "Hälfte"),
        (b"windows-1251", "Половина".encode("cp1251"), "Половина"),
        (b"KOI8-R", "Половина".encode("koi8-r"), "Половина"),
        (b"iso-8859-15", "5 €".encode("iso-8859-15"), "5 €"),
        (b"of nobody", "Hälfte".encode(), "Hälfte"),
        (b"of\0nobody", "Hälfte".encode("latin-1"), "Hälfte"),
    ],
)
def test_songs_are_read_in_their_charset(charset: bytes | None, given: bytes, song: str) -> None:
    query = {"song": given} if charset is None else {"song": given, "charset": charset}
    assert live_source._song(query) == song


def test_charsets_that_do_not_exist_are_not_remembered() -> None:
    remembered: dict[str, Any] = vars(encodings)["_cache"]
    before = len(remembered)
    for number in range(50):
        live_source._song({"song": b"x", "charset": b"of-nobody-%d" % number})
    assert len(remembered) == before
