"""What was recorded of a stream becomes a track of its owner's once the stream has ended.

One actor, one stream after the other. Every step may be the last one of a process: a recording is a row without a track
until the transaction that makes its track (`take_in`), and its file goes only after that. So one who is killed anywhere
neither loses a recording nor makes two tracks of it; whoever starts next looks for what is left to do.
"""

from __future__ import annotations

import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import trio
from outcome import Error, Outcome, Value

from veza import log
from veza.actors.kernel import Actor, Ref, Reply, Supervisor
from veza.actors.track_intake import Content, TooManyTracks, Waking, take_in
from veza.db import streams as streams_db
from veza.db.errors import DatabaseError, Unavailable
from veza.db.pool import Database
from veza.db.streams import AlreadyKept, Recording
from veza.media import checking
from veza.media.checking import NotMedia
from veza.media.library import Library

_log = log.get("recordings")

Check = Callable[[Path], Awaitable[Content]]
TITLE_LONGEST: Final = 200
AGAIN: Final = 5.0  # seconds until what failed is tried again; twice as long each time, up to
AGAIN_MOST: Final = 600.0


class Finish(msgspec.Struct, frozen=True):
    """This stream has ended. Asked, it answers how many of its recordings still wait."""

    stream_id: int


class Found(msgspec.Struct, frozen=True):
    """What is left to do since an earlier process."""

    outcome: Outcome[list[int]]


class Done(msgspec.Struct, frozen=True):
    """What became of one stream's recordings."""

    stream_id: int
    outcome: Outcome[int]


class Retry(msgspec.Struct, frozen=True):
    """Time to try again; None: to look for what is left to do."""

    stream_id: int | None


