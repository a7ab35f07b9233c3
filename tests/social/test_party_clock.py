"""The clock of a party, on trio's mock clock: no I/O takes part, so every millisecond is exact.

The room is the real one over the real kernel; what it would ask the database is a few records in memory.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.api.live.conftest import Ear
from veza.actors import party
from veza.actors.carried import Carried
from veza.actors.commands import Join, Leave, PartyMove, PartyStart, PartyStop, Person, TrackChanged
from veza.actors.errors import Refused
from veza.actors.fanout import Tally
from veza.actors.kernel import Actor, Ref, System, open_system
from veza.actors.marks import ReadMarks
from veza.actors.party import Party
from veza.actors.ports import Connection
from veza.actors.room import RoomActor
from veza.config import Settings
from veza.db import parties as parties_db
from veza.db import rooms as rooms_db
from veza.db.errors import Unavailable
from veza.db.parties import PartyRow, PartyTrack

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SONG = PartyTrack(5, "Song", "Ann", 180_000)
ANN, BOB = Person(1, "ann"), Person(2, "bob")


def the_time() -> datetime:
    """The wall clock goes as trio's does."""
    return NOON + timedelta(seconds=trio.current_time())


@pytest.fixture(autouse=True)
def wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(party, "wall", the_time)


class Records:
    """A room of two and its party; answers the units of a room with what PostgreSQL would."""

    def __init__(self) -> None:
        self.row: PartyRow | None = None
        self.tracks = {SONG.id: SONG, 6: PartyTrack(6, "Short", None, 1_000)}
        self.away = False

    async def read(self, unit: Any, *args: Any) -> Any:
        assert unit is parties_db.room, unit
        room = rooms_db.Room(1, "public", "jazz", None, 1, None, 0, 0, 0, 2, NOON)
        members = [rooms_db.Member(1, "ann", "owner", 0), rooms_db.Member(2, "bob", "member", 0)]
        return parties_db.Opened(rooms_db.Loaded(room, members, []), self.row, [])

    async def write(self, unit: Any, room_id: int, *args: Any) -> Any:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Unavailable("away")
        if unit is parties_db.start:
            track_id, person, position, playing, since = args
            if track_id not in self.tracks:
                return "gone"
            self.row = PartyRow(self.tracks[track_id], position, playing, since, person)
        elif unit is parties_db.move:
            if self.row is not None:
                position, playing, since = args
                self.row = msgspec.structs.replace(
                    self.row, position_ms=position, playing=playing, since=since
                )
        elif unit is parties_db.stop:
            self.row = None
        else:
            assert unit is parties_db.check, unit
        if self.row is not None and self.row.track.id not in self.tracks:
            self.row = None
        return self.row


class Nobody(Actor):
    async def handle(self, message: Any) -> None:
        return None


class Place:
    """The room, and who is in it."""

    def __init__(self, system: System, records: Records) -> None:
        self.system = system
        self.records = records
        others = system.supervisor("others")
        presence = others.ensure("presence", Nobody)
        settings = Settings(data=Path("/nowhere"), room_idle=10.0)
        self._make = lambda: RoomActor(
            1,
            db=records,  # type: ignore[arg-type]
            ledger=presence,
            presence=presence,
            settings=settings,
            tally=Tally(),
            marks=ReadMarks(records, 1.0),  # type: ignore[arg-type]
        )
        self._rooms = system.supervisor("rooms")

    @property
    def room(self) -> Ref:
        return self._rooms.ensure(1, self._make, carry=Carried, capacity=100)

    @property
    def runs(self) -> bool:
        return self._rooms.get(1) is not None

    async def join(self, person: Person) -> tuple[Connection, Ear]:
        ear = Ear()
        connection = Connection(f"c{id(ear)}", person.user_id, person.username, ear)
        await self.room.tell(Join(person=person, connection=connection))
        await ear.heard("join_room_ack")
        return connection, ear

    async def do(self, wish: Any) -> Any:
        return await self.room.ask(wish)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with open_system() as system:
        yield Place(system, Records())


def states(ear: Ear) -> list[tuple[int | None, int, bool]]:
    return [(s["track_id"], s["position_ms"], s["playing"]) for s in ear.of("party_state")]


async def settled() -> None:
    await trio.testing.wait_all_tasks_blocked()


