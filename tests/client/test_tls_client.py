"""The client over TLS: REST and socket alike, and only to servers whose certificate can be trusted."""

import ssl
import subprocess
from pathlib import Path

import pytest
import trio

from tests.client.conftest import StartServer
from veza.client import RoomMessage, Unreachable, VezaClient


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("tls")
    cert, key = place / "cert.pem", place / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*made, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


async def test_a_conversation_under_tls(start_server: StartServer, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    trusted = ssl.create_default_context(cafile=str(cert))
    async with start_server(tls_cert=cert, tls_key=key) as server:
        with trio.fail_after(60):
            for verify in (trusted, False):
                async with VezaClient(f"https://localhost:{server.port}", verify=verify) as ada:
                    name = "trusting" if verify is False else "careful"
                    await ada.register(name, f"{name}@example.org", "correct horse")
                    async with ada.chat() as chat:
                        await chat.join("general")
                        await chat.send("general", name)
                        async for event in chat:
                            if isinstance(event, RoomMessage):
                                assert event.content == name
                                break


async def test_a_certificate_nobody_vouches_for(
    start_server: StartServer, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    trusted = ssl.create_default_context(cafile=str(cert))
    async with start_server(tls_cert=cert, tls_key=key) as server:
        url = f"https://localhost:{server.port}"
        with trio.fail_after(60):
            async with VezaClient(url) as suspicious:
                with pytest.raises(Unreachable, match="certificate"):
                    await suspicious.healthy() or await suspicious.me()
            async with VezaClient(url, verify=trusted) as ada:
                await ada.register("ada", "ada@example.org", "correct horse")
                async with VezaClient(url, tokens=ada.tokens) as elsewhere:
                    with pytest.raises(Unreachable, match="certificate"):
                        async with elsewhere.chat():
                            raise AssertionError("connected")
