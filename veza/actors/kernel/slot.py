"""A slot: one key's place in the tree, for inspection and for knowing who waits for whom.

It stays while incarnations of its actor come and go. What is here serves every slot; `MailSlot` has a task
and a mailbox, `InlineSlot` has neither.
"""

from collections.abc import Awaitable, Callable, Hashable
from time import time
from typing import TYPE_CHECKING, Any

import outcome
import structlog
import trio

from veza.actors.kernel.actor import Actor, Context
from veza.actors.kernel.errors import ActorStopped
from veza.actors.kernel.parcels import NOTHING, Reply, Timer
from veza.actors.kernel.records import ActorInfo, Failure, MailboxInfo, Meter, State, Summary
from veza.actors.kernel.ref import Ref
from veza.actors.kernel.report import crash_report

if TYPE_CHECKING:
    from veza.actors.kernel.supervisor import Supervisor

log = structlog.get_logger(__name__)

# What a slot without a mailbox has in its place, shared by all of them: an inlet that nobody can tell
# anything, and the askers, each of whom is refused in the same step in which he enters.
_SHUT: trio.MemorySendChannel[Any] = trio.open_memory_channel[Any](0)[0]
_SHUT.close()
_NOBODY: set[Reply] = set()


class Slot:
    """One place in the tree. Its base does nothing but count: whatever needs a mailbox is refused."""

    __slots__ = (
        "accepting",
        "actor",
        "askers",
        "born",
        "carried",
        "context",
        "inlet",
        "key",
        "meter",
        "parked",
        "path",
        "supervisor",
        "waits_for",
    )

    def __init__(self, supervisor: "Supervisor", key: Hashable) -> None:
        self.supervisor = supervisor
        self.key = key
        self.path = f"{supervisor.path}/{key}" if supervisor.path else str(key)
        self.context = Context(self, Ref(self))
        self.actor: Actor | None = None
        self.carried: Any = None
        self.meter = Meter()
        self.born = trio.current_time()
        self.inlet = _SHUT
        self.accepting = False
        self.parked: trio.lowlevel.Task | None = None
        # Everybody who asked this slot and still waits: they are told when it ends.
        self.askers = _NOBODY
        # What this slot's handler waits for now; several, if it waits in several tasks.
        self.waits_for: tuple[Slot, ...] = ()

    def sever(self) -> None:
        """The end: break the circles through actor and context, so that memory goes with the last reference.

        Sockets come and go by the thousand; they are not to wait for the garbage collector.
        """
        self.actor = None
        del self.context

    # Counting

    def failed(self, error: Exception, message: Any, **more: Any) -> None:
        """Count and log a crash: types, ids, sizes and places; nothing of what was in the message or in
        variables.
        """
        kind = "" if message is NOTHING else type(message).__name__
        self.meter.fail(Failure(type(error).__name__, kind, time()))
        log.error("actor crashed", path=self.path, message=kind, **crash_report(error, message), **more)

    def info(self) -> ActorInfo:
        meter = self.meter
        return ActorInfo(
            path=self.path,
            kind=type(self.actor).__name__ if self.actor is not None else "",
            state=self.state,
            summary=self._summary(),
            mailbox=self.mailbox(),
            handled=meter.handled,
            failures=meter.failures,
            restarts=meter.restarts,
            handler_ms=meter.times(),
            busy_s=meter.busy / 1e9,
            age_s=trio.current_time() - self.born,
            jobs=self.jobs,
            last_failures=meter.last_failures,
        )

    def _summary(self) -> Summary:
        try:
            return self.actor.summary() if self.actor is not None else {}
        except Exception as error:  # one bad actor must not hide the tree
            return {"summary failed": type(error).__name__}

    @property
    def state(self) -> State:
        return "running"

    @property
    def jobs(self) -> int:
        """Jobs under way."""
        return 0

    def mailbox(self) -> MailboxInfo | None:
        return None

    # What takes a mailbox: for `Ref` and `Context`, whose docstrings say what it does

    async def wait_for_room(self, message: Any) -> None:
        raise ActorStopped(self.path)

    def wake(self) -> None:
        pass

    def deliver(self, message: Any) -> None:
        pass

    def defer(self) -> Reply:
        return Reply()

    def job(
        self,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        then: Callable[[outcome.Outcome[Any]], Any],
    ) -> None:
        raise RuntimeError("an inline actor has no jobs: it may await in its handler")

    def timer(self, seconds: float, message: Any) -> Timer:
        raise RuntimeError("an inline actor has no timers")

    def passivate(self) -> None:
        raise RuntimeError("an inline actor ends when its caller leaves it")
