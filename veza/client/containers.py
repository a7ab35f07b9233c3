"""Where a container's bytes may be cut, and when each piece is due: what pacing and reconnecting need to know.

A file is sent as fast as it is heard only if somebody counts: MP3 and AAC frames carry their length, Ogg pages and WebM
clusters their position, MPEG-TS a clock. And a broadcast that is picked up on a new connection must begin with the
container's header, then a whole piece. Pure: bytes in, pieces out; at most `LONGEST` bytes wait for their piece to be
complete. What is no frame (tags, covers, garbage) is left out.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Final, Protocol

import msgspec

LONGEST: Final = 16 * 1024 * 1024  # of one piece; what is longer is no medium
SNIFFED: Final = 4096  # bytes after which a container is recognised or never will be


class Piece(msgspec.Struct, frozen=True):
    """Bytes that go together, and when they are due: seconds from the first one's."""

    data: bytes
    at: float


class Container(Protocol):
    """Cuts one kind of container."""

    content_type: str
    header: bytes  # what whoever joins later needs before any piece

    def feed(self, data: bytes) -> list[Piece]:
        """The pieces that are complete now. Raises Unrecognised."""
        ...

    def finish(self) -> list[Piece]:
        """What is left at the end."""
        ...


class Unrecognised(ValueError):
    """These bytes are none of the containers that can be broadcast."""


def recognise(data: bytes, content_type: str | None = None) -> Container | None:
    """The container that begins with these bytes, by what they are, else by what they are said to be.

    Returns:
        None while more bytes may tell.

    Raises:
        Unrecognised: these are none.
    """
    for magic, make in _MAGIC:
        if data.startswith(magic):
            return make()
    if data[4:8] == b"ftyp":
        raise Unrecognised("MP4 cannot be broadcast as it is")
    if len(data) > 2 * _PACKET and data[0] == data[_PACKET] == data[2 * _PACKET] == 0x47:
        return Transport()
    declared = (content_type or "").partition(";")[0].strip().lower()
    if data.startswith(b"ID3"):
        return _DECLARED.get(declared, _DECLARED["audio/mpeg"])()
    for likely, measure in (("audio/mpeg", _mpeg_frame), ("audio/aac", _adts_frame)):
        if _two_frames(data, measure):
            return Frames(likely, measure)
    if len(data) < SNIFFED:
        return None
    if declared in _DECLARED:
        return _DECLARED[declared]()
    raise Unrecognised("this is none of MP3, AAC, Ogg, WebM and MPEG-TS")


# Frames after frames -------------------------------------------------------------------------------------

Measure = Callable[[bytes | bytearray, int], tuple[int, float] | None]

_MPEG_KBPS: Final = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_ADTS_RATES: Final = (
    96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
)  # fmt: skip


