"""`veza chat` as people use it: on a terminal, through a pipe, over a restart of the server."""

import os
import pty
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from tests.chat.conftest import SECRET
from tests.cli.conftest import PATIENCE, Server, Veza, serving
from tests.client.conftest import network_to
from veza.app import open_server
from veza.client import RoomMessage, VezaClient
from veza.config import Settings
from veza.db.pool import Database

pytestmark = pytest.mark.usefixtures("nobody_hangs")

PASSWORD = "correct horse"
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Here:
    """A server in this process: what is under test is the command, which is one of its own."""

    url: str


@pytest.fixture
async def server(db: Database, tmp_path: Path) -> AsyncIterator[Here]:
    data = tmp_path / "data"
    settings = Settings(port=0, data=data, jwt_secret=SECRET, secret_key=SECRET, argon2_memory_kib=64)
    async with open_server(settings, db) as app:
        server = Here(f"http://127.0.0.1:{app.port}")
        for name in ("ada", "bob"):
            async with VezaClient(server.url) as client:
                await client.register(name, f"{name}@example.org", PASSWORD)
        yield server


def as_(name: str, server: Here | Server) -> dict[str, str]:
    return {"VEZA_SERVER": server.url, "VEZA_USER": name, "VEZA_PASSWORD": PASSWORD}


@asynccontextmanager
async def listening(server: Here | Server, name: str) -> AsyncIterator[VezaClient]:
    async with VezaClient(server.url) as client:
        await client.login(name, PASSWORD)
        await client.join_room("general")
        yield client


# Pipes


async def test_a_line_from_a_pipe_is_said(veza: Veza, server: Here) -> None:
    done = await veza("chat", "general", typed="hi\n", **as_("ada", server))
    assert done.code == 0, done
    assert re.search(r"^\d\d:\d\d ada: hi$", done.out, re.M), done
    assert "\x1b" not in done.out
    async with listening(server, "bob") as bob:
        assert [message.content for message in (await bob.messages("general")).messages] == ["hi"]


async def test_the_login_is_remembered_and_nobody_else_may_read_it(veza: Veza, server: Here) -> None:
    await veza("chat", typed="one\n", **as_("ada", server))
    saved = veza.home / ".config" / "veza" / "sessions.json"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in saved.read_text()
    done = await veza("chat", typed="two\n", VEZA_SERVER=server.url)
    assert done.code == 0, done
    assert "ada: two" in done.out


async def test_more_lines_than_the_server_takes_at_once_all_arrive_in_order(
    veza: Veza, server: Server
) -> None:
    lines = [f"line {number}" for number in range(12)]  # bursts of ten
    done = await veza("chat", typed="\n".join(lines) + "\n", **as_("ada", server))
    assert done.code == 0, done
    async with listening(server, "bob") as bob:
        said = (await bob.messages("general", limit=100)).messages
        assert [message.content for message in said] == lines


async def test_history_is_shown_on_joining_and_more_of_it_when_asked(veza: Veza, server: Here) -> None:
    async with listening(server, "bob") as bob:
        for number in range(8):
            await bob.post_message("general", f"said {number}")
    done = await veza("chat", typed="/history\n/nonsense\n//slash\n", **as_("ada", server))
    positions = [done.out.index(f"bob: said {number}") for number in range(8)]
    assert positions == sorted(positions)
    assert "nothing was said before" in done.out
    assert "/quit" in done.out
    assert "ada: /slash" in done.out


async def test_commands_for_people(veza: Veza, server: Here) -> None:
    done = await veza(
        "chat", typed="/who\n/dm bob psst\n/dm nobody x\n/quit\nnever said\n", **as_("ada", server)
    )
    assert "here: ada" in done.out
    assert "there is nobody named 'nobody'" in done.out
    assert "never said" not in done.out
    private = await veza("chat", "@ada", typed="yes?\n", **as_("bob", server))
    assert "ada: psst" in private.out
    assert "bob: yes?" in private.out


async def test_what_does_not_work_is_one_line(veza: Veza, server: Here) -> None:
    assert "not logged in" in (await veza("chat", typed="x\n", VEZA_SERVER=server.url)).complaint
    ada = as_("ada", server)
    assert "does not exist" in (await veza("chat", "nowhere", typed="x\n", **ada)).complaint
    assert "nobody named" in (await veza("chat", "@nobody", typed="x\n", **ada)).complaint
    wrong = await veza("chat", typed="x\n", **{**ada, "VEZA_PASSWORD": "wrong", "VEZA_USER": "bob"})
    assert wrong.code == 1
    nobody = await veza("chat", typed="x\n", VEZA_SERVER="http://127.0.0.1:1", VEZA_TOKEN="x")
    assert "127.0.0.1:1 cannot be reached" in nobody.complaint
    assert "VEZA_SERVER" in nobody.complaint
    assert wrong.complaint


# Terminals


class Terminal:
    """`veza chat` on a terminal of its own."""

    def __init__(self, descriptor: int, process: trio.Process) -> None:
        self._descriptor = descriptor
        self.process = process
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    async def shows(self, pattern: str) -> str:
        """Read until something appears that was not there the last time; escape sequences apart."""
        with trio.fail_after(PATIENCE):
            while not (found := re.search(pattern, ANSI.sub("", self.seen))):
                await trio.lowlevel.wait_readable(self._descriptor)
                self.seen += os.read(self._descriptor, 65536).decode(errors="replace")
        self.seen = ""
        return found[0]

    async def ended(self) -> int:
        with trio.fail_after(PATIENCE):
            while self.process.poll() is None:
                with trio.move_on_after(0.05):
                    await trio.lowlevel.wait_readable(self._descriptor)
                    try:
                        if not os.read(self._descriptor, 65536):
                            break
                    except OSError:  # nobody holds the other end any more
                        break
            return await self.process.wait()


