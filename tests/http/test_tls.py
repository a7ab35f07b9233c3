"""The same door under TLS: sockets, broadcasts, files and slow readers."""

from __future__ import annotations

import os
import ssl
import subprocess
from pathlib import Path

import pytest
import trio

from tests.http.house import House, client_frame, empty, get, open_house, post, settings, until
from tests.http.shelf import SONG, open_shop
from veza.http import files

DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("tls")
    cert, key = place / "cert.pem", place / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    subprocess.run(
        [*command, "-days", "2", *subject, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    return cert, key


def _trusting(house: House, certificate: tuple[Path, Path], **more: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in more.items():
        setattr(context, name, value)
    house.tls = context
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_rest_files_and_sockets(
    certificate: tuple[Path, Path], tmp_path: Path, version: ssl.TLSVersion
) -> None:
    (tmp_path / "b.bin").write_bytes(DATA)
    config = settings(tls_cert=certificate[0], tls_key=certificate[1])
    with trio.fail_after(60):
        async with open_house(tmp_path, config) as house:
            _trusting(house, certificate, maximum_version=version)
            client = await house.connect()
            for _ in range(3):
                answer = await client.ask(get("/api/who"))
                assert b'"scheme":"https"' in answer.body
                assert answer["strict-transport-security"]
                assert client.stream.selected_alpn_protocol() == "http/1.1"
                body = DATA[:200_000]
                assert (await client.ask(post("/api/echo", body))).body == body
                assert (await client.ask(get("/files/b.bin"))).body == DATA
                assert (await client.ask(get("/files/b.bin", "Range: bytes=100000-"))).body == DATA[100000:]
            answer = await client.ask(get("/api/ping", "Connection: close"))
            assert await client.rest() == b""
            socket = await house.websocket()
            for text in (b"hello", b"x" * 60_000):
                await socket.send(client_frame(text))
                assert (await socket.text()).encode() == text


async def test_broadcasts_reach_every_reader_and_let_the_slow_one_go(certificate: tuple[Path, Path]) -> None:
    config = settings(tls_cert=certificate[0], tls_key=certificate[1], outlet_limit=100_000)
    with trio.fail_after(60):
        async with open_house(config=config) as house:
            _trusting(house, certificate)
            readers = [await house.websocket() for _ in range(5)]
            sleeper = await house.websocket(receive_buffer=4096)
            for client in (*readers, sleeper):
                await client.send(client_frame(b"hello"))
                await client.text()
            number = 0
            told = 6
            while told == 6:
                told = house.chat.tell_all(b"%06d" % number + os.urandom(6000).hex().encode())
                for reader in readers:
                    assert (await reader.text())[:6] == f"{number:06}"
                number += 1
            for seen in range(number):
                opcode, payload = await sleeper.frame()
                if opcode == 8:
                    break
                assert payload[:6] == b"%06d" % seen
            else:
                opcode, payload = await sleeper.frame()
            assert (opcode, payload[:2]) == (8, (1013).to_bytes(2, "big"))
            await sleeper.send(client_frame(payload[:2], 8))
            assert await sleeper.rest() == b""
            for reader in readers:
                await reader.send(client_frame(b"still here"))
                assert await reader.text() == "still here"


async def test_shutting_down_does_not_wait_for_handshakes(certificate: tuple[Path, Path]) -> None:
    config = settings(tls_cert=certificate[0], tls_key=certificate[1])
    with trio.fail_after(60):
        async with open_house(config=config) as house:
            silent = await house.connect()
            await silent.send(b"\x16\x03\x01")
            await until(lambda: house.door.connections == 1)
            await house.door.shut()
            assert house.door.connections == 0


async def test_what_is_no_tls_ends_that_connection_alone(certificate: tuple[Path, Path]) -> None:
    keys = {"tls_cert": certificate[0], "tls_key": certificate[1]}
    with trio.fail_after(60):
        async with open_house(config=settings(**keys, head_timeout=0.3)) as house:
            silent = await house.connect()
            assert await silent.rest() == b"", "a handshake has a deadline"
        async with open_house(config=settings(**keys, outlet_close_grace=0.3)) as house:
            plain = await house.connect()
            await plain.send(get("/api/ping"))
            assert not (await plain.rest()).startswith(b"HTTP")
            _trusting(house, certificate)
            leaver = await house.connect()
            await leaver.send(get("/api/slow"))
            await house.asked.wait()
            leaver.reset()
            await house.gone.wait()
            client = await house.connect()
            assert (await client.ask(get("/api/ping"))).status == 200
            stuck = await house.websocket(receive_buffer=4096)
            await stuck.send(client_frame(b"flood 20000"))
            await house.chat.ended.wait()
            await client.aclose()
            await empty(house.door)


async def test_signed_addresses(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are read and encrypted in pieces here; what is said of them is the same, and who waits holds nothing."""
    monkeypatch.setattr(files, "OPEN", 0)
    config = settings(tls_cert=certificate[0], tls_key=certificate[1])
    with trio.fail_after(60):
        async with open_shop(tmp_path, config) as shop:
            shop.add("big", "flac", "audio/flac", DATA * 3)
            _trusting(shop.house, certificate)
            client = await shop.house.connect()
            for lines, status, body in [
                ((), 200, SONG),
                (("Range: bytes=70000-",), 206, SONG[70_000:]),
                (("Range: bytes=5-5",), 206, SONG[5:6]),
                ((f"Range: bytes={len(SONG)}-",), 416, None),
            ]:
                answer = await client.ask(get(shop.url(), *lines))
                assert answer.status == status
                assert body is None or answer.body == body
            assert answer["strict-transport-security"] is not None
            only = await client.ask(get(shop.url(), method="HEAD"), head=True)
            assert (only.status, only["content-length"]) == (200, str(len(SONG)))
            assert (await client.ask(get("/stream/plouf"))).status == 400
            slow = await shop.house.connect(receive_buffer=65_536)
            await slow.send(get(shop.url("big")))
            assert (await slow.head()).status == 200
            await until(lambda: shop.files.count == 0)
            assert await slow.take(len(DATA) * 3) == DATA * 3