def _mpeg_frame(data: bytes | bytearray, at: int) -> tuple[int, float] | None:
    """Bytes and seconds of the MPEG audio frame that begins here (ISO/IEC 11172-3 §2.4.2.3), if one does."""
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = data[at + 1] >> 3 & 3, 4 - (data[at + 1] >> 1 & 3)
    rate, index, padding = data[at + 2] >> 2 & 3, data[at + 2] >> 4, data[at + 2] >> 1 & 1
    if version == 1 or layer == 4 or rate == 3 or index in (0, 15):
        return None
    hertz = _MPEG_RATES[version][rate]
    kbps = _MPEG_KBPS[1 if version == 3 else 2, layer][index]
    if layer == 1:
        return (12_000 * kbps // hertz + padding) * 4, 384 / hertz
    samples = 576 if layer == 3 and version != 3 else 1152
    return samples // 8 * 1000 * kbps // hertz + padding, samples / hertz


def _adts_frame(data: bytes | bytearray, at: int) -> tuple[int, float] | None:
    """Bytes and seconds of the ADTS frame that begins here (ISO/IEC 13818-7 §6.2), if one does."""
    if len(data) < at + 7 or data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return None
    rate = data[at + 2] >> 2 & 15
    size = (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    if rate >= len(_ADTS_RATES) or size < 8:
        return None
    return size, 1024 * ((data[at + 6] & 3) + 1) / _ADTS_RATES[rate]


def _two_frames(data: bytes, measure: Measure) -> bool:
    """Is there a frame with another right behind it? One alone may be chance."""
    return any(
        (first := measure(data, at)) is not None and measure(data, at + first[0]) is not None
        for at in range(min(len(data), SNIFFED))
    )


_FRAME_HEAD: Final = 10  # as many bytes as any measure needs


class Frames:
    """Frames that each carry their own length: MP3 and ADTS. A piece is one frame."""

    header = b""

    def __init__(self, content_type: str, measure: Measure) -> None:
        self.content_type = content_type
        self.measure = measure
        self._rest = bytearray()
        self._skip = 0  # bytes of a tag still to come
        self._at = 0.0

    def feed(self, data: bytes) -> list[Piece]:
        self._rest += data
        return list(self._cut())

    def finish(self) -> list[Piece]:
        """The last frame, which nothing follows."""
        found = self.measure(self._rest, 0)
        whole = found is not None and found[0] <= len(self._rest) and not self._skip
        return [Piece(bytes(self._rest[: found[0]]), self._at)] if found is not None and whole else []

    def _cut(self) -> Iterator[Piece]:
        rest = self._rest
        place = min(self._skip, len(rest))
        self._skip -= place
        while len(rest) - place >= _FRAME_HEAD:
            if rest.startswith(b"ID3", place):  # may hold a cover, and need not wait to be thrown away
                size = min(10 + _synchsafe(rest[place + 6 : place + 10]), LONGEST)
                here = min(size, len(rest) - place)
                place, self._skip = place + here, size - here
                continue
            found = self.measure(rest, place)
            if found is None:
                place = self._next(place + 1)
                continue
            size, seconds = found
            if place + size + 2 > len(rest):
                break  # whether it is a frame shows in what follows
            if not self._begins(place + size):
                place += 1
                continue
            if not _is_info(rest, place, size):
                yield Piece(bytes(rest[place : place + size]), self._at)
                self._at += seconds
            place += size
        del rest[:place]

    def _next(self, place: int) -> int:
        """Where something may begin, from here on."""
        found = [at for mark in (b"\xff", b"ID3") if (at := self._rest.find(mark, place)) >= 0]
        return min(found, default=max(len(self._rest) - 2, place))

    def _begins(self, place: int) -> bool:
        """Does another frame begin here, or a tag (ID3, TAG, APETAGEX, LYRICS)?"""
        two = bytes(self._rest[place : place + 2])
        return (two[0] == 0xFF and two[1] & 0xE0 == 0xE0) or two in (b"ID", b"TA", b"AP", b"LY")


def _synchsafe(data: bytes | bytearray) -> int:
    number = 0
    for byte in data:
        number = number << 7 | byte & 0x7F
    return number


def _is_info(data: bytearray, at: int, size: int) -> bool:
    """A Xing or LAME frame describes a whole file: in a broadcast it would be a wrong length and a click."""
    return b"Xing" in data[at : at + min(size, 48)] or b"Info" in data[at : at + min(size, 48)]


# Ogg -----------------------------------------------------------------------------------------------------


class Ogg:
    """Pages (RFC 3533); the header is those before the first with a position. A piece is one page."""

    def __init__(self) -> None:
        self.content_type = "audio/ogg"
        self.header = b""
        self._rest = bytearray()
        self._rate = 0.0  # positions a second
        self._serial = b""
        self._begun = False  # with a page that has a position
        self._base = 0.0  # where this chain's zero lies
        self._end = 0.0

    def feed(self, data: bytes) -> list[Piece]:
        self._rest += data
        return list(self._cut())

    def finish(self) -> list[Piece]:
        return []

    def _cut(self) -> Iterator[Piece]:
        rest = self._rest
        while True:
            start = rest.find(b"OggS")
            if start < 0:
                del rest[: max(len(rest) - 3, 0)]
                return
            del rest[:start]
            if len(rest) < 27 or len(rest) < 27 + rest[26]:
                return
            size = 27 + rest[26] + sum(rest[27 : 27 + rest[26]])
            if len(rest) < size:
                return
            page = bytes(rest[:size])
            del rest[:size]
            yield self._take(page)

    def _take(self, page: bytes) -> Piece:
        position = struct.unpack_from("<q", page, 6)[0]
        begins, serial, body = page[5] & 2, page[14:18], page[27 + page[26] :]
        if begins and (self._begun or not self.header):
            # The first stream of a chain tells the time; those beside it are carried along.
            self.header, self._begun = b"", False
            self._base, self._serial = self._end, serial
            self._rate = _ogg_rate(body)
        if not self._begun and position <= 0:
            self.header += page
            return Piece(page, self._end)
        self._begun = True
        due = self._end
        if serial == self._serial and position > 0 and self._rate:
            self._end = max(self._end, self._base + position / self._rate)
        return Piece(page, due)


def _ogg_rate(body: bytes) -> float:
    if body.startswith(b"OpusHead"):
        return 48000.0
    if body.startswith(b"\x01vorbis") and len(body) >= 16:
        return float(struct.unpack_from("<I", body, 12)[0])
    if body.startswith(b"\x7fFLAC") and len(body) >= 31:
        return float(int.from_bytes(body[27:30], "big") >> 4)
    return 0.0


# WebM ----------------------------------------------------------------------------------------------------

_EBML, _SEGMENT, _INFO, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1549A966, 0x1F43B675
_TRACKS, _SCALE, _TIMESTAMP = 0x1654AE6B, 0x2AD7B1, 0xE7
_VIDEO: Final = b"\x83\x81\x01"  # TrackType
_TOP: Final = frozenset(
    {0x114D9B74, _INFO, _TRACKS, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770, _CLUSTER}
)


class Webm:
    """EBML (RFC 8794): the header is all before the first cluster, a piece is a cluster.

    What only makes sense in a file (its index, its length) stays out of nobody's way: players skip it.
    """

    def __init__(self) -> None:
        self.content_type = "audio/webm"
        self.header = b""
        self._rest = bytearray()
        self._scale = 1_000_000  # nanoseconds of a tick
        self._cluster = bytearray()
        self._ticks: int | None = None  # the cluster's own time
        self._base: float | None = None
        self._shift = 0.0
        self._end = 0.0

    def feed(self, data: bytes) -> list[Piece]:
        self._rest += data
        if len(self._rest) > LONGEST:
            raise Unrecognised("an element of this WebM is longer than any sensible one")
        return list(self._cut())

    def finish(self) -> list[Piece]:
        """The last cluster, which nothing follows."""
        return [self._close()] if self._cluster else []

    def _cut(self) -> Iterator[Piece]:
        rest = self._rest
        while True:
            found = _element(rest)
            if found is None:
                return
            kind, head, size = found
            # Of containers only the head is taken: their parts come one by one, and a live one has no known size.
            whole = head if kind in (_SEGMENT, _CLUSTER) else head + (size or 0)
            if len(rest) < whole:
                return
            data = bytes(rest[:whole])
            del rest[:whole]
            if kind in _TOP or kind in (_EBML, _SEGMENT):
                if self._cluster:
                    yield self._close()
                if kind == _EBML:  # the file anew, or another one
                    self.header, self._base, self._shift = b"", None, self._end
            if kind == _CLUSTER or self._cluster:
                if kind == _TIMESTAMP:
                    self._ticks = int.from_bytes(data[head:], "big")
                self._cluster += data
            elif kind not in (0x1C53BB6B, 0x114D9B74):  # Cues and SeekHead point into a file
                if kind == _INFO:
                    self._scale = _find_scale(data[head:]) or self._scale
                if kind == _TRACKS and _VIDEO in data:
                    self.content_type = "video/webm"
                if kind == _SEGMENT:
                    data = data[:4] + b"\x01\xff\xff\xff\xff\xff\xff\xff"  # of unknown size: there is no end
                self.header += data

    def _close(self) -> Piece:
        data, ticks = bytes(self._cluster), self._ticks or 0
        self._cluster.clear()
        self._ticks = None
        seconds = ticks * self._scale / 1e9
        if self._base is None:
            self._base = seconds
            data = self.header + data
        due = self._shift + seconds - self._base
        self._end = max(self._end, due)
        return Piece(data, due)


def _element(data: bytearray) -> tuple[int, int, int | None] | None:
    """Id, bytes of the head, bytes of the content (None: unknown) of the element that begins here."""
    if not data:
        return None
    width = 9 - data[0].bit_length() if data[0] else 0
    if not 1 <= width <= 4:
        raise Unrecognised("this WebM is broken")
    if len(data) <= width:
        return None
    length = 9 - data[width].bit_length() if data[width] else 0
    if not length:
        raise Unrecognised("this WebM is broken")
    if len(data) < width + length:
        return None
    size = int.from_bytes(data[width : width + length], "big") & ((1 << 7 * length) - 1)
    known = None if size == (1 << 7 * length) - 1 else size
    return int.from_bytes(data[:width], "big"), width + length, known


def _find_scale(info: bytes) -> int | None:
    rest = bytearray(info)
    while rest and (found := _element(rest)) is not None:
        kind, head, size = found
        if kind == _SCALE:
            return int.from_bytes(rest[head : head + (size or 0)], "big")
        del rest[: head + (size or 0)]
    return None


# MPEG-TS -------------------------------------------------------------------------------------------------

_PACKET: Final = 188
_TOGETHER: Final = 7 * _PACKET  # as many as usually travel together


class Transport:
    """Packets of 188 bytes (ISO/IEC 13818-1); the clock is the first PCR's stream. A piece is a few packets."""

    content_type = "video/mp2t"
    header = b""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._pid = -1
        self._clock: float | None = None
        self._at = 0.0

    def feed(self, data: bytes) -> list[Piece]:
        self._rest += data
        pieces = []
        rest = self._rest
        while len(rest) >= _TOGETHER:
            if rest[0] != 0x47:
                start = rest.find(b"\x47", 1)
                del rest[: start if start > 0 else len(rest)]
                continue
            pieces.append(Piece(bytes(rest[:_TOGETHER]), self._at))
            for at in range(0, _TOGETHER, _PACKET):
                self._note(rest, at)
            del rest[:_TOGETHER]
        return pieces

    def finish(self) -> list[Piece]:
        """The last packets, fewer than travel together."""
        whole = len(self._rest) // _PACKET * _PACKET
        return [Piece(bytes(self._rest[:whole]), self._at)] if whole else []

    def _note(self, data: bytearray, at: int) -> None:
        has_field = data[at + 3] & 0x20 and data[at + 4] >= 7
        if not has_field or not data[at + 5] & 0x10:
            return
        pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
        if self._pid < 0:
            self._pid = pid
        if pid != self._pid:
            return
        clock = (int.from_bytes(data[at + 6 : at + 11], "big") >> 7) / 90_000
        if self._clock is not None and 0 < clock - self._clock < 10:  # else it jumped, or the file began anew
            self._at += clock - self._clock
        self._clock = clock


_MAGIC: Final[tuple[tuple[bytes, Callable[[], Container]], ...]] = (
    (b"OggS", Ogg),
    (b"\x1a\x45\xdf\xa3", Webm),
)
_DECLARED: Final[dict[str, Callable[[], Container]]] = {
    "audio/mpeg": lambda: Frames("audio/mpeg", _mpeg_frame),
    "audio/aac": lambda: Frames("audio/aac", _adts_frame),
    "audio/aacp": lambda: Frames("audio/aac", _adts_frame),
    "video/mp2t": Transport,
}
