"""How everybody else sees an actor: a `Ref`, to tell it something or to ask.

An ask that could never be answered, because its target waits for the asker, is refused before anything is
sent: see `waiting`.
"""

from typing import TYPE_CHECKING, Any, final

import trio

from veza.actors.kernel.errors import ActorStopped, AskTimeout, MailboxFull
from veza.actors.kernel.parcels import Reply
from veza.actors.kernel.waiting import Waiting

if TYPE_CHECKING:
    from veza.actors.kernel.slot import Slot


@final
class Ref:
    """Names one actor, over all its incarnations. Once that has ended (passivation included) it names nobody."""

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
        """Does it accept messages? May be outdated after the next await."""
        return self._slot.accepting

    async def tell(self, message: Any) -> None:
        """Put a message into the mailbox, waiting for room if there is none.

        Always notices cancellation, but lets others run only if it must wait. If it raises, Cancelled
        included, the message was not accepted and will not be handled.

        Raises:
          ActorStopped: it no longer accepts messages, or ceased to while this waited.
          CircularAsk: the mailbox is full, and its actor waits for the one that tells.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        slot = self._slot
        try:
            slot.inlet.send_nowait(message)
        except trio.WouldBlock:
            await slot.wait_for_room(message)
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
        It is open until the very end of an orderly stop; to an actor that has ended it does nothing.
        """
        self._slot.deliver(message)

    async def ask(self, message: Any, *, timeout: float = 5.0) -> Any:
        """Tell, and wait for the answer; at most `timeout` seconds in all.

        If it is cancelled or times out before handling has begun, the message is withdrawn and never handled.
        After that it may be handled to its end, and the answer is lost. It is never handled twice.

        Raises:
          Refusal: (a subclass) the actor's answer is no.
          AskTimeout: no answer in time.
          ActorCrashed: its handler crashed on this message.
          ActorStopped: it has ended, or ended before it answered; or the reason it gave with `Stop`.
          CircularAsk: it waits, perhaps through others, for the actor that asks; nothing was sent.
        """
        slot = self._slot
        reply = Reply(message)
        with Waiting(slot):
            slot.askers.add(reply)
            try:
                with trio.move_on_after(timeout):
                    await self.tell(reply)
                    await reply.answered.wait()
            except ActorStopped:
                # It ended while this waited for room in its mailbox; with a reason, perhaps.
                if reply.result is None:
                    raise
            finally:
                reply.owed = False
                slot.askers.discard(reply)
        if reply.result is None:
            raise AskTimeout(slot.path)
        # An answer that came in the same instant as the deadline is still an answer.
        try:
            return reply.result.unwrap()
        finally:
            del reply  # an error's traceback holds this frame: it must not hold the error
