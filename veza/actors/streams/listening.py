"""A stream's listeners: how they come, are served and leave; live HLS; and the second's beat.

Passes run in the actor's task and let others run in between; a listener who cannot take more waits in a job of his own
until his line can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from outcome import Error, Outcome

from veza.actors.frames import frame
from veza.actors.streams import refusals
from veza.actors.streams.base import StreamBase, log
from veza.actors.streams.hls import HlsFeed, Viewers, finish, remove
from veza.actors.streams.listener import Listener, Progressive, Socketed
from veza.actors.streams.messages import (
    HlsCleared,
    HlsOver,
    LiveInfo,
    Pass,
    RemovePlaylist,
    Tick,
    WatchHls,
    Writable,
)
from veza.actors.streams.seat import Seat

SECOND: Final = 1.0
GATHERED: Final = 0.04  # seconds bytes must wait in any case before they are let gather at the source
GATHER_MOST: Final = 32 * 1024  # bytes
STORED_EVERY: Final = 10  # seconds between two notes of what was counted
HLS_AHEAD: Final = 3  # segments a new child is given at once
HLS_PAUSE: Final = 10.0  # seconds after which what failed is tried again, if somebody still watches


class PartNow:
    """Those who have not heard the end by now will not."""


class Listening(StreamBase):
    """The part that knows listeners."""

    beats = 0

    # Coming and going -----------------------------------------------------------------------------

    def describe(self) -> LiveInfo:
        """Raises Refused."""
        self._must_be_on_air()
        return self.live_info()

    def listen(self, listener: Listener) -> None:
        """Raises Refused. Who comes by a WebSocket may wait for the stream to begin."""
        air, fanout = self.air, self.fanout
        if air.closing:
            raise refusals.going()
        if listener.kind == "socket":
            if air.state == "ended":
                raise refusals.over()
        else:
            self._must_be_on_air()
        if len(fanout) >= self.settings.stream_listeners_max:
            raise refusals.full()
        if isinstance(listener, Progressive):
            listener.song = air.song
        opening = fanout.ring.opening(self.settings.stream_burst, fanout.place(listener), air.since)
        listener.begin(self.live_info(), opening)
        if opening is None:
            air.unbegun[listener] = None
        listener.tell(self.state_frame())
        fanout.catch_up(listener)
        air.counts.listeners += 1
        self.count_minute(self.listener_count)
        self.tick_soon()

    def left(self, listener: Listener) -> None:
        """His connection has ended."""
        self.fanout.remove(listener)
        self.air.unbegun.pop(listener, None)

    def lost(self, listener: Listener) -> None:
        self.left(listener)
        if listener.kind == "progressive":
            listener.part()  # wakes the connection's task, which finds the line dead

    def writable(self, message: Writable) -> None:
        listener = message.listener
        listener.waiting = False
        if listener in self.fanout.behind:
            self.fanout.catch_up(listener)
            self._part_the_served()

    def wake_when_writable(self, listener: Progressive) -> None:
        """He is full: hear of it when he can take more."""

        async def wait() -> None:
            await listener.line.wait_writable()

        # His line may be closed meanwhile; whatever the outcome, the next write will tell.
        self.context.job(wait, then=partial(_writable, listener))

    def turn_out_strangers(self) -> None:
        """The stream is private now. Who may listen all the same comes back with what lets him in."""
        for listener in self.fanout.everybody():
            self.left(listener)
            listener.part()

    def _must_be_on_air(self) -> None:
        if self.air.closing:
            raise refusals.going()
        if self.air.state == "ended":
            raise refusals.over()
        if self.air.state == "created":
            raise refusals.offline()

    # Passes ---------------------------------------------------------------------------------------

    async def pass_on(self, now: float) -> None:
        """Bytes came at `now`: give them to whom it is time to give them."""
        fanout = self.fanout
        if due := fanout.came(now):
            await fanout.run(now, self.again(), due)
        self._pass_later()
        if (seat := self.air.seat) is not None:
            self._pace(seat)

    def _pace(self, seat: Seat) -> None:
        """How much the source may let gather: what comes in half the time that bytes wait in any case."""
        air, pause = self.air, self.fanout.pause
        if pause >= GATHERED and air.duration > 1.0:
            seat.gather = min(GATHER_MOST, int(air.bytes / air.duration * pause / 2))
            seat.patience = pause * 0.75
        else:
            seat.gather = 1

    async def late_pass(self) -> None:
        """No more came, and what is there has waited for long enough."""
        self.pass_timer = None
        now = trio.current_time()
        if due := self.fanout.overdue(now):
            await self.fanout.run(now, self.again(), due)
        self._pass_later()

    def _pass_later(self) -> None:
        if self.pass_timer is None and (delay := self.fanout.delay(trio.current_time())) is not None:
            self.pass_in(delay)

    async def run_pass(self) -> None:
        """Everything to everybody."""
        await self.fanout.run(trio.current_time(), self.again())

    def pass_in(self, delay: float) -> None:
        self.pass_timer = self.context.timer(delay, Pass())

    def again(self) -> bool:
        """Does somebody who is taken over a gap need the container's header again? An Ogg page or a frame of sound
        stands by itself; a WebM block does not."""
        kind = (self.air.content_type or "").partition(";")[0]
        return not kind.endswith("/ogg")

    # The end --------------------------------------------------------------------------------------

    def part_listeners(self, patience: float) -> None:
        """No more comes: part from those who have all of it, now, and from the others when they do."""
        for listener in list(self.air.unbegun):
            self.left(listener)
            listener.part()
        for listener in [listener for listener in self.fanout.behind if not listener.waiting]:
            self.fanout.catch_up(listener)
        self._part_the_served()
        self._part_later(patience)

    def wait_again(self, patience: float) -> None:
        """After a crash: what was waited for is waited for anew."""
        air = self.air
        if air.closing or air.state == "ended":
            self._part_later(patience)
        if air.hls is not None and air.hls.failed:
            self._try_later(air.hls)
        if air.playlist_left:
            self._remove_later()

    def _part_later(self, patience: float) -> None:
        if self.fanout.behind:
            self.context.timer(patience, PartNow())

    def part_now(self) -> None:
        for listener in list(self.fanout.behind):
            self.left(listener)
            listener.cut()

    def _part_the_served(self) -> None:
        if self.air.closing or self.air.state == "ended":
            for listener in self.fanout.caught_up():
                self.left(listener)
                listener.part()

    # What is told ---------------------------------------------------------------------------------

    def tell_state(self) -> None:
        self.tell_all(self.state_frame())

    def song_changed(self) -> None:
        song = self.air.song
        for listener in self.fanout.everybody():
            if isinstance(listener, Progressive):
                listener.song = song
        self.tell_all(frame("metadata", {"song": song}))

    # The beat -------------------------------------------------------------------------------------

    def tick_soon(self) -> None:
        if self.tick_timer is None:
            self.tick_timer = self.context.timer(SECOND, Tick())

    def tick(self) -> None:
        """Once a second, while there is anything to count."""
        air, fanout = self.air, self.fanout
        self.tick_timer = None
        self.beats += 1
        listeners = self.listener_count
        air.counts.listened += listeners * SECOND
        if air.viewers is not None:
            air.counts.listeners += air.viewers.came
            air.viewers.came = 0
        self.count_minute(listeners)
        if listeners != self.told_count:
            self.told_count = listeners
            self.tell_all(frame("listener_count", {"listeners": listeners}))
        for listener in [one for one in fanout.behind if type(one) is Socketed]:
            fanout.catch_up(listener)
        self._part_the_served()
        if self.beats % STORED_EVERY == 0:
            self.count_up()
        now = trio.current_time()
        if air.viewers is not None and now - air.viewers.last > self.settings.stream_hls_idle:
            self.stop_hls()
        if air.state == "live" or air.seat is not None or len(fanout) or air.hls is not None or listeners:
            self.tick_soon()
        else:
            self.count_up(last=air.state == "ended")

    # Live HLS -------------------------------------------------------------------------------------

    def watch_hls(self, message: WatchHls) -> None:
        """Somebody looks at the playlist. Raises Refused."""
        air = self.air
        if air.state == "ended" and (air.playlist_left or air.hls is not None):
            return  # its end is still to be had
        self._must_be_on_air()
        if air.viewers is None:
            air.viewers = Viewers(3 * self.settings.stream_hls_segment + 4)
        air.viewers.see(message.viewer, trio.current_time())
        self._start_hls()
        self.tick_soon()

    def _start_hls(self) -> None:
        air, ring = self.air, self.fanout.ring
        if air.hls is not None or air.state != "live" or air.content_type is None:
            return
        feed = HlsFeed(self.library.stream(self.mount.slug), air.content_type, self.make_hls)
        rate = air.bytes / air.duration if air.duration else 16_000
        opening = ring.opening(int(rate * HLS_AHEAD * self.settings.stream_hls_segment), ring.end, air.since)
        if opening is not None:
            feed.add(opening.header + ring.read(opening.at, ring.end))
        air.hls = feed

        def ended(outcome: Outcome[Any]) -> HlsOver:
            error = outcome.error if isinstance(outcome, Error) else None
            return HlsOver(feed, error if isinstance(error, Exception) else None)

        self.context.job(feed.run, then=ended)

    def restart_hls(self) -> None:
        """Another source: its times begin anew, so the child does too, once the one before has ended."""
        if self.air.hls is not None:
            self.air.hls.close()

    def stop_hls(self) -> None:
        """Nobody watches, or nothing comes any more."""
        if self.air.hls is not None:
            self.air.hls.close()

    def hls_over(self, message: HlsOver) -> None:
        """A child has ended; it keeps its place until what it made is dealt with."""
        air, feed = self.air, self.air.hls
        if feed is None or feed is not message.feed:
            return
        if message.error is not None:
            log.error("live HLS failed", stream=self.stream_id, error=str(message.error)[:200])
            feed.failed = True
            self._try_later(feed)
        elif air.closing or (self._watched() and air.state != "ended"):
            air.hls = None  # the next one goes on with the same list
            self._start_hls()
        else:
            job = finish if air.state == "ended" else remove
            self.context.job(self._deal_with_hls, job, then=partial(_cleared, feed))

    async def _deal_with_hls(self, job: Callable[[Path], None]) -> None:
        await trio.to_thread.run_sync(job, self.library.stream(self.mount.slug))

    def hls_cleared(self, message: HlsCleared) -> None:
        air = self.air
        if message.feed is None or air.hls is not message.feed:
            return  # None: the playlist of a stream that has ended is gone, and nothing follows
        air.hls = None
        if air.state == "ended":
            air.playlist_left = True
            self._remove_later()
        elif self._watched():
            self._start_hls()

    def _try_later(self, feed: HlsFeed) -> None:
        self.context.timer(HLS_PAUSE, HlsCleared(feed))

    def _remove_later(self) -> None:
        self.context.timer(self.settings.stream_hls_idle, RemovePlaylist())

    def remove_playlist(self) -> None:
        """Whoever wanted to hear the end has."""
        if self.air.playlist_left:
            self.air.playlist_left = False
            self.context.job(self._deal_with_hls, remove, then=partial(_cleared, None))

    def _watched(self) -> bool:
        viewers = self.air.viewers
        return viewers is not None and trio.current_time() - viewers.last < self.settings.stream_hls_idle


def _writable(listener: Listener, outcome: Outcome[Any]) -> Writable:
    return Writable(listener)


def _cleared(feed: HlsFeed | None, outcome: Outcome[Any]) -> HlsCleared:
    return HlsCleared(feed)


__all__ = ["Listening", "PartNow"]
