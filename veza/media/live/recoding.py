"""What HLS can carry is passed on as it is; anything else is decoded and encoded anew.

AAC and H.264 are passed on. Other sound becomes AAC; other pictures become H.264 of at most 720 lines and 30 a second,
with a key frame at the beginning of every segment. Times come out without holes: where there is only sound it is
counted, not believed; where there is picture, the times of both are kept together, and a jump of either is a `Jump`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final, Protocol, cast

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

AHEAD: Final = 5.0
"""Seconds that time may go ahead between two packets of a stream; more is a jump."""
BACK: Final = 1.0
WIDTH, HEIGHT, RATE = 1280, 720, 30
TICKS: Final = 90_000
FRAME: Final = 1024  # samples of an AAC frame
_NO_ADTS: Final = "aac_adtstoasc"
SLACK: Final = 0.12  # seconds that sound may be off its time before it is put right
_AAC_RATES: Final = frozenset({48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000})
_BIT_RATES: Final = {1: 96_000, 2: 160_000}
_VIDEO_BIT_RATE: Final = 2_500_000


class Jump(Exception):
    """The source's times do not go on where they were."""


class Timeline:
    """Times of a source, from the first picture one may begin at on."""

    def __init__(self) -> None:
        self._zero: float | None = None
        self._latest: dict[str, float] = {}

    def start(self, time: float) -> None:
        if self._zero is None:
            self._zero = time

    @property
    def started(self) -> bool:
        return self._zero is not None

    def place(self, kind: str, time: float) -> float:
        """A time of the source as one of ours. Raises Jump."""
        assert self._zero is not None
        latest = self._latest.get(kind)
        if latest is None:
            latest = self._zero  # the two begin together, or their times have nothing to do with each other
            if abs(time - latest) > AHEAD:
                raise Jump
        elif not -BACK <= time - latest <= AHEAD:
            raise Jump
        self._latest[kind] = time
        return time - self._zero


class Part(Protocol):
    """The sound, or the picture, on its way through."""

    def take(self, packet: Packet[Any]) -> None:
        """Raises Jump, and what the muxer raises. What cannot be decoded is passed over."""
        ...

    def finish(self) -> None:
        """Nothing more comes: give away what is still held."""
        ...


def audio_part(source: AudioStream, target: OutputContainer, timeline: Timeline | None, start: float) -> Part:
    """
    Args:
        timeline: that of the picture beside it; None where there is only sound.
        start: what comes first has this time, in seconds.
    """
    kind = CopiedAudio if source.codec_context.name in ("aac", "aac_fixed") else EncodedAudio
    return kind(source, target, timeline, start)


def video_part(
    source: VideoStream, target: OutputContainer, timeline: Timeline, start: float, segment: float
) -> Part:
    if source.codec_context.name == "h264":
        return CopiedVideo(source, target, timeline, start)
    return EncodedVideo(source, target, timeline, start, segment)


class _Clock:
    """Where the next sample of sound belongs, in samples."""

    def __init__(self, rate: int, timeline: Timeline | None, start: float) -> None:
        self.rate = rate
        self.first = self.next = round(start * rate)
        self._start = start
        self._timeline = timeline

    def follow(self, time: float | None) -> bool:
        """Sound of this time comes next. False: it is to be left out. Raises Jump."""
        timeline = self._timeline
        if timeline is None or time is None:
            return True
        if not timeline.started:
            return False
        placed = timeline.place("audio", time)
        late = placed + self._start - self.next / self.rate
        if placed < 0 or late < -SLACK:
            return False
        if late > SLACK:
            self.next = round((placed + self._start) * self.rate)
        return True


class CopiedAudio:
    """AAC, passed on; what ADTS heads it has tells the muxer instead what a decoder has to know."""

    def __init__(
        self, source: AudioStream, target: OutputContainer, timeline: Timeline | None, start: float
    ) -> None:
        self._rate = source.codec_context.sample_rate
        self._clock = _Clock(self._rate, timeline, start)
        self._stream = target.add_stream_from_template(source)
        self._base = Fraction(1, self._rate)
        self._stream.time_base = self._base
        self._target = target
        self._filter = None if source.codec_context.extradata else BitStreamFilterContext(_NO_ADTS, source)

    def take(self, packet: Packet[Any]) -> None:
        if packet.dts is None or packet.size == 0:
            return
        for each in (packet,) if self._filter is None else self._filter.filter(packet):
            self._mux(each)

    def _mux(self, packet: Packet[Any]) -> None:
        assert packet.dts is not None
        if not self._clock.follow(float(packet.dts * packet.time_base)):
            return
        samples = round((packet.duration or 0) * packet.time_base * self._rate) or FRAME
        packet.stream = self._stream
        packet.time_base = self._base
        packet.pts = packet.dts = self._clock.next
        packet.duration = samples
        self._clock.next += samples
        self._target.mux_one(packet)

    def finish(self) -> None:
        pass


