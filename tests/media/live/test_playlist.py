"""The playlist of a live stream: numbers that only grow, a window, files that are there as long as they are listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veza.media.live.playlist import PLAYLIST, STALE, STATE, Playlist


def add(playlist: Playlist, duration: float = 2.0, init: str = "i0.mp4", *, anew: bool = False) -> list[str]:
    return playlist.add(duration, init, begins_anew=anew, independent=True, time=1_000 + playlist.next_number)


def test_what_is_written() -> None:
    playlist = Playlist(2.0, 2)
    add(playlist, 2.005)
    add(playlist, 1.995)
    add(playlist, 0.5, "i2.mp4", anew=True)
    assert playlist.render(ended=True).splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:7",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-DISCONTINUITY-SEQUENCE:0",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        '#EXT-X-MAP:URI="i0.mp4"',
        "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:16:41.000Z",
        "#EXTINF:1.99500,",
        "s1.m4s",
        "#EXT-X-DISCONTINUITY",
        '#EXT-X-MAP:URI="i2.mp4"',
        "#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:16:42.000Z",
        "#EXTINF:0.50000,",
        "s2.m4s",
        "#EXT-X-ENDLIST",
    ]


@pytest.mark.parametrize(("longest", "target"), [(1.9, 2), (2.49, 2), (2.5, 3), (7.6, 8)])
def test_the_target_is_never_exceeded_and_never_shrinks(longest: float, target: int) -> None:
    playlist = Playlist(2.0, 2)
    add(playlist, longest)
    for _ in range(5):
        add(playlist, 1.0)
    assert f"#EXT-X-TARGETDURATION:{target}\n" in playlist.render()


def test_segments_that_begin_within_a_group_of_pictures_are_not_called_independent() -> None:
    playlist = Playlist(2.0, 2)
    playlist.add(2.0, "i0.mp4", begins_anew=False, independent=False, time=0)
    assert "INDEPENDENT" not in playlist.render()


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.booleans(), st.floats(0.1, 9), st.sampled_from(["add", "stop"])), max_size=40
    ),
    window=st.integers(1, 6),
)
def test_numbers_grow_and_files_stay_as_long_as_they_are_listed(
    steps: list[tuple[bool, float, str]], window: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("hls")
    playlist = Playlist(2.0, window)
    there: set[str] = set()
    init, anew, all_anew, listed_before = "", True, 0, -1
    for begins, duration, step in steps:
        if step == "stop" and playlist.segments:
            playlist.store(directory)
            playlist = Playlist.resume(directory, 2.0, window, now=playlist.end)
            anew = True
        if begins or anew:
            init = playlist.next_init
            assert init not in there
            there.add(init)
            anew = True
        there.add(f"s{playlist.next_number}.m4s")
        all_anew += anew and playlist.next_number > 0
        gone = playlist.add(duration, init, begins_anew=anew, independent=True, time=playlist.end)
        anew = False
        assert set(gone) <= there
        there -= set(gone)
        lines = playlist.render().splitlines()
        uris = {line for line in lines if not line.startswith("#")}
        uris |= {line.split('"')[1] for line in lines if line.startswith("#EXT-X-MAP")}
        assert uris <= there
        assert len(there) <= 4 * window
        first = int(next(line for line in lines if "MEDIA-SEQUENCE" in line).split(":")[1])
        assert first >= listed_before
        listed_before = first
        counted = int(next(line for line in lines if "DISCONTINUITY-SEQUENCE" in line).split(":")[1])
        assert counted + lines.count("#EXT-X-DISCONTINUITY") == all_anew


def test_who_comes_long_after_goes_on_with_the_numbers_alone(tmp_path: Path) -> None:
    playlist = Playlist(2.0, 3)
    for _ in range(5):
        (tmp_path / f"s{playlist.next_number}.m4s").write_bytes(b"")
        add(playlist)
    playlist.store(tmp_path)
    soon = Playlist.resume(tmp_path, 2.0, 3, now=playlist.end + 3)
    assert soon.segments == playlist.segments
    assert (tmp_path / PLAYLIST).exists()
    late = Playlist.resume(tmp_path, 2.0, 3, now=playlist.end + STALE * 6 + 1)
    assert late.segments == []
    assert late.next_number == 5
    assert [path.name for path in tmp_path.iterdir()] == [STATE]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"segment": "x"}', b"\xff" * 40])
def test_a_state_that_cannot_be_read_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes(content)
    assert Playlist.load(tmp_path) is None
    assert Playlist.resume(tmp_path, 2.0, 6, now=0).next_number == 0
