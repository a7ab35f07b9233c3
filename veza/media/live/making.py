"""One run of a source, made into segments: demuxed, recoded where that has to be, muxed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Self

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from veza.media.containers import AUDIO_CODECS, VIDEO_CODECS
from veza.media.live.feed import Run
from veza.media.live.recoding import Jump, Part, Timeline, audio_part, video_part
from veza.media.live.segmenter import Publisher, Segmenter

# Enough to know what there is, and not so much that one waits for it. FFmpeg has decoders for hundreds of codecs, and
# Matroska names them all: only those that tracks may have as well see a stranger's bytes.
_OPTIONS: Final = {
    "probesize": "1000000",
    "analyzeduration": "1500000",
    "fflags": "+discardcorrupt",
    "codec_whitelist": ",".join((*AUDIO_CODECS, *VIDEO_CODECS)),
}


class NothingToHear(Exception):
    """There is neither sound nor a picture in it, or only with codecs that we do not take."""


def make(run: Run, publisher: Publisher, segment: float) -> None:
    """Read a run to its end.

    Raises:
        NothingToHear: there is nothing in it.
        av.FFmpegError, ValueError: it cannot be read any further; what was made of it is published.
        OSError: the disk does not take it.
    """
    with av.open(run, "r", format=run.format, container_options=_OPTIONS) as source:
        video, audio = _streams(source)
        if video is None and audio is None:
            raise NothingToHear("no sound and no picture in it")
        packets = source.demux(*(stream for stream in (video, audio) if stream is not None))
        packet: Packet[Any] | None = None
        while True:
            making = _Making(publisher, segment, video, audio)
            with making:
                packet = making.take_all(packets, packet)
            if packet is None:
                return


def _streams(source: InputContainer) -> tuple[VideoStream | None, AudioStream | None]:
    videos = (each for each in source.streams.video if not each.disposition & Disposition.attached_pic)
    video = next((each for each in videos if _decoder(each) in VIDEO_CODECS), None)
    return video, next((each for each in source.streams.audio if _decoder(each) in AUDIO_CODECS), None)


def _decoder(stream: Stream) -> str | None:
    context: Any = stream.codec_context  # None where FFmpeg knows no decoder
    return None if context is None else str(context.name)


class _Making:
    """As much of a run as has times without a jump."""

    def __init__(
        self, publisher: Publisher, segment: float, video: VideoStream | None, audio: AudioStream | None
    ) -> None:
        self._segmenter = Segmenter(publisher, segment, video=video is not None)
        target = self._segmenter.container
        start = publisher.elapsed
        timeline = None if video is None else Timeline()
        self._parts: dict[int, Part] = {}
        if video is not None and timeline is not None:
            self._parts[video.index] = video_part(video, target, timeline, start, segment)
        if audio is not None:
            self._parts[audio.index] = audio_part(audio, target, timeline, start)

    def take_all(self, packets: Iterator[Packet[Any]], first: Packet[Any] | None) -> Packet[Any] | None:
        """Take packets until they end (None), or the one whose time jumps, which is returned."""
        if first is not None:
            self._take(first)
        for packet in packets:
            try:
                self._take(packet)
            except Jump:
                return packet
        for part in self._parts.values():
            part.finish()
        return None

    def _take(self, packet: Packet[Any]) -> None:
        part = self._parts.get(packet.stream_index)
        if part is not None:
            part.take(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Publish what there is. Raises OSError if that is what failed all along."""
        try:
            self._segmenter.close()
        finally:
            if self._segmenter.failure is not None:
                raise self._segmenter.failure
