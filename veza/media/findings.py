"""What processing finds out about a file, and how a worker tells it. Shared by the server and its children."""

from __future__ import annotations

from typing import Literal

import msgspec


class Findings(msgspec.Struct, frozen=True):
    """Measured, not read off a header: what was decoded counts.

    `bit_rate` is of the stream that is heard (of the film where there is no sound), in bits a second; `loudness_lufs`
    the integrated loudness of EBU R128, None for silence and for less than 0.4 s; `peak_dbtp` the true peak of
    BS.1770 (fourfold oversampling), None for silence. `tags` are the file's own, as they stand in it.
    """

    kind: Literal["audio", "video"]
    duration_ms: int
    codec: str
    sample_rate: int | None = None
    channels: int | None = None
    bit_rate: int | None = None
    width: int | None = None
    height: int | None = None
    lossless: bool = False
    loudness_lufs: float | None = None
    peak_dbtp: float | None = None
    has_cover: bool = False
    has_hls: bool = False
    tags: dict[str, str] = {}


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """`seconds` of media are done, which is about `share` of all, 0 … 1."""

    share: float
    seconds: float


class Done(msgspec.Struct, frozen=True, tag="done"):
    findings: Findings


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """Nothing can be made of this file, and trying again would change nothing."""

    reason: str


class Later(msgspec.Struct, frozen=True, tag="later"):
    """The machine would not let it; the reason in a few words."""

    reason: str


Said = Progress | Done | Refused | Later
