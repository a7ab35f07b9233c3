"""What travels in a mailbox or lane and is not itself the message, but around it.

Plain messages travel bare: a `tell` allocates nothing. Whatever must be told when it has been answered, or
may be taken back before it is handled, is a parcel.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

import outcome
import trio

if TYPE_CHECKING:
    from veza.actors.kernel.mailslot import MailSlot

NOTHING: Any = object()
"""What is left of a message that was taken back, and what is handled when nothing is."""


class Parcel:
    """Around a message."""

    __slots__ = ()

    def open(self) -> Any:
        """The message, or NOTHING if it has been taken back. Called once, in the actor's task."""
        raise NotImplementedError


@final
class Reply(Parcel):
    """An answer owed. `send` and `fail` never block; only the first counts, and none once the asker has gone."""

    __slots__ = ("_message", "answered", "owed", "result")

    def __init__(self, message: Any = NOTHING) -> None:
        self._message = message
        self.owed = True
        self.answered = trio.Event()
        self.result: outcome.Outcome[Any] | None = None

    @property
    def wanted(self) -> bool:
        """False once answered, and when the asker has given up: no need to work for it any more."""
        return self.owed

    def send(self, value: Any) -> None:
        """Answer."""
        self._settle(outcome.Value(value))

    def fail(self, error: Exception) -> None:
        """Have `ask` raise this."""
        # Without the traceback: it would keep the handler's frames, and what they hold, alive with the asker.
        self._settle(outcome.Error(error.with_traceback(None)))

    def _settle(self, result: outcome.Outcome[Any]) -> None:
        if self.owed:
            self.owed = False
            self.result = result
            self.answered.set()

    def open(self) -> Any:
        message, self._message = self._message, NOTHING
        return message if self.owed else NOTHING


@final
class Timer(Parcel):
    """One message to come, until it is handled or cancelled."""

    __slots__ = ("_alarm", "_message", "_slot")

    def __init__(self, slot: "MailSlot", seconds: float, message: Any) -> None:
        self._slot = slot
        self._message = message
        self._alarm = slot.supervisor.system.clock.schedule(seconds, self._due)

    def cancel(self) -> None:
        """The message will not be handled, even if its time has come. A second time does nothing."""
        self._message = NOTHING
        self._alarm.cancel()
        self._slot.timers.discard(self)

    def _due(self) -> None:
        self._slot.deliver(self)

    def open(self) -> Any:
        message = self._message
        self.cancel()
        return message


@final
class Result(Parcel):
    """What a job came to."""

    __slots__ = ("_result", "_then")

    def __init__(self, result: outcome.Outcome[Any], then: Callable[[outcome.Outcome[Any]], Any]) -> None:
        self._result = result
        self._then = then

    def open(self) -> Any:
        return self._then(self._result)


class Rebuild(Exception):
    """A wanted restart."""


@final
class RebuildOrder(Parcel):
    """Ends this incarnation when its turn comes."""

    __slots__ = ()

    def open(self) -> Any:
        raise Rebuild
