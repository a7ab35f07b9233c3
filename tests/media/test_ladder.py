"""Which renditions are made."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veza.media.ladder import beside_film, films, sound_for, tones
from veza.media.tags import tags_of


def names(**source: object) -> list[str]:
    given = {
        "codec": "mp3float",
        "lossless": False,
        "rate": 44_100,
        "channels": 2,
        "bit_rate": None,
        **source,
    }
    return [tone.name for tone in tones(**given)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ({"bit_rate": 320_000}, "aac64 aac128 aac256"),
        ({"bit_rate": 192_000}, "aac64 aac128"),
        ({"bit_rate": 127_600}, "aac64 aac128"),
        ({"bit_rate": 96_000}, "aac64"),
        ({"bit_rate": 32_000}, "aac64"),
        ({"bit_rate": 96_000, "codec": "opus"}, "aac64 aac128"),
        ({"bit_rate": None}, "aac64 aac128 aac256"),
        ({"bit_rate": 320_000, "channels": 1}, "aac64 aac128"),
        ({"lossless": True}, "aac64 aac128 aac256 flac"),
        ({"lossless": True, "channels": 6}, "aac64 aac128 aac256 flac"),
        ({"lossless": True, "rate": 8_000, "channels": 1}, "aac40 flac"),
    ],
)
def test_no_rendition_has_more_bits_than_its_source(source: dict[str, object], wanted: str) -> None:
    assert " ".join(names(**source)) == wanted


@given(
    rate=st.integers(1, 768_000),
    channels=st.integers(1, 64),
    bit_rate=st.none() | st.integers(0, 10**9),
    lossless=st.booleans(),
)
def test_there_is_always_one_that_every_player_takes(
    rate: int, channels: int, bit_rate: int | None, lossless: bool
) -> None:
    found = tones(codec="x", lossless=lossless, rate=rate, channels=channels, bit_rate=bit_rate, bits=24)
    assert found[0].codec == "aac" and len({tone.name for tone in found}) == len(found)
    for tone in found:
        assert tone.channels in (1, 2) and tone.rate <= 192_000
        if tone.codec == "aac":
            assert 8_000 <= tone.rate <= 48_000 and tone.bit_rate is not None
            assert 8_000 <= tone.bit_rate <= 6 * tone.rate * tone.channels


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ((1920, 1080), "426x240 640x360 854x480 1280x720 1920x1080"),
        ((1080, 1920), "240x426 360x640 480x854 720x1280 1080x1920"),
        ((3840, 2160), "426x240 640x360 854x480 1280x720 1920x1080"),
        ((1024, 576), "426x240 640x360 854x480 1024x576"),
        ((320, 240), "320x240"),
        ((128, 96), "128x96"),
    ],
)
def test_films_go_up_to_their_own_size(size: tuple[int, int], wanted: str) -> None:
    assert " ".join(f"{film.width}x{film.height}" for film in films(*size)) == wanted


@given(width=st.integers(2, 8192), height=st.integers(2, 8192))
def test_sides_are_even_and_names_differ(width: int, height: int) -> None:
    found = films(width, height)
    assert found and len({film.name for film in found}) == len(found)
    assert all(
        film.width % 2 == film.height % 2 == 0 and min(film.width, film.height) <= 1080 for film in found
    )


def test_the_sound_beside_a_film() -> None:
    sounds = beside_film(tones(codec="x", lossless=True, rate=48_000, channels=2, bit_rate=None))
    assert [tone.name for tone in sounds] == ["aac64", "aac128"]
    beside = [sound_for(film, sounds) for film in films(1920, 1080)]
    assert [tone.name for tone in beside if tone] == ["aac64", "aac64", "aac64", "aac128", "aac128"]
    assert sound_for(films(320, 240)[0], []) is None


def test_tags_have_one_name_each() -> None:
    assert tags_of(
        {"TITLE": " A ", "album_artist": "B", "genre": ""}, {"title": "C", "artist": "D", "GENRE": "E"}
    ) == {
        "title": "A",
        "artist": "B",
        "genre": "E",
    }
