"""The ledger: the one actor through which every message becomes durable.

It gathers the posts of all rooms while a commit is under way, commits them together, and hands each room its results.
It never answers before the commit, never loses a post silently, and never stores one twice: a batch whose outcome is
unknown is sent again, whole and before any later one, until the database has said what became of it (nonces make that
safe). While the database does not answer, new posts are refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
import trio
from outcome import Error, Outcome, Value

from veza.actors.commands import Person
from veza.actors.errors import INVALID_FORMAT, Refused, unavailable
from veza.actors.kernel import Actor, Ref, Reply
from veza.actors.ports import Connection
from veza.db.errors import DataRefused, OutcomeUnknown, Unavailable
from veza.db.ledger import Post, Receipt

log = structlog.get_logger(__name__)

Commit = Callable[[list[Post]], Awaitable[list[Receipt]]]


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


class Settled(msgspec.Struct, frozen=True):
    """To the ledger from its own commit: what became of a batch."""

    batch: list[Entry]
    outcome: Outcome[list[Receipt | Refused]]


class Balance(msgspec.Struct, frozen=True):
    """Ask: answers the Books, to be read only."""


class Emptied(msgspec.Struct, frozen=True):
    """Ask: answered once every post taken so far is committed or refused."""


class Books:
    """What the ledger's slot keeps over a restart: posts that wait, and whether a commit is under way."""

    def __init__(self) -> None:
        self.gathered: list[Entry] = []
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
        self._waiting: list[Reply] = []  # who wants to know when nothing is left

    @property
    def books(self) -> Books:
        books: Books = self.context.carried
        return books

    async def handle(self, message: Any) -> Any:
        match message:
            case Entry():
                self._take(message)
            case Balance():
                return self.books
            case Emptied():
                if self.books.committing:
                    self._waiting.append(self.context.defer())
            case Settled(batch=batch, outcome=outcome):
                self._settle(batch, outcome)

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
        if not books.committing:
            self._next()

    def _next(self) -> None:
        books = self.books
        batch, books.gathered = books.gathered[: self._max_batch], books.gathered[self._max_batch :]
        books.committing = len(batch)

        def settled(outcome: Outcome[list[Receipt | Refused]]) -> Settled:
            return Settled(batch, outcome)

        self.context.job(self._store, [entry.post for entry in batch], then=settled)

    def _settle(self, batch: list[Entry], outcome: Outcome[list[Receipt | Refused]]) -> None:
        books = self.books
        books.committing = 0
        books.uncertain = False
        match outcome:
            case Value(value=answers):
                books.commits += 1
                self._hand_out(batch, answers)
            case Error(error=OutcomeUnknown()):
                # Only at shutdown: the answer would be a guess. Sockets are closed unanswered; their nonces tell later.
                for entry in batch:
                    if entry.reply is not None:
                        entry.reply.fail(unavailable())
            case Error(error=error):
                if not isinstance(error, Unavailable):
                    log.error("commit failed", posts=len(batch), error=type(error).__name__)
                # Not stored, and nothing gathered behind it will fare better just now.
                refused, books.gathered = batch + books.gathered, []
                self._hand_out(refused, [unavailable()] * len(refused))
        if books.gathered:
            self._next()
        else:
            waiting, self._waiting = self._waiting, []
            for reply in waiting:
                reply.send(None)

    def _hand_out(
        self, batch: list[Entry], answers: list[Receipt] | list[Refused] | list[Receipt | Refused]
    ) -> None:
        rooms: dict[Ref, tuple[list[tuple[Entry, Receipt]], list[tuple[Entry, Refused]]]] = {}
        for entry, answer in zip(batch, answers, strict=True):
            stored, refused = rooms.setdefault(entry.room, ([], []))
            if isinstance(answer, Refused):
                refused.append((entry, answer))
                self.books.refused += 1
            else:
                stored.append((entry, answer))
                self.books.committed += 1
        for room, (stored, refused) in rooms.items():
            if stored:
                room.answer(Committed(stored))
            if refused:
                room.answer(Rejected(refused))

    async def _store(self, posts: list[Post]) -> list[Receipt | Refused]:
        """Commit a batch; raises Unavailable only when certainly nothing was stored.

        Runs beside the actor. Where the database refuses the data, the batch is halved until the culprit stands alone.
        """
        wait = 0.05
        while True:
            try:
                return list(await self._commit(posts))
            except OutcomeUnknown:
                self.books.uncertain = True
            except DataRefused as error:
                if len(posts) == 1:
                    log.warning("post refused by the database", sqlstate=error.sqlstate)
                    return [Refused(INVALID_FORMAT, "The message holds something that cannot be stored.")]
                half = len(posts) // 2
                first = await self._store(posts[:half])
                return first + await self._certain(posts[half:])
            except Unavailable:
                if not self.books.uncertain:
                    raise
            if self._closing.is_set():
                raise OutcomeUnknown("shutting down with a commit of unknown outcome")
            with trio.move_on_after(wait):
                await self._closing.wait()
            wait = min(wait * 2, 1.0)

    async def _certain(self, posts: list[Post]) -> list[Receipt | Refused]:
        """The second half of a halved batch: refused one by one rather than raised, for the first half is stored."""
        try:
            return await self._store(posts)
        except Unavailable:
            return [unavailable()] * len(posts)
