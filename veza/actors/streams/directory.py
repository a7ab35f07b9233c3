"""Finding streams: slugs to what is known of them, ids to running actors; and their beginning and end with the server.

A stream's actor starts when somebody needs it. What the database says of a stream is remembered here for a while, and
forgotten at once when whoever changes it says so (`changed`).
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog
import trio

from veza.actors.errors import Refused, unavailable
from veza.actors.kernel import ActorError, ActorStopped, Ref, System
from veza.actors.streams import refusals
from veza.actors.streams.actor import StreamActor
from veza.actors.streams.air import Air
from veza.actors.streams.fanout import Tally
from veza.actors.streams.hls import Make
from veza.actors.streams.listener import Listener
from veza.actors.streams.messages import Changed, Close, End, LiveState
from veza.config import Settings
from veza.db import streams as streams_db
from veza.db.errors import DataRefused, Unavailable
from veza.db.pool import Database
from veza.media.library import Library

if TYPE_CHECKING:
    from veza.actors.streams.base import StreamBase
    from veza.db.streams import Mount

log = structlog.get_logger("streams")
CACHED: Final = 10_000
BELIEVED: Final = 30.0  # seconds, for what other programs change


class Streams:
    """The directory of streams.

    Args:
        make_hls: makes live HLS of a stream's bytes in a directory, until they end.
    """

    def __init__(
        self, system: System, *, db: Database, settings: Settings, library: Library, make_hls: Make
    ) -> None:
        self._supervisor = system.supervisor("streams", on_escalate=self._given_up)
        self._db = db
        self._settings = settings
        self.tally = Tally()
        self._make = partial(
            StreamActor,
            db=db,
            settings=settings,
            library=library,
            tally=self.tally,
            directory=self,
            make_hls=make_hls,
        )
        self._shown: dict[int, StreamBase] = {}
        self._slugs: dict[str, int] = {}  # of those that run
        self._mounts: OrderedDict[str, tuple[float, Mount]] = OrderedDict()
        self._forgotten = 0
        self._ears: dict[int, dict[Listener, None]] = {}  # by person
        self._closing = False
        self._on_ended: list[Callable[[int], None]] = []
        self._on_live: list[Callable[[int], None]] = []

    def __len__(self) -> int:
        return len(self._supervisor)

    # Asking ---------------------------------------------------------------------------------------

    def ref(self, stream_id: int) -> Ref:
        """The stream's actor, started if need be; whether the stream exists is its to say."""
        return self._supervisor.ensure(
            stream_id, partial(self._make, stream_id), carry=Air, capacity=StreamActor.mailbox_capacity
        )

    async def ask(self, stream_id: int, message: Any, *, timeout: float = 10.0) -> Any:
        """Ask a stream. Raises Refused, or the kernel's errors where it does not answer."""
        if self._closing:
            raise refusals.going()
        try:
            return await self.ref(stream_id).ask(message, timeout=timeout)
        except ActorStopped:
            return await self.ref(stream_id).ask(message, timeout=timeout)

    async def mount(self, slug: str, *, fresh: bool = False) -> Mount:
        """What the database says of a stream.

        Args:
            fresh: ask it now, for decisions about who may broadcast.

        Raises:
            Refused: there is no such stream; or the database is away.
        """
        known = self._mounts.get(slug)
        if known is not None and not fresh and known[0] > time.monotonic():
            self._mounts.move_to_end(slug)
            return known[1]
        forgotten = self._forgotten
        try:
            found = await self._db.read(streams_db.mount, slug)
        except Unavailable:
            raise unavailable() from None
        except DataRefused:
            found = None
        if found is None:
            raise refusals.not_found()
        if forgotten == self._forgotten:  # or it may have been read before it changed
            self.known(found)
        return found

    def known(self, mount: Mount) -> None:
        """This is what the database says now."""
        self._mounts[mount.slug] = (time.monotonic() + BELIEVED, mount)
        self._mounts.move_to_end(mount.slug)
        if len(self._mounts) > CACHED:
            self._mounts.popitem(last=False)

    def glance(self, stream: int | str) -> LiveState | None:
        """What a running stream, by id or slug, knows better than the database; None where it does not run."""
        stream_id = self._slugs.get(stream) if isinstance(stream, str) else stream
        shown = self._shown.get(stream_id) if stream_id is not None else None
        return None if shown is None else shown.live_state()

    def live(self) -> list[LiveState]:
        """All that are on air here."""
        states = [stream.live_state() for stream in self._shown.values()]
        return [state for state in states if state.state in ("live", "interrupted")]

    @property
    def listeners(self) -> int:
        return sum(stream.listener_count for stream in self._shown.values())

    # Changing -------------------------------------------------------------------------------------

    async def end(self, stream_id: int) -> None:
        """End a stream for good. When this returns, that is stored and its recording closed.

        Raises:
            Refused: there is no such stream, or the server goes.
            ActorError: it did not come about in time; it goes on.
        """
        await self.ask(stream_id, End(), timeout=30.0)

    def changed(self, stream_id: int) -> None:
        """Its row has changed (committed), or is gone."""
        self._forgotten += 1
        for slug in [slug for slug, (_, mount) in self._mounts.items() if mount.id == stream_id]:
            del self._mounts[slug]
        if (running := self._supervisor.get(stream_id)) is not None:
            running.answer(Changed())

    def owner_changed(self, user_id: int) -> None:
        """Somebody was banned, disabled or let in again: ask anew what he may."""
        for stream_id, stream in list(self._shown.items()):
            if stream.mount.owner_id == user_id:
                self.changed(stream_id)

    # Who listens under his name --------------------------------------------------------------------

    @contextlib.contextmanager
    def listening(self, user_id: int | None, listener: Listener) -> Iterator[None]:
        """For as long as this person listens; None: nobody knows who it is."""
        if user_id is None:
            yield
            return
        self._ears.setdefault(user_id, {})[listener] = None
        try:
            yield
        finally:
            ears = self._ears.get(user_id)
            if ears is not None:
                ears.pop(listener, None)
                if not ears:
                    del self._ears[user_id]

    def turn_out(self, user_id: int, notice: bytes, code: int, reason: str) -> None:
        """Somebody may listen no longer, to anything: he is told, where he can be, and hears nothing more."""
        for listener in list(self._ears.pop(user_id, ())):
            listener.turn_out(notice, code, reason)

    def on_ended(self, listener: Callable[[int], None]) -> None:
        """`listener(stream_id)` is called, without awaiting, once an end is stored and the recordings are closed."""
        self._on_ended.append(listener)

    def on_live(self, listener: Callable[[int], None]) -> None:
        """`listener(stream_id)` is called, without awaiting, once it is stored that a source is there (again)."""
        self._on_live.append(listener)

    # Beginning and end of the server ----------------------------------------------------------------

    async def resume(self) -> None:
        """After a start: streams whose source was cut off by the last end have their grace from now on."""
        try:
            mounts = await self._db.write(streams_db.on_air)
        except Unavailable:
            log.error("the streams that were on air are not known: the database is away")
            return
        for mount in mounts:
            with contextlib.suppress(ActorStopped):
                self.ref(mount.id)

    async def close(self) -> None:
        """The server goes: listeners and sources part, recordings are closed and stored. May be cancelled."""
        self._closing = True

        async def close(stream: Ref) -> None:
            with contextlib.suppress(ActorError, Refused):
                await stream.ask(Close(), timeout=60.0)

        async with trio.open_nursery() as nursery:
            for stream_id in self._supervisor.keys():  # noqa: SIM118
                if (stream := self._supervisor.get(stream_id)) is not None:
                    nursery.start_soon(close, stream)

    # From the streams ---------------------------------------------------------------------------------

    def show(self, stream: StreamBase) -> None:
        self._shown[stream.stream_id] = stream
        self._slugs[stream.mount.slug] = stream.stream_id

    def hide(self, stream: StreamBase) -> None:
        if self._shown.get(stream.stream_id) is stream:
            del self._shown[stream.stream_id]
            self._slugs.pop(stream.mount.slug, None)

    def has_ended(self, stream_id: int) -> None:
        self.changed(stream_id)
        self._tell(self._on_ended, stream_id)

    def has_gone_live(self, stream_id: int) -> None:
        self._tell(self._on_live, stream_id)

    def _tell(self, listeners: list[Callable[[int], None]], stream_id: int) -> None:
        for listener in listeners:
            try:
                listener(stream_id)
            except Exception as error:  # one deaf listener must not keep the others from hearing
                log.error("a listener failed", error=type(error).__name__, exc_info=True)

    def _given_up(self, path: str, error: Exception) -> None:
        """A stream crashed too often and is no more. Its listeners and its source must come back to the next one."""
        stream = self._shown.get(int(path.rpartition("/")[2]))
        if stream is not None:
            self.hide(stream)
            air = stream.air
            if air.seat is not None:
                air.seat.show_out(refusals.given_up())
            for recorder in list(air.recorders):
                recorder.close()
            for listener in stream.fanout.everybody():
                listener.cut()
