"""Offers expire: on time, after a restart, through an outage, and never while somebody accepts them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.chat.client import eventually
from tests.chat.conftest import Build, House, build
from tests.market.conftest import Market as Town
from tests.market.conftest import refused
from veza.actors import market as market_actor
from veza.actors.kernel import System, open_system
from veza.actors.market import LONGEST, Market
from veza.db import offer_closing
from veza.db.errors import Unavailable
from veza.db.offer_closing import Expired

__all__ = ["build"]


# The actor, on trio's mock clock: what it would ask the database is a list of answers.


class Books:
    """Answers the one unit the clock has, and notes when it was asked."""

    def __init__(self, *answers: Expired | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[float] = []

    async def write(self, unit: Any, limit: int) -> Expired:
        assert unit is offer_closing.expire and limit == market_actor.BATCH
        await trio.lowlevel.checkpoint()
        self.asked.append(round(trio.current_time(), 3))
        answer = self.answers.pop(0) if self.answers else Expired(0, None)
        if isinstance(answer, Exception):
            raise answer
        return answer


@asynccontextmanager
async def clock_over(
    *answers: Expired | Exception,
) -> AsyncIterator[tuple[Market, Books, list[None], System]]:
    books, pokes = Books(*answers), list[None]()
    async with open_system() as system:
        market = Market(system.supervisor("market"), db=books, poke=lambda: pokes.append(None))  # type: ignore[arg-type]
        yield market, books, pokes, system


@pytest.fixture
def mocked() -> MockClock:
    return MockClock(autojump_threshold=0)


async def test_it_sleeps_until_the_next_one_is_due_and_hears_of_an_earlier_one(
    mocked: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The time of day stands still: it is no time of trio's, and would go on between two lines here.
    noon = datetime.now(UTC)
    monkeypatch.setattr(market_actor, "datetime", SimpleNamespace(now=lambda _: noon))
    async with clock_over(Expired(0, 30.0), Expired(1, 500.0), Expired(0, 400.0)) as (
        market,
        books,
        pokes,
        system,
    ):
        await trio.sleep(30.5)
        assert books.asked == [0, 30] and market.tally.expired == 1
        assert len(pokes) == 2
        market.offered(noon + timedelta(seconds=10))  # earlier than the next look
        market.offered(noon + timedelta(hours=3))
        await trio.sleep(11)
        assert books.asked[2:] == [40.5]
        await trio.sleep(LONGEST)  # and never longer than that, whatever it was told
        assert books.asked[3:] == [40.5 + LONGEST]
        info = system.inspect("market/offers")
        assert info.summary["expired"] == 1 and info.summary["looks_again_in"] <= LONGEST


async def test_an_outage_is_waited_out_and_many_are_dealt_with_at_once(mocked: MockClock) -> None:
    full = Expired(market_actor.BATCH, -3.0)
    async with clock_over(
        Unavailable("away"), Unavailable("away"), full, full, Expired(7, -0.1), Expired(1, 40.0)
    ) as (
        market,
        books,
        pokes,
        _,
    ):
        await trio.sleep(6)
        assert market.tally.failed == 2 and market.tally.expired == 2 * market_actor.BATCH + 8
        assert books.asked == [0, 2, 4, 4, 4, 4.5]  # the last: somebody held an offer that was due
        assert len(pokes) == 6  # also where nobody knows what became of it


# The whole, on a real database.


async def test_what_is_due_is_refused_before_the_clock_comes_by(market: Town) -> None:
    ann, bob = await market.people(2)
    bass = (await market.listing(ann))["id"]
    for step, by in (("accept", ann), ("reject", ann), ("counter", ann), ("withdraw", bob)):
        offer = (await market.offer(bob, bass))["id"]
        await market.sql("UPDATE offers SET expires_at = now() WHERE id = $1", offer)
        refused(await market.step(step, offer, by, {"amount_cents": 1}), 409, "OFFER_NOT_OPEN")
        await market.told()
        renewed = await market.offer(bob, bass)  # it stands in nobody's way
        assert await market.status("offers", offer) == "expired"
        told = [(e["target_id"], e["data"].get("step")) for e in await market.told() if e["kind"] == "offer"]
        assert told == [(bob.id, "expired"), (ann.id, "expired"), (ann.id, "received")]
        assert (await market.step("withdraw", renewed["id"], bob)).status == 200
    assert await market.status("listings", bass) == "open"


async def test_an_offer_expires_or_is_accepted_never_both(market: Town) -> None:
    ann, bob = await market.people(2)
    await market.told()
    ends = set()
    for number in range(12):
        bass = (await market.listing(ann))["id"]
        offer = (await market.offer(bob, bass))["id"]
        await market.told()
        milliseconds = (number % 4) * 4
        await market.sql(
            "UPDATE offers SET expires_at = clock_timestamp() + $2 * interval '1 ms' WHERE id = $1",
            offer,
            milliseconds,
        )
        answers = []

        async def accept(offer: int = offer, answers: list[int] = answers) -> None:
            answers.append((await market.step("accept", offer, ann)).status)

        async def expire(offer: int = offer) -> None:
            while await market.status("offers", offer) == "pending":
                await market.db.write(offer_closing.expire, 10)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            nursery.start_soon(expire)
        end = await market.status("offers", offer)
        ends.add(end)
        told = [e["data"] for e in await market.told() if e["kind"] == "offer"]
        steps = [each["step"] for each in told if each["offer_id"] == offer]
        if end == "accepted":
            assert answers == [200] and steps == ["accepted"]
            assert await market.status("listings", bass) == "sold"
        else:
            assert (end, answers, steps) == ("expired", [409], ["expired", "expired"])
            assert await market.status("listings", bass) == "open"
    assert "expired" in ends


async def made(house: House, ann: Any, bob: Any, expires: str) -> int:
    """An offer of Bob's for something of Ann's."""
    rows = await house.sql(
        f"""WITH l AS (INSERT INTO listings (owner_id, title, category_id, state, price_cents)
                       SELECT $1, 'Bass', id, 'good', 1 FROM categories LIMIT 1 RETURNING id, owner_id)
            INSERT INTO offers (listing_id, buyer_id, seller_id, amount_cents, currency, expires_at)
            SELECT id, $2, owner_id, 1, 'EUR', now() + interval '{expires}' FROM l RETURNING id""",
        ann.id,
        bob.id,
    )
    return int(rows[0][0])


async def expired(house: House, offer: int, *people: Any) -> None:
    """Once it has expired and both have it among their notifications."""
    with trio.fail_after(60):
        while True:
            rows = await house.sql(
                "SELECT user_id FROM notifications WHERE key = $1", f"offer:{offer}:expired"
            )
            if {row[0] for row in rows} == {person.id for person in people}:
                break
            await trio.sleep(0.01)
    assert (await house.sql("SELECT status FROM offers WHERE id = $1", offer))[0][0] == "expired"


def clock_of(house: House) -> Market:
    market = house.app.services.market
    assert market is not None
    return market


async def test_a_server_that_starts_catches_up_and_then_keeps_time(build: Build) -> None:
    async with build() as house:
        clock = clock_of(house)
        await eventually(lambda: clock.tally.looks > 0)
        ann, bob = await house.people(2)
        running = await made(house, ann, bob, "1 hour")
        await house.sql("UPDATE offers SET expires_at = now() WHERE id = $1 RETURNING 1", running)
        # The clock sleeps for another minute: nothing but the next start will find it.
        assert (await house.sql("SELECT status FROM offers WHERE id = $1", running))[0][0] == "pending"
    async with build() as house:
        await expired(house, running, ann, bob)
        soon = await made(house, ann, bob, "0.05 s")
        clock = clock_of(house)
        clock.offered(datetime.now(UTC) + timedelta(seconds=0.05))
        await expired(house, soon, ann, bob)
        # What it counts it has been told of, which may be after the courier was.
        await eventually(lambda: clock.tally.expired >= 2)
