"""What a stream's slot keeps over a crash: everything about the broadcast that others hold on to.

Listeners stay connected, the source goes on, the recording is the same file. Only what can be read from the database is
read again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import trio

from veza.actors.streams.hls import HlsFeed, Viewers
from veza.actors.streams.listener import Listener
from veza.actors.streams.recorder import Recorder
from veza.actors.streams.seat import Announced, Seat
from veza.media.splitters import Chunk, Splitter

if TYPE_CHECKING:
    from veza.actors.kernel import Reply
    from veza.actors.streams.fanout import Fanout
    from veza.db.streams import Mount


class Note:
    """Something to be stored, in order. `kind` tells what to do with the result."""

    __slots__ = ("args", "kind", "more", "unit", "what")

    def __init__(
        self, kind: str, unit: Callable[..., Awaitable[Any]], *args: Any, what: Any = None, **more: Any
    ) -> None:
        self.kind = kind
        self.unit = unit
        self.args = args
        self.more = more
        self.what = what


class Counts:
    """What happened since it was last stored."""

    def __init__(self) -> None:
        self.peak = 0
        self.listeners = 0
        self.listened = 0.0
        self.bytes_in = 0
        self.minute: datetime | None = None
        self.minute_peak = 0


class Air:
    """See the module. Owned by the stream's present incarnation."""

    def __init__(self) -> None:
        self.mount: Mount | None = None
        self.state = "created"
        self.content_type: str | None = None
        self.started_at: datetime | None = None
        self.song: str | None = None
        self.fanout: Fanout | None = None
        self.unbegun: dict[Listener, None] = {}  # those who wait for a key point
        self.interruption = 0
        self.grace_until = 0.0
        # The source.
        self.seat: Seat | None = None
        self.announced: Announced | None = None  # by the source that was heard last
        self.splitter: Splitter | None = None
        self.first = b""  # of a source of which is not known yet what it is
        self.before: list[Chunk] = []  # chunks before its first key point
        self.skipped = 0  # garbage before its last good chunk
        self.barren = 0  # bytes since its last good chunk
        self.since = 0  # the place in the ring where the present source began
        self.bytes = 0
        self.duration = 0.0
        # What is made of it.
        self.recorder: Recorder | None = None
        self.recorders: set[Recorder] = set()  # whose files are not closed yet
        self.hls: HlsFeed | None = None
        self.viewers: Viewers | None = None
        self.playlist_left = False  # of a stream that has ended, for those who have not seen its end
        # What is to be stored.
        self.notes: deque[Note] = deque()
        self.noting = False
        self.end_noted = False
        self.counts = Counts()
        self.ending: list[Reply] = []  # who waits for the end to be stored
        self.closing = False  # the server goes
        self.over = trio.Event()
