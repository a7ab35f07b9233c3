"""Forms with a file, read as they come: small fields are kept, the bytes of the one file are handed on.

The reader does no I/O and holds at most `FORM_LIMIT` bytes of fields. Parts may come in any order; everything that can
be refused is refused at the first byte that shows it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Final

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from veza.http.api.envelope import ApiError, bad_request, invalid

FIELDS: Final = 32  # parts that are no file
FORM_LIMIT: Final = 64 * 1024  # bytes of all their names and values
HEADERS: Final = 8  # of one part
HEADER_LIMIT: Final = 2048  # bytes of one of them
OVERHEAD: Final = 256 * 1024  # what a body may hold beside its file: fields, headers, boundaries
_LONGEST_BOUNDARY: Final = 70  # RFC 2046 §5.1.1

# It would tell the log of every malformed byte, and quote it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


class FilePart(msgspec.Struct, frozen=True):
    """What stands before the bytes of a file. All of it is a claim."""

    name: str
    filename: str | None
    content_type: str | None


class FormReader:
    """One body.

    Args:
        boundary: see `boundary_of`.
        files: names of which one part must be the file.
        limit: largest file, in bytes.

    Attributes:
        file: the file's head, once it has been seen.
        size: bytes of the file so far.
        fields: the other parts with a known meaning or not, each name with all its values, in order.
    """

    def __init__(self, boundary: bytes, files: Collection[str], limit: int) -> None:
        self.file: FilePart | None = None
        self.size = 0
        self.fields: dict[str, list[str]] = {}
        self._files = files
        self._limit = limit
        self._pieces: list[memoryview] = []
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._headers: dict[bytes, bytes] = {}
        self._name: str | None = None  # of the field that is being read
        self._value = bytearray()
        self._count = 0
        self._held = 0
        self._in_file = False
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
            max_header_count=HEADERS,
            max_header_size=HEADER_LIMIT,
        )

    def feed(self, data: bytes) -> list[memoryview]:
        """Take bytes of the body; the bytes of the file that were among them.

        Raises:
            ApiError: 400 malformed, two files, too much beside the file; 413 the file is larger than it may be.
        """
        try:
            self._parser.write(data)
        except FormParserError:
            raise bad_request("The body is not a correct multipart/form-data body.") from None
        pieces, self._pieces = self._pieces, []
        return pieces

    def finish(self) -> FilePart:
        """The body has ended.

        Raises:
            ApiError: 400, it was not whole, or had no file.
        """
        if not self._ended:
            raise bad_request("The body ends before its last boundary.")
        if self.file is None:
            raise invalid({self._one_name: "A file is expected in this part."})
        return self.file

    @property
    def _one_name(self) -> str:
        return next(iter(self._files))

    # What the parser finds

    def _part_begins(self) -> None:
        self._headers.clear()
        self._name = None
        self._in_file = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0].extend(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1].extend(data[start:end])

    def _header_ends(self) -> None:
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)
        name.clear()
        value.clear()

    def _headers_end(self) -> None:
        disposition, options = parse_options_header(_text(self._headers.get(b"content-disposition", b"")))
        name = options.get(b"name")
        if disposition != b"form-data" or name is None:
            raise bad_request("A part of the body does not say which field it is.")
        self._name = _decoded(name)
        if self._name in self._files:
            if self.file is not None:
                raise invalid({self._name: "One file at a time: there is more than one in this request."})
            given = options.get(b"filename")
            kind = self._headers.get(b"content-type")
            self.file = FilePart(
                self._name,
                _unescaped(_decoded(given)) if given else None,
                _text(kind).strip() if kind else None,
            )
            self._in_file = True
            return
        self._count += 1
        if self._count > FIELDS:
            raise bad_request(f"A form has at most {FIELDS} fields.")
        self._hold(len(name))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self.size += end - start
            if self.size > self._limit:
                raise too_large(self._limit)
            self._pieces.append(memoryview(data)[start:end])
        else:
            self._hold(end - start)
            self._value.extend(data[start:end])

    def _part_ends(self) -> None:
        if self._in_file or self._name is None:
            return
        try:
            value = self._value.decode()
        except UnicodeDecodeError:
            raise invalid({self._name: "Must be UTF-8 text."}) from None
        self._value.clear()
        self.fields.setdefault(self._name, []).append(value)

    def _end(self) -> None:
        self._ended = True

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > FORM_LIMIT:
            raise bad_request(f"The fields of a form have at most {FORM_LIMIT // 1024} KiB together.")


def boundary_of(content_type: str | None) -> bytes:
    """The boundary in a request's Content-Type.

    Raises:
        ApiError: 415, that is no form with a file; 400, it has no boundary, or none that can be one.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "Send the file as multipart/form-data.")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _LONGEST_BOUNDARY or b"\r" in boundary or b"\n" in boundary:
        raise bad_request("The Content-Type lacks a correct boundary.")
    return boundary


def too_large(limit: int) -> ApiError:
    return ApiError(413, "TOO_LARGE", f"A file may have at most {_size(limit)}.", details={"limit": limit})


def _size(limit: int) -> str:
    for unit, name in ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB")):
        if limit >= unit:
            return f"{limit / unit:.4g} {name}"
    return f"{limit} bytes"


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _decoded(value: bytes) -> str:
    """Browsers write names in UTF-8; others, and older ones, in what is still one byte a character."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _unescaped(filename: str) -> str:
    """The HTML standard's three escapes."""
    for escape, meant in (("%22", '"'), ("%0D", "\r"), ("%0A", "\n")):
        filename = filename.replace(escape, meant)
    return filename
