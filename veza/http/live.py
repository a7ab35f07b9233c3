"""The room of live streams: listeners, sources and segments below `/live/`, and exactly `/admin/metadata`.

A listener's answer has no length and no coding, as from Icecast: it lasts as long as the stream. Its bytes are written
by the stream's actor; the connection's own task only waits for either to end. Sources are in `live_source.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import trio

from veza.actors.errors import Refused as Denied
from veza.actors.kernel import ActorError
from veza.actors.streams import METAINT, Describe, Left, Listen, LiveInfo, Progressive, Streams, WatchHls
from veza.config import Settings
from veza.db.streams import Mount
from veza.http.asgi import Visit
from veza.http.head import Head
from veza.http.letterhead import BadHeader, Letterhead
from veza.http.live_access import Ear, LiveAccess, refused
from veza.http.live_paths import PLAYLIST, Place, place_of
from veza.http.live_source import LiveSources
from veza.http.media import MediaRoutes, Resource
from veza.http.refusal import Refused
from veza.http.wire import Disconnected, Wire
from veza.media.library import Library

METADATA: Final = "/admin/metadata"
SOURCES: Final = frozenset({"PUT", "POST", "SOURCE"})
PLAYLIST_PATIENCE: Final = 8.0  # seconds a first viewer waits for the playlist to be made
_ALLOW: Final = (b"allow", b"GET, HEAD, OPTIONS, PUT, POST, SOURCE")
_OPEN: Final = ((b"access-control-allow-origin", b"*"),)
# To any page: what an address opens, it opens to whoever has it, and cookies play no part.
_EXPOSED: Final = (
    *_OPEN,
    (
        b"access-control-expose-headers",
        b"content-type, icy-br, icy-description, icy-genre, icy-metaint, icy-name, icy-pub",
    ),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
_PREFLIGHT: Final = (
    *_OPEN,
    (b"access-control-allow-methods", b"GET, HEAD, OPTIONS"),
    (b"access-control-allow-headers", b"authorization, icy-metadata, range"),
    (b"access-control-max-age", b"86400"),
    (b"content-length", b"0"),
)


class Stay:
    """One listener's connection, until it or the stream ends."""

    __slots__ = ("_ended", "_head", "_scope")

    def __init__(self, head: Callable[[LiveInfo], bytes]) -> None:
        self._head = head
        self._scope: trio.CancelScope | None = None
        self._ended = False

    def opening(self, info: LiveInfo) -> bytes:
        return self._head(info)

    def over(self) -> None:
        self._ended = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, wire: Wire) -> None:
        """Until the client leaves or the stream is over."""
        if not self._ended:
            with trio.CancelScope() as self._scope:
                await wire.watch()


