"""The loop of the splitters whose containers have headers: keep bytes until something whole stands at their beginning.

A container says, of a place, how many bytes belong together there, or how many it has to see before it can tell. It
decides by those bytes alone, never by how many have come: that is why chunks do not depend on how the input was cut.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from veza.media.splitters.chunk import Chunk


class Cutter(ABC):
    """The loop. A container says how the next step is made."""

    content_type: str

    def __init__(self) -> None:
        self.header = b""
        self.skipped = 0
        self._kept = bytearray()
        self._need = 1
        """So many bytes have to be kept before it is worth looking again."""

    @abstractmethod
    def _take(self, kept: bytearray, at: int, end: int, chunks: list[Chunk]) -> int:
        """Do what can be done at this place (at least a byte is there): add chunks, or count what is skipped.

        Returns:
            How many bytes are done with. None are when more have to come first; `_need` then says how many bytes
            from this place on there must be, and that is more than there are.
        """

    def feed(self, data: bytes) -> list[Chunk]:
        kept = self._kept
        kept += data
        chunks: list[Chunk] = []
        if len(kept) < self._need:
            return chunks
        at, end = 0, len(kept)
        self._need = 1
        while at < end:
            step = self._take(kept, at, end, chunks)
            if step == 0:
                break
            at += step
        del kept[:at]
        return chunks

    @property
    def held(self) -> int:
        """Bytes that came and are neither in a chunk nor skipped yet."""
        return len(self._kept)

    def _wait(self, need: int) -> int:
        """What `_take` returns when it has to see this many bytes first."""
        self._need = need
        return 0

    def _skip(self, length: int) -> int:
        """What `_take` returns for garbage."""
        self.skipped += length
        return length
