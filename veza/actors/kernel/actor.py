"""What one writes (`Actor`) and what the kernel gives it (`Context`)."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar

import outcome

from veza.actors.kernel.records import Summary

if TYPE_CHECKING:
    from veza.actors.kernel.parcels import Reply, Timer
    from veza.actors.kernel.ref import Ref
    from veza.actors.kernel.slot import Slot
    from veza.actors.kernel.system import System


class Actor:
    """State, and the one task that may touch it. Subclass it and write `handle`.

    An instance is one incarnation: after a crash the factory makes a new one. What must survive belongs in
    the database or in `context.carried`.

    A handler may await, but its mailbox waits meanwhile: leave the database and slow answers to `context.job`. It
    is cancelled only past the deadline of a stop.
    """

    mailbox_capacity: ClassVar[int] = 256
    """Messages that may wait; the next `tell` waits too."""
    idle_after: float | None = None
    """Seconds without a message after which `idle` is asked; None: never passivated by itself."""
    context: "Context"
    """Set by the kernel before `started`."""

    async def started(self) -> None:
        """Before the first message of this incarnation: load what is needed. Messages wait meanwhile.

        Raise `Stop` to end the actor for good (what it stands for does not exist); anything else is a crash.
        """

    async def handle(self, message: Any) -> Any:
        """One message. The result answers an ask, unless `context.defer` took that over.

        Raises:
          Refusal: the answer is no.
          Stop: end this actor for good.
          Exception: anything else is a crash: this message is dropped, the actor is made anew.
        """
        raise NotImplementedError

    async def stopping(self) -> None:
        """Orderly end (a stop or passivation): both lanes are empty, no job runs, nothing more will come.

        A successor under the same key waits until this has returned. A crash here is logged and changes nothing.
        """

    def summary(self) -> Summary:
        """State for inspection: counts and names, nothing private. Called at any time between two awaits."""
        return {}

    def idle(self) -> bool:
        """May this actor be passivated now?"""
        return True

    def settled(self) -> bool:
        """False while something this actor must still hear (an answer on the lane) is outstanding.

        An orderly stop and passivation wait for it. Asked whenever mailbox and lane are empty.
        """
        return True


class Context:
    """What an actor may ask of the kernel. An inline actor has no jobs, timers or passivation."""

    __slots__ = ("_slot", "ref")

    def __init__(self, slot: "Slot", ref: "Ref") -> None:
        self._slot = slot
        self.ref = ref
        """Names this actor, whatever the incarnation."""

    @property
    def path(self) -> str:
        return self._slot.path

    @property
    def system(self) -> "System":
        return self._slot.supervisor.system

    @property
    def carried(self) -> Any:
        """What the `carry` factory made, once for all incarnations; None if there is none."""
        return self._slot.carried

    @property
    def restarted(self) -> int:
        """How many incarnations there were before this one: 0 in the first."""
        return self._slot.meter.restarts

    def defer(self) -> "Reply":
        """Take over answering the message now being handled; the handler's result is ignored.

        If nobody asked, the reply goes nowhere. If this handler crashes after all, the asker hears of it at once.
        """
        return self._slot.defer()

    def job(
        self, fn: Callable[..., Awaitable[Any]], *args: Any, then: Callable[[outcome.Outcome[Any]], Any]
    ) -> None:
        """Run `await fn(*args)` beside the actor. `then` makes its outcome a message, which arrives by the lane.

        `then` runs in the actor's task, just before `handle`. A job outlives a crash: the next incarnation gets
        its result. An orderly stop waits for it and handles its result. It is cancelled, and nobody hears of its
        outcome, when its actor ends otherwise: by `Stop`, after too many crashes, or past a stop's deadline.

        Raises:
          ActorStopped: the actor has ended (`stopping` is too late for jobs).
        """
        self._slot.job(fn, args, then)

    def timer(self, seconds: float, message: Any) -> "Timer":
        """Have `message` arrive through the lane after that time.

        Once cancelled it is not handled, even if it was due. Timers belong to this incarnation: a crash or the
        end cancels them. An orderly stop does not wait for them.
        """
        return self._slot.timer(seconds, message)

    def passivate(self) -> None:
        """Ask for an orderly end as soon as both lanes are empty, no job runs and all is `settled`.

        The request lapses if `idle` is False by then. Answers owed by then are answered with ActorStopped.
        """
        self._slot.passivate()
