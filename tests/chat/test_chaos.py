"""Every step of a room may fail at any moment: everything asked is answered, what is acknowledged is stored once, and
whoever listens misses and repeats nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.chat.client import Client, Closed, Frame, eventually
from tests.chat.conftest import House, Person
from veza.actors import changes
from veza.actors.fanout import Fanout
from veza.actors.kernel import Restarts
from veza.actors.ring import Ring
from veza.actors.room import RoomActor

PLACES: list[tuple[Any, str]] = [
    (RoomActor, "_dispatch"),
    (RoomActor, "_say"),
    (RoomActor, "_join"),
    (RoomActor, "_exit"),
    (RoomActor, "_publish"),
    (RoomActor, "_acknowledge"),
    (RoomActor, "_let_in"),
    (RoomActor, "_join_ack"),
    (RoomActor, "_enter"),
    (RoomActor, "_next_change"),
    (RoomActor, "_settle"),
    (RoomActor, "enrolled"),
    (RoomActor, "_catch_up"),
    (RoomActor, "_go_on"),
    (RoomActor, "_fill"),
    (RoomActor, "_replay"),
    (Fanout, "run"),
    (Fanout, "add"),
    (Ring, "append"),
    (changes, "plan"),
    (changes, "_tell"),
]


class Bug(Exception):
    """What a programmer overlooked."""


class Gremlin:
    """Makes every place fail now and then, until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, dice: random.Random) -> None:
        self.dice, self.chance, self.bites = dice, 0.0, 0
        for where, name in PLACES:
            monkeypatch.setattr(where, name, self._bitten(getattr(where, name)))

    def _bitten(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def bitten(*args: Any, **kwargs: Any) -> Any:
            if self.dice.random() < self.chance:
                self.bites += 1
                raise Bug
            return original(*args, **kwargs)

        return bitten


class Talker:
    """One person who says and does this and that without waiting for answers, and comes back when he is let go."""

    numbers = itertools.count(1)

    def __init__(self, house: House, person: Person, room: int, dice: random.Random) -> None:
        self.house, self.person, self.room, self.dice = house, person, room, dice
        self.acked: dict[str, int] = {}  # what was said → its number
        self.asked: dict[str, str] = {}  # ref → what for; taken out when answered
        self.heard: dict[int, str] = {}
        self.last: int | None = None  # up to here all was heard, while subscribed
        self.client: Client | None = None
        self.read = 0
        self.here: set[int] = set()  # heard on this socket
        self.own: list[int] = []

    async def talk(self, steps: int) -> None:
        for _ in range(steps):
            try:
                await self.step()
                self.listen()
            except (Closed, trio.BrokenResourceError, trio.ClosedResourceError):
                self.gone()
            except Exception as error:
                if "cannot be sent in state" not in str(error):  # closed between the check and the sending
                    raise
                self.gone()

    def gone(self) -> None:
        """Let go by the server: what was not answered never will be, and may or may not be stored."""
        if self.client is not None:
            self.listen()
        self.client, self.last, self.read = None, None, 0
        self.asked.clear()
        self.here.clear()

    async def step(self) -> None:
        if self.client is None or self.client.ended.is_set():
            self.gone()
            self.client = await self.house.connect(self.person)
            await self.ask("join_room", room=self.room, **self.since())
            return
        match self.dice.choices(
            ["say", "again", "change", "leave", "join", "look", "wait"], [9, 1, 4, 1, 2, 1, 3]
        )[0]:
            case "say":
                text = f"{self.person.id} says {next(self.numbers)}"
                await self.ask("room_message", room=self.room, content=text, nonce=text[-60:])
            case "again" if self.acked:
                text = self.dice.choice(list(self.acked))
                await self.ask("room_message", room=self.room, content=text, nonce=text[-60:])
            case "change" if self.own:
                kind = self.dice.choice(["add_reaction", "remove_reaction", "pin_message", "edit_message"])
                await self.client.send(kind, id=self.dice.choice(self.own), emoji="👍", content="edited")
            case "leave":
                await self.ask("leave_room", room=self.room)
            case "join":
                await self.ask("join_room", room=self.room, **self.since())
            case "look":
                await self.ask("room_history", room=self.room, limit=3)
            case _:
                await self.client.pong()

    def since(self) -> dict[str, int]:
        return {"since_seq": max(self.heard)} if self.heard and self.dice.random() < 0.7 else {}

    async def ask(self, kind: str, **data: Any) -> None:
        assert self.client is not None
        ref = f"{kind} {next(self.numbers)}"
        self.asked[ref] = data.get("content", kind)
        await self.client.send(kind, ref=ref, **data)

    def listen(self) -> None:
        assert self.client is not None
        for frame in self.client.frames[self.read :]:
            self.take(frame)
        self.read = len(self.client.frames)

    def advance(self) -> None:
        """Over what came on this socket, perhaps before it was told where it stands."""
        assert self.last is not None
        while self.last + 1 in self.here:
            self.last += 1

    def take(self, frame: Frame) -> None:
        asked = self.asked.pop(frame.data.get("ref", ""), None)
        match frame.type:
            case "message_ack" if asked is not None:
                assert self.acked.setdefault(asked, frame["seq"]) == frame["seq"], (
                    "acknowledged twice, differently"
                )
                self.own.append(frame["id"])
            case "join_room_ack":
                if self.last is None:
                    self.last = (
                        frame["last_seq"] if frame.data.get("resume") != "ok" else frame["first_seq"] - 1
                    )
                    self.advance()
            case "leave_room_ack":
                self.last = None
            case "room_message":
                known = self.heard.setdefault(frame["seq"], frame["content"])
                assert known == frame["content"] or "edited" in (known, frame["content"])
                self.here.add(frame["seq"])
                if self.last is not None and frame["seq"] > self.last:
                    assert frame["seq"] == self.last + 1, (frame["seq"], self.last)
                    self.advance()
            case "error":
                if asked == "leave_room":
                    self.last = None  # he may have left, or not
                assert frame["code"] in ("INTERNAL", "NOT_JOINED", "UNAVAILABLE", "PERMISSION_DENIED"), (
                    frame.data
                )


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_whatever_fails_everything_asked_is_answered(
    house: House, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    monkeypatch.setattr(
        house.app.core.system._root._below["rooms"],
        "restarts",
        Restarts(limit=10_000, first=0.001, longest=0.002),
    )
    people = await house.people(5)
    room = await house.room(*people[:3])  # the others become members by joining
    talkers = [Talker(house, person, room.id, dice) for person in people]
    gremlin = Gremlin(monkeypatch, dice)

    def answered() -> bool:
        for talker in talkers:
            if talker.client is not None:
                if talker.client.ended.is_set():
                    talker.gone()
                else:
                    talker.listen()
        return not any(talker.asked for talker in talkers)

    with trio.fail_after(120):
        # Mostly once; but a room that waits for its database has much to do at once, and few steps to fail in.
        while gremlin.bites <= 10:
            gremlin.chance = 0.01
            async with trio.open_nursery() as nursery:
                for talker in talkers:
                    nursery.start_soon(talker.talk, 120)
            gremlin.chance = 0
            await eventually(answered)
        # And the room is as good as new: everybody hears the last word.
        for talker in talkers:
            if talker.client is None:
                talker.client = await house.connect(talker.person)
            await talker.client.join(room.id)
        assert talkers[0].client is not None
        end = (await talkers[0].client.say(room.id, "the last word"))["seq"]
        for talker in talkers:
            assert talker.client is not None
            await talker.client.expect("room_message", seq=end)
            talker.listen()
            assert talker.last is None or talker.last == end
    rows = await house.sql(
        "SELECT seq, content, nonce FROM messages WHERE room_id = $1 ORDER BY seq", room.id
    )
    assert [row[0] for row in rows] == list(range(1, end + 1))
    stored = {row[2]: row[0] for row in rows}
    assert len(stored) == len(rows)
    for talker in talkers:
        for text, seq in talker.acked.items():
            assert stored[text[-60:]] == seq
    await eventually(lambda: house.actor(room.id).summary["changes_waiting"] == 0)
    summary = house.actor(room.id).summary
    assert (summary["in_flight"], summary["gated"]) == (0, 0)
    assert summary["online"] == 5
