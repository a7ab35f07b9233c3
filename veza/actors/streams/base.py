"""A stream's actor: what all its parts share, and how what must be stored gets stored.

Nothing here waits for the database or the disk. Notes are stored one after the other, in order, beside the actor; while
the database is away they wait, and what can be summed up is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio
from outcome import Error, Outcome

from veza.actors.frames import frame
from veza.actors.kernel import Actor
from veza.actors.streams.air import Air, Note
from veza.actors.streams.fanout import Fanout, Tally
from veza.actors.streams.hls import Make
from veza.actors.streams.listener import Listener
from veza.actors.streams.messages import LiveInfo, LiveState, Noted, Recorded
from veza.actors.streams.recorder import Recorder
from veza.config import Settings
from veza.db import streams as streams_db
from veza.db.errors import DataRefused, Unavailable
from veza.db.pool import Database
from veza.media.library import Library

if TYPE_CHECKING:
    from veza.actors.streams.directory import Streams

log = structlog.get_logger("streams")

AGAIN: Final = 1.0  # seconds before a note is tried again
NOTES_MOST: Final = 1000  # that may wait while the database is away


class NoteAgain:
    """The time to try a note again has come."""


class StreamBase(Actor):
    """State and storing."""

    air: Air
    fanout: Fanout

    def __init__(
        self,
        stream_id: int,
        *,
        db: Database,
        settings: Settings,
        library: Library,
        tally: Tally,
        directory: Streams,
        make_hls: Make,
    ) -> None:
        self.stream_id = stream_id
        self.db = db
        self.settings = settings
        self.library = library
        self.tally = tally
        self.directory = directory
        self.make_hls = make_hls
        self.pass_timer: Any = None
        self.tick_timer: Any = None
        self.told_count = -1  # what listeners were told last
        self.idle_after = 60.0

    # What is shown --------------------------------------------------------------------------------

    @property
    def mount(self) -> streams_db.Mount:
        assert self.air.mount is not None
        return self.air.mount

    @property
    def listener_count(self) -> int:
        """Those who are connected, and those who ask for segments."""
        viewers = self.air.viewers
        return len(self.fanout) + (viewers.count(trio.current_time()) if viewers is not None else 0)

    def live_state(self) -> LiveState:
        air = self.air
        return LiveState(
            self.stream_id,
            self.mount.slug,
            air.state,
            self.listener_count,
            air.content_type,
            air.song,
            air.started_at,
        )

    def live_info(self) -> LiveInfo:
        air, mount = self.air, self.mount
        announced = air.announced
        rate = announced.bit_rate if announced is not None else None
        if rate is None and air.duration >= 0.5:
            rate = max(1, round(air.bytes * 8 / air.duration / 1000))
        return LiveInfo(
            title=mount.title,
            description=mount.description,
            genre=(announced.genre if announced is not None else None) or mount.category,
            public=mount.visibility == "public",
            content_type=air.content_type or "application/octet-stream",
            bit_rate=rate,
        )

    def state_frame(self) -> bytes:
        air = self.air
        return frame(
            "stream_state",
            {
                "id": self.stream_id,
                "slug": self.mount.slug,
                "title": self.mount.title,
                "state": air.state,
                "content_type": air.content_type,
                "song": air.song,
                "started_at": air.started_at,
                "listeners": self.listener_count,
            },
        )

    def tell_all(self, blob: bytes) -> None:
        """A text frame to those who can be told."""
        for listener in self.fanout.everybody():
            listener.tell(blob)

    # Storing --------------------------------------------------------------------------------------

    def note(self, kind: str, unit: Callable[..., Any], *args: Any, what: Any = None, **more: Any) -> None:
        """Have it stored, after all that was noted before."""
        notes = self.air.notes
        if kind == "song":  # only the last counts
            for old in [note for note in notes if note.kind == "song" and note is not notes[0]]:
                notes.remove(old)
        if len(notes) >= NOTES_MOST:
            log.error("the database has been away for too long: not stored", stream=self.stream_id, what=kind)
            return
        notes.append(Note(kind, unit, *args, what=what, **more))
        self.store()

    def store(self) -> None:
        air = self.air
        if air.noting or not air.notes:
            return
        air.noting = True
        note = air.notes[0]

        async def write() -> Any:
            return await self.db.write(note.unit, *note.args, **note.more)

        def noted(outcome: Outcome[Any]) -> Noted:
            if isinstance(outcome, Error):
                error = outcome.error
                if not isinstance(error, Exception):
                    raise error
                return Noted(note, None, error)
            return Noted(note, outcome.unwrap(), None)

        self.context.job(write, then=noted)

    def stored(self, message: Noted) -> None:
        """A note was stored, or could not be."""
        air = self.air
        air.noting = False
        if isinstance(message.error, Unavailable) and not (air.closing and self.given_up_storing()):
            self.context.timer(AGAIN, NoteAgain())
            return
        note = air.notes.popleft()
        if message.error is not None and not isinstance(message.error, Unavailable | DataRefused):
            log.error(
                "cannot store", stream=self.stream_id, what=note.kind, error=type(message.error).__name__
            )
        self.noted(note, message.result if message.error is None else None, message.error)
        self.store()

    def given_up_storing(self) -> bool:
        """The server goes and the database is away: what is not stored is made up for at the next start."""
        return True

    def noted(self, note: Note, result: Any, error: Exception | None) -> None:
        raise NotImplementedError

    def count_up(self, *, last: bool = False) -> None:
        """Store what was counted. `last`: nothing more will be."""
        air = self.air
        counts = air.counts
        if not last and any(note.kind == "counts" for note in list(air.notes)[1:]):
            return  # the database is away: it goes on adding up
        if counts.listeners or counts.listened >= 1 or counts.bytes_in:
            listened = math.floor(counts.listened)
            self.note(
                "counts",
                streams_db.count_up,
                self.stream_id,
                peak=counts.peak,
                listeners=counts.listeners,
                listened_s=listened,
                bytes_in=counts.bytes_in,
            )
            counts.listeners = counts.bytes_in = 0
            counts.listened -= listened
        self._count_minute(None)

    def count_minute(self, listeners: int) -> None:
        """So many listen now."""
        counts = self.air.counts
        counts.peak = max(counts.peak, listeners)
        minute = datetime.now(UTC).replace(second=0, microsecond=0)
        if minute != counts.minute:
            self._count_minute(minute)
        counts.minute_peak = max(counts.minute_peak, listeners)

    def _count_minute(self, following: datetime | None) -> None:
        counts = self.air.counts
        if counts.minute is not None:
            self.note("minute", streams_db.add_minute, self.stream_id, counts.minute, counts.minute_peak)
        counts.minute, counts.minute_peak = following, 0

    # Recording ------------------------------------------------------------------------------------

    def record(self) -> None:
        """Record from here on, if that is wished and not done already."""
        air = self.air
        if not self.mount.record or air.recorder is not None or air.content_type is None:
            return
        directory = self.library.recordings_of(self.stream_id)
        recorder = Recorder(directory, air.content_type, self.settings.upload_reserve)
        air.recorder = recorder
        air.recorders.add(recorder)
        self.note(
            "recording",
            streams_db.recording_opened,
            self.stream_id,
            recorder.filename,
            air.content_type,
            what=recorder,
        )

    def stop_recording(self) -> None:
        """Close the file; its end is told by `Recorded`, if it was ever begun."""
        recorder, self.air.recorder = self.air.recorder, None
        if recorder is not None:
            recorder.close()

    def recording_opened(self, recorder: Recorder, id: int | None) -> None:
        """Its row is stored; without one (the stream is gone, or the database refuses) there is no recording."""
        if id is None:
            self._drop(recorder)
            return
        recorder.id = id
        recorder.running = True

        def closed(outcome: Outcome[Any]) -> Recorded:
            error = outcome.error if isinstance(outcome, Error) else None
            return Recorded(recorder, error if isinstance(error, Exception) else None)

        self.context.job(recorder.run, then=closed)

    def recorded(self, message: Recorded) -> None:
        """A file is closed."""
        recorder: Recorder = message.recorder
        self._drop(recorder)
        if message.error is not None or recorder.failed:
            log.error("a recording ended early", stream=self.stream_id, reason=recorder.failed)
        if recorder.id is not None:
            self.note("closed", streams_db.recording_closed, recorder.id)
        self.recordings_closed()

    def recordings_closed(self) -> None:
        """Perhaps all are closed now."""
        raise NotImplementedError

    def _drop(self, recorder: Recorder) -> None:
        recorder.close()
        self.air.recorders.discard(recorder)
        if self.air.recorder is recorder:
            self.air.recorder = None

    def lost(self, listener: Listener) -> None:
        """A listener's connection is dead."""
        raise NotImplementedError
