"""A line under TLS by itself."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import trio

from tests.http.test_tls import certificate
from veza.http.line import Line
from veza.http.tls import TlsLine, server_context

__all__ = ["certificate"]


async def test_who_is_cancelled_loses_nothing(certificate: tuple[Path, Path]) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    line = TlsLine(Line(ours), server_context(*certificate))
    trusting = ssl.create_default_context(cafile=str(certificate[0]))
    async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as plain:
        peer = trio.SSLStream(plain, trusting, server_hostname="localhost")
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(line.agree)
                nursery.start_soon(peer.do_handshake)
            for word in (b"one two ", b"three four"):  # two records
                await peer.send_all(word)
            heard = b""
            for _ in range(6):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await line.receive(3)
                assert scope.cancelled_caught
                heard += await line.receive(3)
            assert heard == b"one two three four"[: len(heard)]
            assert len(heard) > 12
    line.close()
