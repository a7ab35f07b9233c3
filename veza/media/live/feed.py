"""A live source cut into runs, each of which one demuxer can read from its beginning to its end.

A demuxer takes badly to a container that starts anew in the middle (a chained Ogg with other parameters, another EBML
header), and to what comes before the first place one may begin at. So the source goes through its splitter once more:
a run begins at a key chunk with that chunk's header, and ends where the container begins anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from veza.media.splitters import Chunk, Splitter, Unsupported, splitter_for
from veza.media.splitters.adts import family_of
from veza.media.splitters.webm import EBML, without_cluster

READ: Final = 64 * 1024
_EBML: Final = EBML.to_bytes(4, "big")
FORMATS: Final = {  # content type: the name of FFmpeg's demuxer
    "audio/mpeg": "mp3",
    "audio/aac": "aac",
    "audio/ogg": "ogg",
    "audio/webm": "matroska",
    "video/webm": "matroska",
    "audio/x-matroska": "matroska",
    "video/x-matroska": "matroska",
    "video/mp2t": "mpegts",
    "audio/mp4": "mp4",
    "video/mp4": "mp4",
}


class Feed:
    """The source.

    Args:
        receive: gives the next bytes, blocking; none at the end.
        content_type: what they are.
    """

    def __init__(self, receive: Callable[[], bytes], content_type: str) -> None:
        self._receive = receive
        self._declared = content_type
        self._splitter: Splitter | None = None
        self._first = b""
        self._chunks: deque[Chunk] = deque()
        self.ended = False

    def run(self) -> Run | None:
        """The next run, once it begins; None when the source has ended.

        Raises:
            Unsupported: this is no source.
        """
        while (chunk := self.look()) is not None:
            if chunk.key:
                return Run(self, FORMATS[self.content_type], chunk)
            self._chunks.popleft()
        return None

    @property
    def content_type(self) -> str:
        return self._declared if self._splitter is None else self._splitter.content_type

    def look(self) -> Chunk | None:
        """The next chunk, which stays; None when the source has ended."""
        while not self._chunks:
            if self.ended:
                return None
            self._take(self._receive())
        return self._chunks[0]

    def gather(self, available: Callable[[], bool], until: float, clock: Callable[[], float]) -> None:
        """Take what has come already, until there is no more of it, or until then. Raises Unsupported."""
        while not self.ended and clock() < until and available():
            self._take(self._receive())

    def ready(self) -> tuple[Chunk, ...]:
        """The chunks that are there without waiting."""
        return tuple(self._chunks)

    def take(self) -> Chunk:
        """The next chunk, which was looked at."""
        return self._chunks.popleft()

    def _take(self, data: bytes) -> None:
        if not data:
            self.ended = True
            return
        if self._splitter is None:
            self._first += data
            self._splitter = splitter_for(self._declared, self._first)
            if self._splitter is None:
                return
            data, self._first = self._first, b""
        self._chunks.extend(self._splitter.feed(data))


class Run:
    """What one demuxer reads: a file without an end that is known."""

    def __init__(self, feed: Feed, format: str, first: Chunk) -> None:
        self.format = format
        self._feed = feed
        self._container = _container(format, first)
        self._rest = memoryview(first.header)
        self.over = False

    def read(self, size: int) -> bytes:
        """At most so many bytes, as soon as some are there; none at the end of the run."""
        if not self._rest:
            chunk = None if self.over else self._feed.look()
            if chunk is None or self._begins_anew(chunk):
                self.over = True
                return b""
            self._rest = memoryview(self._feed.take().data)
        data = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return data

    def _begins_anew(self, chunk: Chunk) -> bool:
        if chunk.key:
            return _container(self.format, chunk) != self._container
        data = chunk.data
        if self.format == "ogg":
            return data[5] & 2 != 0  # the first page of a logical stream
        return data.startswith(_EBML) or (self.format == "mp4" and data[4:8] == b"ftyp")


def _container(format: str, key: Chunk) -> object:
    """What has to be the same for a demuxer to go on."""
    if format == "matroska":
        return without_cluster(key.header)
    if format == "aac":
        return family_of(key.data)
    return key.header


__all__ = ["FORMATS", "READ", "Feed", "Run", "Unsupported"]
