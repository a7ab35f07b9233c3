"""EBML (RFC 8794), as much of it as Matroska and WebM need: heads of elements, and the children of a whole element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

UNKNOWN: Final = -1
"""The size of an element that ends where another one begins that cannot be in it."""


class Head(NamedTuple):
    """What stands at the beginning of an element."""

    id: int
    """With its length marker, as specifications write it (0x1A45DFA3)."""
    size: int
    """Bytes of what follows the head, or UNKNOWN."""
    length: int
    """Bytes of the head."""


class Invalid(Exception):
    """No element begins here."""


def head(buffer: bytes | bytearray, at: int, end: int) -> Head | int:
    """The head that begins here, or how many bytes there have to be before it can be told.

    Raises:
        Invalid: there is none.
    """
    if at >= end:
        return 1
    id_length = 9 - buffer[at].bit_length()
    if id_length > 4:
        raise Invalid
    if end - at <= id_length:
        return id_length + 1
    first = buffer[at + id_length]
    size_length = 9 - first.bit_length()
    if size_length > 8:
        raise Invalid
    length = id_length + size_length
    if end - at < length:
        return length
    value = int.from_bytes(buffer[at : at + length], "big")
    ones = (1 << 7 * size_length) - 1
    size = value & ones
    return Head(value >> 8 * size_length, UNKNOWN if size == ones else size, length)


def children(element: bytes) -> Iterator[tuple[int, bytes]]:
    """ID and content of each element within this content. What is no element, or not all there, ends it."""
    at, end = 0, len(element)
    while at < end:
        try:
            found = head(element, at, end)
        except Invalid:
            return
        if isinstance(found, int) or found.size == UNKNOWN or at + found.length + found.size > end:
            return
        at += found.length
        yield found.id, element[at : at + found.size]
        at += found.size


def number(content: bytes) -> int:
    """An unsigned integer; an empty element is 0, and of a too long one only eight bytes count."""
    return int.from_bytes(content[:8], "big")
