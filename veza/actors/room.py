"""A room: who listens, what was said, in one order for all. One actor per room or private conversation.

It checks a post, hands it to the ledger, and delivers what comes back committed, strictly in sequence: what a member
sees is durable, and an acknowledgement precedes the member's own echo. It never waits for the database: joins, changes
and missing rows are fetched beside it, one change at a time, and arrive as messages. It never touches a socket: it
posts bytes to outlets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import trio
from outcome import Error, Outcome, Value

from veza.actors import changes, rules
from veza.actors.carried import Carried, Enrollment, Resume
from veza.actors.commands import (
    Blocked,
    Describe,
    Enroll,
    Expelled,
    Join,
    Leave,
    MarkRead,
    MayInvite,
    Person,
    Posted,
    PresenceChanged,
    Renamed,
    Say,
    Settle,
    Subscribe,
    Summary,
    Typing,
    Unsubscribe,
    Wish,
)
from veza.actors.errors import (
    BLOCKED,
    NOT_JOINED,
    ROOM_FULL,
    ROOM_NOT_FOUND,
    Refused,
    denied,
    internal,
    not_joined,
    room_not_found,
    unavailable,
)
from veza.actors.fanout import Fanout, Tally
from veza.actors.frames import Address, MessageAck, error_frame, frame, message_frame, updated_frame
from veza.actors.kernel import Actor, Ref, Reply
from veza.actors.ledger import Committed, Entry, Rejected
from veza.actors.ports import Connection
from veza.actors.presence import Entered, Exited, Watch
from veza.actors.ring import Ring
from veza.actors.roster import Roster
from veza.config import Settings
from veza.db import messages as messages_db
from veza.db import rooms as rooms_db
from veza.db.errors import Unavailable
from veza.db.ledger import Post, Receipt
from veza.db.messages import Message
from veza.db.pool import Database
from veza.db.rooms import Loaded, Room

TRY_AGAIN = 1013
_ALL = 2**31


class Flush(msgspec.Struct, frozen=True):
    """The pause after a costly pass is over."""


class TypingExpired(msgspec.Struct, frozen=True):
    user_id: int


class SaveReads(msgspec.Struct, frozen=True):
    """Time to write the read marks down."""


class AnnounceOnline(msgspec.Struct, frozen=True):
    """Time to say how many are here, in a room too large to name them."""


class FillAgain(msgspec.Struct, frozen=True):
    """Try again to read the rows that are missing."""


class LoadAgain(msgspec.Struct, frozen=True):
    """Try again to read the room itself."""


class GoOn(msgspec.Struct, frozen=True):
    """A new incarnation has loaded: go on where the one before it stopped."""


class Filled(msgspec.Struct, frozen=True):
    """Rows that were committed but not seen by this room."""

    outcome: Outcome[list[Message]]


class Replayed(msgspec.Struct, frozen=True):
    """What a resuming connection missed, from the database."""

    resume: Resume
    outcome: Outcome[tuple[list[Message], list[Message], int]]


class Changed(msgspec.Struct, frozen=True):
    """A change of the room is stored, or is not."""

    wish: Wish | Enrollment
    reply: Reply | None
    apply: Callable[..., Any]
    outcome: Outcome[Any]


class Saved(msgspec.Struct, frozen=True):
    marks: dict[int, int]
    outcome: Outcome[None]


class Glance(msgspec.Struct, frozen=True):
    """What of a running room is newer than the database's word: how many are here, up to where somebody has read."""

    online: int
    last_read_seq: int


class Directory(Protocol):
    """Where rooms are found. A room shows itself there while it runs, and says when its name is no longer its own."""

    def show(self, room: RoomActor) -> None: ...
    def hide(self, room: RoomActor) -> None: ...
    def forget(self, room_id: int) -> None: ...


