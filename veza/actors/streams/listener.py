"""Listeners: each a place in the ring and a way out, and no bytes of its own.

Two kinds: `Progressive` writes to a socket of HTTP, with the song in between where that was asked for (ICY metadata);
`Socketed` posts binary frames to the outlet of a WebSocket. Both are touched by their stream's actor alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from veza.actors.streams.ports import Line, Visitor
from veza.actors.streams.ring import Opening, Ring, binary_frame

if TYPE_CHECKING:
    from veza.actors.ports import Outlet
    from veza.actors.streams.messages import LiveInfo

TURN: Final = 64 * 1024  # bytes of one write to somebody who is behind
METAINT: Final = 16_000  # bytes of sound between two pieces of ICY metadata
TOO_SLOW: Final = 1013
GOING: Final = 1000


class Listener(Protocol):
    """What the actor knows of either kind."""

    at: int  # the place of the next byte to be given
    moved: bool  # has been taken over a gap once already
    waiting: bool  # somebody waits for its line to take more
    kind: str

    @property
    def whole(self) -> bool:
        """Nothing waits that is not in the ring."""
        ...

    def begin(self, info: LiveInfo, opening: Opening | None) -> None:
        """Be told where to begin; None: not yet (`begin_at` tells later)."""
        ...

    def begin_at(self, opening: Opening) -> None: ...

    def serve(self, ring: Ring, stop: int) -> bool:
        """Give what it takes, up to a place; whether all was taken. Raises OSError: it is gone."""
        ...

    def jump(self, ring: Ring, opening: Opening, *, again: bool) -> None:
        """Go on at a key point; the piece under way is finished first, and `again` the header is given anew."""
        ...

    def tell(self, frame: bytes) -> None:
        """A text frame, for who can be told such."""
        ...

    def part(self) -> None:
        """All has been given: end in order."""
        ...

    def cut(self) -> None:
        """End at once."""
        ...

    def turn_out(self, notice: bytes, code: int, reason: str) -> None:
        """End at once, for a reason: a text frame and a close code, for who can be told such."""
        ...


class Icy:
    """The metadata between the sound: after every METAINT bytes one piece, empty unless the song has changed."""

    __slots__ = ("left", "told")

    def __init__(self) -> None:
        self.left = METAINT
        self.told: str | None = None

    def piece(self, song: str | None) -> bytes:
        """The next piece; the sound goes on behind it."""
        self.left = METAINT
        if song == self.told:
            return b"\0"
        self.told = song
        return icy_piece(song or "")


def icy_piece(song: str) -> bytes:
    """`StreamTitle='…';` in units of 16 bytes, their number before it. At most 4,080 bytes."""
    text = song.replace("';", "'").encode()[: 255 * 16 - len("StreamTitle='';")]
    data = b"StreamTitle='" + text.decode("utf-8", "ignore").encode() + b"';"
    units = (len(data) + 15) // 16
    return bytes((units,)) + data.ljust(units * 16, b"\0")


class Progressive:
    """A listener over HTTP."""

    __slots__ = ("at", "icy", "line", "moved", "rest", "send", "song", "visitor", "waiting")
    kind = "progressive"

    def __init__(self, line: Line, visitor: Visitor, *, icy: bool = False) -> None:
        self.line = line
        self.visitor = visitor
        self.icy = Icy() if icy else None
        self.song: str | None = None  # what is playing, kept up to date by the actor where `icy`
        self.at = -1
        self.moved = False
        self.waiting = False
        self.send: Callable[[bytes], int] | None = (
            None  # the line's own, while this listener is served by that alone
        )
        self.rest: bytes | memoryview = b""  # bytes that come before those of the ring: a head, a header

    @property
    def whole(self) -> bool:
        return not self.rest and not self.line.unsent

    def begin(self, info: LiveInfo, opening: Opening | None) -> None:
        self.rest = self.visitor.opening(info)
        if opening is not None:
            self.begin_at(opening)

    def begin_at(self, opening: Opening) -> None:
        self.at = opening.at
        self._before(opening.header)

    def serve(self, ring: Ring, stop: int) -> bool:
        line = self.line
        while True:
            if line.unsent:
                line.write(b"")
                if line.unsent:
                    return False
            if self.rest:
                taken = line.write(self.rest)
                if taken != len(self.rest):
                    self.rest = memoryview(self.rest)[taken:]
                    return False
                self.rest = b""
                continue
            if self.at < 0 or self.at >= stop:
                return True
            end = min(stop, self.at + TURN)
            if self.icy is not None:
                if not self.icy.left:
                    self.rest = self.icy.piece(self.song)
                    continue
                end = min(end, self.at + self.icy.left)
            data = ring.read(self.at, end)
            taken = line.write(data)
            self.at += taken
            if self.icy is not None:
                self.icy.left -= taken
            if taken != len(data):
                return False

    def jump(self, ring: Ring, opening: Opening, *, again: bool) -> None:
        rest, _ = ring.rest(self.at)
        self._before(rest + opening.header if again else rest)
        self.at = opening.at
        self.moved = True

    def _before(self, data: bytes) -> None:
        """These bytes of the stream before those of the ring; metadata falls between them where it is due."""
        if not data:
            return
        pieces = [bytes(self.rest)]
        if self.icy is None:
            pieces.append(data)
        else:
            at = 0
            while at < len(data):
                if not self.icy.left:
                    pieces.append(self.icy.piece(self.song))
                piece = data[at : at + self.icy.left]
                self.icy.left -= len(piece)
                at += len(piece)
                pieces.append(piece)
        self.rest = b"".join(pieces)

    def tell(self, frame: bytes) -> None:
        pass

    def part(self) -> None:
        self.visitor.over()

    def cut(self) -> None:
        self.line.reset()
        self.visitor.over()

    def turn_out(self, notice: bytes, code: int, reason: str) -> None:
        self.cut()


class Socketed:
    """A listener over a WebSocket: binary frames of whole chunks, and what is told as text in between."""

    __slots__ = ("_header", "at", "moved", "outlet", "waiting")
    kind = "socket"

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.at = -1
        self.moved = False
        self.waiting = False  # nobody tells when an outlet has room: it is asked at every pass
        self._header = b""

    @property
    def whole(self) -> bool:
        return not self._header and not self.outlet.queued

    def begin(self, info: LiveInfo, opening: Opening | None) -> None:
        if opening is not None:
            self.begin_at(opening)

    def begin_at(self, opening: Opening) -> None:
        self.at = opening.at
        self._header = opening.header

    def serve(self, ring: Ring, stop: int) -> bool:
        outlet = self.outlet
        while self.at >= 0 and (self._header or self.at < stop):
            # One blob at a time: what waits in the outlet is a piece that others share, and it is whole chunks.
            if outlet.queued:
                return False
            if self._header:
                frame, self._header = binary_frame(self._header), b""
            else:
                end = ring.whole(self.at, TURN, stop)
                frame = ring.frame(self.at, end)
                self.at = end
            if not outlet.post(frame):
                raise BrokenPipeError
        if outlet.closed:
            raise BrokenPipeError
        return True

    def jump(self, ring: Ring, opening: Opening, *, again: bool) -> None:
        if again:
            self._header = opening.header
        self.at = opening.at
        self.moved = True

    def tell(self, frame: bytes) -> None:
        self.outlet.post(frame)

    def part(self) -> None:
        self.outlet.close(GOING, "the stream is over")

    def cut(self) -> None:
        self.outlet.close(TOO_SLOW, "This connection reads too slowly.")

    def turn_out(self, notice: bytes, code: int, reason: str) -> None:
        self.outlet.post(notice)
        self.outlet.close(code, reason)
