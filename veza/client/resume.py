"""Where one room's stream of messages stands: what is delivered, what came early, what is missing.

Numbers of a room are gapless, so `last_seq` says all: a message at or below it is a repetition, the next one is due,
one beyond it waits until what lies between has been fetched. Pure bookkeeping, no I/O.
"""

from veza.client.frames import DirectMessage, RoomMessage

AnyMessage = RoomMessage | DirectMessage


class Cursor:
    """One room's place. After any sequence of `offer` and `skip`, what was delivered is gapless and without repetition.

    Attributes:
        last_seq: the last message delivered.
        last_rev: the last change delivered.
    """

    __slots__ = ("_early", "last_rev", "last_seq")

    def __init__(self, last_seq: int, last_rev: int = 0) -> None:
        self.last_seq = last_seq
        self.last_rev = last_rev
        self._early: dict[int, AnyMessage] = {}

    def offer(self, message: AnyMessage) -> list[AnyMessage]:
        """What may be delivered now that this message is here, in order."""
        if message.seq > self.last_seq:
            self._early.setdefault(message.seq, message)
        return self._due()

    @property
    def missing(self) -> tuple[int, int] | None:
        """The first stretch of numbers that must be fetched before what came early can be delivered."""
        if not self._early:
            return None
        return self.last_seq + 1, min(self._early) - 1

    def skip(self, upto: int) -> list[AnyMessage]:
        """Give up on everything up to this number; what then becomes due."""
        self.last_seq = max(self.last_seq, upto)
        self._early = {seq: message for seq, message in self._early.items() if seq > self.last_seq}
        return self._due()

    def forget_early(self) -> None:
        """The connection is lost: what came early will come again."""
        self._early.clear()

    def _due(self) -> list[AnyMessage]:
        due = []
        while message := self._early.pop(self.last_seq + 1, None):
            due.append(message)
            self.last_seq += 1
        return due
