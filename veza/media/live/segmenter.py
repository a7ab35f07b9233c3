"""Packets become fragments of MP4, fragments become the segments of a playlist.

FFmpeg's MP4 muxer decides where a fragment ends (at a key frame, or by time where there is only sound) and writes it in
one go; each fragment is a segment. Files get their name when they are whole, and are listed after that.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer

from veza.media.live.playlist import Playlist
from veza.media.splitters.boxes import boxes
from veza.media.splitters.fragment import Track, read_fragment, read_tracks

LONGEST: Final = 10.0
"""Seconds after which a segment ends even if no key frame came."""
ADRIFT: Final = 10.0
"""Seconds by which the time of day may be ahead of the sum of what was heard before it is believed instead. It never
goes back in a playlist."""
_MICROSECONDS: Final = 1_000_000


class Publisher:
    """The directory of segments, and their playlist, which goes on where an earlier one ended.

    Args:
        lead: seconds of the source that had come already when we began.
    """

    def __init__(self, directory: Path, playlist: Playlist, lead: float) -> None:
        self._directory = directory
        self._playlist = playlist
        self._time = max(time.time() - lead, playlist.end)
        self._init = ""
        self._anew = True
        self.published = 0

    @property
    def elapsed(self) -> float:
        """Seconds of all segments there ever were in this playlist: what begins anew has its times from there on, for
        some players do not expect times to go back, whatever the playlist says of it."""
        return self._playlist.elapsed

    def begin(self, init: bytes) -> None:
        """What follows has other times, and may be made of something else."""
        self._anew = True
        self._init = self._playlist.next_init
        self._write(self._init, init)
        now = time.time()
        if now - self._time > ADRIFT:
            self._time = now

    def segment(self, data: bytes, duration: float, *, independent: bool) -> None:
        """Another segment. Raises OSError."""
        playlist = self._playlist
        self._write(f"s{playlist.next_number}.m4s", data)
        gone = playlist.add(
            duration, self._init, begins_anew=self._anew, independent=independent, time=self._time
        )
        self._anew = False
        self._time += duration
        playlist.store(self._directory)
        self.published += 1
        for name in gone:
            with contextlib.suppress(OSError):
                (self._directory / name).unlink()

    def _write(self, name: str, data: bytes) -> None:
        part = self._directory / (name + ".part")
        part.write_bytes(data)
        os.replace(part, self._directory / name)


class Segmenter:
    """One muxer, from its first packet to `close`. Times go on without a jump and are never negative.

    Streams are added to `container`.
    """

    def __init__(self, publisher: Publisher, segment: float, *, video: bool) -> None:
        self._publisher = publisher
        self._written = bytearray()
        self._init = bytearray()
        self._tracks: dict[int, Track] = {}
        self.failure: OSError | None = None
        """Why the disk did not take a segment. The muxer only says that something failed."""
        wanted = round(segment * _MICROSECONDS)
        # `frag_discont`: the first fragment has the time of its first packet, be that what it may.
        flags = "delay_moov+default_base_moof+skip_trailer+frag_discont"
        options = {
            "use_editlist": "0",
            "flush_packets": "1",
            "write_tmcd": "0",
            "avoid_negative_ts": "disabled",
        }
        if video:
            # A little less than a segment: key frames that come just before the time are taken.
            options |= {"min_frag_duration": str(wanted * 9 // 10)}
            options |= {"frag_duration": str(round(max(LONGEST, segment) * _MICROSECONDS))}
            flags += "+frag_keyframe"
        else:
            options |= {"frag_duration": str(wanted)}
        self.container: OutputContainer = av.open(
            self, "w", format="mp4", options={"movflags": flags, **options}
        )

    def close(self) -> None:
        """Publish what there is as the last segment. Raises what the muxer raises."""
        self.container.close()

    def write(self, data: bytes) -> int:
        """What the muxer writes to. Raises OSError, which `failure` keeps."""
        try:
            self._take(data)
        except OSError as error:
            self.failure = error
            raise
        return len(data)

    def _take(self, data: bytes) -> None:
        self._written += data
        done = 0
        fragment = b""
        for box in boxes(self._written, 0, len(self._written)):
            content = bytes(self._written[box.start : box.end])
            if box.type == b"ftyp":
                self._init[:] = content
            elif box.type == b"moov":
                self._init += content
                self._tracks = read_tracks(content)
                self._publisher.begin(bytes(self._init))
            elif box.type == b"moof":
                fragment = content
                continue  # done with only when its data is
            elif box.type == b"mdat" and fragment:
                self._publish(fragment, content)
            done = box.end
        del self._written[:done]

    def _publish(self, moof: bytes, data: bytes) -> None:
        told = read_fragment(moof, self._tracks)
        if told is not None and told.duration:
            self._publisher.segment(moof + data, told.duration, independent=told.key)
