"""Live streams: who broadcasts, who listens, and the ring in between.

    streams = Streams(system, db=…, settings=…, library=…, make_hls=…)
    await streams.ask(stream_id, Listen(Progressive(line, visitor)))

`actor.py` is the stream; `ring.py`, `listener.py` and `fanout.py` are how one chunk reaches thousands; `directory.py`
finds streams.
"""

from veza.actors.streams.directory import Streams
from veza.actors.streams.listener import METAINT, Progressive, Socketed
from veza.actors.streams.messages import (
    Claim,
    Describe,
    Left,
    Listen,
    LiveInfo,
    LiveState,
    Pour,
    Sing,
    SourceGone,
    WatchHls,
)
from veza.actors.streams.seat import Announced, Seat

__all__ = [
    "METAINT",
    "Announced",
    "Claim",
    "Describe",
    "Left",
    "Listen",
    "LiveInfo",
    "LiveState",
    "Pour",
    "Progressive",
    "Seat",
    "Sing",
    "Socketed",
    "SourceGone",
    "Streams",
    "WatchHls",
]
