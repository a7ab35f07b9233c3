"""Decoded sound as blocks of one shape, whatever the file does: frames of any size, other rates or channels half way.

In a child process only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Final

import msgspec
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from veza.media.opening import Unplayable

BLOCK: Final = 65_536  # samples: what is fed in turn has each time to find its own tables in the cache again
_USUAL: Final = {1: "mono", 2: "stereo", 3: "2.1", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}


class Shape(msgspec.Struct, frozen=True):
    """FFmpeg's names of a sample format and of a channel layout, and the rate in samples a second."""

    format: str
    layout: str
    rate: int


class Blocks:
    """Frames in; blocks of `BLOCK` samples of the first frame's shape out, numbered by their samples from 0.

    What comes in another shape later is converted; what is no frame of sound is left out.
    """

    def __init__(self) -> None:
        self.shape: Shape | None = None
        self.samples = 0  # given out so far
        self.taken = 0  # given out, or held until a block is full
        self._fifo = AudioFifo()
        self._coming: Shape | None = None
        self._convert: Convert | None = None

    @property
    def seconds(self) -> float:
        return self.samples / self.shape.rate if self.shape else 0.0

    def feed(self, frame: AudioFrame) -> Iterator[AudioFrame]:
        if frame.samples <= 0 or frame.sample_rate <= 0:
            return
        shape = _shape_of(frame)
        self.shape = self.shape or shape
        if shape != self._coming:
            yield from self._turn()
            self._coming = shape
            self._convert = None if shape == self.shape else Convert(self.shape)
        frame.pts = None  # time is counted in samples
        self._write([frame] if self._convert is None else self._convert.feed(frame))
        yield from self._read(partial=False)

    def flush(self) -> Iterator[AudioFrame]:
        """What is left, in a last block that may be shorter."""
        yield from self._turn()
        yield from self._read(partial=True)

    def _turn(self) -> Iterator[AudioFrame]:
        if self._convert is not None:
            self._write(self._convert.flush())
        yield from self._read(partial=False)

    def _write(self, frames: Iterable[AudioFrame]) -> None:
        for frame in frames:
            frame.pts = None
            self._fifo.write(frame)
            self.taken += frame.samples

    def _read(self, *, partial: bool) -> Iterator[AudioFrame]:
        assert self.shape is not None or not self._fifo.samples
        while self.shape is not None and (block := self._fifo.read(BLOCK, partial)) is not None:
            block.pts = self.samples
            block.time_base = Fraction(1, self.shape.rate)
            self.samples += block.samples
            yield block


class Convert:
    """Blocks of whatever shape in, the same sound in `shape` out; nothing is done if they have it already."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._resampler = AudioResampler(format=shape.format, layout=shape.layout, rate=shape.rate)

    def feed(self, block: AudioFrame) -> list[AudioFrame]:
        return self._resampler.resample(block)

    def flush(self) -> list[AudioFrame]:
        # Where nothing is to be done it gives the None back, whatever its types say.
        rest: list[AudioFrame | None] = [*self._resampler.resample(None)]
        return [frame for frame in rest if frame is not None]


def place_channels(stream: AudioStream) -> None:
    """Give channels their usual places where a file only counts them. Before its first packet is decoded.

    Raises:
        Unplayable: there are more than anybody has a usual place for.
    """
    context = stream.codec_context
    count = context.layout.nb_channels
    if not context.layout.name.endswith(f"{count} channels"):
        return
    if count not in _USUAL:
        raise Unplayable(f"It has {count} channels; at most {max(_USUAL)} can be placed.")
    context.layout = _USUAL[count]


def _shape_of(frame: AudioFrame) -> Shape:
    return Shape(frame.format.name, frame.layout.name, frame.sample_rate)
