"""A conversation with a program that publishes: its handshake, its commands, and the sound and pictures it sends.

    session = RtmpSession()
    for event in session.feed(data):       # Publish: accept() or refuse(); Media: a tag of FLV; Ended
        …
    send(session.take())                   # what is to be said, after every call

One connection publishes one stream. Everything a program may ask that is no publishing is answered so that it goes on,
or not at all: OBS and FFmpeg ask for things that only Adobe's server had.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from veza.media.rtmp import amf
from veza.media.rtmp.amf import Malformed, Value
from veza.media.rtmp.chunks import SET_CHUNK_SIZE, ChunkReader, Message, ProtocolError, written

FLV_HEADER: Final = b"FLV\x01\x05\x00\x00\x00\x09" + bytes(4)
"""What the tags of `Media` need before them."""

_VERSION: Final = 3
_HANDSHAKE: Final = 1536
_ACKNOWLEDGEMENT, _USER_CONTROL, _WINDOW, _BANDWIDTH = 3, 4, 5, 6
_AUDIO, _VIDEO, _DATA, _COMMAND, _DATA_3, _COMMAND_3 = 8, 9, 18, 20, 15, 17
_WINDOW_SIZE: Final = 2_500_000
_CHUNK_SIZE: Final = 4096
_STREAM: Final = 1
_NAME_MOST: Final = 256


class Publish(NamedTuple):
    """It wants to publish: answer with `accept` or `refuse`."""

    app: str
    """The path of the address it was given, without slashes around it."""
    name: str
    """The name of the stream, which programs call its key."""


class Media(NamedTuple):
    """A tag of FLV."""

    tag: bytes


class Ended(NamedTuple):
    """It says that it has finished."""


Event = Publish | Media | Ended


class RtmpSession:
    """The server's side. Any call may leave something to be sent, which `take` gives."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._handshake = bytearray()
        self._step = 0
        self._reader = ChunkReader()
        self._app = ""
        self._asked = False
        self._publishing = False
        self._received = self._acknowledged = 0
        self._window = _WINDOW_SIZE
        self._size = 128  # of the chunks we send

    def take(self) -> bytes:
        """What is to be sent now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take what came. Events are to be dealt with in turn. Raises ProtocolError."""
        self._received += len(data)
        data = self._shake_hands(data)
        if data:
            for message in self._reader.feed(data):
                yield from self._heard(message)
        if self._received - self._acknowledged >= self._window // 2:
            self._acknowledged = self._received
            self._say(_ACKNOWLEDGEMENT, (self._received & 0xFFFF_FFFF).to_bytes(4, "big"), number=2)

    def accept(self) -> None:
        """It may publish."""
        self._publishing = self._reader.known = True
        self._say(_USER_CONTROL, bytes(2) + _STREAM.to_bytes(4, "big"), number=2)  # the stream begins
        self._status("status", "NetStream.Publish.Start", "On air.")

    def refuse(self, reason: str) -> None:
        """It may not, and is told why. Then hang up."""
        self._status("error", "NetStream.Publish.BadName", reason)

    # The handshake (section 5.2) ------------------------------------------------------------------

    def _shake_hands(self, data: bytes) -> bytes:
        """Its part of the handshake; what comes behind it is given back."""
        if self._step == 2:
            return data
        kept = self._handshake
        kept += data
        if kept and kept[0] != _VERSION:
            raise ProtocolError("this is no RTMP")
        if self._step == 0 and len(kept) >= 1 + _HANDSHAKE:
            # Ours is random; theirs is said back to them.
            self._out += bytes([_VERSION]) + bytes(8) + os.urandom(_HANDSHAKE - 8) + kept[1 : 1 + _HANDSHAKE]
            self._step = 1
        if self._step == 1 and len(kept) >= 1 + 2 * _HANDSHAKE:
            self._step = 2
            rest = bytes(kept[1 + 2 * _HANDSHAKE :])
            kept.clear()
            return rest
        return b""

    # Messages -------------------------------------------------------------------------------------

    def _heard(self, message: Message) -> Iterator[Event]:
        kind, body = message.type, message.body
        if kind in (_AUDIO, _VIDEO):
            if self._publishing and body:
                yield Media(_tag(kind, message.time, body))
        elif kind in (_DATA, _DATA_3):
            if self._publishing:
                yield from _metadata(body[1:] if kind == _DATA_3 else body, message.time)
        elif kind in (_COMMAND, _COMMAND_3):
            try:
                values = amf.decode(body[1:] if kind == _COMMAND_3 else body)
            except Malformed as error:
                raise ProtocolError(f"a command that cannot be read: {error}") from None
            yield from self._command(values)
        elif kind == _WINDOW and len(body) >= 4:
            self._window = max(1024, int.from_bytes(body[:4], "big"))

    def _command(self, values: list[Value]) -> Iterator[Event]:
        if len(values) < 2 or not isinstance(values[0], str) or not isinstance(values[1], float):
            raise ProtocolError("a command without a name or a number")
        name, number, *rest = values
        if name == "connect":
            self._connect(number, rest[0] if rest else None)
        elif name == "createStream":
            self._command_back("_result", number, None, float(_STREAM))
        elif name in ("releaseStream", "FCPublish", "_checkbw"):
            self._command_back("_result", number, None)
        elif name == "publish":
            given = rest[1] if len(rest) > 1 else None
            if self._asked or not isinstance(given, str) or len(given) > _NAME_MOST:
                raise ProtocolError("one connection publishes one stream, which has a name")
            self._asked = True
            yield Publish(self._app, given)
        elif name in ("FCUnpublish", "deleteStream", "closeStream"):
            yield Ended()
        elif name in ("play", "play2"):
            self._status("error", "NetStream.Play.Failed", "This address takes streams and gives none.")
            yield Ended()

    def _connect(self, number: Value, about: Value) -> None:
        app = about.get("app") if isinstance(about, dict) else None
        self._app = app.partition("?")[0].strip("/") if isinstance(app, str) else ""
        self._say(_WINDOW, _WINDOW_SIZE.to_bytes(4, "big"), number=2)
        self._say(_BANDWIDTH, _WINDOW_SIZE.to_bytes(4, "big") + b"\x02", number=2)
        self._say(SET_CHUNK_SIZE, _CHUNK_SIZE.to_bytes(4, "big"), number=2)
        self._size = _CHUNK_SIZE
        self._command_back(
            "_result",
            number,
            {"fmsVer": "FMS/3,0,1,123", "capabilities": 31.0},
            {
                "level": "status",
                "code": "NetConnection.Connect.Success",
                "description": "Connection succeeded.",
                "objectEncoding": 0.0,
            },
        )

    def _status(self, level: str, code: str, description: str) -> None:
        about: Value = {"level": level, "code": code, "description": description}
        self._say(_COMMAND, amf.encode("onStatus", 0.0, None, about), number=5, stream=_STREAM)

    def _command_back(self, *values: Value) -> None:
        self._say(_COMMAND, amf.encode(*values), number=3)

    def _say(self, kind: int, body: bytes, *, number: int, stream: int = 0) -> None:
        self._out += written(kind, body, number=number, stream=stream, size=self._size)


def _metadata(body: bytes, time: int) -> Iterator[Media]:
    """What it says of the stream (`@setDataFrame`, `onMetaData`, …), as FLV has it; other data is nobody's."""
    marked = amf.encode("@setDataFrame")
    if body.startswith(marked):
        body = body[len(marked) :]
    if body.startswith(amf.encode("onMetaData")):
        yield Media(_tag(_DATA, time, body))


def _tag(kind: int, time: int, body: bytes) -> bytes:
    stamp = (time & 0xFF_FFFF).to_bytes(3, "big") + bytes([time >> 24])
    head = bytes([kind]) + len(body).to_bytes(3, "big") + stamp + bytes(3)
    return head + body + (len(head) + len(body)).to_bytes(4, "big")
