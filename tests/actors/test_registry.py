"""The registry: cached, batched, and never behind a revocation."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing

from veza.actors.registry import AuthFailed, Identity, Registry
from veza.db.errors import OutcomeUnknown, Unavailable
from veza.db.sessions import Holder
from veza.security.tokens import AccessTokens

SECRET = "a secret for tests, long enough for HS256"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Sessions:
    """Stands where the database does: answers what it holds, when it is let."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Holder] = {}
        self.queries: list[int] = []
        self.gate: trio.Event | None = None  # while set to an event: answers wait for it
        self.error: Exception | None = None

    async def read(self, unit: Callable[..., Any], /, *args: Any) -> Any:
        sids: Sequence[UUID] = args[0]
        self.queries.append(len(sids))
        found = [self.rows[sid] for sid in sids if sid in self.rows]  # as of when the query was sent
        if self.gate is not None:
            await self.gate.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return found


class World:
    def __init__(self, **options: Any) -> None:
        self.clock = Clock(1_800_000_000.0)
        self.monotonic = Clock(0.0)
        self.sessions = Sessions()
        self.tokens = AccessTokens(SECRET, 3600, self.clock)
        self.registry = Registry(
            self.sessions, self.tokens, clock=self.clock, monotonic=self.monotonic, **options
        )

    def log_in(self, user_id: int = 7, role: str = "user", hours: float = 24) -> tuple[str, UUID]:
        """A session in the database, and its access token."""
        sid = uuid.uuid4()
        ends = datetime.fromtimestamp(self.clock.now, UTC) + timedelta(hours=hours)
        self.sessions.rows[sid] = Holder(sid, user_id, f"user{user_id}", role, ends)
        return self.tokens.issue(user_id, "whoever", "super_admin", str(sid))[0], sid


@pytest.fixture
def world() -> World:
    return World()


async def failure(registry: Registry, token: str) -> str:
    with pytest.raises(AuthFailed) as failed:
        await registry.authenticate(token)
    return failed.value.code


async def test_who_it_is_comes_from_the_database(world: World) -> None:
    token, sid = world.log_in(7, "moderator")
    assert await world.registry.authenticate(token) == Identity(
        7, "user7", "moderator", str(sid), world.clock.now + 3600
    )


async def test_it_is_asked_once(world: World) -> None:
    token, _ = world.log_in()
    for _ in range(10):
        await world.registry.authenticate(token)
    assert world.sessions.queries == [1]
    assert (world.registry.counts.hits, world.registry.counts.lookups) == (9, 1)


async def test_what_is_unknown_is_refused(world: World) -> None:
    token, sid = world.log_in()
    del world.sessions.rows[sid]
    assert await failure(world.registry, token) == "SESSION_ENDED"
    no_uuid, _ = world.tokens.issue(7, "x", "user", "no uuid")
    assert await failure(world.registry, no_uuid) == "SESSION_ENDED"
    assert await failure(world.registry, "garbage") == "AUTH_FAILED"


async def test_a_session_serves_its_own_person_only(world: World) -> None:
    _, sid = world.log_in(7)
    token, _ = world.tokens.issue(8, "x", "user", str(sid))
    assert await failure(world.registry, token) == "SESSION_ENDED"


async def test_many_at_once_share_few_queries(world: World) -> None:
    """Eight hundred sockets in one second must not be eight hundred queries."""
    tokens = [world.log_in(number)[0] for number in range(800)]
    identities: list[Identity] = []

    async def one(token: str) -> None:
        identities.append(await world.registry.authenticate(token))

    async with trio.open_nursery() as nursery:
        for token in tokens:
            nursery.start_soon(one, token)
    assert len({identity.user_id for identity in identities}) == 800
    assert len(world.sessions.queries) <= 3
    assert sum(world.sessions.queries) == 800


async def test_many_with_one_token_share_one_look_up(world: World) -> None:
    token, _ = world.log_in()
    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(world.registry.authenticate, token)
    assert world.sessions.queries == [1]


