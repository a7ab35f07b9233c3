"""What the other side hears, on a real server: a message in their conversation, and a notification, at once."""

from __future__ import annotations

from typing import Any

import httpx
import trio

from tests.chat.conftest import Build, Person, build
from tests.chat.conftest import settings as settings

__all__ = ["build"]

API = "/api/v1"


def bearer(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.token}"}


async def test_every_step_reaches_the_other_side_live(build: Build) -> None:
    async with build(rate_rest_burst=10_000) as house:
        ann, bob, fan = await house.people(3)
        await house.sql(
            "INSERT INTO follows (follower_id, followed_id) VALUES ($1, $2) RETURNING 1", fan.id, ann.id
        )
        seller, buyer, follower = [await house.connect(person) for person in (ann, bob, fan)]
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{house.port}{API}", timeout=60) as http:

            async def post(path: str, by: Person, body: Any = None) -> Any:
                answer = await http.post(path, json=body, headers=bearer(by))
                assert answer.status_code in (200, 201), answer.text
                return answer.json()["data"]

            bass = await post(
                "/listings",
                ann,
                {"title": "Jazz bass", "category": "basses", "state": "good", "price_cents": 50_000},
            )
            amp = await post(
                "/listings",
                bob,
                {"title": "Old amp", "category": "amps", "state": "fair", "exchange_for": "A bass"},
            )
            told = await follower.expect("notification", kind="listing")
            assert (told["listing_id"], told["title"], told["username"]) == (
                bass["id"],
                "Jazz bass",
                ann.name,
            )

            offer = await post(
                f"/listings/{bass['id']}/offers", bob, {"amount_cents": 45_000, "message": "Still there?"}
            )
            told = await seller.expect("notification", kind="offer", step="received")
            assert (told["offer_id"], told["user_id"], told["unread"]) == (offer["id"], bob.id, 1)
            await post(
                f"/offers/{offer['id']}/counter",
                ann,
                {"amount_cents": 30_000, "proposed_listing_id": amp["id"]},
            )
            told = await buyer.expect("notification", kind="offer", step="countered")
            assert (told["listing_id"], told["user_id"]) == (bass["id"], ann.id)
            await post(f"/offers/{offer['id']}/accept", bob)
            await seller.expect("notification", kind="offer", step="accepted")
            assert (await http.get(f"/listings/{amp['id']}")).json()["data"]["status"] == "sold"

            with trio.fail_after(60):
                while True:
                    rows = await house.sql(
                        """SELECT m.user_id, m.content, m.media_url, m.message_type FROM messages m
                           JOIN rooms r ON r.id = m.room_id
                           WHERE r.kind = 'direct' AND $1 IN (r.user_low, r.user_high) ORDER BY m.seq""",
                        ann.id,
                    )
                    if len(rows) == 3:
                        break
                    await trio.sleep(0.01)
            at = f"/api/v1/offers/{offer['id']}"
            assert [tuple(row) for row in rows] == [
                (bob.id, 'Offer for "Jazz bass": 450.00 EUR. Still there?', at, "offer"),
                (ann.id, 'Counter-offer for "Jazz bass": 300.00 EUR and "Old amp" in exchange.', at, "offer"),
                (
                    bob.id,
                    'Offer for "Jazz bass" accepted: 300.00 EUR and "Old amp" in exchange.',
                    at,
                    "offer",
                ),
            ]
