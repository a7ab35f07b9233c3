"""What runs beside an actor, or without a task: jobs, timers, the clock, and inline actors."""

import gc
import random
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.actors.puppet import Gate, Puppet, crash, refuse
from veza.actors.kernel import (
    Actor,
    ActorCrashed,
    ActorStopped,
    AlreadyRunning,
    CircularAsk,
    NoSuchActor,
    Refusal,
    System,
    Timer,
    open_system,
)
from veza.actors.kernel.clock import Alarm, Clock


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


# Jobs


async def test_a_job_runs_beside_the_handler_and_its_outcome_arrives_through_the_lane(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", lambda: Puppet(seen))
    gate = Gate()

    async def work(number: int) -> int:
        await trio.sleep(number)
        return number

    async def begin(actor: Actor) -> None:
        for number in (2, 1):
            actor.context.job(work, number, then=lambda outcome: outcome.unwrap())
        await gate(actor)

    await ref.tell(begin)
    await gate.entered.wait()
    await ref.tell("mail")
    assert system.inspect("rooms/a").jobs == 2
    await trio.sleep(3)
    assert system.inspect("rooms/a").jobs == 0
    gate.open()
    await ref.ask("end")
    assert seen == [1, 2, "mail", "end"]


async def test_a_job_that_fails_is_an_outcome_and_no_crash(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", lambda: Puppet(seen))

    async def fails() -> None:
        raise OSError

    await ref.ask(lambda actor: actor.context.job(fails, then=lambda outcome: type(outcome.error).__name__))
    await wait_all_tasks_blocked()
    assert seen == ["OSError"]
    assert system.inspect("rooms/a").failures == 0


async def test_a_job_may_ask_its_own_actor(system: System) -> None:
    """No handler waits for a job, so this is no circle."""
    ref = system.supervisor("rooms").ensure("a", Puppet)

    def begin(actor: Actor) -> None:
        reply = actor.context.defer()
        actor.context.job(
            ref.ask, "from the job", then=lambda outcome: lambda _: reply.send(outcome.unwrap())
        )

    assert await ref.ask(begin) == "from the job"


async def test_an_actor_that_has_ended_begins_no_job(system: System) -> None:
    errors: list[Exception] = []

    class Late(Puppet):
        async def stopping(self) -> None:
            try:
                self.context.job(trio.sleep, 1, then=lambda outcome: outcome)
            except ActorStopped as error:
                errors.append(error)

    rooms = system.supervisor("rooms")
    rooms.ensure("a", Late)
    await rooms.stop("a")
    assert len(errors) == 1


# Timers


async def test_a_timers_message_arrives_at_its_time(system: System) -> None:
    times: dict[Any, float] = {}
    ref = system.supervisor("rooms").ensure("a", Puppet)
    begun = trio.current_time()

    def note(name: str) -> Any:
        return lambda actor: times.__setitem__(name, trio.current_time() - begun)

    def set_timers(actor: Actor) -> None:
        for seconds, name in ((3, "c"), (1, "a"), (2, "b"), (0, "now")):
            actor.context.timer(seconds, note(name))

    await ref.ask(set_timers)
    assert times == {}
    await trio.sleep(10)
    assert list(times) == ["now", "a", "b", "c"]
    assert list(times.values()) == pytest.approx([0, 1, 2, 3])


async def test_a_cancelled_timer_is_not_handled(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", lambda: Puppet(seen))
    timer: Timer = await ref.ask(lambda actor: actor.context.timer(1, "tick"))
    timer.cancel()
    timer.cancel()
    await trio.sleep(2)
    assert seen == []
    timer = await ref.ask(lambda actor: actor.context.timer(1, "tick"))
    await trio.sleep(2)
    timer.cancel()
    assert seen == ["tick"]


async def test_a_timer_cancelled_when_it_was_already_due_is_not_handled(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", lambda: Puppet(seen))

    async def cancels_late(actor: Actor) -> None:
        timer = actor.context.timer(1, "tick")
        await trio.sleep(2)  # it lies in the lane by now
        timer.cancel()

    await ref.ask(cancels_late)
    await ref.ask("end")
    assert seen == ["end"]


async def test_an_orderly_stop_does_not_wait_for_timers(system: System) -> None:
    seen: list[Any] = []
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", lambda: Puppet(seen))
    await ref.ask(lambda actor: actor.context.timer(1000, "tick") and None)
    begun = trio.current_time()
    assert await rooms.stop("a")
    assert trio.current_time() == begun
    await trio.sleep(2000)
    assert seen == ["stopping"]


@given(
    alarms=st.lists(st.tuples(st.integers(0, 50), st.integers(0, 60) | st.none()), max_size=200),
)
def test_the_clock_rings_each_alarm_once_at_its_time_unless_cancelled(
    alarms: list[tuple[int, int | None]],
) -> None:
    """Each alarm is due at the first number; at the second, if there is one, it is cancelled."""
    rung: list[tuple[int, float]] = []

    async def main() -> None:
        clock = Clock()
        clock.SWEEP = 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(clock.run)

            async def cancel(alarm: Alarm, at: int) -> None:
                await trio.sleep(at + 0.5)
                alarm.cancel()

            for number, (due, cancelled) in enumerate(alarms):

                def ring(number: int = number) -> None:
                    rung.append((number, trio.current_time()))

                alarm = clock.schedule(due, ring)
                if cancelled is not None:
                    nursery.start_soon(cancel, alarm, cancelled)
            await trio.sleep(100)
            assert clock._heap == []
            assert clock._dead == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    expected = {
        n: due for n, (due, cancelled) in enumerate(alarms) if cancelled is None or due < cancelled + 0.5
    }
    assert {n: pytest.approx(at, abs=0.1) for n, at in rung} == expected
    assert len(rung) == len(expected)


async def test_alarms_keep_their_order_when_most_of_them_are_swept_out() -> None:
    rung: list[int] = []
    clock = Clock()
    dues = random.Random(1).sample(range(1000), 1000)
    alarms = {due: clock.schedule(due, lambda due=due: rung.append(due)) for due in dues}  # type: ignore[misc]
    for due in dues[:700]:
        alarms[due].cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        await trio.sleep(1001)
        nursery.cancel_scope.cancel()
    assert rung == sorted(dues[700:])


async def test_cancelled_alarms_do_not_pile_up() -> None:
    clock = Clock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock.run)
        kept = clock.schedule(1000, lambda: None)
        for _ in range(10_000):
            clock.schedule(1000, lambda: None).cancel()
        assert len(clock._heap) < 200
        assert kept in [entry[2] for entry in clock._heap]
        nursery.cancel_scope.cancel()


# Inline actors


async def test_an_inline_actor_handles_in_its_callers_task(system: System) -> None:
    sessions = system.supervisor("sessions")
    task = trio.lowlevel.current_task()
    actor = Puppet()
    with sessions.attach(7, actor) as slot:
        assert slot.ref.path == "sessions/7"
        assert sessions.get(7) is slot.ref
        assert await slot.handle("hello") == "hello"
        assert await slot.handle(lambda actor: trio.lowlevel.current_task()) is task
        assert actor.context.ref is slot.ref
        info = system.inspect("sessions/7")
        assert (info.kind, info.handled, info.failures, info.mailbox) == ("Puppet", 2, 0, None)
    with pytest.raises(NoSuchActor):
        system.inspect("sessions/7")
    with pytest.raises(ActorStopped):
        await slot.handle("gone")
    assert actor.seen == ["hello"]
    assert system.inspect("sessions").handled == 2


async def test_an_inline_actors_crash_is_counted_and_told_to_the_caller(system: System) -> None:
    with system.supervisor("sessions").attach(7, Puppet()) as slot:
        with pytest.raises(ActorCrashed) as caught:
            await slot.handle(crash)
        assert (caught.value.path, caught.value.error) == ("sessions/7", "ValueError")
        with pytest.raises(Refusal, match="no"):
            await slot.handle(refuse(Refusal("no")))
        info = system.inspect("sessions/7")
        assert (info.handled, info.failures) == (2, 1)
        assert await slot.handle("the caller may go on") == "the caller may go on"


async def test_an_inline_actor_handles_one_message_at_a_time(system: System) -> None:
    with system.supervisor("sessions").attach(7, Puppet()) as slot:
        gate = Gate()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(slot.handle, gate)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await slot.handle("meanwhile")
            gate.open()
        assert await slot.handle("after") == "after"


async def test_an_inline_actor_may_ask_but_not_in_a_circle(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", Puppet)
    with system.supervisor("sessions").attach(7, Puppet()) as slot:
        assert await slot.handle(lambda actor: ref.ask("from the session")) == "from the session"

        async def back(_: Actor) -> None:
            with pytest.raises(CircularAsk):
                await slot.handle("circle")

        await slot.handle(lambda actor: ref.ask(back))
        assert await ref.ask(lambda actor: slot.handle("this way alone is open")) == "this way alone is open"


async def test_an_inline_actors_ref_names_it_and_refuses_messages(system: System) -> None:
    with system.supervisor("sessions").attach(7, Puppet()) as slot:
        assert not slot.ref.alive
        with pytest.raises(ActorStopped):
            await slot.ref.tell(1)
        with pytest.raises(ActorStopped):
            slot.ref.tell_nowait(1)
        with pytest.raises(ActorStopped):
            await slot.ref.ask(1)
        slot.ref.answer(1)
        for message in (
            lambda actor: actor.context.job(trio.sleep, 1, then=lambda outcome: outcome),
            lambda actor: actor.context.timer(1, "tick"),
            lambda actor: actor.context.passivate(),
        ):
            with pytest.raises(ActorCrashed):
                await slot.handle(message)
        await slot.handle(lambda actor: actor.context.defer().send("to nobody"))


async def test_cancelling_the_caller_cancels_an_inline_handler(system: System) -> None:
    with system.supervisor("sessions").attach(7, Puppet()) as slot:
        with trio.move_on_after(1):
            await slot.handle(Gate())
        assert await slot.handle("fine") == "fine"
        assert system.inspect("sessions/7").failures == 0


async def test_attaching_needs_a_free_key_and_an_open_supervisor(system: System) -> None:
    sessions = system.supervisor("sessions")
    with sessions.attach(7, Puppet()):
        with pytest.raises(AlreadyRunning):
            sessions.attach(7, Puppet())
        with pytest.raises(AlreadyRunning):
            sessions.start(7, Puppet)
        with pytest.raises(NoSuchActor):
            sessions.restart(7)
        assert await sessions.stop(7)
        await system.stop()
    with pytest.raises(ActorStopped):
        sessions.attach(8, Puppet())


async def test_an_idle_inline_actor_is_small(system: System) -> None:
    sessions = system.supervisor("sessions")
    actors = [Puppet() for _ in range(1000)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        slots = [sessions.attach(number, actor) for number, actor in enumerate(actors)]
        each = (tracemalloc.get_traced_memory()[0] - before) / 1000
    finally:
        tracemalloc.stop()
    assert each < 1024
    for slot in slots:
        with slot:
            pass
    assert len(sessions) == 0


async def test_what_has_ended_is_freed_without_the_garbage_collector(system: System) -> None:
    """Sockets and rooms come and go by the thousand."""
    supervisor = system.supervisor("rooms")
    freed: list[str] = []

    def make(name: str) -> Puppet:
        actor = Puppet()
        weakref.finalize(actor, freed.append, name)
        return actor

    gc.disable()
    try:
        with supervisor.attach("inline", make("inline")) as slot:
            await slot.handle(1)
        del slot
        assert freed == ["inline"]
        await supervisor.ensure("a", lambda: make("actor")).ask(1)
        await supervisor.stop("a")
        await wait_all_tasks_blocked()
        assert freed == ["inline", "actor"]
    finally:
        gc.enable()
