"""The ledger: the one actor through which every message becomes durable.

It gathers the posts of all rooms while a commit is under way, commits them together, and hands each room its results.
It never answers before the commit, never loses a post silently, and never stores one twice: a batch whose outcome is
unknown is sent again, whole and before any later one, until the database has said what became of it (nonces make that
safe). While the database does not answer, new posts are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec
import structlog
import trio
from outcome import Error, Outcome, Value

from veza.actors.commands import Person
from veza.actors.errors import INVALID_FORMAT, Refused, internal, unavailable
from veza.actors.kernel import Actor, Ref, Reply
from veza.actors.ports import Connection
from veza.db.errors import DataRefused, OutcomeUnknown, Unavailable
from veza.db.ledger import Post, Receipt

log = structlog.get_logger(__name__)

# Seconds at most between two commits under load. A commit costs almost the same for one post as for twenty, so the next
# waits about as long as the last one took and carries more; after a single post nobody waits.
PAUSE = 0.005

Commit = Callable[[list[Post]], Awaitable[list[Receipt]]]
Answer = Receipt | Refused | None  # None: nobody knows what became of the post


class Entry(msgspec.Struct, frozen=True):
    """A post on its way, with all that is needed to answer for it, whichever incarnation of the room does."""

    post: Post
    person: Person
    room: Ref
    connection: Connection | None = None
    ref: str | None = None
    reply: Reply | None = None

    def __repr__(self) -> str:
        return f"Entry({self.post!r})"


class Committed(msgspec.Struct, frozen=True):
    """To a room: these are stored, in this order."""

    results: list[tuple[Entry, Receipt]]


class Rejected(msgspec.Struct, frozen=True):
    """To a room: these are not stored and will not be."""

    entries: list[tuple[Entry, Refused]]


class Unanswered(msgspec.Struct, frozen=True):
    """To a room, at shutdown: what became of these will not be known here."""

    entries: list[Entry]


class Settled(msgspec.Struct, frozen=True):
    """To the ledger from its own commit: what became of a batch."""

    batch: list[Entry]
    outcome: Outcome[list[Answer]]


class PauseOver(msgspec.Struct, frozen=True):
    """To the ledger from its timer: what has gathered may be committed."""


class Balance(msgspec.Struct, frozen=True):
    """Ask: answers the Books, to be read only."""


class Emptied(msgspec.Struct, frozen=True):
    """Ask: answered once every post taken so far is committed or refused."""


class Books:
    """What the ledger's slot keeps over a restart: posts that wait, whether a commit is under way, who asked."""

    def __init__(self) -> None:
        self.gathered: list[Entry] = []
        # A batch whose answers went down with the ledger: committed once more, before any other.
        self.in_doubt: list[Entry] = []
        self.emptied: list[Reply] = []  # who wants to know when nothing is left
        self.committing = 0
        self.uncertain = False
        self.commits = 0
        self.committed = 0  # posts
        self.refused = 0


