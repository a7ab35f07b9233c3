"""The slot of an actor that has a task: its mailbox and lane, jobs and timers, and the life of its
incarnations.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, final

import outcome
import structlog
import trio

from veza.actors.kernel.actor import Actor
from veza.actors.kernel.clock import Alarm
from veza.actors.kernel.errors import ActorCrashed, ActorStopped, Refusal, Stop
from veza.actors.kernel.parcels import NOTHING, Parcel, Rebuild, RebuildOrder, Reply, Result, Timer
from veza.actors.kernel.records import MailboxInfo, State
from veza.actors.kernel.report import crash_report
from veza.actors.kernel.slot import Slot
from veza.actors.kernel.waiting import RUNNING, Waiting

if TYPE_CHECKING:
    from veza.actors.kernel.supervisor import Supervisor

log = structlog.get_logger(__name__)


@final
class MailSlot(Slot):
    """`run` is its task, from before the first incarnation to after the last.

    Invariants
    - `parked` is the task exactly while it waits because there is nothing to do. Whoever gives it something
      to do calls `wake` in the same step.
    - Between the check that finds nothing left to do and `_end` there is no await: what was accepted by an
      actor that ends in order has been handled.
    - `jobs` falls in the same step in which the job's result enters the lane.
    - From `begin_stop` or `_end` on, whichever comes first, the key is free for a successor, which waits for
      `done`.
    """

    __slots__ = (
        "_carry",
        "_crashes",
        "_deferred",
        "_ended",
        "_factory",
        "_handling",
        "_hurry",
        "_idle_alarm",
        "_jobs",
        "_lane",
        "_leaving",
        "_mailbox",
        "_nursery",
        "_parked_at",
        "_predecessor",
        "_reason",
        "_reply",
        "_scope",
        "_serving",
        "_stopping",
        "critical",
        "done",
        "timers",
    )

    TURN = 1_000_000
    """Nanoseconds of handling after which everybody else gets a turn."""

    def __init__(
        self,
        supervisor: "Supervisor",
        key: Hashable,
        factory: Callable[[], Actor],
        carry: Callable[[], Any] | None,
        *,
        capacity: int,
        critical: bool,
        predecessor: "MailSlot | None",
    ) -> None:
        super().__init__(supervisor, key)
        self.critical = critical
        self.done = trio.Event()
        self._factory = factory
        self._carry = carry
        self._predecessor = predecessor
        # The two lanes.
        self.inlet, self._mailbox = trio.open_memory_channel[Any](capacity)
        self._lane: deque[Any] = deque()
        self.accepting = True
        self.askers = set()
        # Where the slot is in its life.
        self._serving = False
        self._leaving = False
        self._stopping = False
        self._ended = False
        self._reason: Exception | None = None
        self._crashes: deque[float] = deque()
        self._hurry: trio.Event | None = None  # only during the pause before a restart
        # What runs beside the actor.
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._jobs = 0
        self.timers: set[Timer] = set()
        # The message under way.
        self._handling: Any = NOTHING
        self._reply: Reply | None = None
        self._deferred = False
        # Silence.
        self._parked_at = 0.0
        self._idle_alarm: Alarm | None = None

    # What comes in

    def wake(self) -> None:
        task = self.parked
        if task is not None:
            self.parked = None
            trio.lowlevel.reschedule(task)

    def deliver(self, message: Any) -> None:
        if not self._ended:
            self._lane.append(message)
            self.wake()

    async def wait_for_room(self, message: Any) -> None:
        # No `wake`: the mailbox is full, so the actor is not parked, and will not park before it took this.
        with Waiting(self):
            try:
                await self.inlet.send(message)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                raise ActorStopped(self.path) from None

    # What the actor may ask for (see `Context`)

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
        RUNNING.set(None)
        result: outcome.Outcome[Any]
        try:
            result = outcome.Value(await fn(*args))
        except Exception as error:
            result = outcome.Error(error)
        self._jobs -= 1
        self.deliver(Result(result, then))

    def timer(self, seconds: float, message: Any) -> Timer:
        timer = Timer(self, seconds, message)
        self.timers.add(timer)
        return timer

    def passivate(self) -> None:
        self._leaving = True
        self.wake()

    # What the supervisor may ask for

    def begin_stop(self) -> None:
        """Accept no more, not even from those who wait for room; handle what is there; end when settled."""
        if not self._stopping:
            self._stopping = True
            self.accepting = False
            self.inlet.close()
            if self._hurry is not None:
                self._hurry.set()
            self.wake()

    def cut(self) -> None:
        """Cancel handler and jobs: the slot ends at once, or when what they shield is over."""
        self._scope.cancel()

    def rebuild(self) -> None:
        """A wanted restart, after the message under way: no failure, no pause."""
        if self._hurry is not None:
            self._hurry.set()
        elif not self._ended:
            self._lane.appendleft(RebuildOrder())
            self.wake()

    async def run(self) -> None:
        RUNNING.set(self)
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    if self._predecessor is not None:
                        await self._predecessor.done.wait()
                        self._predecessor = None
                    await self._live()
                    self._nursery.cancel_scope.cancel()  # jobs that nobody will hear of
        except* Exception as errors:
            # Somebody turned his cancellation into another error. Siblings must not hear of it.
            log.error("actor ended badly", path=self.path, **crash_report(errors, NOTHING))
        finally:
            self._end()
            self.supervisor.ended(self)
            self.done.set()
            self.sever()
            self._nursery = None  # a circle too: it holds the task that is in here

    # Incarnations

    async def _live(self) -> None:
        """One incarnation after the other, until one ends for good."""
        pause: float | None
        while True:
            try:
                if self._carry is not None:
                    self.carried, self._carry = self._carry(), None
                self.actor = actor = self._factory()
                actor.context = self.context
                await actor.started()
                self._serving = True
                await self._serve(actor)
                self._end()
                await actor.stopping()
                return
            except Stop as stop:
                self._reason = stop.reason
                return
            except Rebuild:
                pause = 0.0
                log.info("actor restarted", path=self.path)
            except Exception as error:
                if self._ended:  # it was in `stopping`
                    self.failed(error, NOTHING)
                    return
                pause = self._crashed(error)
                if pause is None:
                    return
            self._serving = False
            self._done_handling()
            self._cancel_timers()
            self.meter.restarts += 1
            if pause:
                self._hurry = trio.Event()
                with trio.move_on_after(pause):
                    await self._hurry.wait()
                self._hurry = None

    def _crashed(self, error: Exception) -> float | None:
        """Tell the asker, count and log. Returns the seconds until a restart, or None: the actor is given up."""
        if self._reply is not None:
            self._reply.fail(ActorCrashed(self.path, type(error).__name__))
        patience = self.supervisor.restarts
        now = trio.current_time()
        self._crashes.append(now)
        while self._crashes[0] < now - patience.window:
            self._crashes.popleft()
        crashes = len(self._crashes)
        if crashes > patience.limit:
            self.failed(error, self._handling, given_up_after=crashes)
            self._end()
            self.supervisor.escalate(self.path, error, critical=self.critical)
            return None
        pause = patience.pause(crashes)
        self.failed(error, self._handling, restart_in=pause)
        return pause

    async def _serve(self, actor: Actor) -> None:
        """Handle messages until an end is due: nothing is left then, and `_end` must follow without an await."""
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
                except (trio.WouldBlock, trio.EndOfChannel):
                    if (self._leaving or self._stopping) and self._may_end(actor):
                        return
                    message = result = None  # an idle actor keeps nothing alive
                    self._done_handling()
                    await self._park(actor)
                    turn_over = perf_counter_ns() + self.TURN
                    continue
            self._handling = message
            self._reply = reply = None
            if isinstance(message, Parcel):
                parcel, message = message, message.open()
                if message is NOTHING:
                    continue
                self._handling = message
                if type(parcel) is Reply:
                    self._reply = reply = parcel
            self._deferred = False
            began = perf_counter_ns()
            try:
                result = await actor.handle(message)
            except Refusal as refusal:
                if reply is not None:
                    reply.fail(refusal)
                else:
                    log.debug("refusal that nobody asked for", path=self.path, error=type(refusal).__name__)
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

    def _done_handling(self) -> None:
        self._handling = NOTHING
        self._reply = None

    async def _park(self, actor: Actor) -> None:
        """Wait until woken. Cancelled, nothing is lost: what it was woken for is still in the mailbox or the
        lane.
        """
        if actor.idle_after is not None:
            self._parked_at = trio.current_time()
            if self._idle_alarm is None:
                self._idle_alarm = self.supervisor.system.clock.schedule(actor.idle_after, self._look_idle)

        def abort(_: Any) -> trio.lowlevel.Abort:
            self.parked = None
            return trio.lowlevel.Abort.SUCCEEDED

        self.parked = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _look_idle(self) -> None:
        # One alarm for a silence, not one for every message: when it rings it looks how long the silence has
        # lasted.
        self._idle_alarm = None
        actor = self.actor
        if self.parked is None or actor is None or actor.idle_after is None:
            return  # at work: the next time it parks it sets a new alarm
        rest = self._parked_at + actor.idle_after - trio.current_time()
        if rest < 0.001:
            if not self._jobs and not self.askers:
                self.passivate()
                return
            rest = actor.idle_after
        self._idle_alarm = self.supervisor.system.clock.schedule(rest, self._look_idle)

    def _may_end(self, actor: Actor) -> bool:
        """Mailbox and lane are empty and an end is wanted: is it due?"""
        if self._jobs or not actor.settled():
            return False
        if self._stopping:
            return True
        self._leaving = False
        return actor.idle()

    # The end

    def _end(self) -> None:
        """Close both lanes, free the key, and tell everybody who still waits. Synchronous; a second time does
        nothing.
        """
        if self._ended:
            return
        self._ended = True
        self.accepting = False
        self.inlet.close()
        unhandled = len(self._lane) + self._mailbox.statistics().current_buffer_used
        self._mailbox.close()
        self._lane.clear()
        self._cancel_timers()
        if self._idle_alarm is not None:
            self._idle_alarm.cancel()
        self.supervisor.leaving(self)
        for reply in tuple(self.askers):
            reply.fail(self._reason or ActorStopped(self.path))
        if unhandled:
            log.warning("actor ended with messages unhandled", path=self.path, count=unhandled)

    def _cancel_timers(self) -> None:
        for timer in tuple(self.timers):
            timer.cancel()

    # Inspection

    @property
    def state(self) -> State:
        if self._stopping or self._ended:
            return "stopping"
        if self._serving:
            return "running"
        return "restarting" if self.meter.restarts else "starting"

    @property
    def jobs(self) -> int:
        return self._jobs

    def mailbox(self) -> MailboxInfo:
        state = self._mailbox.statistics()
        return MailboxInfo(
            depth=state.current_buffer_used,
            capacity=int(state.max_buffer_size),
            peak=state.peak_buffer_used,
            lane=len(self._lane),
            blocked=state.tasks_waiting_send,
        )
