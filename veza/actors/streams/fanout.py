"""One write per listener: what has gathered since the last pass is one blob, and everybody gets the same bytes.

Who has taken all so far is `caught up`; who has not is `behind`, and catches up at the pace of his line. A pass over
many costs much, so bytes wait for others the longer the dearer a round of passes was (a sixteenth of the time at most
is spent on passes, until the longest wait is reached): few hear at once, many cost no more than they must.

Many are divided into cohorts whose passes take turns, one at each arrival of bytes. Nobody waits longer for that, and
nobody waits for all the others to be served either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final

import trio

from veza.actors.streams.listener import Listener, Progressive
from veza.actors.streams.ring import Opening, Ring

YIELD_EVERY: Final = 256
COHORTS: Final = 2  # more would wake readers more often, fewer would let bytes wait longer
COHORT: Final = 256  # listeners of the first cohort before there is a second
SHARE: Final = 16
SLACK: Final = 1.2  # the beat may falter


class Tally:
    """What all streams together have done, for measurements."""

    def __init__(self) -> None:
        self.passes = 0
        self.writes = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped = 0  # listeners who were too slow
        self.moved = 0  # listeners who were taken over a gap


Send = Callable[[bytes], int]


class Cohort:
    """Listeners who are served together.

    Attributes:
        passed: the place up to which all of them have been given the stream.
        oldest: when the oldest bytes came that they have not.
    """

    __slots__ = ("caught", "cost", "oldest", "passed", "plain", "size")

    def __init__(self, place: int) -> None:
        self.passed = place
        self.oldest: float | None = None
        self.size = 0  # with those behind
        self.cost = 0.0  # of its last pass, seconds
        # Caught up: those who need no more than one call for a blob, by that call; and the others. The place of the
        # former is `passed`; their own is not kept up to date, which would cost a look at each of them at each pass.
        self.plain: dict[Send, Progressive] = {}
        self.caught: dict[Listener, None] = {}


class Fanout:
    """The listeners of one stream.

    Args:
        wait: longest time bytes wait for others, seconds.
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
        self.behind: dict[Listener, None] = {}
        self._cohorts = [Cohort(ring.end) for _ in range(COHORTS)]
        self._of: dict[Listener, Cohort] = {}
        self._wait = wait
        self._tally = tally
        self._lost = lost
        self._wake = wake
        self._arrivals = 0
        self._last_came = -1e9
        self._gap = 1.0  # between two arrivals, seconds, lately

    def __len__(self) -> int:
        return len(self._of)

    def __contains__(self, listener: Listener) -> bool:
        return listener in self._of

    def everybody(self) -> list[Listener]:
        return list(self._of)

    def caught_up(self) -> list[Listener]:
        return [one for cohort in self._cohorts for one in (*cohort.plain.values(), *cohort.caught)]

    @property
    def last_cost(self) -> float:
        """What a round over everybody took, seconds."""
        return sum(cohort.cost for cohort in self._cohorts)

    # Who listens ----------------------------------------------------------------------------------

    def belongs_to(self, lost: Callable[[Listener], None], wake: Callable[[Progressive], None]) -> None:
        """Another incarnation of the actor is told from now on. A pass may have been left half-way."""
        self._lost, self._wake = lost, wake
        for cohort in self._cohorts:
            for listener in list(cohort.caught):
                if listener.at != cohort.passed:
                    self._fall_behind(cohort, listener)

    def place(self, listener: Listener) -> int:
        """Choose a cohort for one more; the place up to which that has been served."""
        used = self._cohorts[: 1 + len(self._of) // COHORT]
        cohort = min(used, key=lambda one: one.size)
        cohort.size += 1
        self._of[listener] = cohort
        self.behind[listener] = None
        return cohort.passed

    def remove(self, listener: Listener) -> bool:
        """Whether it was one of ours."""
        cohort = self._of.pop(listener, None)
        if cohort is None:
            return False
        cohort.size -= 1
        cohort.caught.pop(listener, None)
        self.behind.pop(listener, None)
        if isinstance(listener, Progressive) and listener.send is not None:
            del cohort.plain[listener.send]
            listener.send = None
        return True

    def catch_up(self, listener: Listener) -> None:
        """Give somebody who is behind what he takes."""
        cohort = self._of[listener]
        try:
            done = listener.serve(self.ring, cohort.passed)
        except OSError:
            self._lost(listener)
            return
        if not done:
            if isinstance(listener, Progressive) and not listener.waiting:
                listener.waiting = True
                self._wake(listener)
        elif listener.at == cohort.passed:
            del self.behind[listener]
            if isinstance(listener, Progressive) and listener.icy is None:
                listener.send = listener.line.direct
                if listener.send is not None:
                    cohort.plain[listener.send] = listener
                    return
            cohort.caught[listener] = None

    def _fall_behind(self, cohort: Cohort, listener: Listener) -> None:
        cohort.caught.pop(listener, None)
        self.behind[listener] = None

    def _plain_falls_behind(self, cohort: Cohort, send: Send, at: int) -> None:
        listener = cohort.plain.pop(send)
        listener.send = None
        listener.at = at
        self.behind[listener] = None
        if not listener.waiting:
            listener.waiting = True
            self._wake(listener)

    def restart(self) -> None:
        """The ring has been cleared: all that is left begin anew."""
        for cohort in self._cohorts:
            for send, listener in list(cohort.plain.items()):
                del cohort.plain[send]
                listener.send = None
                if listener.at >= 0:  # else he begins anew
                    listener.at = self.ring.end
                self.behind[listener] = None
            cohort.passed = self.ring.end
            cohort.oldest = None
            for other in list(cohort.caught):
                self._fall_behind(cohort, other)

    # Passes ---------------------------------------------------------------------------------------

    @property
    def pause(self) -> float:
        """How long the oldest bytes wait for others before a pass, seconds."""
        return min(self._wait, SHARE * self.last_cost)

    def came(self, now: float) -> list[Cohort]:
        """Bytes were appended that came at `now`: whose turn it is.

        What comes with a beat is passed on with a beat: at the last arrival that is not yet too late for the oldest.
        """
        self._gap += (min(1.0, max(0.0, now - self._last_came)) - self._gap) / 8
        self._last_came = now
        self._arrivals += 1
        pause, gap = self.pause, self._gap
        beats = 1 + int(pause / gap) if gap > 0 else 1 + COHORTS
        beat = self._arrivals % beats
        due = []
        for nth, cohort in enumerate(self._cohorts):
            if not cohort.size:
                cohort.passed = self.ring.end
                cohort.oldest = None
                continue
            if cohort.oldest is None:
                cohort.oldest = now
            if nth * beats // COHORTS == beat or now - cohort.oldest + gap > pause * SLACK:
                due.append(cohort)
        return due

    def overdue(self, now: float) -> list[Cohort]:
        """Whose bytes have waited for long enough, though no others came."""
        latest = now - self.pause * SLACK + 0.0005
        return [one for one in self._cohorts if one.oldest is not None and one.oldest <= latest]

    def delay(self, now: float) -> float | None:
        """Seconds until somebody is overdue; None while nothing waits."""
        waiting = [cohort.oldest for cohort in self._cohorts if cohort.oldest is not None]
        return max(0.0, min(waiting) + self.pause * SLACK - now) if waiting else None

    async def run(self, now: float, again: bool, cohorts: Iterable[Cohort] | None = None) -> None:
        """Passes over some cohorts, or all: afterwards theirs have been given all there is, but for those behind.

        Args:
            again: somebody who is taken over a gap needs the container's header once more.
        """
        for cohort in self._cohorts if cohorts is None else cohorts:
            start, stop = cohort.passed, self.ring.end
            cohort.passed = stop
            cohort.oldest = None
            if stop > start and (cohort.plain or cohort.caught):
                began = time.perf_counter()
                await self._spread(cohort, start, stop)
                cohort.cost = time.perf_counter() - began
                self._tally.passes += 1
            elif not cohort.size:
                cohort.cost = 0.0
        self._retire(now, again)
        for listener in list(self.behind):
            if not listener.waiting and listener in self.behind:
                self.catch_up(listener)

    async def _spread(self, cohort: Cohort, start: int, stop: int) -> None:
        blob = self.ring.read(start, stop)
        self._tally.writes += len(cohort.plain) + len(cohort.caught)
        self._tally.bytes_out += (len(cohort.plain) + len(cohort.caught)) * len(blob)
        await self._spread_plain(cohort, blob, start)
        for i, listener in enumerate(list(cohort.caught), 1):
            try:
                done = listener.serve(self.ring, stop)
            except OSError:
                self._lost(listener)
                continue
            if not done:
                self._fall_behind(cohort, listener)
                if isinstance(listener, Progressive):
                    listener.waiting = True
                    self._wake(listener)
            if i % YIELD_EVERY == 0:
                await trio.lowlevel.checkpoint()

    async def _spread_plain(self, cohort: Cohort, blob: bytes, start: int) -> None:
        """The beaten path: one call into the kernel each, and nothing else is looked at while it takes all."""
        size = len(blob)
        sends = list(cohort.plain)
        served = -1
        try:
            for first in range(0, len(sends), YIELD_EVERY):
                if first:
                    await trio.lowlevel.checkpoint()
                for served, send in enumerate(sends[first : first + YIELD_EVERY], first):  # noqa: B007
                    try:
                        if (taken := send(blob)) == size:
                            continue
                    except BlockingIOError:
                        taken = 0
                    except OSError:
                        self._lost(cohort.plain[send])
                        continue
                    self._plain_falls_behind(cohort, send, start + taken)
        except BaseException:
            # Whatever this was, those who have not been served have not been served. (The one it happened at has.)
            for send in sends[served + 1 :]:
                if send in cohort.plain:
                    self._plain_falls_behind(cohort, send, start)
            raise

    def _retire(self, now: float, again: bool) -> None:
        """Let the ring forget; who still needed what it forgets goes on at the newest key point, once."""
        ring = self.ring
        horizon = min(ring.horizon(now), *(one.passed for one in self._cohorts))
        if horizon <= ring.start:
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