class LedgerActor(Actor):
    """Takes `Entry` messages; sends `Committed` and `Rejected` to their rooms."""

    mailbox_capacity = 4096

    def __init__(self, commit: Commit, *, max_batch: int, max_waiting: int, closing: trio.Event) -> None:
        self._commit = commit
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._closing = closing
        self._began = 0.0  # the commit under way, or the last one
        self._not_before = 0.0
        self._pausing = False

    @property
    def books(self) -> Books:
        books: Books = self.context.carried
        return books

    async def started(self) -> None:
        self._go_on()

    async def handle(self, message: Any) -> Any:
        match message:
            case Entry():
                try:
                    self._take(message)
                except Exception:
                    message.room.answer(Rejected([(message, internal())]))
                    raise
                self._go_on()
            case Balance():
                return self.books
            case Emptied():
                if self.books.committing or self.books.gathered:
                    self.books.emptied.append(self.context.defer())
            case PauseOver():
                self._pausing = False
                self._go_on()
            case Settled(batch=batch, outcome=outcome):
                self.books.committing = 0
                if len(batch) > 1:
                    now = trio.current_time()
                    self._not_before = now + min(now - self._began, PAUSE)
                try:
                    self._settle(batch, outcome)
                except Exception:
                    self._doubt(batch)
                    raise
                self._go_on()

    def summary(self) -> dict[str, Any]:
        return {
            "waiting": len(self.books.gathered),
            "committing": self.books.committing,
            "uncertain": self.books.uncertain,
            "committed": self.books.committed,
            "commits": self.books.commits,
            "refused": self.books.refused,
        }

    def _take(self, entry: Entry) -> None:
        books = self.books
        if books.uncertain or len(books.gathered) >= self._max_waiting:
            entry.room.answer(Rejected([(entry, unavailable())]))
            return
        books.gathered.append(entry)

    def _go_on(self) -> None:
        """Commit what has gathered, unless a commit is under way."""
        books = self.books
        if books.committing or self._pausing:
            return
        pause = self._not_before - trio.current_time()
        if pause > 0 and books.gathered and not books.in_doubt and not self._closing.is_set():
            self._pausing = True
            self.context.timer(pause, PauseOver())
            return
        batch = books.in_doubt or books.gathered[: self._max_batch]
        if batch:

            def settled(outcome: Outcome[list[Answer]]) -> Settled:
                return Settled(batch, outcome)

            self._began = trio.current_time()
            self.context.job(self._store, [entry.post for entry in batch], then=settled)
            books.committing = len(batch)
            if batch is not books.in_doubt:
                del books.gathered[: len(batch)]
        else:
            waiting, books.emptied = books.emptied, []
            for reply in waiting:
                reply.send(None)

    def _settle(self, batch: list[Entry], outcome: Outcome[list[Answer]]) -> None:
        books = self.books
        match outcome:
            case Value(value=answers):
                books.commits += 1
                self._hand_out(batch, answers)
            case Error(error=error):
                if not isinstance(error, Unavailable):
                    log.error("commit failed", posts=len(batch), error=type(error).__name__)
                # Not stored, and nothing gathered behind it will fare better just now.
                refused, books.gathered = batch + books.gathered, []
                self._hand_out(refused, [unavailable()] * len(refused))
        books.uncertain = False
        if batch is books.in_doubt:
            books.in_doubt = []

    def _doubt(self, batch: list[Entry]) -> None:
        """Its answers went down with this incarnation: the next one asks again, but no third one does."""
        books = self.books
        if batch is not books.in_doubt:
            books.in_doubt = batch
            return
        books.in_doubt = []
        for entry in batch:
            entry.room.answer(Rejected([(entry, internal())]))

    def _hand_out(self, batch: list[Entry], answers: Sequence[Answer]) -> None:
        rooms: dict[Ref, tuple[list[tuple[Entry, Receipt]], list[tuple[Entry, Refused]], list[Entry]]] = {}
        for entry, answer in zip(batch, answers, strict=True):
            stored, refused, unknown = rooms.setdefault(entry.room, ([], [], []))
            if answer is None:
                unknown.append(entry)
            elif isinstance(answer, Refused):
                refused.append((entry, answer))
                self.books.refused += 1
            else:
                stored.append((entry, answer))
                self.books.committed += 1
        for room, (stored, refused, unknown) in rooms.items():
            if stored:
                room.answer(Committed(stored))
            if refused:
                room.answer(Rejected(refused))
            if unknown:
                room.answer(Unanswered(unknown))

    async def _store(self, posts: list[Post]) -> list[Answer]:
        """Commit a batch; raises only when certainly nothing was stored.

        Runs beside the actor. Where the database refuses the data, the batch is halved until the culprit stands alone.
        """
        wait = 0.05
        sent = False  # and nobody knows what became of it
        while True:
            try:
                return list(await self._commit(posts))
            except OutcomeUnknown:
                sent = self.books.uncertain = True
            except DataRefused as error:
                if len(posts) == 1:
                    log.warning("post refused by the database", sqlstate=error.sqlstate)
                    return [Refused(INVALID_FORMAT, "The message holds something that cannot be stored.")]
                half = len(posts) // 2
                first = await self._store(posts[:half])
                return first + await self._certain(posts[half:])
            except Exception as error:
                if not sent:
                    raise
                if not isinstance(error, Unavailable):
                    log.error("commit still in doubt", posts=len(posts), error=type(error).__name__)
            if self._closing.is_set():
                # An answer would be a guess. Sockets are closed unanswered; the nonces tell later.
                return [None] * len(posts)
            with trio.move_on_after(wait):
                await self._closing.wait()
            wait = min(wait * 2, 1.0)

    async def _certain(self, posts: list[Post]) -> list[Answer]:
        """The second half of a halved batch: refused one by one rather than raised, for the first half is stored."""
        try:
            return await self._store(posts)
        except Exception as error:
            if not isinstance(error, Unavailable):
                log.error("commit failed", posts=len(posts), error=type(error).__name__)
            return [unavailable()] * len(posts)
