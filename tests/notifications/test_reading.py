"""The list, read marks, preferences, mutes: one's own alone, and the same on every connection."""

from __future__ import annotations

from typing import Any

from tests.notifications.conftest import Hall, event
from veza.db import outbox
from veza.db.notifications import DEFAULTS
from veza.db.outbox import Event


async def listed(hall: Hall, token: str, query: str = "") -> Any:
    answer = await hall.api.get(f"/notifications{query}", token=token)
    assert answer.status == 200, answer.raw
    return answer.data


async def test_the_list_goes_by_pages_the_newest_first(hall: Hall) -> None:
    me, you, other = await hall.people(3)
    ear = await hall.connect(me)
    await hall.cause(
        *(
            event(you, me, kind, key=f"{kind}:{n}", data={"track_id": n})
            for n in range(3)
            for kind in ("like", "repost")
        )
    )
    told = [(await ear.expect("notification")).data for _ in range(6)]
    ids = [each["id"] for each in reversed(told)]
    whole = await listed(hall, me.token)
    assert [n["id"] for n in whole["notifications"]] == ids and whole["unread"] == 6
    for each in told:
        del each["unread"]
    assert whole["notifications"] == told[::-1], "REST and sockets say the same"
    found: list[int] = []
    query = "?limit=4"
    while True:
        answer = await hall.api.get(f"/notifications{query}", token=me.token)
        found += [n["id"] for n in answer.data["notifications"]]
        following = answer.json["meta"].get("next_cursor")
        if following is None:
            break
        query = f"?limit=4&cursor={following}"
    assert found == ids
    assert [n["kind"] for n in (await listed(hall, me.token, "?kind=like"))["notifications"]] == ["like"] * 3
    assert (await hall.api.put(f"/notifications/{ids[0]}/read", token=me.token)).data == {"unread": 5}
    unread = await listed(hall, me.token, "?unread=true&limit=100")
    assert [n["id"] for n in unread["notifications"]] == ids[1:] and unread["unread"] == 5
    assert (await listed(hall, other.token)) == {"notifications": [], "unread": 0}
    for method, path in (("PUT", f"/notifications/{ids[1]}/read"), ("DELETE", f"/notifications/{ids[1]}")):
        answer = await hall.api.request(method, path, token=other.token)
        assert (answer.status, answer.code) == (404, "NOTIFICATION_NOT_FOUND")
        assert (await hall.api.request(method, path.replace(str(ids[1]), "0"), token=me.token)).status == 404
    assert (await hall.api.get("/notifications/unread-count", token=me.token)).data == {"unread": 5}
    for query in ("?kind=card", "?limit=0", "?cursor=x", "?unread=maybe"):
        assert (await hall.api.get(f"/notifications{query}", token=me.token)).status == 400, query
    assert (await hall.api.get("/notifications")).status == 401


async def test_what_is_read_in_one_place_is_read_in_all(hall: Hall) -> None:
    me, you = await hall.people(2)
    tab, phone = await hall.connect(me), await hall.connect(me)
    await hall.cause(*(event(you, me) for _ in range(4)))
    ids = [(await tab.expect("notification"))["id"] for _ in range(4)]

    async def both_hear(what: dict[str, Any]) -> None:
        for client in (tab, phone):
            assert (await client.expect("notifications_read")).data == what

    assert (await hall.api.put(f"/notifications/{ids[3]}/read", token=me.token)).data == {"unread": 3}
    await both_hear({"ids": [ids[3]], "unread": 3})
    body = {"up_to": ids[0]}
    assert (await hall.api.post("/notifications/read-all", body, token=me.token)).data == {"unread": 2}
    await both_hear({"up_to": ids[0], "unread": 2})
    assert (await hall.api.delete(f"/notifications/{ids[1]}", token=me.token)).data == {"unread": 1}
    await both_hear({"ids": [ids[1]], "unread": 1, "deleted": True})
    await hall.cause(event(you, me))
    newest = await tab.expect("notification")
    assert newest["unread"] == 2
    assert (await hall.api.post("/notifications/read-all", token=me.token)).data == {"unread": 0}
    await both_hear({"up_to": newest["id"], "unread": 0})
    assert {n["id"] for n in (await listed(hall, me.token))["notifications"]} == {
        ids[0],
        *ids[2:],
        newest["id"],
    }
    assert (await hall.connect(me)).welcome["unread_notifications"] == 0


