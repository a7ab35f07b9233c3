"""All of a file at once: it is read and decoded a single time, and every block goes to all that want it.

In a child process only. What is made lies in one directory: `peaks.json`, `cover.webp`, `hls/`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import av
import msgspec
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from veza.media.containers import is_lossless
from veza.media.cover import cover_from, cover_of_film
from veza.media.decoding import decoded, packets_of
from veza.media.findings import Findings
from veza.media.ladder import Tone, beside_film, tones
from veza.media.loudness import Loudness
from veza.media.opening import Unplayable, cover_of, film_of, open_media, sound_of
from veza.media.peaks import Peaks
from veza.media.picture import Picture
from veza.media.playlists import write_master
from veza.media.segments import ToneWriter
from veza.media.sound import Blocks, place_channels
from veza.media.tags import tags_of

LONGEST: Final = 12 * 3600.0  # seconds; more is a mistake, or made to be a burden
LARGEST: Final = 8 * 1024**3  # bytes of all renditions together
_TELL_EVERY: Final = 0.25  # seconds
_APART: Final = 0.1  # seconds by which sound may be off its picture before something is done
_COVER_AT: Final = 3.0  # seconds into a film, for its cover; often it begins in the dark

Told = Callable[[float, float], None]


def process(path: Path, into: Path, told: Told) -> Findings:
    """Make everything of the file at `path` in the empty directory `into`.

    Args:
        told: called now and then with the share that is done, 0 … 1, and the seconds of media that is.

    Raises:
        Unplayable: nothing of it can be decoded, or it is beyond a limit.
        OSError: `into` cannot be written (ENOSPC among others).
    """
    with open_media(path) as container:
        return _Work(container, path, into, told).run()


class _Work:
    def __init__(self, container: InputContainer, path: Path, into: Path, told: Told) -> None:
        self.container = container
        self.into = into
        self.hls = into / "hls"
        self.hls.mkdir(mode=0o700)
        self.told = told
        self.sound: AudioStream | None = sound_of(container)
        self.film: VideoStream | None = film_of(container)
        if self.sound is None and self.film is None:
            raise Unplayable("There is a picture in this file, but neither sound nor film.")
        self.picture_came = cover_of(container)
        for stream in (self.sound, self.film):
            if stream is not None:
                stream.codec_context.thread_count = 1
        if self.sound is not None:
            place_channels(self.sound)
        self.size = path.stat().st_size
        self.expected = max(0.0, (container.duration or 0) / av.time_base)
        # The file's clock when the track begins. Only where sound and film must stay together is it looked at.
        self.start = (container.start_time or 0) / av.time_base
        self.blocks = Blocks()
        self.tones: list[Tone] = []
        self.writers: list[ToneWriter] = []
        self.loudness: Loudness | None = None
        self.peaks: Peaks | None = None
        self.picture = Picture(self.film, self.hls, self.start) if self.film is not None else None
        self.has_cover = False
        self.bytes = {True: 0, False: 0}  # of packets that were decoded; by whether they are sound
        self._share = 0.0
        self._next = 0.0

    def run(self) -> Findings:
        streams = [each for each in (self.sound, self.film, self.picture_came) if each is not None]
        for packet in packets_of(self.container, streams):
            if packet.stream is self.picture_came:
                self._take_cover(packet)
                continue
            heard = packet.stream is self.sound
            frames = decoded(packet)
            if frames:
                self.bytes[heard] += packet.size
            for frame in frames:
                if heard:
                    self._hear(frame)
                elif self.picture is not None:
                    self._see(frame)
            self._tell(packet.pos)
        return self._finish()

    def _hear(self, frame: AudioFrame) -> None:
        if self.picture is not None:
            late = self._late(frame)
            if late < -_APART:
                return  # it overlaps what was heard already
            if late > _APART:
                for silence in _silences(frame, late):
                    self._blocks(silence)
        self._blocks(frame)

    def _late(self, frame: AudioFrame) -> float:
        """By how many seconds this frame comes after the end of the one before; 0 where the file does not say."""
        if frame.time is None:
            return 0.0
        rate = self.blocks.shape.rate if self.blocks.shape else frame.sample_rate
        late = frame.time - self.start - self.blocks.taken / rate
        return late if late < LONGEST else 0.0

    def _blocks(self, frame: AudioFrame) -> None:
        for block in self.blocks.feed(frame):
            self._each(block)

    def _each(self, block: AudioFrame) -> None:
        if self.loudness is None or self.peaks is None:
            self._prepare()
        assert self.loudness is not None and self.peaks is not None
        self.loudness.feed(block)
        self.peaks.feed(block)
        for writer in self.writers:
            writer.feed(block)

    def _prepare(self) -> None:
        """The first sound is there: now its shape is known for sure."""
        shape, stream = self.blocks.shape, self.sound
        assert shape is not None and stream is not None
        codec = stream.codec_context.name
        self.loudness = Loudness(shape)
        self.peaks = Peaks(shape, self.expected)
        self.tones = tones(
            codec=codec,
            lossless=is_lossless(codec),
            rate=shape.rate,
            channels=av.AudioLayout(shape.layout).nb_channels,
            bit_rate=stream.bit_rate or (None if self.film is not None else self.container.bit_rate),
            bits=16 if shape.format in ("u8", "u8p", "s16", "s16p") else 24,
        )
        if self.film is not None:
            self.tones = beside_film(self.tones)
        self.writers = [ToneWriter(self.hls / tone.name, tone) for tone in self.tones]

    def _see(self, frame: VideoFrame) -> None:
        assert self.picture is not None
        if not self.has_cover and self.picture.seconds >= min(_COVER_AT, self.expected / 2):
            self.has_cover = cover_of_film(frame, self.into / "cover.webp")
        self.picture.feed(frame)

    def _take_cover(self, packet: Any) -> None:
        if packet.size and not self.has_cover:
            self.has_cover = cover_from(bytes(packet), self.into / "cover.webp")

    def _tell(self, position: int | None) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _TELL_EVERY
        seconds = max(self.blocks.seconds, self.picture.seconds if self.picture else 0.0)
        if seconds > LONGEST:
            raise Unplayable(f"It is longer than {LONGEST / 3600:.0f} hours.")
        if _bytes_below(self.hls) > LARGEST:
            raise Unplayable("What would be made of it is too large.")
        # How far into the file is surer than the duration it promises.
        share = (
            position / self.size if position and self.size else seconds / max(seconds, self.expected, 0.001)
        )
        self._share = max(self._share, min(0.99, share))
        self.told(self._share, seconds)

    def _finish(self) -> Findings:
        for block in self.blocks.flush():
            self._each(block)
        if self.picture is not None and not self.picture.films:
            self.picture = None  # nothing of it could be decoded
        if self.loudness is None and self.picture is None:
            raise Unplayable("Nothing in this file can be decoded.")
        lufs, peak = self.loudness.finish() if self.loudness is not None else (None, None)
        if self.peaks is not None:
            (self.into / "peaks.json").write_bytes(msgspec.json.encode(self.peaks.finish()))
        for writer in self.writers:
            writer.close()
        films = []
        if self.picture is not None:
            self.picture.close()
            films = self.picture.films
        write_master(self.hls, self.tones, films, float(self.picture.rate) if self.picture else None)
        seconds = max(self.blocks.seconds, self.picture.seconds if self.picture else 0.0)
        self.told(1.0, seconds)
        return self._findings(seconds, lufs, peak)

    def _findings(self, seconds: float, lufs: float | None, peak: float | None) -> Findings:
        heard = self.loudness is not None
        stream = self.sound if heard else self.film
        assert stream is not None
        shape = self.blocks.shape if heard else None
        return Findings(
            kind="video" if self.picture is not None else "audio",
            duration_ms=max(1, round(seconds * 1000)),
            codec=stream.codec_context.codec.canonical_name,
            sample_rate=shape.rate if shape else None,
            channels=av.AudioLayout(shape.layout).nb_channels if shape else None,
            bit_rate=round(8 * self.bytes[heard] / seconds) if seconds else None,
            width=self.picture.width if self.picture else None,
            height=self.picture.height if self.picture else None,
            lossless=heard and is_lossless(stream.codec_context.name),
            loudness_lufs=lufs,
            peak_dbtp=peak,
            has_cover=self.has_cover,
            has_hls=True,
            tags=tags_of(self.container.metadata, stream.metadata),
        )


def _silences(like: AudioFrame, seconds: float) -> list[AudioFrame]:
    """Frames of silence, shaped like this one, to fill a gap."""
    found = []
    left = round(seconds * like.sample_rate)
    while left > 0:
        frame = AudioFrame(
            format=like.format.name, layout=like.layout.name, samples=min(left, like.sample_rate)
        )
        frame.sample_rate = like.sample_rate
        quiet = 0x80 if like.format.name.startswith("u8") else 0
        for plane in frame.planes:
            plane.update(bytes([quiet]) * plane.buffer_size)
        left -= frame.samples
        found.append(frame)
    return found


def _bytes_below(directory: Path) -> int:
    total = 0
    for rendition in os.scandir(directory):
        if rendition.is_dir():
            total += sum(entry.stat().st_size for entry in os.scandir(rendition.path))
    return total


def make_durable(directory: Path) -> None:
    """See that all below is on the disk, and would be there after a power cut."""
    for path, _, files in os.walk(directory):
        for name in (*files, "."):
            file = os.open(os.path.join(path, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
