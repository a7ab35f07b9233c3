"""Conditional and range requests (RFC 9110 §13, §14): which bytes of a file an answer holds. Pure.

What is malformed is ignored, as the RFC asks; several ranges at once are answered by the whole file.
"""

import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Final

import msgspec

from veza.http.head import Head

_RANGE: Final = re.compile(rb"[bB][yY][tT][eE][sS]=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*")
_TAG: Final = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Selection(msgspec.Struct, frozen=True):
    """Which part is sent: bytes `start` to `stop` (exclusive) under `status`; 304, 412 and 416 send none."""

    status: int
    start: int
    stop: int


def http_date(seconds: int) -> bytes:
    """A time as HTTP writes it."""
    return formatdate(seconds, usegmt=True).encode()


def select(head: Head, *, size: int, etag: bytes, modified: int) -> Selection:
    """Decide what to send.

    Args:
        size: of the whole file, in bytes.
        etag: a strong one, with its quotes.
        modified: seconds since the epoch.
    """
    refusal = _precondition(head, etag, modified)
    if refusal:
        return Selection(refusal, 0, 0)
    wanted = head.get(b"range")
    if wanted is None or head.method != "GET" or not _if_range(head, etag, modified):
        return Selection(200, 0, size)
    found = _RANGE.fullmatch(wanted)
    if found is None or not (found[1] or found[2]):
        return Selection(200, 0, size)
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        last = int(found[2]) if found[2] else size - 1
        if found[2] and last < start:
            return Selection(200, 0, size)
        stop = min(size, last + 1)
    if start >= stop:
        return Selection(416, 0, 0)
    return Selection(206, start, stop)


def _precondition(head: Head, etag: bytes, modified: int) -> int:
    """0 to go on, else 304 or 412, in the order of RFC 9110 §13.2.2."""
    if (tags := head.values(b"if-match")) != []:
        if not _names(tags, etag, weak=False):
            return 412
    elif (since := _date(head.get(b"if-unmodified-since"))) is not None and modified > since:
        return 412
    if (tags := head.values(b"if-none-match")) != []:
        return 304 if _names(tags, etag, weak=True) else 0
    since = _date(head.get(b"if-modified-since"))
    return 304 if since is not None and modified <= since else 0


def _names(values: list[bytes], etag: bytes, *, weak: bool) -> bool:
    joined = b",".join(values)
    if joined.strip() == b"*":
        return True
    return any(tag == etag and (weak or not weakly) for weakly, tag in _TAG.findall(joined))


def _if_range(head: Head, etag: bytes, modified: int) -> bool:
    value = head.get(b"if-range")
    if value is None:
        return True
    if value.startswith((b'"', b"W/")):
        return value == etag
    return _date(value) == modified


def _date(value: bytes | None) -> int | None:
    if value is None:
        return None
    try:
        return int(parsedate_to_datetime(value.decode("latin-1")).timestamp())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
