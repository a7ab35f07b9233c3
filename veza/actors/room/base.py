"""What every part of a room stands on: its state, and how it speaks of itself and to one connection."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import msgspec

from veza.actors import rules
from veza.actors.carried import Carried, Resume
from veza.actors.commands import (
    Person,
    Summary,
)
from veza.actors.errors import (
    BLOCKED,
    ROOM_NOT_FOUND,
    WORD_FILTERED,
    Refused,
    denied,
    room_not_found,
)
from veza.actors.fanout import Fanout, Tally
from veza.actors.frames import Address, error_frame
from veza.actors.kernel import Actor, Ref
from veza.actors.marks import ReadMarks
from veza.actors.ports import Connection
from veza.actors.ring import Ring
from veza.actors.roster import Roster
from veza.actors.words import Words
from veza.config import Settings
from veza.db.pool import Database
from veza.db.rooms import Room

TRY_AGAIN = 1013  # close code
RECENT = 256  # changes remembered, for who joins while they go out


class Glance(msgspec.Struct, frozen=True):
    """What of a running room is newer than the database's word: how many are here, up to where somebody has read."""

    online: int
    last_read_seq: int


class Directory(Protocol):
    """Where rooms are found. A room shows itself there while it runs, and says when its name is no longer its own."""

    def show(self, room: RoomBase) -> None: ...
    def hide(self, room: RoomBase) -> None: ...
    def forget(self, room_id: int) -> None: ...


class RoomBase(Actor):
    """The state. Built anew from the database after a crash; what is `carried` stays."""

    carried: Carried
    fanout: Fanout
    roster: Roster
    address: Address

    def __init__(
        self,
        room_id: int,
        *,
        db: Database,
        ledger: Ref,
        presence: Ref,
        settings: Settings,
        tally: Tally,
        marks: ReadMarks,
        directory: Directory | None = None,
    ) -> None:
        self.room_id = room_id
        self.directory = directory
        self.db = db
        self.ledger = ledger
        self.presence = presence
        self.settings = settings
        self.tally = tally
        self.marks = marks
        self.idle_after = settings.room_idle
        self.room: Room | None = None
        self.gone = False
        self.last_seq = 0
        self.last_rev = 0
        self.ring = Ring(settings.room_ring_messages, settings.room_ring_bytes)
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=RECENT)  # the last changes: revision, frame
        self.online: dict[int, str] = {}
        self.blocks: set[tuple[int, int]] = set()
        self.words = Words()  # not to be said here
        self._connections: dict[int, int] = {}
        self._typing: dict[int, Any] = {}
        self._filling = False
        self._load_set = False
        self._flush_set = False
        self._save_set = False
        self._announce_set = False

    @property
    def gated(self) -> dict[Connection, list[Resume]]:
        """Who waits for what was missed, not yet subscribed."""
        return self.carried.gated

    @property
    def member_count(self) -> int:
        return len(self.roster.members)

    def named(self) -> dict[str, Any]:
        """How frames name this room."""
        return {"room": self.address.label, "room_id": self.room_id}

    def changed(self, rev: int, blob: bytes) -> None:
        """A message changed: everybody hears of it, also who is just being let in."""
        self.last_rev = max(self.last_rev, rev)
        self._recent.append((rev, blob))
        self.fanout.add(blob)

    def _changes_after(self, rev: int) -> list[bytes] | None:
        """What was told since that revision; None where it is not all remembered."""
        if rev >= self.last_rev:
            return []
        if not self._recent or self._recent[0][0] > rev + 1:
            return None
        return [blob for changed, blob in self._recent if changed > rev]

    def _refuse(self, connection: Connection, ref: str | None, refusal: Refused) -> None:
        details = refusal.details if self.room is None else {"room": self.address.label, **refusal.details}
        if refusal.code == ROOM_NOT_FOUND:
            details = refusal.details
        connection.outlet.post(error_frame(refusal.code, refusal.message, details, ref))

    def _must_see(self, person: Person) -> None:
        """To strangers only public rooms exist."""
        assert self.room is not None
        if self.room.kind != "public" and person.user_id not in self.roster.members:
            raise room_not_found()

    def _may_invite(self, person: Person) -> None:
        assert self.room is not None
        if self.room.kind == "direct":
            raise denied("A private conversation has two people.")
        self.roster.member(person)
        if self.room.kind == "private":
            self.roster.need(person, rules.MODERATOR, "invite people")

    def refuse_blocked(self, person: Person) -> None:
        """Nothing passes between two people of whom one has blocked the other."""
        if self.address.people is None:
            return
        other = self.address.other(person.user_id)
        if (other, person.user_id) in self.blocks:
            raise Refused(BLOCKED, "This person does not take messages from you.")
        if (person.user_id, other) in self.blocks:
            raise Refused(BLOCKED, "You have blocked this person.")

    def refuse_words(self, person: Person, text: str, field: str = "content") -> None:
        """Who is no moderator does not say certain words here. He alone is told, and where; which they are nobody."""
        if self.words and self.roster.level(person) < rules.MODERATOR:
            place = self.words.find(text)
            if place is not None:
                raise Refused(
                    WORD_FILTERED,
                    "There is a word in it that is not said in this room.",
                    field=field,
                    position=place.position,
                    length=place.length,
                )

    def describe(self, person: Person) -> Summary:
        assert self.room is not None
        member = self.roster.members.get(person.user_id)
        return Summary(
            id=self.room_id,
            name=self.room.name,
            description=self.room.description,
            kind=self.room.kind,
            owner_id=self.room.owner_id,
            member_count=self.member_count,
            online=len(self.online),
            online_ids=list(self.online),
            last_seq=self.last_seq,
            last_rev=self.last_rev,
            slow_mode_s=self.room.slow_mode_s,
            created_at=self.room.created_at,
            role=member.role if member else None,
            last_read_seq=member.last_read_seq if member else 0,
        )

    def greeting(self) -> bytes:
        """Frames for a connection that is being let in, behind the acknowledgement."""
        return b""

    def glance(self, user_id: int) -> Glance | None:
        """For lists, which must not wait for a mailbox. Reads only, in one step; None until it has loaded."""
        if self.room is None:
            return None
        member = self.roster.members.get(user_id)
        return Glance(len(self.online), member.last_read_seq if member is not None else 0)

    def plays(self, track_id: int) -> bool:
        """Does the room play this track, or may it be reading just now what it plays?"""
        return self.room is None

    def concerns(self, user_id: int) -> bool:
        """Does the room know this person, or may it be reading about him just now?"""
        return self.room is None or user_id in self.roster.members
