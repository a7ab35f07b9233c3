"""A message's way through a room: checked, handed to the ledger, delivered once it is committed, strictly in order."""

from __future__ import annotations

from urllib.parse import unquote

import trio
from outcome import Outcome, Value

from veza.actors import rules
from veza.actors.commands import (
    Posted,
    Say,
)
from veza.actors.errors import (
    Refused,
    internal,
    room_not_found,
    unavailable,
)
from veza.actors.frames import MessageAck, frame, message_frame
from veza.actors.ledger import Entry
from veza.actors.room.notes import (
    FillAgain,
    Filled,
)
from veza.actors.room.resuming import Resuming
from veza.db import messages as messages_db
from veza.db.ledger import Post, Receipt
from veza.db.messages import Message

_BESIDE = 2000  # characters; nothing longer is said beside a message


class Posting(Resuming):
    """What a member sees is durable; an acknowledgement goes before the echo."""

    async def _say(self, wish: Say) -> None:
        assert self.room is not None
        person = wish.person
        self._must_see(person)
        self.roster.refuse_banned(person.user_id)
        self.roster.member(person)
        self.roster.refuse_muted(person)
        self.refuse_blocked(person)
        content = rules.content(wish.content)
        self.refuse_words(person, content)
        if self.words:  # not beside it either
            self.refuse_words(person, unquote((wish.media_url or "")[:_BESIDE]), "media_url")
            self.refuse_words(person, (wish.media_type or "")[:_BESIDE], "media_type")
        post = Post(
            self.room_id,
            person.user_id,
            rules.nonce(wish.nonce) if wish.nonce is not None else rules.own_nonce(),
            content,
            rules.message_type(wish.message_type, house=wish.house),
            rules.media_url(wish.media_url),
            rules.media_type(wish.media_type),
            rules.duration(wish.duration),
            wish.reply_to,
            self.roster.mentions(content),
            None if wish.house else self._letter_to(person.user_id),
        )
        self.roster.slow_down(person, self.room.slow_mode_s, trio.current_time(), post.nonce)
        if self._typing:
            self._stop_typing(person.user_id)
        reply = None if wish.connection is not None else self.context.defer()
        # Last: what comes after this can no longer be refused here.
        await self.ledger.tell(Entry(post, person, self.context.ref, wish.connection, wish.ref, reply))
        self.carried.in_flight += 1

    def _letter_to(self, user_id: int) -> int | None:
        """The other one of a private conversation, if nothing tells him of this message now."""
        if self.address.people is None:
            return None
        other = self.address.other(user_id)
        here = other in self._connections or any(each.user_id == other for each in self.gated)
        return None if here else other

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
            try:
                self._acknowledge(entry, receipt)
            except Exception:
                self._disappoint(entry, internal())  # stored all the same, but nobody must wait for ever
                raise
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

    def _reject_all(self, entries: list[tuple[Entry, Refused]]) -> None:
        """Each is taken out before: after a crash the rest is told, and nobody twice."""
        while entries:
            self._reject(*entries.pop(0))

    def _reject(self, entry: Entry, refusal: Refused) -> None:
        self.carried.in_flight -= 1
        if self.room is not None:
            self.roster.take_back(entry.person.user_id, entry.post.nonce)
        self._disappoint(entry, refusal)

    def _disappoint(self, entry: Entry, refusal: Refused) -> None:
        if entry.reply is not None:
            entry.reply.fail(refusal)
        if entry.connection is not None:
            self._refuse(entry.connection, entry.ref, refusal)

    def _leave_unanswered(self, entries: list[Entry]) -> None:
        """The server goes down not knowing. Sockets end without an answer, a request has to get one."""
        while entries:
            entry = entries.pop(0)
            self.carried.in_flight -= 1
            if entry.reply is not None:
                entry.reply.fail(unavailable())

    def _went_with_the_room(self) -> None:
        """The room was deleted, and what was stored in it too."""
        while self.carried.stored:
            entry, _ = self.carried.stored.popleft()
            self._reject(entry, room_not_found())

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
