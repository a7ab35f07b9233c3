"""A worker that has begun and waits until it is let on: then it is the real one. Run with `-m`, as that one is.

Beside the tracks lies what it obeys: `gate` lets it on, `deaf` stops it where it is.
"""

import os
import signal
import sys
import time
from pathlib import Path

from veza.media import worker
from veza.media.confine import confine


def main() -> None:
    confine(memory=worker.MEMORY, largest_file=worker.LARGEST_FILE)
    file, made = map(Path, sys.argv[1:])
    begun = made / "hls" / "begun"
    begun.mkdir(parents=True)
    (begun / "0.m4s").write_bytes(b"half")
    if (file.parent.parent / "deaf").exists():
        os.kill(os.getpid(), signal.SIGSTOP)
    while not (file.parent.parent / "gate").exists():
        time.sleep(0.01)
    (begun / "0.m4s").unlink()
    begun.rmdir()
    (made / "hls").rmdir()
    worker.main()


if __name__ == "__main__":
    main()
