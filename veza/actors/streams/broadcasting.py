"""A stream's source: who may broadcast, what becomes of its bytes, what happens when it drops or ends.

created → live → (interrupted ↔ live) → ended. A source counts once something of it can be listened to; until then the
stream is what it was before.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import trio
from outcome import Error, Outcome

from veza.actors.errors import Refused, unavailable
from veza.actors.frames import frame
from veza.actors.streams import refusals
from veza.actors.streams.air import Note
from veza.actors.streams.base import StreamBase, log
from veza.actors.streams.messages import Claim, GraceOver, Pour, Read, Sing
from veza.actors.streams.seat import Seat
from veza.db import streams as streams_db
from veza.media.splitters import ENOUGH, Chunk, Unsupported, splitter_for

SILENT: Final = 3.0  # seconds without a byte after which the same key may take over
GARBAGE: Final = 256 * 1024  # bytes of nothing but garbage after which a source is dropped
BARREN: Final = (
    16 * 1024 * 1024
)  # bytes without a whole chunk, or a place to begin at, after which a source is dropped
BEFORE: Final = 4096  # chunks kept until there is a place to begin at; nobody misses them
SONG_LONGEST: Final = 500
DRAINING: Final = 10.0  # seconds those who are behind get to hear the end


class Broadcasting(StreamBase):
    """The part that knows sources."""

    # Coming ---------------------------------------------------------------------------------------

    def claim(self, message: Claim) -> None:
        """Raises Refused."""
        air, seat = self.air, message.seat
        if air.closing:
            raise refusals.going()
        if air.state == "ended":
            raise refusals.ended()
        if self.mount.barred:
            self.read_again()  # a ban ends by itself, and says so to nobody
            raise refusals.barred()
        other = air.seat
        if other is not None and not other.ended:
            if trio.current_time() - other.last < min(SILENT, self.settings.stream_stall):
                raise refusals.busy()
            other.show_out(refusals.taken_over())
            self.source_gone(other)
        air.seat = seat
        air.splitter = None
        air.first = b""
        air.before = []
        air.skipped = air.barren = 0
        self.tick_soon()

    async def pour(self, message: Pour) -> bool:
        """Take the source's bytes; whether it can be listened to by now. Raises Refused: it must go."""
        air, seat, data = self.air, message.seat, message.data
        if seat is not air.seat or seat.ended:
            raise seat.reason or refusals.taken_over()
        now = message.at
        seat.last = now
        air.counts.bytes_in += len(data)
        self.tally.bytes_in += len(data)
        if air.splitter is None:
            air.first += data
            try:
                air.splitter = splitter_for(seat.announced.content_type, air.first)
            except Unsupported as error:
                raise self._turn_out(error.reason) from None
            if air.splitter is None:
                return False
            data, air.first = air.first, b""
        splitter = air.splitter
        chunks = splitter.feed(data)
        if not chunks:
            air.barren += len(data)
            if splitter.skipped - air.skipped > (GARBAGE if seat.heard else ENOUGH) or air.barren > BARREN:
                raise self._turn_out(
                    "what comes is no longer a stream of the kind it began as"
                    if seat.heard
                    else "what comes is no stream of the kind it is said to be"
                )
            return seat.heard
        air.skipped = splitter.skipped
        if not seat.heard:
            first_key = next((nth for nth, chunk in enumerate(chunks) if chunk.key), None)
            if first_key is None:
                air.before += chunks
                air.barren += len(data)
                if air.barren > BARREN:
                    raise self._turn_out("nobody could begin to listen anywhere in what comes")
                if len(air.before) > BEFORE:
                    air.before = []
                return False
            chunks, air.before = air.before + chunks, []
            await self._go_live(seat, splitter.content_type)
        air.barren = 0
        self._append(chunks, now)
        await self.pass_on(now)
        return True

    def _append(self, chunks: list[Chunk], now: float) -> None:
        air, ring, recorder = self.air, self.fanout.ring, self.air.recorder
        for chunk in chunks:
            ring.append(chunk, now)
            air.bytes += len(chunk.data)
            air.duration += chunk.duration or 0.0
            if recorder is not None:
                recorder.add(chunk)
            if chunk.key and air.unbegun:
                opening = ring.opening_at(ring.end - len(chunk.data))
                for listener in air.unbegun:
                    listener.begin_at(opening)
                air.unbegun.clear()
        if air.hls is not None:
            air.hls.add(b"".join([chunk.data for chunk in chunks]))

    async def _go_live(self, seat: Seat, content_type: str) -> None:
        air = self.air
        seat.heard = True
        if air.content_type is not None and content_type != air.content_type:
            await self._other_kind()
        elif air.recorder is not None and air.recorder.alone:
            self.stop_recording()
        self.restart_hls()
        air.since = self.fanout.ring.end
        air.bytes, air.duration = 0, 0.0
        air.state = "live"
        air.announced = seat.announced
        air.content_type = content_type
        air.song = None
        air.started_at = air.started_at or datetime.now(UTC)
        self.note("live", streams_db.went_live, self.stream_id, content_type)
        self.record()
        self.tell_state()
        log.info("on air", stream=self.stream_id, content_type=content_type)

    async def _other_kind(self) -> None:
        """What comes now is no continuation of what was: who cannot be told so has heard the end."""
        fanout = self.fanout
        await self.run_pass()
        for listener in fanout.everybody():
            if listener.kind == "socket":
                self.air.unbegun[listener] = None
                listener.at = -1
            elif listener not in self.air.unbegun:
                fanout.remove(listener)
                if listener.whole:
                    listener.part()
                else:
                    listener.cut()
        fanout.ring.clear()
        fanout.restart()
        self.stop_recording()

    def _turn_out(self, reason: str) -> Refused:
        refused = refusals.unsupported(reason[0].upper() + reason[1:] + ("" if reason.endswith(".") else "."))
        seat = self.air.seat
        if seat is not None:
            self._show_out(seat, refused)
        return refused

    # Going ----------------------------------------------------------------------------------------

    def source_gone(self, seat: Seat) -> None:
        """Its connection has ended."""
        air = self.air
        seat.ended = True
        if seat is not air.seat:
            return
        air.seat = None
        air.splitter = None
        air.first, air.before = b"", []
        if air.state == "live" and seat.heard:
            self._interrupt()

    def _interrupt(self) -> None:
        air = self.air
        air.state = "interrupted"
        air.interruption += 1
        self.note("interrupted", streams_db.interrupted, self.stream_id)
        self.await_return()
        self.tell_state()
        log.info("the source dropped", stream=self.stream_id)

    def await_return(self) -> None:
        """The source has so long to come back."""
        air = self.air
        air.grace_until = trio.current_time() + self.settings.stream_grace
        self.context.timer(self.settings.stream_grace, GraceOver(air.interruption))

    async def grace_over(self, message: GraceOver) -> None:
        air = self.air
        if air.state == "interrupted" and air.interruption == message.interruption and not air.closing:
            if air.seat is not None and not air.seat.heard:
                self.context.timer(1.0, message)  # somebody has come back and is about to be heard
            else:
                await self.end()

    async def end(self) -> None:
        """The stream is over, for good."""
        air = self.air
        if air.state == "ended":
            return
        air.state = "ended"
        air.song = None
        await self._quiet(refusals.over())
        self.tell_all(frame("ended", {"id": self.stream_id, "slug": self.mount.slug}))
        self.part_listeners(DRAINING)
        self.recordings_closed()
        log.info("ended", stream=self.stream_id)

    async def close(self) -> None:
        """The server goes: everybody parts; the stream itself is only interrupted."""
        air = self.air
        if air.closing:
            return
        air.closing = True
        if air.state == "live":
            air.state = "interrupted"
            self.note("interrupted", streams_db.interrupted, self.stream_id)
        await self._quiet(refusals.going())
        self.part_listeners(self.settings.shutdown_send_timeout)
        self.recordings_closed()

    async def _quiet(self, reason: Refused) -> None:
        """Nothing more will come: pass on what is there, close what was made of it."""
        air = self.air
        seat, air.seat = air.seat, None
        if seat is not None:
            seat.show_out(reason)
        air.splitter = None
        if air.started_at is not None:
            self.count_minute(self.listener_count)
        await self.run_pass()
        self.stop_hls()
        self.stop_recording()
        self.count_up(last=True)

    def recordings_closed(self) -> None:
        """Once all files are closed an ended stream is stored as such."""
        air = self.air
        if air.recorders or not (air.closing or air.state == "ended"):
            return
        if air.state == "ended" and not air.end_noted:
            air.end_noted = True
            self.note("ended", streams_db.ended, self.stream_id)
        self._answer_enders()

    def _answer_enders(self) -> None:
        air = self.air
        if not air.notes and not air.recorders:
            for reply in air.ending:
                reply.send(None)
            air.ending.clear()
            if air.state == "ended" or air.closing:
                self.context.passivate()

    # Storing and reading --------------------------------------------------------------------------

    def noted(self, note: Note, result: Any, error: Exception | None) -> None:
        match note.kind:
            case "recording":
                self.recording_opened(note.what, result)
                self.recordings_closed()
            case "live" if error is None and result:
                self.directory.has_gone_live(self.stream_id)
            case "live" if error is None:
                self.read_again()  # it has ended, or is gone
            case "ended" if error is None:
                self.directory.has_ended(self.stream_id)
        self._answer_enders()

    def read_again(self) -> None:
        """Ask the database what the stream is now."""

        async def read() -> Any:
            return await self.db.read(streams_db.mount_by_id, self.stream_id)

        def done(outcome: Outcome[Any]) -> Read:
            if isinstance(outcome, Error):
                return Read(None, outcome.error if isinstance(outcome.error, Exception) else unavailable())
            return Read(outcome.unwrap(), None)

        self.context.job(read, then=done)

    async def have_read(self, message: Read) -> None:
        """The row has changed, perhaps."""
        air = self.air
        if message.error is not None:
            self.context.timer(1.0, NOT_READ)
            return
        before, now = air.mount, message.mount
        if now is None or (now.state == "ended" and air.state != "ended"):
            await self.end()
            return
        air.mount = now
        self.directory.known(now)
        seat = air.seat
        if seat is not None and before is not None:
            if now.barred:
                self._show_out(seat, refusals.barred())
            elif now.key_hash != before.key_hash:
                self._show_out(seat, refusals.key_changed())
        if now.barred and air.state in ("live", "interrupted"):
            await self.end()  # nobody could come back to it in time
            return
        if before is not None and now.visibility == "private" and before.visibility != "private":
            self.turn_out_strangers()
        if not now.record:
            self.stop_recording()
        elif air.state == "live":
            self.record()
        if before is not None and now.title != before.title:
            self.tell_state()

    def _show_out(self, seat: Seat, reason: Refused) -> None:
        seat.show_out(reason)
        self.source_gone(seat)

    def sing(self, message: Sing) -> None:
        """Raises Refused: nobody broadcasts."""
        air = self.air
        if air.state != "live":
            raise refusals.offline()
        song = message.song[:SONG_LONGEST] if message.song else None
        if song == air.song:
            return
        air.song = song
        self.note("song", streams_db.song, self.stream_id, song)
        self.song_changed()

    # The other half provides ----------------------------------------------------------------------

    async def pass_on(self, now: float) -> None:
        raise NotImplementedError

    async def run_pass(self) -> None:
        raise NotImplementedError

    def tick_soon(self) -> None:
        raise NotImplementedError

    def tell_state(self) -> None:
        raise NotImplementedError

    def song_changed(self) -> None:
        raise NotImplementedError

    def part_listeners(self, patience: float) -> None:
        raise NotImplementedError

    def turn_out_strangers(self) -> None:
        raise NotImplementedError

    def restart_hls(self) -> None:
        raise NotImplementedError

    def stop_hls(self) -> None:
        raise NotImplementedError


class NotRead:
    """The time to read the row again has come."""


NOT_READ: Final = NotRead()
__all__ = ["NOT_READ", "Broadcasting", "NotRead"]
