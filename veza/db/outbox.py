"""What is still to be told, written in the transaction of what it tells of.

Whoever changes something that others are to hear of calls `put` with the connection of that very transaction, and pokes
the courier (`veza.actors.notices`) once it may have committed. If the program dies in between, the courier finds the
row when it starts again: what is told is told exactly of what is stored.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

# "person": `target_id` is who is told. "followers": those who follow him. "room": the room's members.
Audience = Literal["person", "followers", "room"]

_encode = msgspec.json.Encoder().encode


class Event(msgspec.Struct, frozen=True):
    """Something to be told.

    Attributes:
        kind: of the notification (see `veza.db.notifications`), or `card`: a message from `actor_id` to the person
            `target_id`, with `content` and `media_url` in `data`.
        target_id: see Audience.
        actor_id: who caused it; nobody is told of his own acts, nor of acts of people he muted or blocked, or who
            blocked him. None: the house itself, whom nobody mutes.
        key: names the cause, at most 64 characters: nobody is told of one cause twice. Of a card, its nonce.
        data: the fields of the notification, JSON values.
    """

    kind: str
    target_id: int
    actor_id: int | None
    key: str
    data: dict[str, Any] = {}
    audience: Audience = "person"

    def __repr__(self) -> str:  # contents stay out of logs
        return f"<Event {self.kind} {self.key}>"


async def put(conn: Any, *events: Event) -> None:
    """Have these told once the caller's transaction has committed, in this order."""
    if not events:
        return
    await conn.execute(
        """INSERT INTO outbox (kind, audience, target_id, actor_id, key, data)
           SELECT e.kind, e.audience, e.target_id, e.actor_id, e.key, e.data::jsonb
           FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
               WITH ORDINALITY AS e (kind, audience, target_id, actor_id, key, data, ord)
           ORDER BY e.ord""",
        [e.kind for e in events],
        [e.audience for e in events],
        [e.target_id for e in events],
        [e.actor_id for e in events],
        [e.key for e in events],
        [_encode(e.data).decode() for e in events],
    )
