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

PATIENCE = 90.0


@pytest.fixture
def veza(tmp_path: Path) -> Veza:
    return Veza(tmp_path)


class Demo:
    """A demonstration that runs, as its terminal tells of it."""

    def __init__(self, process: trio.Process, said: str) -> None:
        self.process = process
        self.said = said
        found = re.search(r"^(http://\S+)/.*/s/(\S+)\n.*log in as +(\w+),.*password +(\S+)\n", said, re.S)
        assert found, said
        self.url, self.slug, self.person, self.password = found.groups()

    async def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def demonstration(veza: Veza, *arguments: str) -> AsyncIterator[Demo]:
    """One that is ready; killed at the end if nobody ended it."""
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
                while b"Ctrl-C" not in said:
                    data = await process.stdout.receive_some()
                    assert data, f"it ended: {complained.decode()}"
                    said += data
            assert b"Ctrl-C" in said, f"not ready: {said.decode()} {complained.decode()}"
            yield Demo(process, said.decode())
            nursery.cancel_scope.cancel()
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
