"""`/ws/stream/{slug}` for listeners in the browser, `/ws/stream/{slug}/publish` for sources there.

A listener gets the stream's bytes as binary frames (the container's header first) and, as text, `stream_state`,
`listener_count`, `metadata` and `ended`; it may come before the stream begins. A source sends what `MediaRecorder`
makes as binary frames and is read no faster than the stream takes them.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from veza.actors.errors import Refused as Denied
from veza.actors.frames import error_frame, frame
from veza.actors.kernel import ActorError
from veza.actors.ports import Outlet
from veza.actors.streams import Announced, Claim, Left, Listen, Pour, Seat, Socketed, SourceGone, Streams
from veza.config import Settings
from veza.db.streams import Mount
from veza.http import refusal
from veza.http.endpoint import SocketEndpoint
from veza.http.head import Head
from veza.http.live_access import Ear, LiveAccess
from veza.http.sockets.chat import GOING_AWAY, INTERNAL_ERROR, PING, REVOKED, TRY_AGAIN, shown_token
from veza.security.origins import Origins
from veza.security.rates import Bucket, neighbourhood

_PATH: Final = re.compile(r"/ws/stream/([a-z0-9][a-z0-9-]{0,42})(/publish)?")
POLICY: Final = 1008
UNSUPPORTED: Final = 1003
NORMAL: Final = 1000
SMALL: Final = 4096  # bytes: listeners say next to nothing


class Admission(msgspec.Struct, frozen=True):
    """A handshake that may go on."""

    mount: Mount
    client: str
    subprotocol: str | None = None
    ear: Ear | None = None  # of a listener


class StreamSockets:
    """Both endpoints, and all sockets on them."""

    def __init__(self, streams: Streams, access: LiveAccess, *, settings: Settings, origins: Origins) -> None:
        self._streams = streams
        self._access = access
        self._settings = settings
        self._origins = origins
        self._addresses: Counter[str] = Counter()
        self._outlets: dict[Outlet, float] = {}  # with the time of the next ping
        self._closing = False
        self._listening = ListenEndpoint(self)
        self._publishing = PublishEndpoint(self)

    def __len__(self) -> int:
        return len(self._outlets)

    def find(self, path: str) -> SocketEndpoint | None:
        """The endpoint of a path."""
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        return self._publishing if found[2] else self._listening

    async def admit(self, head: Head, client: str, *, publish: bool) -> Admission:
        """Raises refusal.Refused."""
        if self._closing:
            raise refusal.Refused(503)
        origin, host = head.get(b"origin"), head.get(b"host") or b""
        if origin is not None and not self._origins.opens(origin.decode("latin-1"), host.decode("latin-1")):
            raise refusal.Refused(403, "ORIGIN_REFUSED", "This page may not connect here.")
        found = _PATH.fullmatch(head.path)
        assert found is not None
        token, subprotocol = shown_token(head)
        if publish:
            if not token:
                raise refusal.Refused(401, headers=((b"www-authenticate", b"Bearer"),))
            ear, mount = None, await self._access.owner(found[1], token, client)
        else:
            ear = await self._access.hears(found[1], token)
            mount = ear.mount
        address = neighbourhood(client)
        if self._addresses[address] >= self._settings.ws_connections_per_ip:
            raise refusal.Refused(
                429,
                "TOO_MANY_CONNECTIONS",
                "Too many connections from your address.",
                headers=((b"retry-after", b"5"),),
            )
        self._addresses[address] += 1
        return Admission(mount, client, subprotocol, ear)

    def abandon(self, admission: Admission) -> None:
        address = neighbourhood(admission.client)
        self._addresses[address] -= 1
        if self._addresses[address] <= 0:
            del self._addresses[address]

    # Listening ------------------------------------------------------------------------------------

    async def listen(self, ear: Ear, ws: WebSocketConnection, outlet: Outlet) -> None:
        """One listener's life."""
        mount, listener = ear.mount, Socketed(outlet)
        stream = self._streams.ref(mount.id)
        allowance = Bucket(2, 10)
        self._outlets[outlet] = trio.current_time() + self._settings.ws_ping_interval
        try:
            with self._streams.listening(ear.user_id, listener):
                await self._access.confirm(ear)
                await self._streams.ask(mount.id, Listen(listener))
                await self._only_listens(ws, outlet, allowance)
        except refusal.Refused:
            outlet.close(REVOKED, "session ended")
        except Denied as denied:
            outlet.post(error_frame(denied.code, denied.message))
            outlet.close(TRY_AGAIN if "retry_after" in denied.details else NORMAL, "not now")
        except ActorError:
            outlet.close(TRY_AGAIN, "try again")
        except ConnectionClosed:
            pass
        finally:
            stream.answer(Left(listener))
            self._outlets.pop(outlet, None)

    async def _only_listens(self, ws: WebSocketConnection, outlet: Outlet, allowance: Bucket) -> None:
        while True:
            await ws.get_message()
            if outlet.closed:
                return
            if allowance.take():
                outlet.close(POLICY, "this socket only listens")
                return

    # Publishing -----------------------------------------------------------------------------------

    async def publish(self, mount: Mount, ws: WebSocketConnection, outlet: Outlet) -> None:
        """One source's life."""
        scope = trio.CancelScope()
        seat = Seat(Announced("video/webm"), scope.cancel)
        stream = self._streams.ref(mount.id)
        self._outlets[outlet] = trio.current_time() + self._settings.ws_ping_interval
        try:
            await self._streams.ask(mount.id, Claim(seat))
            try:
                outlet.post(
                    frame(
                        "publishing", {"slug": mount.slug, "frame_limit": self._settings.stream_frame_limit}
                    )
                )
                with scope:
                    await self._pour(mount, seat, ws, outlet)
            finally:
                stream.answer(SourceGone(seat))
            if seat.reason is not None:
                raise seat.reason
        except Denied as denied:
            outlet.post(error_frame(denied.code, denied.message))
            outlet.close(_close_code(denied), denied.message[:100])
        except ActorError:
            outlet.close(INTERNAL_ERROR, "internal error")
        except ConnectionClosed:
            pass
        finally:
            self._outlets.pop(outlet, None)

    async def _pour(self, mount: Mount, seat: Seat, ws: WebSocketConnection, outlet: Outlet) -> None:
        heard = False
        while True:
            with trio.move_on_after(self._settings.stream_stall) as silence:
                data = await ws.get_message()
            if silence.cancelled_caught:
                outlet.post(error_frame("STREAM_STALLED", "Nothing came for too long."))
                outlet.close(POLICY, "nothing came")
                return
            if outlet.closed:
                return
            if not isinstance(data, bytes | bytearray):
                outlet.close(UNSUPPORTED, "binary frames only")
                return
            if data:
                now_heard = await self._streams.ask(
                    mount.id, Pour(seat, bytes(data), trio.current_time()), timeout=60.0
                )
                if now_heard and not heard:
                    heard = True
                    outlet.post(frame("on_air", {"slug": mount.slug}))

    # All sockets ----------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Ping, and end what is silent; runs until cancelled."""
        settings = self._settings
        while True:
            await trio.sleep(min(1.0, settings.ws_ping_interval / 4, settings.ws_idle_timeout / 4))
            now = trio.current_time()
            for i, (outlet, due) in enumerate(list(self._outlets.items())):
                if now - outlet.last_received > settings.ws_idle_timeout:
                    outlet.close(NORMAL, "no sign of life")
                elif now >= due and outlet in self._outlets:
                    self._outlets[outlet] = now + settings.ws_ping_interval
                    outlet.post(PING, droppable=True)
                if i % 256 == 255:
                    await trio.lowlevel.checkpoint()

    def close_all(self) -> None:
        """The server goes: no new sockets, 1001 to all there are."""
        self._closing = True
        for outlet in list(self._outlets):
            outlet.close(GOING_AWAY, "server going away")


