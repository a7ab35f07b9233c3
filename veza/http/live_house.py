"""Everything behind the live addresses, put together: the room at the door, the sockets, and their figures."""

from __future__ import annotations

from pathlib import Path

import trio

from veza.actors.errors import AUTH_FAILED
from veza.actors.frames import error_frame
from veza.actors.streams import Streams
from veza.actors.streams.hls import Make
from veza.config import Settings
from veza.http.api.metrics import Metrics
from veza.http.api.services import Services
from veza.http.live import LiveRoom
from veza.http.live_access import LiveAccess
from veza.http.live_rtmp import RtmpDoor
from veza.http.sockets.chat import REVOKED
from veza.http.sockets.stream import StreamSockets


def hls_maker(settings: Settings) -> Make:
    """What makes live HLS of a stream's bytes, of `STREAM_HLS_MOST` streams together. Raises LiveHlsFailed: so many
    there are; it is tried again for as long as somebody watches."""
    places = trio.CapacityLimiter(settings.stream_hls_most)

    async def make(directory: Path, content_type: str, receive: trio.MemoryReceiveChannel[bytes]) -> None:
        # What only some need does not delay everybody's start.
        from veza.media.live_hls import LiveHlsFailed, run_live_hls

        here = object()
        try:
            places.acquire_on_behalf_of_nowait(here)
        except trio.WouldBlock:
            raise LiveHlsFailed(f"it is being made for {settings.stream_hls_most} other streams") from None
        try:
            await run_live_hls(
                directory,
                content_type,
                receive,
                segment=settings.stream_hls_segment,
                window=settings.stream_hls_window,
            )
        finally:
            places.release_on_behalf_of(here)

    return make


class LiveHouse:
    """The live part of the door."""

    def __init__(self, services: Services, streams: Streams) -> None:
        settings = services.settings
        self._streams = streams
        self._access = access = LiveAccess(
            streams,
            db=services.db,
            registry=services.registry,
            signer=services.signer,
            keys_per_minute=settings.stream_keys_per_minute,
        )
        self.room = LiveRoom(settings, streams, access, services.library)
        self.rtmp = RtmpDoor(settings, streams, access, services.db)
        self.sockets = StreamSockets(streams, access, settings=settings, origins=services.origins)
        services.registry.on_revoked(self._revoked)
        _measure(services.metrics, streams, self.sockets)

    def _revoked(self, user_id: int, sids: frozenset[str] | None) -> None:
        """Who lost all his sessions may be one who may nothing any more."""
        if not sids:
            self._access.forget(user_id)
            self._streams.owner_changed(user_id)
            notice = error_frame(AUTH_FAILED, "This session has ended.")
            self._streams.turn_out(user_id, notice, REVOKED, "session ended")


def _measure(metrics: Metrics, streams: Streams, sockets: StreamSockets) -> None:
    tally = streams.tally
    metrics.gauge("veza_streams_live", "Streams on air", lambda: len(streams.live()))
    metrics.gauge("veza_stream_listeners", "Listeners of all streams", lambda: streams.listeners)
    metrics.gauge(
        "veza_stream_sockets_open", "Sockets of listeners and browser sources", lambda: len(sockets)
    )
    metrics.counter("veza_stream_bytes_in", "Bytes from sources", lambda: tally.bytes_in)
    metrics.counter("veza_stream_bytes_out", "Bytes passed on to listeners", lambda: tally.bytes_out)
    metrics.counter("veza_stream_passes", "Passes over the listeners of a stream", lambda: tally.passes)
    metrics.counter("veza_stream_dropped", "Listeners closed for reading too slowly", lambda: tally.dropped)
    metrics.counter("veza_stream_moved", "Listeners taken over a gap", lambda: tally.moved)
