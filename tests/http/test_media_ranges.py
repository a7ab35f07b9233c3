"""The grammar of ranges and conditions against simple models of what RFC 9110 says; no socket is needed."""

from __future__ import annotations

from calendar import timegm
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.http.head import Head, parse
from veza.http.ranges import Selection, http_date, select

ETAG: Final = b'"e"'
STAMP: Final = 1_700_000_000
SAME, LATER, EARLIER = (formatdate(STAMP + by, usegmt=True) for by in (0, 9, -9))


def asks(*lines: str, method: str = "GET") -> Head:
    return parse("\r\n".join((f"{method} / HTTP/1.1", "Host: a", *lines, "", "")).encode("latin-1"))


def answer(*lines: str, size: int = 1000, method: str = "GET") -> Selection:
    return select(asks(*lines, method=method), size=size, etag=ETAG, modified=STAMP)


WHOLE: Final = Selection(200, 0, 1000)
BEYOND: Final = Selection(416, 0, 0)


@pytest.mark.parametrize(
    ("wanted", "selection"),
    [
        ("bytes=0-0", Selection(206, 0, 1)),
        ("bytes=0-", Selection(206, 0, 1000)),
        ("bytes=999-", Selection(206, 999, 1000)),
        ("bytes=5-1000000", Selection(206, 5, 1000)),
        ("bytes=-1", Selection(206, 999, 1000)),
        ("bytes=-5000", Selection(206, 0, 1000)),
        ("bytes=000-0009", Selection(206, 0, 10)),
        ("bytes=5-" + "9" * 4000, Selection(206, 5, 1000)),
        ("bytes=-" + "9" * 4000, Selection(206, 0, 1000)),
        ("bytes=" + "0" * 4000 + "7-8", Selection(206, 7, 9)),
        ("BYTES=1-2", Selection(206, 1, 3)),
        ("bytes= 1-2 ", Selection(206, 1, 3)),
        ("bytes=,1-2,", Selection(206, 1, 3)),
        ("bytes=1000-", BEYOND),
        ("bytes=1000-2000", BEYOND),
        ("bytes=" + "9" * 4000 + "-", BEYOND),
        ("bytes=-0", BEYOND),
        ("bytes=-000", BEYOND),
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=0-1,-1", WHOLE),
        ("bytes=0-1,x", WHOLE),
        ("bytes=9-5", WHOLE),
        ("bytes=2000-1000", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=--1", WHOLE),
        ("bytes=1--", WHOLE),
        ("bytes=1", WHOLE),
        ("bytes=", WHOLE),
        ("bytes=,", WHOLE),
        ("bytes", WHOLE),
        ("", WHOLE),
        ("=1-2", WHOLE),
        ("1-2", WHOLE),
        ("bytes=+1-2", WHOLE),
        ("bytes=1 -2", WHOLE),
        ("bytes=1- 2", WHOLE),
        ("bytes =1-2", WHOLE),
        ("bytes:1-2", WHOLE),
        ("bytes=0x1-0x2", WHOLE),
        ("bytes=1.0-2.0", WHOLE),
        ("bytes=1e1-2e1", WHOLE),
        ("bytes=\xb2-\xb3", WHOLE),
        ("bytes=1-2;3-4", WHOLE),
        ("seconds=1-2", WHOLE),
        ("none", WHOLE),
        ("bytesx=1-2", WHOLE),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_ranges_of_every_kind(wanted: str, selection: Selection) -> None:
    assert answer(f"Range: {wanted}") == selection


def test_a_range_that_stands_there_twice_is_none() -> None:
    assert answer("Range: bytes=0-1", "Range: bytes=0-1") == WHOLE
    assert answer("Range: bytes=0-1", method="HEAD") == WHOLE


def test_ranges_of_nothing() -> None:
    for wanted, status in [("0-", 416), ("0-0", 416), ("-0", 416), ("-5", 200), ("5-1", 200)]:
        assert answer(f"Range: bytes={wanted}", size=0) == Selection(status, 0, 0)


_position = st.integers(0, 30) | st.integers(0, 10**25)
_padding = st.sampled_from(["", " ", "\t", " \t "])


@st.composite
def _element(draw: st.DrawFn) -> tuple[str, tuple[int | None, int | None] | None]:
    """One element of a list of ranges as text, and what it means; None for one that means nothing."""
    kind = draw(st.sampled_from(["closed", "open", "suffix", "wrong"]))
    first, last = draw(_position), draw(_position)
    zeros = draw(st.sampled_from(["", "0", "000"]))
    match kind:
        case "closed":
            return f"{zeros}{first}-{zeros}{last}", (first, last)
        case "open":
            return f"{zeros}{first}-", (first, None)
        case "suffix":
            return f"-{zeros}{last}", (None, last)
    return draw(st.sampled_from(["-", "x", "1-x", "x-1", "1--2", "-1-2", "1", "+1-2", "1 - 2", "½-1"])), None


@given(
    st.lists(_element(), min_size=1, max_size=3),
    st.lists(_padding, min_size=8, max_size=8),
    st.sampled_from(["bytes", "Bytes", "byte", "items"]),
    st.integers(0, 40),
    st.booleans(),
)
def test_ranges_are_what_the_model_says(
    elements: list[tuple[str, tuple[int | None, int | None] | None]],
    padding: list[str],
    unit: str,
    size: int,
    empties: bool,
) -> None:
    pads = iter(padding)
    texts = [next(pads) + text + next(pads) for text, _ in elements]
    if empties:
        texts = ["", *texts, next(pads)]
    part = answer(f"Range: {unit}={','.join(texts)}", size=size)
    meaning = elements[0][1] if len(elements) == 1 and unit.lower() == "bytes" else None
    asked: set[int] | None = None
    if meaning is not None:
        first, last = meaning
        if first is None:
            asked = set(range(size)[-last:]) if last else set()
            if last and not size:
                asked = None
        elif last is None or first <= last:
            asked = {at for at in range(size) if at >= first and (last is None or at <= last)}
    if asked is None:
        assert part == Selection(200, 0, size)
    elif not asked:
        assert part == BEYOND
    else:
        assert (part.status, set(range(part.start, part.stop))) == (206, asked)


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")), st.integers(0, 99)
)
def test_any_text_is_answered(wanted: str, size: int) -> None:
    for value in (wanted, f"bytes={wanted}"):
        part = answer(f"Range: {value}", size=size)
        assert part.status in (200, 206, 416)
        assert 0 <= part.start <= part.stop <= size
        assert part.status != 200 or (part.start, part.stop) == (0, size)


# Conditions


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (['If-None-Match: "e"'], 304),
        (['If-None-Match: W/"e"'], 304),
        (['If-None-Match: "x", "e"'], 304),
        (['If-None-Match: "x"', 'If-None-Match: "e"'], 304),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "x"'], 200),
        (["If-None-Match: e"], 200),
        (['If-None-Match: "x"', f"If-Modified-Since: {LATER}"], 200),
        (['If-None-Match: "e"', f"If-Modified-Since: {EARLIER}"], 304),
        ([f"If-Modified-Since: {SAME}"], 304),
        ([f"If-Modified-Since: {LATER}"], 304),
        ([f"If-Modified-Since: {EARLIER}"], 200),
        ([f"If-Modified-Since: {SAME}", f"If-Modified-Since: {SAME}"], 200),
        (["If-Modified-Since: yesterday"], 200),
        (['If-Match: "e"'], 200),
        (['If-Match: "x", "e"'], 200),
        (["If-Match: *"], 200),
        (['If-Match: W/"e"'], 412),
        (['If-Match: "x"'], 412),
        (["If-Match: "], 412),
        (['If-Match: "e"', 'If-None-Match: "e"'], 304),
        (['If-Match: "x"', 'If-None-Match: "e"'], 412),
        ([f"If-Unmodified-Since: {EARLIER}"], 412),
        ([f"If-Unmodified-Since: {SAME}"], 200),
        (["If-Unmodified-Since: nonsense"], 200),
        (['If-Match: "e"', f"If-Unmodified-Since: {EARLIER}"], 200),
        (["Range: bytes=0-0"], 206),
        (['If-Range: "e"', "Range: bytes=0-0"], 206),
        (['If-Range: W/"e"', "Range: bytes=0-0"], 200),
        (['If-Range: "x"', "Range: bytes=0-0"], 200),
        (['If-Range: "x"', "Range: bytes=5000-"], 200),
        (['If-Range: "e"', "Range: bytes=5000-"], 416),
        ([f"If-Range: {SAME}", "Range: bytes=0-0"], 206),
        ([f"If-Range: {LATER}", "Range: bytes=0-0"], 200),
        ([f"If-Range: {EARLIER}", "Range: bytes=0-0"], 200),
        (["If-Range: e", "Range: bytes=0-0"], 200),
        (['If-Range: "e"', 'If-Range: "e"', "Range: bytes=0-0"], 200),
        (['If-Range: "e"'], 200),
        (['If-None-Match: "e"', "Range: bytes=0-0"], 304),
        (['If-Match: "x"', "Range: bytes=0-0"], 412),
        ([f"If-Unmodified-Since: {SAME}", "Range: bytes=0-0"], 206),
    ],
    ids=lambda value: "; ".join(value)[:60] if isinstance(value, list) else "",
)
def test_conditions(lines: list[str], status: int) -> None:
    assert answer(*lines).status == status
    if status in (200, 304, 412):
        assert answer(*lines, method="HEAD").status == status


