"""What a stream's actor is told and asked, and what it answers."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from veza.actors.streams.listener import Listener
    from veza.actors.streams.seat import Seat


class LiveInfo(msgspec.Struct, frozen=True):
    """What a listener's response head says of a stream."""

    title: str
    description: str | None
    genre: str | None
    public: bool
    content_type: str
    bit_rate: int | None  # kbit/s


class LiveState(msgspec.Struct, frozen=True):
    """What is known of a running stream without asking anybody."""

    id: int
    slug: str
    state: str  # created, live, interrupted, ended
    listeners: int
    content_type: str | None
    song: str | None
    started_at: datetime | None


# Sources ------------------------------------------------------------------------------------------


class Claim(msgspec.Struct, frozen=True, eq=False):
    """Asked: may this source broadcast? Its key has been checked. Answers None, raises Refused."""

    seat: Seat


class Pour(msgspec.Struct, frozen=True, eq=False):
    """Asked: the source's next bytes. Answers whether the stream is heard by now; raises Refused."""

    seat: Seat
    data: bytes
    at: float  # trio.current_time() when they came

    def __repr__(self) -> str:
        return f"<Pour {len(self.data)} bytes>"


class SourceGone(msgspec.Struct, frozen=True, eq=False):
    """The source's connection has ended, for whatever reason."""

    seat: Seat


class Sing(msgspec.Struct, frozen=True):
    """Asked: what is playing now. Raises Refused where nobody broadcasts."""

    song: str | None

    def __repr__(self) -> str:
        return "<Sing>"


# Listeners ----------------------------------------------------------------------------------------


class Listen(msgspec.Struct, frozen=True, eq=False):
    """Asked: let this one listen. Raises Refused."""

    listener: Listener


class Describe(msgspec.Struct, frozen=True):
    """Asked: the `LiveInfo` a listener would be given. Raises Refused."""


class Left(msgspec.Struct, frozen=True, eq=False):
    """A listener's connection has ended."""

    listener: Listener


class Writable(msgspec.Struct, frozen=True, eq=False):
    """A listener whose line was full may take more."""

    listener: Listener


class WatchHls(msgspec.Struct, frozen=True):
    """Asked: somebody (`viewer` tells one from another) wants the playlist: make it. Raises Refused."""

    viewer: str

    def __repr__(self) -> str:
        return "<WatchHls>"


# Owners and the house -----------------------------------------------------------------------------


class End(msgspec.Struct, frozen=True):
    """Asked: end the stream for good. Answers when it has been stored and its recording is closed."""


class Changed(msgspec.Struct, frozen=True):
    """The stream's row has changed: read it again."""


class Close(msgspec.Struct, frozen=True):
    """Asked: the server goes. Listeners and the source part; answers when the recording is closed."""


# From itself --------------------------------------------------------------------------------------


class Pass(msgspec.Struct, frozen=True):
    """It is time to give listeners what has gathered."""


class Tick(msgspec.Struct, frozen=True):
    """A second is over."""


class GraceOver(msgspec.Struct, frozen=True):
    """The source has not come back in time."""

    interruption: int


class Noted(msgspec.Struct, frozen=True, eq=False):
    """What became of the note that was to be stored."""

    note: Any
    result: Any
    error: Exception | None


class Read(msgspec.Struct, frozen=True, eq=False):
    """The stream's row, read again."""

    mount: Any
    error: Exception | None


class Recorded(msgspec.Struct, frozen=True, eq=False):
    """A recording's file is closed."""

    recorder: Any
    error: Exception | None


class HlsCleared(msgspec.Struct, frozen=True, eq=False):
    """What a child had made has been dealt with."""

    feed: Any


class RemovePlaylist(msgspec.Struct, frozen=True):
    """The playlist of a stream that has ended has been there for long enough."""


class HlsOver(msgspec.Struct, frozen=True, eq=False):
    """The making of HLS has ended."""

    feed: Any
    error: Exception | None
