"""What every container splitter yields, and what it promises.

A live source is a river of bytes. A splitter cuts it where a container allows it to be cut, and says of every piece
whether somebody may begin to listen there and what that listener has to be given first. It does nothing else: no I/O,
no clock, no decoding.

What all of them promise, whatever the bytes are:

- The same bytes give the same chunks, however they are divided among calls of `feed`.
- All chunks put together are the input without its garbage, in order: a listener who was there before a container
  starts anew (chained Ogg, another EBML header) needs nothing but the chunks, one after the other.
- The `header` of any key chunk + the data from that chunk on is a stream that decodes.
- `feed` never raises and never waits for ever; what it keeps is bounded (each splitter's file names the bound).
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Chunk(msgspec.Struct, frozen=True):
    """A piece of the stream that is passed on whole. Immutable: the ring, the listeners and the recording share it."""

    data: bytes
    key: bool
    """A listener may start here, and is given `header` first."""
    duration: float | None = None
    """Seconds of sound or picture, where the container tells; the sum over all chunks is the time that passed."""
    header: bytes = b""
    """What a listener who starts at this chunk is given first; only key chunks have one. It belongs to the chunk: an
    older one may need another (chained Ogg), and WebM opens a cluster in it. Chunks that have the same share one
    object, so keeping it costs nothing."""


class Splitter(Protocol):
    """Cuts one container. Holds the state of one source connection: a source that comes back gets a new one."""

    content_type: str
    """Media type of what it yields, such as `audio/mpeg`; it may become more precise once the header is known."""

    header: bytes
    """What the container began with, once it is known: tells whether there is anything to listen to yet, and of what
    kind. Its bytes are chunks as well (`key` false), so nobody who is there already has to be given it. What a
    listener is given who begins at a chunk is that chunk's own `header`."""

    skipped: int
    """Bytes of garbage so far."""

    def feed(self, data: bytes) -> list[Chunk]:
        """Take bytes as they came; return the chunks that are whole now. Never raises for what the bytes are."""
        ...


class Unsupported(Exception):
    """These bytes are no stream that we can broadcast. `reason` is a sentence for the person who sends them."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
