"""The documents' examples work, as they stand, against a server."""

import json
import os
import re
import shutil
import stat
import sys
import time
import urllib.request
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from PIL import Image

from tests.chat.conftest import SECRET
from tests.cli.conftest import ROOT, Veza
from tests.media.inputs import Inputs, ffmpeg
from veza.app import open_server
from veza.client import AuthFailed, RoomMessage, UserConnected, VezaClient
from veza.config import Settings
from veza.db.pool import Database
from veza.security.signing import Signer

pytestmark = pytest.mark.usefixtures("nobody_hangs")


@dataclass
class Here:
    """A server in this process: what is under test is what people copy from the documents."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
async def server(db: Database, tmp_path: Path) -> AsyncIterator[Here]:
    data = tmp_path / "data"
    settings = Settings(
        port=0,
        data=data,
        jwt_secret=SECRET,
        secret_key=SECRET,
        argon2_memory_kib=64,
        stream_grace=600.0,  # between two sources: as long as the examples need
    )
    async with open_server(settings, db) as app:
        yield Here(app.port)


def answers(out: str) -> list[dict[str, Any]]:
    """The JSON objects that curl wrote, one after the other."""
    found, decoder = [], json.JSONDecoder()
    while (start := out.find('{"success"')) >= 0:
        answer, end = decoder.raw_decode(out, start)
        found.append(answer)
        out = out[end:]
    return found


def examples(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


async def run(program: list[str], typed: str, veza: Veza) -> str:
    done = await trio.run_process(
        program,
        stdin=typed.encode(),
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        cwd=veza.home,
        env=veza.environ(),
    )
    out = done.stdout.decode()
    assert done.returncode == 0, f"{out}\n{done.stderr.decode()}"
    return out


@pytest.fixture
def command(veza: Veza) -> None:
    """`.venv/bin/veza` where the examples look for it."""
    script = veza.home / ".venv" / "bin" / "veza"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m veza "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)


async def in_a_shell(page: str, server: Here, veza: Veza) -> str:
    """Run a page's shell examples, one after the other in one shell, against a server."""
    script = "set -eu\n" + "\necho\n".join(examples(page, "sh"))
    script = script.replace("localhost:8080", f"127.0.0.1:{server.port}")
    script = script.replace("curl -s ", "curl -sS --fail-with-body ")
    veza.settings["VEZA_SERVER"] = server.url
    return await run(["bash", "-c", script], "", veza)


async def in_python(page: str, server: Here, veza: Veza) -> list[str]:
    return [text.replace("http://localhost:8080", server.url) for text in examples(page, "python")]


@pytest.mark.usefixtures("command")
async def test_the_first_conversation_of_the_readme(veza: Veza, server: Here) -> None:
    out = await in_a_shell("README.md", server, veza)
    given = answers(out)
    assert [answer["success"] for answer in given] == [True] * 4
    assert [message["content"] for message in given[-1]["data"]["messages"]] == ["hello from curl"]
    assert "ada: hello from a pipe" in out
    # … and the first track and broadcast.
    assert f"song.wav: {server.url}/tracks/1\n" in out
    async with VezaClient(server.url) as client:
        (track,) = (await client.tracks()).items
        assert (track.title, track.tags, track.status) == ("A plain tone", ("first", "tone"), "ready")
        (show,) = (await client.streams()).items
        assert (show.title, show.state, show.content_type) == ("A first show", "ended", "audio/mpeg")
        assert f"{server.url}/live/{show.slug}\n" in out


async def test_the_program_of_the_readme_answers(veza: Veza, server: Here) -> None:
    (program,) = await in_python("README.md", server, veza)
    (veza.home / "echo.py").write_text(program)
    async with trio.open_nursery() as nursery:
        async with VezaClient(server.url) as client:
            await client.register("ada", "ada@example.org", "correct horse")
            async with client.chat() as chat:
                await chat.join("general")
                nursery.start_soon(_run_until_cancelled, veza)  # whose coming is told to those who are there
                async for event in chat:
                    if isinstance(event, UserConnected) and event.username == "echo":
                        await chat.send("general", "hello out there")
                    if isinstance(event, RoomMessage) and event.username == "echo":
                        assert event.content == "hello, ada!"
                        break
        nursery.cancel_scope.cancel()


async def _run_until_cancelled(veza: Veza) -> None:
    await trio.run_process(
        [sys.executable, "echo.py"], cwd=veza.home, env=veza.environ(), capture_stderr=True
    )


