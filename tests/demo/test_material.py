"""What the demonstration is made of fits together: names, times, sounds, pictures."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import av
import pytest
from PIL import Image, ImageStat

from tests.cli.conftest import ROOT
from veza.commands.demo import running
from veza.commands.demo.faces import face
from veza.commands.demo.people import ANNOUNCER, PEOPLE, SHOWN
from veza.commands.demo.pieces import PIECES
from veza.commands.demo.sounds import play
from veza.commands.demo.talk import LETTERS, NOW_AND_THEN, TALK
from veza.commands.demo.things import LISTED
from veza.commands.demo.trade import BIDS, COMMENTS, LIKES, PLAYLISTS, REPOSTS, WARES
from veza.errors import Problem

NAMES = {person.username for person in PEOPLE}
KEYS = {ware.key: ware for ware in WARES}
TITLES = {piece.name for piece in PIECES}


def test_everybody_who_is_named_is_there() -> None:
    assert len(NAMES) == len(PEOPLE)
    assert {*SHOWN, ANNOUNCER} <= NAMES
    for person in PEOPLE:
        assert set(person.follows) <= NAMES - {person.username}
    for talk in TALK:
        speakers = {who for _, who, _ in talk.lines}
        assert speakers <= NAMES
        for _, who, what in talk.lines:
            assert len(speakers - {who}) >= len(what.partition(" | ")[2].replace("\ufe0f", "")), what
    for letters in LETTERS:
        assert {who for _, who, _ in letters.lines} == set(letters.between) <= NAMES
    assert {room for room, _, _ in NOW_AND_THEN} <= {talk.room for talk in TALK}
    assert {who for _, who, _ in NOW_AND_THEN} <= NAMES


def test_trade_can_come_about() -> None:
    assert len(KEYS) == len(WARES) >= 12
    assert len({ware.category for ware in WARES}) >= 8
    schema = (ROOT / "schema.sql").read_text(encoding="utf-8")
    for ware in WARES:
        assert f"('{ware.category}', " in schema
        assert ware.owner in NAMES
        assert ware.drawing in LISTED
        assert set(ware.loved_by) <= NAMES - {ware.owner}
    gone: set[str | None] = set()
    for bid in sorted(BIDS, key=lambda bid: -bid.hours_ago):
        assert bid.ware not in gone and bid.swap not in gone
        assert bid.buyer in NAMES - {KEYS[bid.ware].owner}
        assert bid.hours_ago < KEYS[bid.ware].hours_ago
        assert bid.swap is None or KEYS[bid.swap].owner == bid.buyer
        assert (bid.counter is not None) == (bid.becomes == "countered")
        if bid.becomes == "accepted":
            gone |= {bid.ware, bid.swap or bid.ware}
    assert {bid.becomes for bid in BIDS} == {"pending", "countered", "accepted", "rejected", "withdrawn"}
    assert set(LIKES) == TITLES == {piece for piece, *_ in COMMENTS}
    assert {piece for _, piece in REPOSTS} <= TITLES
    assert {piece for *_, pieces in PLAYLISTS for piece in pieces} <= TITLES
    for piece in PIECES:
        assert piece.by in NAMES - set(LIKES[piece.name])


def test_pictures_are_pictures_and_none_is_like_another() -> None:
    seen = set()
    drawn = [(name, draw()) for name, draw in LISTED.items()] + [
        (person.username, face(person.looks)) for person in PEOPLE
    ]
    for name, data in drawn:
        image = Image.open(io.BytesIO(data))
        image.load()
        assert min(image.size) >= 256, name
        assert max(ImageStat.Stat(image.convert("L")).stddev) > 15, f"there is nothing on it: {name}"
        seen.add(hash(data))
    assert len(seen) == len(drawn)
    assert LISTED["piano"]() == LISTED["piano"](), "the same every time"


def test_pieces_are_played_into_files(tmp_path: Path) -> None:
    for piece in PIECES:
        file = play(piece, tmp_path, 2)
        with av.open(str(file)) as source:
            sound = source.streams.audio[0]
            assert (sound.codec_context.name.removesuffix("float"), sound.channels) == (
                {"mp3": "mp3", "flac": "flac", "ogg": "opus"}[piece.kind],
                2,
            )
            frames = list(source.decode(sound))
        assert sum(frame.samples for frame in frames) / sound.rate > 3
        loud = max(max(map(abs, memoryview(bytes(frame.planes[0])[:512]).cast("b"))) for frame in frames)
        assert loud > 10, f"{piece.name} is silent"


def test_the_child_says_what_is_ready(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", running.PLAYING, str(tmp_path), "1", "1"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line) == {"name": PIECES[0].name, "file": str(tmp_path / f"{PIECES[0].name}.mp3")}


def test_what_was_left_half_done_begins_anew(tmp_path: Path) -> None:
    data = tmp_path / "veza-demo"
    (data / "demo").mkdir(parents=True)
    running._keep(data / "server-elsewhere.json", running.State("another"))
    first = running._prepare(data)
    (data / "media").mkdir()
    (data / "media" / "half").write_text("…")
    second = running._prepare(data)
    assert second.password != first.password
    assert not (data / "media").exists()
    assert (data / "server-elsewhere.json").exists()
    running._keep(data / "demo.json", running.State(second.password, True))
    (data / "media").mkdir()
    assert running._prepare(data) == running.State(second.password, True)
    assert (data / "media").exists()
    assert second.password not in repr(second)
    (data / "demo.json").write_text("{")
    with pytest.raises(Problem, match="cannot be read"):
        running._prepare(data)


def test_what_is_somebody_elses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(Problem, match="something else"):
        running._prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    (tmp_path / ".env").write_text(
        "DATABASE_URL=postgresql://precious\nDB_HOST=precious\nSMTP_HOST=mail\nPORT=1234\n"
    )
    monkeypatch.setenv("VEZA_DATA", "/precious")
    settings = running._settings(None, None, None)
    assert (settings.database_url, settings.smtp_host, settings.port) == (None, None, 1234)
    assert settings.data == Path(running.DIRECTORY)
    (tmp_path / ".env").write_text("ENVIRONMENT=production\n")
    with pytest.raises(Problem, match="production"):
        running._settings(None, None, None)
