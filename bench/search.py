"""Lists and searches in a large community: how long each takes in the database, and that none reads a table through.

A PostgreSQL of its own in a temporary directory, filled from one seed (`search_data.py`), gone afterwards. Every query
runs many times with other words, people and pages; every plan is looked at for scans of whole large tables.
"""

import asyncio
import contextlib
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec
import trio

from bench.plans import Explaining
from bench.search_data import FIRST_NAMES, LAST_NAMES, SEED, Scale, Words, fill, misspelt
from veza.db import (
    listing_lists,
    message_search,
    messages,
    notifications,
    offer_lists,
    room_lists,
    search,
    search_words,
    suggestions,
    track_lists,
    users,
)
from veza.db.cluster import DATABASE
from veza.db.connections import session_settings
from veza.db.embedded import run_embedded
from veza.db.message_search import Where
from veza.db.migrate import migrate

BOUND_MS: Final = 30.0
AUTOCOMPLETE_MS: Final = 20.0
_LARGE: Final = 5_000  # rows of a table that nothing may read through
_PLANS: Final = 12  # of each query's runs that are explained

Unit = Callable[[Any, random.Random], Awaitable[Any]]


class Timed(msgspec.Struct, frozen=True):
    """One kind of query; milliseconds in the database and on the way to it. `scans`: tables that were read through."""

    name: str
    runs: int
    p50_ms: float
    p95_ms: float
    max_ms: float
    scans: list[str]
    bound_ms: float = BOUND_MS
    cpu_p95_ms: float | None = (
        None  # of the database's process alone: what others do on the machine does not count
    )


class Found(msgspec.Struct, frozen=True):
    scale: Scale
    filled_s: float
    queries: list[Timed]
    posts_per_s: float
    post_worst_ms: float
    sizes: dict[str, int]  # bytes, of the tables with their indexes, and of the index of messages


class Questions:
    """What people ask, from the words of the seed."""

    def __init__(self, scale: Scale) -> None:
        chance = random.Random(SEED)
        self.english, self.french = Words("en", chance), Words("fr", chance)
        self.scale = scale

    def common(self, chance: random.Random) -> str:
        return chance.choice(chance.choice((self.english, self.french)).all[:150])

    def middling(self, chance: random.Random) -> str:
        return chance.choice(chance.choice((self.english, self.french)).all[150:3000])

    def rare(self, chance: random.Random) -> str:
        return chance.choice(chance.choice((self.english, self.french)).all[3000:])

    def words(self, chance: random.Random) -> str:
        return chance.choice((self.common, self.middling, self.rare))(chance)

    def two(self, chance: random.Random) -> str:
        return f"{self.common(chance)} {self.words(chance)}"

    def misspelt(self, chance: random.Random) -> str:
        while len(word := self.words(chance)) < 6:
            pass
        return misspelt(word, chance)

    def beginning(self, chance: random.Random) -> str:
        text = self.words(chance) if chance.random() < 0.6 else chance.choice(FIRST_NAMES + LAST_NAMES)
        return text[: chance.randint(1, 5)]

    def named(self, chance: random.Random) -> str:
        return f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}"

    def somebody(self, chance: random.Random) -> int:
        return chance.randint(21, self.scale.people)

    def everywhere(self, chance: random.Random) -> int:
        """Somebody who is in 150 rooms."""
        return chance.randint(1, 20)


