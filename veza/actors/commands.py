"""What can be asked of a room: one frozen record per wish, whoever brings it, socket or REST.

A wish that came over a socket carries its `connection` (and `ref`): answers and refusals go there as frames. One that
came by REST carries none: the answer is the value of the `ask`, a refusal its error.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from veza.actors.ports import Connection
from veza.db.removals import Why


class Person(msgspec.Struct, frozen=True):
    """Who wishes; `role` is the platform's, not the room's, and so is `muted_until` (see `rules.refuse_silenced`)."""

    user_id: int
    username: str
    role: str = "user"
    muted_until: datetime | None = None


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Common to all: who, and where the answer goes."""

    person: Person
    connection: Connection | None = None
    ref: str | None = None

    def __repr__(self) -> str:  # contents stay out of logs
        return f"{type(self).__name__}(user={self.person.user_id})"


class Join(Wish, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Subscribe the connection (and, in a public room, become a member). Resumes after `since_seq`/`since_rev`."""

    since_seq: int | None = None
    since_rev: int | None = None


class Enroll(Wish, frozen=True, kw_only=True):
    """Become a member without a connection (REST). Answers Summary.

    `invited` opens private rooms; so does an `invitation`, which is used up by one in the same transaction.
    """

    invited: bool = False
    invitation: str | None = None


class Quit(Wish, frozen=True, kw_only=True):
    """End membership and every subscription of the person."""


class Depart(Wish, frozen=True, kw_only=True):
    """The program's own wish: the person's account is deleted. Ends the membership; a room of his gets another owner,
    and one with nobody left is deleted."""


class Leave(Wish, frozen=True, kw_only=True):
    """End this connection's subscription; `quiet` sends no acknowledgement (the socket has ended)."""

    quiet: bool = False


class Say(Wish, frozen=True, kw_only=True):
    """Post a message. Answers Posted once it is committed. `house`: the program says it for the person, who did what
    it tells of; only then may the message have a type of the house's."""

    content: str
    nonce: str | None = None
    message_type: str = "text"
    media_url: str | None = None
    media_type: str | None = None
    duration: float | None = None
    reply_to: int | None = None
    house: bool = False


class Edit(Wish, frozen=True, kw_only=True):
    id: int
    content: str


class Delete(Wish, frozen=True, kw_only=True):
    id: int


class React(Wish, frozen=True, kw_only=True):
    id: int
    emoji: str
    added: bool


class Pin(Wish, frozen=True, kw_only=True):
    id: int
    pinned: bool


class Typing(Wish, frozen=True, kw_only=True):
    on: bool


class MarkRead(Wish, frozen=True, kw_only=True):
    seq: int


class SetRole(Wish, frozen=True, kw_only=True):
    target: int
    role: str


class Kick(Wish, frozen=True, kw_only=True):
    target: int


class Sanction(Wish, frozen=True, kw_only=True):
    """Mute or ban somebody, until a time or for good."""

    target: int
    kind: str
    until: datetime | None = None
    reason: str | None = None


class Lift(Wish, frozen=True, kw_only=True):
    target: int
    kind: str


class SetWords(Wish, frozen=True, kw_only=True):
    """These words, folded, are not to be said here by who is no moderator; no others. Answers them, in order."""

    words: tuple[str, ...]


class TakeDown(Wish, frozen=True, kw_only=True):
    """Take a message away, as a moderator of the platform: of this room one need not be a member."""

    id: int
    why: Why


class Update(Wish, frozen=True, kw_only=True):
    """Change what is not None. `house`: the program wishes it, for what the room belongs to (a live stream); then
    nobody's role is asked for."""

    name: str | None = None
    description: str | None = None
    is_private: bool | None = None
    slow_mode_s: int | None = None
    house: bool = False


class Remove(Wish, frozen=True, kw_only=True):
    """Delete the room with all that was said in it. `house` as in Update."""

    house: bool = False


class Seclude(Wish, frozen=True, kw_only=True):
    """The program's own wish, for what the room belongs to: make it private, and end the membership of everybody but
    `person`, the owner and the moderators. Invitations that were made are no good any more."""


class Describe(Wish, frozen=True, kw_only=True):
    """Answers Summary."""


class MayInvite(Wish, frozen=True, kw_only=True):
    """Answers True, or refuses."""


class PartyWish(Wish, frozen=True, kw_only=True):
    """A change of what a room plays together. Answers PartyState."""


class PartyStart(PartyWish, frozen=True, kw_only=True):
    """Play a track in step for all who are here, instead of what was played before."""

    track_id: int
    position_ms: int = 0
    playing: bool = True


class PartyMove(PartyWish, frozen=True, kw_only=True):
    """Play, pause, seek: what is None stays as it is."""

    position_ms: int | None = None
    playing: bool | None = None


class PartyStop(PartyWish, frozen=True, kw_only=True):
    """Play nothing together any more."""


class PartyGet(Wish, frozen=True, kw_only=True):
    """Answers PartyState: a frame for a connection, also where nothing is played."""


# Told by other actors, not wished by people.


class Subscribe(msgspec.Struct, frozen=True):
    """A new connection of one of a conversation's two people, which knows messages up to `known_seq`."""

    connection: Connection
    known_seq: int | None


class Unsubscribe(msgspec.Struct, frozen=True):
    connection: Connection


class PresenceChanged(msgspec.Struct, frozen=True):
    """Somebody chose another status; `change` numbers it, so that a socket hears it once over all rooms."""

    user_id: int
    username: str
    invisible: bool
    frame: bytes
    change: int


class Renamed(msgspec.Struct, frozen=True):
    user_id: int
    username: str


class Forgotten(msgspec.Struct, frozen=True):
    """A person's account is deleted: what he said here is said by `username` from now on, in replays too."""

    user_id: int
    username: str


class BlocksChanged(msgspec.Struct, frozen=True):
    """One of a conversation's two people blocks the other, or no longer does: read it. Answered when that is done."""


class TrackChanged(msgspec.Struct, frozen=True):
    """A track is called otherwise, is private now, or gone (committed): perhaps it is played here."""

    track_id: int


class Expelled(msgspec.Struct, frozen=True):
    """A person's account was ended: every trace of presence goes."""

    user_id: int


class Settle(msgspec.Struct, frozen=True):
    """Ask: deliver what waits, now; all that was told before has been handled when the answer comes."""


# Answers.


class Posted(msgspec.Struct, frozen=True):
    room_id: int
    id: int
    seq: int
    created_at: datetime
    nonce: str | None


class Summary(msgspec.Struct, frozen=True):
    """A room as it is now; `role` and `unread` are the asker's."""

    id: int
    name: str | None
    description: str | None
    kind: str
    owner_id: int | None
    member_count: int
    online: int
    online_ids: list[int]
    last_seq: int
    last_rev: int
    slow_mode_s: int
    created_at: datetime
    role: str | None
    last_read_seq: int
