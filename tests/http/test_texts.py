"""Texts decoded in one step are what wsproto would say, however the bytes are cut and whatever is wrong with them."""

import random

import pytest
from wsproto.connection import SERVER, Connection
from wsproto.events import Event, TextMessage
from wsproto.utilities import RemoteProtocolError

from veza.http.texts import TextProtocol, unmask

TEXT, BINARY, CONTINUATION, CLOSE, PING = 1, 2, 0, 8, 9
PLAIN = [
    b"",
    b"a",
    "žlutý kůň 🎸".encode(),
    b"x" * 125,
    b"y" * 126,
    b"z" * 4000,
    b"w" * 65_535,
    b"v" * 70_000,
]


def frame(
    opcode: int, payload: bytes, *, final: bool = True, masked: bool = True, wide: bool = False
) -> bytes:
    """A client's frame; `wide` writes its length in two bytes though one would do."""
    size = len(payload)
    if size < 126 and not wide:
        length = bytes((0x80 * masked | size,))
    elif size < 65_536:
        length = bytes((0x80 * masked | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((0x80 * masked | 127,)) + size.to_bytes(8, "big")
    mask = b"\x01\xfe\x37\x80" if masked else b""
    return bytes((0x80 * final | opcode,)) + length + mask + (unmask(payload, mask) if masked else payload)


def listen(protocol: Connection, pieces: list[bytes]) -> list[Event | str]:
    """What comes out, texts in several parts put together; a fault ends it."""
    heard: list[Event | str] = []
    text = ""
    for piece in pieces:
        try:
            protocol.receive_data(piece)
            for event in protocol.events():
                if isinstance(event, TextMessage):
                    text += event.data
                    if event.message_finished:
                        heard.append(text)
                        text = ""
                else:
                    heard.append(event)
        except RemoteProtocolError as fault:
            return [*heard, f"refused: {fault}"]
    return heard


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(5)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


@pytest.mark.parametrize("seed", range(300))
def test_any_conversation(seed: int) -> None:
    chance = random.Random(seed)
    data = b""
    for _ in range(chance.randrange(1, 8)):
        plain = chance.choice(PLAIN)
        data += chance.choice(
            [
                frame(TEXT, plain),
                frame(TEXT, plain),
                frame(TEXT, plain),
                frame(TEXT, plain[:7], final=False) + frame(CONTINUATION, plain[7:]),
                frame(TEXT, plain[:9], final=False) + frame(PING, b"?") + frame(CONTINUATION, plain[9:]),
                frame(BINARY, plain),
                frame(PING, b"still there?"),
            ]
        )
    if chance.random() < 0.5:
        data += chance.choice(
            [
                frame(CLOSE, b"\x03\xe8bye"),
                frame(TEXT, b"\xff\xfe"),
                frame(TEXT, b"no mask", masked=False),
                frame(TEXT, b"long-winded", wide=True),
                frame(CONTINUATION, b"of nothing"),
                frame(3, b"unknown"),
                bytes((0xC1, 0x80)) + b"mask",
            ]
        )
        data += frame(TEXT, b"after the end")
    pieces = cut(data, chance)
    assert listen(TextProtocol(), pieces) == listen(Connection(SERVER), pieces)


def test_a_whole_text_never_reaches_the_state_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing is won. It also fails if wsproto is built otherwise one day."""
    protocol = TextProtocol()
    monkeypatch.setattr(protocol._proto, "receive_bytes", lambda _: pytest.fail("wsproto was asked"))
    assert listen(protocol, [frame(TEXT, b"one") + frame(TEXT, b"t" * 300), frame(TEXT, b"three")]) == [
        "one",
        "t" * 300,
        "three",
    ]
