"""Words not to be said: how they are folded, what is found, and that nothing makes it slow."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from veza.actors.words import LONGEST, MOST, NotAWord, Place, Words, fold


def found(text: str, *words: str) -> str | None:
    """What of the text was found."""
    place = Words(map(fold, words)).find(text)
    return None if place is None else text[place.position : place.position + place.length]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("so naïve!", "naïve"),
        ("so NAIVE!", "NAIVE"),
        ("so nai\u0308ve!", "nai\u0308ve"),
        ("so n\u200baive!", "n\u200baive"),
        ("so n\u00ada\u2060i\ufeffv\u200de!", "n\u00ada\u2060i\ufeffv\u200de"),
        ("so n\u202ea\u202cive!", "n\u202ea\u202cive"),
        ("so n\U000e0041aive!", "n\U000e0041aive"),
        ("so n\ufe0fa\U000e0101ive!", "n\ufe0fa\U000e0101ive"),
        ("so n\u034faive!", "n\u034faive"),
        ("so ｎａｉｖｅ!", "ｎａｉｖｅ"),
        ("so 𝓃𝒶𝒾𝓋ℯ!", "𝓃𝒶𝒾𝓋ℯ"),
        ("so ⓝⓐⓘⓥⓔ!", "ⓝⓐⓘⓥⓔ"),
        ("so n\u0334\u0335a\u0489i\u20ddve!", "n\u0334\u0335a\u0489i\u20ddve"),
        ("so n\u0941aive!", "n\u0941aive"),
        ("_naive_", "naive"),
        ("so-naive-", "naive"),
        ("naive", "naive"),
        ("naively", None),
        ("unnaive", None),
        ("naive2", None),
        ("na ive", None),
        ("n.a.i.v.e", None),
    ],
)
def test_one_word_however_it_is_written(text: str, part: str | None) -> None:
    for word in ("naive", "Naïve", "NAI\u0308VE", "ｎａｉｖｅ", "na\u200bive"):
        assert found(text, word) == part, word


@pytest.mark.parametrize(
    ("text", "word", "part"),
    [
        ("Scunthorpe United", "cunt", None),
        ("a classic bass", "ass", None),
        ("STRASSE", "straße", "STRASSE"),
        ("ﬁne", "fine", "ﬁne"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("İSTANBUL", "istanbul", "İSTANBUL"),
        ("shut  up", "shut up", "shut  up"),
        ("SHUT\n\tup", "shut up", "SHUT\n\tup"),
        ("shut\u00a0\u2003up", "shut up", "shut\u00a0\u2003up"),
        ("shut\u200b \u200bup", "shut up", "shut\u200b \u200bup"),
        ("shut, up", "shut up", None),
        ("shutup", "shut up", None),
        ("they shut upstairs", "shut up", None),
        ("I like C++!", "c++", "C++"),
        ("hi @here now", "@here", "@here"),
        ("hi @heredity", "@here", None),
        ("so 🖕🏽 there", "🖕", "🖕"),
        ("a❤\ufe0fb", "❤", "❤"),
        ("他是坏人吗", "坏人", "坏人"),
        ("เขาพูดหยาบคาย", "หยาบ", "หยาบ"),
        ("นก", "นกี", None),
        ("का", "की", None),
        ("한국어", "한국", None),
        ("שָׁלוֹם", "שלום", "שָׁלוֹם"),
        ("", "x", None),
        ("   ", "x", None),
    ],
)
def test_words_of_many_scripts(text: str, word: str, part: str | None) -> None:
    assert found(text, word) == part


def test_letters_that_merely_look_alike_stay_what_they_are() -> None:
    assert found("pаypal", "paypal") is None, "its second letter is Cyrillic: confusables are not folded"


def test_the_first_of_several_is_named_where_it_was_written() -> None:
    words = Words([fold("bad"), fold("very bad"), fold("worse")])
    assert words.find("é\u200b, VERY  Bád, worse") == Place(4, 9)
    assert words.find("worse and bad") == Place(0, 5)
    assert not Words() and Words().find("anything") is None


@pytest.mark.parametrize(
    "nothing", ["", "  ", "\u200b", "\u0301", "\u00ad\u2060", "x" * (LONGEST + 1), "ﷺ" * 3]
)
def test_what_is_no_word(nothing: str) -> None:
    with pytest.raises(NotAWord):
        fold(nothing)


_text = st.text(max_size=60)


@given(_text)
@example("ẞ\u0345")
@example("\u1fd3\u0390")
@example("ŉ \u0149")
def test_folding_what_is_folded_changes_nothing(text: str) -> None:
    try:
        once = fold(text)
    except NotAWord:
        return
    assert fold(once) == once


@given(_text, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_every_form_of_a_text_holds_the_same(text: str, form: str) -> None:
    try:
        word = fold(text)
    except NotAWord:
        return
    for written in (text, text.upper(), text.lower(), text.casefold()):
        other = unicodedata.normalize(form, written)
        if fold_or_none(other) == word:
            assert Words([word]).find(f"“{other}”") is not None


def fold_or_none(text: str) -> str | None:
    try:
        return fold(text)
    except NotAWord:
        return None


@given(_text, st.lists(_text, max_size=8))
def test_what_is_found_is_in_the_text_and_is_one_of_them(text: str, chosen: list[str]) -> None:
    words = {word for word in map(fold_or_none, chosen) if word is not None}
    place = Words(words).find(text)
    if place is not None:
        assert 0 <= place.position < place.position + place.length <= len(text)
        assert fold_or_none(text[place.position : place.position + place.length]) in words


@given(
    st.text(alphabet="ab ", min_size=1, max_size=30),
    st.lists(st.text(alphabet="ab ", min_size=1, max_size=5)),
)
def test_of_plain_letters_it_finds_what_splitting_finds(text: str, chosen: list[str]) -> None:
    words = {word for word in map(fold_or_none, chosen) if word is not None}
    said = f" {' '.join(text.split())} "
    assert (Words(words).find(text) is not None) == any(f" {word} " in said for word in words)


def test_no_list_and_no_text_make_it_slow() -> None:
    """Work is counted by what it costs beside a text in which nothing begins like a word; a loop in a loop would cost
    hundreds of times as much. The best of a few, for others may need the machine."""
    long = {
        "the same again and again": "a " * 2000,
        "letters that open": "a" * 4000,
        "signs that open": "!" * 4000,
        "spaces": "a" + " " * 3999,
        "marks": "a" + "\u0301" * 3999,
        "unseen": "a" + "\u200b" * 3999,
        "forms": "ﷺ" * 4000,
    }
    words = {fold("a " * n + "b" * m) for n in range(20) for m in range(1, 11)} | {"!" * 49 + "x", "a" * 50}
    assert len(words) > MOST
    lookup = Words(words)
    for what, text in long.items():
        best = min(_seconds(lookup, text) for _ in range(3))
        assert best < 0.5, (what, best)


def _seconds(words: Words, text: str) -> float:
    began = time.process_time()
    words.find(text)
    return time.process_time() - began
