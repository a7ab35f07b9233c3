"""A room: who listens, what was said, in one order for all. One actor per room or private conversation.

It checks a post, hands it to the ledger, and delivers what comes back committed, strictly in sequence: what a member
sees is durable, and an acknowledgement precedes the member's own echo. It never waits for the database: joins, changes
and missing rows are fetched beside it, one change at a time, and arrive as messages. It never touches a socket: it
posts bytes to outlets.
"""

from __future__ import annotations

from typing import Any

from veza.actors.carried import Carried, Resume
from veza.actors.commands import (
    BlocksChanged,
    Describe,
    Enroll,
    Expelled,
    Forgotten,
    Join,
    Leave,
    MarkRead,
    MayInvite,
    PartyGet,
    PresenceChanged,
    Renamed,
    Say,
    Settle,
    Subscribe,
    TrackChanged,
    Typing,
    Unsubscribe,
    Wish,
)
from veza.actors.errors import (
    Refused,
    internal,
    room_not_found,
    unavailable,
)
from veza.actors.fanout import Fanout
from veza.actors.frames import Address, frame, message_frame, updated_frame
from veza.actors.ledger import Committed, Rejected, Unanswered
from veza.actors.ports import Connection
from veza.actors.presence import Watch
from veza.actors.room.base import TRY_AGAIN
from veza.actors.room.changing import Changing
from veza.actors.room.notes import (
    AnnounceOnline,
    BlocksRead,
    Changed,
    CheckParty,
    FillAgain,
    Filled,
    Flush,
    GoOn,
    LoadAgain,
    PartyChecked,
    PartyTrackEnds,
    ReadBlocksAgain,
    Replayed,
    Saved,
    SaveReads,
    TypingExpired,
)
from veza.actors.roster import Roster
from veza.actors.words import Words
from veza.db import messages as messages_db
from veza.db import parties as parties_db
from veza.db import rooms as rooms_db
from veza.db.errors import Unavailable

_ALL = 2**31