async def test_what_is_not_wanted_is_not_told(hall: Hall) -> None:
    me, you = await hall.people(2)
    ear = await hall.connect(me)

    async def prefer(body: Any) -> Any:
        answer = await hall.api.put("/notifications/preferences", body, token=me.token)
        assert answer.status == 200, answer.raw
        return answer.data["preferences"]

    usual = (await hall.api.get("/notifications/preferences", token=me.token)).data["preferences"]
    assert list(usual) == list(DEFAULTS) and usual["like"] == {"socket": True, "email": False}
    assert usual["mention"] == {"socket": True, "email": True}
    changed = await prefer({"preferences": {"like": {"socket": False}, "offer": {"socket": False}}})
    assert changed == {
        **usual,
        "like": {"socket": False, "email": False},
        "offer": {"socket": False, "email": True},
    }
    await prefer({"moderation": {"socket": False, "email": False}})
    await hall.cause(
        event(you, me, "like"),  # off on both
        event(you, me, "offer"),  # stored, not sent
        event(None, me, "moderation", data={"action": "warning"}),  # always stored
        event(you, me, "follow"),
    )
    told = await ear.expect("notification")
    assert (told["kind"], told["unread"]) == ("follow", 3)
    found = await listed(hall, me.token)
    assert [n["kind"] for n in found["notifications"]] == ["follow", "moderation", "offer"]
    later = await hall.connect(me)
    await hall.nothing_else(ear, later)
    for wrong in (
        {"preferences": {"card": {"socket": True}}},
        {"like": {"socket": "loud"}},
        {"preferences": []},
    ):
        assert (await hall.api.put("/notifications/preferences", wrong, token=me.token)).status == 400
    assert (await prefer({}))["follow"] == usual["follow"], "what is left out stays"


async def test_nobody_hears_of_those_he_muted_or_of_a_block_either_way(hall: Hall) -> None:
    me, muted, blocked, blocker, friend = await hall.people(5)
    ear = await hall.connect(me)
    for _ in range(2):
        assert (await hall.api.put(f"/users/{muted.id}/mute", token=me.token)).data == {"is_muted": True}
    assert (await hall.api.get(f"/users/{muted.id}", token=me.token)).data["is_muted"] is True
    mutes = (await hall.api.get("/users/me/mutes", token=me.token)).data["users"]
    assert [person["id"] for person in mutes] == [muted.id]
    assert (await hall.api.put(f"/users/{me.id}/mute", token=me.token)).status == 400
    assert (await hall.api.put("/users/0/mute", token=me.token)).code == "USER_NOT_FOUND"

    async def caused_then_blocked(conn: Any) -> None:
        """In one transaction, so that the courier, who looks by himself too, comes by after all of it."""
        await outbox.put(conn, event(blocked, me), event(blocker, me), event(muted, me))
        blocks = [(me.id, blocked.id), (blocker.id, me.id)]
        await conn.executemany("INSERT INTO blocks (blocker_id, blocked_id) VALUES ($1, $2)", blocks)

    await hall.house.db.write(caused_then_blocked)
    await hall.cause(
        event(blocked, me), event(blocker, me), event(muted, me), event(me, me), event(friend, me)
    )
    assert (await ear.expect("notification"))["user_id"] == friend.id
    for _ in range(2):
        assert (await hall.api.delete(f"/users/{muted.id}/mute", token=me.token)).data == {"is_muted": False}
    await hall.cause(event(muted, me))
    told = await ear.expect("notification")
    assert (told["user_id"], told["unread"]) == (muted.id, 2)


async def test_a_message_is_quoted_while_it_stands_and_to_members_alone(hall: Hall) -> None:
    ann, bob = await hall.people(2)
    room = await hall.house.room(ann, bob, kind="private")
    talk, ear = await hall.house.enter(ann, room.id), await hall.connect(bob)
    gone, kept = await talk.say(room.id, f"@{bob.name} secret"), await talk.say(room.id, f"@{bob.name} plan")
    for word in ("secret", "plan"):
        assert (await ear.expect("notification"))["excerpt"] == f"@{bob.name} {word}"
    await talk.send("delete_message", id=gone["id"])
    await talk.expect("message_deleted")
    first, second = (await listed(hall, bob.token))["notifications"]
    assert (first["message_id"], first["excerpt"], first["room"]) == (
        kept["id"],
        f"@{bob.name} plan",
        room.id,
    )
    assert second["message_id"] == gone["id"] and "excerpt" not in second
    await hall.sql("DELETE FROM room_members WHERE room_id = $1 AND user_id = $2", room.id, bob.id)
    for each in (await listed(hall, bob.token))["notifications"]:
        assert "excerpt" not in each and "room" not in each


async def test_a_card_cannot_be_forged(hall: Hall) -> None:
    ann, bob = await hall.people(2)
    client = await hall.connect(ann)
    await client.send("direct_message", to_user_id=bob.id, content="100 EUR", message_type="offer")
    assert (await client.expect("error"))["code"] == "INVALID_FORMAT"
    body = {"content": "100 EUR", "message_type": "offer"}
    answer = await hall.api.post(f"/chat/dm/{bob.id}", body, token=ann.token)
    assert (answer.status, answer.code) == (400, "INVALID_FORMAT")
    # Nor can one that was said be made to say something else.
    await hall.cause(Event("card", bob.id, ann.id, f"offer-{bob.id}", {"content": "100 EUR"}))
    card = await client.expect("direct_message")
    await client.send("edit_message", id=card["id"], content="1 EUR")
    assert (await client.expect("error"))["code"] == "PERMISSION_DENIED"
    rows = await hall.sql("SELECT content FROM messages WHERE id = $1", card["id"])
    assert rows[0][0] == "100 EUR"
