"""A live stream: one source, thousands of listeners, the last seconds in between. One actor per stream.

It owns the source's seat, the splitter, the ring, the listeners and their places in it, the counters and the recording.
A chunk is kept once and given to all. It waits for nobody: not for a listener, not for the disk, not for the database.
Everything of a broadcast survives a crash of the actor in its `Air`.
"""

from __future__ import annotations

from typing import Any

from veza.actors.errors import unavailable
from veza.actors.kernel import Stop
from veza.actors.streams import refusals
from veza.actors.streams.air import Air
from veza.actors.streams.base import NoteAgain
from veza.actors.streams.broadcasting import DRAINING, Broadcasting, NotRead
from veza.actors.streams.fanout import Fanout
from veza.actors.streams.listener import Progressive
from veza.actors.streams.listening import Listening, PartNow
from veza.actors.streams.messages import (
    Changed,
    Claim,
    Close,
    Describe,
    End,
    GraceOver,
    HlsCleared,
    HlsOver,
    Left,
    Listen,
    LiveInfo,
    Noted,
    Pass,
    Pour,
    Read,
    Recorded,
    RemovePlaylist,
    Sing,
    SourceGone,
    Tick,
    WatchHls,
    Writable,
)
from veza.actors.streams.ring import Ring
from veza.db import streams as streams_db
from veza.db.errors import Unavailable


class StreamActor(Listening, Broadcasting):
    """See the module. Every message that reaches a stream is in `handle`."""

    mailbox_capacity = 1024

    async def started(self) -> None:
        air: Air = self.context.carried
        self.air = air
        fresh = air.mount is None
        if fresh:
            try:
                mount = await self.db.read(streams_db.mount_by_id, self.stream_id)
            except Unavailable:
                raise Stop(unavailable()) from None
            if mount is None:
                raise Stop(refusals.not_found())
            air.mount = mount
            air.state = "interrupted" if mount.state == "live" else mount.state
            air.end_noted = air.state == "ended"
        if air.fanout is None:
            ring = Ring(self.settings.stream_ring_seconds, self.settings.stream_ring_bytes)
            air.fanout = Fanout(
                ring, self.settings.stream_pass_wait, self.tally, self.lost, self.wake_when_writable
            )
        self.fanout = air.fanout
        self.fanout.belongs_to(self.lost, self.wake_when_writable)
        self.directory.show(self)
        if air.state == "interrupted" and not air.closing:
            self.await_return()
        if not fresh:
            self._go_on()

    def _go_on(self) -> None:
        """After a crash: timers are gone, a pass may have ended half-way."""
        air, fanout = self.air, self.fanout
        for listener in fanout.behind:
            if isinstance(listener, Progressive):
                listener.waiting = False  # who waits for him may be gone; to wait twice does no harm
        self.tick_soon()
        self.wait_again(self.settings.shutdown_send_timeout if air.closing else DRAINING)
        self.pass_in(0.0)
        if not air.noting:
            self.store()
        self.recordings_closed()

    async def stopping(self) -> None:
        self.directory.hide(self)

    def idle(self) -> bool:
        air = self.air
        busy = air.seat is not None or len(self.fanout) or air.hls is not None or air.playlist_left
        return not busy and air.state in ("created", "ended")

    def settled(self) -> bool:
        return not self.air.notes and not self.air.recorders

    def summary(self) -> dict[str, Any]:
        air, ring = self.air, self.fanout.ring
        return {
            "stream_id": self.stream_id,
            "slug": self.mount.slug,
            "state": air.state,
            "content_type": air.content_type,
            "listeners": len(self.fanout),
            "behind": len(self.fanout.behind),
            "ring_chunks": len(ring),
            "ring_bytes": ring.size,
            "recording": air.recorder is not None,
            "hls": air.hls is not None,
            "notes_waiting": len(air.notes),
            "last_pass_ms": round(self.fanout.last_cost * 1000, 3),
        }

    async def handle(self, message: Any) -> LiveInfo | bool | None:
        match message:
            case Pour():
                return await self.pour(message)
            case Pass():
                await self.late_pass()
            case Writable():
                self.writable(message)
            case Listen(listener=listener):
                self.listen(listener)
            case Left(listener=listener):
                self.left(listener)
            case Describe():
                return self.describe()
            case Claim():
                self.claim(message)
            case SourceGone(seat=seat):
                self.source_gone(seat)
            case Sing():
                self.sing(message)
            case WatchHls():
                self.watch_hls(message)
            case Tick():
                self.tick()
            case GraceOver():
                await self.grace_over(message)
            case Noted():
                self.stored(message)
            case NoteAgain():
                self.store()
            case Read():
                await self.have_read(message)
            case Changed() | NotRead():
                self.read_again()
            case Recorded():
                self.recorded(message)
            case HlsOver():
                self.hls_over(message)
            case HlsCleared():
                self.hls_cleared(message)
            case RemovePlaylist():
                self.remove_playlist()
            case PartNow():
                self.part_now()
            case End():
                self.air.ending.append(self.context.defer())
                await self.end()
                self.recordings_closed()
            case Close():
                self.air.ending.append(self.context.defer())
                await self.close()
                self.recordings_closed()
        return None
