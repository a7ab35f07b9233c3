"""RTMP without a socket: what programs say is understood however it is cut, and nonsense is refused within bounds."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veza.media.rtmp import Ended, Media, ProtocolError, Publish, RtmpSession, amf
from veza.media.rtmp.chunks import (
    MESSAGE_MOST,
    SMALL,
    UNFINISHED_MOST,
    UNKNOWN_MOST,
    ChunkReader,
    Message,
    written,
)
from veza.media.rtmp.session import Event

AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20
HANDSHAKE = b"\x03" + bytes(8) + b"h" * 1528 + bytes(1536)


def command(*values: amf.Value, stream: int = 0) -> bytes:
    return written(COMMAND, amf.encode(*values), number=3, stream=stream)


def opening(app: str = "live", name: str = "a-key") -> bytes:
    """What OBS says before it broadcasts."""
    return b"".join(
        [
            HANDSHAKE,
            command("connect", 1.0, {"app": app, "type": "nonprivate", "tcUrl": f"rtmp://here/{app}"}),
            command("releaseStream", 2.0, None, name),
            command("FCPublish", 3.0, None, name),
            command("createStream", 4.0, None),
            command("publish", 5.0, None, name, "live", stream=1),
        ]
    )


def broadcast() -> bytes:
    """What it says afterwards: larger chunks from here on, then its media, cut by the size of those."""
    body = bytes(range(256)) * 20
    return b"".join(
        [
            written(1, (1000).to_bytes(4, "big"), number=2),
            written(DATA, amf.encode("@setDataFrame", "onMetaData", {"width": 320.0}), number=4, size=1000),
            written(VIDEO, b"\x17\x00" + body, number=6, stream=1, size=1000),
            written(AUDIO, b"\xaf\x00\x12\x10", number=4, stream=1, size=1000),
            b"\x44\x00\x00\x17\x00\x00\x05\x08\xaf\x01abc",  # 23 ms later
            b"\xc4\xaf\x01def",  # and another 23 ms: all else as it was
            command("FCUnpublish", 6.0, None, "a-key"),
        ]
    )


def heard(session: RtmpSession, pieces: Iterable[bytes]) -> Iterator[Event]:
    for piece in pieces:
        for event in session.feed(piece):
            if isinstance(event, Publish):
                session.accept()
            yield event


def cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


def test_a_broadcast_is_understood() -> None:
    session = RtmpSession()
    events = list(heard(session, [opening("live/x?y=z"), broadcast()]))
    assert events[0] == Publish("live/x", "a-key")
    assert isinstance(events[-1], Ended)
    tags = [event.tag for event in events if isinstance(event, Media)]
    assert [tag[0] for tag in tags] == [DATA, VIDEO, AUDIO, AUDIO, AUDIO]
    assert tags[0][11:].startswith(amf.encode("onMetaData"))
    assert [int.from_bytes(tag[4:7], "big") for tag in tags] == [0, 0, 0, 23, 46]
    for tag in tags:
        assert int.from_bytes(tag[-4:], "big") == len(tag) - 4
        assert int.from_bytes(tag[1:4], "big") == len(tag) - 15


@settings(deadline=None, max_examples=60)
@given(sizes=st.lists(st.integers(0, 700), max_size=40))
def test_any_division_says_the_same(sizes: list[int]) -> None:
    data = opening() + broadcast()
    assert list(heard(RtmpSession(), cut(data, sizes))) == list(heard(RtmpSession(), [data]))


def test_what_is_answered_is_what_programs_wait_for() -> None:
    session = RtmpSession()
    list(session.feed(opening()))
    said = session.take()
    assert said[0] == 3
    assert said[1 + 1536 : 1 + 2 * 1536] == HANDSHAKE[1:1537]
    messages = list(ChunkReader().feed(said[1 + 2 * 1536 :]))
    assert [message.type for message in messages[:3]] == [5, 6, 1]
    names = [amf.decode(message.body)[0] for message in messages if message.type == COMMAND]
    assert names == ["_result"] * 4
    session.accept()
    session.refuse("No.")
    reader = ChunkReader()
    list(reader.feed(said[1 + 2 * 1536 :]))
    begins, started, refused = reader.feed(session.take())
    assert begins.type == 4
    assert [amf.decode(message.body)[3] for message in (started, refused)] == [
        {"level": "status", "code": "NetStream.Publish.Start", "description": "On air."},
        {"level": "error", "code": "NetStream.Publish.BadName", "description": "No."},
    ]


def test_what_comes_before_it_may_is_not_heard() -> None:
    session = RtmpSession()
    events = list(session.feed(opening() + broadcast()))
    assert [type(event) for event in events] == [Publish, Ended]


def test_who_would_listen_is_sent_away() -> None:
    session = RtmpSession()
    list(session.feed(HANDSHAKE + command("connect", 1.0, {"app": "live"})))
    assert list(session.feed(command("play", 4.0, None, "a-key"))) == [Ended()]
    assert b"NetStream.Play.Failed" in session.take()


def test_what_was_received_is_acknowledged() -> None:
    session = RtmpSession()
    list(heard(session, [opening()]))
    list(session.feed(written(5, (4096).to_bytes(4, "big"), number=2)))
    session.take()
    list(session.feed(written(VIDEO, bytes(3000), number=6, stream=1)))
    acknowledged = list(ChunkReader().feed(session.take()))
    assert [message.type for message in acknowledged] == [3]


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        HANDSHAKE + b"\xc7",
        HANDSHAKE + written(COMMAND, b"\x02\x00\xff", number=3),
        HANDSHAKE + written(COMMAND, amf.encode(1.0, "connect"), number=3),
        HANDSHAKE + written(1, bytes(4), number=2),
        HANDSHAKE + written(1, (1).to_bytes(4, "big"), number=2),  # a head for every byte
        HANDSHAKE + command("connect", 1.0, *[None] * 1000),  # seconds of work, were they millions
        HANDSHAKE + b"\x03" + bytes(3) + (SMALL + 1).to_bytes(3, "big") + bytes([COMMAND]) + bytes(4),
        HANDSHAKE + b"\x03" + bytes(3) + (SMALL + 1).to_bytes(3, "big") + bytes([VIDEO]) + bytes(4),
        HANDSHAKE + b"\x03" + bytes(6) + bytes([VIDEO]) + bytes(4) + b"\xc3" * UNKNOWN_MOST,
        HANDSHAKE + b"\x03\x00\x00\x00\xff\xff\xff\x14\x00\x00\x00\x00",
        opening() + command("publish", 6.0, None, "another"),
        opening(name="x" * 300),
        HANDSHAKE + command("publish", 5.0, None, 7.0),
    ],
)
def test_nonsense_is_refused(said: bytes) -> None:
    session = RtmpSession()
    with pytest.raises(ProtocolError):
        list(session.feed(said))


@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=600), sizes=st.lists(st.integers(0, 90), max_size=12))
def test_any_bytes_are_heard_or_refused(data: bytes, sizes: list[int]) -> None:
    session = RtmpSession()
    try:
        list(heard(session, [opening()]))
        for piece in cut(data, sizes):
            list(session.feed(piece))
    except ProtocolError:
        pass
    assert len(session.take()) < 100_000


def test_who_may_publish_sends_large_pictures_and_small_commands() -> None:
    session = RtmpSession()
    list(heard(session, [opening()]))
    picture = bytes(SMALL + 1)
    (event,) = session.feed(written(VIDEO, picture, number=6, stream=1))
    assert isinstance(event, Media) and picture in event.tag
    with pytest.raises(ProtocolError, match="longer"):
        list(session.feed(written(COMMAND, picture, number=3)))


def test_strangers_have_little_under_way() -> None:
    reader = ChunkReader()
    head = bytes(3) + SMALL.to_bytes(3, "big") + bytes([VIDEO]) + bytes(4)
    list(reader.feed(written(1, (SMALL - 1).to_bytes(4, "big"), number=2)))
    with pytest.raises(ProtocolError, match="under way"):
        for number in range(3, 7):
            list(reader.feed(bytes([number]) + head + bytes(SMALL - 1)))


def test_messages_under_way_are_bounded() -> None:
    reader = ChunkReader(known=True)
    list(reader.feed(written(1, (MESSAGE_MOST).to_bytes(4, "big"), number=2)))
    head = bytes(3) + MESSAGE_MOST.to_bytes(3, "big") + bytes([VIDEO]) + bytes(4)
    list(reader.feed(written(1, (65_536).to_bytes(4, "big"), number=2)))
    with pytest.raises(ProtocolError, match="under way"):
        for number in range(3, 10):
            list(reader.feed(bytes([number]) + head + bytes(65_536)))
            for _ in range(UNFINISHED_MOST // 65_536 // 3):
                list(reader.feed(bytes([0xC0 | number]) + bytes(65_536)))
    reader = ChunkReader()
    with pytest.raises(ProtocolError, match="did not begin"):
        for number in range(2, 70):
            list(reader.feed(b"\x00" + bytes([number]) + bytes(6) + bytes([VIDEO]) + bytes(4)))


@settings(deadline=None, max_examples=60)
@given(
    messages=st.lists(
        st.tuples(st.integers(3, 400), st.integers(0, 255), st.binary(max_size=900)), min_size=1, max_size=6
    ),
    size=st.integers(128, 500),
)
def test_what_was_cut_into_chunks_is_put_together(messages: list[tuple[int, int, bytes]], size: int) -> None:
    reader = ChunkReader(known=True)
    assert len(list(reader.feed(written(1, size.to_bytes(4, "big"), number=2)))) == 1
    for number, kind, body in messages:
        if kind in (1, 2) or not body:
            continue
        data = _numbered(written(kind, body, number=3, stream=1, size=size), number, len(body), size)
        assert list(reader.feed(data)) == [Message(kind, 1, 0, body)]


def _numbered(data: bytes, number: int, length: int, size: int) -> bytes:
    """The same chunks as those of another chunk stream, whose number takes more bytes if it is large."""
    if number < 64:
        form = bytes([0]), bytes([number])
    elif number < 320:
        form = b"\x00", bytes([number - 64])
    else:
        form = b"\x01", struct.pack("<H", number - 64)
    out, at = bytearray(), 0
    while at < len(data):
        kind = data[at] & 0xC0
        head = bytes([kind | number]) if number < 64 else bytes([kind | form[0][0]]) + form[1]
        step = (11 if kind == 0 else 0) + min(size, length)
        out += head + data[at + 1 : at + 1 + step]
        at += 1 + step
        length -= min(size, length)
    return bytes(out)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.dictionaries(st.text(min_size=1, max_size=9), inner, max_size=4),
        max_leaves=12,
    )
)
def test_values_are_read_as_they_were_written(value: amf.Value) -> None:
    try:
        assert amf.decode(amf.encode(value, "x")) == [value, "x"]
    except amf.Malformed as error:
        assert "values within values" in str(error)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_any_bytes_are_values_or_malformed(data: bytes) -> None:
    try:
        amf.decode(data)
    except amf.Malformed:
        pass
