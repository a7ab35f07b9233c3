"""The child that makes live HLS of one source: container bytes on standard input, segments and playlist in a directory.

Started by `live_hls.py`, never imported by the server: what decodes a stranger's bytes has its own process, little
memory and a low priority. It ends when its input does, when its parent does, or when nothing can be made of what comes;
whatever it published stays, and the next one goes on from there.

Arguments: directory, content type, seconds of a segment, segments of the window.
Exit codes: 0 the input ended; 1 the disk does not take it; 3 nothing can be made of it. Standard error tells why.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final

MEMORY: Final = 2 * 1024 * 1024 * 1024  # bytes of address space; encoders of pictures have threads
FILE: Final = 256 * 1024 * 1024  # bytes of a file, the longest segment of the best picture among them
NICE: Final = 5
FAILURES: Final = 20  # runs in a row of which nothing could be made
GATHER: Final = 0.05  # seconds without more after which all that was there already has come
GATHER_MOST: Final = 1.0


def confine() -> None:
    """Take no more than this from the machine, and leave the terminal's Ctrl-C to the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE, FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(NICE)


def main() -> int:
    directory, content_type, segment, window = sys.argv[1:]
    confine()
    # Only now, within bounds: these bring FFmpeg along.
    import av

    from veza.media.live.feed import READ, Feed, Unsupported
    from veza.media.live.making import NothingToHear, make
    from veza.media.live.playlist import Playlist
    from veza.media.live.segmenter import Publisher

    av.logging.set_level(None)
    feed = Feed(lambda: os.read(sys.stdin.fileno(), READ), content_type)
    feed.gather(lambda: _readable(GATHER), time.monotonic() + GATHER_MOST, time.monotonic)
    playlist = Playlist.resume(Path(directory), float(segment), int(window), now=time.time())
    publisher = Publisher(Path(directory), playlist, sum(chunk.duration or 0.0 for chunk in feed.ready()))
    failures = 0
    why = ""
    try:
        while (run := feed.run()) is not None:
            before = publisher.published
            try:
                make(run, publisher, float(segment))
            except (av.FFmpegError, NothingToHear, ValueError) as error:
                why = f"{type(error).__name__}: {error}"
            except OSError as error:
                print(error, file=sys.stderr)
                return 1
            failures = 0 if publisher.published > before else failures + 1
            if failures >= FAILURES:
                print(f"nothing can be made of this source: {why}", file=sys.stderr)
                return 3
    except Unsupported as error:
        print(error.reason, file=sys.stderr)
        return 3
    return 0


def _readable(seconds: float) -> bool:
    return bool(select.select([sys.stdin], [], [], seconds)[0])


if __name__ == "__main__":
    sys.exit(main())
