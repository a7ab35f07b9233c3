"""What moderators ask of a room beside what they do to its people: words not to be said, messages taken away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from veza.actors import rules
from veza.actors.changes import Change
from veza.actors.commands import SetWords, TakeDown
from veza.actors.errors import denied
from veza.actors.room.listening import Listening
from veza.actors.words import Words
from veza.db import removals, room_words


class Moderating(Listening):
    """See the module."""

    def plan_words(self, wish: SetWords) -> Change:
        """Raises Refused."""
        assert self.room is not None
        if self.room.kind == "direct":
            raise denied("A private conversation has no moderators.")
        self.roster.need(wish.person, rules.MODERATOR, "choose words that are not said here")
        return Change(room_words.replace, (wish.words, wish.person.user_id), _chosen)

    def plan_take_down(self, wish: TakeDown, applied: Callable[..., Any]) -> Change:
        """For who moderates the platform: he need not be a member. Whether he may is asked in the transaction."""
        return Change(removals.message, (wish.id, wish.why), applied)


async def _chosen(room: Moderating, wish: SetWords, stored: list[str]) -> list[str]:
    room.words = Words(stored)
    return stored
