"""Conditional and range requests (RFC 9110 §13, §14): which bytes of a file an answer holds. Pure.

What is malformed is ignored, as the RFC asks; several ranges at once are answered by the whole file, which is always
allowed and leaves nobody a way to have one small request multiplied.
"""

import re
from calendar import timegm
from datetime import UTC, datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Final

import msgspec

from veza.http.head import Head

_PLAIN: Final = re.compile(rb"bytes=(\d{1,18})-(\d{0,18})")  # what nearly everybody asks
_RANGE: Final = re.compile(rb"(\d*)-(\d*)")
_UNIT: Final = re.compile(rb"[bB][yY][tT][eE][sS]=(.*)")
_DIGITS: Final = 18  # of a position; longer ones lie beyond every file
_BEYOND: Final = 10**_DIGITS
_TAG: Final = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_CONDITIONS: Final = frozenset(
    {b"if-match", b"if-modified-since", b"if-none-match", b"if-range", b"if-unmodified-since", b"range"}
)
_MONTHS: Final = (
    b"Jan",
    b"Feb",
    b"Mar",
    b"Apr",
    b"May",
    b"Jun",
    b"Jul",
    b"Aug",
    b"Sep",
    b"Oct",
    b"Nov",
    b"Dec",
)
_DAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = rb"(?P<month>" + rb"|".join(_MONTHS) + rb")"
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = (  # RFC 9110 §5.6.7: the one that is written, and the two that are only read
    re.compile(_DAY + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT"),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-"
        + _MONTH
        + rb"-(?P<year>\d\d) "
        + _TIME
        + rb" GMT"
    ),
    re.compile(_DAY + rb" " + _MONTH + rb" (?P<day>[ \d]\d) " + _TIME + rb" (?P<year>\d{4})"),
)

Asked = dict[bytes, list[bytes]]  # the headers of a request that matter here


class Selection(msgspec.Struct, frozen=True):
    """Which part is sent: bytes `start` to `stop` (exclusive) under `status`; 304, 412 and 416 send none."""

    status: int
    start: int
    stop: int


def http_date(seconds: int) -> bytes:
    """A time as HTTP writes it."""
    return formatdate(seconds, usegmt=True).encode()


def select(head: Head, *, size: int, etag: bytes, modified: int) -> Selection:
    """Decide what to send, in the order of RFC 9110 §13.2.2.

    Args:
        size: of the whole file, in bytes.
        etag: a strong one, with its quotes.
        modified: seconds since the epoch; 0 if that is not known.
    """
    asked: Asked = {}
    for name, value in head.headers:
        if name in _CONDITIONS:
            asked.setdefault(name, []).append(value)
    if not asked:
        return Selection(200, 0, size)
    refusal = 0 if len(asked) == 1 and b"range" in asked else _precondition(asked, etag, modified)
    if refusal:
        return Selection(refusal, 0, 0)
    wanted = _single(asked, b"range")
    if wanted is None or head.method != "GET" or not _if_range(asked, etag, modified):
        return Selection(200, 0, size)
    return _part(wanted, size)


def _part(wanted: bytes, size: int) -> Selection:
    """The one range that is asked for, or all of the file."""
    plain = _PLAIN.fullmatch(wanted)
    if plain is not None:
        return between(int(plain[1]), int(plain[2]) if plain[2] else None, size)
    whole = Selection(200, 0, size)
    ranges = _UNIT.fullmatch(wanted)
    if ranges is None:
        return whole
    # A list may have empty elements (§5.6.1.2).
    elements = [element for part in ranges[1].split(b",") if (element := part.strip(b" \t"))]
    if len(elements) != 1:
        return whole
    found = _RANGE.fullmatch(elements[0])
    if found is None or not (found[1] or found[2]):
        return whole
    if not found[1]:
        length = _position(found[2])
        if not length:
            return Selection(416, 0, 0)
        # The last bytes of nothing are satisfiable, but Content-Range has no word for them.
        return Selection(206, max(0, size - length), size) if size else whole
    return between(_position(found[1]), _position(found[2]) if found[2] else None, size)


def between(start: int, last: int | None, size: int) -> Selection:
    """From one position to another, both included; None is to the end."""
    if last is None:
        last = _BEYOND
    if last < start:
        return Selection(200, 0, size)
    if start >= size:
        return Selection(416, 0, 0)
    return Selection(206, start, min(size, last + 1))


def _position(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _DIGITS else _BEYOND


def _precondition(asked: Asked, etag: bytes, modified: int) -> int:
    """0 to go on, else 304 or 412."""
    if (tags := asked.get(b"if-match")) is not None:
        if not _names(tags, etag, weak=False):
            return 412
    elif (since := _date(_single(asked, b"if-unmodified-since"))) is not None and modified > since:
        return 412
    if (tags := asked.get(b"if-none-match")) is not None:
        return 304 if _names(tags, etag, weak=True) else 0
    since = _date(_single(asked, b"if-modified-since"))
    return 304 if since is not None and modified <= since else 0


def _single(asked: Asked, name: bytes) -> bytes | None:
    """The value of a header that may stand there once; twice it says nothing."""
    values = asked.get(name)
    return values[0] if values is not None and len(values) == 1 else None


def _names(values: list[bytes], etag: bytes, *, weak: bool) -> bool:
    joined = b",".join(values)
    if joined.strip() == b"*":
        return True
    return any(tag == etag and (weak or not weakly) for weakly, tag in _TAG.findall(joined))


def _if_range(asked: Asked, etag: bytes, modified: int) -> bool:
    """Is it still what the client has a part of? Our dates are strong validators: a file is written once."""
    if b"if-range" not in asked:
        return True
    value = _single(asked, b"if-range")
    if value is None:
        return False
    return value == etag or (modified > 0 and _date(value) == modified)


@lru_cache(1024)
def _date(value: bytes | None) -> int | None:
    """Seconds since the epoch; None for what is no date."""
    found = next((match for form in _DATES if (match := form.fullmatch(value or b""))), None)
    if found is None:
        return None
    year = int(found["year"])
    if len(found["year"]) == 2:
        year += datetime.now(UTC).year // 100 * 100
        if year > datetime.now(UTC).year + 50:
            year -= 100
    try:
        moment = datetime(
            year,
            _MONTHS.index(found["month"]) + 1,
            int(found["day"]),
            int(found["hour"]),
            int(found["minute"]),
            min(int(found["second"]), 59),  # a leap second
        )
    except ValueError:
        return None
    return timegm(moment.timetuple())