def cases(ask: Questions) -> Iterator[tuple[str, Unit, float]]:
    """Name, query, bound of its p95."""

    def heard(who: Callable[[random.Random], int], what: Callable[[random.Random], str], **more: Any) -> Unit:
        async def unit(conn: Any, chance: random.Random) -> Any:
            reading = await search_words.read(conn, what(chance))
            return await message_search.heard(conn, Where(who(chance), **more), reading, 20)

        return unit

    def of(find: Any, what: Callable[[random.Random], str]) -> Unit:
        async def unit(conn: Any, chance: random.Random) -> Any:
            return await find(conn, ask.somebody(chance), await search_words.read(conn, what(chance)), 20)

        return unit

    def begun(kind: str) -> Unit:
        async def unit(conn: Any, chance: random.Random) -> Any:
            reading = await search_words.read(conn, ask.beginning(chance))
            return await suggestions.begun(conn, ask.somebody(chance), kind, reading, 8)

        return unit

    def wanted(struct: Any, lists: Any, sorts: tuple[str, ...], **fields: Any) -> Unit:
        async def unit(conn: Any, chance: random.Random) -> Any:
            given = {name: value(chance) if callable(value) else value for name, value in fields.items()}
            page = chance.choice((0, 0, 0, 1, 5, 50))
            return await lists(
                conn, ask.somebody(chance), struct(**given), chance.choice(sorts), 20, page * 20
            )

        return unit

    for name, what in (
        ("common", ask.common),
        ("middling", ask.middling),
        ("rare", ask.rare),
        ("two", ask.two),
    ):
        yield f"messages, {name}, few rooms", heard(ask.somebody, what), BOUND_MS
        yield f"messages, {name}, 150 rooms", heard(ask.everywhere, what), BOUND_MS
        yield f"messages, {name}, public too", heard(ask.somebody, what, public=True), BOUND_MS
        yield f"messages, {name}, huge room", heard(lambda chance: 1, what, room_id=2), BOUND_MS
        yield f"messages, {name}, a room", heard(lambda chance: 1, what, public=True, room_id=77), BOUND_MS
    yield "messages, in a row", heard(ask.everywhere, lambda chance: f'"{ask.two(chance)}"'), BOUND_MS
    yield "messages, not", heard(ask.everywhere, lambda c: f"{ask.common(c)} -{ask.common(c)}"), BOUND_MS
    yield (
        "messages, of an author",
        heard(ask.everywhere, ask.common, public=True, author_id=7),
        BOUND_MS,
    )
    for name, what in (
        ("common", ask.common), ("two", ask.two), ("rare", ask.rare), ("misspelt", ask.misspelt), ("name", ask.named),
    ):  # fmt: skip
        yield f"people, {name}", of(search.people, what), BOUND_MS
        yield f"rooms, {name}", of(search.rooms, what), BOUND_MS
        yield f"tracks, {name}", of(search.found_tracks, what), BOUND_MS
        yield f"listings, {name}", of(search.listings, what), BOUND_MS
    for kind in suggestions.KINDS:
        yield f"autocomplete, {kind}", begun(kind), AUTOCOMPLETE_MS
    yield from lists(ask, wanted)


def lists(ask: Questions, wanted: Any) -> Iterator[tuple[str, Unit, float]]:
    """The lists of the REST API."""
    orders = ("newest", "oldest", "price_asc", "price_desc", "popular")
    market, tunes = listing_lists.Wanted, track_lists.Wanted
    slugs = ("guitars", "drums", "keys", "other")
    for name, fields in (
        ("all", {}),
        ("category", {"category": lambda chance: chance.choice(slugs)}),
        ("state and price", {"state": "good", "min_price": 10_000, "max_price": 20_000}),
        ("search", {"search": ask.words}),
        ("sold", {"status": "sold"}),
    ):
        yield f"GET /listings, {name}", wanted(market, listing_lists.listed, orders, **fields), BOUND_MS
    for name, fields in (
        ("all", {}),
        ("search", {"search": ask.words}),
        ("genre", {"genre": "Jazz"}),
        ("tag", {"tags": lambda chance: (ask.english.all[chance.randint(60, 400)],)}),
    ):
        yield (
            f"GET /tracks, {name}",
            wanted(tunes, track_lists.listed, ("new", "popular", "title"), **fields),
            BOUND_MS,
        )

    def plain(unit: Callable[[Any, random.Random], Any]) -> Unit:
        return unit

    yield (
        "GET /tracks/my",
        plain(lambda conn, c: track_lists.mine(conn, ask.somebody(c), None, 20, 0)),
        BOUND_MS,
    )
    yield "GET /tags", plain(lambda conn, c: track_lists.tags(conn, "", 50)), BOUND_MS
    yield "GET /tags/trending", plain(lambda conn, c: track_lists.trending(conn, 366, 20)), BOUND_MS
    yield (
        "GET /users",
        plain(lambda conn, c: users.search(conn, None, None, 20, c.choice((0, 200)))),
        BOUND_MS,
    )
    yield "GET /users?search", plain(lambda conn, c: users.search(conn, ask.words(c), None, 20, 0)), BOUND_MS
    yield (
        "GET /chat/rooms",
        plain(lambda conn, c: room_lists.listed(conn, ask.everywhere(c), None, False, 0, 20, 0)),
        BOUND_MS,
    )
    yield (
        "GET /chat/rooms?search",
        plain(lambda conn, c: room_lists.listed(conn, ask.everywhere(c), ask.words(c), False, 0, 20, 0)),
        BOUND_MS,
    )
    yield (
        "GET /chat/conversations",
        plain(lambda conn, c: room_lists.conversations(conn, ask.somebody(c) % 2000 + 1, 20, 0)),
        BOUND_MS,
    )
    yield "GET /chat/unread", plain(lambda conn, c: room_lists.unread(conn, ask.everywhere(c))), BOUND_MS
    yield (
        "GET /offers",
        plain(lambda conn, c: offer_lists.listed(conn, c.randint(1, 200), "all", None, 20, 0)),
        BOUND_MS,
    )
    yield (
        "GET /notifications",
        plain(
            lambda conn, c: notifications.page(
                conn, c.randint(1, 200), unread=c.random() < 0.5, kind=None, before=None, limit=20
            )
        ),
        BOUND_MS,
    )
    yield (
        "GET /chat/rooms/{id}/messages",
        plain(lambda conn, c: messages.history(conn, 1, 2, 50, c.randint(100, 100_000))),
        BOUND_MS,
    )


