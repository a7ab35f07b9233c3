"""Child processes that handle strangers' media: started here, heard line by line, and never outliving whoever asked.

Whatever decodes bytes of unknown origin runs in a process of its own, so that a crash, a bomb or a hang of a decoder is
its end alone. A child is a module run with `-m`. Its standard input is its lifeline: it ends by itself when we let go
of it, however we end. (The kernel's own way, PR_SET_PDEATHSIG, follows the thread that started the child, and trio's
threads come and go.) What is said on its pipes:

    open_child    nothing on standard input; JSON lines on standard output. Calls `veza.media.confine.confine` first
    open_process  whatever the two have agreed on; for those that are given media for as long as it comes

A child gets none of our environment: secrets are in there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, Final

import msgspec
import trio

BARE: Final = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUTF8": "1", "PATH": os.defpath}
# What is freed stays with the child: media are worked on in large pieces, and asking the system for each of them anew
# costs a tenth of the time.
ENVIRONMENT: Final = {
    **BARE,
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1024**3),
    "MALLOC_TRIM_THRESHOLD_": str(1024**3),
    "MALLOC_TOP_PAD_": str(16 * 1024**2),
}
_LONGEST_LINE: Final = 1024 * 1024
_ERRORS_KEPT: Final = 4096


class ChildEnded(Exception):
    """The child ended without saying what it was asked for.

    `code` is its exit status (negative: the signal), `said` the end of what it wrote to its standard error.
    """

    def __init__(self, code: int | None, said: str) -> None:
        super().__init__(f"exit status {code}")
        self.code = code
        self.said = said


class ChildSilent(Exception):
    """Nothing came from the child for as long as it may be silent; it was killed."""


class Child:
    """A child that runs, and what it says."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._held = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def line(self, silence: float) -> Any | None:
        """The next thing it says, decoded; None once it has ended well. Cancelled, nothing of it is lost.

        Args:
            silence: seconds without a word after which it counts as hung.

        Raises:
            ChildSilent: it said nothing for that long.
            ChildEnded: it ended with another status than 0, or said something that is no line of JSON.
        """
        stdout = self._process.stdout
        assert stdout is not None
        with trio.move_on_after(silence):
            while (end := self._held.find(b"\n")) < 0:
                if len(self._held) > _LONGEST_LINE:
                    raise await self._ended()
                chunk = await stdout.receive_some(65536)
                if not chunk:
                    if await self._process.wait() != 0 or self._held:
                        raise await self._ended()
                    return None
                self._held += chunk
            line = bytes(self._held[:end])
            del self._held[: end + 1]
            try:
                return msgspec.json.decode(line)
            except msgspec.DecodeError:
                raise await self._ended() from None
        raise ChildSilent

    async def _ended(self) -> ChildEnded:
        """With the end of its complaints. They wait in their pipe: a child that fills it is silent, and killed."""
        self._process.kill()
        code = await self._process.wait()
        stderr = self._process.stderr
        assert stderr is not None
        said = bytearray()
        while chunk := await stderr.receive_some(65536):
            said += chunk
        return ChildEnded(code, said[-_ERRORS_KEPT:].decode(errors="replace").strip())


@asynccontextmanager
async def open_child(module: str, *words: str) -> AsyncIterator[Child]:
    """Run `python -m module words…`; on the way out it is killed, whatever it does, and waited for.

    Args:
        words: its arguments; everybody on the machine may read them, so no secrets.

    Raises:
        OSError: it could not be started (too many processes, no memory).
    """
    pipe = subprocess.PIPE
    async with open_process(module, *words, stdout=pipe, stderr=pipe, environment=ENVIRONMENT) as process:
        yield Child(process)


@asynccontextmanager
async def open_process(
    module: str,
    *words: str,
    stdout: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    environment: Mapping[str, str] = BARE,
) -> AsyncIterator[trio.Process]:
    """Run `python -m module words…` with a pipe to its standard input; on the way out it is killed if it has not
    ended, and waited for.

    Raises:
        OSError: it could not be started.
    """
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
        process.kill()  # does nothing to one that has ended
        with trio.CancelScope(shield=True):
            await process.wait()  # at once: nothing survives SIGKILL
            for end in (process.stdin, process.stdout, process.stderr):
                if end is not None:
                    await trio.aclose_forcefully(end)
