"""RTMP on a port of its own (`RTMP_PORT`): OBS and everything else that speaks it broadcasts to `rtmp://host:port/live`,
with the stream's key as the stream's name.

The key alone says which stream it is. What comes is remuxed to MPEG-TS by a child a connection, and goes the way of any
source. RTMP has no TLS here: whoever broadcasts across the internet puts a proxy that has it before this port.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from veza import log
from veza.actors.errors import Refused as Denied
from veza.actors.kernel import ActorError, Ref
from veza.actors.streams import Announced, Claim, Pour, Seat, SourceGone, Streams
from veza.config import Settings
from veza.db import streams as streams_db
from veza.db.errors import Unavailable
from veza.db.pool import Database
from veza.db.streams import Mount
from veza.http.listen import accept
from veza.http.live_access import LiveAccess
from veza.http.refusal import Refused
from veza.media.remux import FINISH, Remux, open_remux
from veza.media.rtmp import FLV_HEADER, Ended, Media, ProtocolError, Publish, RtmpSession
from veza.security import stream_keys
from veza.security.rates import neighbourhood

INTRODUCTION: Final = 10.0
"""Seconds from the connection to the key."""
CONNECTIONS_MOST: Final = 200
CONNECTIONS_PER_ADDRESS: Final = 20
_READ: Final = 16 * 1024  # bytes that are taken apart at once, before others have their turn
Event = Publish | Media | Ended
MountOf = Callable[[str, str], Awaitable[Mount]]
_log = log.get("rtmp")


class RtmpDoor:
    """The port's connections."""

    def __init__(self, settings: Settings, streams: Streams, access: LiveAccess, db: Database) -> None:
        self._settings = settings
        self._streams = streams
        self._access = access
        self._db = db
        self._open: dict[str, int] = {}

    def __len__(self) -> int:
        """Connections open."""
        return sum(self._open.values())

    async def serve(self, listeners: list[socket.socket]) -> None:
        """Take connections until cancelled; then all of them end."""
        async with trio.open_nursery() as nursery:

            def welcome(sock: socket.socket, client: str) -> None:
                address = neighbourhood(client)
                if len(self) >= CONNECTIONS_MOST or self._open.get(address, 0) >= CONNECTIONS_PER_ADDRESS:
                    sock.close()
                    return
                self._open[address] = self._open.get(address, 0) + 1
                nursery.start_soon(self._connection, sock, client)

            for listener in listeners:
                nursery.start_soon(accept, listener, welcome)

    async def _connection(self, sock: socket.socket, client: str) -> None:
        try:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(sock)) as line:
                await _Connection(line, client, self._settings, self._streams).run(self._mount)
        except (ProtocolError, trio.BrokenResourceError, trio.TooSlowError, OSError) as error:
            _log.debug("a connection ended", reason=str(error) or type(error).__name__)
        finally:
            address = neighbourhood(client)
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _mount(self, key: str, client: str) -> Mount:
        """The stream that this key opens. Raises Refused."""
        try:
            slug = await self._db.read(streams_db.slug_of_key, stream_keys.hash_of(key))
        except Unavailable:
            raise Refused(503) from None
        return await self._access.keyed(slug or "", key, client)


class _Connection:
    """One program that would like to broadcast."""

    def __init__(self, line: trio.SocketStream, client: str, settings: Settings, streams: Streams) -> None:
        self._line = line
        self._client = client
        self._settings = settings
        self._streams = streams
        self._session = RtmpSession()
        self._events: deque[Event] = deque()

    async def run(self, mount_of: MountOf) -> None:
        """Raises ProtocolError, TooSlowError, BrokenResourceError, OSError."""
        with trio.fail_after(INTRODUCTION):
            wish = await self._next()
            if not isinstance(wish, Publish):
                return
            try:
                mount = await mount_of(wish.name, self._client)
            except Refused as refused:
                await self._refuse(refused.sentence)
                return
        scope = trio.CancelScope()
        seat = Seat(Announced("video/mp2t"), scope.cancel)
        try:
            await self._streams.ask(mount.id, Claim(seat))
        except Denied as denied:
            await self._refuse(denied.message)
            return
        except ActorError:
            await self._refuse("The server is busy; try again.")
            return
        stream = self._streams.ref(mount.id)
        try:
            with scope:
                self._session.accept()
                await self._send()
                await self._broadcast(stream, seat, scope)
        finally:
            stream.answer(SourceGone(seat))

    async def _broadcast(self, stream: Ref, seat: Seat, scope: trio.CancelScope) -> None:
        async with open_remux() as remux, trio.open_nursery() as nursery:
            nursery.start_soon(_pour, stream, seat, remux, scope)
            try:
                await remux.send(FLV_HEADER)
                while (event := await self._next()) is not None and not isinstance(event, Ended):
                    if isinstance(event, Media):
                        await remux.send(event.tag)
            except (trio.BrokenResourceError, trio.TooSlowError, ProtocolError) as error:
                _log.debug("a broadcast ended", reason=str(error) or type(error).__name__)
            await remux.finish()
            nursery.cancel_scope.deadline = trio.current_time() + FINISH

    async def _next(self) -> Event | None:
        """What comes next; None at the end, or when nothing comes for so long that it counts as dropped."""
        while not self._events:
            data = b""
            with trio.move_on_after(self._settings.stream_stall):
                data = await self._line.receive_some(_READ)
            if not data:
                return None
            self._events.extend(self._session.feed(data))
            with trio.fail_after(self._settings.stream_stall):  # who asks and does not listen is gone too
                await self._send()
        return self._events.popleft()

    async def _refuse(self, reason: str) -> None:
        self._session.refuse(reason)
        with trio.fail_after(INTRODUCTION):
            await self._send()
            await self._line.send_eof()

    async def _send(self) -> None:
        data = self._session.take()
        if data:
            await self._line.send_all(data)


async def _pour(stream: Ref, seat: Seat, remux: Remux, scope: trio.CancelScope) -> None:
    """What the child gives is the source's bytes."""
    try:
        while data := await remux.receive():
            await stream.ask(Pour(seat, data, trio.current_time()), timeout=60.0)
    except (Denied, ActorError):
        pass  # it was shown out, or there is nobody to pour for
    scope.cancel()
