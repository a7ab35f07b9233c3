"""The list of a track's renditions, as HLS has it (RFC 8216): what each holds and the bit rate it really needs.

In a child process only, though it needs nothing but the files that `segments.py` wrote.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from veza.media.ladder import Film, Tone, sound_for
from veza.media.segments import INIT, PLAYLIST

MASTER: Final = "master.m3u8"
_SEGMENT: Final = re.compile(r"#EXTINF:([0-9.]+),[^\n]*\n([^#\n]+)")
_TARGET: Final = re.compile(r"#EXT-X-TARGETDURATION:(\d+)")


class Rate(msgspec.Struct, frozen=True):
    """Bits a second: over the worst stretch of about a segment's length (RFC 8216, 4.3.4.2), and over all."""

    peak: int
    average: int

    def __add__(self, other: Rate) -> Rate:
        return Rate(self.peak + other.peak, self.average + other.average)


def rate_of(directory: Path) -> Rate:
    """What a rendition's segments need. Raises ValueError: there are none."""
    text = (directory / PLAYLIST).read_text(encoding="ascii")
    segments = [
        (float(seconds), (directory / name).stat().st_size) for seconds, name in _SEGMENT.findall(text)
    ]
    target = _TARGET.search(text)
    seconds = sum(length for length, _ in segments)
    if target is None or seconds <= 0:
        raise ValueError(f"no segments in {directory.name}")
    average = 8 * sum(size for _, size in segments) / seconds
    return Rate(max(round(average), _peak(segments, int(target[1]))), round(average))


def _peak(segments: list[tuple[float, int]], target: int) -> int:
    """The largest rate of neighbours that last half to one and a half of the target duration together."""
    worst = 0.0
    for start in range(len(segments)):
        seconds, size = 0.0, 0
        for length, bytes_ in segments[start:]:
            seconds, size = seconds + length, size + bytes_
            if seconds > 1.5 * target:
                break
            if seconds >= 0.5 * target:
                worst = max(worst, 8 * size / seconds)
    return round(worst)


def codec_of(directory: Path, codec: str) -> str:
    """A rendition's codec by RFC 6381. For H.264 that is what its header says."""
    if codec == "aac":
        return "mp4a.40.2"
    if codec == "flac":
        return "fLaC"
    header = (directory / INIT).read_bytes()
    at = header.index(b"avcC") + 5  # the version's octet is before the three that count
    return f"avc1.{header[at : at + 3].hex().upper()}"


def write_master(
    directory: Path, tones: list[Tone], films: list[Film], frame_rate: float | None = None
) -> Path:
    """Write `master.m3u8` for the renditions in `directory`, the smallest first: players begin with the first."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", "#EXT-X-INDEPENDENT-SEGMENTS"]
    names = [tone.name for tone in tones] + [film.name for film in films]
    rates = {name: rate_of(directory / name) for name in names}
    codecs = {tone.name: codec_of(directory / tone.name, tone.codec) for tone in tones}
    if films:
        lines += [
            f'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="{tone.name}",NAME="sound",DEFAULT=YES,AUTOSELECT=YES,'
            f'CHANNELS="{tone.channels}",URI="{tone.name}/{PLAYLIST}"'
            for tone in tones
        ]
    else:
        for tone in tones:
            lines += [_variant(rates[tone.name], codecs[tone.name]), f"{tone.name}/{PLAYLIST}"]
    for film in films:
        sound = sound_for(film, tones)
        coded = codec_of(directory / film.name, "h264")
        rate = rates[film.name]
        more = f",RESOLUTION={film.width}x{film.height}"
        if frame_rate:
            more += f",FRAME-RATE={frame_rate:.3f}"
        if sound is not None:
            rate += rates[sound.name]
            coded += f",{codecs[sound.name]}"
            more += f',AUDIO="{sound.name}"'
        lines += [_variant(rate, coded) + more, f"{film.name}/{PLAYLIST}"]
    path = directory / MASTER
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


def _variant(rate: Rate, codecs: str) -> str:
    return f'#EXT-X-STREAM-INF:BANDWIDTH={rate.peak},AVERAGE-BANDWIDTH={rate.average},CODECS="{codecs}"'
