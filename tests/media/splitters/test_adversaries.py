"""Who means harm: lengths beyond all bounds, headers without end, beginnings over and over; nothing is kept of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import pytest

from tests.media.splitters.sources import KINDS, Sources
from veza.media.splitters import ogg
from veza.media.splitters.cutter import Cutter
from veza.media.splitters.frames import FrameSplitter
from veza.media.splitters.mp4 import BOX_MOST, PIECE, Mp4Splitter
from veza.media.splitters.ogg import HEADER_MOST, OggSplitter
from veza.media.splitters.webm import ELEMENT_MOST, WebmSplitter

MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
FEEDS = 40
FEED = 64 * 1024


def page(body: bytes, lacing: bytes, *, flags: int = 0, serial: int = 1, number: int = 0) -> bytes:
    """An Ogg page with the right sum."""
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, 0, serial, number, 0, len(lacing)) + lacing
    mirrored = zlib.crc32((head + body).translate(MIRRORED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    checksum = int(f"{mirrored:032b}"[::-1], 2)
    return head[:22] + struct.pack("<I", checksum) + head[26:] + body


OPUS = page(b"OpusHead\x01\x02" + bytes(9), bytes([19]), flags=2)
EBML = b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm"
SEGMENT = b"\x18\x53\x80\x67\x01" + b"\xff" * 7
TRACKS = b"\x16\x54\xae\x6b\x88\xae\x86\xd7\x81\x01\x83\x81\x02"
CLUSTER = b"\x1f\x43\xb6\x75\x01" + b"\xff" * 7
TIMESTAMP = b"\xe7\x81\x00"


def repeated(pattern: bytes) -> Iterator[bytes]:
    block = (pattern * (FEED // len(pattern) + 1))[:FEED]
    return iter([block] * FEEDS)


PATTERNS = {
    "zeros": b"\x00",
    "ones": b"\xff",
    "syncs of MP3": b"\xff\xfb\x90",
    "frames of MP3 that none follows": b"\xff\xfb\x90\x00\x01",
    "longest frames of ADTS": b"\xff\xf1\x50\x83\xff\xff\xfc",
    "tags": b"ID3\x04\x00\x00\x00\x7f\x7f\x7f",
    "tags of nothing": b"ID3\x04\x00\x00\x00\x00\x00\x00",
    "old tags": b"TAG",
    "pages of Ogg": b"OggS\x00\x00",
    "longest pages of Ogg": struct.pack("<4sBBqIIIB", b"OggS", 0, 0, 0, 1, 0, 0, 255) + b"\xff" * 3,
    "beginnings of EBML": b"\x1a\x45\xdf\xa3",
    "whole beginnings of EBML": EBML,
    "clusters": CLUSTER + TIMESTAMP,
    "clusters in clusters": CLUSTER,
    "sync bytes of TS": b"\x47",
    "packets of TS": b"\x47" + bytes(187),
    "tables of TS": b"\x47\x40\x00\x10\x00\x00\xb0\x0d\x00\x01\xc1\x00\x00\x00\x01\xe1\x00" + bytes(171),
    "long tables of TS": b"\x47\x40\x00\x10\x00\x00\xbf\xff\x00\x01\xc1\x00\x00\x00\x01\xe1\x00" + bytes(171),
    "boxes of MP4": b"\x00\x00\x00\x08free",
    "beginnings of MP4": b"\x00\x00\x00\x08ftyp",
    "boxes of nothing": b"\x00\x00\x00\x00mdat",
}


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("kind", ["mp3", "adts", "opus", "webm", "ts", "mp4"])
def test_the_same_over_and_over_is_not_kept(kind: str, name: str, sources: Sources) -> None:
    bound = 200_000  # an Ogg page or an MP4 piece is the longest thing that any of these is worth waiting for
    for splitter in (KINDS[kind].splitter(), _begun(kind, sources)):
        for block in list(repeated(PATTERNS[name]))[:3]:
            splitter.feed(block)
            assert splitter.held < bound
            assert len(splitter.header) < bound


def _begun(kind: str, sources: Sources) -> Cutter | FrameSplitter:
    splitter = KINDS[kind].splitter()
    splitter.feed(sources[kind])
    return splitter


def test_an_ogg_packet_without_end_is_passed_on_and_never_a_beginning() -> None:
    splitter = OggSplitter()
    splitter.feed(OPUS + page(b"OpusTags" + bytes(8), bytes([16]), number=1))
    splitter.feed(page(b"\xfc" + bytes(254) + bytes(255) * 254, b"\xff" * 255, number=2))
    for number in range(FEEDS):
        (chunk,) = splitter.feed(page(bytes(255) * 255, b"\xff" * 255, flags=1, number=3 + number))
        assert not chunk.key
        assert splitter.held == 0


def test_an_ogg_header_without_end_is_given_up() -> None:
    splitter = OggSplitter()
    splitter.feed(OPUS)
    for number in range(HEADER_MOST // 65_025 + 10):
        splitter.feed(page(b"OpusTags" + bytes(65_017), b"\xff" * 255, number=1 + number))
        assert len(splitter.header) == 0
    assert splitter.skipped > 65_025
    assert splitter._gathered is None


def test_beginnings_of_long_ogg_pages_are_not_summed_up_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summed = 0

    def whole(page: bytes) -> bool:
        nonlocal summed
        summed += len(page)
        return right(page)

    right = ogg.whole
    monkeypatch.setattr(ogg, "whole", whole)
    splitter = OggSplitter()
    splitter.feed(OPUS)
    for block in repeated(PATTERNS["pages of Ogg"]):
        splitter.feed(block)
    assert summed < 2 * FEEDS * FEED
    splitter.feed(OPUS * 4_000)  # more than the longest page that can be waited for
    assert splitter._wrong == 0


def test_ogg_streams_without_number_are_not_kept() -> None:
    splitter = OggSplitter()
    for serial in range(500):
        splitter.feed(page(b"OpusHead\x01\x02" + bytes(9), bytes([19]), flags=2, serial=serial))
    assert len(splitter._streams) <= 8


@pytest.mark.parametrize(
    "size", [b"\x01" + b"\xff" * 7, b"\x01" + b"\xff" * 6 + b"\xfe", b"\x01\x00\x00\x00\x00\x50\x00\x00"]
)
@pytest.mark.parametrize(
    "element",
    [b"\xa3", b"\xa0", b"\xec", b"\xe7", b"\x1c\x53\xbb\x6b", b"\x15\x49\xa9\x66", b"\x1a\x45\xdf\xa3"],
)
def test_elements_too_long_to_be_true_are_garbage(element: bytes, size: bytes) -> None:
    splitter = WebmSplitter()
    splitter.feed(EBML + SEGMENT + TRACKS + CLUSTER + TIMESTAMP)
    assert splitter.header
    assert splitter.feed(element + size) == []
    for _ in range(FEEDS):
        splitter.feed(bytes(FEED))
        assert splitter.held <= 3
    good = CLUSTER + TIMESTAMP + b"\xa3\x85\x81\x00\x00\x80\x00"
    assert [chunk.key for chunk in splitter.feed(good)] == [False, False, True]


@pytest.mark.parametrize("content", [b"\x82", b"\x01"])
def test_a_block_of_no_track_is_not_waited_for(content: bytes) -> None:
    splitter = WebmSplitter()
    splitter.feed(EBML + SEGMENT + TRACKS + CLUSTER + TIMESTAMP)
    splitter.feed(b"\xa3\x10\x20\x00\x00" + content + bytes(1_000))
    assert splitter.held <= 3


def test_an_element_at_the_bound_is_the_most_that_is_kept() -> None:
    splitter = WebmSplitter()
    splitter.feed(EBML + SEGMENT + TRACKS + CLUSTER + TIMESTAMP)
    head = b"\xa3" + (ELEMENT_MOST | 1 << 28).to_bytes(4, "big")
    splitter.feed(head)
    splitter.feed(b"\x81" + bytes(ELEMENT_MOST - 2))
    assert splitter.held == len(head) + ELEMENT_MOST - 1
    (chunk,) = splitter.feed(b"\x00")
    assert len(chunk.data) == len(head) + ELEMENT_MOST


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1, 1 << 40, 0, 15])
def test_mp4_data_too_long_to_be_true_is_garbage(size: int, sources: Sources) -> None:
    splitter = Mp4Splitter()
    chunks = splitter.feed(sources["mp4"])
    fragment = next(chunk for chunk in chunks if chunk.key)
    moof = fragment.data[: struct.unpack(">I", fragment.data[:4])[0]]
    splitter.feed(moof + struct.pack(">I4sQ", 1, b"mdat", size))
    for _ in range(FEEDS):
        splitter.feed(bytes(FEED))
        assert splitter.held < 200
    assert splitter.feed(fragment.data)[0].key


@pytest.mark.parametrize("kind", [b"moov", b"moof", b"free", b"sidx", b"uuid", b"ftyp"])
def test_mp4_boxes_too_long_to_be_true_are_garbage(kind: bytes, sources: Sources) -> None:
    splitter = Mp4Splitter()
    splitter.feed(sources["mp4"])
    splitter.feed(struct.pack(">I4s", BOX_MOST + 1, kind))
    for _ in range(FEEDS):
        splitter.feed(bytes(FEED))
        assert splitter.held < PIECE


def test_an_mp4_fragment_that_counts_more_samples_than_it_has_is_garbage(sources: Sources) -> None:
    splitter = Mp4Splitter()
    chunks = splitter.feed(sources["mp4"])
    fragment = bytearray(next(chunk for chunk in chunks if chunk.key).data)
    at = fragment.index(b"trun")
    fragment[at + 8 : at + 12] = b"\xff\xff\xff\xff"
    before = splitter.skipped
    assert splitter.feed(bytes(fragment)) == []
    assert splitter.skipped > before
