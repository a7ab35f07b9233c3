"""The words in a file: title, artist and the like, whatever its container calls them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NAMES: Final = {
    "title": ("title",),
    "artist": ("artist", "album_artist", "performer", "composer"),
    "album": ("album",),
    "genre": ("genre",),
}
_LONGEST: Final = 1000  # characters; what is kept is the database's to say


def tags_of(*sources: Mapping[str, str]) -> dict[str, str]:
    """`title`, `artist`, `album` and `genre` as far as the sources have them; the first that does counts.

    Args:
        sources: what FFmpeg calls metadata, of the container and of its streams.
    """
    found: dict[str, str] = {}
    for source in sources:
        given = {name.lower(): value for name, value in source.items()}
        for name, called in _NAMES.items():
            value = next((given[each].strip() for each in called if given.get(each, "").strip()), "")
            if value:
                found.setdefault(name, value.replace("\x00", "")[:_LONGEST])
    return found
