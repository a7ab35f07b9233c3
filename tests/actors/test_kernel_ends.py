"""How actors end: passivation without a race, one actor's orderly stop, and the whole system's."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.actors.puppet import Gate, Puppet, crash
from veza.actors.kernel import (
    Actor,
    ActorCrashed,
    ActorStopped,
    AlreadyRunning,
    Ref,
    Restarts,
    Supervisor,
    System,
    open_system,
)


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


def quiet(seen: list[Any], idle_after: float | None = 10, **attributes: Any) -> Any:
    return lambda: Puppet(seen, idle_after=idle_after, **attributes)


# Passivation


async def test_an_idle_actor_is_passivated(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen))
    await ref.ask(1)
    await trio.sleep(9.9)
    assert ref.alive
    await trio.sleep(0.2)
    assert not ref.alive
    assert rooms.get("a") is None
    assert len(rooms) == 0
    assert seen == [1, "stopping"]
    with pytest.raises(ActorStopped):
        await ref.tell(2)
    again = rooms.ensure("a", quiet(seen))
    assert again is not ref
    assert await again.ask(3) == 3


async def test_every_message_puts_passivation_off(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", quiet([]))
    for _ in range(10):
        await trio.sleep(9)
        await ref.tell(1)
    await trio.sleep(9.9)
    assert ref.alive
    await trio.sleep(0.2)
    assert not ref.alive


async def test_an_actor_that_says_it_is_not_idle_stays_and_is_asked_again(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", quiet([]))
    await ref.ask(lambda actor: setattr(actor, "may_idle", False))
    await trio.sleep(95)
    assert ref.alive
    actor = ref._slot.actor
    assert isinstance(actor, Puppet)
    actor.may_idle = True
    await trio.sleep(10)
    assert not ref.alive


@pytest.mark.parametrize("steps", range(12))
async def test_a_tell_at_the_moment_of_passivation_is_handled_or_refused(system: System, steps: int) -> None:
    """Never accepted and lost. `ensure` after a refusal finds a new actor."""
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen, idle_after=None))
    await ref.ask("first")
    ref._slot.passivate()
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    try:
        await ref.tell("told")
        accepted = True
    except ActorStopped:
        accepted = False
        await rooms.ensure("a", quiet(seen)).tell("told")
    await wait_all_tasks_blocked()
    assert seen == (["first", "told", "stopping"] if accepted else ["first", "stopping", "told"])


async def test_passivate_waits_until_the_mailbox_is_empty(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", quiet(seen, idle_after=None))
    gate = Gate()

    async def leaves(actor: Actor) -> None:
        actor.context.passivate()
        await gate(actor)

    await ref.tell(leaves)
    await gate.entered.wait()
    await ref.tell(1)
    ref.answer(2)
    gate.open()
    await wait_all_tasks_blocked()
    assert seen == [2, 1, "stopping"]


async def test_passivate_lapses_if_the_actor_is_no_longer_idle(system: System) -> None:
    ref = system.supervisor("rooms").ensure("a", quiet([], idle_after=None, may_idle=False))
    await ref.ask(lambda actor: actor.context.passivate())
    await wait_all_tasks_blocked()
    assert ref.alive
    await ref.ask(lambda actor: setattr(actor, "may_idle", True))
    await wait_all_tasks_blocked()
    assert ref.alive


async def test_passivate_waits_for_jobs_and_until_settled(system: System) -> None:
    seen: list[Any] = []
    ref = system.supervisor("rooms").ensure("a", quiet(seen, idle_after=None))

    async def work() -> None:
        await trio.sleep(1)

    def begin(actor: Any) -> None:
        actor.context.job(work, then=lambda _: "result")
        actor.is_settled = False
        actor.context.passivate()

    await ref.tell(begin)
    await trio.sleep(2)
    assert seen == ["result"]
    assert ref.alive
    ref.answer(lambda actor: setattr(actor, "is_settled", True))
    await wait_all_tasks_blocked()
    assert seen == ["result", "stopping"]


async def test_an_actor_with_a_job_or_an_answer_owed_is_not_passivated_for_silence(system: System) -> None:
    rooms = system.supervisor("rooms")
    a = rooms.ensure("a", quiet([]))
    b = rooms.ensure("b", quiet([]))

    async def work() -> None:
        await trio.sleep(35)

    await a.tell(lambda actor: actor.context.job(work, then=lambda _: "result"))
    async with trio.open_nursery() as nursery:

        async def asker() -> None:
            assert await b.ask(lambda actor: owed.append(actor.context.defer()), timeout=60) == "late"

        owed: list[Any] = []
        nursery.start_soon(asker)
        await trio.sleep(34)
        assert a.alive and b.alive
        owed[0].send("late")
    await trio.sleep(30)
    assert not a.alive and not b.alive


async def test_a_successor_waits_until_its_predecessor_has_ended(system: System) -> None:
    """Two incarnations of one key never run at once, though the key is free at once."""
    rooms = system.supervisor("rooms")
    running: list[str] = []

    class Careful(Puppet):
        async def started(self) -> None:
            running.append("in")
            assert running.count("in") - running.count("out") == 1

        async def stopping(self) -> None:
            await trio.sleep(5)
            running.append("out")

    first = rooms.ensure("a", Careful)
    await first.ask(lambda actor: actor.context.passivate())
    await wait_all_tasks_blocked()
    second = rooms.ensure("a", Careful)
    await second.tell("waits for its actor")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rooms.stop, "a")
        await wait_all_tasks_blocked()
        third = rooms.ensure("a", Careful)
        assert len({first, second, third}) == 3
        assert {child.state for child in system.inspect("rooms").children} == {"stopping", "starting"}
        begun = trio.current_time()
        assert await third.ask(1, timeout=60) == 1
        assert trio.current_time() - begun == pytest.approx(10)
    assert running == ["in", "out", "in", "out", "in"]


# One actor's stop


async def test_stop_drains_what_was_accepted_and_refuses_the_rest(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen), capacity=2)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    await ref.tell(1)
    await ref.tell(2)
    refused: list[str] = []

    async def teller() -> None:
        try:
            await ref.tell("for room")
        except ActorStopped:
            refused.append("for room")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller)
        await wait_all_tasks_blocked()
        nursery.start_soon(rooms.stop, "a")
        await wait_all_tasks_blocked()
        assert refused == ["for room"]
        assert system.inspect("rooms/a").state == "stopping"
        with pytest.raises(ActorStopped):
            await ref.tell("too late")
        ref.answer("the lane stays open")
        gate.open()
    assert seen == ["the lane stays open", 1, 2, "stopping"]


async def test_stop_waits_for_jobs_and_handles_their_results(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen))

    async def work(number: int) -> int:
        await trio.sleep(number)
        return number

    def begin(actor: Any, number: int = 1) -> None:
        if number < 4:  # each result begins another job
            actor.seen.append(number)
            actor.context.job(
                work, number, then=lambda outcome: lambda actor: begin(actor, outcome.unwrap() + 1)
            )

    await ref.ask(begin)
    assert await rooms.stop("a")
    assert seen == [1, 2, 3, "stopping"]


async def test_stop_waits_until_settled(system: System) -> None:
    """A room that has handed a post to the ledger hears of it before it ends."""
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen, is_settled=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rooms.stop, "a")
        await trio.sleep(60)
        assert seen == []
        ref.answer(lambda actor: setattr(actor, "is_settled", True))
    assert seen == ["stopping"]


async def test_stop_of_what_was_never_started_or_is_not_there(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    assert await rooms.stop("nobody")
    ref = rooms.ensure("a", quiet(seen))
    ref.tell_nowait(1)
    assert await rooms.stop("a")
    assert seen == [1, "stopping"]
    assert await rooms.stop("a")


async def test_stop_during_the_pause_after_a_crash_hurries(system: System) -> None:
    rooms = system.supervisor("rooms", restarts=Restarts(first=60, longest=60, window=1000))
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen))
    await ref.tell(crash)
    await ref.tell("told before the stop")
    await wait_all_tasks_blocked()
    begun = trio.current_time()
    assert await rooms.stop("a")
    assert trio.current_time() == begun
    assert seen == ["told before the stop", "stopping"]


async def test_stop_past_its_time_cancels_handler_and_jobs_and_tells_the_askers(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen))
    ended: list[str] = []

    async def forever(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(name)

    await ref.ask(lambda actor: actor.context.job(forever, "job", then=lambda _: "result"))

    async def asker(message: Any) -> None:
        with pytest.raises(ActorStopped):
            await ref.ask(message, timeout=60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker, lambda actor: forever("handler"))
        await wait_all_tasks_blocked()
        nursery.start_soon(asker, "in the mailbox")
        await wait_all_tasks_blocked()
        begun = trio.current_time()
        assert not await rooms.stop("a", timeout=3)
        assert trio.current_time() - begun == pytest.approx(3)
    assert sorted(ended) == ["handler", "job"]
    assert seen == []
    assert await rooms.ensure("a", quiet(seen)).ask(1) == 1


async def test_what_is_said_while_everything_is_cancelled_does_no_harm(system: System) -> None:
    """A cancelled job still sends its actor something, which was itself cancelled while it had nothing to do."""
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", quiet([]))

    async def says_goodbye() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ref.answer("goodbye")

    await ref.ask(lambda actor: actor.context.job(says_goodbye, then=lambda _: "result"))
    assert not await rooms.stop("a", timeout=1)
    assert await rooms.ensure("a", quiet([])).ask(1) == 1


async def test_a_stop_with_no_time_at_all_still_ends(system: System) -> None:
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", quiet([]))
    ref.tell_nowait(Gate())
    assert not await rooms.stop("a", timeout=0)
    assert rooms.get("a") is None


async def test_cancelling_the_wait_for_a_stop_does_not_take_it_back(system: System) -> None:
    rooms = system.supervisor("rooms")
    seen: list[Any] = []
    ref = rooms.ensure("a", quiet(seen))
    gate = Gate()
    await ref.tell(gate)
    with trio.move_on_after(1):
        await rooms.stop("a")
    assert not ref.alive
    gate.open()
    assert await rooms.stop("a")
    assert seen == ["stopping"]


async def test_a_handler_that_turns_its_cancellation_into_an_error_harms_nobody(system: System) -> None:
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", quiet([]))
    b = rooms.ensure("b", quiet([]))

    async def bad(_: Actor) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError

    await ref.tell(bad)
    await wait_all_tasks_blocked()
    assert not await rooms.stop("a", timeout=1)
    assert await b.ask("unharmed") == "unharmed"


async def test_an_error_in_stopping_is_logged_and_changes_nothing(system: System) -> None:
    class Bad(Puppet):
        async def stopping(self) -> None:
            raise ValueError

    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", Bad)
    assert await rooms.stop("a")
    assert not ref.alive
    assert system.inspect("rooms").failures == 1
    assert system.inspect("rooms").restarts == 0


async def test_an_actor_cannot_wait_for_its_own_end(system: System) -> None:
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", quiet([]))
    for stop in (lambda actor: rooms.stop("a"), lambda actor: system.stop()):
        with pytest.raises(ActorCrashed) as caught:
            await ref.ask(stop)
        assert caught.value.error == "CircularAsk"
    b = rooms.ensure("b", quiet([]))
    assert await b.ask(lambda actor: rooms.stop("a"))


# The whole system's stop


class Talker(Puppet):
    """Tells somebody else when it stops, as actors above do with those below."""

    def __init__(self, seen: list[Any], other: Ref | None, name: str) -> None:
        super().__init__(seen)
        self.other = other
        self.name = name

    async def stopping(self) -> None:
        if self.other is not None:
            await self.other.ask(f"{self.name} is going")
        self.seen.append(f"{self.name} stopped")


async def test_supervisors_stop_in_reverse_order_so_that_what_others_rely_on_ends_last() -> None:
    seen: list[Any] = []
    async with open_system() as system:
        ledger = system.supervisor("ledger").ensure("main", lambda: Talker(seen, None, "ledger"))
        chat = system.supervisor("chat")
        room = chat.ensure("room", lambda: Talker(seen, ledger, "room"))
        chat.supervisor("sessions").ensure("s", lambda: Talker(seen, room, "session"))
        await room.tell("told")
        assert await system.stop() == []
        with pytest.raises(ActorStopped):
            chat.ensure("another", Puppet)
        with pytest.raises(ActorStopped):
            system.supervisor("another")
        assert await system.stop() == []
    assert seen == [
        "told",
        "session is going",
        "session stopped",
        "room is going",
        "room stopped",
        "ledger stopped",
    ]


async def test_leaving_the_system_stops_it_too() -> None:
    seen: list[Any] = []
    async with open_system() as system:
        ref = system.supervisor("rooms").ensure("a", lambda: Puppet(seen))
        ref.tell_nowait(1)
    assert seen == [1, "stopping"]


async def test_an_error_in_the_body_goes_on_as_it_was_after_an_orderly_stop() -> None:
    seen: list[Any] = []
    with pytest.raises(KeyError):
        async with open_system() as system:
            system.supervisor("rooms").ensure("a", lambda: Puppet(seen)).tell_nowait(1)
            raise KeyError
    assert seen == [1, "stopping"]


async def test_a_cancelled_body_still_stops_in_order() -> None:
    seen: list[Any] = []

    async def slow(actor: Any) -> None:
        await trio.sleep(2)
        actor.seen.append("slow")

    with trio.move_on_after(1) as scope:
        async with open_system() as system:
            await system.supervisor("rooms").ensure("a", lambda: Puppet(seen)).tell(slow)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert seen == ["slow", "stopping"]


async def test_the_stop_has_a_deadline_and_names_those_it_cancelled() -> None:
    seen: list[Any] = []
    async with open_system() as system:
        system.supervisor("ledger").ensure("main", lambda: Puppet(seen)).tell_nowait("told")
        rooms = system.supervisor("rooms")
        rooms.ensure("stuck", Puppet).tell_nowait(Gate())
        rooms.ensure("fine", Puppet)
        begun = trio.current_time()
        assert await system.stop(timeout=8) == ["rooms/stuck"]
        # One that hangs has its own share of the time, not everybody's.
        assert trio.current_time() - begun == pytest.approx(4)
    assert seen == ["told", "stopping"]


async def test_a_stop_with_no_time_cancels_everything() -> None:
    async with open_system() as system:
        for name in ("a", "b"):
            system.supervisor(name).ensure("stuck", Puppet).tell_nowait(Gate())
        assert sorted(await system.stop(timeout=0)) == ["a/stuck", "b/stuck"]


async def test_those_below_may_still_be_started_while_those_above_drain() -> None:
    seen: list[Any] = []
    async with open_system() as system:
        ledger: Supervisor = system.supervisor("ledger")

        async def needs_the_ledger(_: Actor) -> None:
            await ledger.ensure("first use", lambda: Puppet(seen)).ask("asked")

        system.supervisor("rooms").ensure("a", Puppet).tell_nowait(needs_the_ledger)
    assert seen == ["asked", "stopping"]


async def test_the_same_key_is_the_same_ref(system: System) -> None:
    rooms = system.supervisor("rooms")
    ref = rooms.ensure("a", Puppet)
    assert rooms.ensure("a", Puppet) is ref
    assert rooms.get("a") is ref
    assert rooms.get("b") is None
    with pytest.raises(AlreadyRunning):
        rooms.start("a", Puppet)
    with pytest.raises(AlreadyRunning):
        system.supervisor("rooms")


async def test_a_mailbox_is_as_large_as_its_class_or_its_maker_says(system: System) -> None:
    class Large(Puppet):
        mailbox_capacity = 1000

    rooms = system.supervisor("rooms")
    rooms.ensure("class", Large)
    rooms.ensure("partial", partial(Large, None))
    rooms.ensure("said", Large, capacity=5)
    rooms.ensure("other factory", lambda: Puppet())
    capacities = {
        info.path: info.mailbox.capacity for info in system.inspect("rooms").children if info.mailbox
    }
    assert capacities == {
        "rooms/class": 1000,
        "rooms/partial": 1000,
        "rooms/said": 5,
        "rooms/other factory": 256,
    }
