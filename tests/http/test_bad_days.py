"""Resets in every phase, crowds that leave at once, full tables, and an orderly end through all of it."""

from __future__ import annotations

import errno
import resource
import socket
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.http.house import (
    Client,
    client_frame,
    empty,
    get,
    handshake,
    named,
    open_house,
    post,
    settings,
    until,
)


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GE",
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        get("/api/ping"),
        get("/api/slow"),
        get("/api/large"),
        get("/files/b.bin"),
        get("/api/echo", "Content-Length: 1000", method="POST"),
        get("/api/echo", "Content-Length: 1000", method="POST") + b"x" * 500,
        get("/api/echo", "Transfer-Encoding: chunked", method="POST") + b"5\r\nab",
        get("/api/echo", "Content-Length: 9", "Expect: 100-continue", method="POST"),
        get("/raw/upload", "Content-Length: 1000000", method="POST") + b"x" * 5000,
        post("/api/echo", b"x") * 50,
        b"\0" * 100,
        handshake()[:50],
        handshake(),
        handshake() + client_frame(b"hello"),
        handshake() + client_frame(b"hello")[:4],
        handshake() + client_frame(b"flood 5000"),
        handshake() + client_frame(b"x" * 70_000),
        handshake() + client_frame(b"bye"),
        handshake() + client_frame(b"\x03\xe8", 8),
    ],
    ids=named,
)
async def test_a_reset_in_any_phase_is_noticed_by_nobody(
    tmp_path: Path, begun: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.bin").write_bytes(bytes(20_000_000))
    with trio.fail_after(60):
        async with open_house(tmp_path) as house:
            other = await house.websocket()
            for pause in (0.0, 0.03):
                for _ in range(3):
                    client = await house.connect(receive_buffer=4096)
                    await client.send(begun)
                    await trio.sleep(pause)
                    client.reset()
                await other.send(client_frame(b"still here"))
                assert await other.text() == "still here"
            await other.aclose()
            await empty(house.door)
            assert house.chat.admitted == house.chat.abandoned
    said = capfd.readouterr()
    assert "connection failed" not in said.out + said.err
    assert "socket failed" not in said.out + said.err
    assert "application crashed" not in said.out + said.err


async def test_thousands_of_connections_dropped_at_once() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(2000, hard // 2 - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * count + 200), hard))
    try:
        with trio.fail_after(120):
            async with open_house() as house:
                stayer = await house.websocket()
                crowd: list[Client] = []
                for _ in range(count // 100):
                    batch = [await house.connect() for _ in range(100)]
                    for client in batch:
                        await client.send(handshake())
                    for client in batch:
                        assert (await client.head()).status == 101
                    crowd.extend(batch)
                await until(lambda: house.door.open_sockets >= count + 1)
                house.chat.tell_all(b"all here")
                assert await stayer.text() == "all here"
                for number, client in enumerate(crowd):
                    if number % 2:
                        client.reset()
                    else:
                        client.stream.socket.close()
                house.chat.tell_all(b"anybody")
                assert await stayer.text() == "anybody"
                await stayer.send(client_frame(b"still here"))
                assert await stayer.text() == "still here"
                await until(lambda: house.door.connections <= 1)
                assert house.chat.abandoned == count
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_too_many_connections_are_turned_away_and_let_in_later() -> None:
    with trio.fail_after(60):
        async with open_house(config=settings(max_connections_per_ip=3)) as house:
            clients = [await house.connect() for _ in range(3)]
            for client in clients:
                assert (await client.ask(get("/api/ping"))).status == 200
            refused = await house.connect()
            answer = await refused.answer()
            assert (answer.status, answer["retry-after"], answer["connection"]) == (429, "5", "close")
            await clients.pop().aclose()
            await until(lambda: house.door.connections <= 2)
            assert (await (await house.connect()).ask(get("/api/ping"))).status == 200
        async with open_house(config=settings(max_connections=2)) as house:
            clients = [await house.connect() for _ in range(2)]
            for client in clients:
                assert (await client.ask(get("/api/ping"))).status == 200
            assert (await (await house.connect()).answer()).status == 503
        async with open_house(
            config=settings(max_connections_per_ip=1, trusted_proxies=("127.0.0.1",))
        ) as house:
            for client in [await house.connect() for _ in range(5)]:
                assert (await client.ask(get("/api/ping"))).status == 200


async def test_errors_of_accept_do_not_kill_the_listener() -> None:
    failures = [errno.EPROTO, errno.ENFILE, errno.ECONNABORTED, errno.EMFILE]

    class Full(socket.socket):
        def accept(self) -> Any:
            if failures:
                raise OSError(failures.pop(), "as asked")
            return super().accept()

    listener = Full()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    listener.setblocking(False)
    with trio.fail_after(60):
        async with open_house(listeners=[listener]) as house:
            for _ in range(10):
                client = await house.connect()
                assert (await client.ask(get("/api/ping"))).status == 200
            assert not failures


async def test_real_exhaustion_of_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            assert (await client.ask(get("/api/ping"))).status == 200
            waiting = trio.socket.socket()
            fillers: list[socket.socket] = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
            try:
                try:
                    while True:
                        fillers.append(socket.socket())
                except OSError as error:
                    assert error.errno == errno.EMFILE
                await waiting.connect(("127.0.0.1", house.door.port))
                late = Client(trio.SocketStream(waiting))
                await late.send(get("/api/ping"))
                for _ in range(5):
                    assert (await client.ask(get("/api/empty"))).status == 204
            finally:
                for filler in fillers:
                    filler.close()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert (await late.answer()).status == 200


async def test_shutting_down_is_orderly_for_those_who_listen() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            idle = await house.connect()
            await idle.ask(get("/api/ping"))
            fresh = await house.connect()
            busy = await house.connect()
            await busy.send(get("/raw/upload", "Content-Length: 4", method="POST") + b"xx")
            talker = await house.websocket()
            await until(lambda: house.upload.read >= 2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(house.door.shut)
                assert await idle.rest() == b""
                assert await fresh.rest() == b""
                with pytest.raises(OSError):
                    await trio.open_tcp_stream("127.0.0.1", house.door.port)
                opcode, payload = await talker.frame()
                assert (opcode, payload[:2]) == (8, (1001).to_bytes(2, "big"))
                await talker.send(client_frame(payload[:2], 8))
                assert await talker.rest() == b""
                answer = await busy.ask(b"xx")
                assert (answer.status, answer["connection"]) == (200, "close")
                assert await busy.rest() == b""
            assert house.door.connections == 0, "and nobody was waited for: it would have been minutes"


async def test_shutting_down_is_not_delayed_by_those_who_do_not_read(tmp_path: Path) -> None:
    (tmp_path / "b.bin").write_bytes(bytes(30_000_000))
    with trio.fail_after(60):
        config = settings(outlet_limit=20_000_000, outlet_close_grace=0.5, shutdown_send_timeout=0.3)
        async with open_house(tmp_path, config) as house:
            stuck = []
            for begun in (get("/api/large"), get("/files/b.bin"), handshake() + client_frame(b"flood 9000")):
                stuck.append(await house.connect(receive_buffer=4096))
                await stuck[-1].send(begun)
            silent = await house.websocket()  # never answers the Close
            stuck.append(await house.connect())
            await stuck[-1].send(get("/api/ping")[:-2])  # never ends its head
            await house.asked.wait()
            await until(lambda: house.door.connections == 5 and any(o.queued for o in house.chat.outlets))
            await until(lambda: [wire._waits for wire in house.door._wires].count(True) == 2)
            await house.door.shut()
            assert house.door.connections == 0
            assert await silent.close_code() == 1001


async def test_shutting_down_has_an_end_even_for_an_application_that_has_none() -> None:
    with trio.fail_after(60):
        async with open_house() as house:
            client = await house.connect()
            await client.send(get("/api/slow"))
            await house.asked.wait()
            await house.door.shut(timeout=0.3)
            await house.gone.wait()


async def test_a_port_that_is_taken_is_an_error_at_the_start() -> None:
    from veza.http import door

    with trio.fail_after(60):
        async with open_house() as house:
            with pytest.raises(OSError) as caught:
                await door.serve(settings(port=house.door.port), asgi_app=None, sockets={})
            assert caught.value.errno == errno.EADDRINUSE


async def test_names_that_stand_for_several_addresses_share_a_port() -> None:
    from veza.http.door import open_listeners

    listeners = await open_listeners("localhost", 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
    finally:
        for listener in listeners:
            listener.close()


async def test_an_idle_socket_is_cheap() -> None:
    """trio, trio-websocket and the door together; what an actor adds comes on top."""
    from tests.http.house import resident

    with trio.fail_after(60):
        async with open_house() as house:
            peers: list[socket.socket] = []

            async def crowd(count: int) -> None:
                # Plain sockets: the memory of a trio client would be counted as well.
                for _ in range(count):
                    peer = socket.create_connection(("127.0.0.1", house.door.port))
                    peer.send(handshake())
                    peers.append(peer)
                    if len(peers) % 20 == 0:
                        await trio.sleep(0.01)
                await until(lambda: house.door.open_sockets >= len(peers))

            try:
                await crowd(100)
                before = resident()
                await crowd(400)
                assert (resident() - before) / 400 < 25_000
            finally:
                for peer in peers:
                    peer.close()
