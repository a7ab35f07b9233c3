"""`veza serve` as a process of its own, with its own PostgreSQL, and people in it: for tests that kill it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio

from tests.chat.client import Client, request
from tests.chat.conftest import SECRET, House, Person
from tests.cli.conftest import Server, Veza, serving
from veza.db.embedded import EmbeddedPostgres, embedded_url
from veza.db.pool import open_database
from veza.security.tokens import AccessTokens

SETTINGS = {
    "JWT_SECRET": SECRET,
    "MAX_CONNECTIONS_PER_IP": "5000",
    "WS_CONNECTIONS_PER_IP": "5000",
    "RATE_MESSAGES_PER_MINUTE": "6000000",
    "RATE_MESSAGES_BURST": "100000",
    "RATE_FRAMES_PER_SECOND": "100000",
    "RATE_FRAMES_BURST": "100000",
    # Who comes back late, for something of his was slow, has still not missed too much.
    "ROOM_RING_MESSAGES": "100000",
    "ROOM_RING_BYTES": "64MiB",
}


@dataclass
class FarHouse(House):
    """A House whose server is another process. Its database is reached as a command would reach it."""

    server: Server | None = None
    data: Path = Path()

    @property
    def port(self) -> int:
        assert self.server is not None
        return self.server.port

    async def deaf(self, person: Person, room: int) -> trio.SocketStream:
        """Somebody who joins a room and never reads a byte of what is said there. Returns his end of the line."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(request(person.token))
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1)
        client = Client(stream, None, b"")
        await client.send("join_room", room=room)
        return stream


@asynccontextmanager
async def far_house(home: Path, **settings: str) -> AsyncIterator[FarHouse]:
    """The server in a directory, over what an earlier one left there."""
    veza = Veza(home, **{**SETTINGS, **settings})
    data = home / "data"
    async with trio.open_nursery() as nursery, serving(veza) as server:
        postgres = EmbeddedPostgres(data)
        assert await postgres.attach()
        async with open_database(postgres.url, size=2) as db:
            app: Any = SimpleNamespace(services=SimpleNamespace(tokens=AccessTokens(SECRET, 3600.0)))
            yield FarHouse(app, db, nursery, server=server, data=data)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def what_it_left(data: Path) -> AsyncIterator[Any]:
    """The database of a server that has ended; only `sql` of it is of use."""
    async with embedded_url(data) as url, open_database(url, size=1) as db, trio.open_nursery() as nursery:
        app: Any = None
        yield House(app, db, nursery)