async def test_the_programs_of_the_clients_page(veza: Veza, server: Here) -> None:
    chat, tracks, streams, market = await in_python("docs/client.md", server, veza)
    out = await run([sys.executable, "-"], chat, veza)
    assert out.splitlines() == [
        "['general']",
        "ROOM_NOT_FOUND This room does not exist.",
        "#general linus: hello",
        "1 ['hello']",
    ]
    song = Inputs()["mp3"]
    out = await run([sys.executable, "-", str(song)], tracks, veza)
    size = song.stat().st_size
    assert out.splitlines() == [
        f"{size} of {size}",
        f"{song.stem} 2000 1800",
        "True True",
        f"{song.stem} 1",
    ]
    out = await run([sys.executable, "-", str(song)], streams, veza)
    assert out.splitlines() == ["heard ff", "ended"]
    picture = veza.home / "snare.png"
    Image.new("RGB", (64, 48), "#a9742f").save(picture)
    out = await run([sys.executable, "-", str(picture)], market, veza)
    assert out.splitlines() == ["Birch snare 17500 EUR 1", "403", "accepted sold"]


@pytest.mark.usefixtures("command")
async def test_the_examples_of_broadcasting(veza: Veza, server: Here, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ffmpeg").symlink_to(ffmpeg())
    veza.settings["PATH"] = f"{programs}:{os.environ['PATH']}"
    out = await in_a_shell("docs/broadcasting.md", server, veza)
    assert out.count("\npage ") == 2
    async with VezaClient(server.url) as client:
        # The last of its sources has gone, which the server sees a moment later, and may come back.
        states = {"From a pipe": "ended", "Sunday tunes": "interrupted"}
        while {show.title: show.state for show in (await client.streams()).items} != states:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_the_examples_of_signing_agree_with_the_vector() -> None:
    key, text = "0123456789abcdef0123456789abcdef", "plouf:1893456000"
    right = "f93866a35a995a2f31c2783c2a579e5f96bba72ad8d747a952201eb4f5eb699c"
    vector = (ROOT / "docs" / "media-urls.md").read_text(encoding="utf-8")
    assert all(word in vector for word in (key, text, right))
    signer, began = Signer(key), time.time()
    (python,) = examples("docs/media-urls.md", "python")
    (script,) = examples("docs/media-urls.md", "js")
    (page_php,) = examples("docs/media-urls.md", "php")
    names: dict[str, Any] = {}
    exec(python, names)
    assert names["sign"](key, text) == right
    path = names["track_url"](key, "plouf", 60)
    expires = re.search(r"expires=(\d+)", path)
    assert expires is not None
    assert path == signer.stream_url("plouf", int(expires[1]))
    assert int(began) + 60 <= int(expires[1]) <= time.time() + 60
    for program, source, call in (
        ("node", script, f"console.log(sign('{key}', '{text}'), hlsUrl('{key}', 'plouf', 60))"),
        ("php", f"<?php {page_php}", f"echo sign('{key}', '{text}'), ' ', live_url('{key}', 'plouf', 60);"),
    ):
        if shutil.which(program) is None:
            continue
        typed = f"{source}\n{call}".encode()
        done = await trio.run_process([program], stdin=typed, capture_stdout=True)
        signed, address = done.stdout.decode().split()
        assert signed == right
        until = re.search(r"/(\d+)\.", address)
        assert until is not None
        make = signer.hls_url if program == "node" else signer.live_url
        assert address == make("plouf", int(until[1]))


async def test_the_examples_of_authentication(veza: Veza, server: Here) -> None:
    out = await in_a_shell("docs/authentication.md", server, veza)
    me, sessions, logout, lise = answers(out)
    assert logout["success"]
    assert lise["data"]["user"]["username"] == "lise"
    codes = json.loads((veza.home / "codes.json").read_text())["data"]["recovery_codes"]
    async with VezaClient(server.url) as client:
        with pytest.raises(AuthFailed) as refused:
            await client.login("lise", "correct horse")
        assert refused.value.code == "TWO_FACTOR_REQUIRED"
        await client.login("lise", "correct horse", totp_code=codes[0])
    assert me["data"]["username"] == "grace"
    assert len(sessions["data"]["sessions"]) == 1


async def test_the_examples_of_the_account(veza: Veza, server: Here) -> None:
    out = await in_a_shell("docs/account.md", server, veza)
    (gone,) = answers(out)
    assert gone["success"]
    with zipfile.ZipFile(veza.home / "mine.zip") as mine:
        assert mine.testzip() is None
        assert json.loads(mine.read("profile.json"))["email"] == "emmy@example.org"
    async with VezaClient(server.url) as client:
        with pytest.raises(AuthFailed):
            await client.login("emmy", "correct horse")


async def test_the_overview_names_every_path_of_the_api(server: Here) -> None:
    def read() -> dict[str, dict[str, object]]:
        with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=60) as answer:
            found: dict[str, dict[str, object]] = json.load(answer)["paths"]
            return found

    paths = await trio.to_thread.run_sync(read)
    there = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, operations in paths.items()
        for method in operations
        if method in ("get", "post", "put", "delete", "patch")
    }
    text = (ROOT / "docs" / "rest-api.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`((?:GET|POST|PUT|DELETE|PATCH) /[^`?]*)`", text))
    assert told == there
