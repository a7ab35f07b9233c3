"""What a room tells itself: results of its jobs, and reminders of its timers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from outcome import Outcome

from veza.actors.carried import Enrollment, Resume
from veza.actors.commands import (
    Wish,
)
from veza.actors.kernel import Reply
from veza.db.messages import Message
from veza.db.parties import PartyRow


class Flush(msgspec.Struct, frozen=True):
    """The pause after a costly pass is over."""


class TypingExpired(msgspec.Struct, frozen=True):
    user_id: int


class SaveReads(msgspec.Struct, frozen=True):
    """Time to write the read marks down."""


class AnnounceOnline(msgspec.Struct, frozen=True):
    """Time to say how many are here, in a room too large to name them."""


class FillAgain(msgspec.Struct, frozen=True):
    """Try again to read the rows that are missing."""


class LoadAgain(msgspec.Struct, frozen=True):
    """Try again to read the room itself."""


class GoOn(msgspec.Struct, frozen=True):
    """A new incarnation has loaded: go on where the one before it stopped."""


class Filled(msgspec.Struct, frozen=True):
    """Rows that were committed but not seen by this room."""

    outcome: Outcome[list[Message]]


class Replayed(msgspec.Struct, frozen=True):
    """What a resuming connection missed, from the database."""

    resume: Resume
    outcome: Outcome[tuple[list[Message], list[Message], int]]


class Changed(msgspec.Struct, frozen=True):
    """A change of the room is stored, or is not."""

    wish: Wish | Enrollment
    reply: Reply | None
    apply: Callable[..., Any]
    outcome: Outcome[Any]


class BlocksRead(msgspec.Struct, frozen=True):
    """Who of a conversation's two people has blocked the other."""

    outcome: Outcome[list[tuple[int, int]]]


class ReadBlocksAgain(msgspec.Struct, frozen=True):
    """Try again to read that."""


class PartyTrackEnds(msgspec.Struct, frozen=True):
    """The track that is played together is at its end."""


class CheckParty(msgspec.Struct, frozen=True):
    """Try again to read whether this track can still be played to everybody."""

    track_id: int


class PartyChecked(msgspec.Struct, frozen=True):
    """Whether it can; None: no more."""

    track_id: int
    outcome: Outcome[PartyRow | None]


class Saved(msgspec.Struct, frozen=True):
    marks: dict[int, int]
    outcome: Outcome[None]
