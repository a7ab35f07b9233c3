"""The letterhead: what stands on every answer of the server, whichever room of the house wrote it.

Status line, `Date`, `Server`, `X-Request-ID`, the security headers. An answer that brings a security header of its own
keeps it. A header that holds a line break never leaves the house.
"""

import itertools
import re
import secrets
import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from veza.config import Settings
from veza.http.head import Head
from veza.http.refusal import Refused

CONTENT_POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_RUN: Final = secrets.token_hex(8)  # told apart from other runs and other servers; unique, not secret
_COUNT: Final = itertools.count(1)
_START: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus
}
# These belong to the connection, and the connection is ours.
HOP_BY_HOP: Final = frozenset(
    {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade"}
)


class BadHeader(ValueError):
    """A header of an answer holds a line break or NUL."""


class Letterhead:
    """Writes the heads of answers."""

    def __init__(self, settings: Settings) -> None:
        self._usual: list[tuple[bytes, bytes]] = [
            (b"content-security-policy", CONTENT_POLICY.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"strict-origin-when-cross-origin"),
            (b"cross-origin-opener-policy", b"same-origin"),
        ]
        if settings.tls_cert is not None or (settings.public_url or "").startswith("https:"):
            self._usual.append((b"strict-transport-security", b"max-age=31536000"))
        self._usual_lines = b"".join(name + b": " + value + b"\r\n" for name, value in self._usual)
        self._usual_names = frozenset(name for name, _ in self._usual)
        self._second = 0
        self._date = b""

    def head(
        self, status: int, headers: list[tuple[bytes, bytes]], request_id: str, *, version: str, close: bool
    ) -> bytes:
        """The bytes of an answer's head, to its empty line.

        Args:
            headers: the answer's own, names in lower case, none of them hop-by-hop except Transfer-Encoding.
            version: the request's.
            close: this answer is the connection's last.

        Raises:
            BadHeader: a header cannot be written.
        """
        return self.around(status, self.lines(headers), request_id, version=version, close=close)

    def lines(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """An answer's own headers and the usual ones, as lines. Raises BadHeader: one cannot be written."""
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        names = {name for name, _ in headers}
        if names.isdisjoint(self._usual_names):
            lines.append(self._usual_lines)
            count = len(headers) + len(self._usual)
        else:
            missing = [(name, value) for name, value in self._usual if name not in names]
            lines.extend(name + b": " + value + b"\r\n" for name, value in missing)
            count = len(headers) + len(missing)
        own = b"".join(lines)
        if own.count(b"\n") != count or own.count(b"\r") != count or b"\0" in own:
            raise BadHeader
        return own

    def around(self, status: int, lines: bytes, request_id: str, *, version: str, close: bool) -> bytes:
        """The head around lines that `lines` made, perhaps long ago."""
        last = (
            b"connection: close\r\n" if close else b"connection: keep-alive\r\n" if version == "1.0" else b""
        )
        return b"%bx-request-id: %b\r\n%b\r\n" % (self.above(status, lines), request_id.encode(), last)

    def above(self, status: int, lines: bytes) -> bytes:
        """The head as far as it is the same for every answer of a second; its request id and its end are missing."""
        start = _START.get(status) or b"HTTP/1.1 %d \r\n" % status
        return b"%b%bdate: %b\r\nserver: veza\r\n" % (start, lines, self._now())

    def refusal(
        self, refused: Refused, head: Head | None, request_id: str, *, close: bool
    ) -> tuple[bytes, bytes]:
        """The head and the body that refuse a request.

        Args:
            head: the request's, if it could be read.
        """
        body = refused.envelope(request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            *refused.headers,
        ]
        version = head.version if head is not None else "1.1"
        start = self.head(refused.status, headers, request_id, version=version, close=close)
        return start, b"" if head is not None and head.method == "HEAD" else body

    def _now(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
        return self._date


def request_id(head: Head | None) -> str:
    """The client's own X-Request-ID if it is well-formed, else a new one."""
    given = head.get(b"x-request-id") if head is not None else None
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode("ascii")
    return f"{_RUN}-{next(_COUNT):x}"
