"""One write per member: what became ready since the last pass is one blob, and everybody gets the same bytes.

When idle a pass follows at once; under load the next one waits about as long as the last one cost (at most
`max_wait`), so that it carries more. A pass over many members lets others run every few hundred writes.
"""

from __future__ import annotations

from typing import Any

import trio

from veza.actors.carried import Subscriber
from veza.actors.ports import Connection

YIELD_EVERY = 256


class Tally:
    """What all rooms together have done, for measurements."""

    def __init__(self) -> None:
        self.passes = 0
        self.writes = 0
        self.deliveries = 0  # frames times members


class Fanout:
    """The frames waiting for the next pass, and the passes.

    Subscribers and acknowledgements belong to the room's slot: they outlive a crash. Frames do not; those that matter
    can be had from the database.
    """

    def __init__(
        self,
        subscribers: dict[Connection, Subscriber],
        acks: dict[Connection, list[bytes]],
        max_wait: float,
        tally: Tally,
    ) -> None:
        self._tally = tally
        self.subscribers = subscribers
        self._acks = acks
        self._max_wait = max_wait
        self._pending: list[bytes] = []
        self._not_before = 0.0
        self.passes = 0
        self.last_cost = 0.0

    @property
    def waiting(self) -> bool:
        return bool(self._pending or self._acks)

    @property
    def busy(self) -> bool:
        """Does a pass cost so much that what can be dropped should be?"""
        return self.last_cost > self._max_wait

    def add(self, frame: bytes) -> None:
        """For everybody subscribed now."""
        self._pending.append(frame)

    def ack(self, connection: Connection, frame: bytes) -> None:
        """For one connection, before the blob of the same pass."""
        self._acks.setdefault(connection, []).append(frame)

    def take_acks(self, connection: Connection) -> bytes:
        """The acknowledgements that wait for one connection, for who sends it something else first."""
        return b"".join(self._acks.pop(connection, ()))

    def subscribe(self, connection: Connection, seq: int, rev: int) -> Subscriber:
        """From now on: frames added before are not for this connection."""
        subscriber = Subscriber(connection, seq, rev, len(self._pending))
        self.subscribers[connection] = subscriber
        return subscriber

    def delay(self) -> float:
        """Seconds until the next pass may start."""
        return max(0.0, self._not_before - trio.current_time())

    async def run(self, seq: int, rev: int) -> None:
        """One pass; afterwards everybody subscribed has been given all up to `seq` and `rev`."""
        frames, self._pending = self._pending, []
        acks = self._acks
        blob = b"".join(frames)
        began = trio.current_time()
        members = list(self.subscribers.values()) if frames else []
        for i, subscriber in enumerate(members, 1):
            part = blob
            if subscriber.skip:
                part = b"".join(frames[subscriber.skip :])
                subscriber.skip = 0
            if acks and (mine := acks.pop(subscriber.connection, None)):
                part = b"".join(mine) + part
            # Before the write: after a crash in the middle of a pass nobody is given anything twice.
            subscriber.sent = seq
            subscriber.sent_rev = rev
            if part:
                subscriber.outlet.post(part)
            if i % YIELD_EVERY == 0:
                await trio.lowlevel.checkpoint()
        while acks:  # of those who are not subscribed
            connection, mine = acks.popitem()
            connection.outlet.post(b"".join(mine))
        ended = trio.current_time()
        self.passes += 1
        self._tally.passes += 1
        self._tally.writes += len(members)
        self._tally.deliveries += len(members) * len(frames)
        self.last_cost = ended - began
        # A cheap pass needs no pause: waiting would only add latency.
        self._not_before = ended + min(self.last_cost, self._max_wait) if self.last_cost > 0.001 else 0.0

    def soft(self, frame: bytes, but: int) -> None:
        """A frame that may be lost, to all but one person's connections: typing and the like."""
        if self.busy:
            return
        for connection, subscriber in self.subscribers.items():
            if connection.user_id != but:
                subscriber.outlet.post(frame, droppable=True)

    def statistics(self) -> dict[str, Any]:
        return {
            "subscribers": len(self.subscribers),
            "frames_waiting": len(self._pending),
            "passes": self.passes,
            "last_pass_ms": round(self.last_cost * 1000, 3),
        }
