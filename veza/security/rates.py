"""How often somebody may do something: token buckets, and the guard before passwords.

Pure arithmetic on the clock it is given: no tasks, no sleeping, no I/O; used by REST and by sockets alike. Memory is
bounded: beyond `max_keys` the keys unused for longest are forgotten, which only ever favours whoever was quiet.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

Clock = Callable[[], float]


def neighbourhood(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one, because its holder has all of it."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


class Bucket:
    """One token bucket: `rate` tokens a second up to `burst`. For limits that belong to one object, like a socket."""

    __slots__ = ("_burst", "_clock", "_level", "_rate", "_stamp")

    def __init__(self, rate: float, burst: float, clock: Clock = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._level = float(burst)
        self._clock = clock
        self._stamp = clock()

    def take(self, amount: float = 1.0) -> float:
        """Take tokens now and return 0.0, or take none and return the seconds until they will be there."""
        now = self._clock()
        self._level = min(self._burst, self._level + max(0.0, now - self._stamp) * self._rate)
        self._stamp = now
        if self._level >= amount:
            self._level -= amount
            return 0.0
        if amount > self._burst or self._rate <= 0:
            return math.inf
        return (amount - self._level) / self._rate


class Buckets:
    """Token buckets by key (a user id, an address, a pair of them), made at first use.

    A bucket that would be full again is as good as none, so the oldest are dropped beyond `max_keys`.
    """

    def __init__(
        self, rate: float, burst: float, *, max_keys: int = 100_000, clock: Clock = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._max_keys = max_keys
        self._clock = clock
        self._state: OrderedDict[Hashable, tuple[float, float]] = (
            OrderedDict()
        )  # key → (level, when), oldest first

    def __len__(self) -> int:
        return len(self._state)

    def take(self, key: Hashable, amount: float = 1.0) -> float:
        """Take tokens of this key and return 0.0, or take none and return the seconds to wait."""
        now = self._clock()
        level, stamp = self._state.get(key, (self._burst, now))
        level = min(self._burst, level + max(0.0, now - stamp) * self._rate)
        granted = level >= amount
        if granted:
            level -= amount
        self._state[key] = (level, now)
        self._state.move_to_end(key)
        if len(self._state) > self._max_keys:
            self._state.popitem(last=False)
        if granted:
            return 0.0
        if amount > self._burst or self._rate <= 0:
            return math.inf
        return (amount - level) / self._rate

    def give_back(self, key: Hashable, amount: float = 1.0) -> None:
        """Undo a `take` that turned out not to count."""
        if key in self._state:
            level, stamp = self._state[key]
            self._state[key] = (min(self._burst, level + amount), stamp)

    def forget(self, key: Hashable) -> None:
        """Start this key anew, with a full bucket."""
        self._state.pop(key, None)


class _Tries:
    """One (account, address): when the recent tries were, until when it must wait, how long the next wait is."""

    __slots__ = ("before", "next_wait", "stamps", "until")

    def __init__(self, first_wait: float) -> None:
        self.stamps: list[float] = []
        self.until = 0.0
        self.next_wait = first_wait
        self.before: tuple[float, float] | None = None  # the two, before the one try that was let pass last


class LoginGuard:
    """Slows down whoever guesses passwords, and never locks an account's owner out.

    From one address an account takes `tries` wrong passwords in a `window`; then that address waits, and after every
    further wrong one it waits twice as long as the last time, up to `longest_wait`. Other addresses are not concerned.
    Wrong passwords from everywhere together make each answer for that account come later (`pause`), by a few seconds at
    most: many addresses guessing get slower, the owner gets in at every try. A right password ends all waits of its
    own address.
    """

    FREE_FAILURES: Final = 10  # from all addresses, before an account's answers come later
    LONGEST_PAUSE: Final = 4.0

    def __init__(
        self,
        tries: int = 5,
        *,
        window: float = 60.0,
        longest_wait: float = 900.0,
        max_keys: int = 50_000,
        clock: Clock = time.monotonic,
    ) -> None:
        self._tries = tries
        self._window = window
        self._longest_wait = longest_wait
        self._max_keys = max_keys
        self._clock = clock
        self._pairs: OrderedDict[tuple[Hashable, str], _Tries] = OrderedDict()
        self._failures: OrderedDict[Hashable, tuple[float, float]] = (
            OrderedDict()
        )  # account → (decaying count, when)

    def attempt(self, account: Hashable, address: str) -> float:
        """Call before a password is looked at: 0.0 counts a try and lets it pass, more is how long to wait.

        The try counts from here on, so that any number of them at the same moment are still only `tries`.
        """
        now = self._clock()
        pair = self._pairs.get((account, address))
        if pair is None:
            pair = self._pairs[account, address] = _Tries(self._window)
            if len(self._pairs) > self._max_keys:
                self._pairs.popitem(last=False)
        self._pairs.move_to_end((account, address))
        if pair.until > now:
            return pair.until - now
        if pair.until and now - pair.until > self._longest_wait + self._window:  # quiet for long: forgiven
            pair.until, pair.next_wait, pair.before = 0.0, self._window, None
        if pair.until:
            # It has waited before: one try, then the next wait, which is longer.
            before = pair.until, pair.next_wait
            self._wait(pair, now)
            pair.before = before
            return 0.0
        pair.stamps = [stamp for stamp in pair.stamps if now - stamp < self._window]
        if len(pair.stamps) >= self._tries:
            self._wait(pair, now)
            return pair.until - now
        pair.stamps.append(now)
        return 0.0

    def _wait(self, pair: _Tries, now: float) -> None:
        pair.until = now + pair.next_wait
        pair.next_wait = min(self._longest_wait, pair.next_wait * 2)
        pair.stamps.clear()
        pair.before = None

    def failed(self, account: Hashable) -> None:
        """The password was wrong."""
        now = self._clock()
        self._failures[account] = (self._recent(account, now) + 1.0, now)
        self._failures.move_to_end(account)
        if len(self._failures) > self._max_keys:
            self._failures.popitem(last=False)

    def succeeded(self, account: Hashable, address: str) -> None:
        """The password was right: this address starts anew. Others who guess at the account do not."""
        self._pairs.pop((account, address), None)

    def uncounted(self, account: Hashable, address: str) -> None:
        """The try could not be judged (the database was away, too many waited, half of a login is missing): take it
        back."""
        pair = self._pairs.get((account, address))
        if pair is not None and pair.before is not None:
            (pair.until, pair.next_wait), pair.before = pair.before, None
        elif pair is not None and pair.stamps:
            pair.stamps.pop()

    def pause(self, account: Hashable) -> float:
        """Seconds an answer about this account should be held back now; 0.0 unless it is under attack."""
        over = self._recent(account, self._clock()) - self.FREE_FAILURES
        return 0.0 if over <= 0 else min(self.LONGEST_PAUSE, 0.1 * over)

    def _recent(self, account: Hashable, now: float) -> float:
        count, stamp = self._failures.get(account, (0.0, now))
        return count * math.exp2(-(now - stamp) / (5 * self._window))  # halves every five windows
