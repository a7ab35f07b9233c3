"""How a finished file becomes a track: uploads, resumable uploads and recordings all come through here.

First the file is made durable and gets its final place, then one transaction stores the row and its processing job, and
only then does its first name go. So a row never lacks its file, whoever brought it has it still when anything fails,
and files whose row was never stored are found by `sweep` once nobody can be at work on them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID

import trio

from veza import log
from veza.db import tracks
from veza.db.errors import OutcomeUnknown
from veza.db.pool import Database
from veza.db.tracks import NewTrack, Track
from veza.disk import sync_directory
from veza.media.library import NAME, Library

_log = log.get("tracks")

NAME_BYTES: Final = 12  # of a public name: 96 random bits, 16 characters
ORPHAN_AGE: Final = 3600.0  # seconds after which files without a row are nobody's
_SWEEP_BATCH: Final = 500
# File systems without hard links (some network and FAT ones) say it so; there the file is renamed, and back if need be.
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Content(Protocol):
    """What a file turned out to be: `veza.media.checking.Checked`, or what a recording knows of itself."""

    @property
    def kind(self) -> str: ...
    @property
    def extension(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def duration_ms(self) -> int | None: ...


class Waking(Protocol):
    """What of processing counts here."""

    def wake(self) -> None:
        """There is a new job; called after its commit."""
        ...


class Processing(Waking, Protocol):
    """What of processing counts for those who own tracks."""

    def cancel(self, track_id: int) -> None:
        """The track is gone: whoever works on it need not."""
        ...


class TooManyTracks(Exception):
    """This person has as many tracks as one may have; nothing was stored."""


async def take_in(
    db: Database,
    library: Library,
    processing: Waking | None,
    *,
    owner_id: int,
    path: Path,
    checked: Content,
    title: str,
    artist: str | None = None,
    album: str | None = None,
    genre: str | None = None,
    description: str | None = None,
    tags: Iterable[str] = (),
    is_public: bool = True,
    filename: str | None = None,
    stream_id: int | None = None,
    most: int | None = None,
    upload_id: UUID | None = None,
    recording_id: int | None = None,
) -> Track:
    """Make a track of the file at `path`, which is moved; it must lie on the library's file system.

    Once begun it goes on to its end, cancelled or not. When an error leaves here, the file is still at `path`; after
    OutcomeUnknown the track may exist all the same.

    Args:
        title, artist, …: checked already; they fit the schema.
        most: tracks this person may have.
        upload_id: the resumable upload that ends here; the same transaction says what became of it.
        recording_id: the recording of a stream that this is; likewise.

    Raises:
        TooManyTracks: he has `most`.
        AlreadyKept: the recording is a track already, or gone.
        OSError: the file could not be made durable (ENOSPC among others).
        DatabaseError: see `veza.db.errors`.
    """
    name = secrets.token_urlsafe(NAME_BYTES)
    track: Track | None = None
    with trio.CancelScope(shield=True):
        try:
            size = await trio.to_thread.run_sync(_place, library, path, name, checked.extension)
            new = NewTrack(
                owner_id=owner_id,
                name=name,
                title=title,
                artist=artist,
                album=album,
                genre=genre,
                description=description,
                tags=tuple(tags),
                is_public=is_public,
                kind=checked.kind,
                filename=filename,
                extension=checked.extension,
                content_type=checked.content_type,
                size=size,
                duration_ms=checked.duration_ms,
                stream_id=stream_id,
            )
            track = await db.write(tracks.create, new, most, upload_id, recording_id)
        except OutcomeUnknown:
            raise
        except BaseException:
            await trio.to_thread.run_sync(_take_back, library, path, name, checked.extension)
            raise
        if track is None:
            await trio.to_thread.run_sync(_take_back, library, path, name, checked.extension)
        else:
            await trio.to_thread.run_sync(partial(path.unlink, missing_ok=True))
    if track is None:
        raise TooManyTracks
    if processing is not None:
        processing.wake()
    _log.info("track", track_id=track.id, owner_id=owner_id, kind=track.kind, size=track.size)
    return track


async def sweep(db: Database, library: Library, older_than: float = ORPHAN_AGE) -> int:
    """Remove the files of tracks that no row names: of accounts deleted, of commits that never were. How many went.

    Args:
        older_than: seconds for which nobody must have touched them; younger ones may be about to get their row.

    Raises:
        DatabaseError: the database cannot be asked; nothing is removed then.
    """
    gone = 0
    names = await trio.to_thread.run_sync(_old_names, library, older_than)
    for start in range(0, len(names), _SWEEP_BATCH):
        batch = names[start : start + _SWEEP_BATCH]
        known = await db.read(tracks.known_names, batch)
        for name in batch:
            if name not in known:
                await trio.to_thread.run_sync(library.remove_track, name)
                gone += 1
    return gone


def _place(library: Library, path: Path, name: str, extension: str) -> int:
    """Make the file durable and give it its final name beside the one it has; its size."""
    target = library.original(name, extension)
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(file)
        size = os.fstat(file).st_size
    finally:
        os.close(file)
    target.parent.mkdir(mode=0o700)
    try:
        target.hardlink_to(path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        path.rename(target)
    for directory in (target.parent, library.tracks):
        sync_directory(directory)
    return size


def _take_back(library: Library, path: Path, name: str, extension: str) -> None:
    """Undo `_place`, as far as it came."""
    if not path.exists():
        with contextlib.suppress(FileNotFoundError):
            library.original(name, extension).rename(path)
    library.remove_track(name)


def _old_names(library: Library, older_than: float) -> list[str]:
    found = []
    newest = time.time() - older_than
    with os.scandir(library.tracks) as entries:
        for entry in entries:
            ours = NAME.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            if ours and entry.stat(follow_symlinks=False).st_mtime < newest:
                found.append(entry.name)
    return found
