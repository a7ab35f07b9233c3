"""Sees that every track that is uploaded gets processed, a few at a time, and tells its owner how far it is.

The queue is in the database; this actor owns who is at work. It holds nothing that must not be lost: a job under way
when the server ends, however it ends, is `running` in the database and begins anew at the next start. The work itself
is a child process's (`veza.media.processing`), so that no file can harm the server or keep it from listening.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import trio
from outcome import Error, Outcome, Value

from veza import log
from veza.actors import track_rules
from veza.actors.frames import frame
from veza.actors.kernel import Actor, ActorError, Ref, Supervisor, Timer
from veza.actors.presence import Deliver
from veza.db import media_jobs
from veza.db.errors import DatabaseError
from veza.db.media_jobs import TRIES, Backlog, Job, Results, Words
from veza.db.pool import Database
from veza.media.child import ChildEnded, ChildSilent
from veza.media.findings import Findings, Progress
from veza.media.library import Library
from veza.media.processing import TryLater, Unusable, put_in_place, run_worker, workshop

_log = log.get("processing")

AGAIN: Final = (5.0, 60.0)  # seconds before the second try, before the third
_DATABASE_AGAIN: Final = 2.0  # seconds until a database that was away is asked again
_TELL_EVERY: Final = 0.5  # seconds between two words about the progress of a track
_GENRE_LENGTH: Final = 50


class Wake(msgspec.Struct, frozen=True):
    """There may be something to do."""


class Looked(msgspec.Struct, frozen=True):
    """What the queue holds."""

    outcome: Outcome[tuple[Job | None, Backlog]]


class Worked(msgspec.Struct, frozen=True):
    """A job is over, or put back."""

    job: Job
    outcome: Outcome[None]


class Tally:
    """Counts since the server started, for `/metrics`."""

    def __init__(self) -> None:
        self.waiting = 0  # as of the last look
        self.done = 0
        self.failed = 0
        self.tries_failed = 0
        self.media_seconds = 0.0  # of tracks that are ready
        self.work_seconds = 0.0  # that took


class Bench:
    """Who is at work. Outlives the actor's incarnations, as the work does."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.closed = False
        self._under_way: dict[int, tuple[Job, trio.CancelScope]] = {}  # by job

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def jobs(self) -> list[int]:
        return list(self._under_way)

    def take_place(self, job: Job) -> None:
        """This job is begun: from now on `cancel` and `close` reach it, and `at_place` may be entered."""
        self._under_way[job.id] = (job, trio.CancelScope())

    @contextlib.contextmanager
    def at_place(self, job: Job) -> Iterator[None]:
        """Around the work of a job, which ends here when its place is cancelled."""
        try:
            with self._under_way[job.id][1]:
                yield
        finally:
            del self._under_way[job.id]

    def cancel(self, track_id: int) -> None:
        for job, scope in self._under_way.values():
            if job.track_id == track_id:
                scope.cancel()

    def close(self) -> None:
        self.closed = True
        for _, scope in self._under_way.values():
            scope.cancel()


