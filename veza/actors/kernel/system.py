"""The root of the tree: its clock, its supervisors in the order they rely on each other, and its end."""

import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import structlog
import trio

from veza.actors.kernel.clock import Clock
from veza.actors.kernel.errors import NoSuchActor, SystemFailed
from veza.actors.kernel.mailslot import MailSlot
from veza.actors.kernel.records import ActorInfo, Restarts
from veza.actors.kernel.supervisor import OnEscalate, Supervisor

log = structlog.get_logger(__name__)


@final
class System:
    """Everything that runs, under one root. Made by `open_system`."""

    def __init__(self, restarts: Restarts, on_escalate: OnEscalate | None) -> None:
        self.clock = Clock()
        # Actors and jobs run in copies of this, not in the context of whoever happened to need them first:
        # his request id must not stay with them for ever.
        self.contextvars = contextvars.copy_context()
        self.failure: SystemFailed | None = None
        self._root = Supervisor("", None, self, restarts, on_escalate)
        self._body = trio.CancelScope()

    def supervisor(
        self, name: str, *, restarts: Restarts | None = None, on_escalate: OnEscalate | None = None
    ) -> Supervisor:
        """A new supervisor at the top of the tree; see `Supervisor.supervisor`."""
        return self._root.supervisor(name, restarts=restarts, on_escalate=on_escalate)

    def inspect(self, path: str | None = None, *, depth: int | None = None, limit: int = 1000) -> ActorInfo:
        """The tree now, or the part of it at `path`: consistent, since nothing runs meanwhile.

        Args:
          depth: how many levels below it; None means all.
          limit: how many nodes below it, at most.

        Raises:
          NoSuchActor: nothing has this path.
        """
        found = self._root.find(path) if path else self._root
        return found.info(depth, limit) if isinstance(found, Supervisor) else found.info()

    def restart(self, path: str) -> None:
        """`Supervisor.restart` for whatever actor has this path.

        Raises:
          NoSuchActor: no actor with a mailbox has.
        """
        found = self._root.find(path)
        if not isinstance(found, MailSlot):
            raise NoSuchActor(path)
        found.rebuild()

    async def stop(self, timeout: float = 10.0) -> list[str]:
        """Stop everything in order: supervisors in reverse order, mailboxes drained, jobs awaited.

        Past `timeout` seconds the rest is cancelled. May be called again. Under cancellation see
        `Supervisor.close`.

        Returns:
          The paths of those that had to be cancelled.
        """
        return await self._root.close(timeout)

    def gave_up(self, path: str, error: Exception, *, critical: bool) -> None:
        """An escalation has reached the top."""
        if critical and self.failure is None:
            log.critical("a critical actor was given up; stopping", path=path, error=type(error).__name__)
            self.failure = SystemFailed(path)
            self._body.cancel()

    async def _run(self, task_status: trio.TaskStatus[None]) -> None:
        # Shielded, so that the tree ends in its order whatever happens around it: only `stop` ends it.
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.clock.run)
                task_status.started()
                await self._root.run()
                nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_system(
    *, restarts: Restarts | None = None, on_escalate: OnEscalate | None = None, stop_timeout: float = 10.0
) -> AsyncIterator[System]:
    """A tree of actors for as long as the body runs.

    Leaving it, also by an error or cancelled, stops the system in order within `stop_timeout` seconds; only
    then does the error go on, as it was. Actors and jobs run in the context (`contextvars`) in which the
    system was opened.

    Raises:
      SystemFailed: a critical actor was given up; the body was cancelled because of it.
    """
    system = System(restarts or Restarts(), on_escalate)
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(system._run)
        try:
            with system._body:
                yield system
        except BaseException as raised:
            error = raised  # raised again outside of the nursery, which would wrap it into a group
        with trio.CancelScope(shield=True):
            await system.stop(stop_timeout)
    if error is not None:
        try:
            raise error
        finally:
            del error  # or the error's traceback would hold this frame, and this frame the error
    if system.failure is not None:
        raise system.failure
