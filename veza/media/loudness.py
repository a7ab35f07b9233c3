"""How loud a track is: integrated loudness of EBU R128 and true peak of ITU-R BS.1770-5.

The true peak is read off fourfold oversampling (twofold from 96 kHz on), as Annex 2 of BS.1770 asks, with sixteen taps
a phase where its own interpolator has twelve. FFmpeg's `ebur128` filter could do it too, at three times the cost.

In a child process only.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from av.audio.frame import AudioFrame

from veza.media.meters import LEVELS, Meter, levels
from veza.media.sound import Shape

_INTEGRATED: Final = "lavfi.r128.I"
_SILENCE: Final = -70.0  # LUFS: the absolute gate; what never passes it has no loudness
_FINE: Final = 96_000  # from here on, twice is enough


class Loudness:
    """Fed with all blocks of a track; `finish` tells."""

    def __init__(self, shape: Shape) -> None:
        self._last: deque[AudioFrame] = deque(
            maxlen=2
        )  # each says what all before it were; the shorter end does not
        self._peak = 0.0
        self._gauge = Meter(shape, ("ebur128", "metadata=1"))
        times = 4 if shape.rate < _FINE else 2
        # Rational phases, no interpolation between them: every fourth sample is the original's.
        self._over = Meter(shape, ("aresample", f"{times * shape.rate}:filter_size=16"), *LEVELS)

    def feed(self, block: AudioFrame | None) -> None:
        for frame in self._gauge.feed(block):
            self._last.append(frame)
        for frame in self._over.feed(block):
            least, most = levels(frame)
            self._peak = max(self._peak, most, -least)

    def finish(self) -> tuple[float | None, float | None]:
        """LUFS and dBTP, to hundredths; None where there is nothing to measure."""
        self.feed(None)
        said = [frame.metadata[_INTEGRATED] for frame in self._last if _INTEGRATED in frame.metadata]
        loudness = float(said[-1]) if said else _SILENCE
        return (
            round(loudness, 2) if loudness > _SILENCE and math.isfinite(loudness) else None,
            round(20 * math.log10(self._peak), 2) if self._peak > 0 else None,
        )
