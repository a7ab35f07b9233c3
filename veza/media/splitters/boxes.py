"""Boxes of ISO base media files (ISO/IEC 14496-12): their heads, and the boxes within a whole one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

HEAD: Final = 8
LARGE_HEAD: Final = 16


class Box(NamedTuple):
    """A box within a buffer."""

    type: bytes
    start: int
    body: int
    end: int


def boxes(buffer: bytes | bytearray, start: int, end: int) -> Iterator[Box]:
    """The boxes from `start` to `end`, as long as each is whole."""
    while end - start >= HEAD:
        size = int.from_bytes(buffer[start : start + 4], "big")
        if size < HEAD or size > end - start:
            return
        yield Box(bytes(buffer[start + 4 : start + HEAD]), start, start + HEAD, start + size)
        start += size


def first(buffer: bytes | bytearray, start: int, end: int, *path: bytes) -> Box | None:
    """The first box along a path of types (`first(moov, …, b"mdia", b"hdlr")`)."""
    box: Box | None = None
    for kind in path:
        box = next((found for found in boxes(buffer, start, end) if found.type == kind), None)
        if box is None:
            return None
        start, end = box.body, box.end
    return box


def integer(buffer: bytes | bytearray, at: int, end: int, length: int = 4) -> int:
    """An unsigned number. Raises ValueError: it is not all there."""
    if at + length > end:
        raise ValueError("a box is too short")
    return int.from_bytes(buffer[at : at + length], "big")
