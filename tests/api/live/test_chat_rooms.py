"""Rooms over REST: listed, made, changed, joined and left; private ones do not exist for strangers."""

from __future__ import annotations

from tests.api.conftest import Api


async def test_general_is_there_from_the_start(api: Api) -> None:
    alice = await api.person("alice")
    answer = await api.get("/chat/rooms", token=alice.token)
    assert [room["name"] for room in answer.data["rooms"]] == ["general"]
    assert answer.json["meta"] == {"page": 1, "per_page": 20, "total": 1, "total_pages": 1}
    room = answer.data["rooms"][0]
    assert set(room) >= {
        "id", "name", "description", "kind", "is_private", "owner_id", "member_count", "online", "unread",
        "last_message", "created_at",
    }  # fmt: skip


async def test_a_room_from_its_making_to_its_end(api: Api) -> None:
    alice, bob = await api.person("alice"), await api.person("bob")
    made = await api.post("/chat/rooms", {"name": "Jazz"}, token=alice.token)
    assert made.status == 201 and made.data["owner_id"] == alice.id and made.data["role"] == "owner"
    assert (await api.post("/chat/rooms", {"name": "jazz"}, token=bob.token)).status == 409
    assert (await api.post("/chat/rooms/Jazz/join", token=bob.token)).data["member_count"] == 2
    said = await api.post("/chat/rooms/Jazz/messages", {"content": "hi"}, token=bob.token)
    assert said.status == 201 and said.data["content"] == "hi" and said.data["seq"] == 1
    shown = (await api.get("/chat/rooms/JAZZ", token=alice.token)).data
    assert shown["last_message"]["content"] == "hi" and shown["unread"] == 1
    for path in ("/chat/unread", "/chat/conversations", "/chat/rooms/Jazz/members", "/chat/rooms/Jazz/pins"):
        assert (await api.get(path, token=alice.token)).status == 200, path
    found = await api.get("/chat/search?q=hi", token=alice.token)
    assert [m["id"] for m in found.data["messages"]] == [said.data["id"]]
    assert (await api.post(f"/chat/dm/{bob.id}", {"content": "psst"}, token=alice.token)).status == 201
    assert (await api.get("/chat/conversations", token=bob.token)).data["conversations"][0][
        "unread_count"
    ] == 1
    assert (await api.delete("/chat/rooms/Jazz", token=bob.token)).status == 403
    assert (await api.delete("/chat/rooms/Jazz", token=alice.token)).status == 200
    assert (await api.get("/chat/rooms/Jazz", token=alice.token)).status == 404
