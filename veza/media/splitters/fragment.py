"""What an MP4 fragment (`moof`) tells: how long it lasts, whether one may begin there, and where its data is."""

from __future__ import annotations

from typing import Final, NamedTuple

from veza.media.splitters.boxes import HEAD, Box, boxes, first, integer

_NOT_SYNC: Final = 0x0001_0000  # of a sample's flags
_BASE_OFFSET, _DESCRIPTION, _DEFAULT_DURATION, _DEFAULT_SIZE, _DEFAULT_FLAGS = 0x1, 0x2, 0x8, 0x10, 0x20
_BASE_IS_FRAGMENT: Final = 0x02_0000
_DATA_OFFSET, _FIRST_FLAGS, _DURATION, _SIZE, _FLAGS, _COMPOSITION = 0x1, 0x4, 0x100, 0x200, 0x400, 0x800
_SAMPLES_MOST: Final = 100_000
_LONGEST: Final = 60.0  # seconds a fragment may last and be believed


class Track(NamedTuple):
    """A track, and what is true of its samples where a fragment does not say otherwise."""

    video: bool
    timescale: int
    duration: int
    flags: int


class Fragment(NamedTuple):
    data: bytes
    """The box, its reference to the data made independent of where in a file it stands."""
    key: bool
    duration: float | None


def read_tracks(moov: bytes) -> dict[int, Track]:
    """The tracks of sound and picture that fragments will bring more of; none of a file that is not fragmented."""
    try:
        return dict(_tracks(moov))
    except ValueError:
        return {}


def _tracks(moov: bytes) -> list[tuple[int, Track]]:
    defaults: dict[int, tuple[int, int]] = {}
    top = Box(b"moov", 0, 8, len(moov))
    extends = first(moov, top.body, top.end, b"mvex")
    for box in boxes(moov, extends.body, extends.end) if extends else ():
        if box.type == b"trex":
            at = box.body + 4
            identity, _, duration, _, flags = (integer(moov, at + 4 * n, box.end) for n in range(5))
            defaults[identity] = (duration, flags)
    tracks: list[tuple[int, Track]] = []
    for box in boxes(moov, top.body, top.end):
        if box.type != b"trak" or len(tracks) == len(defaults):
            continue
        head = first(moov, box.body, box.end, b"tkhd")
        media = first(moov, box.body, box.end, b"mdia", b"mdhd")
        handler = first(moov, box.body, box.end, b"mdia", b"hdlr")
        if head is None or media is None or handler is None:
            continue
        identity = integer(moov, head.body + (20 if moov[head.body] == 1 else 12), head.end)
        timescale = integer(moov, media.body + (20 if moov[media.body] == 1 else 12), media.end)
        kind = moov[handler.body + 8 : handler.body + 12]
        if kind in (b"vide", b"soun") and identity in defaults and timescale:
            tracks.append((identity, Track(kind == b"vide", timescale, *defaults[identity])))
    return tracks


def read_fragment(moof: bytes, tracks: dict[int, Track]) -> Fragment | None:
    """What this box tells; None if it is none that these tracks can have."""
    data = bytearray(moof)
    begins: list[tuple[Track, bool, int]] = []
    relative = True
    try:
        for box in boxes(moof, 8, len(moof)):
            if box.type == b"traf":
                found = _track_fragment(moof, box, tracks)
                relative = _make_relative(data, box) and relative
                if found is not None:
                    begins.append(found)
    except ValueError:
        return None
    if not begins:
        return None
    with_video = any(track.video for track in tracks.values())
    main = next((entry for entry in begins if entry[0].video == with_video), None)
    if main is None:  # only sound, of a stream that has picture
        return Fragment(bytes(data), False, 0.0)
    track, independent, ticks = main
    seconds = ticks / track.timescale
    key = relative and (independent or not track.video)
    return Fragment(bytes(data), key, seconds if seconds <= _LONGEST else None)


