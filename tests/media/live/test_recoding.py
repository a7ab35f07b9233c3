"""Times and sizes on their way to HLS."""

from __future__ import annotations

import pytest

from veza.media.live.recoding import AHEAD, BACK, Jump, Timeline, fitted


@pytest.mark.parametrize(
    ("size", "becomes"),
    [
        ((640, 480), (640, 480)),
        ((1920, 1080), (1280, 720)),
        ((1080, 1920), (720, 1280)),
        ((3840, 1080), (1280, 360)),
        ((641, 479), (640, 478)),
        ((1, 1), (2, 2)),
        ((0, 0), (2, 2)),
    ],
)
def test_pictures_fit_and_are_even(size: tuple[int, int], becomes: tuple[int, int]) -> None:
    assert fitted(*size) == becomes


def test_times_begin_with_the_first_picture() -> None:
    timeline = Timeline()
    timeline.start(100.0)
    timeline.start(200.0)
    assert timeline.place("video", 100.5) == 0.5
    assert timeline.place("audio", 99.9) == pytest.approx(-0.1)


@pytest.mark.parametrize("by", [AHEAD + 0.1, -BACK - 0.1, 95_000.0, -95_000.0])
def test_a_jump_of_either_is_a_jump(by: float) -> None:
    timeline = Timeline()
    timeline.start(50.0)
    timeline.place("video", 50.0)
    timeline.place("audio", 50.0)
    timeline.place("video", 51.0)
    with pytest.raises(Jump):
        timeline.place("video", 51.0 + by)
    with pytest.raises(Jump):
        timeline.place("audio", 50.0 + by)
