"""People who talk without pause and remember what they were told, so that it can be held against what is stored."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import trio
from wsproto.utilities import LocalProtocolError

from tests.chat.books import heard
from tests.chat.client import Client, Closed

PATIENCE = 60.0  # seconds for one answer: a database may be away for a while


class Talker:
    """Posts one message after the other into a room, each once the one before is answered.

    A stubborn one says what was refused again, with the same nonce, until it is taken; others say something new.
    """

    def __init__(self, name: str, client: Client, room: int, *, stubborn: bool = True) -> None:
        self.name = name
        self.client = client
        self.room = room
        self.stubborn = stubborn
        self.acked: dict[str, int] = {}  # what, and its number
        self.refused: list[str] = []  # for good: never said again
        self.refusals = 0
        self.open: str | None = None  # said and not answered
        self.done = False
        self._count = itertools.count()

    async def talk(self) -> None:
        """Until `done`, or the socket ends."""
        try:
            while not self.done:
                await self.say(f"{self.name} {next(self._count)}")
        except (Closed, LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the socket has ended

    async def say(self, text: str) -> None:
        """Say it until it is answered for good. What is still `open` afterwards was never answered."""
        self.open = text
        while True:
            self.client.unread.clear()
            await self.client.send("room_message", ref=text, room=self.room, content=text, nonce=text)
            answer = await self.client.next(
                lambda f: f.data.get("ref") == text, f"answer to {text}", within=PATIENCE
            )
            if answer.type == "message_ack":
                assert text not in self.acked
                self.acked[text] = answer["seq"]
                break
            assert (answer.type, answer["code"]) == ("error", "UNAVAILABLE"), answer.raw
            assert answer["details"]["retry_after"] > 0
            self.refusals += 1
            if not self.stubborn or self.done:
                self.refused.append(text)
                break
            await trio.sleep(0.02)  # what it waits for is elsewhere; only not to shout
        self.open = None

    async def repeat(self, client: Client) -> None:
        """On a new connection: say again what was not answered."""
        self.client = client
        if self.open is not None:
            await self.say(self.open)


def check(room: int, messages: list[tuple[int, str]], talkers: Iterable[Talker], *ears: Client) -> None:
    """Everything acknowledged is stored once, under its number; nothing refused is; ears heard it all, in order."""
    numbers = {text: seq for seq, text in messages}
    assert len(numbers) == len(messages), "a message is stored twice"
    for talker in talkers:
        if talker.room == room:
            for text, seq in talker.acked.items():
                assert numbers.get(text) == seq, (text, seq, numbers.get(text))
            assert not numbers.keys() & set(talker.refused), "a refused message is stored"
            order = list(talker.acked.values())
            assert order == sorted(order)
    for ear in ears:
        assert heard(ear, room) == messages
