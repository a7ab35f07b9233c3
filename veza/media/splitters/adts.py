"""AAC as ADTS frames: one frame is one chunk, and one may listen from any of them.

Layout: ISO/IEC 13818-7 section 6.2 (14496-3 annex 1.A). Durations are those of the core: what HE-AAC adds doubles the
samples and the rate alike.
"""

from __future__ import annotations

import re
from typing import ClassVar

from veza.media.splitters.frames import Frame, FrameSplitter

_SAMPLE_RATES = (
    96_000,
    88_200,
    64_000,
    48_000,
    44_100,
    32_000,
    24_000,
    22_050,
    16_000,
    12_000,
    11_025,
    8_000,
    7_350,
)
_SAMPLES = 1024  # of a raw data block; a frame has one to four
_SHORTEST = 7


class AdtsSplitter(FrameSplitter):
    """ADTS. Keeps back at most a frame and a head (under 9 KiB)."""

    content_type = "audio/aac"

    # Sync, layer 0, a sample rate that exists; or a tag (Apple's streams begin with ID3).
    _START: ClassVar[re.Pattern[bytes]] = re.compile(
        rb"\xff[\xf0\xf1\xf8\xf9][%s]|ID3|TAG"
        % b"".join(b"\\x%02x" % byte for byte in range(256) if byte >> 2 & 15 < len(_SAMPLE_RATES))
    )

    def _measure(self, kept: bytearray, at: int) -> Frame | None:
        sync, second, third, fourth, fifth, sixth, seventh = kept[at : at + 7]
        rate = third >> 2 & 15
        if sync != 0xFF or second & 0xF6 != 0xF0 or rate >= len(_SAMPLE_RATES):
            return None
        length = (fourth & 3) << 11 | fifth << 3 | sixth >> 5
        if length < _SHORTEST:
            return None
        family = _family(second, third, fourth)
        return Frame(length, _SAMPLES * ((seventh & 3) + 1) / _SAMPLE_RATES[rate], family)


def family_of(frame: bytes) -> int:
    """What has to stay the same for a decoder to go on."""
    return _family(*frame[1:4])


def _family(second: int, third: int, fourth: int) -> int:
    """Version and protection, profile and rate (the private bit between them may change), channels."""
    return second << 16 | (third & 0xFD) << 8 | fourth & 0xC0
