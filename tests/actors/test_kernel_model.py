"""Any number of senders doing anything, with crashes, restarts, cancellation and passivation in between: what
is promised of messages holds for all of it."""

from collections import Counter
from typing import Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.actors.puppet import Puppet
from veza.actors.kernel import (
    Actor,
    ActorCrashed,
    ActorStopped,
    AskTimeout,
    MailboxFull,
    Refusal,
    Restarts,
    Supervisor,
    open_system,
)

HANDLING = st.sampled_from(["quick", "yield", "sleep", "crash", "crash late", "refuse", "defer", "passivate"])
SENDING = st.sampled_from(["tell", "tell_nowait", "ask", "ask impatiently", "answer"])
# How to send, what its handler shall do, and what happens before: nothing, a yield, or a pause (in tenths of
# a second).
STEP = st.tuples(SENDING, HANDLING, st.integers(-1, 3))
SENDER = st.tuples(
    st.lists(STEP, max_size=8),
    st.integers(0, 25) | st.none(),  # cancelled at this time (in twentieths of a second), or never
)


class Room(Puppet):
    """Notes what it handles, and that it is alone; does what the message says."""

    idle_after = 0.3

    def __init__(self, running: list[Actor], handled: list[Any]) -> None:
        super().__init__()
        self.running = running
        self.handled = handled

    async def started(self) -> None:
        await trio.lowlevel.checkpoint()

    async def handle(self, message: Any) -> Any:
        name, what = message
        self.running.append(self)
        try:
            assert len(self.running) == 1, "two messages at once, or two incarnations"
            self.handled.append(name)
            match what:
                case "yield":
                    await trio.lowlevel.checkpoint()
                case "sleep":
                    await trio.sleep(0.07)
                case "crash":
                    raise ValueError
                case "crash late":
                    await trio.sleep(0.03)
                    raise ValueError
                case "refuse":
                    raise Refusal(name)
                case "defer":
                    reply = self.context.defer()
                    self.context.job(trio.sleep, 0.1, then=lambda _: (("job", name), "quick"))
                    reply.send(name)
                case "passivate":
                    self.context.passivate()
            return name
        finally:
            self.running.remove(self)


class Run:
    """One example: what was accepted, handled and answered, by name; a name is (sender, number)."""

    def __init__(self) -> None:
        self.running: list[Actor] = []
        self.handled: list[Any] = []
        self.accepted: list[Any] = []
        self.maybe: set[Any] = set()  # asked, and given up
        self.lane: set[Any] = set()

    async def send(self, rooms: Supervisor, how: str, name: Any, what: str) -> None:
        ref = rooms.ensure("a", lambda: Room(self.running, self.handled), capacity=2)
        message = (name, what)
        try:
            match how:
                case "tell":
                    await ref.tell(message)
                    self.accepted.append(name)
                case "tell_nowait":
                    ref.tell_nowait(message)
                    self.accepted.append(name)
                case "answer":
                    self.lane.add(name)
                    self.accepted.append(name)
                    ref.answer(message)
                case _:
                    self.maybe.add(name)
                    answer = await ref.ask(message, timeout=0.1 if how == "ask impatiently" else 99)
                    assert answer == name
                    self.answered(name)
        except Refusal as refusal:
            assert what == "refuse" and refusal.args == (name,)
            self.answered(name)
        except ActorCrashed:
            assert what in ("crash", "crash late")
            self.answered(name)
        except AskTimeout:
            assert how == "ask impatiently"
        except ActorStopped:
            # It was passivated while this waited for room: not accepted.
            self.maybe.discard(name)
            assert name not in self.handled
        except MailboxFull:
            assert how == "tell_nowait"

    def answered(self, name: Any) -> None:
        self.maybe.discard(name)
        self.accepted.append(name)
        assert name in self.handled


@settings(max_examples=300, deadline=None)
@given(senders=st.lists(SENDER, min_size=1, max_size=4), restarts=st.lists(st.integers(0, 25), max_size=2))
def test_accepted_messages_are_handled_once_each_in_their_senders_order(
    senders: list[tuple[list[tuple[str, str, int]], int | None]], restarts: list[int]
) -> None:
    run = Run()

    async def sender(rooms: Supervisor, number: int, steps: list[tuple[str, str, int]]) -> None:
        for step, (how, what, pause) in enumerate(steps):
            if pause == 0:
                await trio.lowlevel.checkpoint()
            elif pause > 0:
                await trio.sleep(pause / 10)
            await run.send(rooms, how, (number, step), what)

    async def cancelled_at(
        at: int | None, rooms: Supervisor, number: int, steps: list[tuple[str, str, int]]
    ) -> None:
        with trio.CancelScope() as scope:
            if at is not None:
                scope.deadline = trio.current_time() + at / 20
            await sender(rooms, number, steps)

    async def restart(rooms: Supervisor, at: int) -> None:
        await trio.sleep(at / 20)
        if rooms.get("a") is not None:
            rooms.restart("a")

    async def main() -> None:
        with trio.fail_after(10_000):
            patience = Restarts(limit=1000, window=60, first=0.01, longest=0.2)
            async with open_system(restarts=patience, stop_timeout=1000) as system:
                rooms = system.supervisor("rooms")
                async with trio.open_nursery() as nursery:
                    for number, (steps, at) in enumerate(senders):
                        nursery.start_soon(cancelled_at, at, rooms, number, steps)
                    for at in restarts:
                        nursery.start_soon(restart, rooms, at)
                slot = rooms.get("a")
                assert slot is None or slot._slot.askers == set()
                assert await system.stop(1000) == []
                total = system.inspect("rooms")
                assert total.handled == len(run.handled)
                assert total.failures <= total.restarts <= total.failures + len(restarts)

    trio.run(main, clock=MockClock(autojump_threshold=0))

    assert max(Counter(run.handled).values(), default=1) == 1
    mine = [name for name in run.handled if name[0] != "job"]
    assert set(run.accepted) <= set(mine)
    assert set(mine) <= set(run.accepted) | run.maybe
    jobs = [name[1] for name in run.handled if name[0] == "job"]
    assert set(jobs) <= set(mine)
    for number in range(len(senders)):
        mail = [name for name in mine if name[0] == number and name not in run.lane]
        assert mail == sorted(mail)
        lane = [name for name in mine if name[0] == number and name in run.lane]
        assert lane == sorted(lane)
