"""The `veza` command as a person runs it: a process of its own, in an empty directory, with no environment left over.

`veza`     runs a command to its end
`serving`  starts `veza serve` and waits until it is ready
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # not a measure: only so that nothing hangs


@pytest.fixture
async def nobody_hangs() -> AsyncIterator[None]:
    with trio.fail_after(300):
        yield


class Done:
    """What a command said and how it ended."""

    def __init__(self, process: subprocess.CompletedProcess[bytes]) -> None:
        self.code = process.returncode
        self.out = process.stdout.decode()
        self.err = process.stderr.decode()

    def __repr__(self) -> str:
        return f"<{self.code}\n{self.out}\n-- stderr\n{self.err}>"

    @property
    def complaint(self) -> str:
        """The one line of a command that could not do what it was asked."""
        assert self.code in (1, 2), self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self
        assert lines[0].startswith("veza: "), self
        return lines[0]


class Veza:
    """The command, with settings for all its runs."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.settings = settings

    def environ(self, **settings: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "LANG": "C.UTF-8",
            "LOG_FORMAT": "json",
            "PORT": "0",
            "VEZA_DATA": str(self.home / "data"),
            "ARGON2_MEMORY_KIB": "64",
            **self.settings,
            **settings,
        }

    async def __call__(self, *arguments: str, typed: str = "", **settings: str) -> Done:
        process = await trio.run_process(
            [sys.executable, "-m", "veza", *arguments],
            stdin=typed.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=self.home,
            env=self.environ(**settings),
        )
        return Done(process)


@pytest.fixture
def veza(tmp_path: Path, database_url: str) -> Veza:
    """The command on a database of the test's own."""
    return Veza(tmp_path, DATABASE_URL=database_url)


class Server:
    """A running `veza serve`."""

    def __init__(self, process: trio.Process, url: str, log: list[dict[str, Any]]) -> None:
        self.process = process
        self.url = url
        self.log = log

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def serving(veza: Veza, *arguments: str, **settings: str) -> AsyncIterator[Server]:
    """A server, killed at the end if nobody ended it."""
    log: list[dict[str, Any]] = []
    ready = trio.Event()
    url = ""

    async def listen(process: trio.Process) -> None:
        nonlocal url
        buffer = b""
        assert process.stderr is not None
        async for data in process.stderr:
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                event = json.loads(line) if line.startswith(b"{") else {"event": line.decode()}
                log.append(event)
                if event["event"] == "ready":
                    url = event["url"]
                    ready.set()

    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "veza", "serve", *arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=veza.home,
        env=veza.environ(**settings),
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, process)
            with trio.move_on_after(PATIENCE):
                await ready.wait()
            assert ready.is_set(), f"not ready: {log}"
            yield Server(process, url, log)
            if process.poll() is None:
                process.kill()
            await process.wait()
            nursery.cancel_scope.cancel()
    finally:
        if process.poll() is None:
            process.kill()


def descendants_mentioning(text: str) -> Iterator[str]:
    """Command lines of living processes that hold a text, ours apart."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in line:
                yield line


Starts = Callable[..., Any]
