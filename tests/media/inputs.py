"""Media as people upload it: made by ffmpeg the first time somebody asks, then kept for all tests and later runs.

    inputs = Inputs(directory)          # or the session fixture `inputs` of tests/media/conftest.py
    inputs["mp3"]                       # the path of a named one, see `MEDIA` and `BROKEN`; never write to it
    inputs.make("mp3", *tone(3), "-b:a", "64k")      # any other, by ffmpeg's arguments (cached by them)

`ffmpeg()` is the path of a whole ffmpeg with every encoder the tests need.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import imageio_ffmpeg


@functools.cache
def ffmpeg() -> str:
    path: str = imageio_ffmpeg.get_ffmpeg_exe()
    return path


def tone(seconds: float, *, rate: int = 44_100, channels: str = "stereo") -> tuple[str, ...]:
    """Input arguments: a chord that swells, different in the two ears, at a level music has."""
    left = "0.2*sin(440*2*PI*t)*(0.6+0.4*sin(2*PI*t))+0.1*sin(659*2*PI*t)"
    if channels == "mono":
        expression = left
    elif channels == "stereo":
        expression = f"{left}|0.2*sin(554*2*PI*t)+0.05*sin(1760*2*PI*t)"
    else:  # 5.1
        expression = "|".join(f"0.1*sin({220 * n}*2*PI*t)" for n in range(1, 7))
    return ("-f", "lavfi", "-i", f"aevalsrc={expression}:s={rate}:d={seconds}:c={channels}")


def moving(seconds: float, size: str = "320x240", rate: int = 25) -> tuple[str, ...]:
    """Input arguments: a picture that moves."""
    return ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={rate}:duration={seconds}")


_PICTURE: Final = ("-f", "lavfi", "-i", "testsrc2=size=640x480:rate=1:duration=1")
_COVER: Final = ("-map", "0:a", "-map", "1:v", "-frames:v", "1", "-disposition:v", "attached_pic")
_TAGS: Final = tuple(
    word
    for tag in ("title=A Swelling Chord", "artist=The Tests", "album=Inputs", "genre=Drone", "track=1")
    for word in ("-metadata", tag)
)
_BARE: Final = ("-id3v2_version", "0", "-write_xing", "0", "-write_id3v1", "0")
_H264: Final = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25")

# Two seconds each, unless the name says otherwise: (extension, ffmpeg's arguments).
MEDIA: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "mp3": ("mp3", (*tone(2), "-b:a", "128k")),
    "mp3_320": ("mp3", (*tone(2), "-b:a", "320k")),
    "mp3_bare": ("mp3", (*tone(2), "-b:a", "128k", *_BARE)),
    "mp3_vbr": ("mp3", (*tone(2), "-q:a", "4")),
    "mp3_vbr_bare": ("mp3", (*tone(2), "-q:a", "4", *_BARE)),
    "mp3_tagged": ("mp3", (*tone(2), *_PICTURE, *_COVER, "-c:v", "mjpeg", "-b:a", "128k", *_TAGS)),
    "mp3_png_cover": ("mp3", (*tone(1), *_PICTURE, *_COVER, "-c:v", "png", "-b:a", "64k")),
    "mp3_mono_8k": ("mp3", (*tone(1, rate=8_000, channels="mono"), "-b:a", "16k")),
    "mp3_tiny": ("mp3", (*tone(0.1), "-b:a", "128k")),
    "wav": ("wav", (*tone(2), "-c:a", "pcm_s16le")),
    "wav_24": ("wav", (*tone(1), "-c:a", "pcm_s24le")),
    "wav_float": ("wav", (*tone(1), "-c:a", "pcm_f32le")),
    "wav_mono_8k": ("wav", (*tone(1, rate=8_000, channels="mono"), "-c:a", "pcm_s16le")),
    "wav_96k": ("wav", (*tone(1, rate=96_000), "-c:a", "pcm_s24le")),
    "wav_51": ("wav", (*tone(1, rate=48_000, channels="5.1"), "-c:a", "pcm_s16le")),
    "wav_tiny": ("wav", (*tone(0.1), "-c:a", "pcm_s16le")),
    "wav_silent": ("wav", ("-f", "lavfi", "-i", "anullsrc=r=44100:cl=stereo:d=1", "-c:a", "pcm_s16le")),
    "flac": ("flac", (*tone(2), "-c:a", "flac", "-sample_fmt", "s16", *_TAGS)),
    "flac_96k": ("flac", (*tone(1, rate=96_000), "-c:a", "flac", "-sample_fmt", "s32")),
    "opus": ("opus", (*tone(2, rate=48_000), "-c:a", "libopus", "-b:a", "96k", *_TAGS)),
    "vorbis": ("ogg", (*tone(2), "-c:a", "libvorbis", "-q:a", "4", *_TAGS)),
    "m4a": ("m4a", (*tone(2), "-c:a", "aac", "-b:a", "128k", *_TAGS)),
    "m4a_cover": ("m4a", (*tone(1), *_PICTURE, *_COVER, "-c:v", "mjpeg", "-c:a", "aac")),
    "alac": ("m4a", (*tone(1), "-c:a", "alac")),
    "aac": ("aac", (*tone(2), "-c:a", "aac", "-b:a", "128k", "-f", "adts")),
    "webm_audio": ("webm", (*tone(2, rate=48_000), "-c:a", "libopus", "-b:a", "96k")),
    "webm": (
        "webm",
        (*moving(2), *tone(2, rate=48_000), "-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus"),
    ),
    "mp4": ("mp4", (*moving(2), *tone(2), *_H264, "-c:a", "aac", "-b:a", "128k", *_TAGS)),
    "mp4_tall": ("mp4", (*moving(1, "240x426"), *tone(1), *_H264, "-c:a", "aac")),
    "mp4_720": ("mp4", (*moving(1, "1280x720"), *tone(1), *_H264, "-c:a", "aac")),
    "mp4_silent": ("mp4", (*moving(1), *_H264)),
    "ts": ("ts", (*moving(2), *tone(2), *_H264, "-c:a", "aac", "-f", "mpegts")),
    "aiff": ("aiff", (*tone(1), "-c:a", "pcm_s16be")),
}


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("song.txt", "la " * 1000)
    return held.getvalue()


def _lying(data: bytes) -> bytes:
    """A WAV whose header says 48 kHz, eight channels and 4 GiB of samples."""
    lying = bytearray(data)
    lying[22:24] = (8).to_bytes(2, "little")
    lying[24:28] = (48_000).to_bytes(4, "little")
    at = lying.index(b"data") + 4
    lying[at : at + 4] = b"\xf0\xff\xff\xff"
    return bytes(lying)


_HTML: Final = b"<!doctype html><html><head><title>404</title></head><body>" + b"<p>Not found</p>" * 500

# Not as they should be: (extension, how it is made of a named one's bytes, which one).
BROKEN: Final[dict[str, tuple[str, Callable[[bytes], bytes], str | None]]] = {
    "empty": ("mp3", lambda _: b"", None),
    "zip": ("mp3", lambda _: _zip(), None),
    "html": ("mp3", lambda _: _HTML, None),
    "text": ("wav", lambda _: b"this is no sound at all\n" * 400, None),
    "noise": ("mp3", lambda _: b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)), None),
    "header_only": ("wav", lambda data: data[:44], "wav"),
    "mp4_headless": ("mp4", lambda data: data[: len(data) // 2], "mp4"),  # its index is at the end
    "mp3_truncated": ("mp3", lambda data: data[: len(data) // 2 + 100], "mp3"),
    "flac_truncated": ("flac", lambda data: data[: len(data) // 2 + 100], "flac"),
    "wav_truncated": ("wav", lambda data: data[: len(data) // 2 + 101], "wav"),
    "wav_lying": ("wav", _lying, "wav"),
    "mp3_holed": ("mp3", lambda data: data[:9000] + bytes(3000) + data[12000:], "mp3"),
    "mp3_named_wav": ("wav", bytes, "mp3"),
    "wav_named_mp3": ("mp3", bytes, "wav"),
}


class Inputs:
    """A directory of media. Several processes may use it at once: each file appears whole."""

    def __init__(self, directory: Path | None = None) -> None:
        """
        Args:
            directory: where they are kept; by default one of this user in the system's temporary directory.
        """
        self.directory = directory or Path(tempfile.gettempdir()) / f"veza-test-media-{os.getuid()}"
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __getitem__(self, name: str) -> Path:
        """Raises KeyError: there is none of that name."""
        if name in MEDIA:
            extension, arguments = MEDIA[name]
            return self.make(extension, *arguments)
        extension, broken, whole = BROKEN[name]
        data = broken(self[whole].read_bytes() if whole else b"")
        path = self.directory / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}.{extension}"
        if not path.exists():
            self._put(path, data)
        return path

    def make(self, extension: str, *arguments: str) -> Path:
        """A file that ffmpeg makes with these arguments, which name its inputs and how to encode them.

        Raises:
            RuntimeError: it could not; the message is ffmpeg's.
        """
        key = hashlib.sha256("\0".join((ffmpeg(), extension, *arguments)).encode()).hexdigest()[:16]
        path = self.directory / f"{key}.{extension}"
        if path.exists():
            return path
        part = self.directory / f"{key}.{os.getpid()}.part.{extension}"
        made = subprocess.run(
            [
                ffmpeg(),
                "-v",
                "error",
                "-nostdin",
                "-y",
                *arguments,
                "-shortest",
                "-fflags",
                "+bitexact",
                str(part),
            ],
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            part.unlink(missing_ok=True)
            raise RuntimeError(f"ffmpeg {' '.join(arguments)}: {made.stderr.strip()}")
        part.replace(path)
        return path

    def _put(self, path: Path, data: bytes) -> None:
        part = path.with_suffix(f".{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(path)