async def measure_connection(conn: Any, scale: Scale, runs: int, only: str = "") -> list[Timed]:
    """Every query, `runs` times, after some that warm it up."""
    ask = Questions(scale)
    rows = await conn.fetch(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND reltuples > $1", float(_LARGE)
    )
    explaining = Explaining(conn, frozenset(row[0] for row in rows))
    timed = []
    pid = await conn.fetchval("SELECT pg_backend_pid()")
    for name, unit, bound in cases(ask):
        if only not in name:
            continue
        chance = random.Random(f"{SEED} {name}")
        explaining.scans.clear()
        for _ in range(min(runs, _PLANS)):
            await unit(explaining, chance)
        took, worked = [], []
        for _ in range(runs):
            began, before = time.perf_counter(), _worked(pid)
            await unit(conn, chance)
            took.append((time.perf_counter() - began) * 1000)
            worked.append(_worked(pid) - before)
        took.sort()
        worked.sort()
        timed.append(
            Timed(
                name,
                runs,
                statistics.median(took),
                took[int(len(took) * 0.95)],
                took[-1],
                sorted(set(explaining.scans)),
                bound,
                worked[int(len(worked) * 0.95)] or None,
            )
        )
    return timed


def _worked(pid: int) -> float:
    """Milliseconds a process has had of processors; 0 where Linux does not tell."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6
    except (OSError, ValueError):
        return 0.0


async def _ledger(conn: Any, scale: Scale, batches: int = 60, size: int = 100) -> tuple[float, float]:
    """Posts a second by the ledger's own function, a hundred at once; and the slowest such commit in ms."""
    ask = Questions(scale)
    chance = random.Random(SEED)
    texts = ask.english.phrases(2000, 3, 14) + ask.french.phrases(2000, 3, 14)
    nothing = [None] * size
    took = []
    for batch in range(batches):
        rooms = [chance.randint(3, scale.rooms + 1) for _ in range(size)]
        people = [chance.randint(1, scale.people) for _ in range(size)]
        nonces = [f"bench-{batch}-{number}" for number in range(size)]
        said = chance.choices(texts, k=size)
        began = time.perf_counter()
        await conn.fetch(
            """SELECT * FROM ledger_append($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
                                           $7::text[], $8::float8[], $9::bigint[], $10::text[], $11::bigint[])""",
            rooms, people, nonces, said, ["text"] * size, *[nothing] * 6,
        )  # fmt: skip
        took.append(time.perf_counter() - began)
        if batch % 10 == 9:  # as the server does every second
            await message_search.work_in(conn)
    return batches * size / sum(took), max(took) * 1000


async def _all(url: str, superuser: str, scale: Scale, runs: int, told: Callable[[str], None]) -> Found:
    conn = await asyncpg.connect(superuser)
    began = time.perf_counter()
    await fill(conn, scale, told)
    await conn.execute("VACUUM ANALYZE")
    filled = time.perf_counter() - began
    sizes = dict(
        await conn.fetch(
            """SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_class c
               WHERE c.relname IN ('users', 'tracks', 'listings', 'rooms', 'messages', 'vocabulary', 'messages_words',
                                   'users_words', 'tracks_words', 'listings_words')"""
        )
    )
    await conn.close()
    conn = await asyncpg.connect(
        url, statement_cache_size=500, max_cached_statement_lifetime=0, server_settings=session_settings(60)
    )
    queries = await measure_connection(conn, scale, runs)
    posts, worst = await _ledger(conn, scale)
    await conn.close()
    return Found(scale, filled, queries, posts, worst, sizes)


def measure(rows: float = 1.0, runs: int = 100, told: Callable[[str], None] = print) -> Found:
    """Fill, measure, throw away. `rows`: the part of the full size, from 0.01 on."""
    scale = Scale(
        people=int(100_000 * rows),
        messages=int(5_000_000 * rows),
        rooms=max(200, int(2_000 * rows)),
        conversations=int(10_000 * rows),
    )

    async def run(directory: Path) -> Found:
        async with run_embedded(directory / "data") as server:
            await migrate(server.url)
            urls = server.url, server.url_of(DATABASE, superuser=True)
            # The database is asked from a thread with an event loop of its own, as nothing of trio's is measured.
            return await trio.to_thread.run_sync(lambda: _in_loop(_all(*urls, scale, runs, told)))

    with tempfile.TemporaryDirectory(prefix="veza-bench-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        return trio.run(run, Path(name))


def _in_loop(work: Any) -> Any:
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        return loop.run_until_complete(work)
