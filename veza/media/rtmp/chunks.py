"""The chunks of RTMP: messages of several streams, cut and interleaved (section 5.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MESSAGE_MOST: Final = 4 * 1024 * 1024
"""Bytes of a message: the largest key frame there is."""
UNFINISHED_MOST: Final = 8 * 1024 * 1024
"""Bytes of all messages under way together."""
SMALL: Final = 64 * 1024
"""Bytes of a message that is no sound and no picture, and of all of them while nobody knows who speaks."""
UNKNOWN_MOST: Final = 256
"""Messages while nobody knows who speaks: programs need about ten."""
STREAMS_MOST: Final = 64
CHUNK_LEAST: Final = 128  # bytes; smaller ones are all heads, and cost more than they bring
SET_CHUNK_SIZE, ABORT, AUDIO, VIDEO = 1, 2, 8, 9
_EXTENDED: Final = 0xFF_FFFF


class ProtocolError(Exception):
    """The other side does not speak RTMP, or more of it than anybody needs."""


class Message(NamedTuple):
    """A whole message."""

    type: int
    stream: int
    time: int
    """Milliseconds, modulo 2³²."""
    body: bytes


class _ChunkStream:
    """What the next chunk of a chunk stream need not say again."""

    def __init__(self) -> None:
        self.type = self.stream = self.length = self.time = self.delta = 0
        self.extended = False
        self.body = bytearray()


class ChunkReader:
    """Bytes in, messages out. Keeps one unfinished message a chunk stream, within bounds.

    Args:
        known: is it known who speaks? Until then (`known` may be set later) the bounds are narrow.
    """

    def __init__(self, *, known: bool = False) -> None:
        self.known = known
        self._count = 0  # messages while it was not
        self._under_way = 0  # bytes of all messages that have begun
        self._kept = bytearray()
        self._streams: dict[int, _ChunkStream] = {}
        self._size = 128

    def feed(self, data: bytes) -> Iterator[Message]:
        """Messages that are whole now; a change of the chunks' size is seen to. Raises ProtocolError."""
        self._kept += data
        at = 0
        while (taken := self._chunk(at)) is not None:
            at, message = taken
            if message is not None:
                if not self.known:
                    self._count += 1
                    if self._count > UNKNOWN_MOST:
                        raise ProtocolError("more talk than it takes to say who one is")
                self._obey(message)
                yield message
        del self._kept[:at]

    def _chunk(self, at: int) -> tuple[int, Message | None] | None:
        """The chunk that begins here: where it ends, and the message it finishes. None: it is not all there."""
        kept, end = self._kept, len(self._kept)
        if at >= end:
            return None
        form, number = kept[at] >> 6, kept[at] & 0x3F
        at += 1
        if number < 2:  # the number is in one byte more, or two
            width = number + 1
            if end - at < width:
                return None
            number = 64 + int.from_bytes(kept[at : at + width], "little")
            at += width
        width = (11, 7, 3, 0)[form]
        if end - at < width:
            return None
        head = bytes(kept[at : at + width])
        at += width
        stream = self._streams.get(number)
        if stream is None:
            if form == 3 or len(self._streams) >= STREAMS_MOST:
                raise ProtocolError("a chunk of a stream that did not begin")
            stream = _ChunkStream()
        begins = not stream.body
        stamp = int.from_bytes(head[:3], "big") if form < 3 else stream.delta
        extended = stamp == _EXTENDED if form < 3 else stream.extended
        if extended:
            if end - at < 4:
                return None
            stamp = int.from_bytes(kept[at : at + 4], "big")
            at += 4
        length = int.from_bytes(head[3:6], "big") if form < 2 else stream.length
        kind = head[6] if form < 2 else stream.type
        if length > (MESSAGE_MOST if self.known and kind in (AUDIO, VIDEO) else SMALL):
            raise ProtocolError("a message longer than any of its kind")
        if form < 3 and not begins:
            raise ProtocolError("a message that begins within another")
        part = min(self._size, length - len(stream.body))
        if end - at < part:
            return None

        self._streams[number] = stream
        if form < 2:
            stream.length, stream.type = length, kind
        if form == 0:
            stream.stream = int.from_bytes(head[7:11], "little")
            stream.time = stamp
        elif begins:
            stream.time = (stream.time + stamp) & 0xFFFF_FFFF
        if form < 3:
            stream.delta, stream.extended = stamp, extended
        stream.body += kept[at : at + part]
        at += part
        self._under_way += part
        if len(stream.body) < length:
            if self._under_way > (UNFINISHED_MOST if self.known else 2 * SMALL):
                raise ProtocolError("more messages under way than anybody needs")
            return at, None
        body = bytes(stream.body)
        stream.body.clear()
        self._under_way -= len(body)
        return at, Message(stream.type, stream.stream, stream.time, body)

    def _obey(self, message: Message) -> None:
        if message.type == SET_CHUNK_SIZE and len(message.body) >= 4:
            size = int.from_bytes(message.body[:4], "big")
            if not CHUNK_LEAST <= size <= 0x7FFF_FFFF:
                raise ProtocolError("chunks of a size that nobody sends")
            self._size = min(size, MESSAGE_MOST)  # a chunk never holds more than its message
        elif message.type == ABORT and len(message.body) >= 4:
            stream = self._streams.get(int.from_bytes(message.body[:4], "big"))
            if stream is not None:
                self._under_way -= len(stream.body)
                stream.body.clear()


def written(type: int, body: bytes, *, number: int, stream: int = 0, size: int = 128) -> bytes:
    """A message as chunks of at most `size` bytes, at time 0."""
    head = bytes([number]) + bytes(3) + len(body).to_bytes(3, "big") + bytes([type])
    pieces = [head + stream.to_bytes(4, "little") + body[:size]]
    pieces += [bytes([0xC0 | number]) + body[at : at + size] for at in range(size, len(body), size)]
    return b"".join(pieces)
