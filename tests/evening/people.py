"""Guests of an evening: each has two tabs open, talks REST as any web client would, and remembers all he was told.

Nothing of `veza` is used here. A guest outlives the server: `come_back` is what a good client does after a broken line.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.chat.client import Client, Frame
from tests.chat.conftest import House, Person

PATIENCE = 60.0  # seconds; not a measure: only so that nothing hangs


@dataclass
class Guest:
    """Somebody at home: `chat` is the tab in which he talks, `ear` and `phone` only listen."""

    person: Person
    house: House
    chat: Client
    ear: Client
    phone: Client
    rooms: tuple[int, ...] = ()
    notices: list[list[Frame]] = field(default_factory=list)  # by socket, of those that are gone

    @property
    def id(self) -> int:
        return self.person.id

    # REST

    async def ask(self, method: str, path: str, body: Any = None, **how: Any) -> httpx.Response:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.house.port}/api/v1", timeout=PATIENCE
        ) as http:
            return await http.request(
                method, path, json=body, headers={"Authorization": f"Bearer {self.person.token}"}, **how
            )

    async def get(self, path: str) -> Any:
        return (await self.do("GET", path))["data"]

    async def do(self, method: str, path: str, body: Any = None) -> Any:
        """A request that must be granted; the whole envelope."""
        answer = await self.ask(method, path, body)
        assert answer.is_success, (method, path, answer.status_code, answer.text)
        return answer.json()

    async def post(self, path: str, body: Any = None) -> Any:
        return (await self.do("POST", path, body))["data"]

    async def refused(self, status: int, method: str, path: str, body: Any = None) -> str:
        """The code of a request that must be refused."""
        answer = await self.ask(method, path, body)
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
        return str(answer.json()["code"])

    async def ask_with_image(self, path: str, image: bytes) -> httpx.Response:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.house.port}/api/v1", timeout=PATIENCE
        ) as http:
            return await http.post(
                path,
                files={"image": ("photograph.jpg", image, "image/jpeg")},
                headers={"Authorization": f"Bearer {self.person.token}"},
            )

    # What he is told

    async def told(self, kind: str, **match: Any) -> Frame:
        """A notification, at both ears: the same one."""
        first, second = [
            await tab.next(
                lambda f: (
                    f.type == "notification"
                    and f.data["kind"] == kind
                    and all(f.data.get(key) == value for key, value in match.items())
                ),
                f"notification {kind} {match}",
                PATIENCE,
            )
            for tab in (self.ear, self.phone)
        ]
        assert first["id"] == second["id"]
        return first

    def heard_of(self, kind: str, **match: Any) -> list[Frame]:
        """What he was told of this, on all the sockets he ever had."""
        frames = [frame for socket in self._sockets() for frame in socket]
        return [
            frame
            for frame in frames
            if frame["kind"] == kind and all(frame.data.get(key) == value for key, value in match.items())
        ]

    def _sockets(self) -> list[list[Frame]]:
        return [*self.notices, *(tab.seen("notification") for tab in self._tabs)]

    @property
    def _tabs(self) -> tuple[Client, Client, Client]:
        return self.chat, self.ear, self.phone

    async def everything(self) -> list[dict[str, Any]]:
        """All stored notifications, the newest first, page by page."""
        found: list[dict[str, Any]] = []
        path = "/notifications?limit=10"
        while True:
            page = await self.do("GET", path)
            found += page["data"]["notifications"]
            cursor = page["meta"].get("next_cursor")
            if not cursor:
                return found
            path = f"/notifications?limit=10&cursor={cursor}"

    async def nothing_twice(self) -> list[str]:
        """Every cause is stored once, and was told live: once on a socket, under one id. What it was, in words."""
        stored = await self.everything()
        ids = [notice["id"] for notice in stored]
        assert ids == sorted(set(ids), reverse=True)
        told: set[int] = set()
        for socket in self._sockets():
            times = Counter(frame["id"] for frame in socket)
            assert set(times.values()) <= {1}, (self.person.name, times)
            told |= times.keys()
        assert told == set(ids), (self.person.name, told ^ set(ids))
        causes = Counter(_cause(notice) for notice in stored)
        assert set(causes.values()) <= {1}, (self.person.name, causes)
        return sorted(
            " ".join(filter(None, (notice["kind"], notice.get("step"), notice.get("action"))))
            for notice in stored
        )

    # The line

    async def line_broke(self) -> None:
        """All see the server go without a word."""
        for tab in self._tabs:
            assert await tab.closed(PATIENCE) == 1006
            self.notices.append(tab.seen("notification"))

    async def come_back(self, house: House) -> None:
        """The same three at the next server, with what was missed in the rooms."""
        self.house = house
        seen = {
            room: max((f["seq"] for f in self.chat.seen("room_message", room_id=room)), default=0)
            for room in self.rooms
        }
        old = self.chat
        self.chat, self.ear, self.phone = [await house.connect(self.person) for _ in range(3)]
        for room in self.rooms:
            ack = await self.chat.join(room, since_seq=seen[room])
            assert ack["resume"] == "ok"
        self.chat.frames[:0] = [f for f in old.frames if f.type == "room_message"]


def _cause(notice: dict[str, Any]) -> tuple[Any, ...]:
    names = (
        "kind",
        "step",
        "action",
        "offer_id",
        "listing_id",
        "message_id",
        "track_id",
        "report_id",
        "user_id",
    )
    return tuple(notice.get(name) for name in names)


async def arrive(house: House, person: Person, *rooms: int) -> Guest:
    """Open all three; enter the rooms in the one."""
    chat, ear, phone = [await house.connect(person) for _ in range(3)]
    for room in rooms:
        await chat.join(room)
    return Guest(person, house, chat, ear, phone, rooms)
