"""The last messages of a room, encoded, so that a reconnecting member is served without the database.

Bounded in messages and bytes. Frames are replaced when their message changes, so a replay never shows what was deleted.
"""

from __future__ import annotations


class Ring:
    """Frames by sequence number, without gaps, the oldest dropped first."""

    def __init__(self, messages: int, size: int) -> None:
        self._most = messages
        self._limit = size
        self._frames: dict[int, bytes] = {}  # ascending and gapless: insertion order is sequence order
        self._bytes = 0
        self._last = 0

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    @property
    def first(self) -> int | None:
        """The oldest sequence number held."""
        return next(iter(self._frames), None)

    def append(self, seq: int, frame: bytes) -> None:
        """Add the next message. Anything but last + 1 starts the ring anew: it never has a gap."""
        if self._frames and seq != self._last + 1:
            self.clear()
        self._last = seq
        self._frames[seq] = frame
        self._bytes += len(frame)
        self._trim()

    def replace(self, seq: int, frame: bytes) -> None:
        """The message changed: replay it as it is now."""
        old = self._frames.get(seq)
        if old is not None:
            self._frames[seq] = frame
            self._bytes += len(frame) - len(old)
            self._trim()

    def _trim(self) -> None:
        while self._bytes > self._limit or len(self._frames) > self._most:
            oldest = next(iter(self._frames))
            self._bytes -= len(self._frames.pop(oldest))

    def after(self, seq: int, last: int) -> list[bytes] | None:
        """The frames of seq + 1 … last; None where they are not all here."""
        if seq >= last:
            return []
        if seq + 1 not in self._frames or last not in self._frames:
            return None
        return [self._frames[n] for n in range(seq + 1, last + 1)]

    def clear(self) -> None:
        self._frames.clear()
        self._bytes = 0
