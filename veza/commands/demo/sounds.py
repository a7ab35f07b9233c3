"""A child of `veza demo`: plays the pieces into files, one line of JSON on standard output for each that is done.

    python -m veza.commands.demo.sounds DIRECTORY PIECES BARS

A process of its own: playing takes a whole processor for a moment, and the server has better things to do with its own.
The MP3s carry no tags, so that one can be sent behind the other as if they were one file: the radio does so.
"""

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import av.filter

from veza.commands.demo.instruments import RATE, Sheet
from veza.commands.demo.pieces import PIECES, Piece

_HEARD: Final = 44_100
# The codec, its bit rate, and how to be quick about it. From these bit rates a server makes one rendition, not two.
_CODECS: Final = {
    "mp3": ("libmp3lame", 112_000, {"compression_level": "9"}),
    "flac": ("flac", None, {"compression_level": "2"}),
    "ogg": ("libopus", 64_000, {"compression_level": "3"}),
}


def main() -> int:
    directory, pieces, bars = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for piece in PIECES[:pieces]:
        file = play(piece, directory, min(bars, piece.bars))
        print(json.dumps({"name": piece.name, "file": str(file)}), flush=True)
    return 0


def play(piece: Piece, directory: Path, bars: int) -> Path:
    """Write a piece, or as many bars of it, to a file."""
    file = directory / f"{piece.name}.{piece.kind}"
    _write(file, piece.kind, _in_a_room(piece.play(bars), piece))
    return file


def _in_a_room(sheet: Sheet, piece: Piece) -> Iterator[Any]:
    """One channel of dry samples becomes two in a room, and fades at its end. Yields frames."""
    samples, peak = sheet.samples()
    seconds = len(samples) / 4 / RATE
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_abuffer(
            sample_rate=RATE, format="flt", layout="mono", time_base=Fraction(1, RATE), name="dry"
        ),
        graph.add("volume", f"{piece.loud / (peak or 1.0):.4f}"),
        graph.add("aecho", piece.echo),
        graph.add("aformat", f"sample_fmts=flt:channel_layouts=stereo:sample_rates={_HEARD}"),
        graph.add("stereowiden", "delay=14:feedback=0.1:crossfeed=0.2:drymix=0.9"),
        graph.add("afade", f"t=out:st={max(0.0, seconds - 1.2):.2f}:d=1.2"),
        graph.add("alimiter", "limit=0.9:level=false"),
        graph.add("aformat", "sample_fmts=s16"),
        graph.add("abuffersink"),
    ).configure()
    for start in range(0, len(samples) // 4, RATE):
        data = samples[4 * start : 4 * (start + RATE)]
        frame = av.AudioFrame(format="flt", layout="mono", samples=len(data) // 4)
        frame.planes[0].update(data.ljust(frame.planes[0].buffer_size, b"\0"))
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        graph.push(frame)
        yield from _pull(graph)
    graph.push(None)
    yield from _pull(graph)


def _pull(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return


def _write(path: Path, kind: str, frames: Iterator[Any]) -> None:
    codec, bit_rate, speed = _CODECS[kind]
    rate = 48_000 if kind == "ogg" else _HEARD
    options = {"write_xing": "0", "id3v2_version": "0"} if kind == "mp3" else {}
    with av.open(str(path), "w", format=kind, options=options) as sink:
        stream: Any = sink.add_stream(codec, rate=rate, layout="stereo", options=speed)
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        resampler = av.AudioResampler(stream.codec_context.format, "stereo", rate)
        for frame in [*frames, None]:
            for part in resampler.resample(frame):
                part.pts = None
                sink.mux(stream.encode(part))
        sink.mux(stream.encode(None))


if __name__ == "__main__":
    sys.exit(main())
