"""What may be said, and the small states a room is made of: pure code, so hypothesis looks for what breaks it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.actors.commands import Person
from veza.actors.errors import Refused
from veza.actors.ring import Ring
from veza.actors.roster import Roster
from veza.db.rooms import Loaded, Member, Room

STEPS = st.lists(st.tuples(st.sampled_from(["next", "next", "next", "jump", "replace"]), st.integers(0, 40)))


@given(steps=STEPS, messages=st.integers(1, 8), size=st.integers(1, 120))
def test_the_ring_is_bounded_gapless_and_replays_exactly(
    steps: list[tuple[str, int]], messages: int, size: int
) -> None:
    ring = Ring(messages, size)
    model: dict[int, bytes] = {}  # of everything since the last jump
    last = 0
    for step, n in steps:
        if step == "replace":
            frame = b"r" * n
            ring.replace(n, frame)
            if n in model:
                model[n] = frame
            continue
        last += 1 if step == "next" else 2 + n
        if step == "jump":
            model.clear()
        model[last] = b"%d" % last + b"." * n
        ring.append(last, model[last])
        assert len(ring) <= messages
        assert ring.size <= size
        held = [] if ring.first is None else list(range(ring.first, last + 1))
        assert len(ring) == len(held)
        assert ring.size == sum(len(model[seq]) for seq in held)
        for since in range(max(0, last - 10), last):
            frames = ring.after(since, last)
            if since + 1 in held:
                assert frames == [model[seq] for seq in range(since + 1, last + 1)]
            else:
                assert frames is None
        assert ring.after(last, last) == []


def roster(*names: str) -> Roster:
    """Members 1, 2, … of these names."""
    room = Room(1, "public", "r", None, None, None, 60, 0, 0, len(names), datetime.now(UTC))
    return Roster(Loaded(room, [Member(i, name, "member", 0) for i, name in enumerate(names, 1)], []))


def test_a_refused_post_lifts_its_own_pause_and_no_other() -> None:
    members, ann = roster("ann"), Person(1, "ann")
    members.slow_down(ann, 60, 100.0, "a")
    members.take_back(1, "an older one")
    with pytest.raises(Refused):
        members.slow_down(ann, 60, 101.0, "b")
    members.take_back(1, "a")
    members.slow_down(ann, 60, 101.0, "b")
    # The same nonce twice, one refused (it answers nothing), one stored: the pause after that stays.
    members.slow_down(ann, 60, 101.1, "b")
    members.take_back(1, "b")
    with pytest.raises(Refused):
        members.slow_down(ann, 60, 102.0, "c")
    members.take_back(1, "b")
    members.slow_down(ann, 60, 102.0, "c")


def test_people_who_exchange_their_names_are_mentioned_by_the_new_ones() -> None:
    members = roster("ann", "bob")
    members.rename(1, "bob")  # bob is zoe by now, but news of ann came first
    members.rename(2, "zoe")
    assert members.mentions("@bob") == [1] and members.mentions("@zoe") == [2]
    assert members.mentions("@ann") is None
    members.drop(2)
    assert members.mentions("@bob @zoe") == [1]