async def test_a_revocation_that_races_a_look_up_wins(world: World) -> None:
    """The query saw the session, then it was ended and forgotten, then the query answers: it is not believed."""
    token, sid = world.log_in()
    world.sessions.gate = trio.Event()
    outcome: list[str] = []

    async def one() -> None:
        outcome.append(await failure(world.registry, token))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            del world.sessions.rows[sid]
            world.registry.forget_session(sid, 7)
            world.sessions.gate.set()
    assert outcome == ["SESSION_ENDED"]
    assert world.registry.counts.overtaken == 1
    assert world.registry.counts.cached == 0


async def test_a_ban_that_races_a_look_up_wins(world: World) -> None:
    token, sid = world.log_in()
    world.sessions.gate = trio.Event()
    outcome: list[str] = []

    async def one() -> None:
        outcome.append(await failure(world.registry, token))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one)
            await trio.testing.wait_all_tasks_blocked()
            del world.sessions.rows[sid]
            world.registry.forget_user(7)  # who does not know the session's id
            world.sessions.gate.set()
    assert outcome == ["SESSION_ENDED"]


async def test_others_in_the_same_query_are_not_held_up(world: World) -> None:
    (ended, sid), (other, _) = world.log_in(7), world.log_in(8)
    world.sessions.gate = gate = trio.Event()
    first, _ = world.log_in(9)
    done: list[int] = []

    async def one(token: str) -> None:
        try:
            done.append((await world.registry.authenticate(token)).user_id)
        except AuthFailed:
            done.append(0)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, first)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(one, ended)
            nursery.start_soon(one, other)
            await trio.testing.wait_all_tasks_blocked()
            del world.sessions.rows[sid]
            world.registry.forget_session(sid, 7)
            gate.set()
    assert sorted(done) == [0, 8, 9]


async def test_forgetting_counts_at_once(world: World) -> None:
    token, sid = world.log_in()
    await world.registry.authenticate(token)
    del world.sessions.rows[sid]
    assert (await world.registry.authenticate(token)).user_id == 7  # nobody said so yet
    world.registry.forget_session(sid, 7)
    assert await failure(world.registry, token) == "SESSION_ENDED"


async def test_forgetting_a_person_concerns_all_his_sessions_and_nobody_else(world: World) -> None:
    mine = [world.log_in(7) for _ in range(3)]
    other, _ = world.log_in(8)
    for token, _ in mine:
        await world.registry.authenticate(token)
    await world.registry.authenticate(other)
    for _, sid in mine:
        del world.sessions.rows[sid]
    world.registry.forget_user(7)
    for token, _ in mine:
        assert await failure(world.registry, token) == "SESSION_ENDED"
    before = len(world.sessions.queries)
    await world.registry.authenticate(other)
    assert len(world.sessions.queries) == before


async def test_a_demotion_counts_at_once(world: World) -> None:
    token, sid = world.log_in(7, "admin")
    assert (await world.registry.authenticate(token)).role == "admin"
    old = world.sessions.rows[sid]
    world.sessions.rows[sid] = Holder(sid, 7, "user7", "user", old.expires_at)
    told: list[int] = []
    revoked: list[Any] = []
    world.registry.on_changed(told.append)
    world.registry.on_revoked(lambda *what: revoked.append(what))
    world.registry.changed_user(7)
    assert (await world.registry.authenticate(token)).role == "user"
    assert (told, revoked) == ([7], [])


async def test_listeners_hear_what_ended_even_if_one_of_them_fails(world: World) -> None:
    heard: list[tuple[int, frozenset[str] | None]] = []

    def deaf(user_id: int, sids: frozenset[str] | None) -> None:
        raise RuntimeError

    world.registry.on_revoked(deaf)
    world.registry.on_revoked(lambda user_id, sids: heard.append((user_id, sids)))
    sid, other = uuid.uuid4(), uuid.uuid4()
    world.registry.forget_session(sid, 7)
    world.registry.forget_sessions(7, [sid, other])
    world.registry.forget_sessions(7, [])  # nothing ended: nothing to tell
    world.registry.forget_user(7)
    assert heard == [(7, frozenset({str(sid)})), (7, frozenset({str(sid), str(other)})), (7, None)]


async def test_a_revoking_block_tells_what_ended(world: World) -> None:
    heard: list[Any] = []
    world.registry.on_revoked(lambda *what: heard.append(what))
    sid = uuid.uuid4()
    with world.registry.revoking(7) as revocation:
        revocation.sids = [sid]
        assert heard == []  # only once it is done
    assert heard == [(7, frozenset({str(sid)}))]


