"""The people of the demonstration as clients of a server, each logged in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import trio

from veza.client import ApiError, VezaClient
from veza.client.link import single_error
from veza.commands.demo.people import ANNOUNCER, PEOPLE, Musician

T = TypeVar("T")
TRIES: Final = 30
LONGEST_WAIT: Final = 20.0


class Town:
    """Everybody who may come in, by username."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.clients: dict[str, VezaClient] = {}
        self.ids: dict[str, int] = {}

    def __getitem__(self, username: str) -> VezaClient:
        return self.clients[username]


@asynccontextmanager
async def open_town(url: str, password: str, *, new: bool) -> AsyncIterator[Town]:
    """Log everybody in, or make their accounts first if they are `new`; on the way out connections are closed.

    Raises:
        ApiError: AuthFailed if somebody cannot be logged in, 409 if a name is taken.
    """
    town = Town(url)
    async with AsyncExitStack() as stack:
        for person in PEOPLE:
            town.clients[person.username] = await stack.enter_async_context(VezaClient(url, timeout=30.0))
        if new:  # one first, who is refused before anybody has moved in
            await _enter(town, PEOPLE[0], password, True)
        others = PEOPLE[1:] if new else PEOPLE
        await each([partial(_enter, town, person, password, new) for person in others])
        yield town


async def _enter(town: Town, person: Musician, password: str, new: bool) -> None:
    client, name = town[person.username], person.username
    if new:
        answer = await patiently(
            lambda: client.register(
                name,
                f"{name}@veza.example",
                password,
                first_name=person.first_name,
                last_name=person.last_name,
            )
        )
    else:
        try:
            answer = await patiently(lambda: client.login(name, password))
        except ApiError as refusal:
            if refusal.status not in (401, 403, 423) or name == ANNOUNCER:
                raise
            del town.clients[name]  # somebody tried out what moderators can do
            return
    assert answer.user is not None
    town.ids[name] = answer.user.id


async def each(works: Sequence[Callable[[], Awaitable[Any]]]) -> None:
    """All of them at the same time; the first error ends the others."""
    async with single_error(), trio.open_nursery() as nursery:
        for work in works:
            nursery.start_soon(_run, work)


async def _run(work: Callable[[], Awaitable[Any]]) -> None:
    await work()


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, again where the server says that it is too much at once and how long to wait."""
    for _ in range(TRIES):
        try:
            return await work()
        except ApiError as refusal:
            if refusal.status not in (429, 503) or (refusal.retry_after or 0) > LONGEST_WAIT:
                raise
            await trio.sleep((refusal.retry_after or 1.0) + 0.1)
    return await work()
