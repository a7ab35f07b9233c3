"""Steps that many of these tests take."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Answer, Api, Person
from veza.db import admins


async def make(api: Api, owner: Person, name: str = "Jazz", **fields: Any) -> int:
    """A room of somebody's."""
    made = await api.post("/chat/rooms", {"name": name, **fields}, token=owner.token)
    assert made.status == 201, made.raw
    return int(made.data["id"])


async def join(api: Api, room: int | str, *people: Person) -> None:
    for person in people:
        answer = await api.post(f"/chat/rooms/{room}/join", token=person.token)
        assert answer.status == 200, answer.raw


async def invite(api: Api, room: int, by: Person, **how: Any) -> str:
    answer = await api.post(f"/chat/rooms/{room}/invites", how, token=by.token)
    assert answer.status == 201, answer.raw
    return str(answer.data["code"])


async def accept(api: Api, code: str, person: Person) -> Answer:
    return await api.post(f"/chat/invites/{code}", token=person.token)


async def private(api: Api, owner: Person, *members: Person, name: str = "Back room") -> int:
    """A private room with these members."""
    room = await make(api, owner, name, is_private=True)
    code = await invite(api, room, owner)
    for member in members:
        assert (await accept(api, code, member)).status == 200
    return room


async def say(api: Api, room: int | str, person: Person, text: str = "hello", **fields: Any) -> Any:
    answer = await api.post(f"/chat/rooms/{room}/messages", {"content": text, **fields}, token=person.token)
    assert answer.status == 201, answer.raw
    return answer.data


async def appoint(api: Api, person: Person, role: str) -> Person:
    """Give a platform role, as the command line does."""
    await api.services.db.write(admins.promote, person.username, role)
    api.services.registry.changed_user(person.id)
    return person


async def staff(api: Api, role: str, name: str | None = None) -> Person:
    return await appoint(api, await api.person(name or role), role)
