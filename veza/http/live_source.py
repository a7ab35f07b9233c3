"""Sources over HTTP, as Icecast takes them: FFmpeg, butt, Mixxx, Liquidsoap and whatever else speaks its protocol.

`PUT`, `POST` or `SOURCE` with Basic credentials; the body chunked, of a length, or everything to the end. When the
answer comes is what clients differ in: who sends `Expect: 100-continue` waits for the 100; libshout's `SOURCE` waits
for the 200 before it sends anything; others send at once and read the answer in the end.
"""

from __future__ import annotations

from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Final
from urllib.parse import unquote_to_bytes
from xml.sax.saxutils import escape

import trio
from msgspec import structs

from veza import log
from veza.actors.errors import Refused as Denied
from veza.actors.kernel import ActorError, Ref
from veza.actors.streams import Announced, Claim, Pour, Seat, Sing, SourceGone, Streams
from veza.config import Settings
from veza.db.streams import Mount
from veza.http.asgi import Visit
from veza.http.head import Head
from veza.http.letterhead import Letterhead
from veza.http.live_access import CHALLENGE, LiveAccess, refused, silenced
from veza.http.refusal import Refused
from veza.http.wire import Body, Disconnected, Wire

HESITANT: Final = (
    0.5  # seconds of silence after which a source without a length is taken to wait for its answer
)
_CHARSETS: Final = frozenset(aliases.values())
_SONG_KEEPS: Final = str.maketrans(dict.fromkeys((*range(32), 127), " "))
_log = log.get("live")


