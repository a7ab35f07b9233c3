"""Crossing from trio into asyncio and back, as cheaply as both allow.

trio-asyncio runs each asyncio callback in a task of its own, a scheduler pass for each: a query of 50 µs costs four
times that. Here asyncio's callbacks run where they arise: a unit's first step in the task that asks for it, everything
an answer sets off in the task that read it from the socket. One query is two passes then.

This leans on parts of trio-asyncio's loop that are not documented (its queue and its reader task). Where they are not
as expected the loop is left alone, and all works the slower way; a test fails then, so that somebody looks.

The order of callbacks is asyncio's own, and at any moment one of them runs. Whatever is not a plain callback (timers,
trio tasks, the end of the loop) stays with trio-asyncio's main task.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import sniffio
import trio
import trio_asyncio

T = TypeVar("T")

# Callbacks run in a row before everybody else gets a turn.
LONGEST_STREAK = 200


class _Ready:
    """The loop's queue of callbacks: both ends of the channel that trio-asyncio made for it."""

    def __init__(self) -> None:
        self._handles: collections.deque[asyncio.Handle] = collections.deque()
        self._parked: trio.lowlevel.Task | None = None  # the main task, while it waits here
        self._streak = 0
        self.draining = False  # somebody runs the callbacks just now: no need to wake the main task

    def send_nowait(self, handle: asyncio.Handle) -> None:
        self._handles.append(handle)
        if not self.draining:
            self.wake()

    def wake(self) -> None:
        task = self._parked
        if task is not None:
            self._parked = None
            trio.lowlevel.reschedule(task)

    def receive_nowait(self) -> asyncio.Handle:
        if not self._handles:
            raise trio.WouldBlock
        return self._handles.popleft()

    async def receive(self) -> asyncio.Handle:
        """The next one for the main task. Unlike a channel's, it does not yield for each."""
        self._streak += 1
        if self._streak >= LONGEST_STREAK:
            self._streak = 0
            await trio.lowlevel.checkpoint()
        while not self._handles:
            self._streak = 0
            self._parked = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        return self._handles.popleft()

    def _abort(self, _: Any) -> trio.lowlevel.Abort:
        self._parked = None
        return trio.lowlevel.Abort.SUCCEEDED

    def drain(self, stopping: Callable[[], bool]) -> None:
        """Run the plain callbacks that wait, and those they add, here and now."""
        handles = self._handles
        streak = 0
        while handles and streak < LONGEST_STREAK and type(handles[0]) is asyncio.Handle and not stopping():
            streak += 1
            handle = handles.popleft()
            if not handle.cancelled():
                handle._run()


class Crossing:
    """One open trio-asyncio loop, and the way into it."""

    def __init__(self, loop: trio_asyncio.TrioEventLoop) -> None:
        self.loop = loop
        self._context = contextvars.copy_context()  # knows the loop; the context of a calling task may not
        self._ready = _install(loop)

    @property
    def direct(self) -> bool:
        """Whether callbacks run where they arise."""
        return self._ready is not None

    async def run(self, unit: Coroutine[Any, Any, T]) -> T:
        """Run an asyncio coroutine to its end and return or raise what it does.

        Cancelling throws one `asyncio.CancelledError` into it and waits for it to finish all the same.

        Raises:
            RuntimeError: the loop is closed.
        """
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            ready = self._ready
            if ready is None or ready.draining:
                task = self.loop.create_task(unit, context=self._context)
            else:
                task = self._start(ready, unit)
        except BaseException:
            unit.close()
            raise
        result: T = await trio_asyncio.run_aio_future(task)
        return result

    def _start(self, ready: _Ready, unit: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        token = trio_asyncio.current_loop.set(self.loop)
        library, sniffio.thread_local.name = sniffio.thread_local.name, "asyncio"
        ready.draining = True
        try:
            task: asyncio.Task[T] = self.loop.create_task(unit, context=self._context)
            ready.drain(lambda: self.loop._stop_wait is not None)
            return task
        finally:
            ready.draining = False
            if ready._handles:
                ready.wake()
            sniffio.thread_local.name = library
            trio_asyncio.current_loop.reset(token)


def _install(loop: Any) -> _Ready | None:
    """Put our queue and our reader into the loop; None where it does not look as we know it."""
    old = getattr(loop, "_q_send", None)
    if old is None or getattr(loop, "_q_recv", None) is None or not hasattr(loop, "_stop_wait"):
        return None
    original: Callable[..., Coroutine[Any, Any, None]] | None = getattr(loop, "_io_task", None)
    if original is None:
        return None
    ready = _Ready()

    def stopping() -> bool:
        return loop._stop_wait is not None

    async def read_when_ready(fd: int, handle: Any, wait_ready: Any) -> None:
        if wait_ready is not trio.lowlevel.wait_readable:
            await original(fd, handle, wait_ready)
            return
        with handle._scope:
            try:
                while not handle._cancelled:
                    try:
                        await wait_ready(fd)
                    except OSError:
                        if handle._cancelled:
                            break
                        raise
                    if handle._cancelled:
                        break
                    if ready.draining or stopping():
                        handle._run()
                        await loop.synchronize()
                        continue
                    library, sniffio.thread_local.name = sniffio.thread_local.name, "asyncio"
                    ready.draining = True
                    try:
                        handle._run()
                        ready.drain(stopping)
                    finally:
                        ready.draining = False
                        if ready._handles:
                            ready.wake()
                        sniffio.thread_local.name = library
            except Exception as error:
                handle._raise(error)

    def call_soon(callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        # trio-asyncio's also inspects each callback, which costs as much as running it
        loop._check_closed()
        handle = asyncio.Handle(callback, args, loop, context)
        ready.send_nowait(handle)
        return handle

    loop._q_send = loop._q_recv = ready
    loop._io_task = read_when_ready
    loop.call_soon = call_soon
    old.send_nowait(asyncio.Handle(_nothing, (), loop))  # the main task still waits at the old one
    return ready


def _nothing() -> None:
    pass
