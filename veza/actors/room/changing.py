"""Changes of a room, one at a time, so that revisions go out in order: memberships first of all.

What a change is, and who may make it, is in `veza/actors/changes.py`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from outcome import Error, Outcome, Value

from veza.actors import changes
from veza.actors.carried import Enrollment, Resume
from veza.actors.commands import (
    Enroll,
    Join,
    Wish,
)
from veza.actors.errors import (
    ROOM_FULL,
    Refused,
    internal,
    room_not_found,
)
from veza.actors.kernel import Reply
from veza.actors.room.moderating import Moderating
from veza.actors.room.notes import (
    Changed,
)
from veza.db import rooms as rooms_db
from veza.db.errors import OutcomeUnknown


class Changing(Moderating):
    """A queue of wishes; the next one is planned when the one before has been stored."""

    async def _join(self, wish: Join) -> None:
        assert self.room is not None and wish.connection is not None
        self.may_enter(wish)
        if wish.person.user_id in self.roster.members:
            await self._resume(Resume(wish.connection, wish.since_seq, wish.since_rev, wish))
        else:
            self._enroll_soon(wish, None)
            self.carried.behind[wish.person.user_id] = []

    async def _enroll(self, wish: Enroll) -> Any:
        self.may_enter(wish)
        if wish.person.user_id in self.roster.members:
            return self.describe(wish.person)
        self._enroll_soon(wish, self.context.defer())
        return None

    def may_enter(self, wish: Join | Enroll, before: int = 0) -> None:
        """Raise Refused where the person may not become a member, or may not come as one. `before` others come too."""
        assert self.room is not None
        user_id = wish.person.user_id
        if user_id not in self.roster.members:
            invited = isinstance(wish, Enroll) and (wish.invited or wish.invitation is not None)
            if self.room.kind != "public" and not invited:
                raise room_not_found()
            self.roster.refuse_banned(user_id)
            if self.member_count + before >= self.settings.room_members_max:
                raise Refused(ROOM_FULL, "This room is full.", limit=self.settings.room_members_max)
        elif self.room.kind == "public":
            self.roster.refuse_banned(user_id)

    def _enroll_soon(self, wish: Join | Enroll, reply: Reply | None) -> None:
        waiting = self.carried.changes
        last = waiting[-1][0] if waiting else None
        if isinstance(last, Enrollment):
            last.wishes.append((wish, reply))
        else:
            batch = Enrollment()
            batch.wishes.append((wish, reply))
            self._enqueue(batch, None)

    async def enrolled(self, batch: Enrollment, members: list[rooms_db.Member]) -> None:
        """The memberships are stored: let those people in."""
        for member in members:
            self.roster.add(member)
        while batch.wishes:
            wish, reply = batch.wishes.pop(0)  # after a crash the rest are told so, and those before are not
            if wish.person.user_id not in self.roster.members:
                self.tell_refused(wish, reply, room_not_found())
            elif isinstance(wish, Join) and wish.connection is not None:
                resume = Resume(wish.connection, wish.since_seq, wish.since_rev, wish)
                try:
                    await self._resume(resume)
                except Exception:
                    self._give_up(resume, internal())
                    self._release(wish.person.user_id)  # or nothing he says here would ever be heard again
                    raise
                self._release(wish.person.user_id)
            elif reply is not None:
                reply.send(self.describe(wish.person))

    def _release(self, user_id: int) -> None:
        """The person's join is decided: now for what came behind it, before anything that came later."""
        for wish in self.carried.behind.pop(user_id, ()):
            self.context.ref.answer(wish)

    def _enqueue(self, wish: Wish | Enrollment, reply: Reply | None) -> None:
        self.carried.changes.append((wish, reply))
        self._next_change()

    def _next_change(self) -> None:
        carried = self.carried
        while carried.changes and not carried.changing:
            wish, reply = carried.changes.popleft()
            try:
                change = changes.plan(self, wish)
            except Refused as refusal:
                self.tell_refused(wish, reply, refusal)
                continue
            except Exception:
                self.tell_refused(wish, reply, internal())
                raise
            carried.changing = True
            apply = change.apply

            def changed(
                outcome: Outcome[Any],
                wish: Wish | Enrollment = wish,
                reply: Reply | None = reply,
                apply: Callable[..., Any] = apply,
            ) -> Changed:
                return Changed(wish, reply, apply, outcome)

            self.context.job(self.db.write, change.unit, self.room_id, *change.args, then=changed)

    async def _settle(self, changed: Changed) -> None:
        self.carried.changing = False
        try:
            match changed.outcome:
                case Value(value=value):
                    answer = await changed.apply(self, changed.wish, value)
                    if changed.reply is not None:
                        changed.reply.send(answer)
                case Error(error=error):
                    if isinstance(error, OutcomeUnknown):
                        # Perhaps it is stored. Only the database knows what the room is now.
                        self.context.system.restart(self.context.path)
                    raise changes.as_refusal(error) from error
        except Refused as refusal:
            self.tell_refused(changed.wish, changed.reply, refusal)
        self._next_change()

    def tell_refused(self, wish: Wish | Enrollment, reply: Reply | None, refusal: Refused) -> None:
        if isinstance(wish, Enrollment):
            for each, its_reply in wish.wishes:
                self.tell_refused(each, its_reply, refusal)
        elif reply is not None:
            reply.fail(refusal)
        elif wish.connection is not None:
            self._refuse(wish.connection, wish.ref, refusal)
            if isinstance(wish, Join):
                self._release(wish.person.user_id)

    def renamed(self) -> None:
        """The name is another one, or nobody's: what was remembered of it is wrong from here on."""
        if self.directory is not None:
            self.directory.forget(self.room_id)

    def close_down(self) -> None:
        """The room was deleted: nobody finds it any more."""
        self.renamed()
        self.gone = True
        changes, self.carried.changes = self.carried.changes, deque()
        for wish, reply in changes:
            self.tell_refused(wish, reply, room_not_found())
        self.context.passivate()
