"""The chunked transfer coding, receiving side (RFC 9112 §7.1): bytes in, bytes of the body out. Pure.

Strict: CRLF only, hexadecimal sizes only, no white space around them. Extensions and trailers are read, bounded and
dropped. Any doubt is a `ChunkError`: the connection cannot be trusted any further.
"""

import re
from typing import Final

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,13})([ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_SIZE_START: Final = re.compile(rb"[0-9A-Fa-f]{1,13}[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")
LINE_LIMIT: Final = 4096
TRAILERS_LIMIT: Final = 8192


class ChunkError(ValueError):
    """What came is not a chunked body."""


class Dechunker:
    """Takes the coding off, piece by piece.

    Attributes:
        done: the last chunk and its trailers have been read.
        rest: once done, the bytes fed beyond the end of the body.
    """

    __slots__ = ("_held", "_left", "_phase", "_trailers", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        self._held = b""  # an incomplete line, or the incomplete CRLF behind a chunk
        self._left = 0  # bytes of the current chunk that have not come yet
        self._phase = "size"
        self._trailers = 0

    def feed(self, data: bytes) -> bytes:
        """Decode what came.

        Returns:
            the bytes of the body it held; may be empty.

        Raises:
            ChunkError: the coding is broken.
        """
        if self._held:
            data, self._held = self._held + data, b""
        found: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._phase == "data":
                piece = data[at : at + self._left]
                found.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._phase = "end"
            elif self._phase == "end":
                if data[at : at + 2] != b"\r\n":
                    if data[at:] != b"\r":
                        raise ChunkError("no CRLF behind a chunk")
                    self._held = b"\r"
                    break
                at += 2
                self._phase = "size"
            else:
                end = data.find(b"\n", at)
                if end < 0:
                    self._held = data[at:]
                    self._check_held()
                    break
                if end == at or data[end - 1] != 0x0D:
                    raise ChunkError("a line does not end in CRLF")
                self._line(data[at : end - 1])
                at = end + 1
        if self.done:
            self.rest = data[at:]
        return found[0] if len(found) == 1 else b"".join(found)

    def _check_held(self) -> None:
        if len(self._held) > LINE_LIMIT:
            raise ChunkError("a line is too long")
        if self._phase == "size" and not _SIZE_START.fullmatch(self._held.removesuffix(b"\r")):
            raise ChunkError("a chunk has no size")

    def _line(self, line: bytes) -> None:
        if len(line) > LINE_LIMIT:
            raise ChunkError("a line is too long")
        if self._phase == "size":
            size = _SIZE.fullmatch(line)
            if size is None:
                raise ChunkError("a chunk has no size")
            self._left = int(size[1], 16)
            self._phase = "data" if self._left else "trailers"
        elif not line:
            self.done = True
        else:
            self._trailers += len(line)
            if self._trailers > TRAILERS_LIMIT or not _TRAILER.fullmatch(line):
                raise ChunkError("a bad trailer")
