"""Two at the same instant: of all who want the same thing one gets it, and nobody sees how the database was torn."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trio

from tests.market.conftest import Answer, Market, Person


async def at_once(market: Market, *calls: tuple[str, int, Person]) -> list[Answer]:
    """These steps of these offers by these people, all on their way at the same time."""
    answers: list[Answer | None] = [None] * len(calls)

    async def call(number: int, step: str, offer: int, by: Person) -> None:
        answers[number] = await market.step(step, offer, by)

    async with trio.open_nursery() as nursery:
        for number, each in enumerate(calls):
            nursery.start_soon(call, number, *each)
    return [answer for answer in answers if answer is not None]


def codes(answers: Iterable[Answer]) -> list[tuple[int, str | None]]:
    return sorted((a.status, None if a.status == 200 else a.code) for a in answers)


async def test_of_two_accepts_on_one_listing_one_wins(market: Market) -> None:
    ann, *others = await market.people(4)
    for _ in range(6):
        bass = (await market.listing(ann))["id"]
        bids = [(await market.offer(other, bass))["id"] for other in others]
        await market.told()
        answers = await at_once(market, *[("accept", bid, ann) for bid in bids])
        assert codes(answers) == [(200, None), (409, "OFFER_NOT_OPEN"), (409, "OFFER_NOT_OPEN")]
        assert sorted([await market.status("offers", bid) for bid in bids]) == [
            "accepted",
            "rejected",
            "rejected",
        ]
        steps = [e["data"]["step"] for e in await market.told() if e["kind"] == "offer"]
        assert sorted(steps) == ["accepted", "rejected", "rejected"]


async def test_crossing_barters_accepted_at_once_are_one_deal(market: Market) -> None:
    """Hers for his, and his for hers; and rings of three, where everybody accepts what the next one gives."""
    for ring in (2, 3):
        people = await market.people(ring)
        for _ in range(6):
            things = [(await market.listing(person))["id"] for person in people]
            bids = []
            for at, person in enumerate(people):
                wanted = (at + 1) % ring
                made = await market.offer(person, things[wanted], proposed_listing_id=things[at])
                bids.append((made["id"], people[wanted]))
            answers = await at_once(market, *[("accept", bid, seller) for bid, seller in bids])
            assert [status for status, _ in codes(answers)].count(200) == 1, codes(answers)
            assert {code for status, code in codes(answers) if status != 200} == {"OFFER_NOT_OPEN"}
            states = sorted([await market.status("offers", bid) for bid, _ in bids])
            assert states == ["accepted", *["rejected"] * (ring - 1)]
            sold = [await market.status("listings", thing) for thing in things].count("sold")
            assert sold == 2


async def test_accept_against_withdraw_and_the_like(market: Market) -> None:
    ann, bob = await market.people(2)
    bass = (await market.listing(ann))["id"]
    for step, by, end in (("withdraw", bob, "withdrawn"), ("reject", ann, "rejected")):
        for _ in range(6):
            if await market.status("listings", bass) != "open":
                bass = (await market.listing(ann))["id"]
            bid = (await market.offer(bob, bass))["id"]
            await market.told()
            accepted, other = await at_once(market, ("accept", bid, ann), (step, bid, by))
            assert codes([accepted, other]) == [(200, None), (409, "OFFER_NOT_OPEN")]
            state = await market.status("offers", bid)
            assert state == ("accepted" if accepted.status == 200 else end)
            assert await market.status("listings", bass) == ("sold" if state == "accepted" else "open")
            assert [e["data"]["step"] for e in await market.told() if e["kind"] == "offer"] == [state]


async def test_an_offer_with_or_for_a_listing_that_is_sold_this_very_moment(market: Market) -> None:
    ann, bob, carl = await market.people(3)
    for _ in range(6):
        bass, amp = (await market.listing(ann))["id"], (await market.listing(bob))["id"]
        horn = (await market.listing(carl))["id"]
        deal = (await market.offer(bob, bass, proposed_listing_id=amp))["id"]
        answers: dict[str, Answer] = {}

        async def post(
            name: str, listing: int, body: dict[str, Any], by: Person, answers: dict[str, Answer] = answers
        ) -> None:
            answers[name] = await market.api.post(f"/listings/{listing}/offers", body, token=by.token)

        async def accept(deal: int = deal, answers: dict[str, Answer] = answers) -> None:
            answers["accept"] = await market.step("accept", deal, ann)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(post, "with", horn, {"proposed_listing_id": amp}, bob)
            nursery.start_soon(post, "for", bass, {"amount_cents": 5}, carl)
            nursery.start_soon(accept)
        assert answers["accept"].status == 200
        for name in ("with", "for"):
            answer = answers[name]
            if answer.status == 201:  # it came first, and was rejected with the others
                assert await market.status("offers", answer.data["id"]) == "rejected"
            else:
                assert (answer.status, answer.code) == (409, "LISTING_NOT_OPEN")


async def test_one_offer_and_one_favourite_however_often_at_once(market: Market) -> None:
    ann, bob = await market.people(2)
    bass = (await market.listing(ann))["id"]
    answers: list[Answer] = []

    async def offer() -> None:
        answers.append(
            await market.api.post(f"/listings/{bass}/offers", {"amount_cents": 5}, token=bob.token)
        )

    async def mark() -> None:
        assert (await market.api.put(f"/listings/{bass}/favorite", token=bob.token)).status == 200

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(offer)
            nursery.start_soon(mark)
    assert sorted(a.status for a in answers) == [201, 409, 409, 409]
    assert {a.code for a in answers if a.status == 409} == {"OFFER_EXISTS"}
    assert (await market.api.get(f"/listings/{bass}")).data["favorite_count"] == 1


async def test_a_listing_is_removed_while_it_is_sold(market: Market) -> None:
    ann, bob = await market.people(2)
    for _ in range(6):
        bass, amp = (await market.listing(ann))["id"], (await market.listing(bob))["id"]
        deal = (await market.offer(bob, bass, proposed_listing_id=amp))["id"]
        answers: list[Answer] = []

        async def accept(deal: int = deal, answers: list[Answer] = answers) -> None:
            answers.append(await market.step("accept", deal, ann))

        async def remove(amp: int = amp) -> None:
            assert (await market.api.delete(f"/listings/{amp}", token=bob.token)).status == 200

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            nursery.start_soon(remove)
        state = await market.status("offers", deal)
        assert (answers[0].status, state) in [(200, "accepted"), (409, "rejected")]
        assert await market.status("listings", bass) == ("sold" if state == "accepted" else "open")
        assert await market.status("listings", amp) == "removed"


async def test_nobody_accepts_his_own_counter_offer_by_being_quick(market: Market) -> None:
    """The seller asks for more and accepts what he was offered at the same moment: one of the two is refused."""
    ann, bob = await market.people(2)
    for _ in range(8):
        bass, amp = (await market.listing(ann))["id"], (await market.listing(bob))["id"]
        bid = (await market.offer(bob, bass))["id"]
        answers: dict[str, Answer] = {}

        async def step(
            name: str, body: Any = None, bid: int = bid, answers: dict[str, Answer] = answers
        ) -> None:
            answers[name] = await market.step(name, bid, ann, body)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(step, "counter", {"amount_cents": 90_000, "proposed_listing_id": amp})
            nursery.start_soon(step, "accept")
        won, lost = sorted(answer.status for answer in answers.values())
        # Refused as what is not his to accept any more, or as what changed while he was about it.
        assert won == 200 and lost in (403, 409), answers
        accepted = answers["accept"].status == 200
        assert await market.status("offers", bid) == ("accepted" if accepted else "countered")
        assert await market.status("listings", amp) == "open"
