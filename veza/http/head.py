"""The head of a request: from bytes to a checked `Head`, or to the refusal it deserves. Pure; no socket is seen here.

llhttp (strict) reads the grammar; what it lets pass and we do not is checked around it. How the body is framed is
decided here and nowhere else: Content-Length or chunked, never both, never two lengths, so that no two readers of
the same bytes can disagree about where a request ends (RFC 9112 §6.3, §11.2). When in doubt, refuse.
"""

import re
from typing import Final
from urllib.parse import parse_qsl

import httptools
import msgspec

from veza.http.refusal import Refused

TARGET_LIMIT: Final = 8 * 1024  # RFC 9110 §4.1 asks for at least 8000 octets
HEADERS_LIMIT: Final = 200
LENGTH_LIMIT: Final = 2**53  # no body is longer; keeps arithmetic in range everywhere behind us

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([\x21-\x7e]+) (HTTP|ICE)/(\d)\.(\d)")
# Nothing but this is wrong with what many write by hand: accents in the address.
_UNENCODED: Final = re.compile(rb"[A-Z]{1,32} /[\x21-\x7e\x80-\xff]* HTTP/1\.[01]")
_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#@]+)([/?].*)?")
_HOST: Final = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::\d{0,5})?")
_TOKEN_START: Final = frozenset(
    b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
_METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "SOURCE"}
)  # what anything behind the door may be asked
_WEBSOCKET_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the head of one request says. Header names are in lower case; the target is in origin form (or `*`)."""

    method: str
    target: bytes
    path: str  # of the target, still percent-encoded; routing looks at nothing else
    query: bytes
    version: str  # "1.0" or "1.1"
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    length: int | None  # Content-Length; None when there is none
    chunked: bool
    expects_continue: bool
    upgrade: str  # protocol asked for in Upgrade (and named in Connection), lower case, or ""

    def get(self, name: bytes) -> bytes | None:
        """The value of the first header of this (lower case) name."""
        for known, value in self.headers:
            if known == name:
                return value
        return None

    def values(self, name: bytes) -> list[bytes]:
        """The values of all headers of this (lower case) name."""
        return [value for known, value in self.headers if known == name]

    def elements(self, name: bytes) -> list[str]:
        """The comma separated elements of all headers of this name, trimmed, empty ones left out."""
        joined = b",".join(self.values(name)).decode("latin-1")
        return [element for part in joined.split(",") if (element := part.strip())]

    def argument(self, name: str) -> str | None:
        """The first value of this name in the query string; None if there is none. Never raises."""
        if not self.query:
            return None
        pairs = parse_qsl(self.query.decode("latin-1"), keep_blank_values=True, errors="replace")
        return next((value for known, value in pairs if known == name), None)

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)

    @property
    def websocket(self) -> bool:
        """A complete and correct opening handshake, version 13 (RFC 6455 §4.2.1)?"""
        return (
            self.method == "GET"
            and self.version == "1.1"
            and self.upgrade == "websocket"
            and self.values(b"sec-websocket-version") == [b"13"]
        )

    @property
    def websocket_key(self) -> bytes:
        """The handshake's key.

        Raises:
            Refused: 400, it is missing, doubled or not 16 bytes.
        """
        match self.values(b"sec-websocket-key"):
            case [key] if _WEBSOCKET_KEY.fullmatch(key):
                return key
        raise Refused(400, sentence="The WebSocket handshake is malformed.")

    def __repr__(self) -> str:
        return f"<Head {self.method} {self.path}>"  # no query, no headers: they hold tokens


class _Fields:
    """What llhttp found. A target may come in pieces."""

    __slots__ = ("complete", "headers")

    def __init__(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def glance(start: bytes | bytearray) -> None:
    """Look at a head that is not complete yet: what can be refused now is not waited for.

    Args:
        start: its first bytes, at least one.

    Raises:
        Refused: what comes is no HTTP (TLS on a plain port, noise), or another version of it.
    """
    if start[0] not in _TOKEN_START:
        raise Refused(400)
    end = start.find(b"\r\n")
    if end >= 0:
        _request_line(bytes(start[:end]))
    elif len(start) > TARGET_LIMIT + 64:
        raise Refused(414)


def parse(raw: bytes) -> Head:
    """Read one whole head, from its first byte to the empty line that ends it, and nothing more.

    Raises:
        Refused: 400, 414, 417, 431, 501, 505; the connection cannot be used any further.
    """
    end = raw.find(b"\r\n")
    method, target, version = _request_line(raw[:end])
    lines = raw.count(b"\n")
    if lines != raw.count(b"\r\n") or lines != raw.count(b"\r") or b"\r\n " in raw or b"\r\n\t" in raw:
        raise Refused(400)  # bare CR or LF, folded lines: somebody else may read them differently
    if lines > HEADERS_LIMIT + 2:
        raise Refused(431)
    if not raw.endswith(
        b" HTTP/%b" % version.encode(), 0, end
    ):  # ICE/1.0 is read as HTTP/1.0, HTTP/1.7 as HTTP/1.1
        raw = b"%b %b HTTP/%b%b" % (method.encode(), target, version.encode(), raw[end:])
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # llhttp says no more than that the header was there
    except httptools.HttpParserError:
        raise Refused(400) from None
    if not fields.complete or len(fields.headers) != lines - 2:
        raise Refused(400)
    return _read(method, target, version, fields.headers)


def _request_line(line: bytes) -> tuple[str, bytes, str]:
    parts = _REQUEST_LINE.fullmatch(line)
    if parts is None:
        if len(line) > TARGET_LIMIT:
            raise Refused(414)
        if _UNENCODED.fullmatch(line):
            raise Refused(
                400, sentence="An address is ASCII: percent-encode everything else in it, as UTF-8."
            )
        raise Refused(400)
    method, target, protocol, major, minor = parts.groups()
    if protocol == b"ICE":
        major, minor = b"1", b"0"
    if major != b"1":
        raise Refused(505)
    if len(target) > TARGET_LIMIT:
        raise Refused(414)
    name = method.decode("ascii")
    if name not in _METHODS:
        raise Refused(501)
    return name, target, "1.0" if minor == b"0" else "1.1"


def _read(method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]]) -> Head:
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    connection: set[str] = set()
    expect = upgrade = b""
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"content-length":
            lengths.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
        elif name == b"connection":
            connection.update(part.strip().lower() for part in value.decode("latin-1").split(","))
        elif name == b"expect":
            expect = value.lower()
        elif name == b"upgrade":
            upgrade = value
    if len(hosts) > 1 or (version == "1.1" and not hosts) or (hosts and not _HOST.fullmatch(hosts[0])):
        raise Refused(400)
    length = _length(lengths)
    if codings and (lengths or version == "1.0" or len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise Refused(400)
    if expect and expect != b"100-continue":
        raise Refused(417)
    if target[0] != 0x2F:  # "/"
        target, headers = _origin_form(method, target, headers)
    path, _, query = target.partition(b"?")
    if b"#" in target or b"%00" in path:
        raise Refused(400)
    return Head(
        method=method,
        target=target,
        path=path.decode("ascii"),
        query=query,
        version=version,
        headers=headers,
        keep_alive="close" not in connection and (version == "1.1" or "keep-alive" in connection),
        length=length,
        chunked=bool(codings),
        expects_continue=bool(expect) and version == "1.1" and (bool(codings) or bool(length)),
        upgrade=upgrade.decode("latin-1").strip().lower() if "upgrade" in connection else "",
    )


def _length(values: list[bytes]) -> int | None:
    if not values:
        return None
    if len(values) > 1 or not (values[0].isdigit() and values[0].isascii()) or len(values[0]) > 16:
        raise Refused(400)
    length = int(values[0])
    if length > LENGTH_LIMIT:
        raise Refused(400)
    return length


def _origin_form(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]]
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Absolute form becomes origin form, its authority the Host (RFC 9112 §3.2.2); `OPTIONS *` stays."""
    if target == b"*" and method == "OPTIONS":
        return target, headers
    parts = _ABSOLUTE.fullmatch(target)
    if parts is None or not _HOST.fullmatch(parts[1]):
        raise Refused(400)
    rest = parts[2] or b"/"
    host = parts[1]
    return (
        rest if rest[0] == 0x2F else b"/" + rest,
        [(b"host", host), *((name, value) for name, value in headers if name != b"host")],
    )
