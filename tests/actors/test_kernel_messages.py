"""Telling and asking: order, back pressure, deadlines, refusals, and what holds when somebody is cancelled."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.actors.puppet import Gate, Puppet, crash, refuse
from veza.actors.kernel import (
    Actor,
    ActorCrashed,
    ActorStopped,
    AskTimeout,
    CircularAsk,
    MailboxFull,
    Ref,
    Refusal,
    Reply,
    Stop,
    System,
    open_system,
)


class NotFound(Refusal):
    pass


@pytest.fixture
async def system() -> AsyncIterator[System]:
    async with open_system() as system:
        yield system


def puppet(
    system: System, name: str = "a", capacity: int | None = None, **attributes: Any
) -> tuple[Ref, list[Any]]:
    seen: list[Any] = []
    supervisor = system.supervisor(f"of {name}")
    return supervisor.start(name, lambda: Puppet(seen, **attributes), capacity=capacity), seen


async def test_messages_are_handled_in_the_order_they_were_told(system: System) -> None:
    ref, seen = puppet(system, capacity=3)
    for number in range(100):
        await ref.tell(number)
    assert await ref.ask("last") == "last"
    assert seen == [*range(100), "last"]


async def test_tells_and_asks_of_one_sender_keep_their_order(system: System) -> None:
    ref, seen = puppet(system)
    ref.tell_nowait(1)
    await ref.ask(2)
    await ref.tell(3)
    ref.tell_nowait(4)
    await ref.ask(5)
    assert seen == [1, 2, 3, 4, 5]


async def test_one_message_at_a_time(system: System) -> None:
    inside = 0

    async def careful(_: Actor) -> None:
        nonlocal inside
        inside += 1
        assert inside == 1
        await trio.sleep(1)
        inside -= 1

    ref, _ = puppet(system)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(ref.ask, careful)
    assert system.inspect(ref.path).failures == 0


async def test_a_full_mailbox_holds_the_teller_back(system: System) -> None:
    ref, seen = puppet(system, capacity=2)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    await ref.tell(1)
    await ref.tell(2)
    with pytest.raises(MailboxFull):
        ref.tell_nowait("too much")
    told = False

    async def teller() -> None:
        nonlocal told
        await ref.tell(3)
        told = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(teller)
        await wait_all_tasks_blocked()
        assert not told
        mailbox = system.inspect(ref.path).mailbox
        assert mailbox is not None
        assert (mailbox.depth, mailbox.capacity, mailbox.peak, mailbox.blocked) == (2, 2, 2, 1)
        gate.open()
    assert told
    await ref.ask("end")
    assert seen == [1, 2, 3, "end"]


async def test_a_teller_that_is_held_back_is_not_overtaken(system: System) -> None:
    ref, seen = puppet(system, capacity=1)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ref.tell, number)
            await wait_all_tasks_blocked()
        gate.open()
        await gate.entered.wait()
        await ref.tell("later")
    await ref.ask("end")
    assert seen == [0, 1, 2, 3, 4, "later", "end"]


async def test_an_ask_is_answered_with_what_the_handler_returns(system: System) -> None:
    ref, _ = puppet(system)
    assert await ref.ask(lambda actor: 6 * 7) == 42
    assert await ref.ask(lambda actor: None) is None


async def test_an_ask_has_a_deadline(system: System) -> None:
    ref, seen = puppet(system)
    gate = Gate()
    begun = trio.current_time()
    with pytest.raises(AskTimeout):
        await ref.ask(gate, timeout=3)
    assert trio.current_time() - begun == pytest.approx(3)
    gate.open()
    assert await ref.ask("still there") == "still there"
    assert seen == ["still there"]


async def test_the_deadline_includes_the_wait_for_room(system: System) -> None:
    ref, seen = puppet(system, capacity=1)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    await ref.tell(1)
    begun = trio.current_time()
    with pytest.raises(AskTimeout):
        await ref.ask("no room", timeout=2)
    assert trio.current_time() - begun == pytest.approx(2)
    gate.open()
    await ref.ask("end")
    assert seen == [1, "end"]


@pytest.mark.parametrize("given_up_by", ["timeout", "cancellation"])
async def test_an_ask_given_up_before_its_turn_is_withdrawn(system: System, given_up_by: str) -> None:
    ref, seen = puppet(system)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    if given_up_by == "timeout":
        with pytest.raises(AskTimeout):
            await ref.ask("given up", timeout=1)
    else:
        with trio.move_on_after(1):
            await ref.ask("given up", timeout=99)
    gate.open()
    await ref.ask("end")
    assert seen == ["end"]


async def test_an_ask_given_up_in_its_turn_is_handled_to_its_end_once(system: System) -> None:
    ref, seen = puppet(system)
    gate = Gate()

    async def slow(actor: Any) -> str:
        await gate(actor)
        actor.seen.append("slow")
        return "nobody hears this"

    with trio.move_on_after(1):
        await ref.ask(slow)
    gate.open()
    await ref.ask("end")
    assert seen == ["slow", "end"]


async def test_an_answer_in_the_instant_of_the_deadline_counts(system: System) -> None:
    ref, _ = puppet(system)

    async def just_in_time(_: Actor) -> str:
        await trio.sleep(1)
        return "answer"

    # Which of the two alarms rings first is the scheduler's choice; either is right, a hang or another error is not.
    try:
        assert await ref.ask(just_in_time, timeout=1) == "answer"
    except AskTimeout:
        pass


async def test_a_refusal_reaches_the_asker_and_is_no_crash(system: System) -> None:
    ref, _ = puppet(system)
    with pytest.raises(NotFound, match="no such room"):
        await ref.ask(refuse(NotFound("no such room")))
    await ref.tell(refuse(NotFound("nobody asked")))
    await ref.ask("end")
    info = system.inspect(ref.path)
    assert (info.failures, info.restarts, info.handled) == (0, 0, 3)


async def test_an_error_does_not_keep_the_handlers_frames_alive(system: System) -> None:
    ref, _ = puppet(system)
    with pytest.raises(NotFound) as caught:
        await ref.ask(refuse(NotFound()))
    assert "handle" not in [entry.name for entry in caught.traceback]


async def test_a_crash_is_an_error_for_the_asker_only(system: System) -> None:
    ref, seen = puppet(system)
    with pytest.raises(ActorCrashed) as caught:
        await ref.ask(crash)
    assert (caught.value.path, caught.value.error) == (ref.path, "ValueError")
    assert "private" not in str(caught.value)
    assert await ref.ask("next") == "next"
    assert seen == ["next"]


async def test_a_reply_can_be_deferred(system: System) -> None:
    ref, _ = puppet(system)
    owed: list[Reply] = []

    def later(actor: Actor) -> str:
        owed.append(actor.context.defer())
        return "this is not the answer"

    answers: list[Any] = []

    async def asker() -> None:
        answers.append(await ref.ask(later))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker)
        await wait_all_tasks_blocked()
        assert await ref.ask("the actor is free meanwhile")
        assert answers == []
        assert owed[0].wanted
        owed[0].send(1)
        owed[0].send(2)
        owed[0].fail(ValueError())
    assert answers == [1]
    assert not owed[0].wanted


async def test_a_deferred_reply_can_fail(system: System) -> None:
    ref, _ = puppet(system)

    async def later(actor: Actor) -> None:
        reply = actor.context.defer()
        actor.context.timer(1, lambda _: reply.fail(NotFound("gone")))

    with pytest.raises(NotFound, match="gone"):
        await ref.ask(later)


async def test_deferring_what_nobody_asked_does_no_harm(system: System) -> None:
    ref, _ = puppet(system)
    await ref.tell(lambda actor: actor.context.defer().send("to nobody"))
    await ref.ask("end")
    assert system.inspect(ref.path).failures == 0


async def test_a_reply_knows_that_nobody_waits_any_more(system: System) -> None:
    ref, _ = puppet(system)
    owed: list[Reply] = []
    with pytest.raises(AskTimeout):
        await ref.ask(lambda actor: owed.append(actor.context.defer()), timeout=1)
    assert not owed[0].wanted
    owed[0].send("too late")


async def test_a_crash_after_deferring_is_told_at_once(system: System) -> None:
    ref, _ = puppet(system)

    def defer_then_crash(actor: Actor) -> None:
        actor.context.defer()
        raise ValueError

    begun = trio.current_time()
    with pytest.raises(ActorCrashed):
        await ref.ask(defer_then_crash)
    assert trio.current_time() == begun


async def test_the_lane_goes_first_and_never_blocks(system: System) -> None:
    ref, seen = puppet(system, capacity=2)
    gate = Gate()
    await ref.tell(gate)
    await gate.entered.wait()
    await ref.tell("mail 1")
    await ref.tell("mail 2")
    for number in range(1000):
        ref.answer(number)
    mailbox = system.inspect(ref.path).mailbox
    assert mailbox is not None and mailbox.lane == 1000
    gate.open()
    await ref.ask("end")
    assert seen == [*range(1000), "mail 1", "mail 2", "end"]


async def test_an_answer_that_arrives_while_handling_is_next(system: System) -> None:
    ref, seen = puppet(system)

    def answers_itself(actor: Any) -> None:
        actor.context.ref.answer("answer")
        actor.seen.append("first")

    ref.tell_nowait(answers_itself)
    ref.tell_nowait("second")
    await ref.ask("end")
    assert seen == ["first", "answer", "second", "end"]


async def test_an_answer_wakes_a_parked_actor(system: System) -> None:
    ref, seen = puppet(system)
    await ref.ask("first")
    await wait_all_tasks_blocked()
    ref.answer("wake")
    ref.answer("up")
    await wait_all_tasks_blocked()
    assert seen == ["first", "wake", "up"]


async def test_nobody_starves_while_an_actor_is_busy(system: System) -> None:
    """An actor that always finds another message yields now and then."""
    ref, _ = puppet(system)
    turns = 0

    def forever(actor: Actor) -> None:
        actor.context.ref.answer(forever) if turns < 3 else None

    ref.answer(forever)
    while turns < 3:  # would hang, were the actor never to yield
        await trio.lowlevel.checkpoint()
        turns += 1


async def test_telling_what_has_stopped(system: System) -> None:
    supervisor = system.supervisor("rooms")
    ref = supervisor.ensure("a", Puppet)
    assert ref.alive
    await supervisor.stop("a")
    assert not ref.alive
    with pytest.raises(ActorStopped):
        await ref.tell(1)
    with pytest.raises(ActorStopped):
        ref.tell_nowait(1)
    with pytest.raises(ActorStopped):
        await ref.ask(1)
    ref.answer(1)


async def test_everybody_who_asked_is_told_when_an_actor_ends_for_good(system: System) -> None:
    """With its reason: whether their message is handled, waits in the mailbox or for room, or is owed an answer."""
    ref, _ = puppet(system, capacity=1)
    gate = Gate()
    errors: list[Exception] = []

    async def asker(message: Any) -> None:
        try:
            await ref.ask(message)
        except (NotFound, ActorStopped) as error:
            errors.append(error)

    async def ends(actor: Actor) -> None:
        await gate(actor)
        raise Stop(NotFound("no such room"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker, lambda actor: actor.context.defer())
        await wait_all_tasks_blocked()
        for message in (ends, "in the mailbox", "waits for room"):
            nursery.start_soon(asker, message)
            await wait_all_tasks_blocked()
        gate.open()
    assert [type(error) for error in errors] == [NotFound] * 4
    assert not ref.alive


async def test_asking_oneself_is_a_circle(system: System) -> None:
    ref, _ = puppet(system)
    with pytest.raises(ActorCrashed) as caught:
        await ref.ask(lambda actor: ref.ask("myself"))
    assert caught.value.error == "CircularAsk"


async def test_a_circle_through_several_is_refused_before_anything_is_sent(system: System) -> None:
    a, seen = puppet(system, "a")
    b, _ = puppet(system, "b")
    c, _ = puppet(system, "c")
    found: list[CircularAsk] = []

    async def closes(_: Actor) -> None:
        try:
            await a.ask("never sent")
        except CircularAsk as circle:
            found.append(circle)
            raise Refusal("noticed") from None

    with pytest.raises(Refusal, match="noticed"):
        await a.ask(lambda actor: b.ask(lambda actor: c.ask(closes)))
    assert found[0].circle == (c.path, a.path, b.path, c.path)
    assert seen == []
    # Nothing of it is left: the same ways are open one by one.
    for ref in (a, b, c):
        assert await ref.ask(
            lambda actor, others=(a, b, c), me=ref: [other.path for other in others if other is not me]
        )
    assert await a.ask(lambda actor: b.ask(lambda actor: c.ask("open"))) == "open"
    assert await c.ask(lambda actor: a.ask("the other way")) == "the other way"


async def test_asking_in_several_tasks_of_one_handler_is_seen(system: System) -> None:
    a, _ = puppet(system, "a")
    b, _ = puppet(system, "b")

    async def sleeps(_: Actor) -> None:
        await trio.sleep(1)

    async def asks_twice(_: Actor) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.ask, sleeps)
            nursery.start_soon(b.ask, lambda actor: a.ask("circle"))

    with pytest.raises(ActorCrashed) as caught:
        await a.ask(asks_twice)
    assert caught.value.error == "ExceptionGroup"
    assert system.inspect(b.path).last_failures[0].error == "CircularAsk"


async def test_the_end_of_one_wait_does_not_hide_another(system: System) -> None:
    a, _ = puppet(system, "a")
    b, _ = puppet(system, "b")
    gate = Gate()

    async def closes_the_circle(_: Actor) -> None:
        await trio.sleep(1)  # the first wait has ended
        await a.ask("circle")

    async def asks_twice(_: Actor) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(b.ask, gate)
            await gate.entered.wait()
            nursery.start_soon(b.ask, closes_the_circle)
            await trio.sleep(1)  # both wait now
            gate.open()

    with pytest.raises(ActorCrashed):
        await a.ask(asks_twice)
    assert system.inspect(b.path).last_failures[0].error == "CircularAsk"


async def test_waiting_for_room_counts_as_waiting(system: System) -> None:
    """a waits for room in b's mailbox; b must not ask a, or both would wait for ever."""
    a, _ = puppet(system, "a")
    b, seen = puppet(system, "b", capacity=1)
    gate = Gate()

    async def then_asks(actor: Actor) -> None:
        await gate(actor)
        with pytest.raises(CircularAsk):
            await a.ask("circle")

    await b.tell(then_asks)
    await gate.entered.wait()
    await b.tell("fills the mailbox")
    await a.tell(lambda actor: b.tell("waits for room"))
    await wait_all_tasks_blocked()
    gate.open()
    assert await a.ask("both go on") == "both go on"
    await b.ask("end")
    assert seen == ["fills the mailbox", "waits for room", "end"]


