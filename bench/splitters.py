"""Splitters: how many MB of a source one core cuts in a second, and what a chunk costs.

    python -m bench.splitters

Sources are made by FFmpeg as broadcasters send them, ten seconds each, and fed in pieces of 4 KiB. The best of several
passes counts: what is looked for is the cost of the work, not of what else the machine had to do.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import imageio_ffmpeg  # type: ignore[import-untyped]

from veza.media.splitters import ENOUGH, Chunk, splitter_for

PIECE: Final = 4096
PASSES: Final = 5
_SOUND: Final = ("-f", "lavfi", "-i", "anoisesrc=d=10:c=pink:r=48000:a=0.3", "-b:a", "128k")
_FILM: Final = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30:duration=10")
_H264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "60", "-b:v", "2M")
_FRAGMENTS: Final = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-f", "mp4")
SOURCES: Final = {
    "MP3": (*_SOUND, "-f", "mp3"),
    "AAC": (*_SOUND, "-c:a", "aac", "-f", "adts"),
    "Ogg Opus": (*_SOUND, "-c:a", "libopus", "-page_duration", "100000", "-f", "ogg"),
    "WebM Opus": (*_SOUND, "-c:a", "libopus", "-f", "webm"),
    "MPEG-TS AAC": (*_SOUND, "-c:a", "aac", "-f", "mpegts"),
    "MPEG-TS H.264 2 Mbit/s": (*_FILM, *_SOUND, *_H264, "-c:a", "aac", "-shortest", "-f", "mpegts"),
    "MP4 H.264 2 Mbit/s": (*_FILM, *_SOUND, *_H264, "-c:a", "aac", "-shortest", *_FRAGMENTS),
}


class Figures(NamedTuple):
    name: str
    rate: float
    """MB/s."""
    chunk: float
    """Microseconds a chunk."""
    real_time: float
    """How many such sources a core could cut."""


def measure(name: str, data: bytes) -> Figures:
    """Cut one source several times."""
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    best, chunks = float("inf"), 1
    for _ in range(PASSES):
        splitter = splitter_for(None, data[:ENOUGH])
        assert splitter is not None
        feed: Callable[[bytes], list[Chunk]] = splitter.feed
        began = time.perf_counter()
        chunks = sum(len(feed(piece)) for piece in pieces)
        best = min(best, time.perf_counter() - began)
    return Figures(name, len(data) / best / 1e6, best / chunks * 1e6, 10 / best)


def made(arguments: tuple[str, ...]) -> bytes:
    """What FFmpeg makes of this."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *arguments, "-"]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def main() -> None:
    print(f"{'source':26}{'MB/s':>8}{'µs/chunk':>10}{'sources/core':>14}")
    for name, arguments in SOURCES.items():
        found = measure(name, made(arguments))
        print(f"{found.name:26}{found.rate:8.0f}{found.chunk:10.1f}{found.real_time:14.0f}")


if __name__ == "__main__":
    main()
