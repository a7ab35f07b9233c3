"""Measures blocks of sound with FFmpeg's filters: samples stay in C, only figures come to Python.

In a child process only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import av
from av.audio.frame import AudioFrame
from av.filter import Graph

from veza.media.sound import Shape

# Filters that say the least and the most of each frame; see `levels`. Only what is asked for: each measure is a pass
# over the samples. In floats, for of integers `astats` tells the integers.
LEVELS: Final = (
    ("aformat", "sample_fmts=fltp"),
    ("astats", "metadata=1:reset=1:measure_perchannel=none:measure_overall=Max_level+Min_level"),
)
_MOST: Final = "lavfi.astats.Overall.Max_level"
_LEAST: Final = "lavfi.astats.Overall.Min_level"


class Meter:
    """Filters in a row, and what they say of each frame they let out.

    Args:
        shape: of all blocks.
        filters: names and arguments.
    """

    def __init__(self, shape: Shape, *filters: tuple[str, str]) -> None:
        graph = Graph()
        graph.threads = 1
        source = last = graph.add_abuffer(sample_rate=shape.rate, format=shape.format, layout=shape.layout)
        for name, arguments in filters:
            node = graph.add(name, arguments)
            last.link_to(node)
            last = node
        self._sink = graph.add("abuffersink")
        last.link_to(self._sink)
        graph.configure()
        self._graph = graph
        self._source = source

    def feed(self, block: AudioFrame | None) -> Iterator[AudioFrame]:
        """The frames that this block completes; what is said of each is its `metadata`. None for the end."""
        self._source.push(block)
        while True:
            try:
                frame = self._sink.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            assert isinstance(frame, AudioFrame)
            yield frame


def levels(frame: AudioFrame) -> tuple[float, float]:
    """The least and the most of `LEVELS`, full scale being −1 … 1."""
    said = frame.metadata
    return float(said[_LEAST]), float(said[_MOST])
