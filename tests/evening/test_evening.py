"""An evening at Veza, whole: a swap with a counter-offer amid talk, somebody who has to be stopped, two power cuts.

The server is a process of its own with its own PostgreSQL, and is killed (SIGKILL) twice: while a counter-offer is on
its way, and in the moment in which an offer was accepted. What was acknowledged is there afterwards, once; everybody
concerned hears of everything, once.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import trio
from PIL import Image

from tests.chat.books import heard, stored, until
from tests.chat.client import fence
from tests.chat.far_house import FarHouse, far_house
from tests.chat.talkers import Talker, check
from tests.evening.people import Guest, arrive

BOUND = 600  # seconds for all of it; not a measure: only so that nothing hangs

SETTINGS = {"RATE_REST_PER_MINUTE": "60000", "RATE_REST_BURST": "10000"}


def photograph() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (1600, 900), "#7c3f58").save(file, "JPEG")
    return file.getvalue()


class Evening:
    """Who is there and what they have made so far."""

    house: FarHouse
    ada: Guest  # sells a bass
    bo: Guest  # would swap his amp for it
    dee: Guest  # offers money for it, in vain
    fan: Guest  # follows Ada
    cy: Guest  # has to be stopped
    mo: Guest  # stops him
    room: int
    talkers: list[Talker]
    bass: int
    amp: int
    swap: int
    money: int

    @property
    def guests(self) -> list[Guest]:
        return [self.ada, self.bo, self.dee, self.fan, self.cy, self.mo]

    async def begins(self, house: FarHouse, nursery: trio.Nursery) -> None:
        self.house = house
        ada, bo, dee, fan, cy = await house.people(5)
        mo = await house.person(role="moderator")
        room = await house.room(ada, bo, dee, cy, mo)
        self.room = room.id
        self.ada, self.bo, self.dee, self.cy, self.mo = [
            await arrive(house, person, room.id) for person in (ada, bo, dee, cy, mo)
        ]
        self.fan = await arrive(house, fan)
        self.talkers = [Talker(guest.person.name, guest.chat, self.room) for guest in (self.ada, self.bo)]
        for talker in self.talkers:
            nursery.start_soon(talker.talk)

    async def the_market_opens(self) -> None:
        """Ada puts her bass up, and who follows her hears of it; Bo his amp, with a picture."""
        await self.fan.do("PUT", f"/users/{self.ada.id}/follow")
        await self.ada.told("follow", user_id=self.fan.id)
        bass = await self.ada.post(
            "/listings",
            {
                "title": "Jazz bass",
                "category": "basses",
                "state": "good",
                "price_cents": 45000,
                "exchange_for": "an amplifier",
            },
        )
        self.bass = bass["id"]
        await self.fan.told("listing", listing_id=self.bass, user_id=self.ada.id)
        amp = await self.bo.post(
            "/listings",
            {"title": "Ampli à lampes", "category": "amps", "state": "fair", "exchange_for": "une basse"},
        )
        self.amp = amp["id"]
        sent = await self.bo.ask_with_image(f"/listings/{self.amp}/images", photograph())
        assert sent.status_code == 201, sent.text
        shown = await self.ada.get(f"/listings/{self.amp}")
        assert [image["n"] for image in shown["images"]] == [1]

    async def offers_come(self) -> None:
        """Dee offers money, Bo his amp and some money; each offer is a card in a private conversation too."""
        offer = await self.dee.post(f"/listings/{self.bass}/offers", {"amount_cents": 40000})
        self.money = offer["id"]
        await self.ada.told("offer", offer_id=self.money, step="received", user_id=self.dee.id)
        offer = await self.bo.post(
            f"/listings/{self.bass}/offers",
            {"amount_cents": 10000, "proposed_listing_id": self.amp, "message": "My amp and a bit?"},
        )
        self.swap = offer["id"]
        await self.ada.told("offer", offer_id=self.swap, step="received", user_id=self.bo.id)
        for guest in (self.ada, self.bo):
            card = await guest.ear.expect("direct_message", from_user_id=self.bo.id, message_type="offer")
            assert str(self.swap) in card["media_url"]
        # Who has nothing to do with an offer does not see it.
        assert await self.dee.refused(404, "GET", f"/offers/{self.swap}") == "OFFER_NOT_FOUND"

    async def somebody_is_stopped(self) -> None:
        """Cy tries a word that is not said here, then is rude in others; Bo reports him, Mo mutes him at once."""
        await self.ada.do("PUT", f"/chat/rooms/{self.room}/words", {"words": ["scumbag"]})
        await self.cy.chat.refused("WORD_FILTERED", "room_message", room=self.room, content="You SCÙMBAG!")
        rude = await self.cy.chat.say(self.room, "go home, all of you")
        await self.bo.post(
            "/reports",
            {"target_type": "message", "target_id": rude["id"], "reason": "rude", "category": "harassment"},
        )
        queue = await self.mo.get("/admin/reports?status=open")
        (report,) = [found for found in queue["reports"] if found["target_id"] == rude["id"]]
        await self.mo.post(
            f"/moderation/users/{self.cy.id}/sanctions",
            {"kind": "mute", "duration": 3600, "reason": "rude", "report_id": report["id"]},
        )
        await self.cy.told("moderation", action="mute")
        await self.mo.do("PUT", f"/admin/reports/{report['id']}", {"status": "resolved", "outcome": "muted"})
        await self.bo.told("moderation", action="report_handled")
        await self.still_stopped()
        # Up is not a way for moderators.
        admin = await self.house.person(role="admin")
        await self.mo.refused(
            403, "POST", f"/moderation/users/{admin.id}/sanctions", {"kind": "mute", "duration": 60}
        )

    async def still_stopped(self) -> None:
        refused = await self.cy.chat.refused("MUTED", "room_message", room=self.room, content="hah")
        assert refused["details"]["until"]

    async def power_cut(self) -> None:
        assert self.house.server is not None
        self.house.server.process.kill()
        async with trio.open_nursery() as nursery:
            for guest in self.guests:
                nursery.start_soon(guest.line_broke)

    async def light_again(self, house: FarHouse, nursery: trio.Nursery) -> None:
        self.house = house
        async with trio.open_nursery() as coming:
            for guest in self.guests:
                coming.start_soon(guest.come_back, house)
        for talker, guest in zip(self.talkers, (self.ada, self.bo), strict=True):
            nursery.start_soon(self._talks_on, talker, guest)

    async def _talks_on(self, talker: Talker, guest: Guest) -> None:
        # `unread` is the talker's to clear; what it had said without an answer goes out again under its nonce.
        await talker.repeat(guest.chat)
        await talker.talk()

    async def more_talk(self, count: int) -> None:
        before = sum(len(talker.acked) for talker in self.talkers)
        await until(lambda: sum(len(talker.acked) for talker in self.talkers) >= before + count)

    async def over(self) -> None:
        """What everybody was told is what is stored; nothing is missing, nothing there twice."""
        for talker in self.talkers:
            talker.done = True
        await until(lambda: all(talker.open is None for talker in self.talkers))
        talking = [self.ada, self.bo, self.dee, self.cy, self.mo]
        await fence(self.ada.chat, self.room, *[guest.chat for guest in talking])
        everything = await stored(self.house, self.room)
        check(self.room, everything, self.talkers)
        for guest in talking:
            assert heard(guest.chat, self.room) == everything
        for guest, expected in (
            (self.ada, ["follow", "offer accepted", "offer received", "offer received"]),
            (self.bo, ["moderation report_handled", "offer countered"]),
            (self.dee, ["offer rejected"]),
            (self.fan, ["listing"]),
            (self.cy, ["moderation mute"]),
            (self.mo, []),
        ):
            assert await guest.nothing_twice() == expected


async def steps(guest: Guest, other: Guest) -> list[str]:
    """The cards in the conversation of two people, by whom and of which offer."""
    letters = (await guest.get(f"/chat/dm/{other.id}?limit=100"))["messages"]
    cards = [letter for letter in letters if letter["message_type"] == "offer"]
    nonces = [letter.get("nonce") for letter in letters if letter.get("nonce")]
    assert len(nonces) == len(set(nonces))
    return [f"{card['from_user_id']} {card['media_url'].rpartition('/')[2]}" for card in cards]


async def insist(guest: Guest, path: str, body: Any, done: str) -> None:
    """After a power cut nobody knows whether a step was taken: look, and take it if it was not."""
    offer = await guest.get(path)
    if offer["status"] != done:
        step = {"countered": "counter", "accepted": "accept"}[done]
        await guest.post(f"{path}/{step}", body)


async def test_an_evening_with_two_power_cuts(tmp_path: Path) -> None:
    evening = Evening()
    counter = {"amount_cents": 15000, "proposed_listing_id": None, "message": "A bit more, and it is yours."}
    with trio.fail_after(BOUND):
        async with far_house(tmp_path, **SETTINGS) as house, trio.open_nursery() as nursery:
            await evening.begins(house, nursery)
            await evening.the_market_opens()
            await evening.offers_come()
            await evening.somebody_is_stopped()
            await evening.more_talk(20)
            counter["proposed_listing_id"] = evening.amp

            async def countered() -> None:
                # Perhaps it arrives, perhaps it is stored, perhaps it is answered: nobody can tell.
                try:
                    await evening.ada.ask("POST", f"/offers/{evening.swap}/counter", counter)
                except httpx.TransportError:
                    pass

            nursery.start_soon(countered)
            await evening.more_talk(3)
            await evening.power_cut()

        async with far_house(tmp_path, **SETTINGS) as house, trio.open_nursery() as nursery:
            await evening.light_again(house, nursery)
            await insist(evening.ada, f"/offers/{evening.swap}", counter, "countered")
            await until(lambda: bool(evening.bo.heard_of("offer", offer_id=evening.swap, step="countered")))
            await evening.still_stopped()
            offer = await evening.bo.get(f"/offers/{evening.swap}")
            assert offer["counter"]["amount_cents"] == 15000
            await evening.more_talk(20)
            # Granted, and in that moment the light goes out: whoever is to hear of it hears when it is on again.
            accepted = await evening.bo.post(f"/offers/{evening.swap}/accept")
            assert accepted["status"] == "accepted"
            await evening.power_cut()

        async with far_house(tmp_path, **SETTINGS) as house, trio.open_nursery() as nursery:
            await evening.light_again(house, nursery)
            ada, bo, dee = evening.ada, evening.bo, evening.dee
            await until(lambda: bool(ada.heard_of("offer", offer_id=evening.swap, step="accepted")))
            await until(
                lambda: bool(dee.heard_of("offer", offer_id=evening.money, step="rejected", reason="sold"))
            )
            for listing in (evening.bass, evening.amp):
                assert (await ada.get(f"/listings/{listing}"))["status"] == "sold"
            assert await ada.refused(409, "POST", f"/offers/{evening.money}/accept") == "OFFER_NOT_OPEN"
            late = {"amount_cents": 50000}
            assert (
                await evening.fan.refused(409, "POST", f"/listings/{evening.bass}/offers", late)
                == "LISTING_NOT_OPEN"
            )
            await evening.still_stopped()
            await evening.more_talk(20)
            await evening.over()
            cards = await steps(bo, ada)
            assert cards == [
                f"{bo.id} {evening.swap}",
                f"{ada.id} {evening.swap}",
                f"{bo.id} {evening.swap}",
            ]
            assert await steps(dee, ada) == [f"{dee.id} {evening.money}"]
            nursery.cancel_scope.cancel()
