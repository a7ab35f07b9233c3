"""What inspection shows, and how it is counted. Numbers and names only, never a message's content."""

from typing import Literal

import msgspec

State = Literal["starting", "running", "restarting", "stopping"]
Scalar = str | int | float | bool | None
Summary = dict[str, Scalar | list[Scalar]]


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    """How patient a supervisor is with one actor."""

    limit: int = 10
    """Crashes within `window` that are answered by a restart; the next one ends the actor for good."""
    window: float = 60.0
    """Seconds. Must exceed the sum of the pauses between `limit` crashes, or the limit is never reached."""
    first: float = 0.05
    """Seconds before the first restart; each further crash within the window doubles it."""
    longest: float = 5.0
    """Seconds no pause exceeds."""

    def pause(self, crashes: int) -> float:
        """Seconds to wait before the restart after so many crashes (at least one) within the window."""
        return float(min(self.longest, self.first * 2 ** min(crashes - 1, 63)))


class Failure(msgspec.Struct, frozen=True):
    """One crash."""

    error: str
    """The exception's type."""
    message: str
    """The type of the message that was being handled; empty when it was none."""
    at: float
    """Unix time, seconds."""


class MailboxInfo(msgspec.Struct, frozen=True):
    """The bounded lane and the reserved one."""

    depth: int
    """Messages waiting in the mailbox."""
    capacity: int
    peak: int
    """The most that ever waited."""
    lane: int
    """Answers, results and timers waiting in the reserved lane."""
    blocked: int
    """Tellers waiting for room."""


class HandlerTimes(msgspec.Struct, frozen=True):
    """Time from a handler's begin to its end, its own awaits included, in milliseconds."""

    mean: float
    """Over the actor's whole life."""
    p99: float
    """Over some ten thousand recent messages, exact to an eighth."""
    max: float


class ActorInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the tree: an actor, a supervisor or (path "") the system."""

    path: str
    kind: str
    """The actor's class, or "Supervisor", or "System"."""
    state: State
    summary: Summary
    mailbox: MailboxInfo | None = None
    """None for supervisors and inline actors."""
    handled: int
    """Messages handled. A supervisor's is the sum over its children, those that have ended included."""
    failures: int
    """Crashes (summed like `handled`)."""
    restarts: int
    """Incarnations after the first (summed like `handled`)."""
    handler_ms: HandlerTimes | None = None
    """None for supervisors, and until the first message."""
    busy_s: float = 0.0
    """Seconds spent in handlers (summed like `handled`)."""
    age_s: float
    jobs: int = 0
    """Jobs under way."""
    last_failures: tuple[Failure, ...] = ()
    child_count: int = 0
    children: tuple["ActorInfo", ...] = ()
    """At most what `depth` and `limit` allow; `child_count` is the truth."""


class Meter:
    """Counts one actor's handling. Kept small: an idle one holds no histogram."""

    __slots__ = ("_buckets", "_recent", "busy", "failures", "handled", "last_failures", "longest", "restarts")

    KEPT_FAILURES = 5
    # The histogram forgets by halving, so that p99 speaks of recent messages; 8 buckets an octave.
    HALVE_AT = 16384

    def __init__(self) -> None:
        self.handled = 0
        self.failures = 0
        self.restarts = 0
        self.busy = 0  # ns
        self.longest = 0  # ns
        self.last_failures: tuple[Failure, ...] = ()
        self._recent = 0
        self._buckets: dict[int, int] | None = None

    def record(self, ns: int) -> None:
        """Count one handled message that took so many nanoseconds."""
        self.handled += 1
        self.busy += ns
        if ns > self.longest:
            self.longest = ns
        buckets = self._buckets
        if buckets is None:
            buckets = self._buckets = {}
        # Octave and the three bits after the leading one: bucket b holds [8 + b % 8, 9 + b % 8) << (b // 8).
        octave = ns.bit_length() - 4
        bucket = (octave << 3) + (ns >> octave) - 8 if octave > 0 else ns - 8
        buckets[bucket] = buckets.get(bucket, 0) + 1
        self._recent += 1
        if self._recent >= self.HALVE_AT:
            self._buckets = {b: n // 2 for b, n in buckets.items() if n > 1}
            self._recent = sum(self._buckets.values())

    def fail(self, failure: Failure) -> None:
        self.failures += 1
        self.last_failures = (*self.last_failures, failure)[-self.KEPT_FAILURES :]

    def add(self, other: "Meter") -> None:
        """Take over the counts (not the times' distribution) of one that has ended."""
        self.handled += other.handled
        self.failures += other.failures
        self.restarts += other.restarts
        self.busy += other.busy

    def times(self) -> HandlerTimes | None:
        if not self.handled or not self._buckets:
            return None
        left = self._recent // 100  # how many may lie above the 99th percentile
        bucket = 0
        for bucket in sorted(self._buckets, reverse=True):
            left -= self._buckets[bucket]
            if left < 0:
                break
        top = ((9 + bucket % 8) << (bucket // 8)) if bucket >= 0 else bucket + 9
        return HandlerTimes(
            mean=self.busy / self.handled / 1e6,
            p99=min(top, self.longest) / 1e6,
            max=self.longest / 1e6,
        )
