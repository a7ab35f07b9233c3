"""A crash is confined to its actor: what survives it, how soon it is back, when it is given up, and what is logged."""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any
from uuid import UUID

import msgspec
import pytest
import structlog
import trio
from structlog.testing import capture_logs
from trio.testing import wait_all_tasks_blocked

from tests.actors.puppet import Gate, Puppet, crash
from veza.actors.kernel import (
    Actor,
    ActorCrashed,
    ActorStopped,
    AskTimeout,
    Refusal,
    Restarts,
    Stop,
    System,
    SystemFailed,
    open_system,
)

PATIENCE = Restarts(limit=3, window=100, first=1, longest=5)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system(restarts=PATIENCE) as system:
        yield system


async def crash_it(ref: Any) -> None:
    with pytest.raises(ActorCrashed):
        await ref.ask(crash, timeout=60)


async def test_the_actor_is_made_anew_and_keeps_its_mailbox_and_lane(system: System) -> None:
    made: list[Puppet] = []
    seen: list[Any] = []

    def factory() -> Puppet:
        made.append(Puppet(seen))
        return made[-1]

    ref = system.supervisor("rooms").ensure("a", factory)
    gate = Gate()

    async def crashes(actor: Actor) -> None:
        await gate(actor)
        raise ValueError

    await ref.tell(crashes)
    await gate.entered.wait()
    await ref.tell("mail 1")
    await ref.tell("mail 2")
    ref.answer("lane")
    gate.open()
    assert await ref.ask("end") == "end"
    assert seen == ["lane", "mail 1", "mail 2", "end"]
    assert len(made) == 2
    assert made[0].context.ref is made[1].context.ref is ref