class RoomActor(Changing):
    """See the module. Every message that reaches a room is in `_dispatch`."""

    async def started(self) -> None:
        if self.directory is not None:
            self.directory.show(self)
        carried: Carried = self.context.carried
        self.carried = carried
        self.fanout = Fanout(carried.subscribers, carried.acks, self.settings.fanout_max_wait, self.tally)
        try:
            await self._load()
        except Unavailable:
            self._load_soon()

    def _load_soon(self) -> None:
        """The database is away: try again in a while. Until then every wish is refused at once."""
        self._load_set = True
        self.context.timer(0.5, LoadAgain())

    async def _load(self) -> None:
        opened = await self.db.read(parties_db.room, self.room_id)
        if opened is None:
            self.gone = True
            self._went_with_the_room()
            return
        loaded = opened.loaded
        room = loaded.room
        # Set by an attempt that the database cut short: what was to clear them came to an unread room, and was dropped.
        self._filling = self._save_set = False
        if room.people is not None:
            self.blocks = set(await self.db.read(rooms_db.blocked_between, *room.people))
        self.roster = Roster(loaded)
        self.words = Words(opened.words)
        self.address = Address(room.id, room.kind, room.name, room.people)
        self.last_seq, self.last_rev = room.last_seq, room.last_rev
        self._deliver()  # acknowledges what is stored: before its echo
        await self._catch_up()
        carried = self.carried
        newcomers: list[Connection] = []
        if room.people is not None and not carried.watched:
            newcomers = await self.presence.ask(Watch(self.context.ref, room.people))
            carried.watched = True
        for connection in self.fanout.subscribers:
            self._count_in(connection)
            if not connection.invisible:
                self.online[connection.user_id] = connection.username
        self.room = room
        self.party_loaded(opened.party)
        if self.context.restarted or carried.held:
            self.context.ref.answer(GoOn())
        for connection in newcomers:
            await self._enter(connection)
            if greeting := self.greeting():
                connection.outlet.post(greeting)

    async def _catch_up(self) -> None:
        """After a restart: send what was committed, but not delivered by the incarnation before."""
        subscribers = list(self.fanout.subscribers.values())
        if not subscribers:
            return
        seq, rev = min(s.sent for s in subscribers), min(s.sent_rev for s in subscribers)
        missed = changed = []
        if seq < self.last_seq:
            missed = await self.db.read(messages_db.between, self.room_id, seq, self.last_seq)
        if rev < self.last_rev:
            changed = await self.db.read(messages_db.changed_since, self.room_id, rev, _ALL)
        frames = [message_frame(self.address, m) for m in missed]
        for message, blob in zip(missed, frames, strict=True):
            self.ring.append(message.seq, blob)
        updates = b"".join(updated_frame(self.address, m) for m in changed)
        blobs: dict[int, bytes] = {}  # by what was sent: most were given the same
        for s in self.fanout.subscribers.values():
            if s.sent not in blobs:
                blobs[s.sent] = b"".join(frames[max(0, s.sent - seq) :])
            if out := self.fanout.take_acks(s.connection) + blobs[s.sent] + updates:
                s.outlet.post(out)
            s.sent, s.sent_rev, s.skip = self.last_seq, self.last_rev, 0

    async def stopping(self) -> None:
        marks = self.roster.take_unsaved() if self.room is not None else {}
        if marks:
            try:
                await self.marks.save(self.room_id, marks)
            except Unavailable:
                pass  # read marks are no promise; messages are
        if self.directory is not None:
            self.directory.hide(self)

    def idle(self) -> bool:
        return self.gone or not (
            self.fanout.subscribers or self.gated or (self.room is not None and self.roster.unsaved)
        )

    def settled(self) -> bool:
        """Are all posts answered and all changes made? The room must live to hear of them."""
        carried = self.carried
        return not (carried.in_flight or carried.stored or carried.changing or carried.changes)

    def summary(self) -> dict[str, Any]:
        if self.room is None:
            return {"room_id": self.room_id, "state": "gone" if self.gone else "waiting for the database"}
        return {
            "room_id": self.room_id,
            "kind": self.room.kind,
            "name": self.room.name if self.room.kind == "public" else None,
            "members": self.member_count,
            "online": len(self.online),
            "gated": len(self.gated),
            "last_seq": self.last_seq,
            "last_rev": self.last_rev,
            "in_flight": self.carried.in_flight,
            "changes_waiting": len(self.carried.changes),
            "ring_messages": len(self.ring),
            "ring_bytes": self.ring.size,
            **self.fanout.statistics(),
        }

    async def handle(self, message: Any) -> Any:
        if isinstance(message, Committed):
            # Kept before anything can go wrong: whatever becomes of this incarnation, one will answer for them.
            self.carried.stored.extend(message.results)
        try:
            answer = await self._handle(message)
        except Refused:
            raise
        except Exception:
            # A crash. Nothing of what follows it can be promised but that nobody waits for ever.
            self._apologize(message)
            raise
        await self._pass()
        return answer

    async def _handle(self, message: Any) -> Any:
        try:
            if isinstance(message, LoadAgain):
                self._load_set = False
            if self.room is None and not self.gone:
                # Once in a while: who wishes something must not wait as long as a database takes to be found missing.
                if not self._load_set:
                    try:
                        await self._load()
                    except Unavailable:
                        self._load_soon()
                if self._load_set:
                    return await self._without(message, unavailable())
            if self.gone:
                self.context.passivate()
                return await self._without(message, room_not_found())
            if isinstance(message, Wish) and message.connection is not None:
                behind = self.carried.behind.get(message.person.user_id)
                if behind is not None:
                    behind.append(message)
                    return None
            return await self._dispatch(message)
        except Refused as refusal:
            if not isinstance(message, Wish) or message.connection is None:
                raise
            self._refuse(message.connection, message.ref, refusal)

    async def _without(self, message: Any, refusal: Refused) -> None:
        """The room is gone, or the database is away and the room unread: do what can be done all the same."""
        carried = self.carried
        match message:
            case Leave(quiet=True, connection=connection) | Unsubscribe(connection=connection):
                assert connection is not None
                carried.forget(connection)
            case Rejected(entries=entries):
                self._reject_all(entries)
            case Unanswered(entries=entries):
                self._leave_unanswered(entries)
            case Subscribe(connection=connection):
                if not self.gone:
                    connection.outlet.close(TRY_AGAIN, "try again")  # or its letters would pass it by
            case Wish():
                raise refusal
            case Changed() | Replayed() if not self.gone:
                carried.held.append(message)  # what came of it is told once the room is read
            case Committed() if self.gone:
                self._went_with_the_room()
            case Changed(wish=wish, reply=reply):
                carried.changing = False
                self.tell_refused(wish, reply, refusal)
            case Replayed(resume=resume):
                carried.forget(resume.connection)

    def _apologize(self, message: Any) -> None:
        """Whose message crashed the room hears of it (one who asked hears it from the kernel)."""
        match message:
            case Leave(quiet=True, connection=connection) | Unsubscribe(connection=connection):
                assert connection is not None
                self.carried.forget(connection)  # nobody would say again that it has ended
            case Wish(connection=connection, ref=ref) if connection is not None:
                self._refuse(connection, ref, internal())
            case Changed(wish=wish, reply=reply):
                self.carried.changing = False
                self.tell_refused(wish, reply, internal())
            case Replayed(resume=resume):
                self._give_up(resume, internal())
            case Rejected(entries=entries):
                self._reject_all(entries)
            case Unanswered(entries=entries):
                self._leave_unanswered(entries)
            case Subscribe(connection=connection):
                connection.outlet.close(TRY_AGAIN, "try again")

    async def _dispatch(self, message: Any) -> Any:
        match message:
            case Say():
                await self._say(message)
            case Committed():
                self._deliver()
            case Rejected(entries=entries):
                self._reject_all(entries)
            case Unanswered(entries=entries):
                self._leave_unanswered(entries)
            case Flush():
                self._flush_set = False
            case Settle():
                await self.fanout.run(self.last_seq, self.last_rev)
            case Typing():
                self._type(message)
            case TypingExpired(user_id=user_id):
                self._stop_typing(user_id)
            case MarkRead():
                self._mark_read(message)
            case Join():
                await self._join(message)
            case Enroll():
                return await self._enroll(message)
            case Leave():
                await self._leave(message)
            case Describe():
                self._must_see(message.person)
                return self.describe(message.person)
            case MayInvite():
                self._must_see(message.person)
                self._may_invite(message.person)
                return True
            case PartyGet():
                return self._party_get(message)
            case Wish():
                self._enqueue(message, None if message.connection else self.context.defer())
            case Changed():
                await self._settle(message)
            case Replayed(resume=resume, outcome=outcome):
                await self._replay(resume, outcome)
            case Filled(outcome=outcome):
                self._fill(outcome)
            case FillAgain():
                self._filling = False
                self._deliver()
            case GoOn():
                self._go_on()
            case SaveReads():
                self._save_reads()
            case Saved(marks=marks, outcome=outcome):
                self._reads_saved(marks, outcome)
            case AnnounceOnline():
                self._announce_set = False
                self.fanout.add(frame("room_presence", {**self.named(), "online": len(self.online)}))
            case Subscribe(connection=connection, known_seq=known):
                await self._resume(Resume(connection, known, None, None))
            case Unsubscribe(connection=connection):
                await self._exit(connection)
            case PartyTrackEnds():
                self._track_ends()
            case TrackChanged(track_id=track_id) | CheckParty(track_id=track_id):
                self._check_party(track_id)
            case PartyChecked(track_id=track_id, outcome=outcome):
                self._party_checked(track_id, outcome)
            case PresenceChanged():
                self._presence(message)
            case Renamed(user_id=user_id, username=username):
                self.roster.rename(user_id, username)
                if user_id in self.online:
                    self.online[user_id] = username
            case Forgotten(user_id=user_id, username=username):
                self.roster.rename(user_id, username)
                self.ring.clear()  # encoded frames name their authors
            case BlocksChanged():
                self._blocks_changed()
            case BlocksRead(outcome=outcome):
                self._blocks_read(outcome)
            case ReadBlocksAgain():
                self._read_blocks_again()
            case Expelled(user_id=user_id):
                await self.expel(user_id, None)
                self.roster.drop(user_id)
        return None

    async def _pass(self) -> None:
        """Deliver what waits, now or when the pause after the last costly pass is over."""
        if self.room is None or not self.fanout.waiting or self._flush_set:
            return
        delay = self.fanout.delay()
        if delay > 0:
            self._flush_set = True
            self.context.timer(delay, Flush())
        else:
            await self.fanout.run(self.last_seq, self.last_rev)

    def _go_on(self) -> None:
        """After a restart: answer for what the incarnation before had in hand."""
        held, self.carried.held = self.carried.held, []
        for message in held:
            self.context.ref.answer(message)
        self._deliver()
        self._next_change()
