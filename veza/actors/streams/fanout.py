"""One write per listener: what has gathered since the last pass is one blob, and everybody gets the same bytes.

Who has taken all so far is `caught up`; who has not is `behind`, and catches up at the pace of his line. A pass over
many costs much, so the next one waits the longer the dearer the last was (a sixteenth of the time at most is spent
on passes, until the longest wait is reached): few hear at once, many cost no more than they must.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import trio

from veza.actors.streams.listener import Listener, Progressive
from veza.actors.streams.ring import Opening, Ring

YIELD_EVERY: Final = 256
SHARE: Final = 16
SLACK: Final = 1.2


class Tally:
    """What all streams together have done, for measurements."""

    def __init__(self) -> None:
        self.passes = 0
        self.writes = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped = 0  # listeners who were too slow
        self.moved = 0  # listeners who were taken over a gap


class Fanout:
    """The listeners of one stream.

    Args:
        wait: longest time between two passes, seconds.
        lost: told of a listener whose connection turned out to be dead, or who was too slow.
        wake: told of a listener who can be served no further until his line takes more.
    """

    def __init__(
        self,
        ring: Ring,
        wait: float,
        tally: Tally,
        lost: Callable[[Listener], None],
        wake: Callable[[Progressive], None],
    ) -> None:
        self.ring = ring
        self.passed = ring.end  # the place up to which those who are caught up have been given all
        self.caught: dict[Listener, None] = {}
        self.behind: dict[Listener, None] = {}
        self.last_cost = 0.0
        self._wait = wait
        self._tally = tally
        self._lost = lost
        self._wake = wake
        self._oldest: float | None = None  # when the oldest bytes that wait came
        self._last_came = -1e9
        self._gap = 1.0  # between two arrivals, seconds, lately

    def __len__(self) -> int:
        return len(self.caught) + len(self.behind)

    @property
    def pause(self) -> float:
        """How long the oldest bytes wait for others before a pass, seconds."""
        return min(self._wait, SHARE * self.last_cost)

    def came(self, now: float) -> float:
        """Bytes were appended now; how long until a pass is due: 0.0 at once.

        What comes with a beat is passed on with a beat: at the last arrival that is not yet too late for the oldest.
        """
        self._gap += (min(1.0, now - self._last_came) - self._gap) / 4
        self._last_came = now
        if self._oldest is None:
            self._oldest = now
        waited, pause = now - self._oldest, self.pause
        if not len(self) or waited + self._gap > pause:
            return 0.0
        return pause * SLACK - waited  # the beat may falter

    def belongs_to(self, lost: Callable[[Listener], None], wake: Callable[[Progressive], None]) -> None:
        """Another incarnation of the actor is told from now on."""
        self._lost, self._wake = lost, wake

    def add(self, listener: Listener) -> None:
        """One more; it has begun. What can be written is written at once."""
        self.behind[listener] = None
        self.catch_up(listener)

    def remove(self, listener: Listener) -> bool:
        """Whether it was one of ours."""
        caught, behind = self.caught.pop(listener, self), self.behind.pop(listener, self)
        return caught is None or behind is None

    def catch_up(self, listener: Listener) -> None:
        """Give somebody who is behind what he takes."""
        try:
            done = listener.serve(self.ring, self.passed)
        except OSError:
            self._lost(listener)
            return
        if not done:
            if isinstance(listener, Progressive) and not listener.waiting:
                listener.waiting = True
                self._wake(listener)
        elif listener.at == self.passed:
            del self.behind[listener]
            self.caught[listener] = None

    async def run(self, now: float, again: bool) -> None:
        """One pass. Afterwards everybody has been given all there is, but for those behind.

        Args:
            again: somebody who is taken over a gap needs the container's header once more.
        """
        start, stop = self.passed, self.ring.end
        self.passed = stop
        self._oldest = None
        began = time.perf_counter()
        if stop > start:
            await self._spread(start, stop)
        self._retire(now, again)
        for listener in list(self.behind):
            if not listener.waiting:
                self.catch_up(listener)
        self.last_cost = time.perf_counter() - began
        self._tally.passes += 1

    async def _spread(self, start: int, stop: int) -> None:
        ring = self.ring
        blob = ring.read(start, stop)
        size = len(blob)
        listeners = list(self.caught)
        self._tally.writes += len(listeners)
        self._tally.bytes_out += len(listeners) * size
        for i, listener in enumerate(listeners, 1):
            try:
                if type(listener) is Progressive and listener.icy is None:
                    # The beaten path: one write, and a number.
                    line = listener.line
                    taken = line.write(blob)
                    listener.at = start + taken
                    done = taken == size and not line.unsent
                else:
                    done = listener.serve(ring, stop)
            except OSError:
                self._lost(listener)
            else:
                if not done:
                    self.caught.pop(listener, None)
                    self.behind[listener] = None
                    if type(listener) is Progressive:
                        listener.waiting = True
                        self._wake(listener)
            if i % YIELD_EVERY == 0:
                await trio.lowlevel.checkpoint()

    def _retire(self, now: float, again: bool) -> None:
        """Let the ring forget; who still needed what it forgets goes on at the newest key point, once."""
        ring = self.ring
        horizon = ring.horizon(now)
        if horizon == ring.start:
            return
        key = ring.newest_key
        opening: Opening | None = None
        for listener in [listener for listener in self.behind if 0 <= listener.at < horizon]:
            if listener.moved or key is None or key < horizon:
                self._tally.dropped += 1
                listener.cut()
                self._lost(listener)
                continue
            opening = opening or ring.opening_at(key)
            listener.jump(ring, opening, again=again)
            self._tally.moved += 1
        ring.trim(horizon)