async def test_a_revoking_block_that_surely_failed_changes_nothing(world: World) -> None:
    heard: list[Any] = []
    world.registry.on_revoked(lambda *what: heard.append(what))
    for error in (Unavailable("away"), ValueError()):
        with pytest.raises(type(error)), world.registry.revoking(7):
            raise error
    assert heard == []


async def test_a_revoking_block_in_doubt_counts_as_done(world: World) -> None:
    heard: list[Any] = []
    world.registry.on_revoked(lambda *what: heard.append(what))
    with pytest.raises(OutcomeUnknown), world.registry.revoking(7):
        raise OutcomeUnknown("cut")
    with trio.CancelScope() as scope, world.registry.revoking(7):
        scope.cancel()
        await trio.sleep_forever()
    assert heard == [(7, None), (7, None)]


async def test_a_cancelled_asker_leaves_nobody_waiting(world: World) -> None:
    """Whoever sends the query may give up: the others go on without him."""
    tokens = [world.log_in(number)[0] for number in range(5)]
    world.sessions.gate = trio.Event()
    got: list[int] = []
    scope = trio.CancelScope()

    async def asker() -> None:
        with scope:
            await world.registry.authenticate(tokens[0])

    async def one(token: str) -> None:
        got.append((await world.registry.authenticate(token)).user_id)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asker)
            await trio.testing.wait_all_tasks_blocked()
            for token in tokens:
                nursery.start_soon(one, token)
            await trio.testing.wait_all_tasks_blocked()
            scope.cancel()
            await trio.testing.wait_all_tasks_blocked()
            world.sessions.gate.set()
    assert sorted(got) == [0, 1, 2, 3, 4]


async def test_a_database_away_is_said_to_all_and_forgotten(world: World) -> None:
    token, _ = world.log_in()
    known, _ = world.log_in(8)
    await world.registry.authenticate(known)
    world.sessions.error = Unavailable("away")
    failures = 0

    async def one() -> None:
        nonlocal failures
        with pytest.raises(Unavailable):
            await world.registry.authenticate(token)
        failures += 1

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(one)
    assert failures == 10
    assert (await world.registry.authenticate(known)).user_id == 8  # who is known stays known
    world.sessions.error = None
    assert (await world.registry.authenticate(token)).user_id == 7


async def test_tokens_and_sessions_expire_in_the_cache_too(world: World) -> None:
    token, _ = world.log_in(hours=0.5)
    await world.registry.authenticate(token)
    world.clock.now += 1801
    world.sessions.rows.clear()
    assert await failure(world.registry, token) == "SESSION_ENDED"
    world.clock.now += 1800
    assert await failure(world.registry, token) == "TOKEN_EXPIRED"


async def test_changes_by_other_programs_count_within_a_minute(world: World) -> None:
    token, _ = world.log_in()
    await world.registry.authenticate(token)
    world.sessions.rows.clear()
    world.monotonic.now += 59
    await world.registry.authenticate(token)
    world.monotonic.now += 1
    assert await failure(world.registry, token) == "SESSION_ENDED"


async def test_confirming_an_identity(world: World) -> None:
    token, sid = world.log_in(7)
    identity = await world.registry.authenticate(token)
    assert await world.registry.confirm(identity) == identity
    del world.sessions.rows[sid]
    world.registry.forget_session(sid, 7)
    with pytest.raises(AuthFailed):
        await world.registry.confirm(identity)
    other, _ = world.log_in(8)
    identity = await world.registry.authenticate(other)
    world.clock.now += 3600
    with pytest.raises(AuthFailed) as failed:
        await world.registry.confirm(identity)
    assert failed.value.code == "TOKEN_EXPIRED"


async def test_memory_is_bounded_and_the_busy_stay(world: World) -> None:
    world = World(max_sessions=100)
    busy, _ = world.log_in(1)
    await world.registry.authenticate(busy)
    for number in range(500):
        await world.registry.authenticate(world.log_in(number + 2)[0])
        await world.registry.authenticate(busy)
    assert world.registry.counts.cached == 100
    assert len(world.registry._by_user) == 100
    assert world.registry.counts.lookups == 501
