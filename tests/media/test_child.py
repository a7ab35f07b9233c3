"""A child process ends with whoever wanted it, and takes no more than it may."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from veza.media.child import ChildEnded, open_child

BOUND = 60  # seconds
PARENT = """
import sys, trio
from veza.media.child import open_child

async def main():
    async with open_child("tests.media.confined", "wait") as child:
        await child.line(30)
        print(child.pid, flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"  # whoever inherited it has not looked yet


async def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - it is to be killed from outside
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=os.getcwd()
    )
    assert parent.stdout is not None
    with trio.fail_after(BOUND):
        pid = int(await trio.to_thread.run_sync(parent.stdout.readline))
        assert alive(pid)
        parent.kill()
        parent.wait()
        parent.stdout.close()
        while alive(pid):  # noqa: ASYNC110 - of the system
            await trio.sleep(0.01)


@pytest.mark.parametrize("what", ["memory", "file", "secret", "nice"])
async def test_a_child_is_confined(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JWT_SECRET", "not for children")
    with trio.fail_after(BOUND):
        async with open_child("tests.media.confined", what) as child:
            assert await child.line(BOUND) == {"confined": True}


async def test_how_a_child_ended_is_told() -> None:
    with trio.fail_after(BOUND):
        async with open_child("tests.media.confined", "crash") as child:
            with pytest.raises(ChildEnded) as ended:
                await child.line(BOUND)
    assert ended.value.code == 1 and ended.value.said.endswith("RuntimeError: for the test")


async def test_noise_is_no_line() -> None:
    with trio.fail_after(BOUND):
        async with open_child("tests.media.confined", "noise") as child:
            with pytest.raises(ChildEnded):
                await child.line(BOUND)
