"""Where a broadcast may be cut: any chunking gives the same pieces, and they are due when they are heard."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.media.inputs import Inputs, tone
from veza.client.containers import SNIFFED, Piece, Unrecognised, recognise

SECONDS = 2.0
KINDS = {
    "mp3": ("mp3", "audio/mpeg", ("-c:a", "libmp3lame")),
    "aac": ("aac", "audio/aac", ("-c:a", "aac")),
    "opus": ("ogg", "audio/ogg", ("-c:a", "libopus", "-page_duration", "200000")),
    "vorbis": ("ogg", "audio/ogg", ("-c:a", "libvorbis", "-page_duration", "200000")),
    "flac": ("ogg", "audio/ogg", ("-c:a", "flac", "-page_duration", "200000")),
    "webm": ("webm", "audio/webm", ("-c:a", "libopus", "-cluster_time_limit", "200")),
    "ts": ("ts", "video/mp2t", ("-c:a", "aac", "-f", "mpegts")),
}


def media(inputs: Inputs, kind: str) -> bytes:
    extension, _, arguments = KINDS[kind]
    return Path(inputs.make(extension, *tone(SECONDS), *arguments)).read_bytes()


def cut(data: bytes, sizes: list[int]) -> list[Piece]:
    """The pieces of a medium that comes in chunks of these sizes, over and over."""
    container = recognise(data[:SNIFFED])
    assert container is not None
    pieces, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        pieces += container.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    return pieces + container.finish()


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_the_medium_and_due_when_they_are_heard(inputs: Inputs, kind: str) -> None:
    data = media(inputs, kind)
    container = recognise(data[:SNIFFED])
    assert container is not None
    pieces = container.feed(data) + container.finish()
    assert container.content_type == KINDS[kind][1]
    times = [piece.at for piece in pieces]
    assert times == sorted(times)
    assert times[0] == 0
    assert SECONDS * 0.6 < times[-1] < SECONDS * 1.1
    joined = b"".join(piece.data for piece in pieces)
    assert len(data) * 0.9 < len(joined) <= len(data)
    assert all(piece.data in data for piece in pieces[2:])
    for _ in range(3):
        sizes = [random.Random(kind).randint(1, 700) for _ in range(50)]
        assert cut(data, sizes) == pieces


def test_tags_and_covers_are_left_out(inputs: Inputs) -> None:
    data = media(inputs, "mp3")
    tag = b"ID3\x04\x00\x00" + bytes([0, 2, 0, 0]) + b"\xff\xfb\x90\x00" * 8192
    whole = cut(tag + data + b"TAG" + bytes(125), [997])
    assert whole == cut(data, [997])
    assert not any(b"Xing" in piece.data or b"Info" in piece.data for piece in whole)


def test_garbage_between_frames_is_left_out(inputs: Inputs) -> None:
    frames = [piece.data for piece in cut(media(inputs, "mp3"), [4096])]
    spoilt = b"".join(frames[:20]) + b"\xff\xfb garbage \x00" * 30 + b"".join(frames[20:])
    found = [piece.data for piece in cut(spoilt, [512])]
    assert found[:19] == frames[:19]
    assert found[-30:] == frames[-30:]


@pytest.mark.parametrize("kind", ["opus", "webm"])
def test_a_file_played_again_goes_on_with_a_header_of_its_own(inputs: Inputs, kind: str) -> None:
    data = media(inputs, kind)
    pieces = cut(data + data, [1000])
    times = [piece.at for piece in pieces]
    assert times == sorted(times)
    assert SECONDS * 1.5 < times[-1] < SECONDS * 2.2
    container = recognise(data[:SNIFFED])
    assert container is not None
    container.feed(data)
    assert container.header
    assert sum(piece.data.startswith(container.header[:4]) for piece in pieces) >= 2


@pytest.mark.parametrize(
    "data", [b"\x00" * 5000, b"RIFF\x00\x00\x00\x00WAVE" + bytes(5000), b"<html>" * 1000, b"\xff\xfb" * 3000]
)
def test_what_is_none_of_them_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(Unrecognised):
        recognise(data)
    assert recognise(data[:50]) is None


def test_mp4_is_named() -> None:
    with pytest.raises(Unrecognised, match="MP4"):
        recognise(b"\x00\x00\x00\x20ftypisom")
