"""A whole server per test, and a network to it that can be cut and mended.

`start_server`  starts one more on the test's database (`settings` by name); ends with the test
`server`        the usual one
`network`       a way to it that forwards bytes until it is cut
`person`        makes a logged-in `VezaClient` of a new account
"""

import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from veza.app import App, open_server
from veza.client import VezaClient
from veza.config import Settings
from veza.db.pool import Database

PASSWORD = "correct horse"

StartServer = Callable[..., Any]
MakePerson = Callable[..., Awaitable[VezaClient]]


def settings_for(data: Path, **changed: Any) -> Settings:
    """Settings under which tests need not wait: cheap passwords, no rates worth speaking of."""
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "data": data,
        "jwt_secret": "j" * 40,
        "secret_key": "s" * 40,
        "argon2_memory_kib": 64,
        "argon2_time_cost": 1,
        "rate_messages_per_minute": 1e9,
        "rate_messages_burst": 1_000_000,
        "rate_frames_per_second": 1e9,
        "rate_frames_burst": 1_000_000,
        "rate_rest_per_minute": 1e9,
        "rate_rest_burst": 1_000_000,
        "rate_login_per_minute": 1_000,
    }
    return Settings(**{**usual, **changed})


@pytest.fixture
async def start_server(db: Database, tmp_path: Path) -> StartServer:
    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[App]:
        async with open_server(settings_for(tmp_path, **settings), db) as app:
            yield app

    return start


@pytest.fixture
async def server(start_server: StartServer) -> AsyncIterator[App]:
    async with start_server() as app:
        yield app


@pytest.fixture
async def person(server: App) -> AsyncIterator[MakePerson]:
    numbers = itertools.count(1)
    async with AsyncExitStack() as stack:

        async def make(name: str | None = None, url: str | None = None, **options: Any) -> VezaClient:
            client = VezaClient(url or f"http://127.0.0.1:{server.port}", **options)
            await stack.enter_async_context(client)
            name = name or f"person{next(numbers)}"
            await client.register(name, f"{name}@example.org", PASSWORD)
            return client

        yield make


class Network:
    """A port whose connections are forwarded to a server; `cut` drops them all and lets no new one through."""

    def __init__(self, listener: trio.SocketListener, target: int) -> None:
        self._listener = listener
        self.target = target
        self.port: int = listener.socket.getsockname()[1]
        self.up = True
        self.refused = 0
        self._scopes: set[trio.CancelScope] = set()
        self._ways: list[trio.SocketStream] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        self.up = False
        for scope in self._scopes:
            scope.cancel()

    def mend(self) -> None:
        self.up = True

    def hiccup(self) -> None:
        """Drop everybody, and let them come back."""
        for scope in self._scopes:
            scope.cancel()

    async def serve(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                stream = await self._listener.accept()
                nursery.start_soon(self._forward, stream)

    async def _forward(self, near: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            if not self.up:
                self.refused += 1
                _reset(near)
                return
            self._scopes.add(scope)
            try:
                far = await trio.open_tcp_stream("127.0.0.1", self.target)
                try:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._pump, near, far, nursery.cancel_scope)
                        nursery.start_soon(self._pump, far, near, nursery.cancel_scope)
                finally:
                    _reset(far)
            except OSError:
                pass
            finally:
                self._scopes.discard(scope)
                _reset(near)

    async def _pump(
        self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope
    ) -> None:
        try:
            async for data in source:
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


def _reset(stream: trio.SocketStream) -> None:
    """Close without a goodbye."""
    try:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    except OSError:
        pass
    stream.socket.close()


@asynccontextmanager
async def network_to(port: int) -> AsyncIterator[Network]:
    """A way to the server at a port that can be cut."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    made = Network(listener, port)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(made.serve)
        yield made
        nursery.cancel_scope.cancel()


@pytest.fixture
async def network(server: App) -> AsyncIterator[Network]:
    async with network_to(server.port) as made:
        yield made