class LiveSources:
    """What sources ask of the room."""

    def __init__(
        self, settings: Settings, streams: Streams, access: LiveAccess, letterhead: Letterhead
    ) -> None:
        self._settings = settings
        self._streams = streams
        self._access = access
        self._letterhead = letterhead

    # Broadcasting ---------------------------------------------------------------------------------

    async def broadcast(self, wire: Wire, head: Head, visit: Visit, slug: str) -> bool:
        """One source, to its end. Raises Refused, Disconnected."""
        endless = not head.chunked and head.length is None
        if endless:
            # Whatever comes of it, what the client sends next is no request.
            wire.owed = wire.closing = True
        mount = await self._access.source(head, slug, visit.client)
        broadcast = _Broadcast(self._settings, self._streams, self._letterhead, wire, head, visit, endless)
        try:
            await broadcast.run(mount)
        except Denied as denied:
            if broadcast.answered:
                raise Disconnected from None  # it has its answer; all that is left is to hang up
            raise refused(denied, source=True) from None
        except ActorError:
            if broadcast.answered:
                raise Disconnected from None
            raise Refused(503, headers=[(b"retry-after", b"2")]) from None
        return False

    # What is playing ------------------------------------------------------------------------------

    async def metadata(self, wire: Wire, head: Head, visit: Visit) -> bool:
        """`/admin/metadata?mount=/live/…&mode=updinfo&song=…`, with the credentials of the mount. Raises Refused."""
        if head.method not in ("GET", "HEAD", "POST"):
            raise Refused(405, headers=[(b"allow", b"GET, POST")])
        query = _query(head.query)
        slug = query.get("mount", b"").decode("latin-1").removeprefix("/live/")
        if not slug or query.get("mode", b"updinfo") != b"updinfo":
            raise Refused(400, sentence="Give `mount=/live/…`, `mode=updinfo` and `song`.")
        mount = await self._access.source(head, slug, visit.client)
        if mount.muted:  # the music may go on; words may not
            raise silenced()
        song = _song(query)
        if song is None:
            raise Refused(400, sentence="Give `song`, or `artist` and `title`.")
        try:
            await self._streams.ask(mount.id, Sing(song))
        except Denied as denied:
            raise refused(denied, source=True) from None
        except ActorError:
            raise Refused(503, headers=[(b"retry-after", b"2")]) from None
        return await self._told(wire, head, visit, "Metadata update successful")

    async def _told(self, wire: Wire, head: Head, visit: Visit, message: str) -> bool:
        body = (
            '<?xml version="1.0"?>\n<iceresponse><message>'
            f"{escape(message)}</message><return>1</return></iceresponse>\n"
        ).encode()
        close = not head.keep_alive or wire.owed or wire.closing
        headers = [
            (b"content-type", b"text/xml; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        start = self._letterhead.head(200, headers, visit.request_id, version=head.version, close=close)
        await wire.send(start, b"" if head.method == "HEAD" else body)
        return not close


class _Broadcast:
    """One source's connection.

    Attributes:
        answered: the 200 is out; nothing more can be said.
    """

    def __init__(
        self,
        settings: Settings,
        streams: Streams,
        letterhead: Letterhead,
        wire: Wire,
        head: Head,
        visit: Visit,
        endless: bool,
    ) -> None:
        self.answered = False
        self._settings = settings
        self._streams = streams
        self._letterhead = letterhead
        self._wire = wire
        self._head = head
        self._visit = visit
        self._endless = endless
        self._scope = trio.CancelScope()

    async def run(self, mount: Mount) -> None:
        """Raises Refused, Denied, ActorError, Disconnected."""
        announced = _announced(self._head)
        if mount.muted:
            announced = structs.replace(announced, genre=None)
        seat = Seat(announced, self._scope.cancel)
        await self._streams.ask(mount.id, Claim(seat))
        stream = self._streams.ref(mount.id)
        try:
            with self._scope:
                await self._invite()
                await self._pour(stream, seat)
        finally:
            stream.answer(SourceGone(seat))
        if seat.reason is not None:
            raise seat.reason
        if not self.answered and not self._wire.line.closed:
            await self._answer()

    async def _invite(self) -> None:
        head = self._head
        if self._endless and head.get(b"expect") is not None and head.version == "1.1":
            await self._wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._endless and head.method == "SOURCE":
            await self._answer()

    async def _pour(self, stream: Ref, seat: Seat) -> None:
        body = self._wire.body(self._head, until_close=True)
        waits = self._endless and not self.answered and self._head.get(b"expect") is None
        if waits:
            with trio.move_on_after(HESITANT) as hesitation:
                first = await self._read(body)
            if hesitation.cancelled_caught:
                await self._answer()
                first = await self._read(body)
        else:
            first = await self._read(body)
        data, came = first, trio.current_time()
        while data:
            heard = await stream.ask(Pour(seat, data, came), timeout=60.0)
            if heard and waits and not self.answered:
                await self._answer()
            data, came = await self._gather(body, seat, came)

    async def _gather(self, body: Body, seat: Seat, before: float) -> tuple[bytes, float]:
        """The next bytes, and when the first of them came; as many as the stream would like to get at once.

        Args:
            before: when something came last.
        """
        line = self._wire.line
        if seat.gather <= 1:
            return await self._read(body), trio.current_time()
        line.gather(seat.gather)
        with trio.move_on_after(seat.patience):
            data = await body.read()
            # It came in two pieces or more over the time since the last: the first of them half of that ago, at least.
            now = trio.current_time()
            return data, now - min(seat.patience, now - before) / 2
        line.gather(1)
        return await self._read(body), trio.current_time() - seat.patience

    async def _read(self, body: Body) -> bytes:
        """The next bytes; b"" at the end, and when nothing comes for so long that the source counts as dropped."""
        with trio.move_on_after(self._settings.stream_stall):
            try:
                return await body.read()
            except Refused as refusal:
                if refusal.status != 408 and not self.answered:
                    raise
        self._wire.owed = self._wire.closing = True
        return b""

    async def _answer(self) -> None:
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
        if not self._endless:
            headers.append((b"content-length", b"0"))
        version = self._head.version
        await self._wire.send(
            self._letterhead.head(200, headers, self._visit.request_id, version=version, close=True)
        )
        self.answered = True


def _announced(head: Head) -> Announced:
    """What the source says of itself; nonsense is left out."""
    content_type = (head.get(b"content-type") or b"").decode("latin-1")[:100] or None
    genre = (head.get(b"ice-genre") or b"").decode("utf-8", "replace")[:100].translate(
        _SONG_KEEPS
    ).strip() or None
    rate = None
    info = (head.get(b"ice-audio-info") or b"").decode("latin-1").replace(";", ",").split(",")
    claimed = [part.partition("=")[2] for part in info if part.partition("=")[0].strip().endswith("bitrate")]
    for value in ((head.get(b"ice-bitrate") or b"").decode("latin-1"), *claimed):
        if value.strip().isdecimal() and 0 < int(value.strip()[:7]) < 100_000:
            rate = int(value.strip()[:7])
            break
    return Announced(content_type, genre, rate)


def _query(query: bytes) -> dict[str, bytes]:
    """The first value of each argument, as bytes: which letters they are is for `charset` to say."""
    found: dict[str, bytes] = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        found.setdefault(
            unquote_to_bytes(name).decode("latin-1"), unquote_to_bytes(value.replace(b"+", b" "))
        )
    return found


def _song(query: dict[str, bytes]) -> str | None:
    given = query.get("song")
    if given is None:
        parts = [query[name] for name in ("artist", "title") if query.get(name)]
        if not parts:
            return None
        given = b" - ".join(parts)
    charset = normalize_encoding(query.get("charset", b"utf-8").decode("latin-1")).lower()
    charset = aliases.get(charset, charset)
    try:
        # Python remembers every name it was ever asked for, those it does not know too.
        text = given.decode(charset if charset in _CHARSETS else "utf-8")
    except (LookupError, UnicodeError, ValueError):
        text = given.decode("latin-1")
    return text.translate(_SONG_KEEPS).strip()


__all__ = ["CHALLENGE", "LiveSources"]
