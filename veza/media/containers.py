"""Which containers and codecs we take, and what a file in one of them is called. Pure tables, used inside children.

FFmpeg can read far more. Everything it can read is a way in for a stranger's bytes, some formats name other files or
addresses to read (playlists, `concat`, DASH), and others take a web page for a telephone call: so only what musicians
have is opened at all.
"""

from __future__ import annotations

from typing import Final

import msgspec

# Names of FFmpeg's demuxers.
FORMATS: Final = (
    *("mp3", "aac", "flac", "ogg", "wav", "w64", "aiff", "caf", "wv", "au"),
    *("mov", "mp4", "matroska", "webm", "mpegts", "avi"),
)
# Names of FFmpeg's decoders.
AUDIO_CODECS: Final = (
    *("mp3float", "mp3", "mp2float", "mp2", "mp1float", "mp1", "aac", "aac_fixed", "aac_latm"),
    *("flac", "alac", "wavpack", "vorbis", "libvorbis", "opus", "libopus", "ac3", "eac3"),
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw", "pcm_s16le_planar"),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt"),
)
VIDEO_CODECS: Final = (
    *("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "libdav1d", "av1", "mpeg4", "mpeg2video"),
    *("mjpeg", "prores", "theora", "h263", "dnxhd"),
)
PICTURE_CODECS: Final = ("mjpeg", "png", "webp", "bmp", "gif")  # covers; their bytes are decoded elsewhere
LOSSLESS: Final = ("flac", "alac", "wavpack")  # and all of pcm_ but the telephone's two
_TELEPHONE: Final = ("pcm_alaw", "pcm_mulaw")

# What gives away a file that is something else, and what it is.
STRANGERS: Final = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"MThd", "MIDI, which holds notes and no sound"),
    (b"#EXTM3U", "a playlist"),
)


class Name(msgspec.Struct, frozen=True):
    """What a file is called: the extension without its dot, and the media type."""

    extension: str
    content_type: str


_AUDIO: Final = {
    "mp3": Name("mp3", "audio/mpeg"),
    "aac": Name("aac", "audio/aac"),
    "flac": Name("flac", "audio/flac"),
    "ogg": Name("ogg", "audio/ogg"),
    "wav": Name("wav", "audio/wav"),
    "w64": Name("w64", "audio/x-w64"),
    "aiff": Name("aiff", "audio/aiff"),
    "caf": Name("caf", "audio/x-caf"),
    "wv": Name("wv", "audio/x-wavpack"),
    "au": Name("au", "audio/basic"),
    "mov": Name("m4a", "audio/mp4"),
    "matroska": Name("mka", "audio/x-matroska"),
    "webm": Name("webm", "audio/webm"),
    "mpegts": Name("ts", "video/mp2t"),
    "avi": Name("avi", "video/x-msvideo"),
}
_VIDEO: Final = {
    "ogg": Name("ogv", "video/ogg"),
    "mov": Name("mp4", "video/mp4"),
    "matroska": Name("mkv", "video/x-matroska"),
    "webm": Name("webm", "video/webm"),
}


def name_of(demuxer: str, head: bytes, audio_codec: str | None, *, video: bool, brand: str) -> Name:
    """What to call a file.

    Args:
        demuxer: FFmpeg's name of its container, such as `mov,mp4,m4a,3gp,3g2,mj2`.
        head: how it begins; Matroska and WebM differ in nothing else.
        audio_codec: the decoder's name, None without sound.
        brand: `major_brand` of an MP4, or empty.
    """
    kind = demuxer.split(",")[0]
    if kind == "matroska" and b"webm" in head[:64]:
        kind = "webm"
    if kind == "ogg" and not video and audio_codec in ("opus", "libopus"):
        return Name("opus", "audio/ogg")
    if kind == "mov" and video and brand.strip() == "qt":
        return Name("mov", "video/quicktime")
    return (_VIDEO.get(kind) if video else None) or _AUDIO[kind]


def is_lossless(decoder: str) -> bool:
    """Does this codec keep every sample?"""
    return decoder in LOSSLESS or (decoder.startswith("pcm_") and decoder not in _TELEPHONE)


def stranger(head: bytes) -> str | None:
    """What a file that begins like this is, if it is something that people mistake for media; a few words."""
    for magic, what in STRANGERS:
        if head.startswith(magic):
            return what
    start = head[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return None
