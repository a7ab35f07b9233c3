"""An actor for the kernel's tests that does what its messages say, and a log of what it did."""

from collections.abc import Callable
from typing import Any

import trio

from veza.actors.kernel import Actor


class Puppet(Actor):
    """A message that is a function is called with the actor (and awaited, if need be): its result is the answer.

    Any other message is noted in `seen` and answered with itself.
    """

    def __init__(self, seen: list[Any] | None = None, **attributes: Any) -> None:
        self.seen: list[Any] = [] if seen is None else seen
        self.may_idle = True
        self.is_settled = True
        for name, value in attributes.items():
            setattr(self, name, value)

    async def handle(self, message: Any) -> Any:
        if callable(message):
            result = message(self)
            return await result if hasattr(result, "__await__") else result
        self.seen.append(message)
        return message

    def idle(self) -> bool:
        return self.may_idle

    def settled(self) -> bool:
        return self.is_settled

    async def stopping(self) -> None:
        self.seen.append("stopping")


class Gate:
    """A message that keeps its actor busy until it is opened."""

    def __init__(self) -> None:
        self.entered = trio.Event()
        self._open = trio.Event()

    async def __call__(self, _: Actor) -> str:
        self.entered.set()
        await self._open.wait()
        return "opened"

    def open(self) -> None:
        self._open.set()


def crash(_: Actor) -> None:
    """A message on which the actor crashes."""
    raise ValueError("private words")


def refuse(error: Exception) -> Callable[[Actor], None]:
    """A message at which the actor raises this."""

    def message(_: Actor) -> None:
        raise error

    return message
