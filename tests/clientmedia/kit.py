"""Clients of a house, and lines to it that break."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from tests.chat.conftest import House, Person
from tests.client.conftest import Network, network_to
from veza.client import Tokens, VezaClient


@asynccontextmanager
async def client_of(house: House, person: Person, port: int | None = None) -> AsyncIterator[VezaClient]:
    tokens = Tokens(access_token=person.token)
    async with VezaClient(f"http://127.0.0.1:{port or house.port}", tokens=tokens) as client:
        yield client


@asynccontextmanager
async def line_to(house: House) -> AsyncIterator[Network]:
    """A way to the server that can be cut."""
    async with network_to(house.port) as made:
        yield made


@asynccontextmanager
async def soon(opening: AbstractAsyncContextManager[House]) -> AsyncIterator[House]:
    """A house for a test that must not hang."""
    with trio.fail_after(300):
        async with opening as house:
            yield house
