"""The grammar of client frames: every text is a request or a refusal that says why, and nothing else ever happens."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.actors import requests as r
from veza.http.sockets.decode import Incoming, Malformed, decode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = sorted({f for t in r.TYPES.values() for f in t.__struct_encode_fields__} | {"type", "data", "ref"})
ANY_FRAME = st.fixed_dictionaries(
    {"type": st.sampled_from(sorted(r.TYPES)) | JSON},
    optional={"data": st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6) | JSON, "ref": JSON},
)


def outcome(text: str | bytes) -> Incoming | Malformed:
    try:
        return decode(text)
    except Malformed as malformed:
        return malformed


@given(st.text() | st.binary())
def test_any_text_is_a_request_or_refused(text: str | bytes) -> None:
    assert isinstance(outcome(text), Malformed)


@given(ANY_FRAME, st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4))
def test_any_frame_is_a_request_or_refused(frame: dict[str, Any], flat: dict[str, Any]) -> None:
    text = json.dumps(flat | frame)
    result = outcome(text)
    if isinstance(result, Malformed):
        assert result.code == "INVALID_FORMAT" and result.message
        assert len(result.message) < 300
    else:
        assert isinstance(result.request, r.TYPES[frame["type"]])
        # What was let through is what the record says it is, bounds included.
        again = msgspec.json.encode(result.request)
        assert msgspec.json.decode(again, type=type(result.request)) == result.request
    ref = frame.get("ref", flat.get("ref"))
    if isinstance(ref, str) and len(ref) <= 64 and isinstance(frame["type"], str) and "NaN" not in text:
        if "Infinity" not in text:
            assert result.ref == ref
    elif isinstance(result, Incoming):
        assert result.ref is None


@given(
    room=st.text(max_size=200) | st.integers(0, 2**63 - 1),
    content=st.text(max_size=50),
    nonce=st.none() | st.text(max_size=70),
    nested=st.booleans(),
    ref=st.none() | st.text(max_size=64),
)
def test_flat_or_nested_a_message_is_the_same(
    room: str | int, content: str, nonce: str | None, nested: bool, ref: str | None
) -> None:
    data = {"room": room, "content": content, "nonce": nonce}
    for kind in ("room_message", "message"):
        frame = {"type": kind, "ref": ref, **({"data": data} if nested else data)}
        incoming = decode(json.dumps(frame))
        assert incoming == Incoming(r.RoomMessage(room=room, content=content, nonce=nonce), ref)


def test_older_names() -> None:
    assert decode('{"type":"join","room":"a"}').request == r.JoinRoom(room="a")
    assert decode('{"type":"leave","data":{"room":1}}').request == r.LeaveRoom(room=1)
    assert decode('{"type":"dm","to":5,"content":"x"}').request == r.DirectMessage(to=5, content="x")
    assert decode('{"type":"dm_history","with":5}').request == r.DmHistory(with_=5)
    assert decode('{"type":"join_room","with":5,"data":{ }}').request == r.JoinRoom(with_=5)


@pytest.mark.parametrize("name", sorted(r.TYPES))
def test_a_request_never_shows_what_is_in_it(name: str) -> None:
    """Requests reach logs by accident sooner or later."""
    secret = "s3cret"
    frame = {
        "type": name,
        "room": secret,
        "content": secret,
        "token": secret,
        "emoji": secret,
        "seq": 1,
        "id": 1,
        "track_id": 1,
        "position_ms": 1,
    }
    frame |= {"status": secret, "messages": [], "text": secret, "nonce": secret, "to": 1, "with": 1}
    assert secret not in repr(decode(json.dumps(frame)))
    with pytest.raises(Malformed) as malformed:
        decode(json.dumps(frame | {"room": [secret], "content": [secret], "ref": [secret], "data": secret}))
    assert secret not in repr(malformed.value) + malformed.value.message
