"""FLV becomes MPEG-TS on its way, in a child (`remux_child.py`): what RTMP brings, as the splitters take it."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from veza.media.child import open_process

STUCK: Final = 20.0
"""Seconds a child may take nothing before it is given up."""
FINISH: Final = 20.0
"""Seconds a child has to give away what it still holds, once nothing more comes."""


class Remux:
    """A child that remuxes. One task may send while another receives."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process

    async def send(self, flv: bytes) -> None:
        """Waits while it is behind. Raises trio.BrokenResourceError: it has ended; trio.TooSlowError: it is stuck."""
        assert self._process.stdin is not None
        with trio.fail_after(STUCK):
            await self._process.stdin.send_all(flv)

    async def finish(self) -> None:
        """Nothing more comes."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()

    async def receive(self) -> bytes:
        """The next bytes of MPEG-TS; none once it has ended."""
        assert self._process.stdout is not None
        return bytes(await self._process.stdout.receive_some(64 * 1024))


@asynccontextmanager
async def open_remux() -> AsyncIterator[Remux]:
    """Start a child; on the way out it is gone. Raises OSError: it cannot be started."""
    async with open_process("veza.media.remux_child", stdout=subprocess.PIPE) as process:
        yield Remux(process)
