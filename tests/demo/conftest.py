"""`veza demo` as a person runs it: a process of its own, in an empty directory."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.cli.conftest import Veza

PATIENCE = 300.0  # not a measure: nobody else on the machine must make this fail


@pytest.fixture
def veza(tmp_path: Path) -> Veza:
    return Veza(tmp_path)


class Demo:
    """A demonstration that runs, as its terminal tells of it; what it has not told yet is empty."""

    def __init__(self, process: trio.Process, said: str) -> None:
        self.process = process
        self.said = said
        self.url = self._told(r"^(http://\S+)/")
        self.slug = self._told(r"/s/(\S+)\n")
        self.person = self._told(r"log in as +(\w+),")
        self.password = self._told(r"password +(\S+)\n")

    def _told(self, pattern: str) -> str:
        found = re.search(pattern, self.said)
        return found[1] if found else ""

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def demonstration(veza: Veza, *arguments: str, ready: str = "Ctrl-C") -> AsyncIterator[Demo]:
    """One that has said that it is ready; killed at the end if nobody ended it."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "veza", "demo", "--small", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=veza.home,
        env=veza.environ(),
    )
    try:
        said, complained = bytearray(), bytearray()
        assert process.stdout is not None and process.stderr is not None

        async def listen(stream: trio.abc.ReceiveStream) -> None:
            async for data in stream:
                complained.extend(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, process.stderr)
            with trio.move_on_after(PATIENCE):
                while ready.encode() not in said:
                    data = await process.stdout.receive_some()
                    assert data, f"it ended: {complained.decode()}"
                    said += data
            assert ready.encode() in said, f"not ready: {said.decode()} {complained.decode()}"
            yield Demo(process, said.decode())
            nursery.cancel_scope.cancel()
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
