"""Everybody does everything at once: no request fails but with a refusal, and in the end the books are right."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import trio

from tests.market.conftest import Market, Person
from veza.db import deletion, offer_closing

PEOPLE, EACH, TASKS, STEPS = 5, 3, 8, 40

# What must never be: open offers that rest on what is not open, and things that were sold by none, or by two.
_WRONG = {
    "an open offer for what is not": """SELECT count(*) FROM offers o JOIN listings l ON l.id = o.listing_id
        WHERE o.status IN ('pending', 'countered') AND l.status <> 'open'""",
    "an open offer of what is not": """SELECT count(*) FROM offers o JOIN listings l ON l.id =
            CASE o.status WHEN 'pending' THEN o.proposed_listing_id ELSE o.counter_proposed_listing_id END
        WHERE o.status IN ('pending', 'countered') AND l.status <> 'open'""",
    "sold not once": """SELECT count(*) FROM listings l WHERE l.status = 'sold' AND 1 <> (
            SELECT count(*) FROM offers o WHERE o.status = 'accepted' AND l.id IN (o.listing_id,
                CASE WHEN o.countered_at IS NULL THEN o.proposed_listing_id ELSE o.counter_proposed_listing_id END))""",
    "favourites miscounted": """SELECT count(*) FROM listings l WHERE l.favorite_count <>
            (SELECT count(*) FROM listing_favorites f WHERE f.listing_id = l.id)""",
}


# What is tried, and how often.
_TRIED = {
    "offer": 6, "accept": 2, "counter": 3, "reject": 1, "withdraw": 1, "close": 1, "edit": 1, "remove": 1, "mark": 2,
    "time": 1, "leave": 1,
}  # fmt: skip


class Storm:
    def __init__(self, market: Market, people: list[Person]) -> None:
        self.market = market
        self.people = people
        self.things: dict[int, Person] = {}
        self.offers: list[Any] = []
        self.seen: Counter[str] = Counter()

    async def put_up(self, person: Person) -> None:
        self.things[(await self.market.listing(person))["id"]] = person

    def somebody(self, id: int) -> Person:
        return next(person for person in self.people if person.id == id)

    async def blow(self, chance: random.Random) -> None:
        for _ in range(STEPS):
            await self._step(chance)

    async def _step(self, chance: random.Random) -> None:
        api = self.market.api
        person = chance.choice(self.people)
        thing = chance.choice(list(self.things))
        owner = self.things[thing]
        what = chance.choices(list(_TRIED), list(_TRIED.values()))[0]
        if what == "offer":
            own = [id for id, of in self.things.items() if of is person]
            body = (
                {"proposed_listing_id": chance.choice(own)}
                if chance.random() < 0.6 and own
                else {"amount_cents": 5}
            )
            answer = await api.post(f"/listings/{thing}/offers", body, token=person.token)
            if answer.status == 201:
                self.offers.append(answer.data)
        elif what in ("accept", "counter", "reject", "withdraw"):
            if not self.offers:
                return
            offer = chance.choice(self.offers[-4:])
            side = (
                "seller" if what == "counter" or (what != "withdraw" and chance.random() < 0.7) else "buyer"
            )
            terms = {"amount_cents": 3} if what == "counter" else None
            answer = await self.market.step(what, offer["id"], self.somebody(offer[side]["id"]), terms)
        elif what == "close":
            for status in ("closed", "open"):
                answer = await api.put(f"/listings/{thing}", {"status": status}, token=owner.token)
        elif what == "edit":
            answer = await api.put(
                f"/listings/{thing}", {"currency": "JPY", "category": "amps"}, token=owner.token
            )
        elif what == "remove":
            answer = await api.delete(f"/listings/{thing}", token=owner.token)
            self.things.pop(thing, None)
            await self.put_up(owner)
        elif what == "mark":
            await api.put(f"/listings/{thing}/favorite", token=person.token)
            answer = await api.delete(
                f"/listings/{chance.choice(list(self.things))}/favorite", token=person.token
            )
        elif what == "time":
            await self.market.sql(
                """UPDATE offers SET expires_at = now() WHERE id = (SELECT max(id) FROM offers
                   WHERE status IN ('pending', 'countered')) RETURNING 1"""
            )
            await self.market.db.write(offer_closing.expire, 50)
            return
        else:  # what the end of an account does to the market
            await self.market.db.write(deletion.leave_market, person.id)
            for id in [id for id, of in self.things.items() if of is person]:
                del self.things[id]
            await self.put_up(person)
            return
        assert answer.status < 500, (what, answer.raw)
        self.seen[what if answer.status < 300 else f"{what} refused"] += 1


async def test_everybody_does_everything_at_once(market: Market) -> None:
    storm = Storm(market, await market.people(PEOPLE))
    for person in storm.people * EACH:
        await storm.put_up(person)
    async with trio.open_nursery() as nursery:
        for number in range(TASKS):
            nursery.start_soon(storm.blow, random.Random(number))
    assert {"offer", "accept", "counter", "remove", "mark"} <= set(storm.seen), storm.seen
    wrong = {name: await market.sql(count) for name, count in _WRONG.items()}
    assert wrong == dict.fromkeys(_WRONG, 0)
