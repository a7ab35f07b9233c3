"""WebM and Matroska (RFC 9559): every block is a chunk, and one may begin at a block that needs none before it.

A listener could begin at clusters alone, but browsers make clusters half a minute long, and to wait for their end is
to be late. So a cluster is only a time that the blocks in it refer to: a chunk that one may begin at has, in its
`header`, the container's beginning and the head of a cluster of unknown size with that time, which the next cluster
ends. Sizes of segments and clusters are therefore of no interest here, known or not.

The header is made anew of what matters (EBML, Info, Tracks, in a segment of unknown size): tables of positions would
be wrong for whoever comes later.

Kept back is at most one element of ELEMENT_MOST; a longer one is taken for garbage, and the search goes on to the next
cluster or the next beginning.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Final

from veza.media.splitters import ebml
from veza.media.splitters.chunk import Chunk
from veza.media.splitters.cutter import Cutter

ELEMENT_MOST: Final = 4 * 1024 * 1024
HEADER_MOST: Final = 1024 * 1024
JUMP: Final = 10.0
"""Seconds. Two blocks that are further apart say nothing about how long what is between them lasts."""

EBML, SEGMENT, INFO, TRACKS, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1F43B675
_TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP, _BLOCK, _REFERENCE = 0xE7, 0xA3, 0xA0, 0xA1, 0xFB
_DOCTYPE, _TIMESTAMP_SCALE = 0x4282, 0x2AD7B1
_TRACK_ENTRY, _TRACK_NUMBER, _TRACK_TYPE = 0xAE, 0xD7, 0x83
_VIDEO, _AUDIO = 1, 2

_ENTERED: Final = frozenset({SEGMENT, CLUSTER})
"""Elements of which only the head is taken: what is in them is looked at piece by piece."""
_KNOWN: Final = frozenset(
    {
        *(EBML, SEGMENT, INFO, TRACKS, CLUSTER, _TIMESTAMP, _SIMPLE_BLOCK, _BLOCK_GROUP),
        *(
            0x114D9B74,
            0x1C53BB6B,
            0x1254C367,
            0x1043A770,
            0x1941A469,
        ),  # SeekHead, Cues, Tags, Chapters, Attachments
        *(0xA7, 0xAB, 0x5854, 0xAF),  # of a cluster: Position, PrevSize, SilentTracks, EncryptedBlock
        *(0xBF, 0xEC),  # CRC-32, Void
    }
)
_FIRST_OF_CLUSTER: Final = frozenset({_TIMESTAMP, 0xBF, 0xEC})
_FIRST_OF_GROUP: Final = frozenset({_BLOCK, _REFERENCE, 0x9B, 0xFA, 0x75, 0xA4, 0xBF, 0xEC})
_MOST: Final = {
    **dict.fromkeys((EBML, INFO, TRACKS), HEADER_MOST),
    **dict.fromkeys((_TIMESTAMP, 0xA7, 0xAB), 8),
    0xBF: 4,
    0xEC: 64 * 1024,
}
_DOCTYPES: Final = frozenset({b"webm", b"matroska"})
_DEFAULT_SCALE: Final = 1_000_000
_BLOCK_HEAD: Final = 4  # track number (up to 127, as live sources have it), time (16 bits, signed), flags
_BEGINNING: Final = re.compile(rb"\x1a\x45\xdf\xa3|\x1f\x43\xb6\x75")
_UNKNOWN_SIZE: Final = b"\x01" + b"\xff" * 7
_OPEN_SEGMENT: Final = SEGMENT.to_bytes(4, "big") + _UNKNOWN_SIZE
_OPEN_CLUSTER: Final = (
    CLUSTER.to_bytes(4, "big") + _UNKNOWN_SIZE + bytes([_TIMESTAMP, 0x88])
)  # its time follows


class WebmSplitter(Cutter):
    """WebM, or Matroska. `content_type` tells them, and sound from picture, once the header is there."""

    content_type = "video/webm"

    def __init__(self) -> None:
        super().__init__()
        self._matroska = False
        self._lost = True
        """Nothing is believed but the beginning of a container, or of a cluster with what has to follow it."""
        self._beginning = b""
        self._info = b""
        self._tracks = b""
        self._kinds: dict[int, int] = {}
        self._video = False
        self._scale = 0.0
        """Seconds of a unit of time."""
        self._cluster: int | None = None
        """Time of the cluster that is on, in units; None between clusters."""
        self._opened = b""
        """The header, with the head of that cluster behind it."""
        self._time: float | None = None
        """Where the latest block ended up, in seconds."""

    def _take(self, kept: bytearray, at: int, end: int, chunks: list[Chunk]) -> int:
        if self._lost:
            if end - at < 4:
                return self._wait(4)
            if not _BEGINNING.match(kept, at):
                return self._search(kept, at, end)
        try:
            found = ebml.head(kept, at, end)
        except ebml.Invalid:
            return self._search(kept, at, end)
        if isinstance(found, int):
            return self._wait(found)
        if found.id not in _KNOWN or (found.id != EBML and not self._beginning):
            return self._search(kept, at, end)
        if found.id in _ENTERED:
            if self._lost:
                try:
                    within = ebml.head(kept, at + found.length, end)
                except ebml.Invalid:
                    return self._search(kept, at, end)
                if isinstance(within, int):
                    return self._wait(found.length + within)
                if within.id not in _FIRST_OF_CLUSTER:
                    return self._search(kept, at, end)
            length = found.length
        else:
            if found.size == ebml.UNKNOWN or found.size > _MOST.get(found.id, ELEMENT_MOST):
                return self._search(kept, at, end)
            length = found.length + found.size
            # A byte of garbage in thirty is the ID of an element, which had better not be waited for.
            if found.size and end - at == found.length:
                return self._wait(found.length + 1)
            if found.size and not self._may_be(found.id, kept[at + found.length]):
                return self._search(kept, at, end)
            if end - at < length:
                return self._wait(length)
        element = bytes(kept[at : at + length])
        chunk = self._chunk(found.id, element, found.length)
        if chunk is None:
            return self._search(kept, at, end)
        self._lost = False
        chunks.append(chunk)
        return length

    def _may_be(self, identity: int, first: int) -> bool:
        """Whether an element's content may begin with this byte."""
        if identity == _SIMPLE_BLOCK:
            return first & 0x80 != 0 and first & 0x7F in self._kinds
        return identity != _BLOCK_GROUP or first in _FIRST_OF_GROUP

    def _search(self, kept: bytearray, at: int, end: int) -> int:
        """This is garbage: on to where a cluster or a container may begin."""
        self._lost = True
        self._cluster = None
        found = _BEGINNING.search(kept, at + 1)
        return self._skip((found.start() if found else max(at + 1, end - 3)) - at)

    def _chunk(self, identity: int, element: bytes, head: int) -> Chunk | None:
        """What an element that is wholly there means; None: it is garbage after all."""
        if identity == _SIMPLE_BLOCK:
            block = element[head : head + _BLOCK_HEAD]
            return self._block(
                element, block, independent=len(block) == _BLOCK_HEAD and block[-1] & 0x80 != 0
            )
        if identity == _BLOCK_GROUP:
            parts = dict(ebml.children(element[head:]))
            block = parts.get(_BLOCK, b"")[:_BLOCK_HEAD]
            return self._block(element, block, _REFERENCE not in parts)
        if identity == EBML:
            if dict(ebml.children(element[head:])).get(_DOCTYPE, b"").rstrip(b"\0") not in _DOCTYPES:
                return None
            self._begin(element, head)
        elif identity == INFO:
            self._info = element
            scale = dict(ebml.children(element[head:])).get(_TIMESTAMP_SCALE)
            self._scale = (ebml.number(scale) if scale else _DEFAULT_SCALE) / 1e9
        elif identity == TRACKS:
            self._tracks = element
            self._kinds = dict(_tracks(element[head:]))
            self._video = _VIDEO in self._kinds.values()
        elif identity == CLUSTER:
            if not self._kinds:
                return None
            self._cluster = None
            self._complete_header()
        elif identity == _TIMESTAMP:
            self._cluster = ebml.number(element[head:])
            self._opened = self.header + _OPEN_CLUSTER + self._cluster.to_bytes(8, "big")
        return Chunk(element, False, 0.0)

    def _begin(self, element: bytes, head: int) -> None:
        """A container begins: what was known of the one before says nothing about it."""
        doctype = dict(ebml.children(element[head:]))[_DOCTYPE]
        self._matroska = not doctype.startswith(b"webm")
        self._beginning, self._info, self._tracks = element, b"", b""
        self._kinds = {}
        self._scale = _DEFAULT_SCALE / 1e9
        self._cluster = None

    def _complete_header(self) -> None:
        header = self._beginning + _OPEN_SEGMENT + self._info + self._tracks
        if header != self.header:
            self.header = header
        kind = "video" if self._video else "audio"
        self.content_type = f"{kind}/{'x-matroska' if self._matroska else 'webm'}"

    def _block(self, element: bytes, block: bytes, independent: bool) -> Chunk:
        """A block, of which the head is given: may one begin here, and how much time has passed?"""
        if self._cluster is None or len(block) < _BLOCK_HEAD:
            return Chunk(element, False, 0.0)
        kind = self._kinds.get(block[0] & 0x7F)
        key = independent if kind == _VIDEO else kind == _AUDIO and not self._video
        relative = int.from_bytes(block[1:3], "big", signed=True)
        duration = self._elapsed((self._cluster + relative) * self._scale)
        return Chunk(element, key, duration, self._opened if key else b"")

    def _elapsed(self, time: float) -> float | None:
        """Seconds since the latest block. Sound and picture take turns, so a small step back is none at all."""
        before = self._time
        if before is None or abs(time - before) > JUMP:
            self._time = time
            return 0.0 if before is None else None
        self._time = max(before, time)
        return self._time - before


def without_cluster(header: bytes) -> bytes:
    """What a chunk's header says of the container: it stays the same until that begins anew."""
    return header[: -len(_OPEN_CLUSTER) - 8]


def _tracks(content: bytes) -> Iterator[tuple[int, int]]:
    """Number and type of each track, of which at most 127 are looked at."""
    for identity, entry in itertools.islice(ebml.children(content), 127):
        if identity == _TRACK_ENTRY:
            parts = dict(ebml.children(entry))
            yield ebml.number(parts.get(_TRACK_NUMBER, b"")), ebml.number(parts.get(_TRACK_TYPE, b""))