async def test_it_plays_pauses_and_seeks_in_step_for_all(autojump_clock: MockClock, place: Place) -> None:
    _, ann = await place.join(ANN)
    _, bob = await place.join(BOB)
    await place.do(PartyStart(person=BOB, track_id=5))
    await trio.sleep(12.5)
    paused = await place.do(PartyMove(person=BOB, playing=False))
    assert (paused.position_ms, paused.playing) == (12_500, False)
    await trio.sleep(100)
    await place.do(PartyMove(person=ANN, playing=True))  # the owner may, too
    await trio.sleep(1)
    await place.do(PartyMove(person=BOB, position_ms=60_000))  # it plays on from there
    await trio.sleep(2.25)
    await place.do(PartyMove(person=BOB, playing=True))  # which changes nothing
    await place.do(PartyMove(person=BOB, position_ms=30_000, playing=False))
    await trio.sleep(5)
    await place.do(PartyMove(person=BOB, position_ms=31_000))  # it stays paused there
    await settled()
    assert states(ann) == [
        (5, 0, True),
        (5, 12_500, False),
        (5, 12_500, True),
        (5, 60_000, True),
        (5, 62_250, True),
        (5, 30_000, False),
        (5, 31_000, False),
    ]
    assert states(bob) == states(ann)
    said = ann.of("party_state")[2]
    assert (said["by"], said["started_by"], said["title"], said["duration_ms"]) == (1, 2, "Song", 180_000)
    assert said["url"] == "/api/v1/tracks/5/stream"
    assert datetime.fromisoformat(said["server_time"]) == NOON + timedelta(seconds=112.5)


async def test_at_the_end_it_stops_by_itself_and_can_be_played_once_more(
    autojump_clock: MockClock, place: Place
) -> None:
    _, ear = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5, position_ms=170_000))
    await trio.sleep(9.999)
    assert states(ear) == [(5, 170_000, True)]
    await trio.sleep(0.002)
    assert states(ear)[1:] == [(5, 180_000, False)]
    assert ear.of("party_state")[1]["by"] is None
    await trio.sleep(1000)
    again = await place.do(PartyMove(person=ANN, playing=True))
    assert (again.position_ms, again.playing) == (0, True)
    await trio.sleep(180.001)
    assert states(ear)[-1] == (5, 180_000, False)
    with pytest.raises(Refused, match="INVALID_FORMAT"):
        await place.do(PartyMove(person=ANN, position_ms=180_001))
    await place.do(PartyMove(person=ANN, position_ms=180_000, playing=True))
    await settled()
    assert states(ear)[-1] == (5, 180_000, False)


async def test_an_end_that_was_put_off_does_not_come_at_its_old_time(
    autojump_clock: MockClock, place: Place
) -> None:
    _, ear = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5))
    await trio.sleep(100)
    await place.do(PartyMove(person=ANN, position_ms=0))
    await trio.sleep(179)  # the first end is long past
    assert states(ear)[-1] == (5, 0, True)
    await place.do(PartyMove(person=ANN, playing=False))
    await trio.sleep(500)
    assert len(states(ear)) == 3
    await place.do(PartyStop(person=ANN))
    await trio.sleep(500)
    assert states(ear)[-1] == (None, 0, False) and len(states(ear)) == 4


async def test_who_comes_later_hears_where_it_is_then(autojump_clock: MockClock, place: Place) -> None:
    _, first = await place.join(ANN)
    assert states(first) == []
    await place.do(PartyStart(person=ANN, track_id=5))
    await trio.sleep(42)
    _, second = await place.join(BOB)
    assert [frame["type"] for frame in second.frames] == ["join_room_ack", "party_state"]
    assert states(second) == [(5, 42_000, True)]


async def test_a_crash_of_the_room_does_not_stop_the_clock(autojump_clock: MockClock, place: Place) -> None:
    _, ear = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5))
    await trio.sleep(20)
    place.system.restart("rooms/1")
    await trio.sleep(30)
    assert states(ear)[1][2] and states(ear)[1][1] >= 20_000
    assert (await place.do(PartyMove(person=ANN, playing=False))).position_ms == 50_000


async def test_it_goes_on_while_nobody_listens_and_the_room_sleeps(
    autojump_clock: MockClock, place: Place
) -> None:
    connection, _ = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5))
    await place.room.tell(Leave(person=ANN, connection=connection))
    await trio.sleep(100)
    assert not place.runs
    _, later = await place.join(ANN)
    assert states(later) == [(5, 100_000, True)]
    await trio.sleep(80.001)
    assert states(later)[-1] == (5, 180_000, False)


