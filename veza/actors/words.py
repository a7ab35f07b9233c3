"""Words that are not to be said in a room: how texts are folded, so that spelling is no way around, and what is found.

Pure. A text is folded character by character, each remembering where it came from: compatibility forms, letter case and
width fall away (NFKD and case folding), accents and other marks put upon letters, and all that is not seen (soft
hyphens, joiners, spaces of no width). Vowel signs of scripts that write vowels with marks (Devanagari, Thai) stay: they
are the word there. Letters of other scripts that merely look alike stay what they are.

A word is found as a whole: what stands right before and behind it is no letter and no digit. Where words are written
without spaces between them (Chinese, Japanese, Thai …) it is found anywhere. A phrase matches whatever white space is
between its words. Nothing here is a pattern that anybody could make expensive: a text is read once, each of its words
looked up in a table.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from typing import Any

import msgspec
import regex

LONGEST = 50  # characters of a word or phrase, folded
MOST = 200  # of them in a room

# Not seen, or no part of a word.
_UNSEEN = regex.compile(r"[\p{Default_Ignorable_Code_Point}\p{Cf}]")
# What is put upon letters of these scripts is an ornament; elsewhere only what combines with a class of its own is.
_ORNAMENTED = regex.compile(r"[\p{Latin}\p{Greek}\p{Cyrillic}\p{Common}]")
# Of scripts without spaces each character stands by itself; else as many letters, digits and marks as there are.
_ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_RUN = regex.compile(rf"(?V1){_ALONE}|[[\p{{L}}\p{{N}}\p{{M}}]--{_ALONE}]+")
_PIECE = regex.compile(_RUN.pattern + r"|\S")
_UNEVEN = regex.compile(r"[^\S ]|  ")  # white space that is not one space


class Place(msgspec.Struct, frozen=True):
    """Where a word was found: the first character's index, and how many characters, as the text was written."""

    position: int
    length: int


_Tree = dict[str, Any]  # by character; _END: a word ends here
_END = ""


class NotAWord(ValueError):
    """Nothing is left of it, or too much."""


@functools.lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    """One character without case, width and form; its marks are still there."""
    if _UNSEEN.fullmatch(character):
        return ""
    apart = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    # Once more: some become visible as what they are only when taken apart.
    return _UNSEEN.sub("", unicodedata.normalize("NFKD", apart.casefold()))


@functools.lru_cache(maxsize=4096)
def _ornamented(character: str) -> bool:
    return _ORNAMENTED.fullmatch(character) is not None


def _fold(text: str) -> tuple[str, list[int] | None]:
    """The text folded, white space made one space, and where each character came from (None: all stayed in place)."""
    if text.isascii() and not _UNEVEN.search(text):
        return text.lower(), None
    pieces: list[str] = []
    origins: list[int] = []
    upon_letter = True  # the last letter is of a script in which marks are ornaments
    for at, character in enumerate(text):
        for one in _folded(character):
            if unicodedata.category(one)[0] == "M":
                if (
                    unicodedata.combining(one)
                    or upon_letter
                    or unicodedata.category(one) == "Me"
                    or not pieces
                ):
                    continue
            elif one.isspace():
                one = " "
                if pieces and pieces[-1] == " ":
                    continue
            else:
                upon_letter = _ornamented(one)
            pieces.append(one)
            origins.append(at)
    return "".join(pieces), origins


def fold(text: str) -> str:
    """A word or phrase as it is stored and compared.

    Raises:
        NotAWord: it holds nothing that could be found, or is longer than LONGEST.
    """
    folded = _fold(text)[0].strip()
    if not folded or len(folded) > LONGEST:
        raise NotAWord
    return folded


class Words:
    """Looks for any of these words, folded ones, in texts."""

    __slots__ = ("_tree", "count")

    def __init__(self, words: Iterable[str] = ()) -> None:
        chosen = set(words)
        self.count = len(chosen)
        self._tree: _Tree = {}
        for word in chosen:
            node = self._tree
            for character in word:
                node = node.setdefault(character, {})
            node[_END] = {}

    def __bool__(self) -> bool:
        return self.count > 0

    def find(self, text: str) -> Place | None:
        """The first of the words in the text; None where it holds none."""
        if not self.count:
            return None
        folded, origins = _fold(text)
        tree = self._tree
        for piece in _PIECE.finditer(folded):
            start = piece.start()
            if folded[start] in tree and (end := self._word_at(folded, start)):
                if origins is None:
                    return Place(start, end - start)
                first, last = origins[start], origins[end - 1]
                return Place(first, last + 1 - first)
        return None

    def _word_at(self, folded: str, start: int) -> int:
        """Where the shortest word ends that begins here; 0 where none does."""
        node = self._tree
        for at in range(start, len(folded)):
            following = node.get(folded[at])
            if following is None:
                return 0
            node = following
            if _END in node and _ends(folded, at + 1):
                return at + 1
        return 0


def _ends(folded: str, end: int) -> bool:
    """Does no run of characters go on over this place?"""
    across = _RUN.match(folded, end - 1, end + 1)
    return across is None or across.end() <= end
