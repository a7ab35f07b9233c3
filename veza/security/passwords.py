"""Passwords: hashed with argon2id, checked in threads, and never more of them at once than the machine should bear.

A hash costs 19 MiB and some 20 ms on purpose. So two are worked on at a time, at most `waiting` callers queue, and the
rest hear `Busy` at once, which is better than a queue that outlives everybody's patience. An account that does not
exist costs the same as one that does. The plain text is never kept, logged or put into an error.
"""

from __future__ import annotations

from typing import Final

import argon2
import bcrypt
import msgspec
import trio

_BCRYPT: Final = ("$2a$", "$2b$", "$2y$")
_BCRYPT_BYTES: Final = 72  # bcrypt reads no further; its newer versions refuse instead


class Busy(Exception):
    """Too many passwords wait to be checked already; try again in a moment."""


class Verdict(msgspec.Struct, frozen=True):
    """`outdated`: the password is right, and its hash should be made anew with today's costs."""

    right: bool
    outdated: bool = False


class Passwords:
    """Hashes and verifies. One per process, because its limits are the process's.

    Args:
        memory_kib, time_cost: argon2id's costs (OWASP's choice with one lane: 19456 and 2).
        workers: hashes computed at once.
        waiting: callers that may queue behind those.
    """

    def __init__(
        self, memory_kib: int = 19 * 1024, time_cost: int = 2, *, workers: int = 2, waiting: int = 50
    ) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=1)
        self._limiter = trio.CapacityLimiter(workers)
        self._waiting = waiting
        # What the password of an unknown account is compared with, at the same costs as a real one.
        self._nobody = self._hasher.hash("nobody has this password")

    @property
    def waiting(self) -> int:
        """Callers queueing now."""
        return self._limiter.statistics().tasks_waiting

    async def hash(self, password: str) -> str:
        """Raises Busy. Cancelled, it gives up only after the hash in hand is done (some 20 ms)."""
        self._admit()
        return await trio.to_thread.run_sync(self._hasher.hash, password, limiter=self._limiter)

    async def verify(self, password: str, stored: str | None) -> Verdict:
        """Whether this is the password behind `stored`; `None` means no such account, and takes as long.

        Raises Busy.
        """
        self._admit()
        return await trio.to_thread.run_sync(self._verify, password, stored, limiter=self._limiter)

    def _admit(self) -> None:
        if self._limiter.statistics().tasks_waiting >= self._waiting:
            raise Busy

    def _verify(self, password: str, stored: str | None) -> Verdict:
        if stored is not None and stored.startswith(_BCRYPT):
            try:
                right = bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], stored.encode())
            except ValueError:  # a damaged hash, or a NUL in the password
                return Verdict(right=False)
            return Verdict(right=right, outdated=right)
        known = stored is not None and stored.startswith("$argon2")
        try:
            self._hasher.verify(stored if known and stored is not None else self._nobody, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return Verdict(right=False)
        if not known or stored is None:  # somebody typed nobody's password
            return Verdict(right=False)
        return Verdict(right=True, outdated=self._hasher.check_needs_rehash(stored))
