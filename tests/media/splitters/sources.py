"""Live sources as FFmpeg sends them, a second or two each, and what the tests ask of any of them."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Final, NamedTuple

import av

from tests.media.inputs import Inputs, moving, tone
from veza.media.splitters import Chunk
from veza.media.splitters.adts import AdtsSplitter
from veza.media.splitters.cutter import Cutter
from veza.media.splitters.frames import FrameSplitter
from veza.media.splitters.mp3 import Mp3Splitter
from veza.media.splitters.mp4 import Mp4Splitter
from veza.media.splitters.ogg import OggSplitter
from veza.media.splitters.ts import TsSplitter
from veza.media.splitters.webm import WebmSplitter

SECONDS: Final = 1.5
_H264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "10")
_VP8: Final = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "10")
_SOUND: Final = tone(SECONDS, rate=48_000)
_BOTH: Final = (*moving(SECONDS, "160x120"), *_SOUND)
_FRAGMENTS: Final = ("-movflags", "+frag_keyframe+empty_moov", "-f", "mp4")


class Kind(NamedTuple):
    """How a source is made, and what splits it."""

    splitter: type[Cutter] | type[FrameSplitter]
    content_type: str
    extension: str
    arguments: tuple[str, ...]


KINDS: Final[dict[str, Kind]] = {
    "mp3": Kind(Mp3Splitter, "audio/mpeg", "mp3", (*_SOUND, "-b:a", "128k")),
    "mp3-vbr-mono": Kind(
        Mp3Splitter, "audio/mpeg", "mp3", (*tone(SECONDS, rate=22_050, channels="mono"), "-q:a", "4")
    ),
    "adts": Kind(AdtsSplitter, "audio/aac", "aac", (*_SOUND, "-c:a", "aac", "-f", "adts")),
    "opus": Kind(
        OggSplitter, "audio/ogg", "ogg", (*_SOUND, "-c:a", "libopus", "-page_duration", "100000", "-f", "ogg")
    ),
    "vorbis": Kind(
        OggSplitter, "audio/ogg", "ogg", (*_SOUND, "-c:a", "libvorbis", "-page_duration", "100000")
    ),
    "flac": Kind(
        OggSplitter, "audio/ogg", "ogg", (*_SOUND, "-c:a", "flac", "-page_duration", "100000", "-f", "ogg")
    ),
    "webm": Kind(
        WebmSplitter, "audio/webm", "webm", (*_SOUND, "-c:a", "libopus", "-cluster_time_limit", "400")
    ),
    "webm-video": Kind(WebmSplitter, "video/webm", "webm", (*_BOTH, *_VP8, "-c:a", "libvorbis")),
    "matroska": Kind(
        WebmSplitter, "video/x-matroska", "mkv", (*_BOTH, *_H264, "-c:a", "aac", "-cluster_time_limit", "400")
    ),
    "ts": Kind(TsSplitter, "video/mp2t", "ts", (*_SOUND, "-c:a", "aac", "-f", "mpegts")),
    "ts-video": Kind(TsSplitter, "video/mp2t", "ts", (*_BOTH, *_H264, "-bf", "2", "-f", "mpegts")),
    "mp4": Kind(
        Mp4Splitter, "audio/mp4", "mp4", (*_SOUND, "-c:a", "aac", "-frag_duration", "200000", *_FRAGMENTS)
    ),
    "mp4-video": Kind(Mp4Splitter, "video/mp4", "mp4", (*_BOTH, *_H264, "-c:a", "aac", *_FRAGMENTS)),
}


class Sources:
    """Each source's bytes, made once."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._read: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        if name not in self._read:
            kind = KINDS[name]
            self._read[name] = self._inputs.make(kind.extension, *kind.arguments).read_bytes()
        return self._read[name]


def divided(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


def fed(splitter: Cutter | FrameSplitter, pieces: Iterable[bytes]) -> list[Chunk]:
    return [chunk for piece in pieces for chunk in splitter.feed(piece)]


def joined(chunks: Iterable[Chunk]) -> bytes:
    return b"".join(chunk.data for chunk in chunks)


def heard(data: bytes) -> dict[str, float]:
    """Seconds of sound, and pictures, that a decoder makes of this without an error.

    Raises:
        av.FFmpegError: it meets one.
    """
    sound, pictures = 0.0, 0
    with av.open(io.BytesIO(data), options={"err_detect": "explode"}) as source:
        for packet in source.demux():
            for frame in packet.decode():
                if isinstance(frame, av.AudioFrame):
                    sound += frame.samples / frame.sample_rate
                else:
                    pictures += 1
    return {"sound": sound, "pictures": pictures}