async def test_where_it_ended_while_the_room_slept_it_has_ended(
    autojump_clock: MockClock, place: Place
) -> None:
    place.records.row = PartyRow(SONG, 1000, True, NOON - timedelta(days=3), 1)
    _, ear = await place.join(ANN)
    assert states(ear) == [(5, 180_000, False)]
    # A clock that was set back: the track does not wait for it.
    place.records.row = PartyRow(SONG, 1000, True, NOON + timedelta(days=3), 1)
    place.system.restart("rooms/1")
    await trio.sleep(2)
    assert states(ear)[-1][1:] == (1000, True)
    assert (await place.do(PartyMove(person=ANN, playing=False))).position_ms in range(2000, 3001)


async def test_nothing_is_told_that_is_not_stored(autojump_clock: MockClock, place: Place) -> None:
    _, ear = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5))
    place.records.away = True
    for wish in (
        PartyMove(person=ANN, playing=False),
        PartyStop(person=ANN),
        PartyStart(person=ANN, track_id=6),
    ):
        with pytest.raises(Refused, match="UNAVAILABLE"):
            await place.do(wish)
    await trio.sleep(5)
    place.records.away = False
    assert states(ear) == [(5, 0, True)]
    assert (await place.do(PartyMove(person=ANN, playing=False))).position_ms == 5000


async def test_a_track_that_goes_takes_the_party_along(autojump_clock: MockClock, place: Place) -> None:
    _, ear = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5))
    place.records.tracks[5] = msgspec.structs.replace(SONG, title="Renamed")
    assert place.records.row is not None
    place.records.row = msgspec.structs.replace(place.records.row, track=place.records.tracks[5])
    place.room.answer(TrackChanged(5))
    await trio.sleep(3)
    assert ear.of("party_state")[-1]["title"] == "Renamed"
    place.room.answer(TrackChanged(6))  # played elsewhere
    del place.records.tracks[5]
    await trio.sleep(3)
    assert states(ear)[-1] == (5, 0, True)
    place.records.away = True
    place.room.answer(TrackChanged(5))
    await trio.sleep(2.5)
    place.records.away = False
    await trio.sleep(1)
    assert states(ear)[-1] == (None, 0, False)
    count = len(states(ear))
    await trio.sleep(300)
    assert len(states(ear)) == count, "its end comes no more"
    with pytest.raises(Refused, match="NO_PARTY"):
        await place.do(PartyMove(person=ANN, playing=True))


async def test_a_track_that_went_unnoticed_is_noticed_at_the_next_change(
    autojump_clock: MockClock, place: Place
) -> None:
    _, ear = await place.join(ANN)
    await place.do(PartyStart(person=ANN, track_id=5))
    del place.records.tracks[5]
    with pytest.raises(Refused, match="NO_PARTY"):
        await place.do(PartyMove(person=ANN, playing=False))
    await settled()
    assert states(ear)[-1] == (None, 0, False)


@given(
    st.integers(1, 10**7),
    st.lists(st.tuples(st.floats(0, 1e5), st.one_of(st.none(), st.booleans(), st.integers(0, 10**7)))),
)
def test_the_clock_never_leaves_the_track_nor_runs_backwards(duration: int, steps: list[Any]) -> None:
    now = 1000.0
    clock = Party(PartyTrack(1, "x", None, duration), 0, True, now, None)
    last = 0
    for passed, what in steps:
        now += passed
        at = clock.position(now)
        assert last <= at <= duration
        if (
            clock.playing
        ):  # half a millisecond may be rounded either way: `now + passed - now` is not always `passed`
            assert abs(at - min(duration, last + round(passed * 1000))) <= 1
        else:
            assert at == last
        assert clock.plays(now) == (clock.playing and at < duration)
        left = clock.left(now)
        if left is not None:
            assert clock.plays(now + left - 0.002) or left < 0.003
            assert not clock.plays(now + left + 0.001)
        if isinstance(what, bool):
            clock = msgspec.structs.replace(clock, position_ms=at, playing=what, since=now)
        else:
            place = at if what is None else min(what, duration)
            clock = msgspec.structs.replace(clock, position_ms=place, playing=clock.plays(now), since=now)
        last = clock.position(now)
