"""Is this file audio or video? Asked of a file that was just uploaded, before anything is made of it.

The answer comes from a child process (`checking_child.py`) that really opens it and decodes how it begins; neither its
name nor what the client says of it counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from veza import log
from veza.media.child import ChildEnded, ChildSilent, open_child

SECONDS: Final = 30.0
_log = log.get("checking")


class Checked(msgspec.Struct, frozen=True):
    """What a file is. `extension` and `content_type` are the real container's; `duration_ms` is what its header
    promises, None if it promises nothing."""

    kind: str  # audio, video
    extension: str
    content_type: str
    duration_ms: int | None


class NotMedia(Exception):
    """It is neither audio nor video that can be decoded. `reason` is a sentence for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Verdict(msgspec.Struct):
    checked: Checked | None = None
    reason: str | None = None


async def check(path: Path) -> Checked:
    """Look into a file. Cancelled, the child is killed. Whoever calls this limits how many do at once.

    Raises:
        NotMedia: with the reason.
        OSError: no child could be started.
    """
    try:
        async with open_child("veza.media.checking_child", str(path)) as child:
            verdict = msgspec.convert(await child.line(SECONDS) or {}, _Verdict)
    except ChildSilent:
        raise NotMedia("The file takes too long to decode.") from None
    except ChildEnded as ended:
        _log.warning("a decoder ended by itself", code=ended.code, said=ended.said)
        verdict = _Verdict()
    if verdict.checked is None:
        raise NotMedia(verdict.reason or "The file cannot be decoded.")
    return verdict.checked
