"""The waveform of a track: the least and the most of its samples in each of 1,800 equal stretches.

In a child process only.
"""

from __future__ import annotations

from typing import Any, Final

from av.audio.frame import AudioFrame

from veza.media.meters import LEVELS, Meter, levels
from veza.media.sound import Shape

POINTS: Final = 1800
_FINER: Final = 2  # stretches measured for each that is told, so that rounding moves nothing far
_MOST: Final = 8 * POINTS  # stretches held; a file longer than its header says makes them longer instead


class Peaks:
    """Fed with all blocks of a track; `finish` tells.

    Args:
        expected: seconds the track is said to last. A wrong guess costs resolution or a little time, nothing else.
    """

    def __init__(self, shape: Shape, expected: float) -> None:
        self._shape = shape
        self._stretch = max(1, round(expected * shape.rate) // (_FINER * POINTS))  # samples
        self._found: list[tuple[float, float]] = []
        self._meter = self._measure()

    def feed(self, block: AudioFrame | None) -> None:
        self._found += map(levels, self._meter.feed(block))
        if len(self._found) > _MOST and block is not None:
            self._coarsen()

    def finish(self) -> dict[str, Any]:
        """As `peaks.json` has it: levels from −128 to 127, of all channels together."""
        self.feed(None)
        found = self._found or [(0.0, 0.0)]
        least, most = [], []
        for point in range(POINTS):
            start = point * len(found) // POINTS
            end = max(start + 1, (point + 1) * len(found) // POINTS)
            least.append(_level(min(low for low, _ in found[start:end])))
            most.append(_level(max(high for _, high in found[start:end])))
        return {"version": 1, "points": POINTS, "min": least, "max": most}

    def _measure(self) -> Meter:
        return Meter(self._shape, ("asetnsamples", f"n={self._stretch}:p=0"), *LEVELS)

    def _coarsen(self) -> None:
        """Half as many stretches, twice as long. What the meter holds of the current one is counted now."""
        self._found += map(levels, self._meter.feed(None))
        pairs = zip(self._found[::2], self._found[1::2] + self._found[-1:], strict=False)
        self._found = [(min(a[0], b[0]), max(a[1], b[1])) for a, b in pairs]
        self._stretch *= 2
        self._meter = self._measure()


def _level(value: float) -> int:
    return max(-128, min(127, round(value * 128)))