@asynccontextmanager
async def on_a_terminal(veza: Veza, *arguments: str, **settings: str) -> AsyncIterator[Terminal]:
    near, far = pty.openpty()
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "veza", "chat", *arguments],
        stdin=far,
        stdout=far,
        stderr=far,
        cwd=veza.home,
        env=veza.environ(TERM="xterm", **settings),
        start_new_session=True,
    )
    os.close(far)
    try:
        yield Terminal(near, process)
    finally:
        if process.poll() is None:
            process.kill()
        await process.wait()
        os.close(near)


async def test_two_people_talk(veza: Veza, server: Here, tmp_path: Path) -> None:
    ada_home, bob_home = (str(tmp_path / name) for name in ("ada", "bob"))
    async with (
        on_a_terminal(veza, **as_("ada", server), HOME=ada_home) as ada,
        on_a_terminal(veza, **as_("bob", server), HOME=bob_home) as bob,
    ):
        await ada.shows("#general> ")
        await bob.shows("#general> ")
        ada.type("hello\r")
        await bob.shows(r"ada: hello")
        ada.type("half a sen")
        await ada.shows("#general> half a sen")
        bob.type("hi ada\r")
        shown = await ada.shows(
            r"bob: hi ada[\s\S]*#general> half a sen"
        )  # what was being typed is still there
        assert shown
        ada.type("tence\r")
        await bob.shows("ada: half a sentence")
        bob.type("\x04")
        assert await bob.ended() == 0
        await ada.shows("← bob is gone")
        ada.type("/quit\r")
        assert await ada.ended() == 0


async def test_somebody_new_registers_on_the_terminal(veza: Veza, server: Here) -> None:
    async with on_a_terminal(veza, VEZA_SERVER=server.url) as carol:
        await carol.shows(r"\(r\)egister")
        carol.type("r\n")
        await carol.shows("Username: ")
        carol.type("ada\n")
        await carol.shows("E-mail")
        carol.type("carol@example.org\n")
        await carol.shows("Password: ")
        carol.type("correct horse\n")
        await carol.shows("Password again: ")
        carol.type("correct house\n")
        await carol.shows(r"not the same[\s\S]*Username: ")
        carol.type("ada\n")
        await carol.shows("E-mail")
        carol.type("carol@example.org\n")
        await carol.shows("Password: ")
        carol.type("correct horse\n")
        await carol.shows("Password again: ")
        carol.type("correct horse\n")
        await carol.shows(r"(taken|already)[\s\S]*Username: ")  # the name is ada's: once more
        carol.type("carol\n")
        await carol.shows("E-mail")
        carol.type("carol@example.org\n")
        await carol.shows("Password: ")
        carol.type("correct horse\n")
        await carol.shows("Password again: ")
        carol.type("correct horse\n")
        await carol.shows("#general> ")
        carol.type("\x03")
        assert await carol.ended() == 0


async def test_a_message_does_nothing_to_the_terminal_of_others(veza: Veza, server: Here) -> None:
    async with on_a_terminal(veza, **as_("ada", server)) as ada, listening(server, "bob") as bob:
        await ada.shows("#general> ")
        await bob.post_message("general", "one\ntwo \u202egnp.exe")
        await ada.shows("bob: one")
        assert "\u202e" not in ada.seen


async def test_what_could_not_be_sent_is_named_at_the_end(veza: Veza) -> None:
    async with serving(veza) as server:
        async with VezaClient(server.url) as client:
            await client.register("ada", "ada@example.org", PASSWORD)
        async with on_a_terminal(veza, **as_("ada", server)) as ada:
            await ada.shows("#general> ")
            assert await server.end() == 0
            await ada.shows("trying again")
            ada.type("nobody will read this\r")
            ada.type("\x03")
            await ada.shows("not sent: nobody will read this")
            await ada.ended()


async def test_a_server_that_restarts_is_waited_for(veza: Veza) -> None:
    async with serving(veza) as first, network_to(first.port) as network:
        async with VezaClient(first.url) as client:
            await client.register("ada", "ada@example.org", PASSWORD)
        # Through a network, whose port stays ours: one that a server leaves may be anybody's before the next one comes.
        async with on_a_terminal(veza, **{**as_("ada", first), "VEZA_SERVER": network.url}) as ada:
            await ada.shows("#general> ")
            assert await first.end() == 0
            network.cut()
            await ada.shows("trying again")
            ada.type("said while nobody listened\r")
            async with serving(veza) as second:
                network.target = second.port
                network.mend()
                await ada.shows("ada: said while nobody listened")
                async with VezaClient(second.url) as client:
                    await client.login("ada", PASSWORD)
                    async with client.chat() as socket:
                        await socket.join("general", since_seq=0)
                        async for event in socket:
                            if isinstance(event, RoomMessage):
                                assert (event.seq, event.content) == (1, "said while nobody listened")
                                break


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_it_in_order(veza: Veza, server: Here, number: int) -> None:
    async with on_a_terminal(veza, **as_("ada", server)) as ada:
        await ada.shows("#general> ")
        ada.process.send_signal(number)
        assert await ada.ended() == 0
