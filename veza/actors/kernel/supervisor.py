"""Who starts, restarts and stops actors.

A crash is confined to the actor that crashed (one-for-one, in the terms of Erlang/OTP): its supervisor makes
a new incarnation after a pause that doubles. Unlike in OTP the intensity is counted per child, so that one
bad room among thousands ends alone: more than `restarts.limit` crashes within `restarts.window` end that
child for good, which is logged and escalated: `on_escalate` of its supervisor and of all above is called, and
if the child was `critical` the whole system stops with `SystemFailed`. A later `ensure` of the key of a child
that was given up starts afresh.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
import trio

from veza.actors.kernel.actor import Actor
from veza.actors.kernel.errors import ActorStopped, AlreadyRunning, CircularAsk, NoSuchActor
from veza.actors.kernel.inline import InlineSlot
from veza.actors.kernel.mailslot import MailSlot
from veza.actors.kernel.records import ActorInfo, Meter, Restarts
from veza.actors.kernel.ref import Ref
from veza.actors.kernel.slot import Slot
from veza.actors.kernel.waiting import RUNNING, Waiting

if TYPE_CHECKING:
    from veza.actors.kernel.system import System

log = structlog.get_logger(__name__)

OnEscalate = Callable[[str, Exception], None]


class Supervisor:
    """A nursery of actors, by key, and of further supervisors, by name. The one above makes it."""

    def __init__(
        self,
        name: str,
        above: "Supervisor | None",
        system: "System",
        restarts: Restarts,
        on_escalate: OnEscalate | None,
    ) -> None:
        self.name = name
        self.path: str = f"{above.path}/{name}" if above is not None and above.path else name
        self.system = system
        self.restarts = restarts
        self._above = above
        self._on_escalate = on_escalate
        # Children that accept messages, or are inline. A slot that begins to stop moves to `_leaving`, so
        # that its key is free; its successor waits for it. Every slot in `_leaving` has a task that will call
        # `ended`.
        self._children: dict[Hashable, Slot] = {}
        self._leaving: dict[MailSlot, None] = {}
        self._below: dict[str, Supervisor] = {}
        # What those that have ended had counted, so that sums never fall.
        self._gone = Meter()
        self._born = trio.current_time()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._unstarted: list[MailSlot | Supervisor] = []
        self._closing = trio.Event()
        self._closed = trio.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    def __len__(self) -> int:
        """How many children of its own there are now."""
        return len(self._children)

    # Children

    def keys(self) -> list[Hashable]:
        """Those of its children now."""
        return list(self._children)

    def get(self, key: Hashable) -> Ref | None:
        """The child that has this key now."""
        slot = self._children.get(key)
        return slot.context.ref if slot is not None else None

    def ensure(
        self,
        key: Hashable,
        factory: Callable[[], Actor],
        carry: Callable[[], Any] | None = None,
        *,
        capacity: int | None = None,
        critical: bool = False,
    ) -> Ref:
        """The child with this key, started if there is none. Never blocks: its messages wait until it runs.

        Args:
          key: also the last part of its path, as `str(key)`.
          factory: makes an incarnation, in the actor's own task.
          carry: makes, once, what `context.carried` is for all of them.
          capacity: of the mailbox. Without it the class's, if the factory is the class or a `partial` of it (another
            factory's class is not known in time: it is taken to leave the default).
          critical: should it ever have to be given up, stop the whole system.

        Raises:
          ActorStopped: the supervisor is stopping.
        """
        slot = self._children.get(key)
        if slot is None:
            slot = self._add(key, factory, carry, capacity, critical)
        return slot.context.ref

    def start(
        self,
        key: Hashable,
        factory: Callable[[], Actor],
        carry: Callable[[], Any] | None = None,
        *,
        capacity: int | None = None,
        critical: bool = False,
    ) -> Ref:
        """Like `ensure`, but the key must be free.

        Raises:
          AlreadyRunning: it is not.
          ActorStopped: the supervisor is stopping.
        """
        self._must_be_free(key)
        return self._add(key, factory, carry, capacity, critical).context.ref

    def attach(self, key: Hashable, actor: Actor) -> InlineSlot:
        """Give an actor a place in the tree whose messages its caller will handle; to be used with `with`.

        Raises:
          AlreadyRunning: the key is taken.
          ActorStopped: the supervisor is stopping.
        """
        self._must_be_free(key)
        self._must_be_open(key)
        slot = InlineSlot(self, key, actor)
        self._children[key] = slot
        return slot

    async def stop(self, key: Hashable, *, timeout: float = math.inf) -> bool:
        """Orderly end of one child, if there is one: accept no more, drain, wait for jobs, `stopping`.

        Its key is free at once; a successor waits until it has ended. Past `timeout` seconds it is cancelled.
        Cancelling this wait does not take the stop back.

        Returns:
          False if it had to be cancelled.

        Raises:
          CircularAsk: an actor would wait for its own end (use `context.passivate`).
        """
        slot = self._children.get(key) or self._leaver(key)
        if not isinstance(slot, MailSlot):
            return True
        with Waiting(slot):
            self._begin_stop(slot)
            with trio.move_on_after(timeout):
                await slot.done.wait()
            in_time = slot.done.is_set()
            if not in_time:
                slot.cut()
                await slot.done.wait()
        return in_time

    def restart(self, key: Hashable) -> None:
        """Make a child anew after the message it handles now. No failure, no pause; mailbox, lane, jobs stay.

        Raises:
          NoSuchActor: there is none, or it is an inline one.
        """
        slot = self._children.get(key)
        if not isinstance(slot, MailSlot):
            raise NoSuchActor(f"{self.path}/{key}")
        slot.rebuild()

    def supervisor(
        self, name: str, *, restarts: Restarts | None = None, on_escalate: OnEscalate | None = None
    ) -> "Supervisor":
        """A new supervisor below this one. Those made later may rely on those made earlier, and stop first.

        Args:
          restarts: instead of this one's.
          on_escalate: called with path and error when a child anywhere below is given up; must not block.

        Raises:
          AlreadyRunning: the name is taken.
          ActorStopped: this supervisor is stopping.
        """
        if name in self._below:
            raise AlreadyRunning(self._below[name].path)
        self._must_be_open(name)
        made = Supervisor(name, self, self.system, restarts or self.restarts, on_escalate)
        self._below[name] = made
        self._launch(made)
        return made

    def _must_be_free(self, key: Hashable) -> None:
        if key in self._children:
            raise AlreadyRunning(self._children[key].path)

    def _must_be_open(self, key: Hashable) -> None:
        if self._closing.is_set():
            raise ActorStopped(f"{self.path}/{key}")

    def _add(
        self,
        key: Hashable,
        factory: Callable[[], Actor],
        carry: Callable[[], Any] | None,
        capacity: int | None,
        critical: bool,
    ) -> MailSlot:
        self._must_be_open(key)
        if capacity is None:
            made = factory.func if isinstance(factory, partial) else factory
            capacity = getattr(made, "mailbox_capacity", Actor.mailbox_capacity)
        before = self._leaver(key)
        slot = MailSlot(self, key, factory, carry, capacity=capacity, critical=critical, predecessor=before)
        self._children[key] = slot
        self._launch(slot)
        return slot

    def _leaver(self, key: Hashable) -> MailSlot | None:
        """The youngest of those leaving that had this key; it in turn waits for those before it."""
        return next((slot for slot in reversed(self._leaving) if slot.key == key), None)

    def _launch(self, what: "MailSlot | Supervisor") -> None:
        if self._nursery is None:
            self._unstarted.append(what)
        else:
            self.system.contextvars.run(partial(self._nursery.start_soon, what.run, name=what.path))

    # From the slots

    def leaving(self, slot: MailSlot) -> None:
        """It accepts nothing more; the key is free."""
        if self._children.get(slot.key) is slot:
            del self._children[slot.key]
            self._leaving[slot] = None

    def ended(self, slot: MailSlot) -> None:
        """Its task is over."""
        del self._leaving[slot]
        self._gone.add(slot.meter)

    def detached(self, slot: InlineSlot) -> None:
        del self._children[slot.key]
        self._gone.add(slot.meter)

    def escalate(self, path: str, error: Exception, *, critical: bool) -> None:
        """A child somewhere below was given up."""
        if self._on_escalate is not None:
            try:
                self._on_escalate(path, error)
            except Exception as bad:
                log.error("on_escalate failed", path=self.path, error=type(bad).__name__)
        if self._above is not None:
            self._above.escalate(path, error, critical=critical)
        else:
            self.system.gave_up(path, error, critical=critical)

    # Life and end

    async def run(self) -> None:
        """The supervisor's task; over when it has been closed and all its children have ended."""
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    unstarted, self._unstarted = self._unstarted, []
                    for what in unstarted:
                        self._launch(what)
                    await self._closing.wait()
        finally:
            self._closed.set()

    def _begin_stop(self, slot: MailSlot) -> None:
        self.leaving(slot)
        slot.begin_stop()

    async def close(self, timeout: float) -> list[str]:
        """Orderly end: supervisors below first, in reverse order; then all own children at once.

        What has not ended in time is cancelled. Each supervisor gets an equal share of the time left, so that
        one that hangs cannot take away the time of those that the rest rely on. Cancelled, nothing is taken
        back: what has begun to stop goes on stopping, and `close` may be called again.

        Returns:
          The paths of those that had to be cancelled.

        Raises:
          CircularAsk: called in an actor's handler, which would wait for its own end.
        """
        caller = RUNNING.get()
        if isinstance(caller, MailSlot):
            raise CircularAsk((caller.path, self.path or "system"))
        deadline = trio.current_time() + timeout
        cut: list[str] = []
        while below := [supervisor for supervisor in self._below.values() if not supervisor._closed.is_set()]:
            left = max(0.0, deadline - trio.current_time())
            cut += await below[-1].close(left / (len(below) + bool(self._children)))
        self._closing.set()
        for slot in tuple(self._children.values()):
            if isinstance(slot, MailSlot):
                self._begin_stop(slot)
        with trio.move_on_at(deadline):
            await self._closed.wait()
        if not self._closed.is_set():
            late = [slot.path for slot in self._leaving]
            log.error("actors cancelled: their time was over", path=self.path, actors=late)
            cut += late
            self._scope.cancel()
            await self._closed.wait()
        return cut

    # Inspection

    def info(self, depth: int | None = None, limit: int = 1000) -> ActorInfo:
        """This supervisor with at most `depth` levels and `limit` nodes below it; its own children come last."""
        total = self._total()
        children: list[ActorInfo] = []
        if depth is None or depth > 0:
            deeper = None if depth is None else depth - 1
            for waiting, supervisor in zip(range(len(self._below), 0, -1), self._below.values(), strict=True):
                if limit <= 0:
                    break
                # A node is kept for each that follows: a crowded supervisor must not hide the others.
                child = supervisor.info(deeper, max(0, limit - waiting))
                children.append(child)
                limit -= _size(child)
            children += [slot.info() for slot in islice(self._slots(), max(0, limit))]
        return ActorInfo(
            path=self.path,
            kind="Supervisor" if self._above is not None else "System",
            state="stopping" if self._closing.is_set() else "running",
            summary={},
            handled=total.handled,
            failures=total.failures,
            restarts=total.restarts,
            busy_s=total.busy / 1e9,
            age_s=trio.current_time() - self._born,
            child_count=len(self._below) + len(self._children) + len(self._leaving),
            children=tuple(children),
        )

    def _slots(self) -> Iterator[Slot]:
        yield from self._children.values()
        yield from self._leaving

    def _total(self) -> Meter:
        total = Meter()
        total.add(self._gone)
        for slot in self._slots():
            total.add(slot.meter)
        for supervisor in self._below.values():
            total.add(supervisor._total())
        return total

    def find(self, path: str) -> "Supervisor | Slot":
        """What has this path, relative to here.

        Raises:
          NoSuchActor: nothing has.
        """
        head, slash, rest = path.partition("/")
        if head in self._below:
            return self._below[head].find(rest) if slash else self._below[head]
        for slot in self._slots():
            if str(slot.key) == path:
                return slot
        raise NoSuchActor(f"{self.path}/{path}" if self.path else path)


def _size(info: ActorInfo) -> int:
    return 1 + sum(map(_size, info.children))
