"""Opens a stranger's file with FFmpeg's libraries, in a child process only: nothing here is imported by the server.

FFmpeg reads nothing but this one file (no other file, no address that it names), and only with the demuxers and
decoders of `containers.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from veza.media.containers import AUDIO_CODECS, FORMATS, PICTURE_CODECS, VIDEO_CODECS, stranger

_HEAD: Final = 4096
_STREAMS: Final = 32  # a file with more is made to be a burden
_OPTIONS: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": ",".join(FORMATS),
    "codec_whitelist": ",".join((*AUDIO_CODECS, *VIDEO_CODECS, *PICTURE_CODECS)),
    "max_streams": str(_STREAMS),
}


class Unplayable(Exception):
    """Why nothing can be made of a file, as a sentence for people."""

    @property
    def reason(self) -> str:
        return str(self)


def head_of(path: Path) -> bytes:
    """How the file begins. Raises Unplayable: it is empty."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise Unplayable("The file is empty.")
    return head


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """The file, demuxed. Raises Unplayable: it is no audio or video of a kind we take."""
    head = head_of(path)
    what = stranger(head)
    if what is not None:
        raise Unplayable(f"This is {what}, not audio or video.")
    try:
        # Tags in Latin-1 or worse are common; a wrong letter is better than no track.
        container = av.open(f"file:{path}", options=_OPTIONS, metadata_errors="replace")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise Unplayable(_why(head)) from error
    with container:
        if not container.streams.audio and not container.streams.video:
            raise Unplayable("There is neither sound nor a picture in this file.")
        yield container


def is_picture(stream: Stream) -> bool:
    """Is it a cover rather than a film?"""
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.still_image))


def sound_of(container: InputContainer) -> AudioStream | None:
    """The stream to hear: the one marked as the default, else the first. None: there is no sound.

    Raises:
        Unplayable: there is, but only with codecs that we do not take.
    """
    streams = list(container.streams.audio)
    usable = [stream for stream in streams if _decoder(stream) in AUDIO_CODECS]
    if streams and not usable:
        raise Unplayable(_refused(streams[0]))
    return next((s for s in usable if s.disposition & Disposition.default), usable[0] if usable else None)


def film_of(container: InputContainer) -> VideoStream | None:
    """The stream to see, if there is one besides a cover. Raises Unplayable likewise."""
    streams = [stream for stream in container.streams.video if not is_picture(stream)]
    usable = [stream for stream in streams if _decoder(stream) in VIDEO_CODECS]
    if streams and not usable:
        raise Unplayable(_refused(streams[0]))
    return next((s for s in usable if s.disposition & Disposition.default), usable[0] if usable else None)


def cover_of(container: InputContainer) -> VideoStream | None:
    """The picture that came with it."""
    return next((stream for stream in container.streams.video if is_picture(stream)), None)


def _decoder(stream: Stream) -> str | None:
    context: Any = stream.codec_context  # None where FFmpeg knows no decoder
    return None if context is None else str(context.name)


def _refused(stream: Stream) -> str:
    what = "sound" if stream.type == "audio" else "picture"
    return f"Its {what} is coded in a way that is not supported here: {_decoder(stream) or 'unknown'}."


def _why(head: bytes) -> str:
    if head[4:8] == b"ftyp":
        return "This MP4 file is not whole: the index of what is in it is missing."
    return "This is no audio or video file of a kind we know."