async def test_telling_oneself_with_a_full_mailbox_is_a_circle(system: System) -> None:
    ref, seen = puppet(system, capacity=1)

    async def talks_to_itself(actor: Actor) -> None:
        await actor.context.ref.tell(1)
        with pytest.raises(CircularAsk):
            await actor.context.ref.tell(2)

    await ref.ask(talks_to_itself)
    await ref.ask("end")
    assert seen == [1, "end"]


async def test_a_cancelled_teller_has_not_told(system: System) -> None:
    ref, seen = puppet(system, capacity=1)
    gate = Gate()
    with trio.CancelScope() as scope:
        scope.cancel()
        await ref.tell("cancelled before")
    await ref.tell(gate)
    await gate.entered.wait()
    await ref.tell(1)
    with trio.move_on_after(1) as scope:
        await ref.tell("cancelled while waiting for room")
    assert scope.cancelled_caught
    gate.open()
    await ref.ask("end")
    assert seen == [1, "end"]


STEPS = range(40)


@pytest.mark.parametrize("steps", STEPS)
async def test_an_asker_cancelled_at_any_step_leaves_nothing_behind(system: System, steps: int) -> None:
    """Cancelled before sending, waiting for room, in the mailbox, while handled or just when it is answered."""
    ref, seen = puppet(system, capacity=1)

    async def slow(message: str) -> str:
        for _ in range(4):
            await trio.lowlevel.checkpoint()
        seen.append(message)
        return message

    await ref.tell(lambda actor: slow("before"))
    await ref.tell(lambda actor: slow("fills the mailbox"))
    answer = None
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(cancel)
            answer = await ref.ask(lambda actor: slow("asked"))
    assert ref._slot.askers == set()
    assert await ref.ask("end") == "end"
    assert seen in (["before", "fills the mailbox", "end"], ["before", "fills the mailbox", "asked", "end"])
    if answer is not None:
        assert answer == "asked" and "asked" in seen
    else:
        assert scope.cancelled_caught


