"""Fragmented MP4 (ISO/IEC 14496-12, 8.8): a fragment (`moof`) and the first of its data is a chunk one may begin at.

The data of a fragment is passed on in pieces of PIECE, so that a long one neither is kept nor makes anybody wait. One
may begin at a fragment if its first picture stands on its own, or if there is only sound.

Fragments as FFmpeg makes them unless told otherwise refer to their data by its place in the file, which means nothing
to who comes later: such a reference is turned into one to the fragment itself. The bytes stay as many.

Kept back is at most a header or a fragment's head of BOX_MOST, with a piece of its data; what announces more, and what
is no box of a fragmented file, is garbage, and the search goes on to the next fragment or beginning.
"""

from __future__ import annotations

import re
from typing import Final

from veza.media.splitters.boxes import HEAD, LARGE_HEAD, boxes, first
from veza.media.splitters.chunk import Chunk
from veza.media.splitters.cutter import Cutter
from veza.media.splitters.fragment import Track, read_fragment, read_tracks

BOX_MOST: Final = 1024 * 1024
DATA_MOST: Final = 64 * 1024 * 1024
PIECE: Final = 32 * 1024

_SMALL: Final = frozenset(
    {
        b"ftyp",
        b"styp",
        b"moov",
        b"moof",
        b"sidx",
        b"ssix",
        b"prft",
        b"emsg",
        b"free",
        b"skip",
        b"wide",
        b"mfra",
    }
    | {b"uuid", b"meta", b"pdin", b"udta"}
)
_BEGINNING: Final = re.compile(rb"(?=\x00[\x00-\x0f]..(?:ftyp|moof\x00\x00\x00\x10mfhd))", re.DOTALL)
_BEGINNING_LENGTH: Final = 16


class Mp4Splitter(Cutter):
    """Fragmented MP4. `content_type` tells sound from picture once the header is there."""

    content_type = "video/mp4"

    def __init__(self) -> None:
        super().__init__()
        self._lost = True
        self._ftyp = b""
        self._tracks: dict[int, Track] = {}
        self._fragment: Chunk | None = None
        """A fragment whose data has not come yet."""
        self._data_left = 0
        """Bytes of data to come; they are passed on piece by piece."""

    @property
    def held(self) -> int:
        return super().held + (0 if self._fragment is None else len(self._fragment.data))

    def _take(self, kept: bytearray, at: int, end: int, chunks: list[Chunk]) -> int:
        if self._data_left:
            return self._data(kept, at, end, chunks, 0)
        if self._lost:
            if end - at < _BEGINNING_LENGTH:
                return self._wait(_BEGINNING_LENGTH)
            if not _BEGINNING.match(kept, at):
                return self._search(kept, at, end, chunks)
        if end - at < HEAD:
            return self._wait(HEAD)
        size, kind, head = int.from_bytes(kept[at : at + 4], "big"), bytes(kept[at + 4 : at + HEAD]), HEAD
        if kind == b"mdat":
            if size == 1:
                if end - at < LARGE_HEAD:
                    return self._wait(LARGE_HEAD)
                size, head = int.from_bytes(kept[at + HEAD : at + LARGE_HEAD], "big"), LARGE_HEAD
            if not head <= size <= DATA_MOST or self._fragment is None:
                return self._search(kept, at, end, chunks)
            return self._data(kept, at, end, chunks, size)
        if kind not in _SMALL or not HEAD <= size <= BOX_MOST or (not self._tracks and kind == b"moof"):
            return self._search(kept, at, end, chunks)
        if end - at < size:
            return self._wait(size)
        box = bytes(kept[at : at + size])
        if not self._box(kind, box, chunks):
            return self._search(kept, at, end, chunks)
        self._lost = False
        return size

    def _data(self, kept: bytearray, at: int, end: int, chunks: list[Chunk], size: int) -> int:
        """The next piece of data: with the fragment it belongs to, if it is the first."""
        left = self._data_left or size
        piece = min(PIECE, left)
        if end - at < piece:
            return self._wait(piece)
        data = bytes(kept[at : at + piece])
        fragment, self._fragment = self._fragment, None
        if fragment is None:
            chunks.append(Chunk(data, False, 0.0))
        else:
            chunks.append(Chunk(fragment.data + data, fragment.key, fragment.duration, fragment.header))
        self._data_left = left - piece
        return piece

    def _search(self, kept: bytearray, at: int, end: int, chunks: list[Chunk]) -> int:
        """This is garbage: on to where a fragment or a container may begin."""
        self._leave_fragment(chunks)
        self._lost = True
        found = _BEGINNING.search(kept, at + 1)
        step = (found.start() if found else max(at + 1, end - _BEGINNING_LENGTH + 1)) - at
        return self._skip(step)

    def _leave_fragment(self, chunks: list[Chunk]) -> None:
        """A fragment whose data does not come is passed on without, and nobody begins there."""
        if self._fragment is not None:
            chunks.append(Chunk(self._fragment.data, False, self._fragment.duration))
            self._fragment = None

    def _box(self, kind: bytes, box: bytes, chunks: list[Chunk]) -> bool:
        """What a box that is wholly there means. False: it is garbage after all."""
        if kind == b"moof":
            fragment = read_fragment(box, self._tracks)
            if fragment is None:
                return False
            self._leave_fragment(chunks)
            header = self.header if fragment.key else b""
            self._fragment = Chunk(fragment.data, fragment.key, fragment.duration, header)
            return True
        if kind == b"moov":
            tracks = read_tracks(box)
            if not tracks or not self._ftyp:
                return False
            self._tracks = tracks
            self.header = self._ftyp + box
            video = any(track.video for track in tracks.values())
            self.content_type = "video/mp4" if video else "audio/mp4"
        elif kind == b"ftyp":
            self._ftyp = box
            self._tracks = {}
        elif not self._tracks and not self._ftyp:
            return False
        self._leave_fragment(chunks)
        chunks.append(Chunk(box, False, 0.0))
        return True


def never_live(beginning: bytes) -> bool:
    """Whether this is the beginning of an MP4 file that is not fragmented: its index says where all the data is."""
    for box in boxes(beginning, 0, len(beginning)):
        if box.type == b"moov":
            return first(beginning, box.body, box.end, b"mvex") is None
        if box.type == b"mdat":
            return True
    # A box that goes on beyond what there is: data before any index.
    return _cut_off(beginning) == b"mdat"


def _cut_off(beginning: bytes) -> bytes:
    at = 0
    for box in boxes(beginning, 0, len(beginning)):
        at = box.end
    return beginning[at + 4 : at + HEAD]
