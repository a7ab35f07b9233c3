"""Where the bytes of media lie: one directory a track, one a live stream, below `media/` in the data directory.

Every path here is made of names that the database gave (checked again), never of anything a request holds. What is
written is written under another name first and renamed when it is whole, so that whatever has its final name is whole.

    media/incoming/           uploads under way; emptied at start
    media/resumable/ID        resumable uploads; their length is how far they are
    media/tracks/NAME/        original.EXT  peaks.json  cover.webp  hls/master.m3u8 …
    media/avatars/ID/         SIZE-HASH.webp
    media/listings/ID/        SIZE-HASH.webp
    media/recordings/ID/      what was recorded of a stream, until a track is made of it
    media/live/SLUG/          live HLS; gone when the stream is
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_EXTENSION: Final = re.compile(r"[a-z0-9]{1,8}")


class Library:
    """The directories. Made once, by `prepare`; all methods are pure but that one and those that remove."""

    def __init__(self, data: Path) -> None:
        self.root = data.resolve() / "media"
        self.incoming = self.root / "incoming"
        self.resumable = self.root / "resumable"
        self.tracks = self.root / "tracks"
        self.avatars = self.root / "avatars"
        self.listings = self.root / "listings"
        self.recordings = self.root / "recordings"
        self.live = self.root / "live"

    def prepare(self) -> None:
        """Make what is missing; remove what an earlier process left half done. Blocks.

        Raises:
            OSError: the data directory cannot be written.
        """
        shutil.rmtree(self.incoming, ignore_errors=True)
        shutil.rmtree(self.live, ignore_errors=True)
        for directory in (
            self.root,
            self.incoming,
            self.resumable,
            self.tracks,
            self.avatars,
            self.listings,
            self.recordings,
            self.live,
        ):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def track(self, name: str) -> Path:
        """A track's directory. Raises ValueError: that is no name."""
        return self.tracks / checked(name)

    def original(self, name: str, extension: str) -> Path:
        """The file as it was uploaded."""
        if not _EXTENSION.fullmatch(extension):
            raise ValueError(f"no extension: {extension!r}")
        return self.track(name) / f"original.{extension}"

    def peaks(self, name: str) -> Path:
        return self.track(name) / "peaks.json"

    def cover(self, name: str) -> Path:
        return self.track(name) / "cover.webp"

    def hls(self, name: str) -> Path:
        """The directory of a track's renditions; `master.m3u8` in it is their list."""
        return self.track(name) / "hls"

    def remove_track(self, name: str) -> None:
        """Remove all of a track's files; nothing happens if there are none. Blocks."""
        shutil.rmtree(self.track(name), ignore_errors=True)

    def stream(self, slug: str) -> Path:
        """The directory of a stream's live HLS."""
        return self.live / checked(slug)

    def recordings_of(self, stream_id: int) -> Path:
        return self.recordings / str(int(stream_id))

    def remove_recordings(self, stream_id: int) -> None:
        """Remove what was recorded of a stream; nothing happens if there is nothing. Blocks."""
        shutil.rmtree(self.recordings_of(stream_id), ignore_errors=True)


def checked(name: str) -> str:
    """The name itself. Raises ValueError unless it is `[A-Za-z0-9_-]{1,64}`."""
    if not NAME.fullmatch(name):
        raise ValueError("no name of ours")
    return name
