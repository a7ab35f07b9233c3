"""`veza upload` and `veza stream` as people use them: processes of their own, on terminals and in pipes."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.chat.conftest import Build, House, Person
from tests.cli.conftest import Veza
from tests.clientmedia.kit import client_of
from tests.media.inputs import Inputs
from veza.client.containers import recognise
from veza.commands import stream, upload
from veza.errors import Problem


@asynccontextmanager
async def as_somebody(build: Build, home: Path) -> AsyncIterator[tuple[House, Person, Veza]]:
    with trio.fail_after(300):
        async with build() as house:
            person = await house.person()
            server = f"http://127.0.0.1:{house.port}"
            yield house, person, Veza(home, VEZA_SERVER=server, VEZA_TOKEN=person.token)


@asynccontextmanager
async def running(
    veza: Veza, *arguments: str, stdin: int = subprocess.DEVNULL
) -> AsyncIterator[trio.Process]:
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "veza", *arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=veza.home,
        env=veza.environ(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        await process.wait()


async def slug_of(process: trio.Process) -> str:
    """The stream's slug, from where the command says its page is."""
    said = b""
    assert process.stdout is not None
    async for data in process.stdout:
        said += data
        if found := re.search(rb"^page +\S+/s/(\S+)\n", said, re.M):
            return found[1].decode()
    assert process.stderr is not None
    raise AssertionError(said + await process.stderr.receive_some())


async def test_files_become_tracks(build: Build, inputs: Inputs, tmp_path: Path) -> None:
    async with as_somebody(build, tmp_path) as (house, person, veza):
        (tmp_path / "notes.mp3").write_text("not music " * 500)
        files = [str(inputs[name]) for name in ("mp3_tiny", "opus")]
        done = await veza("upload", *files, "notes.mp3", "--tags", "x, y", "--private")
        assert done.code == 1, done
        pages = re.findall(rf"^(\S+): http://127.0.0.1:{house.port}/tracks/(\d+)$", done.out, re.M)
        assert sorted(name for name, _ in pages) == sorted(Path(file).name for file in files)
        assert "\x1b" not in done.out + done.err
        assert re.search(r"^veza: notes\.mp3: .*$", done.err, re.M), done
        assert done.err.splitlines()[-1] == "veza: 1 of 3 files did not become tracks"
        async with client_of(house, person) as client:
            tracks = (await client.my_tracks()).items
            assert {str(track.id) for track in tracks} == {number for _, number in pages}
            assert all(track.status == "ready" and not track.is_public for track in tracks)
            assert all(track.tags == ("x", "y") for track in tracks)


async def test_a_text_is_not_broadcast(tmp_path: Path) -> None:
    (tmp_path / "notes.mp3").write_text("not music " * 500)
    with pytest.raises(Problem, match=r"notes\.mp3: .* can be broadcast"):
        await stream._source(stream.Show(str(tmp_path / "notes.mp3")))


def test_what_makes_no_sense_is_said_before_anybody_is_asked(inputs: Inputs, tmp_path: Path) -> None:
    nobody, song = "http://nobody.invalid", inputs["mp3_tiny"]
    for files, words, reason, code in (
        ([tmp_path / "nothing.mp3"], upload.Words(), "no such file", 1),
        ([tmp_path], upload.Words(), "is a directory", 1),
        ([song, song], upload.Words(title="one"), "--title", 2),
    ):
        with pytest.raises(Problem, match=reason) as problem:
            upload.run(files, words, nobody, None, wait=True)
        assert problem.value.exit_code == code
    for show, reason, code in (
        (stream.Show(str(tmp_path / "nothing.mp3")), "no such file", 1),
        (stream.Show(str(song), slug="somewhere"), "--key", 2),
        (stream.Show(str(song), slug="somewhere", key="k", record=True), "--record", 2),
        (stream.Show("-", loop=True), "--loop", 2),
    ):
        with pytest.raises(Problem, match=reason) as problem:
            stream.run(show, nobody, None)
        assert problem.value.exit_code == code


@pytest.mark.parametrize("kind", ["m4a", "mp4"])
async def test_a_file_is_broadcast_until_somebody_says_stop(
    build: Build, inputs: Inputs, tmp_path: Path, kind: str
) -> None:
    """Sound that cannot go as it is becomes MP3, a film MPEG-TS; the song is named by its tags."""
    async with as_somebody(build, tmp_path) as (house, person, veza):
        async with running(veza, "stream", str(inputs[kind]), "--loop", "--title", "Show") as process:
            slug = await slug_of(process)
            async with client_of(house, person) as client:
                while (found := await client.stream(slug)).state != "live" or not found.song:  # noqa: ASYNC110
                    await trio.sleep(0.05)
                assert found.title == "Show"
                assert found.content_type == ("video/mp2t" if kind == "mp4" else "audio/mpeg")
                assert found.song == "The Tests - A Swelling Chord"
                heard = b""
                async for data in client.listen(slug):
                    heard += data
                    container = recognise(heard)
                    if container is not None and len(container.feed(heard)) >= 3:
                        break
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 0
                assert (await client.stream(slug)).state == "ended"


async def test_a_terminal_sees_how_it_goes(build: Build, inputs: Inputs, tmp_path: Path) -> None:
    async with as_somebody(build, tmp_path) as (_, _, veza):
        near, far = pty.openpty()
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "veza", "upload", str(inputs["mp3"]), "--no-wait"],
            stdin=far,
            stdout=far,
            stderr=far,
            cwd=tmp_path,
            env=veza.environ(TERM="xterm", COLUMNS="100"),
        )
        os.close(far)
        shown = b""
        try:
            while True:
                await trio.lowlevel.wait_readable(near)
                shown += os.read(near, 65536)
        except OSError:  # the terminal's other end is closed
            pass
        finally:
            os.close(near)
            process.terminate()
        assert await process.wait() == 0, shown
        assert b"%" in shown
        assert inputs["mp3"].name.encode()[:20] in shown
        assert b"/tracks/" in shown