class EncodedAudio:
    """Any other sound, as AAC, mono or stereo."""

    def __init__(
        self, source: AudioStream, target: OutputContainer, timeline: Timeline | None, start: float
    ) -> None:
        context = source.codec_context
        rate = context.sample_rate if context.sample_rate in _AAC_RATES else 48_000
        channels = 1 if context.layout.nb_channels == 1 else 2
        self._layout = "mono" if channels == 1 else "stereo"
        self._clock = _Clock(rate, timeline, start)
        self._target = target
        self._stream = target.add_stream("aac", rate=rate)
        self._encoder: AudioCodecContext = self._stream.codec_context
        self._encoder.layout = self._layout
        self._encoder.format = "fltp"
        self._encoder.bit_rate = _BIT_RATES[channels]
        self._encoder.time_base = Fraction(1, rate)
        self._resampler = self._new_resampler()

    def take(self, packet: Packet[Any]) -> None:
        try:
            frames = cast(list[AudioFrame], packet.decode())
        except av.FFmpegError:
            return
        for frame in frames:
            if self._clock.follow(frame.time):
                self._encode(self._resampled(frame))

    def finish(self) -> None:
        self._encode(self._resampler.resample(None))
        self._mux(self._stream.encode(None))

    def _new_resampler(self) -> AudioResampler:
        return AudioResampler(format="fltp", layout=self._layout, rate=self._clock.rate, frame_size=FRAME)

    def _resampled(self, frame: AudioFrame) -> list[AudioFrame]:
        frame.pts = None
        try:
            return self._resampler.resample(frame)
        except ValueError:  # the source's rate or channels have changed
            rest = self._resampler.resample(None)
            self._resampler = self._new_resampler()
            return rest + self._resampler.resample(frame)

    def _encode(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            frame.pts = self._clock.next
            frame.time_base = self._encoder.time_base
            self._clock.next += frame.samples
            self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Packet[Any]]) -> None:
        """What the encoder puts before the beginning, to swing in, is left out: it would come before our time."""
        for packet in packets:
            if packet.pts is not None and packet.pts >= self._clock.first:
                self._target.mux_one(packet)


class CopiedVideo:
    """H.264, passed on from its first key frame."""

    def __init__(
        self, source: VideoStream, target: OutputContainer, timeline: Timeline, start: float
    ) -> None:
        self._timeline = timeline
        self._start = round(start * TICKS)
        self._stream = target.add_stream_from_template(source)
        self._base = Fraction(1, TICKS)
        self._stream.time_base = self._base
        self._target = target
        self._latest = -1

    def take(self, packet: Packet[Any]) -> None:
        if packet.dts is None or packet.size == 0:
            return
        decoded = float(packet.dts * packet.time_base)
        if not self._timeline.started:
            if not packet.is_keyframe:
                return
            self._timeline.start(decoded)
        placed = self._start + round(self._timeline.place("video", decoded) * TICKS)
        dts = max(placed, self._latest + 1)
        shown = 0 if packet.pts is None else packet.pts - packet.dts
        shown_later = round(shown * packet.time_base * TICKS)
        duration = round((packet.duration or 0) * packet.time_base * TICKS)
        packet.stream = self._stream
        packet.time_base = self._base
        packet.dts, packet.pts = dts, dts + max(0, shown_later)
        packet.duration = duration
        self._latest = dts
        self._target.mux_one(packet)

    def finish(self) -> None:
        pass


class EncodedVideo:
    """Any other picture, as H.264."""

    def __init__(
        self, source: VideoStream, target: OutputContainer, timeline: Timeline, start: float, segment: float
    ) -> None:
        context = source.codec_context
        context.thread_count = 2
        self._timeline = timeline
        self._start = round(start * TICKS)
        self._segment = segment
        self._target = target
        self._width, self._height = fitted(context.width, context.height)
        self._stream = target.add_stream("libx264", rate=RATE)
        encoder = self._stream.codec_context
        encoder.width, encoder.height, encoder.pix_fmt = self._width, self._height, "yuv420p"
        encoder.time_base = Fraction(1, TICKS)
        encoder.gop_size = round(10 * segment * RATE)  # key frames are asked for, by time
        encoder.thread_count = 2
        encoder.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "main",
            "crf": "24",
            "maxrate": str(_VIDEO_BIT_RATE),
            "bufsize": str(2 * _VIDEO_BIT_RATE),
            "forced-idr": "1",
        }
        self._encoder = encoder
        self._latest = -1
        self._key_at = 0.0

    def take(self, packet: Packet[Any]) -> None:
        try:
            frames: list[VideoFrame] = packet.decode()
        except av.FFmpegError:
            return
        for frame in frames:
            if frame.time is not None:
                self._encode(frame, frame.time)

    def finish(self) -> None:
        self._target.mux(self._stream.encode(None))

    def _encode(self, frame: VideoFrame, time: float) -> None:
        self._timeline.start(time)
        placed = self._timeline.place("video", time)
        pts = self._start + round(placed * TICKS)
        if self._latest >= 0 and pts - self._latest < TICKS / RATE * 0.9:
            return
        self._latest = pts
        small = frame.reformat(self._width, self._height, "yuv420p")
        small.pts, small.time_base = pts, self._encoder.time_base
        small.pict_type = PictureType.NONE
        if placed >= self._key_at:
            small.pict_type = PictureType.I
            self._key_at += self._segment * (1 + (placed - self._key_at) // self._segment)
        self._target.mux(self._stream.encode(small))


def fitted(width: int, height: int) -> tuple[int, int]:
    """The size a picture gets: within 1280 × 720 (or that upright), in its own proportions, even."""
    long, short = max(width, height, 2), max(min(width, height), 2)
    scale = min(1.0, WIDTH / long, HEIGHT / short)
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)
