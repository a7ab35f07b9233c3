"""The ledger before a database that does everything a database may do, against a model of what is stored."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any

import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from veza.actors.commands import Person
from veza.actors.errors import Refused
from veza.actors.frames import now
from veza.actors.kernel import Actor, open_system
from veza.actors.ledger import Books, Committed, Emptied, Entry, LedgerActor, Rejected, Unanswered
from veza.db.errors import DataRefused, OutcomeUnknown, Unavailable
from veza.db.ledger import Post, Receipt

SAID = st.sampled_from(["good", "good", "bad", "again"])  # again: a nonce that was used before
FATE = st.sampled_from(
    [
        *("ok", "ok", "ok"),
        "away",  # nothing was sent
        "strange",  # an error nobody thought of, before anything was stored
        "cut before",
        "cut after",  # stored, and nobody was told
        "late",  # not stored until just before the next request
    ]
)


class FakeDatabase:
    """Stores a batch or does not, and says so or does not."""

    def __init__(self, fates: list[str], end_at: int | None, closing: trio.Event) -> None:
        self.stored: dict[str, int] = {}  # nonce → number
        self._fates = fates
        self._late: list[list[Post]] = []
        self._end_at = end_at
        self._closing = closing
        self._calls = 0

    async def commit(self, posts: list[Post]) -> list[Receipt]:
        await trio.sleep(0.003)
        for batch in self._late:
            self._store(batch)
        self._late.clear()
        if self._calls == self._end_at:
            self._closing.set()
        self._calls += 1
        match self._fates.pop(0) if self._fates else "ok":
            case "away":
                raise Unavailable("away")
            case "strange":
                raise RuntimeError("strange")
            case "cut before":
                raise OutcomeUnknown("cut")
            case "cut after":
                self._store(posts)
                raise OutcomeUnknown("cut")
            case "late":
                self._late.append(posts)
                raise OutcomeUnknown("no answer")
        before = set(self.stored)
        if not self._store(posts):
            raise DataRefused("bad", sqlstate="22000", constraint=None)
        return [
            Receipt(self.stored[p.nonce], self.stored[p.nonce], now(), p.nonce not in before, None)
            for p in posts
        ]

    def _store(self, posts: list[Post]) -> bool:
        """All or nothing, each nonce once."""
        if any(p.content == "bad" and p.nonce not in self.stored for p in posts):
            return False
        for post in posts:
            self.stored.setdefault(post.nonce, len(self.stored) + 1)
        return True


class Ear(Actor):
    """The room: hears what becomes of its posts."""

    def __init__(self, heard: list[Any]) -> None:
        self._heard = heard

    async def handle(self, message: Any) -> None:
        match message:
            case Committed(results=results):
                self._heard += results
            case Rejected(entries=entries):
                self._heard += entries
            case Unanswered(entries=entries):
                self._heard += [(entry, None) for entry in entries]


GROUP = st.tuples(st.lists(SAID, min_size=1, max_size=8), st.sampled_from([0.0, 0.0, 0.002, 0.1]))
HALVED = [(["good", "good", "good", "bad", "good"], 0.0)]  # the first goes alone, the others together


@settings(max_examples=250, deadline=None)
@given(
    groups=st.lists(GROUP, min_size=1, max_size=5),
    fates=st.lists(FATE, max_size=12),
    end_at=st.none() | st.none() | st.integers(0, 8),
    most=st.sampled_from([1, 4, 8, 8]),
)
@example(groups=HALVED, fates=["ok", "ok", "ok", "away"], end_at=None, most=8)
@example(groups=HALVED, fates=["ok", "ok", "ok", "strange"], end_at=None, most=8)
@example(groups=HALVED, fates=["ok", "ok", "ok", "cut after", "away", "strange"], end_at=None, most=8)
@example(groups=HALVED, fates=["ok", "ok", "ok", "late"], end_at=3, most=8)
@example(groups=[(["good"], 0.0)], fates=["cut after", "away"], end_at=None, most=8)
@example(groups=[(["good"], 0.0)], fates=["cut after"], end_at=0, most=8)
def test_whatever_the_database_does(
    groups: list[tuple[list[str], float]], fates: list[str], end_at: int | None, most: int
) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    trio.run(partial(_live_through, groups, fates, end_at, most), clock=clock)


async def _live_through(
    groups: list[tuple[list[str], float]], fates: list[str], end_at: int | None, most: int
) -> None:
    closing = trio.Event()
    database = FakeDatabase(fates, end_at, closing)
    said: list[Entry] = []
    heard: list[tuple[Entry, Any]] = []
    async with open_system() as system:
        room = system.supervisor("rooms").ensure("room", partial(Ear, heard))
        books = Books()
        ledger = system.supervisor("platform").ensure(
            "ledger",
            partial(LedgerActor, database.commit, max_batch=most, max_waiting=100, closing=closing),
            carry=lambda: books,
        )
        person = Person(1, "ann", "user")
        for kinds, pause in groups:
            for kind in kinds:
                nonce = f"nonce {0 if kind == 'again' else len(said)}"
                said.append(Entry(Post(1, 1, nonce, "bad" if kind == "bad" else "good"), person, room))
                await ledger.tell(said[-1])
            await trio.sleep(pause)
        await ledger.ask(Emptied(), timeout=math.inf)
        await room.ask("are you there?", timeout=math.inf)
        assert (books.committing, books.gathered, books.in_doubt) == (0, [], [])
    # Each got one answer, and it is true.
    assert Counter(id(entry) for entry, _ in heard) == Counter(map(id, said))
    for entry, answer in heard:
        nonce = entry.post.nonce
        if isinstance(answer, Receipt):
            assert answer.seq == database.stored[nonce]
        elif answer is None:
            assert closing.is_set()
        else:
            # Stored all the same only where it was said another time, and that was not refused.
            others = [a for e, a in heard if e.post.nonce == nonce and not isinstance(a, Refused)]
            assert nonce not in database.stored or others
            assert answer.code in ("UNAVAILABLE", "INVALID_FORMAT")
    # What is said once is stored in the order it was said.
    times = Counter(entry.post.nonce for entry in said)
    numbers = [database.stored.get(entry.post.nonce, 0) for entry in said if times[entry.post.nonce] == 1]
    assert list(filter(None, numbers)) == sorted(filter(None, numbers))
