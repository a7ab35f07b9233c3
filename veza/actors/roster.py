"""Who belongs to a room and what they may do there: the room's members, sanctions and read marks, in memory.

State without I/O, owned by one RoomActor, which writes changes to the database first and here after.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime

from veza.actors import rules
from veza.actors.commands import Person
from veza.actors.errors import BANNED, MUTED, SLOW_MODE, Refused, denied, not_joined
from veza.db.rooms import Loaded, Member


class Roster:
    """Members by id and by name, sanctions with their ends, the last posts for slow mode."""

    def __init__(self, loaded: Loaded) -> None:
        self.members: dict[int, Member] = {}
        self._names: dict[str, int] = {}
        self._sanctions: dict[tuple[int, str], datetime | None] = {
            (s.user_id, s.kind): s.until for s in loaded.sanctions
        }
        self._last_post: dict[int, tuple[float, str, int]] = {}  # when, the nonce, how often it is on its way
        self.unsaved: dict[int, int] = {}  # read marks that the database has not seen
        for member in loaded.members:
            self.add(member)

    def add(self, member: Member) -> None:
        self.members.setdefault(member.user_id, member)
        self._names[member.username.lower()] = member.user_id

    def drop(self, user_id: int) -> None:
        member = self.members.pop(user_id, None)
        if member is not None:
            self._forget_name(member)
            self.unsaved.pop(user_id, None)
            self._last_post.pop(user_id, None)

    def rename(self, user_id: int, username: str) -> None:
        member = self.members.get(user_id)
        if member is not None:
            self._forget_name(member)
            member.username = username
            self._names[username.lower()] = user_id

    def _forget_name(self, member: Member) -> None:
        """Unless it is somebody else's already: names are exchanged, and news of them come in any order."""
        if self._names.get(member.username.lower()) == member.user_id:
            del self._names[member.username.lower()]

    def mentions(self, text: str) -> list[int] | None:
        """The members named in the text by `@name`."""
        return sorted({self._names[name] for name in rules.mentioned(text) if name in self._names}) or None

    # Standing.

    def level(self, person: Person) -> int:
        member = self.members.get(person.user_id)
        return rules.level(member.role if member else None, person.role)

    def level_of(self, user_id: int | None) -> int:
        member = self.members.get(user_id) if user_id is not None else None
        return rules.level(member.role if member else None)

    def need(self, person: Person, level: int, what: str) -> None:
        """Raise PERMISSION_DENIED below `level`."""
        if self.level(person) < level:
            raise denied(
                f"Only a room's {'owner' if level >= rules.OWNER else 'owner and moderators'} may {what}."
            )

    def below(self, person: Person, target: int) -> None:
        """Sanctions and role changes act only on people strictly below the actor."""
        if target == person.user_id or self.level_of(target) >= self.level(person):
            raise denied("This works only on people below you.")

    # Sanctions.

    def sanction(self, user_id: int, kind: str, until: datetime | None) -> None:
        self._sanctions[user_id, kind] = until

    def lift(self, user_id: int, kind: str) -> None:
        self._sanctions.pop((user_id, kind), None)

    def _in_force(self, user_id: int, kind: str) -> tuple[bool, datetime | None]:
        key = (user_id, kind)
        if key not in self._sanctions:
            return False, None
        until = self._sanctions[key]
        if until is not None and until <= datetime.now(UTC):
            del self._sanctions[key]
            return False, None
        return True, until

    def refuse_banned(self, user_id: int) -> None:
        banned, until = self._in_force(user_id, "ban")
        if banned:
            raise Refused(BANNED, "You are banned from this room.", **rules.ends(until))

    def refuse_muted(self, person: Person) -> None:
        """Neither who is muted here, nor who is muted everywhere."""
        rules.refuse_silenced(person.muted_until)
        muted, until = self._in_force(person.user_id, "mute")
        if muted:
            raise Refused(MUTED, "You are muted in this room.", **rules.ends(until))

    def member(self, person: Person) -> Member:
        member = self.members.get(person.user_id)
        if member is None:
            raise not_joined()
        return member

    def slow_down(self, person: Person, seconds: int, now: float, nonce: str) -> None:
        """Slow mode: one post per `seconds` for everybody who is not a moderator; notes this one.

        The same post again (its nonce tells) is no further one: its sender has not heard what became of it.
        """
        if seconds <= 0 or self.level(person) >= rules.MODERATOR:
            return
        at, last, times = self._last_post.get(person.user_id, (float("-inf"), "", 0))
        if nonce == last:
            self._last_post[person.user_id] = at, last, times + 1
            return
        wait = at + seconds - now
        if wait > 0:
            raise Refused(SLOW_MODE, "This room is in slow mode.", retry_after=math.ceil(wait * 10) / 10)
        self._last_post[person.user_id] = now, nonce, 1

    def take_back(self, user_id: int, nonce: str) -> None:
        """A post was not stored after all. The pause after it falls away, unless the same post is stored otherwise."""
        at, last, times = self._last_post.get(user_id, (0.0, "", 0))
        if nonce == last and times > 1:
            self._last_post[user_id] = at, last, times - 1
        elif nonce == last:
            self._last_post.pop(user_id, None)

    # Read marks.

    def read(self, user_id: int, seq: int) -> bool:
        """Move the person's mark forward; False where it does not move."""
        member = self.members.get(user_id)
        if member is None or seq <= member.last_read_seq:
            return False
        member.last_read_seq = seq
        self.unsaved[user_id] = seq
        return True

    def take_unsaved(self) -> dict[int, int]:
        marks, self.unsaved = self.unsaved, {}
        return marks
