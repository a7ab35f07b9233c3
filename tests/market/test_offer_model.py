"""Any sequence of what three people may try with each other's listings, against a model of what comes of it."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from veza.db import listings, offer_closing, offer_steps, offers
from veza.db.listings import ListingChange
from veza.db.offers import NewOffer, Offer

PEOPLE, EACH = 3, 3  # listings a person
_MANY: Final = 100
SCRIPTS, STEPS = 10, 40


def script(chance: random.Random) -> Iterator[tuple[Any, ...]]:
    """What is tried, for ever. An offer is named by how long ago it was made, a person by whose turn it is, a listing
    in exchange by whether it is nothing, one of the buyer's own, or (as in EACH) somebody else's."""
    while True:
        exchange = chance.choice([None, 0, 1, 2, EACH])
        ago = chance.choice([0, 0, 0, 1, 1, 2, 3, 5])
        whose = chance.choice(["turn"] * 6 + ["other", "third"])
        match chance.choices(["offer", "counter", "accept", "end", "time", "move"], [10, 6, 4, 3, 3, 2])[0]:
            case "offer":
                yield "offer", chance.randrange(PEOPLE), chance.randrange((PEOPLE - 1) * EACH), exchange
            case "counter":
                yield "counter", ago, whose, exchange
            case "accept":
                yield "accept", ago, whose
            case "end":
                yield chance.choice(["reject", "withdraw"]), ago, chance.choice(["turn", "other"])
            case "time":
                yield chance.choice(["lapse", "lapse", "tick"]), ago
            case "move":
                thing = chance.randrange(PEOPLE * EACH)
                yield chance.choice(["open", "open", "closed", "removed"]), thing


@dataclass
class Bid:
    thing: int
    buyer: int
    seller: int
    proposed: int | None
    status: str = "pending"
    over: bool = False

    @property
    def open(self) -> bool:
        return self.status in ("pending", "countered")


@dataclass
class Model:
    """Who has what, what was offered, and who hears what: (bid, step, person)."""

    things: list[str] = field(default_factory=lambda: ["open"] * (PEOPLE * EACH))
    bids: list[Bid] = field(default_factory=list)
    told: list[tuple[int, str, int]] = field(default_factory=list)

    def owner(self, thing: int) -> int:
        return thing // EACH

    def offered(self, buyer: int, another: int, exchange: int | None) -> tuple[int, int, int | None]:
        thing = (buyer * EACH + EACH + another) % (PEOPLE * EACH)
        return buyer, thing, self.exchange(buyer, exchange)

    def exchange(self, buyer: int, which: int | None) -> int | None:
        return None if which is None else (buyer * EACH + which) % (PEOPLE * EACH)

    def person(self, number: int, whose: str) -> int:
        bid = self.bids[number]
        turn, other = (bid.buyer, bid.seller) if bid.status == "countered" else (bid.seller, bid.buyer)
        return {"turn": turn, "other": other, "third": 3 - turn - other}[whose]

    def end(self, number: int, status: str, *told: int) -> None:
        self.bids[number].status = status
        self.told += [(number, status, person) for person in told]

    def tick(self, only: tuple[int, int] | None = None) -> None:
        for number, bid in enumerate(self.bids):
            if bid.open and bid.over and only in (None, (bid.thing, bid.buyer)):
                self.end(number, "expired", bid.buyer, bid.seller)

    def reject_what_rests_on(self, gone: set[int], *knowing: int, but: int | None = None) -> None:
        for number, bid in enumerate(self.bids):
            if bid.open and number != but and {bid.thing, bid.proposed} & gone:
                self.end(number, "rejected", *{bid.buyer, bid.seller} - {*knowing})

    def wrong_exchange(self, thing: int | None, buyer: int) -> str | None:
        if thing is None:
            return None
        if self.owner(thing) != buyer or self.things[thing] == "removed":
            return "no exchange"
        return None if self.things[thing] == "open" else "exchange not open"

    def offer(self, buyer: int, thing: int, proposed: int | None) -> str | None:
        if self.things[thing] == "removed":
            return "no listing"
        if self.owner(thing) == buyer:
            return "own"
        if self.things[thing] != "open":
            return "not open"
        if (why := self.wrong_exchange(proposed, buyer)) is not None:
            return why
        self.tick((thing, buyer))
        if any(bid.open and (bid.thing, bid.buyer) == (thing, buyer) for bid in self.bids):
            return "exists"
        self.bids.append(Bid(thing, buyer, self.owner(thing), proposed))
        self.told.append((len(self.bids) - 1, "received", self.owner(thing)))
        return None

    def step(self, step: str, who: int, number: int, proposed: int | None) -> str | None:
        bid = self.bids[number]
        if who not in (bid.buyer, bid.seller):
            return "gone"
        other = bid.seller if who == bid.buyer else bid.buyer
        if step == "counter" and who != bid.seller:
            return "not yours"
        if not bid.open or bid.over:
            return "expired" if bid.open or bid.status == "expired" else "decided"
        if step == "counter":
            if bid.status != "pending":
                return "decided"
            if (why := self.wrong_exchange(proposed, bid.buyer)) is not None:
                return why
            bid.proposed = proposed
            self.end(number, "countered", other)
            return None
        pending = bid.status == "pending"
        may = {
            "accept": {bid.seller} if pending else {bid.buyer},
            "reject": {bid.seller} if pending else {bid.seller, bid.buyer},
            "withdraw": {bid.buyer},
        }
        if who not in may[step]:
            return "not yours"
        self.end(number, {"accept": "accepted", "reject": "rejected", "withdraw": "withdrawn"}[step], other)
        if step == "accept":
            sold = {bid.thing} | ({bid.proposed} if bid.proposed is not None else set())
            for thing in sold:
                assert self.things[thing] == "open"  # else it had been rejected
                self.things[thing] = "sold"
            self.reject_what_rests_on(sold, bid.buyer, bid.seller, but=number)
        return None

    def move(self, thing: int, status: str) -> None:
        if self.things[thing] == "removed" or (self.things[thing] == "sold" and status != "removed"):
            return
        if status != "open" and (status == "removed" or self.things[thing] == "open"):
            self.reject_what_rests_on({thing}, self.owner(thing))
        self.things[thing] = status


async def played(url: str) -> Counter[str]:
    conn: Any = await asyncpg.connect(url)
    seen: Counter[str] = Counter()
    try:
        for seed in range(SCRIPTS):
            transaction = conn.transaction()
            await transaction.start()
            try:
                await compared(conn, itertools.islice(script(random.Random(seed)), STEPS), seen)
            finally:
                await transaction.rollback()
    finally:
        await conn.close()
    return seen


async def compared(conn: Any, tried: Iterator[tuple[Any, ...]], seen: Counter[str]) -> None:
    model = Model()
    ids = await conn.fetch(
        """INSERT INTO users (username, email, password_hash)
           SELECT 'model' || n, 'model' || n || '@example.org', 'none' FROM generate_series(1, $1) n RETURNING id""",
        PEOPLE,
    )
    who = [row[0] for row in ids]
    new = listings.NewListing("Thing", "", "other", "good", 1, "EUR", None, None)
    what = []
    for thing in range(PEOPLE * EACH):
        made = await listings.create(conn, who[model.owner(thing)], new, _MANY)
        assert isinstance(made, listings.Listing)
        what.append(made.id)
    bids: list[int] = []
    await conn.execute("DELETE FROM outbox")
    for action, *args in tried:
        result: Any = None
        expected: str | None = None
        if action == "offer":
            buyer, thing, proposed = model.offered(*args)
            terms = NewOffer(5, None if proposed is None else what[proposed], None, 1)
            result = await offers.create(conn, what[thing], who[buyer], terms, _MANY)
            expected = model.offer(buyer, thing, proposed)
            if isinstance(result, Offer):
                bids.append(result.id)
        elif action in ("open", "closed", "removed"):
            thing = args[0]
            owner = who[model.owner(thing)]
            if action == "removed":
                await listings.remove(conn, what[thing], owner)
            else:
                change = ListingChange(frozenset({"status"}), status=action)
                await listings.update(conn, what[thing], owner, change, _MANY)
            model.move(thing, action)
        else:
            number = len(bids) - 1 - args[0]
            if number < 0:
                continue
            if action in ("lapse", "tick"):
                await conn.execute("UPDATE offers SET expires_at = now() WHERE id = $1", bids[number])
                model.bids[number].over = True
                if action == "tick":
                    await offer_closing.expire(conn, _MANY)
                    model.tick()
            else:
                person = model.person(number, args[1])
                if action == "counter":
                    proposed = model.exchange(model.bids[number].buyer, args[2])
                    terms = NewOffer(7, None if proposed is None else what[proposed], None, 1)
                    result = await offer_steps.counter(conn, bids[number], who[person], terms)
                else:
                    proposed = None
                    result = await getattr(offer_steps, action)(conn, bids[number], who[person])
                expected = model.step(action, person, number, proposed)
        assert (result if isinstance(result, str) else None) == expected, (action, args)

        states = [
            row[0]
            for row in await conn.fetch("SELECT status FROM listings WHERE id = ANY($1) ORDER BY id", what)
        ]
        assert states == model.things
        states = [
            row[0]
            for row in await conn.fetch("SELECT status FROM offers WHERE id = ANY($1) ORDER BY id", bids)
        ]
        assert states == [bid.status for bid in model.bids]
        rows = await conn.fetch("DELETE FROM outbox WHERE kind = 'offer' RETURNING target_id, actor_id, data")
        told = []
        for target, actor, raw in rows:
            data = json.loads(raw)
            bid = model.bids[bids.index(data["offer_id"])]
            assert {target, actor} == {who[bid.buyer], who[bid.seller]}
            told.append((bids.index(data["offer_id"]), data["step"], who.index(target)))
        assert sorted(told) == sorted(model.told)
        seen.update([f"{action}: {expected or 'done'}", *(step for _, step, _ in told)])
        model.told.clear()


def test_whatever_is_tried_the_database_says_what_the_model_says(shared_market: str) -> None:
    seen = asyncio.run(played(shared_market))
    for step in ("received", "countered", "accepted", "rejected", "withdrawn", "expired"):
        assert seen[step] >= 3, seen
    for outcome in (
        "offer: no listing", "offer: not open", "offer: no exchange", "offer: exchange not open", "offer: exists",
        "accept: done", "accept: decided", "accept: expired", "accept: not yours", "accept: gone",
        "counter: decided", "counter: no exchange", "counter: exchange not open", "withdraw: not yours",
    ):  # fmt: skip
        assert seen[outcome], (outcome, seen)