def _close_code(denied: Denied) -> int:
    if "retry_after" in denied.details:
        return TRY_AGAIN
    return UNSUPPORTED if denied.code == "UNSUPPORTED_MEDIA" else POLICY


class ListenEndpoint:
    """`/ws/stream/{slug}`."""

    frame_limit = SMALL

    def __init__(self, sockets: StreamSockets) -> None:
        self._sockets = sockets

    async def admit(self, head: Head, client: str) -> Admission:
        return await self._sockets.admit(head, client, publish=False)

    def subprotocol(self, admission: Admission) -> str | None:
        return admission.subprotocol

    def abandon(self, admission: Admission) -> None:
        self._sockets.abandon(admission)

    async def run(self, admission: Admission, ws: WebSocketConnection, outlet: Outlet) -> None:
        assert admission.ear is not None
        await self._sockets.listen(admission.ear, ws, outlet)


class PublishEndpoint:
    """`/ws/stream/{slug}/publish`."""

    def __init__(self, sockets: StreamSockets) -> None:
        self._sockets = sockets
        self.frame_limit = sockets._settings.stream_frame_limit

    async def admit(self, head: Head, client: str) -> Admission:
        return await self._sockets.admit(head, client, publish=True)

    def subprotocol(self, admission: Admission) -> str | None:
        return admission.subprotocol

    def abandon(self, admission: Admission) -> None:
        self._sockets.abandon(admission)

    async def run(self, admission: Admission, ws: WebSocketConnection, outlet: Outlet) -> None:
        await self._sockets.publish(admission.mount, ws, outlet)
