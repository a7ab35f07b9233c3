"""Cards: messages that somebody's act leaves in his private conversation with another person.

Each is said in the room as any message is, under its own nonce: said twice it is one. Its row goes once the room has
acknowledged it, or refuses it for good.
"""

from __future__ import annotations

from typing import Final, Protocol

import trio

from veza import log
from veza.actors.commands import Person, Say
from veza.actors.errors import UNAVAILABLE, Refused
from veza.actors.kernel import AskTimeout
from veza.actors.rooms import Rooms
from veza.db import courier
from veza.db.courier import Card
from veza.db.errors import Unavailable
from veza.db.pool import Database

_log = log.get("notices")

MOST: Final = 50  # a pass
PATIENCE: Final = 3.0  # seconds a pass may take, for notifications wait behind it
CRASHES: Final = 10  # after so many tries that no room survived nobody tries again
CARD_TYPE: Final = "offer"


class Cards(Protocol):
    async def deliver(self) -> int:
        """Say what is due; how many were done with. Raises DatabaseError: Unavailable, and nothing worse for a card."""
        ...


class RoomCards:
    """Says them in their rooms."""

    def __init__(self, db: Database, rooms: Rooms) -> None:
        self._db = db
        self._rooms = rooms

    async def deliver(self) -> int:
        due = await self._db.read(courier.cards, MOST)
        pairs: dict[tuple[int, int], list[Card]] = {}
        for card in due:
            pairs.setdefault(_pair(card), []).append(card)
        until = trio.current_time() + PATIENCE
        done = 0
        away: list[Unavailable] = []

        async def in_order(cards: list[Card]) -> None:
            nonlocal done
            for card in cards:
                try:
                    if trio.current_time() >= until or not await self._deliver(card, until):
                        return  # what comes behind it waits: a conversation is read in order
                except Unavailable as error:  # one error, not a group: the courier waits for the database
                    away.append(error)
                    return
                done += 1

        async with trio.open_nursery() as nursery:
            for cards in pairs.values():
                nursery.start_soon(in_order, cards)
        if away:
            raise away[0]
        return done

    async def _deliver(self, card: Card, until: float) -> bool:
        """Say one; True once it is done with. What is not said by then waits, and others are tried before it."""
        try:
            with trio.move_on_at(until) as patience:
                await self._say(card)
            if patience.cancelled_caught:
                await self._put_off(card)
                return False
        except Refused as refusal:
            if refusal.code == UNAVAILABLE:
                await self._put_off(card)
                return False
            _log.info("a card is not delivered", card=card.key, why=refusal.code)
        except Unavailable:
            raise
        except AskTimeout:
            await self._put_off(card)
            return False
        except Exception as error:  # the room did not survive it, or something here is wrong with this one
            if card.tries + 1 < CRASHES:
                await self._put_off(card)
                return False
            _log.error("a card was given up", card=card.key, error=type(error).__name__)
        await self._db.write(courier.drop, card.id)
        return True

    async def _say(self, card: Card) -> None:
        if card.username is None:
            raise Refused("USER_NOT_FOUND", "This person is gone.")
        room_id = await self._rooms.direct(card.actor_id, card.target_id)
        await self._rooms.ask(
            room_id,
            Say(
                person=Person(card.actor_id, card.username),
                content=card.content,
                media_url=card.media_url,
                message_type=CARD_TYPE,
                nonce=card.key,
                house=True,
            ),
            timeout=PATIENCE,
        )

    async def _put_off(self, card: Card) -> None:
        await self._db.write(courier.put_off, card.id, min(2.0**card.tries, 60.0))


def _pair(card: Card) -> tuple[int, int]:
    return min(card.actor_id, card.target_id), max(card.actor_id, card.target_id)
