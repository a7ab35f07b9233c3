"""What live streams need from the layer above them, said as protocols, so that nothing here imports `http`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from veza.actors.streams.messages import LiveInfo


class Line(Protocol):
    """The socket of a progressive listener. A write takes what the kernel takes and never waits."""

    @property
    def unsent(self) -> int:
        """Bytes `write` took that the kernel has not (TLS only)."""
        ...

    @property
    def direct(self) -> Callable[[bytes], int] | None:
        """The shortest way to `write` while nothing waits: raises BlockingIOError where that answers 0. None: this line
        has none (TLS)."""
        ...

    def write(self, data: bytes | memoryview) -> int:
        """How many bytes were taken, perhaps none. Raises OSError: the connection is dead or closed."""
        ...

    async def wait_writable(self) -> None:
        """Until a write may take something. Raises trio.ClosedResourceError if it is closed meanwhile."""
        ...

    def reset(self) -> None:
        """Close at once; what is not sent is lost."""
        ...


class Visitor(Protocol):
    """Whoever waits at the other side of the listener: the connection's own task."""

    def opening(self, info: LiveInfo) -> bytes:
        """The bytes before the stream's own: a response head."""
        ...

    def over(self) -> None:
        """The listener has been given all it will be: part from the client. May be called twice."""
        ...
