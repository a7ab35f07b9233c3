"""Processes one file and says how far it is, as lines of JSON; run with `-m` by `processing.py`, never imported.

python -m veza.media.worker FILE DIRECTORY
"""

from __future__ import annotations

import errno
import gc
import sys
from pathlib import Path
from typing import Final

import msgspec

from veza.media.confine import confine
from veza.media.findings import Done, Later, Progress, Refused, Said

MEMORY: Final = 3 * 1024**3  # of address space, of which an encoder for 1080 lines takes one
LARGEST_FILE: Final = 1024**3  # bytes; a segment has six seconds


def main() -> None:
    confine(memory=MEMORY, largest_file=LARGEST_FILE)
    from veza.media.opening import Unplayable
    from veza.media.pipeline import make_durable, process

    # A hundred thousand frames and packets come and go, none of them in a circle.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    try:
        into = Path(sys.argv[2])
        findings = process(Path(sys.argv[1]), into, _told)
        make_durable(into)
        _say(Done(findings))
    except Unplayable as unplayable:
        _say(Refused(unplayable.reason))
    except MemoryError:
        _say(Refused("The file takes too much memory to decode."))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _say(Later("the disk is full"))


def _told(share: float, seconds: float) -> None:
    _say(Progress(round(share, 4), round(seconds, 3)))


def _say(what: Said) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
