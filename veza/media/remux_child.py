"""FLV on standard input, MPEG-TS on standard output, as it comes: the same sound and pictures, wrapped otherwise.

Started by `remux.py`, never imported by the server. It ends when its input does.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from typing import Any, Final

MEMORY: Final = 1024 * 1024 * 1024  # bytes of address space
NICE: Final = 5
# Sound and pictures begin with what describes them, so there is no need to look far.
_LOOK: Final = {"probesize": "500000", "analyzeduration": "1000000"}
_WRITE: Final = {
    "flush_packets": "1",
    "mpegts_flags": "+pat_pmt_at_frames",
    "muxpreload": "0",
    "muxdelay": "0",
}
_ANNEX_B: Final = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_CARRIED: Final = frozenset({"h264", "hevc", "aac", "mp3"})


def confine() -> None:
    """Take no more than this from the machine, write no files, and leave the terminal's Ctrl-C to the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for what, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(what, (most, most))
    with contextlib.suppress(OSError):
        os.nice(NICE)


def main() -> int:
    confine()
    import av
    from av.bitstream import BitStreamFilterContext

    av.logging.set_level(None)
    try:
        with (
            os.fdopen(0, "rb", buffering=0) as stdin,
            os.fdopen(1, "wb", buffering=0) as stdout,
            av.open(stdin, "r", format="flv", container_options=_LOOK) as source,
            av.open(stdout, "w", format="mpegts", options=_WRITE) as target,
        ):
            streams: dict[int, tuple[Any, Any]] = {}
            for stream in source.streams:
                name = stream.codec_context.name
                if name in _CARRIED:
                    filtered = BitStreamFilterContext(_ANNEX_B[name], stream) if name in _ANNEX_B else None
                    streams[stream.index] = target.add_stream_from_template(stream), filtered
            if not streams:
                print("no H.264 and no AAC in it", file=sys.stderr)
                return 3
            for packet in source.demux():
                if packet.dts is None or packet.stream_index not in streams:
                    continue
                copied, filtered = streams[packet.stream_index]
                for each in (packet,) if filtered is None else filtered.filter(packet):
                    each.stream = copied
                    target.mux_one(each)
    except (av.FFmpegError, ValueError, BrokenPipeError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
