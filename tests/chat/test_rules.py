"""What may be said, and the small states a room is made of: pure code, so hypothesis looks for what breaks it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from veza.actors.ring import Ring

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
