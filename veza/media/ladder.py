"""Which renditions a track gets: a pure function of what its source is.

Sound, always in two channels at most: AAC of 64, 128 and 256 kbit/s, and FLAC on top of a lossless source. A lossy
source gets no rendition above its own bit rate, for bits cannot bring back what is gone: of an MP3 with 128 kbit/s
there are two. Film: H.264 from 240p up to the source's own size, with the sound beside it, so that it is stored once.
"""

from __future__ import annotations

from typing import Final

import msgspec

AAC_RATES: Final = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
FLAC_FASTEST: Final = 192_000
_AAC: Final = (64_000, 128_000, 256_000)
_NEARLY: Final = 0.95  # 127.6 kbit/s are 128
# How much of MP3's or AAC's bit rate a codec's is worth.
_WORTH: Final = {"opus": 1.4, "libopus": 1.4, "vorbis": 1.2, "libvorbis": 1.2}
_BITS_PER_SAMPLE: Final = 5  # AAC takes at most six of a channel
_HEIGHTS: Final = ((240, 300_000), (360, 650_000), (480, 1_100_000), (720, 2_400_000), (1080, 4_500_000))
_SMALL: Final = 480  # up to here the sound beside a film is the smallest, above the largest


class Tone(msgspec.Struct, frozen=True):
    """A rendition of sound. `bit_rate` is None for FLAC, which takes what it needs; `bits` is FLAC's sample size."""

    name: str
    codec: str  # aac, flac
    rate: int
    channels: int
    bit_rate: int | None = None
    bits: int = 16


class Film(msgspec.Struct, frozen=True):
    """A rendition of a picture. Sides are even; `bit_rate` is the most over a few seconds."""

    name: str
    width: int
    height: int
    bit_rate: int


def tones(
    *, codec: str, lossless: bool, rate: int, channels: int, bit_rate: int | None, bits: int = 16
) -> list[Tone]:
    """The renditions of a source's sound, smallest first; never none.

    Args:
        codec: FFmpeg's name of its decoder.
        bit_rate: of a lossy source; None if it does not say.
        bits: of a sample of a lossless one.
    """
    channels = min(channels, 2)
    aac_rate = _aac_rate(rate)
    most = _BITS_PER_SAMPLE * aac_rate * channels
    if not lossless and bit_rate:
        most = min(most, int(bit_rate * _WORTH.get(codec, 1.0) / _NEARLY))
    found = [
        Tone(f"aac{each // 1000}", "aac", aac_rate, channels, each)
        for each in _AAC
        if each <= most and each <= 128_000 * channels
    ]
    if not found:
        least = max(8_000, min(_AAC[0], _BITS_PER_SAMPLE * aac_rate * channels))
        found = [Tone(f"aac{least // 1000}", "aac", aac_rate, channels, least)]
    if lossless:
        found.append(Tone("flac", "flac", min(rate, FLAC_FASTEST), channels, bits=24 if bits > 16 else 16))
    return found


def films(width: int, height: int) -> list[Film]:
    """The renditions of a picture of this size, smallest first; never none.

    A rung is counted by the shorter side, so that films taken upright get the same ones. The last is the source's own
    size, if that is less than 1080.
    """
    short = min(width, height)
    rungs = [(side, rate) for side, rate in _HEIGHTS if side <= short]
    if not rungs:
        rungs = [(short, _HEIGHTS[0][1])]
    elif short < _HEIGHTS[-1][0] and short > rungs[-1][0] * 1.1:
        above = next(rate for side, rate in _HEIGHTS if side > short)
        rungs.append((short, above))
    return [
        Film(f"{side}p", _even(width * side / short), _even(height * side / short), rate)
        for side, rate in rungs
    ]


def beside_film(sounds: list[Tone]) -> list[Tone]:
    """Those of a source's renditions that are made where there is a picture too, which needs most of a line."""
    return [tone for tone in sounds if tone.codec == "aac"][:2]


def sound_for(film: Film, sounds: list[Tone]) -> Tone | None:
    """Which of `beside_film` plays with a picture."""
    if not sounds:
        return None
    return sounds[0] if min(film.width, film.height) <= _SMALL else sounds[-1]


def _aac_rate(rate: int) -> int:
    """The rate AAC is made with: the source's, if players take it."""
    if rate in AAC_RATES:
        return rate
    if rate > AAC_RATES[-1]:
        return 44_100 if rate % 44_100 == 0 else 48_000
    return next(each for each in AAC_RATES if each >= rate)


def _even(side: float) -> int:
    return max(2, 2 * round(side / 2))
