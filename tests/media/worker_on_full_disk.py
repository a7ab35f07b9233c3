"""A worker to whom the system says that the disk is full. Run with `-m`, as the real one is."""

import errno
from pathlib import Path
from typing import NoReturn

from veza.media import pipeline, worker


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device", str(Path("/")))


if __name__ == "__main__":
    pipeline.process = full
    worker.main()