class LiveRoom:
    """The room."""

    def __init__(self, settings: Settings, streams: Streams, access: LiveAccess, library: Library) -> None:
        self._settings = settings
        self._streams = streams
        self._access = access
        self._library = library
        self._letterhead = Letterhead(settings)
        self._sources = LiveSources(settings, streams, access, self._letterhead)
        self._files = MediaRoutes(settings, [self])

    def claims(self, head: Head | str) -> bool:
        path = head if isinstance(head, str) else head.path
        return path.startswith("/live/") or path == METADATA

    async def answer(self, wire: Wire, head: Head, visit: Visit) -> bool:
        """Serve it to its end; whether the connection can go on. Raises Refused, Disconnected."""
        if head.path == METADATA:
            return await self._sources.metadata(wire, head, visit)
        place = place_of(head.path)
        if head.method in SOURCES:
            if place is None or place.file is not None or place.sig is not None:
                wire.owed = wire.closing = True  # what follows is no request
                raise Refused(404)
            return await self._sources.broadcast(wire, head, visit, place.slug)
        if place is None:
            raise Refused(404, headers=_OPEN)
        if head.method == "OPTIONS":
            return await self._preflight(wire, head, visit)
        if head.method not in ("GET", "HEAD"):
            raise Refused(405, headers=[_ALLOW])
        if place.file is not None:
            try:
                return await self._files.answer(wire, head, visit)
            except Refused as refusal:
                raise _opened(refusal) from None
        try:
            return await self._listen(wire, head, visit, await self._access.listener(head, place))
        except Denied as denied:
            raise _opened(refused(denied)) from None
        except Refused as refusal:
            raise _opened(refusal) from None
        except ActorError:
            raise Refused(503, headers=[*_OPEN, (b"retry-after", b"2")]) from None

    # Listeners ------------------------------------------------------------------------------------

    async def _listen(self, wire: Wire, head: Head, visit: Visit, ear: Ear) -> bool:
        mount = ear.mount
        icy = head.get(b"icy-metadata") == b"1"

        def opening(info: LiveInfo) -> bytes:
            return self._opening(info, visit, icy=icy)

        if head.method == "HEAD":
            info: LiveInfo = await self._streams.ask(mount.id, Describe())
            await wire.send(opening(info))
            return False
        if wire.closing:
            raise Refused(503, headers=[(b"retry-after", b"5")])
        stay = Stay(opening)
        listener = Progressive(wire.line, stay, icy=icy)
        stream = self._streams.ref(mount.id)
        with self._streams.listening(ear.user_id, listener):
            await self._access.confirm(ear)
            try:
                await self._streams.ask(mount.id, Listen(listener))
                await stay.wait(wire)
            finally:
                stream.answer(Left(listener))
        if wire.line.closed:
            raise Disconnected
        return False

    def _opening(self, info: LiveInfo, visit: Visit, *, icy: bool) -> bytes:
        headers = [
            (b"content-type", info.content_type.encode()),
            (b"cache-control", b"no-cache, no-store"),
            (b"icy-name", _text(info.title)),
            (b"icy-pub", b"1" if info.public else b"0"),
            *_EXPOSED,
        ]
        if info.description:
            headers.append((b"icy-description", _text(info.description)))
        if info.genre:
            headers.append((b"icy-genre", _text(info.genre)))
        if info.bit_rate:
            headers.append((b"icy-br", b"%d" % info.bit_rate))
        if icy:
            headers.append((b"icy-metaint", b"%d" % METAINT))
        try:
            return self._letterhead.head(200, headers, visit.request_id, version="1.1", close=True)
        except BadHeader:
            raise Refused(500) from None

    async def _preflight(self, wire: Wire, head: Head, visit: Visit) -> bool:
        close = not head.keep_alive or wire.owed or wire.closing
        start = self._letterhead.head(
            204, list(_PREFLIGHT)[:-1], visit.request_id, version=head.version, close=close
        )
        await wire.send(start)
        return not close

    # Live HLS, as a shelf of files -----------------------------------------------------------------

    async def find(self, head: Head, visit: Visit) -> Resource:
        """A playlist or a segment. Raises Refused."""
        place = place_of(head.path)
        assert place is not None and place.file is not None
        mount = (await self._access.listener(head, place)).mount
        if place.file == PLAYLIST:
            await self._made(mount, head, visit)
        return _resource(self._library, place, private=mount.visibility == "private")

    async def _made(self, mount: Mount, head: Head, visit: Visit) -> None:
        """Say that somebody watches, and wait for the playlist if it is being made only now."""
        agent = head.get(b"user-agent") or b""
        viewer = hashlib.blake2b(visit.client.encode() + b"\n" + agent, digest_size=12).hexdigest()
        path = self._library.stream(mount.slug) / PLAYLIST
        try:
            with trio.move_on_after(PLAYLIST_PATIENCE):
                while True:
                    await self._streams.ask(mount.id, WatchHls(viewer))
                    if path.exists():
                        return
                    await trio.sleep(0.1)
        except Denied as denied:
            raise refused(denied) from None
        except ActorError:
            pass
        raise Refused(503, headers=[(b"retry-after", b"2")])


def _resource(library: Library, place: Place, *, private: bool) -> Resource:
    assert place.file is not None
    playlist = place.file.endswith(".m3u8")
    # A shared cache asks nobody for a token, nor whether a signature is good still.
    whose = "private" if private else "public"
    return Resource(
        content_type="application/vnd.apple.mpegurl" if playlist else "video/mp4",
        path=library.stream(place.slug) / place.file,
        # A segment never changes; the playlist is another one every other second.
        cache="no-cache, no-store" if playlist else f"{whose}, max-age=3600, immutable",
        headers=_EXPOSED,
    )


def _text(text: str) -> bytes:
    """A header's value: one line."""
    return " ".join(text.split())[:500].encode()


def _opened(refusal: Refused) -> Refused:
    """The same refusal, readable by pages of other sites."""
    return Refused(refusal.status, refusal.code, refusal.sentence, (*refusal.headers, *_OPEN))
