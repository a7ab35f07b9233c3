"""How the words around a track are written: tags, genres, titles, file names. Pure; used by REST and by processing.

What comes from people and from files' own tags goes through here alike, so that `Drum  & Bass` and `drum & bass` meet.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from veza.actors import rules

TITLE_LENGTH: Final = 200
FILENAME_LENGTH: Final = 255
TAGS: Final = 20
TAG_LENGTH: Final = 30
UNTITLED: Final = "Untitled"

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_SPACE: Final = re.compile(r"\s+")
_EXTENSION: Final = re.compile(r"(?<=.)\.[A-Za-z0-9]{1,5}$", re.DOTALL)


def one_line(text: str) -> str:
    """Composed (NFC), without control characters, every run of spaces one space, none at the ends; empty where nothing
    of it can be seen."""
    line = _SPACE.sub(" ", _CONTROL.sub(" ", unicodedata.normalize("NFC", text))).strip()
    return line if rules.shows(line) else ""


def tags(given: str | Iterable[str]) -> list[str]:
    """Tags in lower case, each once, in the order they came. A text is split at its commas.

    The caller counts and measures them (`TAGS`, `TAG_LENGTH`): here nothing is cut off.
    """
    parts = given.split(",") if isinstance(given, str) else given
    found = (one_line(part).lstrip("#").strip().lower() for part in parts)
    return list(dict.fromkeys(tag for tag in found if tag))


def filename(given: str | None) -> str | None:
    """The last part of a file's name as somebody's computer called it, fit to be shown and offered; None if none is
    left."""
    if given is None:
        return None
    name = one_line(re.split(r"[/\\]", given)[-1])
    if len(name) > FILENAME_LENGTH:
        extension = _EXTENSION.search(name)
        end = extension[0] if extension else ""
        name = name[: FILENAME_LENGTH - len(end)] + end
    return name if name not in ("", ".", "..") else None


def title_from(name: str | None) -> str:
    """The title of a track whose uploader gave none, by its file's name (see `filename`)."""
    if name is None:
        return UNTITLED
    title = one_line(_EXTENSION.sub("", name).replace("_", " "))
    return title[:TITLE_LENGTH].strip() or UNTITLED
