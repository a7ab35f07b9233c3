"""The last seconds of a stream: chunks shared by everybody who listens, found by their place in it.

A place is a number of bytes since the stream's first one. Listeners hold nothing but such a number, so what a
thousand of them have yet to be given is here once. Chunks never change; the ring only forgets the oldest.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Final

import msgspec

from veza.media.splitters import Chunk

TOO_FAR: Final = 8
"""A burst may be so many times as long as it was wished, if only so it can begin where one can begin."""
HARD: Final = 4
"""For the sake of its newest key point the ring may be so many times as large as it should."""


class Opening(msgspec.Struct, frozen=True):
    """Where somebody begins: the bytes he is given first, and the place he goes on from."""

    header: bytes
    at: int


class Ring:
    """Bounded in seconds and bytes; what begins at the newest key point is kept a while longer.

    Args:
        seconds: how long a chunk is kept.
        size: bytes kept; up to HARD times as many where the newest key point lies further back.
    """

    def __init__(self, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        # Three lists in step, ascending. Those before `_first` are forgotten, and removed many at a time.
        self._places: list[int] = []
        self._times: list[float] = []
        self._chunks: list[Chunk] = []
        self._first = 0
        self._keys: list[int] = []  # places of key points held
        self.start = 0
        self.end = 0
        self._read: tuple[int, int, bytes] = (0, 0, b"")
        self._framed: tuple[int, int, bytes] = (0, 0, b"")

    def __len__(self) -> int:
        """Chunks held."""
        return len(self._chunks) - self._first

    @property
    def size(self) -> int:
        """Bytes held."""
        return self.end - self.start

    @property
    def newest_key(self) -> int | None:
        """The place of the newest key point; None if there is none."""
        return self._keys[-1] if self._keys else None

    def append(self, chunk: Chunk, now: float) -> None:
        """Take one more. Nothing is forgotten before `trim`."""
        self._places.append(self.end)
        self._times.append(now)
        self._chunks.append(chunk)
        if chunk.key:
            self._keys.append(self.end)
        self.end += len(chunk.data)

    def horizon(self, now: float) -> int:
        """The place before which `trim` will forget."""
        places, times = self._places, self._times
        last = len(places)
        keep = self._keys[-1] if self._keys and self.end - self._keys[-1] <= HARD * self._size else self.end
        at = self._first
        while at < last - 1 and (now - times[at] > self._seconds or self.end - places[at] > self._size):
            if places[at] >= keep:
                break
            at += 1
        return places[at] if at < last else self.end

    def trim(self, horizon: int) -> None:
        """Forget what lies before this place, which is a chunk's."""
        self._first = bisect_left(self._places, horizon, self._first)
        self.start = horizon
        del self._keys[: bisect_left(self._keys, horizon)]
        if self._first > 512 and self._first * 2 > len(self._places):
            del self._places[: self._first], self._times[: self._first], self._chunks[: self._first]
            self._first = 0

    def clear(self) -> None:
        """Forget everything; places go on where they were."""
        self._places, self._times, self._chunks, self._keys = [], [], [], []
        self._first = 0
        self.start = self.end
        self._read = self._framed = (0, 0, b"")

    def read(self, at: int, stop: int) -> bytes:
        """The bytes between two places, which are held. Who asks for the same again gets the same object."""
        if self._read[0] == at and self._read[1] == stop:
            return self._read[2]
        first = bisect_right(self._places, at, self._first) - 1
        last = bisect_left(self._places, stop, first)
        data = b"".join([chunk.data for chunk in self._chunks[first:last]])
        begins = self._places[first]
        if begins != at or len(data) != stop - at:
            data = data[at - begins : stop - begins]
        self._read = (at, stop, data)
        return data

    def frame(self, at: int, stop: int) -> bytes:
        """The same as one binary WebSocket frame (RFC 6455 §5.2), which everybody shares."""
        if self._framed[0] == at and self._framed[1] == stop:
            return self._framed[2]
        blob = binary_frame(self.read(at, stop))
        self._framed = (at, stop, blob)
        return blob

    def whole(self, at: int, most: int, stop: int) -> int:
        """The end of the last whole chunk within `most` bytes from a chunk's place, of one chunk at least."""
        if stop - at <= most:
            return stop
        nth = bisect_right(self._places, at + most, self._first) - 1
        if self._places[nth] <= at:
            nth += 1
        return self._places[nth] if nth < len(self._places) else stop

    def rest(self, at: int) -> tuple[bytes, int]:
        """What is left of the chunk this place lies in (nothing at its beginning), and where the next one begins."""
        nth = bisect_right(self._places, at, self._first) - 1
        begins, data = self._places[nth], self._chunks[nth].data
        if begins == at:
            return b"", at
        return data[at - begins :], begins + len(data)

    def opening(self, burst: int, stop: int, since: int = 0) -> Opening | None:
        """Where a new listener begins; None while there is no key point.

        That is the newest key point at least `burst` bytes before `stop`; or a nearer one, where that lies so far back
        that he would be far behind; or the oldest there is. Where containers have headers none before `since` is taken
        if there is one behind it: what began anew there is to be heard from its beginning.
        """
        keys = self._keys
        if not keys:
            return None
        nth = bisect_right(keys, stop - burst) - 1
        first = bisect_left(keys, since)
        if first == len(keys) or not self.opening_at(keys[-1]).header:
            first = 0
        if nth < first:
            nth = first
        elif stop - keys[nth] > TOO_FAR * burst and nth + 1 < len(keys):
            nth += 1
        return self.opening_at(keys[nth])

    def opening_at(self, key: int) -> Opening:
        """A beginning at this key point."""
        nth = bisect_left(self._places, key, self._first)
        return Opening(self._chunks[nth].header, key)


def binary_frame(payload: bytes) -> bytes:
    """One final, unmasked binary frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 0x10000:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload
