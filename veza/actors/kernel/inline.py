"""An actor without a task of its own, for things that are many and mostly silent, such as one per socket.

Its messages are handled in its caller's task; it is named, counted and inspected like any other. An idle one
costs under a kilobyte.
"""

from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, final

import trio

from veza.actors.kernel.actor import Actor
from veza.actors.kernel.errors import ActorCrashed, ActorStopped, Refusal
from veza.actors.kernel.ref import RUNNING, Ref
from veza.actors.kernel.slot import Slot

if TYPE_CHECKING:
    from veza.actors.kernel.supervisor import Supervisor


@final
class InlineSlot(Slot):
    """Use it as a context manager; leaving it takes the actor out of the tree.

    The kernel calls neither `started` nor `stopping`, has no mailbox for it (its `Ref` can be named, not
    told) and does not restart it: after `ActorCrashed` the caller should end what the actor stands for.
    Stopping its supervisor does not wait for it.
    """

    __slots__ = ("_busy", "_gone")

    def __init__(self, supervisor: "Supervisor", key: Any, actor: Actor) -> None:
        super().__init__(supervisor, key)
        self.actor = actor
        actor.context = self.context
        self._busy = False
        self._gone = False

    @property
    def ref(self) -> Ref:
        return self.context.ref

    async def handle(self, message: Any) -> Any:
        """Have the actor handle one message, here and now; returns the handler's result.

        Cancelled, the handler is cancelled.

        Raises:
          Refusal: (a subclass) raised by the handler.
          ActorCrashed: the handler raised something else; it has been counted and logged.
          ActorStopped: the slot has been left.
          trio.BusyResourceError: another task is in here.
          CircularAsk: the caller is an actor this one waits for.
        """
        if self._gone:
            raise ActorStopped(self.path)
        if self._busy:
            raise trio.BusyResourceError(f"{self.path} is handling a message in another task")
        caller = RUNNING.get()
        if caller is not None:
            caller.refuse_circle(self)
            caller.waits_for.append(self)
        self._busy = True
        token = RUNNING.set(self)
        began = perf_counter_ns()
        try:
            assert self.actor is not None
            return await self.actor.handle(message)
        except Refusal:
            raise
        except Exception as error:
            self.failed(error, message)
            raise ActorCrashed(self.path, type(error).__name__) from None
        finally:
            self.meter.record(perf_counter_ns() - began)
            RUNNING.reset(token)
            self._busy = False
            if caller is not None:
                caller.waits_for.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._gone:
            self._gone = True
            self.supervisor.detached(self)
