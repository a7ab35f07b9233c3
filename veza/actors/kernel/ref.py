"""How everybody else sees an actor: a `Ref` to tell or ask, and the `Reply` an asker waits for.

The kernel knows which actor a task works for (`RUNNING`), so that an ask that could never be answered,
because its target waits for the asker, is refused at once.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, final

import outcome
import trio

from veza.actors.kernel.errors import ActorStopped, AskTimeout, MailboxFull

if TYPE_CHECKING:
    from veza.actors.kernel.slot import Slot

# The slot whose handler waits for the current task to finish; None outside of handlers and in jobs.
RUNNING: ContextVar["Slot | None"] = ContextVar("running", default=None)

NOTHING: Any = object()
"""What is left of a message that was taken back."""


class Wrapped:
    """In a mailbox or lane: not itself the message, but around it."""

    __slots__ = ()

    def open(self) -> Any:
        """The message, or NOTHING if it has been taken back. Called once, in the actor's task."""
        raise NotImplementedError


@final
class Reply(Wrapped):
    """An answer owed. `send` and `fail` never block; only the first of them counts, and none if the asker has
    gone.
    """

    __slots__ = ("_answered", "_message", "_outcome", "_owed")

    def __init__(self, message: Any = NOTHING) -> None:
        self._message = message
        self._answered = trio.Event()
        self._outcome: outcome.Outcome[Any] | None = None
        self._owed = True

    @property
    def wanted(self) -> bool:
        """False once answered, or when the asker has given up: no need to work for it any more."""
        return self._owed

    def send(self, value: Any) -> None:
        if self._owed:
            self._owed = False
            self._outcome = outcome.Value(value)
            self._answered.set()

    def fail(self, error: Exception) -> None:
        if self._owed:
            self._owed = False
            # The traceback would keep the handler's frames, and what they hold, alive with the asker.
            self._outcome = outcome.Error(error.with_traceback(None))
            self._answered.set()

    def open(self) -> Any:
        message, self._message = self._message, NOTHING
        return message if self._owed else NOTHING


@final
class Ref:
    """Names one actor, over all its incarnations; once the actor has ended (passivation included) it names
    nobody.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: "Slot") -> None:
        self._slot = slot

    def __repr__(self) -> str:
        return f"<Ref {self._slot.path}>"

    @property
    def path(self) -> str:
        return self._slot.path

    @property
    def alive(self) -> bool:
        """Does it accept messages? True may be outdated after the next await."""
        return self._slot.accepting

    async def tell(self, message: Any) -> None:
        """Put a message into the mailbox, waiting for room if there is none.

        A checkpoint for cancellation, but it lets others run only if it must wait. If it is cancelled, or
        raises, the message was not and will not be handled.

        Raises:
          ActorStopped: it no longer accepts messages, or ceased to while this waited.
          CircularAsk: the mailbox is full and its actor waits for the one that tells.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        slot = self._slot
        try:
            slot.inlet.send_nowait(message)
        except trio.WouldBlock:
            await slot.wait_for_room(message, RUNNING.get())
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ActorStopped(slot.path) from None
        else:
            if slot.parked is not None:
                slot.wake()

    def tell_nowait(self, message: Any) -> None:
        """Put a message into the mailbox if there is room.

        Raises:
          MailboxFull: there is none.
          ActorStopped: it no longer accepts messages.
        """
        slot = self._slot
        try:
            slot.inlet.send_nowait(message)
        except trio.WouldBlock:
            raise MailboxFull(slot.path) from None
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ActorStopped(slot.path) from None
        if slot.parked is not None:
            slot.wake()

    def answer(self, message: Any) -> None:
        """Put an answer or a result into the reserved lane: never blocks, and is handled before the mailbox.

        The lane has no bound of its own, it is bounded by what was asked: never use it for anything unasked.
        Taken until the very end of an orderly stop; nobody minds when the actor has ended.
        """
        self._slot.deliver(message)

    async def ask(self, message: Any, *, timeout: float = 5.0) -> Any:
        """Tell, and wait for the answer, at most `timeout` seconds in all.

        If it is cancelled or times out before handling has begun, the message is withdrawn and never handled;
        afterwards it may or may not be handled to its end, and the answer is lost. It is never handled twice.

        Raises:
          Refusal: (a subclass) the actor's answer is no.
          AskTimeout: no answer in time.
          ActorCrashed: its handler crashed on this message.
          ActorStopped: it has ended, or ended before it answered; or the reason it gave with `Stop`.
          CircularAsk: it waits, perhaps through others, for the actor that asks; nothing was sent.
        """
        slot = self._slot
        caller = RUNNING.get()
        if caller is not None:
            caller.refuse_circle(slot)
            caller.waits_for.append(slot)
        reply = Reply(message)
        slot.askers.add(reply)
        try:
            with trio.move_on_after(timeout):
                await self.tell(reply)
                await reply._answered.wait()
        except ActorStopped:
            # It ended while this waited for room; with a reason, perhaps.
            if reply._outcome is None:
                raise
        finally:
            reply._owed = False
            slot.askers.discard(reply)
            if caller is not None:
                caller.waits_for.remove(slot)
        if reply._outcome is None:
            raise AskTimeout(slot.path)
        # An answer that came in the same instant as the deadline is still an answer.
        return reply._outcome.unwrap()
