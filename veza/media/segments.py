"""Writes one HLS rendition: encodes frames, and cuts what comes of them into fragmented MP4 of six seconds.

In a child process only. FFmpeg's own muxer writes segments and the media playlist; nothing is complete before `close`.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from veza.media.ladder import Film, Tone
from veza.media.sound import Convert, Shape

SECONDS: Final = 6  # of a segment
_KEY_SECONDS: Final = 2.0  # between pictures one may start at: seeking within a segment costs at most this
FILM_BASE: Final = Fraction(1, 90_000)
PLAYLIST: Final = "index.m3u8"
INIT: Final = "init.mp4"
# The encoder's quick search, and of the tools that look for likeness between the two channels none: they doubled the
# time and gained nothing measurable at these rates (docs/benchmarks.md).
AAC_OPTIONS: Final = {"aac_coder": "fast", "aac_ms": "0", "aac_is": "0", "aac_pns": "0", "aac_tns": "0"}
X264_OPTIONS: Final = {
    "preset": "superfast",
    "crf": "23",
    "profile": "high",
    "threads": "1",
    "forced-idr": "1",
    "x264-params": "scenecut=0:keyint=infinite",  # key pictures only where we ask for them, alike in all renditions
}


class _Writer:
    """A directory that becomes a rendition."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        self._container = av.open(
            str(directory / PLAYLIST),
            "w",
            format="hls",
            options={
                "hls_time": str(SECONDS),
                "hls_playlist_type": "vod",
                "hls_segment_type": "fmp4",
                "hls_fmp4_init_filename": INIT,
                "hls_segment_filename": str(directory / "%d.m4s"),
                "hls_flags": "independent_segments",
            },
        )

    def close(self) -> None:
        """Write what is left and the playlist."""
        self._container.close()


class ToneWriter(_Writer):
    """One rendition of sound. Fed with all blocks of a track."""

    def __init__(self, directory: Path, tone: Tone) -> None:
        super().__init__(directory)
        layout = "mono" if tone.channels == 1 else "stereo"
        stream: AudioStream
        if tone.codec == "flac":
            options = {"compression_level": "5"}
            format = "s16" if tone.bits == 16 else "s32"
            if tone.bits != 16:
                options["bits_per_raw_sample"] = "24"
            stream = self._container.add_stream("flac", rate=tone.rate, options=options, layout=layout)
            stream.codec_context.format = format
        else:
            format = "fltp"
            stream = self._container.add_stream("aac", rate=tone.rate, options=AAC_OPTIONS, layout=layout)
            stream.bit_rate = tone.bit_rate or 0
        self._stream = stream
        self._convert = Convert(Shape(format, layout, tone.rate))

    def feed(self, block: AudioFrame) -> None:
        for frame in self._convert.feed(block):
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        for frame in self._convert.flush():
            self._container.mux(self._stream.encode(frame))
        self._container.mux(self._stream.encode(None))
        super().close()


class FilmWriter(_Writer):
    """One rendition of a picture. Fed with all frames, in the size they come."""

    def __init__(self, directory: Path, film: Film, rate: Fraction) -> None:
        super().__init__(directory)
        options = {**X264_OPTIONS, "maxrate": str(film.bit_rate), "bufsize": str(2 * film.bit_rate)}
        stream: VideoStream = self._container.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height = film.width, film.height
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = FILM_BASE
        self._stream = stream
        self._next_key = 0.0

    def feed(self, frame: VideoFrame) -> None:
        """A frame of this rendition's size; its time counts from the start of the track in `FILM_BASE`."""
        assert frame.pts is not None
        seconds = float(frame.pts * FILM_BASE)
        frame.pict_type = PictureType.NONE
        if seconds >= self._next_key:
            frame.pict_type = PictureType.I
            self._next_key = _KEY_SECONDS * (seconds // _KEY_SECONDS + 1)
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        super().close()
