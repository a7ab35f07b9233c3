"""AMF 0: how RTMP writes the values of its commands (Adobe, Action Message Format 0, 2007)."""

from __future__ import annotations

import struct
from typing import Final

Value = float | bool | str | None | dict[str, "Value"] | list["Value"]

DEPTH: Final = 8
VALUES_MOST: Final = 1000  # of one message, those within others too
NUMBER, BOOLEAN, STRING, OBJECT, NULL, UNDEFINED, ARRAY, END, STRICT, DATE, LONG = (
    *(0, 1, 2, 3, 5, 6, 8, 9, 10, 11, 12),
)


class Malformed(Exception):
    """These bytes are no values."""


def decode(data: bytes) -> list[Value]:
    """All values, one after the other.

    Raises:
        Malformed: what is there is of no known kind, is not all there, goes too deep, or is more than VALUES_MOST.
    """
    reader = _Reader(data)
    values: list[Value] = []
    while reader.at < len(data):
        values.append(reader.value(0))
    return values


def encode(*values: Value) -> bytes:
    """Numbers are doubles; dicts are objects; lists are not needed and not taken."""
    return b"".join(map(_encoded, values))


def _encoded(value: Value) -> bytes:
    if value is None:
        return bytes([NULL])
    if isinstance(value, bool):
        return bytes([BOOLEAN, value])
    if isinstance(value, (int, float)):
        return struct.pack(">Bd", NUMBER, value)
    if isinstance(value, str):
        return bytes([STRING]) + _text(value)
    if isinstance(value, dict):
        pairs = (_text(name) + _encoded(each) for name, each in value.items())
        return bytes([OBJECT]) + b"".join(pairs) + bytes([0, 0, END])
    raise TypeError(f"no value of a command: {value!r}")


def _text(text: str) -> bytes:
    data = text.encode()[:0xFFFF]
    return len(data).to_bytes(2, "big") + data


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._count = 0
        self.at = 0

    def value(self, depth: int) -> Value:
        self._count += 1
        if self._count > VALUES_MOST:
            raise Malformed("more values than anybody sends")
        if depth > DEPTH:
            raise Malformed("values within values within values")
        kind = self._bytes(1)[0]
        if kind == NUMBER:
            (number,) = struct.unpack(">d", self._bytes(8))
            return float(number)
        if kind == BOOLEAN:
            return self._bytes(1) != b"\0"
        if kind == STRING:
            return self._string(2)
        if kind == LONG:
            return self._string(4)
        if kind in (NULL, UNDEFINED):
            return None
        if kind == DATE:
            (number,) = struct.unpack(">d", self._bytes(10)[:8])
            return float(number)
        if kind == ARRAY:
            self._bytes(4)  # how many there are, roughly; the end is marked all the same
        if kind in (OBJECT, ARRAY):
            return self._object(depth)
        if kind == STRICT:
            count = int.from_bytes(self._bytes(4), "big")
            if count > len(self._data):
                raise Malformed("more values than bytes")
            return [self.value(depth + 1) for _ in range(count)]
        raise Malformed(f"a value of kind {kind}")

    def _object(self, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while True:
            name = self._string(2)
            if not name and self._data[self.at : self.at + 1] == bytes([END]):
                self.at += 1
                return found
            found[name] = self.value(depth + 1)

    def _string(self, width: int) -> str:
        return self._bytes(int.from_bytes(self._bytes(width), "big")).decode("utf-8", "replace")

    def _bytes(self, count: int) -> bytes:
        data = self._data[self.at : self.at + count]
        if len(data) < count:
            raise Malformed("a value is not all there")
        self.at += count
        return data
