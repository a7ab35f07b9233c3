"""A play counts once a listener and day, when enough was heard; and its owner sees what was heard when."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any

import pytest
import trio

from tests.tracks.conftest import Open, Studio
from veza.http.api import tracks

pytestmark = pytest.mark.usefixtures("trusting")


@pytest.fixture(autouse=True)
def one_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """No midnight falls between two reports of a test."""
    began = datetime.now(UTC)

    class Today(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return began.astimezone(tz)

    monkeypatch.setattr(tracks, "datetime", Today)


async def play(studio: Studio, track: Any, seconds: float, token: str | None = None, **more: Any) -> Any:
    reply = await studio.ask(
        "POST", f"/tracks/{track['id']}/play", {"listened_s": seconds, **more}, token=token
    )
    assert reply.status == 200, reply.body
    return reply.data["counted"], reply.data["play_count"]


async def of_length(studio: Studio, seconds: float) -> Any:
    track = await studio.track()
    await studio.ready(track["id"], duration_ms=round(seconds * 1000))
    return track


async def test_a_listener_counts_once_a_day(studio: Studio) -> None:
    track = await of_length(studio, 200)
    one, two = await studio.house.people(2)
    assert await play(studio, track, 12, one.token) == (False, 0)
    assert await play(studio, track, 17.9, one.token) == (False, 0)
    assert await play(studio, track, 0.2, one.token) == (True, 1)
    assert await play(studio, track, 200, one.token) == (True, 1)
    assert await play(studio, track, 30, two.token) == (True, 2)
    assert await play(studio, track, 30) == (True, 3)  # nobody we know, from this address
    assert await play(studio, track, 30) == (True, 3)
    # Another day is another play.
    await studio.house.sql(
        "UPDATE track_plays SET day = day - 1 WHERE track_id = $1 AND user_id = $2", track["id"], one.id
    )
    assert await play(studio, track, 30, one.token) == (True, 4)


async def test_all_of_a_short_track_is_enough(studio: Studio) -> None:
    track = await of_length(studio, 10)
    one, two = await studio.house.people(2)
    assert await play(studio, track, 9.4, one.token) == (False, 0)
    assert await play(studio, track, 9.6, two.token) == (True, 1)
    # One report is of one hearing, which cannot be longer than the track.
    long = await of_length(studio, 20)
    await play(studio, long, 86_400, one.token)
    rows = await studio.house.sql("SELECT listened_ms FROM track_plays WHERE track_id = $1", long["id"])
    assert [row[0] for row in rows] == [20_000]


async def test_many_reports_at_once_are_one_play(studio: Studio) -> None:
    track = await of_length(studio, 200)
    one = await studio.house.person()
    answers: list[tuple[bool, int]] = []

    async def report() -> None:
        answers.append(await play(studio, track, 10, one.token))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(report)
    assert sum(counted for counted, _ in answers) == 6  # from the third on
    rows = await studio.house.sql("SELECT listened_ms FROM track_plays WHERE track_id = $1", track["id"])
    assert [row[0] for row in rows] == [80_000]
    assert (await studio.ask("GET", f"/tracks/{track['id']}")).data["play_count"] == 1


async def test_no_address_is_stored(studio: Studio) -> None:
    first, second = await of_length(studio, 100), await of_length(studio, 100)
    for track in (first, second):
        await play(studio, track, 30)
    rows = await studio.house.sql(
        "SELECT listener, user_id FROM track_plays WHERE track_id = ANY ($1)", [first["id"], second["id"]]
    )
    listeners = {row[0] for row in rows}
    assert len(listeners) == 2 and all(row[1] is None for row in rows)  # not told to be the same one
    assert not any("127" in name and "." in name for name in listeners)
    assert all(len(name) == 33 and name[0] == "a" for name in listeners)


async def test_what_the_owner_sees(studio: Studio) -> None:
    track = await of_length(studio, 100)
    one, two, three = await studio.house.people(3)
    await play(studio, track, 79, one.token, completed=True)  # nobody hears the end of what he skipped
    await play(studio, track, 80, two.token, completed=True)
    await play(studio, track, 10, three.token)
    await studio.house.sql(
        "UPDATE track_plays SET day = day - 2 WHERE track_id = $1 AND user_id = $2", track["id"], one.id
    )
    await play(studio, track, 100, one.token)
    stats = (await studio.ask("GET", f"/tracks/{track['id']}/stats?days=3")).data
    assert stats["play_count"] == 3
    assert [day["plays"] for day in stats["by_day"]] == [1, 0, 2]
    assert [day["listeners"] for day in stats["by_day"]] == [1, 0, 3]
    assert [day["completed"] for day in stats["by_day"]] == [0, 0, 1]
    assert [day["listened_s"] for day in stats["by_day"]] == [79, 0, 190]
    assert stats["total"] == {"plays": 3, "listeners": 3, "completed": 1, "listened_s": 269}
    assert stats["completion"] == 0.25
    assert len((await studio.ask("GET", f"/tracks/{track['id']}/stats")).data["by_day"]) == 30
    assert (await studio.ask("GET", f"/tracks/{track['id']}/stats?days=367")).status == 400


async def test_plays_cannot_be_poured_in(open_studio: Open) -> None:
    async with open_studio(rate_plays_per_minute=1e-3, rate_plays_burst=2) as studio:
        track = await of_length(studio, 100)
        for _ in range(2):
            await play(studio, track, 30)
        reply = await studio.ask("POST", f"/tracks/{track['id']}/play", {"listened_s": 30}, token=None)
        assert (reply.status, reply.code) == (429, "RATE_LIMITED") and "retry-after" in reply.headers
        await play(studio, track, 30, studio.me.token)


async def test_bad_reports(studio: Studio) -> None:
    track = await of_length(studio, 100)
    bodies: list[dict[str, Any]] = [{}, {"listened_s": -1}, {"listened_s": 86_401}, {"listened_s": "long"}]
    for body in bodies:
        reply = await studio.ask("POST", f"/tracks/{track['id']}/play", body)
        assert (reply.status, set(reply.json["details"])) == (400, {"listened_s"}), body
