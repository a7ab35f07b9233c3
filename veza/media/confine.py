"""What a child process does before it touches a stranger's bytes: gives up what it does not need, and ties its life to
its parent's. The other side of `child.py`; must import nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
from typing import Final

_DESCRIPTORS: Final = 64
_NICE: Final = 10


def confine(*, memory: int, largest_file: int, seconds: int | None = None) -> None:
    """Limit this process for good, and end it when standard input does.

    Args:
        memory: bytes of address space; an allocation beyond fails.
        largest_file: bytes of a file it may write; 0 for none.
        seconds: of processor time; None for as much as it takes.
    """
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, largest_file)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, _DESCRIPTORS)
    if seconds is not None:
        _limit(resource.RLIMIT_CPU, seconds)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond fails with EFBIG instead
    # The terminal's ^C goes to the whole group; whether this work ends is our parent's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    _yield_to_others()
    threading.Thread(target=_follow_parent, name="lifeline", daemon=True).start()


def _limit(what: int, most: int) -> None:
    with contextlib.suppress(OSError, ValueError):  # a stricter limit from outside stays
        resource.setrlimit(what, (most, most))


def _yield_to_others() -> None:
    """Conversations come first: this work takes what they leave of a core, and wakes without pushing them aside."""
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _follow_parent() -> None:
    """Nobody ever writes there: a read returns when our parent has closed it, or is gone."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGKILL)
