"""Children that are given media on their standard input for as long as it comes, and end when it does.

That is also how they see our end, however we die. (PR_SET_PDEATHSIG follows the thread that started the child, and
trio's threads come and go.) They get none of our environment: secrets are in there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

import trio

_ROOT: Final = str(Path(__file__).parents[2])


@asynccontextmanager
async def open_piped(
    module: str, *words: str, stdout: int = subprocess.DEVNULL, stderr: int | IO[bytes] = subprocess.DEVNULL
) -> AsyncIterator[trio.Process]:
    """Run `python -m module words…`; on the way out it is killed if it has not ended, and waited for.

    Raises:
        OSError: it could not be started.
    """
    environment = {"PYTHONPATH": _ROOT, "PYTHONUTF8": "1", "PATH": os.defpath}
    with trio.CancelScope(shield=True):  # else there might be a process that nobody knows
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", module, *words],
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd="/",
        )
    try:
        yield process
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()  # at once: nothing survives SIGKILL
            for end in (process.stdin, process.stdout):
                if end is not None:
                    await trio.aclose_forcefully(end)
