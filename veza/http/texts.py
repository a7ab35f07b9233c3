"""Whole texts, decoded in one step: what nearly everything is that a client sends.

wsproto reads every frame with a state machine that is ready for anything, which is a fifth of the work of a message's
whole way. Where it waits for a new message, and a text in one masked frame is what has come, there is nothing to be
ready for. Everything else, and everything wrong, is left to wsproto as it stands.
"""

from collections.abc import Generator
from typing import Final

from wsproto.connection import SERVER, Connection, ConnectionState
from wsproto.events import Event, TextMessage

_FINAL_TEXT: Final = 0x81


class TextProtocol(Connection):
    """wsproto's server side of an open WebSocket without extensions. See the module."""

    def __init__(self) -> None:
        self._ahead = b""  # bytes wsproto has not been given; while there are any, it waits for a new frame
        super().__init__(SERVER)

    def receive_data(self, data: bytes | None) -> None:
        if data and not self._ahead and self._between_messages():
            self._ahead = data
        else:
            ahead, self._ahead = self._ahead, b""
            if ahead:
                super().receive_data(ahead)
            super().receive_data(data)

    def events(self) -> Generator[Event, None, None]:
        data, self._ahead = self._ahead, b""
        at = 0
        while (span := whole_text(data, at)) is not None:
            start, end = span
            try:
                text = unmask(data[start:end], data[start - 4 : start]).decode()
            except UnicodeDecodeError:
                break
            at = end
            yield TextMessage(text)
        if at < len(data):
            super().receive_data(data[at:])
        elif data:
            return  # wsproto has been given nothing, so it has nothing to say
        yield from super().events()

    def _between_messages(self) -> bool:
        frames = self._proto._frame_decoder
        return (
            self._state is ConnectionState.OPEN
            and frames.header is None
            and not frames.buffer.buffer
            and self._proto._message_decoder.opcode is None
        )


def whole_text(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload begins and ends of the final, masked text frame at `at`; None if it is not one, or not all."""
    left = len(data) - at
    if left < 6 or data[at] != _FINAL_TEXT or data[at + 1] < 0x80:
        return None
    size, start = data[at + 1] & 0x7F, at + 6
    if size > 125:
        if size == 127 or left < 8:
            return None
        size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 8
        if size < 126:
            return None  # longer than it must be written (RFC 6455 §5.2)
    end = start + size
    return (start, end) if end <= len(data) else None


def unmask(data: bytes, mask: bytes) -> bytes:
    """XOR with the repeated mask (RFC 6455 §5.3)."""
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")
