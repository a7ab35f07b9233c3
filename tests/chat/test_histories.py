"""Histories and their pages."""

from __future__ import annotations

from tests.chat.conftest import House


async def test_pages_of_a_room(house: House) -> None:
    ann = await house.person()
    room = await house.room(ann)
    a = await house.enter(ann, room.id)
    for i in range(1, 121):
        await a.send("room_message", room=room.id, content=f"m{i}")
    await a.expect("room_message", content="m120")

    async def page(**how: object) -> tuple[list[int], bool, int | None]:
        history = await a.ask("room_history", "message_history", room=room.name, **how)
        assert (history["room"], history["total"]) == (room.name, 120)
        assert all(m["content"] == f"m{m['seq']}" for m in history["messages"])
        return [m["seq"] for m in history["messages"]], history["has_more"], history["next_before_seq"]

    assert await page() == (list(range(71, 121)), True, 71)
    assert await page(limit=100) == (list(range(21, 121)), True, 21)
    assert await page(limit=1) == ([120], True, 120)
    assert await page(offset=118) == ([1, 2], False, None)
    assert await page(limit=10, offset=10) == (list(range(101, 111)), True, 101)
    assert await page(offset=120) == ([], False, None)
    assert await page(offset=2**63 - 1) == ([], False, None)
    assert await page(before_seq=11) == (list(range(1, 11)), False, None)
    assert await page(before_seq=2**63 - 1, limit=2) == ([119, 120], True, 119)
    assert await page(before_seq=1) == ([], False, None)
    assert await page(before_seq=0) == ([], False, None)
    assert (await page(after_seq=110))[:2] == (list(range(111, 121)), False)
    assert (await page(after_seq=10, limit=5))[:2] == ([11, 12, 13, 14, 15], True)
    assert (await page(after_seq=2**63 - 1))[:2] == ([], False)
    # All of it, by following the pages.
    seen: list[int] = []
    before = None
    while True:
        seqs, has_more, before = await page(limit=33, **({} if before is None else {"before_seq": before}))
        seen = seqs + seen
        if not has_more:
            break
    assert seen == list(range(1, 121))
    for bad in (
        {"limit": 0},
        {"limit": 101},
        {"limit": -1},
        {"limit": 2**70},
        {"limit": 1.5},
        {"limit": "5"},
        {"limit": None},
        {"offset": -1},
        {"offset": 2**63},
        {"before_seq": -1},
        {"after_seq": "x"},
        {"room": None},
        {"room": [1]},
        {"room": 1.0},
        {"room": True},
    ):
        await a.refused("INVALID_FORMAT", "room_history", **({"room": room.name} | bad))


async def test_pages_of_a_conversation(house: House) -> None:
    ann, bob = await house.people(2)
    a, b = await house.connect(ann), await house.connect(bob)
    for i in range(1, 8):
        await (a if i % 2 else b).write(bob.id if i % 2 else ann.id, f"m{i}")
    for reader, other in ((a, bob), (b, ann)):
        history = await reader.ask("dm_history", "message_history", with_user=other.id, limit=3)
        assert "room" not in history.data
        assert (history["with_user"], history["total"], history["has_more"]) == (other.id, 7, True)
        assert [(m["seq"], m["from_user_id"], m["to_user_id"]) for m in history["messages"]] == [
            (5, ann.id, bob.id),
            (6, bob.id, ann.id),
            (7, ann.id, bob.id),
        ]
        older = await reader.ask(
            "dm_history", "message_history", with_user=other.id, before_seq=history["next_before_seq"]
        )
        assert [m["seq"] for m in older["messages"]] == [1, 2, 3, 4]
        assert older["has_more"] is False
        skipped = await reader.ask("dm_history", "message_history", with_user=other.id, offset=6)
        assert [m["seq"] for m in skipped["messages"]] == [1]


async def test_who_may_read(house: House) -> None:
    """A public room's history is for everybody who is not banned there, any other's for its members."""
    ann, bob, eve = await house.people(3)
    public = await house.room(ann, eve)
    private = await house.room(ann, bob, kind="private")
    a, b, e = await house.connect(ann), await house.connect(bob), await house.connect(eve)
    for room in (public, private):
        await a.say(room.id, "x")
    assert (await b.ask("room_history", "message_history", room=public.id))["total"] == 1
    assert (await b.ask("room_history", "message_history", room=private.id))["total"] == 1
    await e.refused("ROOM_NOT_FOUND", "room_history", room=private.id)
    await e.refused("ROOM_NOT_FOUND", "room_history", room=private.name)
    assert (await e.ask("room_history", "message_history", room=public.id))["total"] == 1
    await house.sql(
        "INSERT INTO room_sanctions (room_id, user_id, kind) VALUES ($1, $2, 'ban') RETURNING 1",
        public.id,
        eve.id,
    )
    await e.refused("ROOM_NOT_FOUND", "room_history", room=public.id)
