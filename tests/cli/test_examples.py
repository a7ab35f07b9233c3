"""The documents' examples work, as they stand, against a server."""

import json
import re
import stat
import sys
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from tests.cli.conftest import ROOT, Server, Veza, serving
from veza.client import RoomMessage, UserConnected, VezaClient

pytestmark = pytest.mark.usefixtures("nobody_hangs")


@pytest.fixture
async def server(veza: Veza) -> AsyncIterator[Server]:
    async with serving(veza) as started:
        yield started


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


async def in_a_shell(page: str, server: Server, veza: Veza) -> str:
    """Run a page's shell examples, one after the other in one shell, against a server."""
    script = "set -eu\n" + "\necho\n".join(examples(page, "sh"))
    script = script.replace("localhost:8080", f"127.0.0.1:{server.port}")
    script = script.replace("curl -s ", "curl -sS --fail-with-body ")
    veza.settings["VEZA_SERVER"] = server.url
    return await run(["bash", "-c", script], "", veza)


async def in_python(page: str, server: Server, veza: Veza) -> list[str]:
    return [text.replace("http://localhost:8080", server.url) for text in examples(page, "python")]


@pytest.mark.usefixtures("command")
async def test_the_first_conversation_of_the_readme(veza: Veza, server: Server) -> None:
    out = await in_a_shell("README.md", server, veza)
    given = answers(out)
    assert [answer["success"] for answer in given] == [True] * 4
    assert [message["content"] for message in given[-1]["data"]["messages"]] == ["hello from curl"]
    assert "ada: hello from a pipe" in out


async def test_the_program_of_the_readme_answers(veza: Veza, server: Server) -> None:
    (program,) = await in_python("README.md", server, veza)
    (veza.home / "echo.py").write_text(program)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run_until_cancelled, veza)
        async with VezaClient(server.url) as client:
            await client.register("ada", "ada@example.org", "correct horse")
            async with client.chat() as chat:
                await chat.join("general")
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


async def test_the_program_of_the_clients_page(veza: Veza, server: Server) -> None:
    (program,) = await in_python("docs/client.md", server, veza)
    out = await run([sys.executable, "-"], program, veza)
    assert out.splitlines() == [
        "['general']",
        "ROOM_NOT_FOUND This room does not exist.",
        "#general linus: hello",
        "1 ['hello']",
    ]


async def test_the_examples_of_authentication(veza: Veza, server: Server) -> None:
    out = await in_a_shell("docs/authentication.md", server, veza)
    me, sessions, logout = answers(out)
    assert logout["success"]
    assert me["data"]["username"] == "grace"
    assert len(sessions["data"]["sessions"]) == 1


async def test_the_overview_names_every_path_of_the_api(server: Server) -> None:
    def read() -> dict[str, dict[str, object]]:
        with urllib.request.urlopen(f"{server.url}/openapi.json", timeout=10) as answer:
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
