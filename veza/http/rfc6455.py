"""WebSocket frames as bytes: the few things the outlet must know of them. Pure.

Server frames are not masked (RFC 6455 §5.1), so the same bytes serve every connection.
"""

from typing import Final

CONTINUATION: Final = 0x0
CLOSE: Final = 0x8
FINAL_CLOSE: Final = 0x88  # first byte of a Close frame


def close_frame(code: int, reason: str = "") -> bytes:
    """A Close frame; the reason is cut to what a control frame holds."""
    text = reason.encode()[:123].decode("utf-8", "ignore").encode()
    return bytes((0x88, 2 + len(text))) + code.to_bytes(2, "big") + text


def text_frame(payload: bytes) -> bytes:
    """One final, unmasked text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 0x10000:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def boundary(blob: bytes, offset: int) -> int:
    """The end of the frame that byte `offset` lies within; `offset` itself where a frame begins.

    Args:
        blob: whole unmasked frames.
    """
    at = 0
    while at < offset:
        size = blob[at + 1] & 0x7F
        if size == 126:
            at += 4 + int.from_bytes(blob[at + 2 : at + 4], "big")
        elif size == 127:
            at += 10 + int.from_bytes(blob[at + 2 : at + 10], "big")
        else:
            at += 2 + size
    return at


class Gauge:
    """Counts, in bytes, what a client's frames declare, before anybody decodes them.

    trio-websocket measures a text in characters and only once it has arrived; the limit is in bytes. The gauge reads
    the frame headers alone, so a frame that is too large is known by its first ten bytes. It judges nothing else:
    broken frames are wsproto's to refuse.

    Attributes:
        exceeded: a message (all its fragments together) is larger than the limit.
        closing: the peer's Close frame has come, in whole.
    """

    __slots__ = ("_control", "_held", "_limit", "_message", "_skip", "closing", "exceeded")

    def __init__(self, limit: int) -> None:
        self.exceeded = False
        self.closing = False
        self._limit = limit
        self._held = b""  # an incomplete header
        self._skip = 0  # payload still to come
        self._message = 0  # bytes of the message under way
        self._control = 0  # opcode of the frame under way

    def feed(self, data: bytes) -> None:
        """Read on. Nothing is decided after `exceeded` or `closing`."""
        if self._held:
            data, self._held = self._held + data, b""
        total = len(data)
        at = self._skip
        while at < total:
            # Invariant: a frame begins at `at`.
            if self._control == CLOSE:
                self.closing = True
                return
            if at + 1 >= total:
                self._hold(data, at)
                return
            first, size = data[at], data[at + 1] & 0x7F
            header = 6 if data[at + 1] & 0x80 else 2
            if size == 126:
                header += 2
                if at + 4 > total:
                    self._hold(data, at)
                    return
                size = int.from_bytes(data[at + 2 : at + 4], "big")
            elif size == 127:
                header += 8
                if at + 10 > total:
                    self._hold(data, at)
                    return
                size = int.from_bytes(data[at + 2 : at + 10], "big")
            opcode = self._control = first & 0x0F
            if opcode < 8:
                message = size if opcode != CONTINUATION else self._message + size
                if message > self._limit:
                    self.exceeded = True
                    return
                self._message = 0 if first & 0x80 else message
            at += header + size
        self._skip = at - total
        if not self._skip and self._control == CLOSE:
            self.closing = True

    def _hold(self, data: bytes, at: int) -> None:
        self._held = data[at:]
        self._skip = 0
        self._control = 0