class Queue:
    """Streams that wait for their turn, and who asked. Survives a crash of the actor."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Reply]] = {}
        self.failures: dict[int | None, int] = {}
        self.working: int | None = None
        self.asked: list[Reply] = []  # for the one in work; who asks later wants another look


class RecordingsActor(Actor):
    """See the module.

    Args:
        keep: makes tracks of a stream's recordings; how many still wait.
        left: the streams an earlier process left something of.
    """

    mailbox_capacity = 1024

    def __init__(
        self, keep: Callable[[int], Awaitable[int]], left: Callable[[], Awaitable[list[int]]]
    ) -> None:
        self._keep = keep
        self._left = left

    @property
    def queue(self) -> Queue:
        queue: Queue = self.context.carried
        return queue

    async def started(self) -> None:
        self._look()  # also after a crash, which has forgotten what was to be tried again
        self._next()

    async def handle(self, message: Any) -> None:
        match message:
            case Finish(stream_id=stream_id):
                self.queue.waiting.setdefault(stream_id, []).append(self.context.defer())
            case Found(outcome=Value(value=stream_ids)):
                self.queue.failures.pop(None, None)
                for stream_id in stream_ids:
                    self.queue.waiting.setdefault(stream_id, [])
            case Found(outcome=Error(error=error)):
                self._later(None, error)
            case Done(stream_id=stream_id, outcome=outcome):
                self._done(stream_id, outcome)
            case Retry(stream_id=None):
                self._look()
            case Retry(stream_id=int() as stream_id):
                self.queue.waiting.setdefault(stream_id, [])
        self._next()

    def summary(self) -> dict[str, Any]:
        queue = self.queue
        return {"streams_waiting": len(queue.waiting), "working_on": queue.working}

    def settled(self) -> bool:
        return True  # what waits, waits for the next start

    def _look(self) -> None:
        self.context.job(self._left, then=Found)

    def _next(self) -> None:
        queue = self.queue
        if queue.working is None and queue.waiting:
            stream_id = queue.working = next(iter(queue.waiting))
            queue.asked = queue.waiting.pop(stream_id)
            self.context.job(self._keep, stream_id, then=partial(Done, stream_id))

    def _done(self, stream_id: int, outcome: Outcome[int]) -> None:
        queue = self.queue
        replies, queue.asked, queue.working = queue.asked, [], None
        match outcome:
            case Value(value=waiting):
                queue.failures.pop(stream_id, None)
                for reply in replies:
                    reply.send(waiting)
            case Error(error=error):
                self._later(stream_id, error)
                told = (
                    error
                    if isinstance(error, DatabaseError)
                    else Unavailable("the recording is not kept yet")
                )
                for reply in replies:
                    reply.fail(told)

    def _later(self, stream_id: int | None, error: BaseException) -> None:
        failures = self.queue.failures[stream_id] = self.queue.failures.get(stream_id, 0) + 1
        _log.warning(
            "recordings not kept yet", stream_id=stream_id, tries=failures, error=type(error).__name__
        )
        self.context.timer(min(AGAIN * 2 ** min(failures - 1, 16), AGAIN_MOST), Retry(stream_id))


class Recordings:
    """The way to the actor."""

    def __init__(self, supervisor: Supervisor, keeper: Keeper) -> None:
        self._ref: Ref = supervisor.ensure(
            "recordings",
            lambda: RecordingsActor(keeper.keep, keeper.left),
            carry=Queue,
            capacity=RecordingsActor.mailbox_capacity,
        )

    def finish(self, stream_id: int) -> None:
        """The stream has ended (committed): see to its recordings soon. Never blocks."""
        self._ref.answer(Finish(stream_id))  # bounded by the streams there are: once each

    async def finished(self, stream_id: int, timeout: float = 30.0) -> int:
        """See to a stream's recordings now; how many still wait (their owner has no room for more tracks).

        Raises:
            Unavailable: they could not be kept just now; it is tried again.
            ActorError: no answer in time.
        """
        waiting: int = await self._ref.ask(Finish(stream_id), timeout=timeout)
        return waiting


class Keeper:
    """The work itself.

    Args:
        check: instead of `veza.media.checking.check`.
        processing: woken when there is a new track.
        most: tracks one person may have.
    """

    def __init__(
        self,
        db: Database,
        library: Library,
        *,
        check: Check | None = None,
        processing: Waking | None = None,
        most: int | None = None,
    ) -> None:
        self._db = db
        self._library = library
        self._check = check
        self._processing = processing
        self._most = most

    async def left(self) -> list[int]:
        """The streams that have ended with recordings which are no tracks; files that nothing waits for are removed.

        Raises:
            DatabaseError, OSError: not just now.
        """
        for stream_id in await trio.to_thread.run_sync(self._directories):
            await self._clear(stream_id)
        return await self._db.read(streams_db.streams_with_recordings)

    async def keep(self, stream_id: int) -> int:
        """Make tracks of the recordings of a stream, if it has ended; how many still wait.

        Raises:
            DatabaseError, OSError: not just now; nothing is lost.
        """
        waiting = 0
        for recording in await self._db.read(streams_db.recordings_to_keep, stream_id):
            waiting += not await self._keep(recording)
        await self._clear(stream_id)
        return waiting

    async def _keep(self, recording: Recording) -> bool:
        """Whether nothing is left to do for this one."""
        path = self._library.recordings_of(recording.stream_id) / recording.filename
        if not await trio.to_thread.run_sync(_has_bytes, path):
            # Perhaps it was a track that its owner deleted.
            return await self._drop(recording, "there is nothing in it")
        try:
            checked = await self._checked(path)
        except NotMedia as error:
            return await self._drop(recording, error.reason)
        try:
            await take_in(
                self._db,
                self._library,
                self._processing,
                owner_id=recording.owner_id,
                path=path,
                checked=checked,
                title=title_of(recording),
                artist=recording.username,
                is_public=recording.public,
                filename=recording.filename,
                stream_id=recording.stream_id,
                most=self._most,
                recording_id=recording.id,
            )
        except AlreadyKept:
            pass
        except TooManyTracks:
            _log.warning("no room for a recording", recording_id=recording.id, owner_id=recording.owner_id)
            return False
        return True

    async def _checked(self, path: Path) -> Content:
        """What it is. Nobody has another copy, so one that is refused is looked at again: the first child may have
        died of something else."""
        check = self._check or checking.check
        try:
            return await check(path)
        except NotMedia:
            return await check(path)

    async def _drop(self, recording: Recording, reason: str) -> bool:
        _log.warning(
            "recording dropped", recording_id=recording.id, stream_id=recording.stream_id, reason=reason
        )
        await self._db.write(streams_db.recording_dropped, recording.id)
        return True

    async def _clear(self, stream_id: int) -> None:
        """Remove the files of a stream that has ended, or is gone, which no row waits for."""
        directory = self._library.recordings_of(stream_id)
        names = await trio.to_thread.run_sync(_names, directory)
        if names is None:
            return
        keep = await self._db.read(streams_db.waiting_files, stream_id)
        if keep is None:
            return
        await trio.to_thread.run_sync(_remove, directory, names - keep)

    def _directories(self) -> list[int]:
        with suppress(FileNotFoundError):
            return sorted(int(d.name) for d in self._library.recordings.iterdir() if d.name.isdecimal())
        return []


def title_of(recording: Recording) -> str:
    """`‹stream title› — ‹date›`, with a number from the second recording of a stream on."""
    end = f" — {recording.started_at:%Y-%m-%d}"
    if recording.part > 1:
        end += f" ({recording.part})"
    return recording.title[: TITLE_LONGEST - len(end)].rstrip() + end


def _has_bytes(path: Path) -> bool:
    try:
        found = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def _names(directory: Path) -> set[str] | None:
    try:
        return {entry.name for entry in directory.iterdir()}
    except FileNotFoundError:
        return None


def _remove(directory: Path, names: set[str]) -> None:
    for name in names:
        (directory / name).unlink(missing_ok=True)
    with suppress(OSError):  # others are still in it
        directory.rmdir()