def _track_fragment(moof: bytes, traf: Box, tracks: dict[int, Track]) -> tuple[Track, bool, int] | None:
    """Whose it is, whether its first sample stands on its own, and how long it lasts. None: of no track of ours."""
    head = first(moof, traf.body, traf.end, b"tfhd")
    if head is None:
        raise ValueError("a track fragment without a head")
    flags = integer(moof, head.body, head.end) & 0xFF_FFFF
    track = tracks.get(integer(moof, head.body + 4, head.end))
    if track is None:
        return None
    at = head.body + 8 + (8 if flags & _BASE_OFFSET else 0) + (4 if flags & _DESCRIPTION else 0)
    duration, sample_flags = track.duration, track.flags
    if flags & _DEFAULT_DURATION:
        duration = integer(moof, at, head.end)
        at += 4
    if flags & _DEFAULT_SIZE:
        at += 4
    if flags & _DEFAULT_FLAGS:
        sample_flags = integer(moof, at, head.end)
    first_flags: int | None = None
    ticks = 0
    for box in boxes(moof, traf.body, traf.end):
        if box.type == b"trun":
            found, lasts = _run(moof, box, duration, sample_flags)
            ticks += lasts
            first_flags = found if first_flags is None else first_flags
    if first_flags is None:
        return None
    return track, not first_flags & _NOT_SYNC, ticks


def _run(moof: bytes, trun: Box, duration: int, sample_flags: int) -> tuple[int | None, int]:
    """Flags of the first sample (None: there is none), and how long all of them last."""
    flags = integer(moof, trun.body, trun.end) & 0xFF_FFFF
    count = integer(moof, trun.body + 4, trun.end)
    if count > _SAMPLES_MOST:
        raise ValueError("more samples than a live fragment has")
    at = trun.body + 8 + (4 if flags & _DATA_OFFSET else 0)
    first_flags: int | None = None
    if flags & _FIRST_FLAGS:
        first_flags = integer(moof, at, trun.end)
        at += 4
    step = 4 * sum(1 for flag in (_DURATION, _SIZE, _FLAGS, _COMPOSITION) if flags & flag)
    if at + step * count > trun.end:
        raise ValueError("a run is too short")
    if count == 0:
        return None, 0
    if first_flags is None and flags & _FLAGS:
        before = 4 * sum(1 for flag in (_DURATION, _SIZE) if flags & flag)
        first_flags = integer(moof, at + before, trun.end)
    if flags & _DURATION:
        duration = sum(integer(moof, at + step * n, trun.end) for n in range(count))
    else:
        duration *= count
    return sample_flags if first_flags is None else first_flags, duration


def _make_relative(data: bytearray, traf: Box) -> bool:
    """Turn the place of the data in the file into one relative to this fragment.

    The eight bytes that gave the place become an empty `free` box, so nothing else moves. Which place in its sender's
    file they name cannot be known here; but if the data is said to lie right behind this box, it names this box.

    Returns:
        Whether the data is found from anywhere now.
    """
    head = first(data, traf.body, traf.end, b"tfhd")
    if head is None:
        return False
    flags = integer(data, head.body, head.end)
    if not flags & _BASE_OFFSET:
        return True
    run = first(data, traf.body, traf.end, b"trun")
    if run is not None:
        behind = integer(data, run.body, run.end) & _DATA_OFFSET and integer(data, run.body + 8, run.end)
        if behind < len(data) + HEAD:
            return False
    rest = bytes(data[head.body + 16 : head.end])
    fixed = (flags & ~_BASE_OFFSET | _BASE_IS_FRAGMENT).to_bytes(4, "big")
    track = bytes(data[head.body + 4 : head.body + 8])
    shorter = (head.end - head.start - 8).to_bytes(4, "big") + b"tfhd" + fixed + track + rest
    data[head.start : head.end] = shorter + (8).to_bytes(4, "big") + b"free"
    return True
