"""Frames of the server become typed records; what is unknown is kept, what is no frame is told."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.client import (
    DirectMessage,
    ErrorEvent,
    History,
    MessageAck,
    MessageUpdated,
    ProtocolError,
    RoomMessage,
    Unknown,
    Welcome,
)
from veza.client.frames import decode, encode

STAMP = "2026-11-23T06:36:13.050453Z"
WHEN = datetime(2026, 11, 23, 6, 36, 13, 50453, tzinfo=UTC)
COMMON = {"id": 1, "room_id": 7, "seq": 3, "content": "hi", "message_type": "text", "created_at": STAMP}
SAID = {**COMMON, "room": "general", "user_id": 5, "username": "ada"}
WRITTEN = {**COMMON, "from_user_id": 5, "from_username": "ada", "to_user_id": 6}


def frame(kind: str, data: Any) -> str:
    return json.dumps({"type": kind, "data": data, "timestamp": STAMP})


def test_a_room_message() -> None:
    kind, ref, said = decode(frame("room_message", SAID))
    assert (kind, ref) == ("room_message", None)
    assert isinstance(said, RoomMessage)
    assert (said.room, said.seq, said.author, said.created_at) == ("general", 3, "ada", WHEN)


def test_a_direct_message() -> None:
    *_, written = decode(frame("direct_message", WRITTEN))
    assert isinstance(written, DirectMessage)
    assert (written.author_id, written.to_user_id) == (5, 6)


def test_an_author_who_is_gone() -> None:
    *_, said = decode(frame("room_message", {**SAID, "user_id": None, "username": None}))
    assert isinstance(said, RoomMessage)
    assert (said.author, said.author_id) == ("", None)


def test_a_history_of_both_kinds() -> None:
    page = {
        "room": "general",
        "messages": [SAID, WRITTEN],
        "total": 9,
        "has_more": True,
        "next_before_seq": 3,
    }
    kind, ref, history = decode(frame("message_history", {**page, "ref": "c9"}))
    assert (kind, ref) == ("message_history", "c9")
    assert isinstance(history, History)
    assert [type(message) for message in history.messages] == [RoomMessage, DirectMessage]
    assert (history.total, history.has_more, history.next_before_seq) == (9, True, 3)


def test_a_changed_message() -> None:
    *_, changed = decode(frame("message_updated", {**SAID, "rev": 4, "deleted_at": STAMP}))
    assert isinstance(changed, MessageUpdated)
    assert (changed.message.rev, changed.message.deleted_at) == (4, WHEN)


def test_answers_carry_the_reference_of_what_they_answer() -> None:
    ack = {"room": "general", "room_id": 7, "id": 1, "seq": 3, "created_at": STAMP, "ref": "c1"}
    assert decode(frame("message_ack", ack))[1] == "c1"
    assert isinstance(decode(frame("message_ack", ack))[2], MessageAck)
    *_, error = decode(
        frame("error", {"code": "RATE_LIMITED", "message": "wait", "details": {"retry_after": 2}})
    )
    assert isinstance(error, ErrorEvent)
    assert error.details == {"retry_after": 2}


def test_the_server_may_grow() -> None:
    *_, welcome = decode(
        frame(
            "welcome", {"session_id": "x", "user_id": 1, "username": "ada", "protocol": "veza.v2", "new": [1]}
        )
    )
    assert isinstance(welcome, Welcome)
    assert decode(frame("firework", {"size": 3}))[2] == Unknown(type="firework", data={"size": 3})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"type":1}',
        '{"type":"room_message"}',
        '{"type":"room_message","data":{"id":"x"}}',
    ],
)
def test_what_is_no_frame_is_told(text: str) -> None:
    with pytest.raises(ProtocolError):
        decode(text)


@given(st.text() | st.binary())
def test_nothing_else_comes_of_noise(noise: str | bytes) -> None:
    try:
        decode(noise)
    except ProtocolError:
        pass


def test_a_frame_of_ours_leaves_out_what_is_not_given() -> None:
    assert json.loads(encode("join_room", {"room": "general", "since_seq": None}, "c1")) == {
        "type": "join_room",
        "ref": "c1",
        "data": {"room": "general"},
    }
    assert json.loads(encode("typing", {"room": 5, "is_typing": False})) == {
        "type": "typing",
        "data": {"room": 5, "is_typing": False},
    }