async def test_the_message_it_crashed_on_is_not_tried_again(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", Puppet)
    tries = 0

    def poison(_: Actor) -> None:
        nonlocal tries
        tries += 1
        raise ValueError

    await ref.tell(poison)
    await ref.ask("end")
    assert tries == 1


async def test_siblings_notice_nothing(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    rooms.ensure("a", Puppet)
    b = rooms.ensure("b", lambda: Puppet(seen))
    gate = Gate()
    await b.tell(gate)
    await crash_it(rooms.ensure("a", Puppet))
    gate.open()
    await b.ask("end")
    info = system.inspect("rooms/b")
    assert (info.failures, info.restarts) == (0, 0)


async def test_each_crash_within_the_window_doubles_the_pause(system: System) -> None:
    starts: list[float] = []

    class Counting(Puppet):
        async def started(self) -> None:
            starts.append(trio.current_time())

    ref = system.supervisor("rooms", restarts=Restarts(limit=9, window=100, first=1, longest=5)).ensure(
        "a", Counting
    )
    for _ in range(5):
        await crash_it(ref)
    await ref.ask("end", timeout=60)
    pauses = [later - earlier for earlier, later in pairwise(starts)]
    assert pauses == pytest.approx([1, 2, 4, 5, 5])


async def test_crashes_are_forgotten_after_the_window(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", Puppet)
    for _ in range(12):
        await crash_it(ref)
        begun = trio.current_time()
        await ref.ask("back", timeout=60)
        assert trio.current_time() - begun == pytest.approx(1)
        await trio.sleep(101)
    assert system.inspect("rooms/a").restarts == 12


async def test_a_crash_while_starting_is_tried_again(system: System) -> None:
    class Slow(Puppet):
        async def started(self) -> None:
            await trio.sleep(1)
            if self.context.restarted < 2:
                raise OSError("database away")

    ref = system.supervisor("rooms").ensure("a", Slow)
    await wait_all_tasks_blocked()
    assert system.inspect("rooms/a").state == "starting"
    await ref.tell("waits meanwhile")
    assert await ref.ask("end", timeout=60) == "end"
    info = system.inspect("rooms/a")
    assert (info.failures, info.restarts, info.state) == (2, 2, "running")
    assert info.last_failures[0].error == "OSError"
    assert info.last_failures[0].message == ""


async def test_a_factory_that_fails_is_a_crash(system: System) -> None:
    tries = 0

    def factory() -> Puppet:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError
        return Puppet()

    assert await system.supervisor("rooms").ensure("a", factory).ask(1) == 1
    assert tries == 2


async def test_stop_in_started_ends_it_with_its_reason(system: System) -> None:
    class Missing(Puppet):
        async def started(self) -> None:
            await trio.sleep(1)
            raise Stop(Refusal("no such room"))

    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", Missing)
    with pytest.raises(Refusal, match="no such room"):
        await ref.ask(1)
    with pytest.raises(ActorStopped):
        await ref.ask(1)
    assert rooms.get("a") is None
    # And it may be tried again: perhaps the room exists by now.
    assert await rooms.ensure("a", Puppet).ask(1) == 1


async def test_what_is_carried_survives(system: System) -> None:
    made = 0

    def carry() -> dict[str, int]:
        nonlocal made
        made += 1
        return {}

    ref = system.supervisor("rooms").ensure("a", Puppet, carry)
    await ref.tell(lambda actor: actor.context.carried.update(subscribers=2))
    await crash_it(ref)
    assert await ref.ask(lambda actor: actor.context.carried) == {"subscribers": 2}
    assert made == 1


async def test_a_job_outlives_a_crash_and_the_next_incarnation_hears_of_it(system: System) -> None:
    heard: list[Any] = []

    async def work(result: str) -> str:
        await trio.sleep(0.5)
        return result

    def begin(actor: Actor) -> None:
        reply = actor.context.defer()
        actor.context.job(
            work,
            "done",
            then=lambda outcome: (
                lambda actor: (heard.append(actor.context.restarted), reply.send(outcome.unwrap()))
            ),
        )

    ref = system.supervisor("rooms").ensure("a", Puppet)
    async with trio.open_nursery() as nursery:

        async def asker() -> None:
            assert await ref.ask(begin) == "done"

        nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        await crash_it(ref)
    assert heard == [1]


async def test_timers_do_not_outlive_a_crash(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", lambda: Puppet(seen))
    await ref.ask(lambda actor: actor.context.timer(0.5, "of the first") and None)
    await ref.ask(lambda actor: actor.context.timer(60, "also of the first") and None)
    await crash_it(ref)
    await ref.ask(lambda actor: actor.context.timer(2, "of the second") and None, timeout=60)
    await trio.sleep(100)
    assert seen == ["of the second"]


async def test_a_timer_that_was_due_when_its_actor_crashed_is_not_handled(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", Puppet)

    async def crashes(actor: Actor) -> None:
        actor.context.timer(1, "due in the meantime")
        await trio.sleep(2)
        raise ValueError

    with pytest.raises(ActorCrashed):
        await ref.ask(crashes)
    assert await ref.ask(lambda actor: actor.seen) == []


async def test_then_failing_is_a_crash_of_the_actor(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", Puppet)

    async def work() -> None:
        pass

    await ref.ask(lambda actor: actor.context.job(work, then=lambda outcome: outcome.nonsense))
    await wait_all_tasks_blocked()
    await ref.ask("end")
    assert system.inspect("rooms/a").failures == 1


async def test_too_many_crashes_end_it_for_good(system: System) -> None:
    escalated: list[tuple[str, str, str]] = []

    def note(where: str) -> Any:
        return lambda path, error: escalated.append((where, path, type(error).__name__))

    outer = system.supervisor("chat", on_escalate=note("outer"))
    inner = outer.supervisor("rooms", on_escalate=note("inner"))
    ref = inner.ensure("a", Puppet)
    b = inner.ensure("b", Puppet)
    for _ in range(3):
        await crash_it(ref)
    assert escalated == []
    async with trio.open_nursery() as nursery:

        async def asker() -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(lambda actor: actor.context.defer(), timeout=60)

        nursery.start_soon(asker)
        await ref.ask("back", timeout=60)
        await crash_it(ref)
    assert escalated == [("inner", "chat/rooms/a", "ValueError"), ("outer", "chat/rooms/a", "ValueError")]
    assert not ref.alive
    assert inner.get("a") is None
    assert await b.ask("unharmed") == "unharmed"
    # Started afresh, with a clean record.
    assert await inner.ensure("a", Puppet).ask(1) == 1
    assert system.inspect("chat/rooms/a").failures == 0
    assert system.inspect("chat/rooms").failures == 4


async def test_jobs_of_an_actor_that_is_given_up_are_cancelled(system: System) -> None:
    cancelled = False

    async def work() -> None:
        nonlocal cancelled
        try:
            await trio.sleep_forever()
        finally:
            cancelled = True

    ref = system.supervisor("rooms", restarts=Restarts(limit=0)).ensure("a", Puppet)
    await ref.ask(lambda actor: actor.context.job(work, then=lambda outcome: outcome))
    await wait_all_tasks_blocked()
    await crash_it(ref)
    await wait_all_tasks_blocked()
    assert cancelled


async def test_a_critical_actor_takes_the_system_down_in_order() -> None:
    seen: list[str] = []
    with pytest.raises(SystemFailed) as caught:
        async with open_system(restarts=Restarts(limit=1, first=1)) as system:
            below = system.supervisor("ledger").ensure("main", lambda: Puppet(seen))
            ref = system.supervisor("rooms").ensure("a", Puppet, critical=True)
            await crash_it(ref)
            await below.tell("told before the end")
            await ref.tell(crash)
            await trio.sleep_forever()
    assert caught.value.path == "rooms/a"
    assert seen == ["told before the end", "stopping"]


async def test_an_error_in_on_escalate_harms_nobody(system: System) -> None:
    def bad(path: str, error: Exception) -> None:
        raise RuntimeError

    rooms = system.supervisor("rooms", restarts=Restarts(limit=0), on_escalate=bad)
    await crash_it(rooms.ensure("a", Puppet))
    assert await rooms.ensure("b", Puppet).ask(1) == 1


async def test_a_wanted_restart_keeps_everything_and_counts_no_failure(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    made: list[Puppet] = []

    def factory() -> Puppet:
        made.append(Puppet(seen))
        return made[-1]

    ref = rooms.ensure("a", factory)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    await ref.tell("mail")
    ref.answer(lambda actor: actor.seen.append(f"lane, by incarnation {actor.context.restarted}"))
    rooms.restart("a")
    begun = trio.current_time()
    gate.open()
    assert await ref.ask("end") == "end"
    assert trio.current_time() == begun
    assert seen == ["lane, by incarnation 1", "mail", "end"]
    assert len(made) == 2
    info = system.inspect("rooms/a")
    assert (info.failures, info.restarts) == (0, 1)
    system.restart("rooms/a")
    await ref.ask("again")
    assert len(made) == 3


async def test_a_wanted_restart_cuts_a_pause_short(system: System) -> None:
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", Puppet)
    await crash_it(ref)
    await wait_all_tasks_blocked()
    begun = trio.current_time()
    assert system.inspect("rooms/a").state == "restarting"
    rooms.restart("a")
    await ref.ask("back")
    assert trio.current_time() == begun
    assert system.inspect("rooms/a").restarts == 1


async def test_an_ask_during_the_pause_waits_for_the_next_incarnation_within_its_deadline(
    system: System,
) -> None:
    ref = system.supervisor("rooms").ensure("a", Puppet)
    await crash_it(ref)
    with pytest.raises(AskTimeout):
        await ref.ask(1, timeout=0.5)
    assert await ref.ask(2) == 2


class Post(msgspec.Struct, frozen=True):
    id: int
    room_id: UUID
    content: str
    token: str


async def test_the_log_of_a_crash_holds_types_ids_and_sizes_and_nothing_private(system: System) -> None:
    class Room(Puppet):
        async def handle(self, message: Any) -> Any:
            secret = message.content
            try:
                raise KeyError(secret)
            except KeyError as error:
                raise ValueError(f"bad: {secret}") from error

    room = UUID(int=7)
    with capture_logs() as logs:
        with pytest.raises(ActorCrashed):
            await system.supervisor("rooms").ensure("a", Room).ask(Post(5, room, "dear diary", "abc"))
    (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert entry["path"] == "rooms/a"
    assert entry["error"] == "ValueError"
    assert entry["message"] == "Post"
    assert entry["ids"] == {"id": 5, "room_id": str(room)}
    assert entry["sizes"] == {"content": 10, "token": 3}
    assert any(line.endswith(" handle") and "test_kernel_crashes" in line for line in entry["where"])
    assert "KeyError" in entry["where"]
    assert "diary" not in repr(logs) and "abc" not in repr(logs)


async def test_an_actor_does_not_inherit_its_starters_context(system: System) -> None:
    """Whoever happens to need a room first must not leave his request id in all its log lines."""
    rooms = system.supervisor("rooms")
    await wait_all_tasks_blocked()
    structlog.contextvars.bind_contextvars(request_id="of the first")
    try:
        ref = rooms.ensure("a", Puppet)
        assert await ref.ask(lambda actor: structlog.contextvars.get_contextvars()) == {}
    finally:
        structlog.contextvars.clear_contextvars()
