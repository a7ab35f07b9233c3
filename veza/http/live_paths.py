"""The addresses of live streams: which stream, which file of it, and by what right. Pure.

/live/{slug}                              the stream itself, for listeners and sources
/live/{slug}/index.m3u8                   its playlist, and beside that its segments
/live/{expires}.{signature}/{slug}[/…]    the same of a private stream, for whoever holds the address
/live/{expires}.{signature}.{user}/…      the same, as long as this person may listen
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

PLAYLIST: Final = "index.m3u8"
_PATH: Final = re.compile(
    r"/live/(?:(?P<expires>\d{1,12})\.(?P<sig>[0-9a-fA-F]{1,64})(?:\.(?P<user>[1-9]\d{0,17}))?/)?"
    r"(?P<slug>[a-z0-9][a-z0-9-]{0,42})(?:/(?P<file>[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\.(?:m3u8|mp4|m4s)))?"
)


class Place(msgspec.Struct, frozen=True):
    """What an address names."""

    slug: str
    file: str | None  # of live HLS; None: the stream itself
    expires: str | None  # as it stands there; with `sig`, or neither
    sig: str | None
    user: int | None = None  # in whose name it is signed


def place_of(path: str) -> Place | None:
    """What a path names; None if that is nothing of ours."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    user = found["user"]
    return Place(
        found["slug"], found["file"], found["expires"], found["sig"], None if user is None else int(user)
    )
