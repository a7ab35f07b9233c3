"""An actor without a task of its own, for things that are many and mostly silent, such as one per socket.

Its messages are handled in its caller's task; it is named, counted and inspected like any other. An idle one
costs under a kilobyte.
"""

from collections.abc import Hashable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Self, final

import trio

from veza.actors.kernel.actor import Actor
from veza.actors.kernel.errors import ActorCrashed, ActorStopped, Refusal
from veza.actors.kernel.ref import Ref
from veza.actors.kernel.slot import Slot
from veza.actors.kernel.waiting import RUNNING, Waiting

if TYPE_CHECKING:
    from veza.actors.kernel.supervisor import Supervisor


@final
class InlineSlot(Slot):
    """Made by `Supervisor.attach`; a context manager, and leaving it takes the actor out of the tree.

    The kernel calls neither `started` nor `stopping`, has no mailbox for it (its `Ref` can be named, not
    told) and does not restart it: after `ActorCrashed` the caller should end whatever the actor stands for.
    Stopping its supervisor does not wait for it.
    """

    __slots__ = ("_busy",)

    def __init__(self, supervisor: "Supervisor", key: Hashable, actor: Actor) -> None:
        super().__init__(supervisor, key)
        self._busy = False
        self.actor = actor
        actor.context = self.context

    @property
    def ref(self) -> Ref:
        return self.context.ref

    async def handle(self, message: Any) -> Any:
        """Have the actor handle one message, here and now, and return what its handler returns.

        Cancelled, the handler is cancelled.

        Raises:
          Refusal: (a subclass) raised by the handler.
          ActorCrashed: the handler raised something else, which has been counted and logged.
          ActorStopped: the slot has been left.
          CircularAsk: the caller is an actor that this one waits for.
          trio.BusyResourceError: it is handling a message in another task.
        """
        actor = self.actor
        if actor is None:
            raise ActorStopped(self.path)
        with Waiting(self):
            if self._busy:
                raise trio.BusyResourceError(f"{self.path} is handling a message in another task")
            self._busy = True
            outer = RUNNING.set(self)
            began = perf_counter_ns()
            try:
                return await actor.handle(message)
            except Refusal:
                raise
            except Exception as error:
                self.failed(error, message)
                raise ActorCrashed(self.path, type(error).__name__) from None
            finally:
                self.meter.record(perf_counter_ns() - began)
                RUNNING.reset(outer)
                self._busy = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.actor is not None:
            self.supervisor.detached(self)
            self.sever()
