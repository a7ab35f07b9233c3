"""What happens to somebody's account shows at once where he talks."""

from __future__ import annotations

from tests.api.conftest import Api
from tests.api.live.conftest import Listener
from veza.app import Core


async def room_of(api: Api, owner: str, name: str = "Jazz") -> int:
    made = await api.post("/chat/rooms", {"name": name}, token=owner)
    assert made.status == 201, made.raw
    return int(made.data["id"])


async def test_a_new_name_shows_in_new_frames_and_is_mentioned_by(api: Api, core: Core) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    room_id = await room_of(api, alice.token)
    assert (await api.post(f"/chat/rooms/{room_id}/join", token=bob.token)).status == 200
    ear = Listener(core, alice)
    await ear.connect()
    await ear.join(room_id)
    assert (await api.put("/users/me", {"username": "robert"}, token=bob.token)).status == 200
    await api.post(f"/chat/rooms/{room_id}/messages", {"content": "it is me"}, token=bob.token)
    assert (await ear.ear.heard("room_message"))["username"] == "robert"
    assert (await api.put("/users/me", {"username": "alicia"}, token=alice.token)).status == 200
    said = await api.post(f"/chat/rooms/{room_id}/messages", {"content": "hi @alicia"}, token=bob.token)
    while said.data.get("mentions") != [alice.id]:  # rooms hear of it beside the request
        said = await api.post(f"/chat/rooms/{room_id}/messages", {"content": "hi @alicia"}, token=bob.token)
    assert ear.connection.username == "alicia"