class ProcessingActor(Actor):
    """See the module. Its slot carries the `Bench`."""

    def __init__(self, db: Database, worker: Worker, workers: int) -> None:
        self._db = db
        self._worker = worker
        self._workers = workers
        self._looking = False
        self._look_again = False
        self._next: Timer | None = None
        self._recover = True  # there may be jobs that are `running` though nobody is at them

    @property
    def bench(self) -> Bench:
        bench: Bench = self.context.carried
        return bench

    async def started(self) -> None:
        self._look()

    async def handle(self, message: Any) -> None:
        match message:
            case Wake():
                self._look()
            case Looked(outcome=Value((job, backlog))):
                self._looking = self._recover = False
                self._take(job, backlog)
            case Looked(outcome=Error(error)):
                if not isinstance(error, DatabaseError):
                    raise error
                # A claim may have been stored whose answer was lost.
                self._looking, self._recover = False, True
                _log.warning("the queue cannot be read", reason=type(error).__name__)
                self._look_in(_DATABASE_AGAIN)
            case Worked(job=job, outcome=outcome):
                if isinstance(outcome, Error):  # a defect of ours: the work itself lets nothing out
                    _log.error("a job crashed", job=job.id, error=repr(outcome.error))
                    self._recover = True
                self._look()

    def summary(self) -> dict[str, Any]:
        tally = self.bench.tally
        return {
            "at_work": len(self.bench),
            "waiting": tally.waiting,
            "done": tally.done,
            "failed": tally.failed,
        }

    def _look(self) -> None:
        """Look for work, if somebody is free to do it."""
        if self._looking:
            self._look_again = True
        elif not self.bench.closed and len(self.bench) < self._workers:
            self._looking, self._look_again = True, False
            self.context.job(self._claim, self._recover, then=Looked)

    async def _claim(self, recover: bool) -> tuple[Job | None, Backlog]:
        if recover:
            left = await self._db.write(media_jobs.release, self.bench.jobs)
            if left:
                _log.info("jobs taken up again", jobs=left)
        job = await self._db.write(media_jobs.claim)
        return job, await self._db.read(media_jobs.backlog)

    def _take(self, job: Job | None, backlog: Backlog) -> None:
        bench = self.bench
        bench.tally.waiting = backlog.waiting
        if bench.closed:
            return  # what was claimed begins anew at the next start
        if job is None:
            if self._look_again:
                self._look()
            elif backlog.due_in is not None:
                self._look_in(max(0.05, backlog.due_in))
        elif len(bench) < self._workers:
            bench.take_place(job)
            self.context.job(self._worker.work, job, bench, then=lambda outcome: Worked(job, outcome))
            self._look()
        else:  # an earlier incarnation had asked too
            self._recover = True

    def _look_in(self, seconds: float) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next = self.context.timer(seconds, Wake())


class Worker:
    """The work on one job, from its file to its row."""

    def __init__(
        self,
        db: Database,
        library: Library,
        presence: Ref | None,
        *,
        again: tuple[float, ...] = AGAIN,
        poke: Callable[[], None] = lambda: None,
    ) -> None:
        self._db = db
        self._library = library
        self._presence = presence
        self._again = again
        self._poke = poke

    async def work(self, job: Job, bench: Bench) -> None:
        """Process a track and store what comes of it. If its place is cancelled the job stays as it is: it is gone
        with its track, or the next start begins it anew."""
        began = trio.current_time()
        with log.bound(job=job.id, track_id=job.track_id), bench.at_place(job):
            try:
                found = await self._process(job)
            except FileNotFoundError as error:  # of the track, deleted meanwhile; else it has lost its file
                await self._missed(job, bench, f"a file is missing ({error.strerror})")
            except Unusable as error:
                await self._failed(job, bench, error.reason)
            except TryLater as error:
                await self._missed(job, bench, error.reason)
            except ChildSilent:
                await self._missed(job, bench, "it took too long")
            except ChildEnded as ended:
                _log.warning("a worker ended by itself", code=ended.code, said=ended.said)
                await self._missed(job, bench, "the decoder gave up")
            except OSError as error:
                _log.warning("a job failed", error=repr(error))
                await self._missed(job, bench, error.strerror or "the system would not let it")
            else:
                await self._ready(job, bench, found, trio.current_time() - began)

    async def _process(self, job: Job) -> Findings:
        async with workshop(self._library) as made:
            path = self._library.original(job.name, job.extension)
            found = await run_worker(path, made, self._teller(job))
            with trio.CancelScope(shield=True):  # a few renames, whole or not at all
                await trio.to_thread.run_sync(put_in_place, self._library, job.name, made)
            return found

    async def _ready(self, job: Job, bench: Bench, found: Findings, seconds: float) -> None:
        try:
            title = await self._stored(media_jobs.done, job, results_of(found), words_of(job, found.tags))
        finally:
            self._poke()
        if title is None:
            return  # deleted in the last moment
        bench.tally.done += 1
        bench.tally.media_seconds += found.duration_ms / 1000
        bench.tally.work_seconds += seconds
        _log.info("track ready", media_seconds=found.duration_ms / 1000, seconds=round(seconds, 3))

    async def _failed(self, job: Job, bench: Bench, reason: str) -> None:
        try:
            await self._stored(media_jobs.failed, job, reason)
        finally:
            self._poke()
        bench.tally.failed += 1
        _log.info("track failed", reason=reason)

    async def _missed(self, job: Job, bench: Bench, reason: str) -> None:
        """A try is over, through no fault of the file that we know of."""
        bench.tally.tries_failed += 1
        if job.tries + 1 >= TRIES:
            await self._failed(job, bench, f"It could not be processed in {TRIES} tries: {reason}.")
            return
        wait = self._again[min(job.tries, len(self._again) - 1)]
        _log.warning("tried again later", reason=reason, seconds=wait)
        await self._stored(media_jobs.again, job, reason, wait)

    async def _stored(self, unit: Callable[..., Any], *args: Any) -> Any:
        """Written once the database can be reached: each of these may be written twice."""
        while True:
            try:
                return await self._db.write(unit, *args)
            except DatabaseError as error:
                _log.warning("a job's end is not stored yet", reason=type(error).__name__)
                await trio.sleep(_DATABASE_AGAIN)

    def _teller(self, job: Job) -> Callable[[Progress], None]:
        told = -_TELL_EVERY

        def tell(progress: Progress) -> None:
            nonlocal told
            now = trio.current_time()
            if now - told >= _TELL_EVERY:
                told = now
                self._tell(job, progress.share)

        return tell

    def _tell(self, job: Job, progress: float) -> None:
        """A `notification` to every connection of the owner; dropped if his side has too much to do."""
        if self._presence is None:
            return
        about = {"track_id": job.track_id, "name": job.name, "title": job.title}
        data = {"kind": "track_progress", **about, "progress": progress}
        with contextlib.suppress(ActorError):
            self._presence.tell_nowait(Deliver((job.owner_id,), frame("notification", data)))


