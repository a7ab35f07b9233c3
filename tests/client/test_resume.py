"""A room's cursor: whatever order, repetition and loss messages come with, each is delivered once and in order."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from veza.client import RoomMessage
from veza.client.resume import AnyMessage, Cursor

WHEN = datetime(2026, 1, 1, tzinfo=UTC)


def message(seq: int) -> RoomMessage:
    return RoomMessage(
        id=seq, room="r", room_id=1, seq=seq, content=str(seq), message_type="text", created_at=WHEN
    )


def seqs(messages: list[AnyMessage]) -> list[int]:
    return [message.seq for message in messages]


def test_messages_in_order_go_straight_through() -> None:
    cursor = Cursor(5)
    assert seqs(cursor.offer(message(6))) == [6]
    assert seqs(cursor.offer(message(7))) == [7]
    assert cursor.missing is None


def test_a_repetition_is_dropped() -> None:
    cursor = Cursor(5)
    cursor.offer(message(6))
    assert cursor.offer(message(6)) == []
    assert cursor.offer(message(3)) == []


def test_what_comes_early_waits_for_what_is_missing() -> None:
    cursor = Cursor(5)
    assert cursor.offer(message(8)) == []
    assert cursor.missing == (6, 7)
    assert seqs(cursor.offer(message(6))) == [6]
    assert cursor.missing == (7, 7)
    assert seqs(cursor.offer(message(7))) == [7, 8]
    assert cursor.missing is None


def test_what_cannot_be_had_is_skipped_and_what_came_early_follows() -> None:
    cursor = Cursor(0)
    cursor.offer(message(5))
    cursor.offer(message(7))
    assert seqs(cursor.skip(4)) == [5]
    assert cursor.missing == (6, 6)
    assert cursor.offer(message(4)) == []


@given(st.integers(0, 20), st.lists(st.integers(1, 40), max_size=200))
def test_any_stream_is_delivered_gapless_and_without_repetition(start: int, stream: list[int]) -> None:
    cursor = Cursor(start)
    delivered: list[int] = []
    for seq in stream:
        delivered += seqs(cursor.offer(message(seq)))
        # Fetch what is missing now and then, as a connection would.
        if len(delivered) % 3 == 0 and (missing := cursor.missing):
            for lacking in range(missing[0], missing[1] + 1):
                delivered += seqs(cursor.offer(message(lacking)))
    assert delivered == list(range(start + 1, start + 1 + len(delivered)))
    assert cursor.last_seq == start + len(delivered)
    if missing := cursor.missing:
        assert missing[0] == cursor.last_seq + 1 <= missing[1]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30)), max_size=60))
def test_skipping_never_brings_anything_back(steps: list[tuple[bool, int]]) -> None:
    cursor = Cursor(0)
    delivered: list[int] = []
    for skip, seq in steps:
        delivered += seqs(cursor.skip(seq) if skip else cursor.offer(message(seq)))
    assert delivered == sorted(set(delivered))
