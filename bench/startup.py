"""From the command to the first answer: the first time in an empty data directory, and later."""

import statistics
import tempfile
from pathlib import Path

import msgspec

from bench.machine import Cores
from bench.server import Server


class Starts(msgspec.Struct, frozen=True):
    """Seconds until `GET /health` is answered with 200; later ones as the middle of some."""

    first_s: float
    later_s: float
    later_worst_s: float


def measure(cores: Cores, times: int = 5) -> Starts:
    """Not pinned to one core: a start is what a user sees on the whole machine."""
    free = Cores(None, None)
    with tempfile.TemporaryDirectory(prefix="veza-bench-") as name:
        data = Path(name) / "data"
        with Server(free, data) as server:
            first = server.start_s
        later = []
        for _ in range(times):
            with Server(free, data) as server:
                later.append(server.start_s)
    return Starts(first, statistics.median(later), max(later))