class Processing:
    """The way to the actor, for those who make tracks and those who delete them.

    Args:
        workers: children at work at the same time.
        again: seconds before each further try.
        poke: called where an end may be stored that its owner is to hear of.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        db: Database,
        library: Library,
        presence: Ref | None = None,
        workers: int = 1,
        again: tuple[float, ...] = AGAIN,
        poke: Callable[[], None] = lambda: None,
    ) -> None:
        self._bench = Bench()
        worker = Worker(db, library, presence, again=again, poke=poke)
        self._ref: Ref = supervisor.ensure(
            "processing", lambda: ProcessingActor(db, worker, workers), carry=lambda: self._bench
        )

    @property
    def tally(self) -> Tally:
        return self._bench.tally

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._bench)

    def wake(self) -> None:
        """There is a new job; to be called after its commit. Never blocks."""
        with contextlib.suppress(ActorError):  # a full mailbox holds one already; whoever stops needs none
            self._ref.tell_nowait(Wake())

    def cancel(self, track_id: int) -> None:
        """The track is gone: kill the child that works on it, if one does. Never blocks."""
        self._bench.cancel(track_id)

    def close(self) -> None:
        """Kill all children and begin nothing more; the jobs under way begin anew at the next start. Never blocks."""
        self._bench.close()


def results_of(found: Findings) -> Results:
    return Results(**{name: getattr(found, name) for name in Results.__struct_fields__})


def words_of(job: Job, tags: dict[str, str]) -> Words:
    """A file's own words, as the columns take them."""

    def fit(name: str, length: int) -> str | None:
        return track_rules.one_line(tags.get(name, ""))[:length].strip() or None

    return Words(
        untitled=track_rules.title_from(job.filename),
        title=fit("title", track_rules.TITLE_LENGTH),
        artist=fit("artist", track_rules.TITLE_LENGTH),
        album=fit("album", track_rules.TITLE_LENGTH),
        genre=fit("genre", _GENRE_LENGTH),
    )
