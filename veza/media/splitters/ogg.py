"""Ogg (RFC 3533) with Opus, Vorbis or FLAC in it: a page is a chunk, and one may begin at a page where a packet begins.

The header of a link is its first pages, up to the first that begins with sound. A chained stream (as Icecast sources
send it, every song a link of its own) brings a new one with each link. Pages are believed by their checksum alone, so
garbage may look as it likes. Logical streams of other codecs (Theora, Skeleton) are left out: their pages count as
skipped, and the sound goes on without them.

Kept back is at most one page (64 KiB); a header is at most HEADER_MOST, or its link is skipped.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

from veza.media.splitters.chunk import Chunk
from veza.media.splitters.cutter import Cutter

HEADER_MOST: Final = 2 * 1024 * 1024
STREAMS_MOST: Final = 8
WRONG_MOST: Final = 256 * 1024
JUMP: Final = 10.0
"""Seconds. Two pages that are further apart say nothing about how long the sound between them is."""

MAGIC: Final = b"OggS"
_FIXED: Final = struct.Struct(
    "<4sBBqIIIB"
)  # magic, version, flags, granule, serial, number, checksum, segments
_CONTINUED, _FIRST = 1, 2
_CHECKSUM: Final = 22  # where it stands
_MIRRORED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Codec(NamedTuple):
    """What the first packet of a logical stream tells."""

    name: str
    rate: int
    """Units of the granule position in a second."""
    packets: int
    """Header packets there must be, the first among them."""


class _Stream:
    """A logical stream of the link that is on."""

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.packets = 0
        """Header packets so far."""


class OggSplitter(Cutter):
    """Ogg. What it carries is told by its header alone: `content_type` stays as it is."""

    content_type = "audio/ogg"

    def __init__(self) -> None:
        super().__init__()
        self._streams: dict[int, _Stream] = {}
        """By serial number, of this link. The first one is the clock."""
        self._gathered: list[bytes] | None = None
        """Pages of the header while it comes; None while sound does."""
        self._gathered_bytes = 0
        self._granule = 0
        self._wrong = 0
        """Bytes of wrong pages since the last right one."""

    def _take(self, kept: bytearray, at: int, end: int, chunks: list[Chunk]) -> int:
        if end - at < _FIXED.size:
            return self._wait(_FIXED.size)
        magic, version, flags, granule, serial, _, _, segments = _FIXED.unpack_from(kept, at)
        if magic != MAGIC or version != 0:
            return self._search(kept, at, end)
        body: int = _FIXED.size + segments
        if end - at < body:
            return self._wait(body)
        length = body + sum(kept[at + _FIXED.size : at + body])
        if end - at < length:
            return self._wait(length)
        page = bytes(kept[at : at + length])
        if not whole(page):
            # Somebody may send beginnings of long pages only, each of which has to be summed up: a page found wrong
            # after some others is passed over as a whole.
            self._wrong += length
            return self._skip(length) if self._wrong > WRONG_MOST else self._search(kept, at, end)
        self._wrong = 0

        if flags & _FIRST:
            self._begin(serial, page[body:])
        stream = self._streams.get(serial)
        if stream is None:
            return self._skip(length)
        begins = length > body and not flags & _CONTINUED
        if self._gathered is not None:
            if not begins or _is_header(stream.codec, page[body : body + 8]):
                if self._gather(stream, page, body):
                    chunks.append(Chunk(page, False, 0.0))
                    return length
                return self._skip(length)
            if not self._header_complete():
                return self._skip(length)
        chunks.append(
            Chunk(page, begins, self._elapsed(serial, stream, granule), self.header if begins else b"")
        )
        return length

    def _search(self, kept: bytearray, at: int, end: int) -> int:
        """No page stands here: on to where one may."""
        found = kept.find(MAGIC, at + 1)
        return self._skip((found if found >= 0 else max(at + 1, end - _FIXED.size + 1)) - at)

    def _begin(self, serial: int, packet: bytes) -> None:
        """A logical stream begins: in the header that is coming, or as the first of a new link."""
        codec = codec_of(packet)
        if codec is None:
            self._streams.pop(serial, None)
            return
        more = self._gathered is not None and all(stream.packets <= 1 for stream in self._streams.values())
        if not more or serial in self._streams:
            self._streams = {}
            self._gathered = []
            self._gathered_bytes = 0
            self._granule = 0
        if len(self._streams) < STREAMS_MOST:
            self._streams[serial] = _Stream(codec)

    def _gather(self, stream: _Stream, page: bytes, body: int) -> bool:
        """Take a page into the header. False: it is too large, and the link is given up."""
        assert self._gathered is not None
        stream.packets += sum(lace < 255 for lace in page[_FIXED.size : body])
        self._gathered.append(page)
        self._gathered_bytes += len(page)
        if self._gathered_bytes <= HEADER_MOST:
            return True
        self._give_up()
        return False

    def _header_complete(self) -> bool:
        """Sound begins. False: header packets are missing, and the link is given up."""
        assert self._gathered is not None
        if any(stream.packets < stream.codec.packets for stream in self._streams.values()):
            self._give_up()
            return False
        self.header = b"".join(self._gathered)
        self._gathered = None
        return True

    def _give_up(self) -> None:
        self._streams = {}
        self._gathered = None

    def _elapsed(self, serial: int, stream: _Stream, granule: int) -> float | None:
        if granule < 0 or serial != next(iter(self._streams)):
            return 0.0  # no packet ends on this page, or another stream is the clock
        seconds = (granule - self._granule) / stream.codec.rate
        self._granule = granule
        return seconds if 0 <= seconds <= JUMP else None


def whole(page: bytes) -> bool:
    """Whether the page's checksum is right: CRC-32 with its bits the other way round than zlib has them, from zero."""
    blank = page[:_CHECKSUM] + bytes(4) + page[_CHECKSUM + 4 :]
    computed = zlib.crc32(blank.translate(_MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return computed == int.from_bytes(page[_CHECKSUM : _CHECKSUM + 4].translate(_MIRRORED), "big")


def codec_of(packet: bytes) -> Codec | None:
    """What a logical stream that begins with this packet carries; None if that is nothing we pass on."""
    if packet.startswith(b"OpusHead"):
        return Codec("opus", 48_000, 2)
    if packet.startswith(b"\x01vorbis") and len(packet) >= 16:
        rate = int.from_bytes(packet[12:16], "little")
        return Codec("vorbis", rate, 3) if rate else None
    if packet.startswith(b"\x7fFLAC") and len(packet) >= 30:
        rate = int.from_bytes(packet[27:30], "big") >> 4  # STREAMINFO: 20 bits of sample rate
        return Codec("flac", rate, 2) if rate else None
    return None


def _is_header(codec: Codec, packet: bytes) -> bool:
    """Whether a packet that begins so is one of the header's."""
    if codec.name == "opus":
        return packet.startswith((b"OpusHead", b"OpusTags"))
    if codec.name == "vorbis":
        return packet[0] & 1 == 1
    return packet[0] != 0xFF  # a FLAC frame's sync; as a metadata block's type it is forbidden
