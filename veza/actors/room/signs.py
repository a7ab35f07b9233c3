"""Signs of life in a room that are no messages: who types, and who has read how far."""

from __future__ import annotations

from outcome import Error, Outcome

from veza.actors.commands import (
    MarkRead,
    Typing,
)
from veza.actors.errors import (
    not_joined,
)
from veza.actors.frames import frame
from veza.actors.room.base import RoomBase
from veza.actors.room.notes import Saved, SaveReads, TypingExpired


class Signs(RoomBase):
    """Typing expires by itself and is never stored; read marks are stored a little later, many at once."""

    def _type(self, wish: Typing) -> None:
        connection = wish.connection
        self._must_see(wish.person)
        if connection is None or connection not in self.fanout.subscribers:
            raise not_joined()
        self.roster.refuse_muted(wish.person)
        self.refuse_blocked(wish.person)
        user_id = wish.person.user_id
        if not wish.on:
            self._stop_typing(user_id)
        elif not connection.invisible:
            timer = self._typing.get(user_id)
            if timer is not None:
                timer.cancel()
            else:
                self._say_typing(user_id, wish.person.username, True)
            self._typing[user_id] = self.context.timer(self.settings.typing_expires, TypingExpired(user_id))

    def _stop_typing(self, user_id: int) -> None:
        timer = self._typing.pop(user_id, None)
        if timer is not None:
            timer.cancel()
            member = self.roster.members.get(user_id)
            self._say_typing(user_id, member.username if member else "", False)

    def _say_typing(self, user_id: int, username: str, on: bool) -> None:
        data = {**self.named(), "user_id": user_id, "username": username, "is_typing": on}
        self.fanout.soft(frame("typing", data), but=user_id)

    def _mark_read(self, wish: MarkRead) -> None:
        self._must_see(wish.person)
        member = self.roster.member(wish.person)
        if not self.roster.read(wish.person.user_id, min(wish.seq, self.last_seq)):
            return
        self._save_soon()
        # A mark that came by REST has no connection; somebody who is here and not shown is invisible.
        invisible = member.user_id in self._connections and member.user_id not in self.online
        invisible |= wish.connection is not None and wish.connection.invisible
        # Nothing passes between two people of whom one has blocked the other: this would.
        if self.member_count <= self.settings.room_receipts_limit and not invisible and not self.blocks:
            data = {**self.named(), "user_id": member.user_id, "seq": member.last_read_seq}
            self.fanout.add(frame("read_receipt", data))

    def _save_soon(self) -> None:
        if not self._save_set:
            self._save_set = True
            self.context.timer(self.marks.delay(), SaveReads())

    def _save_reads(self) -> None:
        marks = self.roster.take_unsaved()
        self.context.job(self.marks.save, self.room_id, marks, then=lambda outcome: Saved(marks, outcome))

    def _reads_saved(self, marks: dict[int, int], outcome: Outcome[None]) -> None:
        self._save_set = False
        if isinstance(outcome, Error):
            self.roster.unsaved = {**marks, **self.roster.unsaved}
        if self.roster.unsaved:
            self._save_soon()
