"""Who waits for whom, so that no circle of actors ever waits for itself.

The kernel knows for which actor's handler a task works (`RUNNING`, inherited by tasks the handler starts),
and notes what that handler waits for: an answer, room in a mailbox, an end, an inline actor. A wait that
would close a circle could end only by a deadline, or never; it raises `CircularAsk` instead.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING

from veza.actors.kernel.errors import CircularAsk

if TYPE_CHECKING:
    from veza.actors.kernel.slot import Slot

# The slot whose handler waits for the current task; None outside of actors and in jobs, for which no handler
# waits.
RUNNING: ContextVar["Slot | None"] = ContextVar("running", default=None)


class Waiting:
    """A context manager: within it, the handler this task works for waits for `target`.

    Raises (on entering):
      CircularAsk: `target` waits, directly or through others, for that handler.
    """

    __slots__ = ("_target", "_waiter")

    def __init__(self, target: "Slot") -> None:
        self._target = target

    def __enter__(self) -> None:
        self._waiter = waiter = RUNNING.get()
        if waiter is not None:
            refuse_circle(waiter, self._target)
            waiter.waits_for = (*waiter.waits_for, self._target)

    def __exit__(self, *_: object) -> None:
        waiter = self._waiter
        if waiter is not None:
            # Once only: several tasks of one handler may wait for the same target.
            rest = list(waiter.waits_for)
            rest.remove(self._target)
            waiter.waits_for = tuple(rest)


def refuse_circle(waiter: "Slot", target: "Slot") -> None:
    """Raise CircularAsk if `waiter` can be reached from `target` along what everybody waits for."""
    chains: list[tuple[Slot, ...]] = [(target,)]
    seen = {target}
    while chains:
        chain = chains.pop()
        if chain[-1] is waiter:
            raise CircularAsk((waiter.path, *(slot.path for slot in chain)))
        for following in chain[-1].waits_for:
            if following not in seen:
                seen.add(following)
                chains.append((*chain, following))
