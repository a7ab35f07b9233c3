"""What MP3 and ADTS have in common: small frames, each with a sync word, its own length and no header for the whole.

A sync word may stand anywhere in compressed sound or in a tag's cover image, so one is believed only if the frame it
announces ends exactly where another begins that agrees with it. Once that was seen, frames are taken one after the
other as soon as they are whole; whatever does not fit ends the trust, and the search begins anew at that place.

Tags (ID3v2 before a song, ID3v1 after it) are what playlists of files bring along: they are dropped and counted apart
from garbage. Kept back is never more than one frame and the head of the next.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import ClassVar, Final, NamedTuple

from veza.media.splitters.chunk import Chunk

HEAD: Final = 10
"""Bytes that have to be there before it is told what begins at a place; an ID3v2 head is the longest of them."""
ID3V1_LENGTH: Final = 128
ID3V2_MOST: Final = 16 * 1024 * 1024
"""A longer tag is a lie: ten bytes of garbage shall not make us drop hours of sound."""


class Frame(NamedTuple):
    """What a frame's head says."""

    length: int
    """Bytes, head included; more than none."""
    duration: float
    family: int
    """What all frames of one stream have in common. Never negative."""


class FrameSplitter(ABC):
    """The search, and the walk from frame to frame. A container says how a head is found and read."""

    content_type: str

    _START: ClassVar[re.Pattern[bytes]]
    """Matches, in at most HEAD bytes, wherever a frame may begin, and wherever a tag may."""

    def __init__(self) -> None:
        self.header = b""
        self.skipped = 0
        self.tags = 0
        """Bytes of tags so far."""
        self._kept = bytearray()
        self._need = HEAD
        self._tag_left = 0
        self._family = -1
        """That of the frame that ended here; -1 while the search is on."""

    @abstractmethod
    def _measure(self, kept: bytearray, at: int) -> Frame | None:
        """The frame whose head stands here (HEAD bytes are there); None if that is none."""

    def feed(self, data: bytes) -> list[Chunk]:
        kept = self._kept
        kept += data
        chunks: list[Chunk] = []
        if len(kept) < self._need:
            return chunks
        at, end = 0, len(kept)
        while True:
            if self._tag_left:
                step = min(self._tag_left, end - at)
                self._tag_left -= step
                self.tags += step
                at += step
                if self._tag_left:
                    self._need = 1
                    break
            if end - at < HEAD:
                self._need = HEAD
                break
            frame = self._measure(kept, at)
            if frame is not None and frame.family == self._family:
                if end - at < frame.length:
                    self._need = max(frame.length, HEAD)
                    break
                chunks.append(Chunk(bytes(kept[at : at + frame.length]), True, frame.duration))
                at += frame.length
            elif tag := tag_length(kept, at):
                self._tag_left = tag
            elif frame is not None and end - at < frame.length + HEAD:
                self._need = frame.length + HEAD
                break
            elif frame is not None and self._agree(kept, at + frame.length, frame):
                self._family = frame.family
            else:
                self._family = -1
                found = self._START.search(kept, at + 1)
                # Bytes that may be the beginning of a match stay, and always as many: chunks must not depend on
                # where the input was divided.
                step = (found.start() if found else max(at + 1, end - HEAD + 1)) - at
                self.skipped += step
                at += step
        del kept[:at]
        return chunks

    @property
    def held(self) -> int:
        """Bytes that came and are neither in a chunk, nor a tag, nor skipped yet."""
        return len(self._kept)

    def _agree(self, kept: bytearray, at: int, frame: Frame) -> bool:
        following = self._measure(kept, at)
        return following is not None and following.family == frame.family


def tag_length(kept: bytearray, at: int) -> int:
    """How long the tag is that begins here (HEAD bytes are there); 0 if none does."""
    if kept.startswith(b"TAG", at):
        return ID3V1_LENGTH
    if not kept.startswith(b"ID3", at):
        return 0
    major, revision, flags, *sizes = kept[at + 3 : at + HEAD]
    if not 2 <= major <= 4 or revision == 0xFF or flags & 0x0F or any(size & 0x80 for size in sizes):
        return 0
    a, b, c, d = sizes
    footer = HEAD if flags & 0x10 else 0
    length = HEAD + (a << 21 | b << 14 | c << 7 | d) + footer
    return length if length <= ID3V2_MOST else 0
