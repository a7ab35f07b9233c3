"""Which splitter a source needs: by what its bytes are, and only then by what it says they are.

Sources lie about their type out of carelessness (everything is `audio/mpeg`, or `application/octet-stream`); the first
bytes of a container do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .adts import AdtsSplitter
from .chunk import Splitter, Unsupported
from .frames import HEAD, tag_length
from .mp3 import Mp3Splitter

ENOUGH: Final = 64 * 1024
"""With so many first bytes `splitter_for` always decides."""

_DECLARED: Final[dict[str, Callable[[], Splitter]]] = {
    "audio/mpeg": Mp3Splitter,
    "audio/mp3": Mp3Splitter,
    "audio/x-mpeg": Mp3Splitter,
    "audio/mpeg3": Mp3Splitter,
    "audio/aac": AdtsSplitter,
    "audio/aacp": AdtsSplitter,
    "audio/x-aac": AdtsSplitter,
    "audio/adts": AdtsSplitter,
}
_NOT_LIVE: Final = {
    b"RIFF": "WAV",
    b"RF64": "WAV",
    b"fLaC": "FLAC without Ogg",
    b"FORM": "AIFF",
    b"FLV\x01": "FLV",
    b"caff": "CAF",
    b"PK\x03\x04": "a zip archive",
    b"%PDF": "a PDF document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff\xe0": "an image",
    b"<htm": "a web page",
    b"<!DO": "a web page",
}
_WELCOME: Final = "send MP3, AAC (ADTS), Ogg (Opus, Vorbis, FLAC), WebM, MPEG-TS or fragmented MP4"


def splitter_for(content_type: str | None, first_bytes: bytes) -> Splitter | None:
    """A new splitter for a source that begins with these bytes, which are to be fed to it afterwards.

    Call it with all bytes so far, each time some came, until it decides.

    Args:
        content_type: what the source declares, with or without parameters; None or nonsense is no harm.
        first_bytes: everything from the beginning on; beyond ENOUGH is not looked at.

    Returns:
        None while it cannot be told (never with ENOUGH bytes).

    Raises:
        Unsupported: these bytes are no stream that we can broadcast; the reason is told to who sends them.
    """
    first = first_bytes[:ENOUGH]
    if len(first) < HEAD:
        return None
    for magic, name in _NOT_LIVE.items():
        if first.startswith(magic):
            raise Unsupported(f"this is {name}, which cannot be listened to from the middle: {_WELCOME}")
    start = _after_tag(first)
    if start is not None:
        for candidate in (Mp3Splitter, AdtsSplitter):
            if candidate().feed(first[start:]):
                return candidate()
    declared = _DECLARED.get((content_type or "").partition(";")[0].strip().lower())
    if len(first) < ENOUGH:
        return None
    if declared is None:
        raise Unsupported(f"no known container begins here: {_WELCOME}")
    return declared()


def _after_tag(first: bytes) -> int | None:
    """Where sound begins, behind an ID3 tag if there is one; None if the tag goes on beyond these bytes."""
    start = tag_length(bytearray(first[:HEAD]), 0)
    return start if start < len(first) else None
