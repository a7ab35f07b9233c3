"""Which splitter a source needs: by what its bytes are, and only then by what it says they are.

Sources lie about their type out of carelessness (everything is `audio/mpeg`, or `application/octet-stream`); the first
bytes of a container do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from veza.media.splitters.adts import AdtsSplitter
from veza.media.splitters.chunk import Splitter, Unsupported
from veza.media.splitters.frames import HEAD, FrameSplitter, tag_length
from veza.media.splitters.mp3 import Mp3Splitter
from veza.media.splitters.mp4 import Mp4Splitter, never_live
from veza.media.splitters.ogg import MAGIC as OGG
from veza.media.splitters.ogg import OggSplitter
from veza.media.splitters.ts import PACKET, SYNC, SYNCED, TsSplitter
from veza.media.splitters.webm import EBML, WebmSplitter

ENOUGH: Final = 64 * 1024
"""With so many first bytes `splitter_for` always decides."""
SEARCHED: Final = 4 * 1024
"""With so many it looks for a container behind garbage."""

_DECLARED: Final[dict[str, Callable[[], Splitter]]] = {
    **dict.fromkeys(("audio/mpeg", "audio/mp3", "audio/x-mpeg", "audio/mpeg3"), Mp3Splitter),
    **dict.fromkeys(("audio/aac", "audio/aacp", "audio/x-aac", "audio/adts"), AdtsSplitter),
    **dict.fromkeys(("audio/ogg", "application/ogg", "video/ogg", "audio/opus"), OggSplitter),
    **dict.fromkeys(("audio/webm", "video/webm", "audio/x-matroska", "video/x-matroska"), WebmSplitter),
    **dict.fromkeys(("video/mp2t", "video/mpegts", "audio/mp2t"), TsSplitter),
    **dict.fromkeys(("audio/mp4", "video/mp4"), Mp4Splitter),
}
_MP4_BEGINS: Final = frozenset({b"ftyp", b"styp", b"moof"})
_EBML: Final = EBML.to_bytes(4, "big")
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
    b"\xff\xd8\xff": "an image",
    b"<htm": "a web page",
    b"<!doc": "a web page",
    b"<!DOC": "a web page",
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
    _refuse(first)
    found = _at_beginning(first)
    if found is None and len(first) >= SEARCHED:
        found = _behind_garbage(first)
    if found is None and len(first) >= ENOUGH:
        declared = _DECLARED.get((content_type or "").partition(";")[0].strip().lower())
        if declared is None:
            raise Unsupported(f"no known container begins here: {_WELCOME}")
        return declared()
    return found


def _refuse(first: bytes) -> None:
    for magic, name in _NOT_LIVE.items():
        if first.startswith(magic):
            raise Unsupported(f"this is {name}, which cannot be listened to from the middle: {_WELCOME}")
    if first[4:8] == b"ftyp" and never_live(first):
        raise Unsupported(
            "this MP4 is not fragmented, so it can be read only as a whole: "
            "with FFmpeg add `-movflags +frag_keyframe+empty_moov+default_base_moof`"
        )
    if first.startswith(OGG) and b"Speex   " in first[:64]:
        raise Unsupported(f"this is Speex, which browsers do not play: {_WELCOME}")


def _at_beginning(first: bytes) -> Splitter | None:
    """By what stands at the very beginning."""
    if first.startswith(OGG):
        return OggSplitter()
    if first.startswith(_EBML):
        return WebmSplitter()
    if first[4:8] in _MP4_BEGINS:
        return Mp4Splitter()
    if first[0] == SYNC and SYNCED.match(first):
        return TsSplitter()
    start = tag_length(bytearray(first[:HEAD]), 0)
    for kind in _FRAMES:
        splitter = kind()
        if splitter.feed(first[start:]) and not splitter.skipped:
            return kind()
    return None


def _behind_garbage(first: bytes) -> Splitter | None:
    """By what is found further on: a source that was on its way already when it came to us."""
    if _MANY_PACKETS.search(first):
        return TsSplitter()
    for kind in _FRAMES:
        if len(kind().feed(first)) >= _FRAMES_ENOUGH:
            return kind()
    for magic, container in ((OGG, OggSplitter), (_EBML, WebmSplitter), (b"ftyp", Mp4Splitter)):
        if magic in first:
            return container()
    return None


_FRAMES: Final[tuple[type[FrameSplitter], ...]] = (Mp3Splitter, AdtsSplitter)
_FRAMES_ENOUGH: Final = 2
_MANY_PACKETS: Final = re.compile(rb"(?:\x47.{%d}){8}\x47" % (PACKET - 1), re.DOTALL)
