"""The seat of a source: at most one is taken per stream, and whoever sits in it may be shown out at any moment."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import trio

from veza.actors.errors import Refused


class Announced(msgspec.Struct, frozen=True):
    """What a source says of what it will send. Only the first can matter to us, the others are for listeners."""

    content_type: str | None = None
    genre: str | None = None
    bit_rate: int | None = None  # kbit/s


class Seat:
    """One connection that broadcasts, or would like to.

    Args:
        shown_out: called when the source must go, with the reason; it ends the connection.
    """

    __slots__ = ("announced", "ended", "gather", "heard", "last", "patience", "reason", "shown_out")

    def __init__(self, announced: Announced, shown_out: Callable[[], None]) -> None:
        self.announced = announced
        self.shown_out = shown_out
        self.heard = False  # something of it could be listened to
        self.last = trio.current_time()  # of the last bytes
        self.ended = False
        # With many listeners every arrival is followed by work for them, and two at once by no more than one: so the
        # stream would like to get so many bytes at once, if they come within so many seconds.
        self.gather = 1
        self.patience = 0.0
        self.reason: Refused | None = None

    def show_out(self, reason: Refused) -> None:
        """End it; nothing it sends counts any more."""
        if not self.ended:
            self.ended = True
            self.reason = reason
            self.shown_out()