class RoomActor(Actor):
    """See the module. Built anew from the database after a crash; its `Carried` subscribers stay."""

    mailbox_capacity = 1024

    def __init__(
        self,
        room_id: int,
        *,
        db: Database,
        ledger: Ref,
        presence: Ref,
        settings: Settings,
        tally: Tally,
        directory: Directory | None = None,
    ) -> None:
        self.room_id = room_id
        self.directory = directory
        self.db = db
        self.ledger = ledger
        self.presence = presence
        self.settings = settings
        self.tally = tally
        self.idle_after = settings.room_idle
        self.room: Room | None = None
        self.gone = False
        self.last_seq = 0
        self.last_rev = 0
        self.ring = Ring(settings.room_ring_messages, settings.room_ring_bytes)
        self.online: dict[int, str] = {}
        self.blocks: set[tuple[int, int]] = set()
        self._connections: dict[int, int] = {}
        self._typing: dict[int, Any] = {}
        self._filling = False
        self._load_set = False
        self._flush_set = False
        self._save_set = False
        self._announce_set = False

    # Life --------------------------------------------------------------------------------------------

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

    @property
    def gated(self) -> dict[Connection, list[Resume]]:
        """Who waits for what was missed, not yet subscribed."""
        return self.carried.gated

    @property
    def member_count(self) -> int:
        return len(self.roster.members)

    def _load_soon(self) -> None:
        """The database is away. Whoever wishes something meanwhile tries too; listeners must not depend on that."""
        if not self._load_set:
            self._load_set = True
            self.context.timer(0.5, LoadAgain())

    async def _load(self) -> None:
        loaded: Loaded | None = await self.db.read(rooms_db.load, self.room_id)
        if loaded is None:
            self.gone = True
            return
        room = loaded.room
        if room.people is not None:
            self.blocks = set(await self.db.read(rooms_db.blocked_between, *room.people))
        self.roster = Roster(loaded)
        self.address = Address(room.id, room.kind, room.name, room.people)
        self.last_seq, self.last_rev = room.last_seq, room.last_rev
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
        if self.context.restarted or carried.held:
            self.context.ref.answer(GoOn())
        for connection in newcomers:
            await self._enter(connection)

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
                await self.db.write(rooms_db.save_reads, self.room_id, list(marks), list(marks.values()))
            except Unavailable:
                pass  # read marks are no promise; messages are
        if self.directory is not None:
            self.directory.hide(self)

    def idle(self) -> bool:
        return not (self.fanout.subscribers or self.gated or (self.room is not None and self.roster.unsaved))

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

    # Messages ----------------------------------------------------------------------------------------

    async def handle(self, message: Any) -> Any:
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
            if self.room is None and not self.gone:
                try:
                    await self._load()
                except Unavailable:
                    self._load_soon()
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
                for entry, why in entries:
                    self._reject(entry, why)
            case Subscribe(connection=connection):
                if not self.gone:
                    connection.outlet.close(TRY_AGAIN, "try again")  # or its letters would pass it by
            case Wish():
                raise refusal
            case LoadAgain():
                self._load_set = False
                if not self.gone:
                    self._load_soon()
            case Committed() | Changed() | Replayed() if not self.gone:
                carried.held.append(message)  # what came of it is told once the room is read
            case Committed(results=results):
                for entry, _ in results:
                    self._reject(entry, refusal)
            case Changed(wish=wish, reply=reply):
                carried.changing = False
                self.tell_refused(wish, reply, refusal)
            case Replayed(resume=resume):
                carried.forget(resume.connection)

    def _apologize(self, message: Any) -> None:
        """Whose message crashed the room hears of it (one who asked hears it from the kernel)."""
        match message:
            case Wish(connection=connection, ref=ref) if connection is not None:
                self._refuse(connection, ref, internal())
            case Changed(wish=wish, reply=reply):
                self.tell_refused(wish, reply, internal())
            case Replayed(resume=resume):
                self._give_up(resume, internal())
            case Subscribe(connection=connection):
                connection.outlet.close(TRY_AGAIN, "try again")

    async def _dispatch(self, message: Any) -> Any:
        match message:
            case Say():
                await self._say(message)
            case Committed(results=results):
                self.carried.stored.extend(results)
                self._deliver()
            case Rejected(entries=entries):
                for entry, refusal in entries:
                    self._reject(entry, refusal)
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
            case LoadAgain():
                self._load_set = False
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
            case PresenceChanged():
                self._presence(message)
            case Renamed(user_id=user_id, username=username):
                self.roster.rename(user_id, username)
                if user_id in self.online:
                    self.online[user_id] = username
            case Blocked(blocker_id=blocker, blocked_id=blocked, on=on):
                (self.blocks.add if on else self.blocks.discard)((blocker, blocked))
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

    def _refuse(self, connection: Connection, ref: str | None, refusal: Refused) -> None:
        details = refusal.details if self.room is None else {"room": self.address.label, **refusal.details}
        if refusal.code == ROOM_NOT_FOUND:
            details = refusal.details
        connection.outlet.post(error_frame(refusal.code, refusal.message, details, ref))

    def _must_see(self, person: Person) -> None:
        """To strangers only public rooms exist."""
        assert self.room is not None
        if self.room.kind != "public" and person.user_id not in self.roster.members:
            raise room_not_found()

    def _may_invite(self, person: Person) -> None:
        assert self.room is not None
        if self.room.kind == "direct":
            raise denied("A private conversation has two people.")
        self.roster.member(person)
        if self.room.kind == "private":
            self.roster.need(person, rules.MODERATOR, "invite people")

    def named(self) -> dict[str, Any]:
        """How frames name this room."""
        return {"room": self.address.label, "room_id": self.room_id}

    # Posting -----------------------------------------------------------------------------------------

    async def _say(self, wish: Say) -> None:
        assert self.room is not None
        person = wish.person
        self._must_see(person)
        self.roster.refuse_banned(person.user_id)
        self.roster.member(person)
        self.roster.refuse_muted(person.user_id)
        self.refuse_blocked(person)
        content = rules.content(wish.content)
        post = Post(
            self.room_id,
            person.user_id,
            rules.nonce(wish.nonce) if wish.nonce is not None else rules.own_nonce(),
            content,
            rules.message_type(wish.message_type),
            rules.media_url(wish.media_url),
            rules.media_type(wish.media_type),
            rules.duration(wish.duration),
            wish.reply_to,
            self.roster.mentions(content),
        )
        self.roster.slow_down(person, self.room.slow_mode_s, trio.current_time(), post.nonce)
        if self._typing:
            self._stop_typing(person.user_id)
        reply = None if wish.connection is not None else self.context.defer()
        # Last: what comes after this can no longer be refused here.
        await self.ledger.tell(Entry(post, person, self.context.ref, wish.connection, wish.ref, reply))
        self.carried.in_flight += 1

    def refuse_blocked(self, person: Person) -> None:
        """Nothing passes between two people of whom one has blocked the other."""
        if self.address.people is None:
            return
        other = self.address.other(person.user_id)
        if (other, person.user_id) in self.blocks:
            raise Refused(BLOCKED, "This person does not take messages from you.")
        if (person.user_id, other) in self.blocks:
            raise Refused(BLOCKED, "You have blocked this person.")

    def _deliver(self) -> None:
        """Fan out strictly last + 1; on a gap, or a row stored by an earlier attempt, read the rows first."""
        stored = self.carried.stored
        while stored:
            entry, receipt = stored[0]
            if receipt.seq is not None and receipt.seq > self.last_seq + (1 if receipt.fresh else 0):
                self._fill_missing()
                return
            stored.popleft()
            if receipt.id is None or receipt.seq is None:
                self._reject(entry, _why_not(receipt))
                continue
            self.carried.in_flight -= 1
            # The acknowledgement first: it is true whatever becomes of the room.
            self._acknowledge(entry, receipt)
            if receipt.seq == self.last_seq + 1:
                self._publish(_stored(entry, receipt))

    def _publish(self, message: Message) -> None:
        blob = message_frame(self.address, message)
        self.last_seq = message.seq
        self.ring.append(message.seq, blob)
        self.fanout.add(blob)
        if message.user_id is not None and self.roster.read(message.user_id, message.seq):
            self._save_soon()

    def _acknowledge(self, entry: Entry, receipt: Receipt) -> None:
        assert receipt.id is not None and receipt.seq is not None
        if entry.reply is not None:
            entry.reply.send(
                Posted(
                    self.room_id,
                    receipt.id,
                    receipt.seq,
                    receipt.created_at,
                    rules.shown_nonce(entry.post.nonce),
                )
            )
        if entry.connection is not None:
            ack = MessageAck(
                self.address.label,
                self.room_id,
                receipt.id,
                receipt.seq,
                receipt.created_at,
                rules.shown_nonce(entry.post.nonce),
                entry.ref,
            )
            self.fanout.ack(entry.connection, frame("message_ack", ack))

    def _reject(self, entry: Entry, refusal: Refused) -> None:
        self.carried.in_flight -= 1
        if self.room is not None:
            self.roster.take_back(entry.person.user_id)
        if entry.reply is not None:
            entry.reply.fail(refusal)
        if entry.connection is not None:
            self._refuse(entry.connection, entry.ref, refusal)

    def _fill_missing(self) -> None:
        if self._filling:
            return
        self._filling = True
        upto = self.carried.stored[0][1].seq
        self.context.job(self.db.read, messages_db.between, self.room_id, self.last_seq, upto, then=Filled)

    def _fill(self, outcome: Outcome[list[Message]]) -> None:
        before = self.last_seq
        if isinstance(outcome, Value):
            for message in outcome.value:
                if message.seq == self.last_seq + 1:
                    self._publish(message)
        if self.last_seq > before:
            self._filling = False
            self._deliver()
        else:
            self.context.timer(0.5, FillAgain())

    def _go_on(self) -> None:
        """After a restart: answer for what the incarnation before had in hand."""
        held, self.carried.held = self.carried.held, []
        for message in held:
            self.context.ref.answer(message)
        self._deliver()
        self._next_change()

    # Coming and going --------------------------------------------------------------------------------

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
        for wish, reply in batch.wishes:
            if wish.person.user_id not in self.roster.members:
                self.tell_refused(wish, reply, room_not_found())
            elif isinstance(wish, Join) and wish.connection is not None:
                await self._resume(Resume(wish.connection, wish.since_seq, wish.since_rev, wish))
                self._release(wish.person.user_id)
            elif reply is not None:
                reply.send(self.describe(wish.person))

    async def _resume(self, resume: Resume) -> None:
        """Gate the connection until what it missed is at hand: in the ring, mostly at once."""
        self.gated.setdefault(resume.connection, []).append(resume)
        await self._resumed(resume)

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
                if rev < self.last_rev:
                    # Changes went out while the rows were read, and not to this connection: read again.
                    await self._resumed(resume)
                    return
                since, last = self._stretch(resume)
                since_then = self.ring.after(missed[-1].seq if missed else since, last)
                if since_then is None:
                    await self._resumed(resume)
                    return
                await self._let_in(
                    resume,
                    [message_frame(self.address, m) for m in missed] + since_then,
                    [updated_frame(self.address, m) for m in changed if m.seq <= since],
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
        # Its own messages may be among what it missed, and an acknowledgement comes before the echo.
        out = [self.fanout.take_acks(connection)]
        if resume.wish is not None:
            out.append(self._join_ack(resume, missed is not None))
        out += (missed or []) + changed
        if connection.outlet.closed:
            return
        await self._enter(connection)
        if blob := b"".join(out):
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

    def describe(self, person: Person) -> Summary:
        assert self.room is not None
        member = self.roster.members.get(person.user_id)
        return Summary(
            id=self.room_id,
            name=self.room.name,
            description=self.room.description,
            kind=self.room.kind,
            owner_id=self.room.owner_id,
            member_count=self.member_count,
            online=len(self.online),
            online_ids=list(self.online),
            last_seq=self.last_seq,
            last_rev=self.last_rev,
            slow_mode_s=self.room.slow_mode_s,
            created_at=self.room.created_at,
            role=member.role if member else None,
            last_read_seq=member.last_read_seq if member else 0,
        )

    # Typing, presence, read marks ----------------------------------------------------------------------

    def _type(self, wish: Typing) -> None:
        connection = wish.connection
        self._must_see(wish.person)
        if connection is None or connection not in self.fanout.subscribers:
            raise not_joined()
        self.roster.refuse_muted(wish.person.user_id)
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

    def _mark_read(self, wish: MarkRead) -> None:
        self._must_see(wish.person)
        member = self.roster.member(wish.person)
        if not self.roster.read(wish.person.user_id, min(wish.seq, self.last_seq)):
            return
        self._save_soon()
        invisible = wish.connection is not None and wish.connection.invisible
        if self.member_count <= self.settings.room_receipts_limit and not invisible:
            data = {**self.named(), "user_id": member.user_id, "seq": member.last_read_seq}
            self.fanout.add(frame("read_receipt", data))

    def _save_soon(self) -> None:
        if not self._save_set:
            self._save_set = True
            self.context.timer(self.settings.reads_saved_after, SaveReads())

    def _save_reads(self) -> None:
        marks = self.roster.take_unsaved()
        self.context.job(
            self.db.write,
            rooms_db.save_reads,
            self.room_id,
            list(marks),
            list(marks.values()),
            then=lambda outcome: Saved(marks, outcome),
        )

    def _reads_saved(self, marks: dict[int, int], outcome: Outcome[None]) -> None:
        self._save_set = False
        if isinstance(outcome, Error):
            self.roster.unsaved = {**marks, **self.roster.unsaved}
        if self.roster.unsaved:
            self._save_soon()

    # Changes: one at a time, so that revisions go out in order ------------------------------------------

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

    def _release(self, user_id: int) -> None:
        """The person's join is decided: now for what came behind it, before anything that came later."""
        for wish in self.carried.behind.pop(user_id, ()):
            self.context.ref.answer(wish)

    def glance(self, user_id: int) -> Glance | None:
        """For lists, which must not wait for a mailbox. Reads only, in one step; None until it has loaded."""
        if self.room is None:
            return None
        member = self.roster.members.get(user_id)
        return Glance(len(self.online), member.last_read_seq if member is not None else 0)

    def concerns(self, user_id: int) -> bool:
        """Does the room know this person, or may it be reading about him just now?"""
        return self.room is None or user_id in self.roster.members

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


def _stored(entry: Entry, receipt: Receipt) -> Message:
    post = entry.post
    assert receipt.id is not None and receipt.seq is not None
    return Message(
        receipt.id,
        post.room_id,
        receipt.seq,
        post.user_id,
        entry.person.username,
        post.nonce,
        post.content,
        post.message_type,
        post.media_url,
        post.media_type,
        post.duration,
        post.reply_to,
        post.mentions,
        receipt.created_at,
    )


def _why_not(receipt: Receipt) -> Refused:
    if receipt.refusal == "reply":
        return Refused("MESSAGE_NOT_FOUND", "The message you reply to is not in this room.", field="reply_to")
    return room_not_found()


async def _missed(
    conn: Any, room_id: int, since: int, upto: int, since_rev: int | None, limit: int
) -> tuple[list[Message], list[Message], int]:
    """What a resuming connection missed: new messages, changed ones, and the revision both are good for."""
    rev = int(await conn.fetchval("SELECT last_rev FROM rooms WHERE id = $1", room_id) or 0)
    changed = (
        [] if since_rev is None else await messages_db.changed_since(conn, room_id, since_rev, limit + 1)
    )
    return await messages_db.between(conn, room_id, since, upto), changed, rev
