"""Decoded frames of a film in the sizes of its renditions: upright, with square pixels, timed from the track's start.

In a child process only.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from veza.media.ladder import Film, films
from veza.media.opening import Unplayable
from veza.media.segments import FILM_BASE, FilmWriter

_LARGEST: Final = 36_000_000  # pixels of a frame: 8K
_FASTEST: Final = 120.0  # frames a second
_USUAL: Final = Fraction(25)
_TURNS: Final = {90: "cclock", 270: "clock"}  # what FFmpeg calls them; by what a frame is to be turned back


class Picture:
    """A film on its way into its renditions, below `directory`.

    Args:
        start: seconds at which the track begins, on the file's own clock.
    """

    def __init__(self, stream: VideoStream, directory: Path, start: float) -> None:
        rate = stream.average_rate or stream.guessed_rate
        self.rate = Fraction(rate) if rate and 1 <= rate <= _FASTEST else _USUAL
        self.films: list[Film] = []
        self.width = self.height = 0  # as it is seen
        self.seconds = 0.0  # of the last frame's end
        self._aspect = _aspect(stream)
        self._directory = directory
        self._start = start
        self._last = -1
        self._writers: list[FilmWriter] = []
        self._scalers: list[_Scaler] = []
        self._came: tuple[object, ...] | None = None

    def feed(self, frame: VideoFrame) -> None:
        """Raises Unplayable: its frames are larger than we take."""
        time: float | None = frame.time
        if time is None:
            pts = self._last + round(1 / (self.rate * FILM_BASE))
        else:
            pts = round((time - self._start) / FILM_BASE)
        if pts <= self._last:  # before the start, or out of order
            return
        came = (frame.width, frame.height, frame.format.name, frame.rotation)
        if came != self._came:
            self._prepare(frame)
            self._came = came
        self._last = pts
        self.seconds = float(pts * FILM_BASE + 1 / self.rate)
        for scaler, writer in zip(self._scalers, self._writers, strict=True):
            for scaled in scaler.feed(frame):
                scaled.pts = pts
                scaled.time_base = FILM_BASE
                writer.feed(scaled)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()

    def _prepare(self, frame: VideoFrame) -> None:
        if frame.width * frame.height > _LARGEST:
            raise Unplayable(f"Its picture is too large: {frame.width} × {frame.height}.")
        if not self._writers:
            width, height = max(2, round(frame.width * self._aspect)), frame.height
            if frame.rotation % 180:
                width, height = height, width
            self.width, self.height = width, height
            self.films = films(width, height)
            self._writers = [FilmWriter(self._directory / film.name, film, self.rate) for film in self.films]
        self._scalers = [_Scaler(frame, film) for film in self.films]


class _Scaler:
    """Frames of one kind in, frames for one rendition out."""

    def __init__(self, like: VideoFrame, film: Film) -> None:
        graph = Graph()
        graph.threads = 1
        source = graph.add_buffer(
            width=like.width, height=like.height, format=like.format, time_base=Fraction(1, 1000)
        )
        row = [source]
        turn = like.rotation % 360
        if turn in _TURNS:
            row.append(graph.add("transpose", _TURNS[turn]))
        elif turn == 180:
            row += [graph.add("hflip"), graph.add("vflip")]
        row += [
            graph.add("scale", f"{film.width}:{film.height}:flags=bicubic"),
            graph.add("format", "yuv420p"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*row)
        graph.configure()
        self._graph = graph

    def feed(self, frame: VideoFrame) -> list[VideoFrame]:
        self._graph.vpush(frame)
        found = []
        while True:
            try:
                found.append(self._graph.vpull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return found


def _aspect(stream: VideoStream) -> float:
    """How much wider than tall a pixel is; 1 where that is not said, or nonsense."""
    aspect = stream.sample_aspect_ratio
    return float(aspect) if aspect and 0.2 < aspect < 5 else 1.0
