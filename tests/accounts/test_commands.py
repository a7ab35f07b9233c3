"""The second factor at a terminal: the code is asked for, and who lost the phone is helped on the command line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyotp
import pytest

from tests.cli.conftest import Veza, nobody_hangs, veza
from tests.cli.test_chat import Here, as_, on_a_terminal, server
from veza.client import AuthFailed, VezaClient

__all__ = ["nobody_hangs", "server", "veza"]

pytestmark = pytest.mark.usefixtures("nobody_hangs")


@pytest.fixture
def database_url(postgres: Any) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


async def test_a_code_is_asked_for_and_a_lost_phone_is_no_end(
    veza: Veza, server: Here, tmp_path: Path
) -> None:
    async with VezaClient(server.url) as client:
        await client.login("ada", "correct horse")
        made = msgspec.json.decode(
            await client.request("POST", "auth/2fa/setup", json={"password": "correct horse"})
        )
        totp = pyotp.TOTP(made["secret"])
        done = msgspec.json.decode(await client.request("POST", "auth/2fa/enable", json={"code": totp.now()}))
        spare = done["recovery_codes"][0]

    piped = await veza("chat", typed="x\n", **as_("ada", server))
    assert "code of your authenticator" in piped.complaint
    async with on_a_terminal(veza, **as_("ada", server), HOME=str(tmp_path / "ada")) as terminal:
        await terminal.shows("Code of your authenticator")
        terminal.type("abc\n")
        await terminal.shows("(?s)not right.*Code of your authenticator")
        terminal.type(f"{spare}\n")
        await terminal.shows("general")
        terminal.type("/quit\n")

    assert "nobody is called" in (await veza("admin", "two-factor-off", "nobody")).complaint
    off = await veza("admin", "two-factor-off", "ADA")
    assert "logs in with the password alone" in off.out
    assert "had no second factor" in (await veza("admin", "two-factor-off", "ada")).out
    async with VezaClient(server.url) as client:
        await client.login("ada", "correct horse")
        with pytest.raises(AuthFailed):
            await client.login("ada", "wrong", totp_code=totp.at(time.time()))
