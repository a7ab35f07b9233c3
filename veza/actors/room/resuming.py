"""Letting a connection in without gap or duplicate: what it missed, then live.

While the rows it misses are fetched the connection is gated, and the room serves everybody else."""

from __future__ import annotations

from typing import Any

from outcome import Error, Outcome, Value

from veza.actors.carried import Resume
from veza.actors.errors import (
    Refused,
    unavailable,
)
from veza.actors.frames import frame, message_frame, updated_frame
from veza.actors.room.attendance import Attendance
from veza.actors.room.base import TRY_AGAIN
from veza.actors.room.notes import (
    Replayed,
)
from veza.db import messages as messages_db
from veza.db.messages import Message


class Resuming(Attendance):
    """From the ring, mostly at once; else from the database; too far behind, the client pages."""

    async def _resume(self, resume: Resume) -> None:
        """Gate the connection until what it missed is at hand: in the ring, mostly at once."""
        self.gated.setdefault(resume.connection, []).append(resume)
        try:
            await self._resumed(resume)
        except Exception:
            self.carried.ungate(resume)
            raise

    async def _resumed(self, resume: Resume) -> None:
        """Serve a gated connection from the ring, or send for the rows it misses."""
        since, last = self._stretch(resume)
        if since > self.last_seq or last - since > self.settings.room_ring_messages:
            await self._let_in(resume, None, [])
            return
        missed = self.ring.after(since, last)
        behind = resume.since_rev is not None and resume.since_rev < self.last_rev
        if missed is not None and not behind:
            await self._let_in(resume, missed, [])
            return
        self.context.job(
            self.db.read,
            _missed,
            self.room_id,
            since,
            last,
            resume.since_rev if behind else None,
            self.settings.room_ring_messages,
            then=lambda outcome: Replayed(resume, outcome),
        )

    def _stretch(self, resume: Resume) -> tuple[int, int]:
        """What to replay: after the first, up to the second number."""
        already = self.fanout.subscribers.get(resume.connection)
        # What this very connection is given live anyway is not replayed to it.
        last = self.last_seq if already is None else min(already.since, self.last_seq)
        return (last if resume.since_seq is None else resume.since_seq), last

    async def _replay(
        self, resume: Resume, outcome: Outcome[tuple[list[Message], list[Message], int]]
    ) -> None:
        if resume not in self.gated.get(resume.connection, ()):
            return  # it left
        match outcome:
            case Error():
                self._give_up(resume, unavailable())
            case Value(value=(missed, changed, rev)):
                since, last = self._stretch(resume)
                # What went out while the rows were read did not go to this connection.
                since_then = self.ring.after(missed[-1].seq if missed else since, last)
                changed_then = self._changes_after(rev)
                if since_then is None or changed_then is None:
                    await self._resumed(resume)
                    return
                await self._let_in(
                    resume,
                    [message_frame(self.address, m) for m in missed] + since_then,
                    [updated_frame(self.address, m) for m in changed if m.seq <= since] + changed_then,
                    too_many=len(changed) > self.settings.room_ring_messages,
                )

    def _give_up(self, resume: Resume, refusal: Refused) -> None:
        """What it missed cannot be had."""
        self.carried.ungate(resume)
        if resume.wish is None:
            # Nobody asked, so nobody would ask again: let the client reconnect instead of missing letters.
            resume.connection.outlet.close(TRY_AGAIN, "try again")
        else:
            self._refuse(resume.connection, resume.wish.ref, refusal)

    async def _let_in(
        self, resume: Resume, missed: list[bytes] | None, changed: list[bytes], too_many: bool = False
    ) -> None:
        """Acknowledge, replay, and from here on live: one blob, then the passes. `missed` None: too far behind."""
        self.carried.ungate(resume)
        connection = resume.connection
        if missed is not None and (
            too_many or sum(map(len, missed)) + sum(map(len, changed)) > self.settings.room_ring_bytes
        ):
            missed = None
        if missed is None:
            changed = []
        if connection.ended or connection.outlet.closed:
            return
        if connection in self.fanout.subscribers and self.fanout.waiting:
            await self.fanout.run(
                self.last_seq, self.last_rev
            )  # it is told below that it has been given all this
        await self._enter(connection)
        out = [self._join_ack(resume, missed is not None)] if resume.wish is not None else []
        out += [self.greeting(), *(missed or []), *changed]
        # Its own messages may be among what it missed, and an acknowledgement comes before the echo. They are taken
        # last: what fails before leaves them to the next pass.
        if blob := self.fanout.take_acks(connection) + b"".join(out):
            connection.outlet.post(blob)

    def _join_ack(self, resume: Resume, complete: bool) -> bytes:
        assert self.room is not None and resume.wish is not None
        person = resume.wish.person
        member = self.roster.members[person.user_id]
        data: dict[str, Any] = {
            **self.named(),
            "success": True,
            "message": "Joined the conversation." if self.room.people else f"Joined {self.room.name}.",
            "members": self.member_count,
            "online": len(self.online),
            "last_seq": self.last_seq,
            "last_rev": self.last_rev,
            "last_read_seq": member.last_read_seq,
        }
        if self.room.people is not None:
            data["with_user"] = self.address.other(person.user_id)
        if resume.since_seq is not None or resume.since_rev is not None:
            data["resume"] = "ok" if complete else "too_far"
            ok = complete and resume.since_seq is not None
            data["first_seq"] = (resume.since_seq or 0) + 1 if ok else self.last_seq + 1
        if resume.wish.ref is not None:
            data["ref"] = resume.wish.ref
        return frame("join_room_ack", data)


async def _missed(
    conn: Any, room_id: int, since: int, upto: int, since_rev: int | None, limit: int
) -> tuple[list[Message], list[Message], int]:
    """What a resuming connection missed: new messages, changed ones, and the revision both are good for."""
    rev = int(await conn.fetchval("SELECT last_rev FROM rooms WHERE id = $1", room_id) or 0)
    changed = (
        [] if since_rev is None else await messages_db.changed_since(conn, room_id, since_rev, limit + 1)
    )
    return await messages_db.between(conn, room_id, since, upto), changed, rev
