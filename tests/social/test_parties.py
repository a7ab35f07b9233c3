"""Listening together over real sockets and the real database: all hear the same, and only who may turns the knobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.chat.conftest import Build, House, Person, build
from tests.chat.conftest import settings as settings
from veza.db import rooms as rooms_db

__all__ = ["build"]


HOUR = 3_600_000  # milliseconds
# Milliseconds: a process may be held up anywhere, for seconds; a track in the wrong place is off by much more.
LATE = 60_000


@pytest.fixture
async def house(build: Build) -> AsyncIterator[House]:
    async with build() as house:
        yield house


async def song(
    house: House, owner: Person, *, public: bool = True, ready: bool = True, ms: int = HOUR
) -> int:
    rows = await house.sql(
        """INSERT INTO tracks (owner_id, name, title, artist, extension, content_type, size, is_public, status,
                               duration_ms)
           VALUES ($1, 'p' || substr(md5(random()::text), 1, 20), 'Song', 'Ann', 'mp3', 'audio/mpeg', 1, $2, $3, $4)
           RETURNING id""",
        owner.id,
        public,
        "ready" if ready else "processing",
        ms,
    )
    return int(rows[0][0])


def drift(state: dict[str, Any], other: dict[str, Any]) -> float:
    """Milliseconds by which two states disagree about where the track is."""

    def begun(one: dict[str, Any]) -> datetime:
        return datetime.fromisoformat(one["server_time"]) - timedelta(milliseconds=one["position_ms"])

    return abs((begun(state) - begun(other)).total_seconds() * 1000)


async def test_a_party_from_beginning_to_end(house: House) -> None:
    owner, dj, guest = await house.people(3)
    room = await house.room(owner, dj, guest)
    track = await song(house, guest)
    d, g = await house.enter(dj, room.id), await house.enter(guest, room.id)
    nothing = await g.ask("party_get", "party_state", room=room.id)
    assert (nothing["track_id"], nothing["playing"], nothing["position_ms"]) == (None, False, 0)
    await d.send("party_start", room=room.id, track_id=track, position_ms=600_000)
    for client in (d, g):
        state = await client.expect("party_state", track_id=track)
        assert (state["room"], state["room_id"], state["title"], state["artist"]) == (
            room.name,
            room.id,
            "Song",
            "Ann",
        )
        assert (state["duration_ms"], state["playing"], state["by"], state["started_by"]) == (
            HOUR,
            True,
            dj.id,
            dj.id,
        )
        assert 600_000 <= state["position_ms"] < 600_000 + LATE
    late = await house.connect(owner)
    await late.send("join_room", room=room.id)
    kinds = [
        (await late.next(lambda f: f.type in ("join_room_ack", "party_state"), "both")).type for _ in "12"
    ]
    assert kinds == ["join_room_ack", "party_state"]
    assert drift(late.seen("party_state")[0].data, state.data) < LATE
    asked = await late.ask("party_get", "party_state", room=room.name)
    assert drift(asked.data, state.data) < LATE
    await d.send("party_pause", room=room.id)
    paused = await g.expect("party_state", playing=False)
    await late.send("party_seek", room=room.id, position_ms=1_800_000)  # the room's owner may
    assert (await g.expect("party_state", position_ms=1_800_000))["playing"] is False
    await d.send("party_play", room=room.id)
    assert 1_800_000 <= (await g.expect("party_state", playing=True))["position_ms"] < 1_800_000 + LATE
    await d.send("party_play", room=room.id, position_ms=300_000)
    assert 300_000 <= (await g.expect("party_state", by=dj.id))["position_ms"] < 300_000 + LATE
    await d.send("party_stop", room=room.id)
    assert (await g.expect("party_state", track_id=None))["playing"] is False
    assert 600_000 <= paused["position_ms"] < 600_000 + LATE
    assert await house.sql("SELECT 1 FROM room_parties WHERE room_id = $1", room.id) == []


async def test_who_may_turn_the_knobs(house: House) -> None:
    owner, moderator, dj, guest, stranger, muted = await house.people(6)
    admin = await house.person(role="moderator")
    room = await house.room(owner, dj, guest, muted, admin, kind="private", moderators=(moderator,))
    track = await song(house, owner)
    await house.db.write(rooms_db.sanction, room.id, muted.id, "mute", None, None, owner.id)
    clients = {p: await house.connect(p) for p in (owner, moderator, dj, guest, stranger, muted, admin)}
    about = {"room": room.id}
    await clients[dj].refused("NO_PARTY", "party_pause", **about)
    await clients[stranger].refused("ROOM_NOT_FOUND", "party_start", **about, track_id=track)
    await clients[stranger].refused("ROOM_NOT_FOUND", "party_get", **about)
    await clients[muted].refused("MUTED", "party_start", **about, track_id=track)
    await clients[dj].send("party_start", **about, track_id=track)
    await clients[dj].expect("party_state", track_id=track)  # also without having joined
    for kind, more in (
        ("pause", {}),
        ("play", {}),
        ("seek", {"position_ms": 5}),
        ("stop", {}),
        ("start", {"track_id": track}),
    ):
        await clients[guest].refused("PERMISSION_DENIED", f"party_{kind}", **about, **more)
    for who in (owner, moderator, admin, dj):
        await clients[who].send("party_seek", **about, position_ms=who.id % 1000)
        await clients[who].expect("party_state", by=who.id)
    # Nobody who was shown the door turns them any more.
    await house.db.write(rooms_db.remove_member, room.id, dj.id)
    house.app.core.system.restart(f"rooms/{room.id}")
    await clients[dj].refused("ROOM_NOT_FOUND", "party_stop", **about)


async def test_in_a_conversation_both_may(house: House) -> None:
    ann, bob = await house.people(2)
    track = await song(house, ann)
    a, b = await house.connect(ann), await house.connect(bob)
    await a.refused("ROOM_NOT_FOUND", "party_start", with_user=bob.id, track_id=track)
    ack = await a.write(bob.id, "listen to this")
    await a.send("party_start", with_user=bob.id, track_id=track)
    await b.expect("party_state", track_id=track, room=ack["room_id"])
    await b.send("party_pause", with_user=ann.id)
    await a.expect("party_state", playing=False, by=bob.id)
    # Who comes later is in it without asking, and hears of it.
    again = await house.connect(bob)
    assert (await again.expect("party_state"))["playing"] is False


async def test_what_cannot_be_played_to_everybody(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, bob)
    a = await house.enter(ann, room.id)
    mine, theirs = await song(house, ann, public=False), await song(house, bob, public=False)
    raw, good = await song(house, ann, ready=False), await song(house, bob)
    await a.refused("PERMISSION_DENIED", "party_start", room=room.id, track_id=mine)
    await a.refused("PERMISSION_DENIED", "party_start", room=room.id, track_id=raw)
    for missing in (theirs, 0, 2**63 - 1):
        await a.refused("TRACK_NOT_FOUND", "party_start", room=room.id, track_id=missing)
    for bad in ({}, {"track_id": -1}, {"track_id": "x"}, {"track_id": good, "position_ms": -1}):
        await a.refused("INVALID_FORMAT", "party_start", room=room.id, **bad)
    await a.refused("INVALID_FORMAT", "party_start", room=room.id, track_id=good, position_ms=HOUR)
    await a.refused("INVALID_FORMAT", "party_start", track_id=good)
    await a.refused("INVALID_FORMAT", "party_seek", room=room.id)
    await a.send("party_start", room=room.id, track_id=good, playing=False)
    assert (await a.expect("party_state"))["playing"] is False
    await a.refused("INVALID_FORMAT", "party_seek", room=room.id, position_ms=HOUR + 1)
    await a.refused("INVALID_FORMAT", "party_seek", room=room.id, position_ms=2**63)
    assert (await a.ask("party_get", "party_state", room=room.id))["position_ms"] == 0


async def test_changes_count_as_messages(build: Build) -> None:
    async with build(rate_messages_per_minute=1.0, rate_messages_burst=2) as house:
        ann = await house.person()
        room = await house.room(ann)
        track = await song(house, ann)
        a = await house.enter(ann, room.id)
        await a.send("party_start", room=room.id, track_id=track)
        await a.send("party_pause", room=room.id)
        await a.refused("RATE_LIMITED", "party_play", room=room.id)
        await a.ask("party_get", "party_state", room=room.id)


async def test_it_survives_the_end_of_the_server(build: Build) -> None:
    async with build() as house:
        ann = await house.person()
        room = await house.room(ann)
        track = await song(house, ann)
        a = await house.enter(ann, room.id)
        await a.send("party_start", room=room.id, track_id=track, position_ms=1_000_000)
        before = (await a.expect("party_state")).data
    async with build() as house:
        a = await house.connect(ann)
        await a.join(room.id)
        after = (await a.expect("party_state")).data
        assert after["playing"] and after["position_ms"] > before["position_ms"]
        assert drift(before, after) < LATE
        assert (after["started_by"], after["by"]) == (ann.id, None)


async def test_it_ends_with_its_track(house: House) -> None:
    ann = await house.person()
    rooms = [await house.room(ann) for _ in range(2)]
    track, short = await song(house, ann), await song(house, ann, ms=300)
    a = await house.enter(ann, *(room.id for room in rooms))
    await a.send("party_start", room=rooms[0].id, track_id=track)
    await a.expect("party_state", track_id=track)
    await a.send("party_start", room=rooms[1].id, track_id=short)
    ended = await a.expect("party_state", track_id=short, playing=False)
    assert ended["position_ms"] == 300
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}/api/v1", timeout=60) as http:
        auth = {"Authorization": f"Bearer {ann.token}"}
        assert (await http.put(f"/tracks/{track}", json={"title": "Mine"}, headers=auth)).status_code == 200
        await a.expect("party_state", track_id=track, title="Mine", playing=True)
        assert (await http.delete(f"/tracks/{track}", headers=auth)).status_code == 200
        assert (
            await http.put(f"/tracks/{short}", json={"is_public": False}, headers=auth)
        ).status_code == 200
    assert (await a.expect("party_state", room_id=rooms[0].id, track_id=None))["duration_ms"] is None
    await a.expect("party_state", room_id=rooms[1].id, track_id=None)
    assert await house.sql("SELECT 1 FROM room_parties WHERE room_id = ANY ($1)", [r.id for r in rooms]) == []


async def test_rest_says_what_is_played(house: House) -> None:
    ann, bob = await house.people(2)
    room = await house.room(ann, kind="private")
    track = await song(house, ann)
    a = await house.enter(ann, room.id)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}/api/v1", timeout=60) as http:

        async def get(person: Person) -> Any:
            return await http.get(
                f"/chat/rooms/{room.id}/party", headers={"Authorization": f"Bearer {person.token}"}
            )

        answer = await get(ann)
        assert (answer.status_code, answer.json()["code"]) == (404, "NO_PARTY")
        assert (await get(bob)).json()["code"] == "ROOM_NOT_FOUND"
        await a.send("party_start", room=room.id, track_id=track, position_ms=600_000)
        state = (await a.expect("party_state")).data
        data = (await get(ann)).json()["data"]
        assert data["track_id"] == track and data["url"] == f"/api/v1/tracks/{track}/stream"
        assert drift(state, data) < LATE
