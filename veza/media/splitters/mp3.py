"""MPEG audio (MP3, and its older layers): one frame is one chunk, and one may listen from any of them.

Layout: ISO/IEC 11172-3 section 2.4.1.3 and 13818-3. Free format (no bit rate, so no length) is taken for garbage: no
encoder in use makes it. A Xing or LAME frame is a silent frame of sound and passes like one.
"""

from __future__ import annotations

import functools
import re
from typing import ClassVar

from veza.media.splitters.frames import Frame, FrameSplitter

_BIT_RATES = {  # (MPEG-1?, layer): kbit/s by index 1 to 14
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_HEAD_BITS = 0xFFF  # of version, layer, protection, bit rate, sample rate and padding, above the lowest nine
_FAMILY = 0b1111_0000_0110  # version, layer and sample rate of these twelve


class Mp3Splitter(FrameSplitter):
    """MP3. Keeps back at most a frame and a head (under 5 KiB)."""

    content_type = "audio/mpeg"

    # Sync, a version and a layer that exist, a bit rate and a sample rate that exist; or a tag.
    _START: ClassVar[re.Pattern[bytes]] = re.compile(
        rb"\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff][%s]|ID3|TAG"
        % b"".join(b"\\x%02x" % byte for byte in range(0x10, 0xF0) if byte >> 2 & 3 != 3)
    )

    def __init__(self) -> None:
        super().__init__()
        self._frames = frames()

    def _measure(self, kept: bytearray, at: int) -> Frame | None:
        head = int.from_bytes(kept[at : at + 3], "big") << 8
        return self._frames[head >> 9 & _HEAD_BITS] if head >> 21 == 0x7FF else None


@functools.cache
def frames() -> tuple[Frame | None, ...]:
    """Every frame there is, by the twelve bits of its head that decide: the walk is a look-up."""
    return tuple(_frame(bits) for bits in range(_HEAD_BITS + 1))


def _frame(bits: int) -> Frame | None:
    padding, rate, kbits = bits & 1, bits >> 1 & 3, bits >> 3 & 15
    layer, version = 4 - (bits >> 8 & 3), bits >> 10 & 3
    if version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return None
    bit_rate = _BIT_RATES[version == 3, layer][kbits - 1] * 1000
    sample_rate = _SAMPLE_RATES[version][rate]
    samples = 384 if layer == 1 else 576 if layer == 3 and version != 3 else 1152
    if layer == 1:
        length = (12 * bit_rate // sample_rate + padding) * 4
    else:
        length = samples // 8 * bit_rate // sample_rate + padding
    return Frame(length, samples / sample_rate, bits & _FAMILY)
