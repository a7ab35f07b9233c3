"""Who hears that somebody goes on air, and who does not."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.api.live.conftest import Listener
from tests.social.conftest import Person
from tests.streams.conftest import Studio
from veza.db import courier


async def online(studio: Studio, who: Person) -> Listener:
    listener = Listener(studio.core, who)  # type: ignore[arg-type]
    await listener.connect()
    return listener


async def follow(studio: Studio, followed: Person, *followers: Person) -> None:
    for follower in followers:
        assert (await studio.put(f"/users/{followed.id}/follow", None, follower)).status == 200


async def test_followers_who_are_online_hear_it_once_a_broadcast(
    studio: Studio, song: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "PEOPLE", 2)  # several pages
    me, *fans, stranger = await studio.people(7)
    await follow(studio, me, *fans)
    ears = [await online(studio, fan) for fan in fans[1:]]
    outside = await online(studio, stranger)
    made = await studio.stream(me, title="Sunday tunes", category="talk")
    source = await studio.source(made["id"], song)
    for ear in ears:
        told = await ear.ear.heard("notification")
        assert told == {
            "id": told["id"],
            "created_at": told["created_at"],
            "unread": 1,
            "kind": "stream_started",
            "stream_id": made["id"],
            "slug": made["slug"],
            "title": "Sunday tunes",
            "category": "talk",
            "room_id": made["room_id"],
            "user_id": me.id,
            "username": me.username,
            "avatar": None,
        }
    source.drop()
    await studio.source(made["id"], song)
    again = await studio.stream(me)
    await studio.source(again["id"], song)
    for ear in ears:
        assert (await ear.ear.heard("notification", 2))["stream_id"] == again["id"], "not told of a return"
    assert outside.ear.of("notification") == []
    late = await online(studio, fans[0])
    missed = [await late.ear.heard("notification", count) for count in (1, 2)]
    assert [told["stream_id"] for told in missed] == [made["id"], again["id"]], (
        "who comes later hears it then"
    )


@pytest.mark.parametrize(("visibility", "hear"), [("unlisted", set()), ("private", {"guest"})])
async def test_what_is_not_public_is_told_to_those_who_were_let_in(
    studio: Studio, song: bytes, visibility: str, hear: set[str]
) -> None:
    me, fan, guest = await studio.people(3)
    await follow(studio, me, fan)
    made = await studio.stream(me, visibility=visibility)
    await studio.sql("INSERT INTO room_members (room_id, user_id) VALUES ($1, $2)", made["room_id"], guest.id)
    ears = {"fan": await online(studio, fan), "guest": await online(studio, guest)}
    public = await studio.stream(me)
    await follow(studio, me, guest)
    await studio.source(made["id"], song)
    await studio.on_air(made["id"])  # so what is told of it comes before what is told of the other one
    for name in hear:
        await ears[name].ear.heard("notification")
    await studio.source(public["id"], song)
    told: dict[str, Any] = {}
    for name, ear in ears.items():
        with trio.fail_after(30):
            while public["id"] not in {n["stream_id"] for n in ear.ear.of("notification")}:
                await ear.ear.heard("notification", len(ear.ear.of("notification")) + 1)
        told[name] = {n["stream_id"] for n in ear.ear.of("notification")}
    assert {name for name, ids in told.items() if made["id"] in ids} == hear