@pytest.mark.parametrize("steps", STEPS)
async def test_a_teller_cancelled_at_any_step_has_told_or_has_not(system: System, steps: int) -> None:
    ref, seen = puppet(system, capacity=1)

    async def slow(message: str) -> None:
        for _ in range(4):
            await trio.lowlevel.checkpoint()
        seen.append(message)

    told: list[str] = []
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(cancel)
            for name in "abcdefgh":
                await ref.tell(lambda actor, name=name: slow(name))
                told.append(name)
    await ref.ask("end")
    assert seen == [*told, "end"]


@pytest.mark.parametrize("steps", STEPS)
async def test_an_asking_actor_is_whole_after_its_asker_was_cancelled(system: System, steps: int) -> None:
    """The asker's cancellation is not the actor's: its handler goes on, and its own ask is answered."""
    a, seen = puppet(system, "a")
    b, _ = puppet(system, "b")

    async def asks_b(actor: Puppet) -> None:
        actor.seen.append(await b.ask("answer"))

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()

            nursery.start_soon(cancel)
            await a.ask(asks_b)
    assert await a.ask("end") == "end"
    assert seen in (["end"], ["answer", "end"])
    assert a._slot.waits_for == ()
    assert b._slot.askers == set()
    assert system.inspect(a.path).failures == 0
