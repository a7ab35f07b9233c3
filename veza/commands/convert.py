"""A child of `veza stream`: makes of any file something that can be broadcast, and says what it is called.

    python -m veza.commands.convert look FILE     one line of JSON: artist, title, video
    python -m veza.commands.convert mp3 FILE      its sound as MP3 on standard output
    python -m veza.commands.convert ts FILE       its picture and sound as MPEG-TS, untouched where that can carry them

A process of its own, because decoding must not make the sending late, and because a decoder that crashes takes nobody
with it. Its last line on stderr is for people. Exit codes: 0 done, 3 this is no audio or video.
"""

import json
import os
import sys
from typing import Any, BinaryIO, Final

import av

BIT_RATE: Final = 192_000
NO_MEDIA: Final = 3
_CARRIED: Final = frozenset({"aac", "mp3", "mp2", "ac3"})  # what players expect in MPEG-TS


def main() -> int:
    what, path = sys.argv[1:]
    try:
        if what == "look":
            print(json.dumps(look(path)))
        elif what == "ts":
            to_ts(path, sys.stdout.buffer)
        else:
            to_mp3(path, sys.stdout.buffer)
    except BrokenPipeError:
        os._exit(0)  # nobody wants more of it; what is left in buffers would only fail again
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        print(f"no audio or video: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return NO_MEDIA
    return 0


def look(path: str) -> dict[str, Any]:
    """What a file says of itself."""
    with av.open(path) as source:
        tags = {name.lower(): value for name, value in source.metadata.items()}
        for stream in source.streams:
            for name, value in stream.metadata.items():
                tags.setdefault(name.lower(), value)
        # A cover is a video stream of one picture, and H.264 the only video that needs no work to be sent.
        video = any(stream.codec_context.name == "h264" for stream in source.streams.video)
        if not source.streams.audio and not video:
            raise ValueError("there is no sound in it")
        return {"artist": tags.get("artist"), "title": tags.get("title"), "video": video}


def to_mp3(path: str, out: BinaryIO) -> None:
    options = {"write_xing": "0", "id3v2_version": "0"}
    with av.open(path) as source, av.open(out, "w", format="mp3", options=options) as sink:
        sound = source.streams.audio[0]
        rate = 48_000 if sound.rate % 8_000 == 0 else 44_100
        encoder = sink.add_stream("libmp3lame", rate=rate, layout="stereo", bit_rate=BIT_RATE)
        resampler = av.AudioResampler(encoder.codec_context.format, "stereo", rate)
        for frame in source.decode(sound):
            for part in resampler.resample(frame):
                part.pts = None  # one after the other, whatever the file says
                sink.mux(encoder.encode(part))
        for part in resampler.resample(None):
            part.pts = None
            sink.mux(encoder.encode(part))
        sink.mux(encoder.encode(None))


def to_ts(path: str, out: BinaryIO) -> None:
    with av.open(path) as source, av.open(out, "w", format="mpegts") as sink:
        picture = next(stream for stream in source.streams.video if stream.codec_context.name == "h264")
        sound = source.streams.audio[0] if source.streams.audio else None
        wanted: list[Any] = [picture] if sound is None else [picture, sound]
        carried = sink.add_stream_from_template(picture)
        copied = sound is not None and sound.codec_context.name in _CARRIED
        encoded: Any = None
        if sound is not None:
            encoded = (
                sink.add_stream_from_template(sound)
                if copied
                else sink.add_stream("aac", rate=48_000, layout="stereo", bit_rate=BIT_RATE)
            )
        for packet in source.demux(wanted):
            if packet.stream is picture or copied:
                if packet.dts is not None:
                    packet.stream = carried if packet.stream is picture else encoded
                    sink.mux(packet)
            else:
                for frame in packet.decode():
                    sink.mux(encoded.encode(frame))
        if encoded is not None and not copied:
            sink.mux(encoded.encode(None))


if __name__ == "__main__":
    sys.exit(main())
