"""One task for all timers of a system, because a task per timer would cost more than what it waits for."""

import heapq
import itertools
import math
from collections.abc import Callable

import trio


class Alarm:
    """One appointment; `cancel` is final and may come at any time."""

    __slots__ = ("_clock", "ring")

    def __init__(self, clock: "Clock", ring: Callable[[], None]) -> None:
        self._clock = clock
        self.ring: Callable[[], None] | None = ring

    def cancel(self) -> None:
        if self.ring is not None:
            self.ring = None
            self._clock.cancelled()


class Clock:
    """Calls plain functions at their time. They must not block and must not raise."""

    # Cancelled alarms stay in the heap until due; beyond this many, and half of the heap, they are swept out.
    SWEEP: int = 64

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._dead = 0
        # Invariant while `run` sleeps: its deadline is not later than the heap's first entry.
        self._sleep = trio.CancelScope()

    def schedule(self, seconds: float, ring: Callable[[], None]) -> Alarm:
        """Call `ring` once, so many seconds from now (never synchronously)."""
        when = trio.current_time() + seconds
        alarm = Alarm(self, ring)
        heapq.heappush(self._heap, (when, next(self._order), alarm))
        if when < self._sleep.deadline:
            self._sleep.deadline = when
        return alarm

    def cancelled(self) -> None:
        self._dead += 1
        if self._dead > self.SWEEP and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].ring is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now = trio.current_time()
            while self._heap and self._heap[0][0] <= now:
                alarm = heapq.heappop(self._heap)[2]
                ring, alarm.ring = alarm.ring, None
                if ring is None:
                    self._dead -= 1
                else:
                    ring()
            with trio.CancelScope(deadline=self._heap[0][0] if self._heap else math.inf) as self._sleep:
                await trio.sleep_forever()
