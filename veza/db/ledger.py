"""Durable appends: one call of `ledger_append` commits the posts of any number of rooms."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec


class Post(msgspec.Struct, frozen=True):
    """A message to be stored, checked already. `nonce` is unique per room and person."""

    room_id: int
    user_id: int
    nonce: str
    content: str
    message_type: str = "text"
    media_url: str | None = None
    media_type: str | None = None
    duration: float | None = None
    reply_to: int | None = None
    mentions: list[int] | None = None
    letter_to: int | None = None  # who is told that he has a letter

    @property
    def tells(self) -> bool:
        """Does it concern somebody in particular, so that the outbox may hold something afterwards?"""
        return self.mentions is not None or self.reply_to is not None or self.letter_to is not None

    def __repr__(self) -> str:  # contents stay out of logs
        return f"Post(room_id={self.room_id}, user_id={self.user_id}, length={len(self.content)})"


class Receipt(msgspec.Struct, frozen=True):
    """What became of a post. `fresh` is False for a nonce that was known; `refusal` says why there is no id."""

    id: int | None
    seq: int | None
    created_at: datetime
    fresh: bool
    refusal: str | None


_APPEND = """
SELECT id, seq, created_at, fresh, refusal
FROM ledger_append($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                   $8::float8[], $9::bigint[], $10::text[], $11::bigint[])
"""


async def append(conn: Any, posts: Sequence[Post]) -> list[Receipt]:
    """Commit the posts; one receipt each, in the order given. A single statement, so a transaction of its own."""
    rows = await conn.fetch(
        _APPEND,
        [p.room_id for p in posts],
        [p.user_id for p in posts],
        [p.nonce for p in posts],
        [p.content for p in posts],
        [p.message_type for p in posts],
        [p.media_url for p in posts],
        [p.media_type for p in posts],
        [p.duration for p in posts],
        [p.reply_to for p in posts],
        [None if p.mentions is None else "{" + ",".join(map(str, p.mentions)) + "}" for p in posts],
        [p.letter_to for p in posts],
    )
    return [Receipt(*row) for row in rows]
