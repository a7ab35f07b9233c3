"""Live streams through a whole server on real sockets; the fixtures of the chat's tests serve here too.

`air`     the server, with an owner of streams
`on_air`  opens further ones: `async with on_air(stream_listeners_max=2) as air`
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.chat.conftest import (  # noqa: F401
    Build,
    House,
    Person,
    build,
    database_url,
    house,
    shared_database,
)
from tests.chat.conftest import settings as chat_settings  # noqa: F401
from tests.live.radio import PATIENCE, Listener, Reply, Source, Stream, Wire, basic, mp3, until
from tests.media.inputs import Inputs
from veza.actors.streams import LiveState, Streams
from veza.config import Settings
from veza.db import streams as streams_db
from veza.security import stream_keys

_count = 0


@dataclass
class Air:
    """A server, and what a test does with its streams."""

    house: House
    owner: Person
    sources: list[Source] = field(default_factory=list)  # a source that nobody holds hangs up

    @property
    def port(self) -> int:
        return self.house.port

    @property
    def streams(self) -> Streams:
        found = self.house.app.services.streams
        assert found is not None
        return found

    async def stream(
        self, *, visibility: str = "public", record: bool = False, owner: Person | None = None
    ) -> Stream:
        """A new one, made in the database."""
        global _count
        _count += 1
        key = stream_keys.new_key()
        slug = f"show-{stream_keys.hash_of(key).hex()[:8]}-{_count}"

        async def create(conn: Any) -> streams_db.Stream:
            return await streams_db.create(
                conn,
                (owner or self.owner).id,
                slug=slug,
                title=f"Show {_count}",
                description="A show.",
                category="music",
                visibility=visibility,
                record=record,
                key_hash=stream_keys.hash_of(key),
                most_open=1000,
                most_kept=1000,
            )

        made = await self.house.db.write(create)
        return Stream(made.id, made.slug, key)

    def state(self, stream: Stream) -> LiveState | None:
        return self.streams.glance(stream.slug)

    async def is_(self, stream: Stream, *states: str) -> None:
        """Until the stream is in this state, or one of these: a state that passes by itself may have passed already.

        Who wants to see the end asks for what is stored: its actor goes with it.
        """

        def there() -> bool:
            found = self.state(stream)
            return found is not None and found.state in states

        await until(there)

    async def stored(self, stream: Stream, state: str, **more: object) -> Any:
        """Until that is stored (and `more` of its columns, each a note of its own); its row."""
        with trio.fail_after(PATIENCE):
            while True:
                row = (await self.house.sql("SELECT * FROM streams WHERE id = $1", stream.id))[0]
                if row["state"] == state and all(row[column] == value for column, value in more.items()):
                    return row
                await trio.sleep(0.01)

    async def dial(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def ask(self, *lines: str, body: bytes = b"") -> Reply:
        """One request over a connection of its own."""
        wire = Wire(await self.dial())
        await wire.send("\r\n".join([lines[0], "Host: radio", *lines[1:], "", ""]).encode("latin-1") + body)
        reply = await wire.reply()
        await wire.close()
        return reply

    async def source(
        self, stream: Stream, *lines: str, sound: bytes | None = None, kind: str = "audio/mpeg"
    ) -> Source:
        """One that has begun, as FFmpeg does, and is heard; with the first ten frames unless others are given."""
        source = Source(await self.dial())
        self.sources.append(source)
        await source.begin(
            stream.path,
            f"Authorization: {basic(stream.key)}",
            f"Content-Type: {kind}",
            "Expect: 100-continue",
            *lines,
        )
        assert (await source.reply()).status == 100
        await source.send(mp3(0, 10) if sound is None else sound)
        await self.is_(stream, "live")
        return source

    async def listener(
        self, path: str, *lines: str, version: str = "1.1", receive_buffer: int | None = None
    ) -> Listener:
        """One who has been let in."""
        sock = trio.socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(("127.0.0.1", self.port))
        listener = Listener(trio.SocketStream(sock))
        reply = await listener.tune(path, *lines, version=version)
        assert reply.status == 200, reply
        return listener

    async def end(self, stream: Stream) -> None:
        with trio.fail_after(PATIENCE):
            await self.streams.end(stream.id)

    def change(self, **settings: float) -> None:
        """What holds from here on: a time that is short for what a test wants to see would be so for its beginning."""
        for name, value in settings.items():
            msgspec.structs.force_setattr(self.house.app.core.settings, name, value)


OnAir = Callable[..., AbstractAsyncContextManager[Air]]


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()


@pytest.fixture
def settings(chat_settings: Settings, tmp_path: Path) -> Settings:  # noqa: F811
    return msgspec.structs.replace(chat_settings, secret_key="a key for tests, long enough for HMAC-SHA256")


@pytest.fixture
def on_air(build: Build) -> OnAir:  # noqa: F811
    @asynccontextmanager
    async def open_(**changed: Any) -> AsyncIterator[Air]:
        async with build(**changed) as opened:
            yield Air(opened, await opened.person())

    return open_


@pytest.fixture
async def air(on_air: OnAir) -> AsyncIterator[Air]:
    async with on_air() as air:
        yield air
