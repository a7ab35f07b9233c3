"""In a private conversation: who of the two has blocked the other, as the database says it.

The room is told only *that* it changed, and reads what is so now: two changes in a row can never arrive in the wrong
order. Whoever asks is answered once what was true when he asked, or something newer, is in force here.
"""

from __future__ import annotations

from outcome import Outcome, Value

from veza.actors.kernel import Reply
from veza.actors.room.notes import BlocksRead, ReadBlocksAgain
from veza.actors.room.signs import Signs
from veza.db import rooms as rooms_db

_AGAIN = 0.5  # seconds until the database is asked again, when it was away


class Blocking(Signs):
    """One read at a time; who comes while one is under way waits for the next."""

    _served: list[Reply] | None = None  # by the read that is under way
    _waiting: list[Reply] | None = None

    def _blocks_changed(self) -> None:
        assert self.room is not None
        if self.room.people is None:
            return
        self._waiting = [*(self._waiting or ()), self.context.defer()]
        self._read_blocks()

    def _read_blocks(self) -> None:
        if self._served is not None or self._waiting is None:
            return
        assert self.room is not None and self.room.people is not None
        self._served, self._waiting = self._waiting, None
        self.context.job(self.db.read, rooms_db.blocked_between, *self.room.people, then=BlocksRead)

    def _blocks_read(self, outcome: Outcome[list[tuple[int, int]]]) -> None:
        served, self._served = self._served, None
        if served is None:
            return  # asked by an incarnation before this one, which has read them since
        if not isinstance(outcome, Value):
            self._waiting = [*served, *(self._waiting or ())]
            self._served = []
            self.context.timer(_AGAIN, ReadBlocksAgain())
            return
        self.blocks = set(outcome.value)
        for user_id in self.room.people if self.blocks and self.room and self.room.people else ():
            self._stop_typing(user_id)
        for reply in served:
            reply.send(None)
        self._read_blocks()

    def _read_blocks_again(self) -> None:
        self._served = None
        self._read_blocks()
