"""A live media playlist (RFC 8216): a window that slides over numbered segments, and what goes on after a restart.

Pure but for `load` and `store`, which keep it in the directory of the segments: `index.m3u8` for players, and the
same as `playlist.json` for who goes on after us. Numbers only ever grow, whoever is killed when.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import msgspec

PLAYLIST: Final = "index.m3u8"
STATE: Final = "playlist.json"
STALE: Final = 2
"""Windows. What ended longer ago is nobody's any more."""


class Segment(msgspec.Struct, frozen=True):
    """One file of sound or picture."""

    number: int
    duration: float
    """Seconds."""
    init: str
    """The file that says what it is made of."""
    begins_anew: bool
    """Its times and codecs do not continue those of the segment before."""
    independent: bool
    """It begins with a picture that stands on its own (sound always does)."""
    time: float
    """When what it begins with was heard, as a POSIX time stamp."""

    @property
    def file(self) -> str:
        return f"s{self.number}.m4s"


class Playlist(msgspec.Struct):
    """The segments that are there.

    Args:
        segment: how long one should be, in seconds.
        window: how many are listed. As many again stay on disk behind them, for players who are late (RFC 8216
            section 6.2.2).
    """

    segment: float
    window: int
    next_number: int = 0
    anew_before: int = 0
    """How many segments before the listed ones began anew (EXT-X-DISCONTINUITY-SEQUENCE)."""
    longest: float = 0.0
    elapsed: float = 0.0
    """Seconds of all segments there ever were."""
    segments: list[Segment] = msgspec.field(default_factory=list)
    kept: list[Segment] = msgspec.field(default_factory=list)
    """Those no longer listed."""

    def add(
        self, duration: float, init: str, *, begins_anew: bool, independent: bool, time: float
    ) -> list[str]:
        """List another segment, whose file is there.

        Returns:
            Names of files that nobody needs any more.
        """
        self.segments.append(
            Segment(self.next_number, duration, init, begins_anew and self.next_number > 0, independent, time)
        )
        self.next_number += 1
        self.longest = max(self.longest, duration)
        self.elapsed += duration
        while len(self.segments) > self.window:
            self._unlist()
        gone = self.kept[: max(0, len(self.kept) - self.window)]
        return self._forget(len(gone))

    def drop_all(self) -> list[str]:
        """List nothing any more: what was is too old. Returns names of files that nobody needs any more."""
        while self.segments:
            self._unlist()
        return self._forget(len(self.kept))

    def _unlist(self) -> None:
        first = self.segments.pop(0)
        self.anew_before += first.begins_anew
        self.kept.append(first)

    def _forget(self, count: int) -> list[str]:
        gone = self.kept[:count]
        del self.kept[:count]
        needed = {segment.init for segment in (*self.kept, *self.segments)}
        inits = dict.fromkeys(segment.init for segment in gone if segment.init not in needed)
        return [*(segment.file for segment in gone), *inits]

    @property
    def next_init(self) -> str:
        """A name that no other header has."""
        return f"i{self.next_number}.mp4"

    @property
    def end(self) -> float:
        """When the newest segment ended, as a POSIX time stamp; 0 if there is none."""
        return self.segments[-1].time + self.segments[-1].duration if self.segments else 0.0

    def render(self, *, ended: bool = False) -> str:
        """The text of `index.m3u8`. `ended`: no more will come."""
        first = self.segments[0].number if self.segments else self.next_number
        # A player may round durations: the target must not be exceeded by what comes of that (section 4.3.3.1).
        target = max(math.ceil(self.segment - 0.01), math.floor(self.longest + 0.5), 1)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:7",
            f"#EXT-X-TARGETDURATION:{target}",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
            f"#EXT-X-DISCONTINUITY-SEQUENCE:{self.anew_before}",
        ]
        if all(segment.independent for segment in self.segments):
            lines.append("#EXT-X-INDEPENDENT-SEGMENTS")
        init = ""
        for segment in self.segments:
            if segment.begins_anew:
                lines.append("#EXT-X-DISCONTINUITY")
            if segment.init != init:
                init = segment.init
                lines.append(f'#EXT-X-MAP:URI="{init}"')
            time = datetime.fromtimestamp(segment.time, UTC).isoformat(timespec="milliseconds")
            lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{time.replace('+00:00', 'Z')}")
            lines += [f"#EXTINF:{segment.duration:.5f},", segment.file]
        if ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join(lines) + "\n"

    def store(self, directory: Path, *, ended: bool = False) -> None:
        """Write it, so that a reader sees the one before or this one. Raises OSError."""
        _put(directory / STATE, msgspec.json.encode(self))
        _put(directory / PLAYLIST, self.render(ended=ended).encode())

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        """What was stored here; None if nothing was, or nothing that can be read."""
        try:
            return msgspec.json.decode((directory / STATE).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError):
            return None

    @classmethod
    def resume(cls, directory: Path, segment: float, window: int, *, now: float) -> Self:
        """What goes on here. Segments that nobody waits for any more are removed, and the playlist with them: who
        comes then waits for a new one instead of hearing what was long ago. Raises OSError."""
        playlist = cls.load(directory)
        if playlist is None:
            return cls(segment, window)
        playlist.segment, playlist.window = segment, window
        if now - playlist.end > STALE * window * segment:
            (directory / PLAYLIST).unlink(missing_ok=True)
            for name in playlist.drop_all():
                (directory / name).unlink(missing_ok=True)
        return playlist


def _put(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
