"""A market: people with listings, over a real database and no actors: what is to be told stays in the outbox.

`market.listing(owner)`, `market.offer(buyer, listing, …)` go through the API, `market.told()` empties the outbox.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Answer, Api, api, clock, settings
from tests.social.conftest import Person, Town, refused

__all__ = ["Answer", "Market", "Person", "api", "clock", "refused", "settings"]

_numbers = itertools.count(1)


class Market(Town):
    """What a test starts from."""

    async def listing(self, owner: Person, **fields: Any) -> Any:
        body = {
            "title": f"Bass {next(_numbers)}",
            "category": "basses",
            "state": "good",
            "price_cents": 50_000,
        }
        answer = await self.api.post("/listings", {**body, **fields}, token=owner.token)
        assert answer.status == 201, answer.raw
        return answer.data

    async def offer(self, buyer: Person, listing: int, **fields: Any) -> Any:
        answer = await self.api.post(
            f"/listings/{listing}/offers", fields or {"amount_cents": 45_000}, token=buyer.token
        )
        assert answer.status == 201, answer.raw
        return answer.data

    async def step(self, step: str, offer: int, by: Person, body: Any = None) -> Answer:
        return await self.api.post(f"/offers/{offer}/{step}", body, token=by.token)

    async def status(self, table: str, id: int) -> str:
        return str(await self.sql(f"SELECT status FROM {table} WHERE id = $1", id))

    async def told(self) -> list[dict[str, Any]]:
        """What is to be told since the last time this was asked, in its order."""

        async def run(conn: Any) -> Any:
            return await conn.fetch(
                "DELETE FROM outbox RETURNING id, kind, audience, target_id, actor_id, key, data"
            )

        rows = sorted(await self.db.write(run), key=lambda row: row["id"])
        return [{**dict(row), "data": json.loads(row["data"])} for row in rows]


@pytest.fixture(scope="session")
def shared_market(postgres: Any) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(shared_market: str) -> str:
    """One database for all these tests: each has people and listings of its own."""
    return shared_market


@pytest.fixture
async def market(api: Api) -> Market:
    return Market(api, api.services.db)