@given(st.datetimes(datetime(1971, 1, 1), datetime(2060, 1, 1)).map(lambda at: at.replace(microsecond=0)))
def test_dates_are_read_in_all_three_forms(at: datetime) -> None:
    seconds = timegm(at.timetuple())
    day = at.strftime("%A")
    written = formatdate(seconds, usegmt=True)
    assert http_date(seconds) == written.encode()
    forms = [written, at.strftime("%a %b ") + f"{at.day:2d}" + at.strftime(" %H:%M:%S %Y")]
    if datetime.now(UTC).year - 49 < at.year < datetime.now(UTC).year + 50:
        forms.append(f"{day}, " + at.strftime("%d-%b-%y %H:%M:%S GMT"))
    for form in forms:
        head = asks(f"If-Modified-Since: {form}")
        assert select(head, size=1, etag=ETAG, modified=seconds).status == 304
        assert select(head, size=1, etag=ETAG, modified=seconds + 1).status == 200


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 31 Feb 2030 08:49:37 GMT",
        "Sun, 06 Nov 2030 24:49:37 GMT",
        "Sun, 06 nov 2030 08:49:37 GMT",
        "Sun, 6 Nov 2030 08:49:37 GMT",
        "2030-11-06T08:49:37Z",
        "1893456000",
        "",
        "Sun, 06 Nov 0000 08:49:37 GMT",
    ],
)
def test_what_is_no_date_says_nothing(date: str) -> None:
    assert answer(f"If-Modified-Since: {date}").status == 200
    assert answer(f"If-Unmodified-Since: {date}").status == 200
    assert answer(f"If-Range: {date}", "Range: bytes=0-0").status == 200
