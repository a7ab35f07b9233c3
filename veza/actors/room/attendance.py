"""Who is in a room: subscriptions come and go, and the others hear of the people behind them."""

from __future__ import annotations

from typing import Any

from veza.actors.commands import (
    Leave,
    PresenceChanged,
)
from veza.actors.errors import (
    NOT_JOINED,
    Refused,
    not_joined,
)
from veza.actors.frames import frame
from veza.actors.ports import Connection
from veza.actors.presence import Entered, Exited
from veza.actors.room.blocking import Blocking
from veza.actors.room.notes import (
    AnnounceOnline,
)


class Attendance(Blocking):
    """A person is here while a visible connection of theirs is subscribed."""

    async def _enter(self, connection: Connection) -> None:
        """Subscribe; the room hears of a person's first visible connection."""
        if connection in self.fanout.subscribers:
            return
        first = self._count_in(connection)
        if first:
            await self.presence.tell(Entered(connection.user_id, self.context.ref))
        # The newcomer is told nothing of its own coming: it is subscribed behind that frame.
        self._show(connection.user_id, connection.username, not connection.invisible)
        self.fanout.subscribe(connection, self.last_seq, self.last_rev)

    def _count_in(self, connection: Connection) -> bool:
        count = self._connections.get(connection.user_id, 0)
        self._connections[connection.user_id] = count + 1
        return count == 0

    async def _exit(self, connection: Connection) -> bool:
        """Unsubscribe; the room hears of a person's last connection. False where there was nothing to end."""
        gated = self.gated.pop(connection, [])
        for resume in gated:
            if resume.wish is not None:
                left_first = Refused(NOT_JOINED, "You left before you were in.")
                self._refuse(connection, resume.wish.ref, left_first)
        if self.fanout.subscribers.pop(connection, None) is None:
            return bool(gated)
        left = self._connections[connection.user_id] - 1
        if left:
            self._connections[connection.user_id] = left
            return True
        del self._connections[connection.user_id]
        self._stop_typing(connection.user_id)
        self._show(connection.user_id, connection.username, False)
        await self.presence.tell(Exited(connection.user_id, self.context.ref))
        return True

    def _show(self, user_id: int, username: str, here: bool) -> None:
        """Say that somebody is here, or is not any more; in large rooms only how many are."""
        assert self.room is not None
        if here == (user_id in self.online):
            return
        if here:
            self.online[user_id] = username
        else:
            del self.online[user_id]
        if self.room.people is not None:
            return  # the two hear of each other by `presence`
        if len(self.online) > self.settings.room_presence_limit:
            if not self._announce_set:
                self._announce_set = True
                self.context.timer(1.0, AnnounceOnline())
            return
        kind = "user_connected" if here else "user_disconnected"
        self.fanout.add(frame(kind, {"user_id": user_id, "username": username, **self.named()}))

    async def _leave(self, wish: Leave) -> None:
        assert wish.connection is not None
        was_in = await self._exit(wish.connection)
        if wish.quiet:
            return
        if not was_in:
            self._must_see(wish.person)
            raise not_joined()
        data: dict[str, Any] = {**self.named(), "success": True}
        if wish.ref is not None:
            data["ref"] = wish.ref
        wish.connection.outlet.post(frame("leave_room_ack", data))

    async def expel(self, user_id: int, notice: bytes | None) -> None:
        """End every subscription of a person; `notice` tells him why."""
        here = dict.fromkeys((*self.fanout.subscribers, *self.gated))
        for connection in [c for c in here if c.user_id == user_id]:
            await self._exit(connection)
            if notice is not None:
                connection.outlet.post(notice)

    def _presence(self, change: PresenceChanged) -> None:
        here = change.user_id in self._connections and not change.invisible
        if not here:
            self._stop_typing(change.user_id)
        self._show(change.user_id, change.username, here)
        if len(self.online) > self.settings.room_presence_limit:
            return
        for connection, subscriber in self.fanout.subscribers.items():
            if connection.user_id != change.user_id and connection.seen_change != change.change:
                connection.seen_change = change.change
                subscriber.outlet.post(change.frame, droppable=True)
