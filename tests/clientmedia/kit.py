"""Clients of a house, and lines to it that break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from tests.chat.conftest import House, Person
from tests.client.conftest import Network
from veza.client import Tokens, VezaClient


@asynccontextmanager
async def client_of(house: House, person: Person, port: int | None = None) -> AsyncIterator[VezaClient]:
    tokens = Tokens(access_token=person.token)
    async with VezaClient(f"http://127.0.0.1:{port or house.port}", tokens=tokens) as client:
        yield client


@asynccontextmanager
async def line_to(house: House) -> AsyncIterator[Network]:
    """A way to the server that can be cut."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    made = Network(listener, house.port)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(made.serve)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def soon(opening: AbstractAsyncContextManager[House]) -> AsyncIterator[House]:
    """A house for a test that must not hang."""
    with trio.fail_after(60):
        async with opening as house:
            yield house
