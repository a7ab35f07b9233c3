"""A slot: the place of one key in the tree. It stays while incarnations of its actor come and go.

`Slot` is what every place has; `MailSlot` adds a task, a mailbox, the reserved lane, jobs and timers.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from time import perf_counter_ns, time
from typing import TYPE_CHECKING, Any, final

import outcome
import structlog
import trio

from veza.actors.kernel.actor import Actor, Context
from veza.actors.kernel.clock import Alarm
from veza.actors.kernel.errors import ActorCrashed, ActorStopped, CircularAsk, Refusal, Stop
from veza.actors.kernel.records import ActorInfo, Failure, MailboxInfo, Meter, State, Summary
from veza.actors.kernel.ref import NOTHING, RUNNING, Ref, Reply, Wrapped
from veza.actors.kernel.report import crash_report

if TYPE_CHECKING:
    from veza.actors.kernel.supervisor import Supervisor

log = structlog.get_logger(__name__)

# A slot without a mailbox has this inlet: telling it is telling nobody.
_SHUT: trio.MemorySendChannel[Any] = trio.open_memory_channel[Any](0)[0]
_SHUT.close()


class Slot:
    """One place in the tree, for inspection and for knowing who waits for whom."""

    __slots__ = (
        "accepting", "actor", "askers", "born", "carried", "context", "inlet", "key", "meter", "parked",
        "path", "supervisor", "waits_for",
    )  # fmt: skip

    def __init__(self, supervisor: "Supervisor", key: Any) -> None:
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
        self.askers: set[Reply] = set()
        # The slots that this one's handler waits for now (several, if it asks from several tasks).
        self.waits_for: list[Slot] = []

    def refuse_circle(self, target: "Slot") -> None:
        """Raise CircularAsk if `target` waits, directly or through others, for this slot."""
        chains: list[tuple[Slot, ...]] = [(target,)]
        seen = {target}
        while chains:
            chain = chains.pop()
            if chain[-1] is self:
                raise CircularAsk((self.path, *(slot.path for slot in chain)))
            for following in chain[-1].waits_for:
                if following not in seen:
                    seen.add(following)
                    chains.append((*chain, following))

    def failed(self, error: Exception, message: Any, **extra: Any) -> None:
        """Count and log a crash: types, ids, sizes and where; nothing of what was in the message or in
        variables.
        """
        kind = "" if message is NOTHING else type(message).__name__
        self.meter.fail(Failure(type(error).__name__, kind, time()))
        log.error("actor crashed", path=self.path, **crash_report(error, message), **extra)

    def summary(self) -> Summary:
        try:
            return self.actor.summary() if self.actor is not None else {}
        except Exception as error:  # inspection never harms, and never fails for one bad actor
            return {"summary": f"failed: {type(error).__name__}"}

    @property
    def state(self) -> State:
        return "running"

    def info(self) -> ActorInfo:
        meter = self.meter
        return ActorInfo(
            path=self.path,
            kind=type(self.actor).__name__ if self.actor is not None else "",
            state=self.state,
            summary=self.summary(),
            mailbox=self.mailbox_info(),
            handled=meter.handled,
            failures=meter.failures,
            restarts=meter.restarts,
            handler_ms=meter.times(),
            busy_s=meter.busy / 1e9,
            age_s=trio.current_time() - self.born,
            jobs=self.jobs_running(),
            last_failures=meter.last_failures,
        )

    # What only a slot with a mailbox can do.

    def mailbox_info(self) -> MailboxInfo | None:
        return None

    def jobs_running(self) -> int:
        return 0

    async def wait_for_room(self, message: Any, caller: "Slot | None") -> None:
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

    def timer(self, seconds: float, message: Any) -> "Timer":
        raise RuntimeError("an inline actor has no timers")

    def passivate(self) -> None:
        raise RuntimeError("an inline actor ends with its caller")


@final
class Timer(Wrapped):
    """One message to come, until it is handled or cancelled."""

    __slots__ = ("_alarm", "_message", "_slot")

    def __init__(self, slot: "MailSlot", seconds: float, message: Any) -> None:
        self._slot = slot
        self._message = message
        self._alarm = slot.supervisor.system.clock.schedule(seconds, self._due)

    def cancel(self) -> None:
        """The message will not be handled, even if its time has come. Never fails; a second time does
        nothing.
        """
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
class _Result(Wrapped):
    """What a job came to."""

    __slots__ = ("_outcome", "_then")

    def __init__(self, then: Callable[[outcome.Outcome[Any]], Any], result: outcome.Outcome[Any]) -> None:
        self._then = then
        self._outcome = result

    def open(self) -> Any:
        return self._then(self._outcome)


class _Rebuild(Exception):
    """A wanted restart."""


@final
class _RebuildOrder(Wrapped):
    __slots__ = ()

    def open(self) -> Any:
        raise _Rebuild


@final
class MailSlot(Slot):
    """A slot with a task of its own. `run` is that task, from the first start to the end of the last
    incarnation.

    Invariants
    - `parked` is the task exactly while it waits with nothing to do; whoever adds something to do wakes it.
    - The inlet is closed when the slot begins to stop; the mailbox and lane when it has ended (`_ended`).
      Between a check that finds nothing left to do and `_end` there is no await.
    - `jobs` falls in the same step in which the job's result enters the lane.
    """

    __slots__ = (
        "_carry", "_crashes", "_deferred", "_ended", "_factory", "_handling", "_hurry", "_idle_alarm", "_jobs",
        "_lane", "_leaving", "_mailbox", "_nursery", "_parked_at", "_predecessor", "_reason", "_reply",
        "_serving", "_stopping", "critical", "done", "timers",
    )  # fmt: skip

    TURN = 1_000_000
    """Nanoseconds of handling after which others get a turn."""

    def __init__(
        self,
        supervisor: "Supervisor",
        key: Any,
        factory: Callable[[], Actor],
        carry: Callable[[], Any] | None,
        *,
        capacity: int,
        critical: bool,
        predecessor: "MailSlot | None",
    ) -> None:
        super().__init__(supervisor, key)
        self.critical = critical
        self.timers: set[Timer] = set()
        self.done = trio.Event()
        """Set when the task is over and a successor may start."""
        self._factory = factory
        self._carry = carry
        self._predecessor = predecessor
        self.inlet, self._mailbox = trio.open_memory_channel[Any](capacity)
        self._lane: deque[Any] = deque()
        self.accepting = True
        self._serving = False
        self._stopping = False
        self._ended = False
        self._leaving = False
        self._hurry = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._jobs = 0
        self._crashes: deque[float] = deque()
        self._reason: Exception | None = None
        # The message under way, for a crash's report and for `defer`.
        self._handling: Any = NOTHING
        self._reply: Reply | None = None
        self._deferred = False
        self._parked_at = 0.0
        self._idle_alarm: Alarm | None = None

    # Incoming

    def wake(self) -> None:
        task = self.parked
        if task is not None:
            self.parked = None
            trio.lowlevel.reschedule(task)

    def deliver(self, message: Any) -> None:
        if not self._ended:
            self._lane.append(message)
            self.wake()

    async def wait_for_room(self, message: Any, caller: Slot | None) -> None:
        if caller is not None:
            caller.refuse_circle(self)
            caller.waits_for.append(self)
        try:
            # No wake needed: the mailbox is full, so the actor is not parked, and it parks only after taking
            # this.
            await self.inlet.send(message)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            raise ActorStopped(self.path) from None
        finally:
            if caller is not None:
                caller.waits_for.remove(self)

    # For the context

    def defer(self) -> Reply:
        self._deferred = True
        if self._reply is None:
            self._reply = Reply()
        return self._reply

    def job(
        self,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        then: Callable[[outcome.Outcome[Any]], Any],
    ) -> None:
        if self._ended or self._nursery is None:
            raise ActorStopped(self.path)
        self._jobs += 1
        self._nursery.start_soon(self._run_job, fn, args, then)

    async def _run_job(
        self,
        fn: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        then: Callable[[outcome.Outcome[Any]], Any],
    ) -> None:
        RUNNING.set(None)  # the handler does not wait for its jobs, so a job may ask anybody
        result: outcome.Outcome[Any]
        try:
            result = outcome.Value(await fn(*args))
        except Exception as error:
            result = outcome.Error(error)
        self._jobs -= 1
        self.deliver(_Result(then, result))

    def timer(self, seconds: float, message: Any) -> Timer:
        timer = Timer(self, seconds, message)
        self.timers.add(timer)
        return timer

    def passivate(self) -> None:
        self._leaving = True
        self.wake()

    # For the supervisor

    def begin_stop(self) -> None:
        """Accept no more; handle what is there, wait for jobs and until settled, then end and set `done`."""
        if not self._stopping:
            self._stopping = True
            self.accepting = False
            self.inlet.close()
            self._hurry.set()
            self.wake()

    def cut(self) -> None:
        """Cancel handler and jobs; the slot ends at once (or when what they shield is over)."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    def rebuild(self) -> None:
        """A wanted restart, after the message under way: not a failure, and without a pause."""
        if not self._ended:
            self._lane.appendleft(_RebuildOrder())
            self._hurry.set()
            self.wake()

    async def run(self) -> None:
        RUNNING.set(self)
        try:
            async with trio.open_nursery() as self._nursery:
                if self._predecessor is not None:
                    await self._predecessor.done.wait()
                    self._predecessor = None
                await self._live()
                self._nursery.cancel_scope.cancel()  # jobs whose result nobody will hear
        except* Exception as errors:
            # A handler or job that turned its cancellation into another error; siblings must not hear of it.
            log.error("actor ended badly", path=self.path, **crash_report(errors, NOTHING))
        finally:
            self._end()
            self.done.set()
            self.supervisor.ended(self)

    # The life

    async def _live(self) -> None:
        """Incarnations, one after the other, until one ends for good."""
        while True:
            pause = 0.0
            try:
                if self._carry is not None:
                    self.carried, self._carry = self._carry(), None
                self._handling = NOTHING
                self.actor = actor = self._factory()
                actor.context = self.context
                await actor.started()
                self._serving = True
                await self._serve(actor)
                self._end()
                await actor.stopping()
                return
            except Stop as stop:
                if stop.reason is not None:
                    self._reason = stop.reason.with_traceback(None)
                return
            except _Rebuild:
                log.info("actor restarted", path=self.path)
            except Exception as error:
                if self._ended:  # in `stopping`
                    self.failed(error, NOTHING)
                    return
                crashes = self._count_crash()
                restarts = self.supervisor.restarts
                if self._reply is not None:
                    self._reply.fail(ActorCrashed(self.path, type(error).__name__))
                if crashes > restarts.limit:
                    self.failed(error, self._handling, gave_up_after=crashes)
                    self._end()
                    self.supervisor.escalate(self.path, error, critical=self.critical)
                    return
                pause = restarts.pause(crashes)
                self.failed(error, self._handling, restart_in=pause)
            self._serving = False
            self._handling = NOTHING
            self._reply = None
            self._cancel_timers()
            self.meter.restarts += 1
            if pause:
                self._hurry = trio.Event()
                with trio.move_on_after(pause):
                    await self._hurry.wait()

    async def _serve(self, actor: Actor) -> None:
        """Handle messages until an end is due. On return nothing is left to do; the caller must not await
        before `_end`.
        """
        lane = self._lane
        take = self._mailbox.receive_nowait
        record = self.meter.record
        turn_over = perf_counter_ns() + self.TURN
        while True:
            if lane:
                message = lane.popleft()
            else:
                try:
                    message = take()
                except trio.WouldBlock:
                    if self._leaving and self._may_leave(actor):
                        return
                    message = self._handling = self._reply = None
                    await self._park(actor)
                    turn_over = perf_counter_ns() + self.TURN
                    continue
                except trio.EndOfChannel:
                    if not self._jobs and actor.settled():
                        return
                    message = self._handling = self._reply = None
                    await self._park(actor)
                    turn_over = perf_counter_ns() + self.TURN
                    continue
            reply = None
            self._handling = message
            if isinstance(message, Wrapped):
                if type(message) is Reply:
                    reply = message
                self._reply = None
                message = message.open()
                if message is NOTHING:
                    continue
                self._handling = message
            self._reply = reply
            self._deferred = False
            began = perf_counter_ns()
            try:
                result = await actor.handle(message)
            except Refusal as refusal:
                if reply is not None:
                    reply.fail(refusal)
                else:
                    log.debug("refusal dropped", path=self.path, error=type(refusal).__name__)
            except BaseException:
                record(perf_counter_ns() - began)
                raise
            else:
                if reply is not None and not self._deferred:
                    reply.send(result)
            now = perf_counter_ns()
            record(now - began)
            if now > turn_over:
                await trio.lowlevel.checkpoint()
                turn_over = perf_counter_ns() + self.TURN

    async def _park(self, actor: Actor) -> None:
        """Wait until woken. Cancelled, nothing is lost: whatever woke it is still in the mailbox or lane."""
        idle_after = actor.idle_after
        if idle_after is not None:
            self._parked_at = trio.current_time()
            if self._idle_alarm is None:
                self._idle_alarm = self.supervisor.system.clock.schedule(idle_after, self._look_idle)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self.parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _look_idle(self) -> None:
        # One alarm per quiet period, not one per message: it looks how long the silence has lasted.
        self._idle_alarm = None
        actor = self.actor
        if self.parked is None or actor is None or actor.idle_after is None:
            return  # at work; the next time it parks it sets a new alarm
        rest = self._parked_at + actor.idle_after - trio.current_time()
        if rest > 0.001 or self._jobs:
            rest = rest if rest > 0.001 else actor.idle_after
            self._idle_alarm = self.supervisor.system.clock.schedule(rest, self._look_idle)
        else:
            self.passivate()

    def _may_leave(self, actor: Actor) -> bool:
        if self._jobs or not actor.settled():
            return False
        self._leaving = False
        return actor.idle()

    # The end

    def _end(self) -> None:
        """Close mailbox and lane, tell who still waits, make room for a successor. Synchronous, once."""
        if self._ended:
            return
        self._ended = True
        self.accepting = False
        self.inlet.close()
        dropped = sum(not isinstance(message, Wrapped) for message in self._lane) + len(self.askers)
        dropped += self._mailbox.statistics().current_buffer_used
        self._mailbox.close()
        self._lane.clear()
        self._cancel_timers()
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
        self.supervisor.leaving(self)
        for reply in tuple(self.askers):
            reply.fail(self._reason or ActorStopped(self.path))
        if dropped:
            log.warning("actor ended with messages unhandled", path=self.path, count=dropped)

    def _cancel_timers(self) -> None:
        for timer in tuple(self.timers):
            timer.cancel()

    def _count_crash(self) -> int:
        """How many crashes within the window, this one included."""
        now = trio.current_time()
        self._crashes.append(now)
        while self._crashes[0] < now - self.supervisor.restarts.window:
            self._crashes.popleft()
        return len(self._crashes)

    # Inspection

    @property
    def state(self) -> State:
        if self._stopping or self._ended:
            return "stopping"
        if self._serving:
            return "running"
        return "restarting" if self.meter.failures or self.meter.restarts else "starting"

    def jobs_running(self) -> int:
        return self._jobs

    def mailbox_info(self) -> MailboxInfo:
        state = self._mailbox.statistics()
        return MailboxInfo(
            depth=state.current_buffer_used,
            capacity=int(state.max_buffer_size),
            peak=state.peak_buffer_used,
            lane=len(self._lane),
            blocked=state.tasks_waiting_send,
        )
