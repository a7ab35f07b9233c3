"""A room: who listens, what was said, in one order for all. Each file tells one part, and knows those above it here.

base        the state, and how the room speaks of itself
signs       typing, read marks
blocking    between two people: who has blocked whom
attendance  who is here: subscribing, leaving, being seen
resuming    letting a connection in, with what it missed
posting     a message's way: check, ledger, delivery
listening   playing a track in step for all
changing    memberships and other changes, one at a time
actor       the life of a room, and every message it takes
notes       what it tells itself
"""

from veza.actors.room.actor import RoomActor
from veza.actors.room.base import TRY_AGAIN, Glance

__all__ = ["TRY_AGAIN", "Glance", "RoomActor"]
