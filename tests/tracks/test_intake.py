"""A finished file becomes a track, or is where it was: whatever the database and the disk do."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import trio

from veza.actors.track_intake import TooManyTracks, take_in
from veza.db.errors import OutcomeUnknown, Unavailable
from veza.media.checking import Checked
from veza.media.library import Library

CHECKED = Checked(kind="audio", extension="mp3", content_type="audio/mpeg", duration_ms=None)


class Books:
    """A database that says or does one thing, and what it was told."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.told: list[Any] = []
        self.cancel: trio.CancelScope | None = None

    async def write(self, unit: Any, *args: Any) -> Any:
        self.told.append(args[0])
        if self.cancel is not None:
            self.cancel.cancel()
        await trio.lowlevel.checkpoint()
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path)
    made.prepare()
    return made


@pytest.fixture
def arrived(library: Library) -> Path:
    path = library.incoming / "arrived"
    path.write_bytes(b"a song")
    return path


def held(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


async def take(books: Any, library: Library, path: Path, processing: Any = None) -> Any:
    return await take_in(books, library, processing, owner_id=1, path=path, checked=CHECKED, title="Song")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Unavailable("away"), Unavailable), (None, TooManyTracks), (OSError(5, "I/O"), OSError)],
)
async def test_what_fails_leaves_the_file_where_it_was(
    library: Library,
    arrived: Path,
    monkeypatch: pytest.MonkeyPatch,
    outcome: Any,
    error: type[Exception],
    links: bool,
) -> None:
    if not links:

        def refuse(self: Path, target: Path) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(error):
        await take(Books(outcome), library, arrived)
    assert held(arrived) == b"a song" and not list(library.tracks.iterdir())


async def test_an_unknown_outcome_leaves_both(library: Library, arrived: Path) -> None:
    books = Books(OutcomeUnknown("cut"))
    with pytest.raises(OutcomeUnknown):
        await take(books, library, arrived)
    assert held(library.original(books.told[0].name, "mp3")) == b"a song" == held(arrived)


class Track:
    id, kind, size = 1, "audio", 6


class Processing:
    woken = 0

    def wake(self) -> None:
        self.woken += 1


async def test_once_begun_it_goes_on_to_its_end(library: Library, arrived: Path) -> None:
    books, processing = Books(Track()), Processing()
    with trio.CancelScope() as books.cancel:
        await take(books, library, arrived, processing)
    assert processing.woken == 1 and held(arrived) is None
    assert books.told[0].size == 6
    assert held(library.original(books.told[0].name, "mp3")) == b"a song"
