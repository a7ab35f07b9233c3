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
from bisect import bisect_right
from collections.abc import Iterable

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

    __slots__ = ("_chains", "_firsts", "_sorted")

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._sorted = sorted(set(words))
        self._firsts = frozenset(word[0] for word in self._sorted)
        # Of each word those it begins with, the shortest first, and itself.
        self._chains: list[list[str]] = []
        for at, word in enumerate(self._sorted):
            chain = self._chains[at - 1] if at else []
            self._chains.append([*(shorter for shorter in chain if word.startswith(shorter)), word])

    def __bool__(self) -> bool:
        return bool(self._sorted)

    def find(self, text: str) -> Place | None:
        """The first of the words in the text; None where it holds none."""
        if not self._sorted:
            return None
        folded, origins = _fold(text)
        for piece in _PIECE.finditer(folded):
            start = piece.start()
            if folded[start] in self._firsts and (end := self._word_at(folded, start)):
                if origins is None:
                    return Place(start, end - start)
                first, last = origins[start], origins[end - 1]
                return Place(first, last + 1 - first)
        return None

    def _word_at(self, folded: str, start: int) -> int:
        """Where the shortest word ends that begins here; 0 where none does."""
        # Whatever the text begins with here, the last word that does not come behind the text begins with it too.
        at = bisect_right(self._sorted, folded[start : start + LONGEST]) - 1
        for word in self._chains[at] if at >= 0 else ():
            if not folded.startswith(word, start):
                break
            if _ends(folded, start + len(word)):
                return start + len(word)
        return 0


def _ends(folded: str, end: int) -> bool:
    """Does no run of characters go on over this place?"""
    across = _RUN.match(folded, end - 1, end + 1)
    return across is None or across.end() <= end
