"""What a room's slot keeps over a crash: whatever somebody still waits for.

The room itself is read from the database again. What is here cannot be: who listens and up to where each was served,
posts whose commit is under way or whose result has not been told, joins and changes that wait for their turn.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec

from veza.actors.commands import Enroll, Join, Wish
from veza.actors.ports import Connection

if TYPE_CHECKING:
    from veza.actors.kernel import Reply
    from veza.actors.ledger import Entry
    from veza.db.ledger import Receipt


class Subscriber:
    """A connection's subscription, with what it has been given (`sent`, `sent_rev`)."""

    __slots__ = ("connection", "outlet", "sent", "sent_rev", "since", "skip")

    def __init__(self, connection: Connection, sent: int, sent_rev: int, skip: int) -> None:
        self.connection = connection
        self.outlet = connection.outlet
        self.since = sent  # everything after it is given live
        self.sent = sent
        self.sent_rev = sent_rev
        self.skip = skip  # frames pending when it came, which are not for it


class Resume(msgspec.Struct, frozen=True, eq=False):
    """A connection that waits, gated, for what it missed; `wish` is None for subscriptions nobody asked for."""

    connection: Connection
    since_seq: int | None
    since_rev: int | None
    wish: Join | None


class Enrollment:
    """Joins that need a membership, gathered into one change while another is under way."""

    def __init__(self) -> None:
        self.wishes: list[tuple[Join | Enroll, Reply | None]] = []


class Carried:
    """See the module. Owned by the room's present incarnation."""

    def __init__(self) -> None:
        self.subscribers: dict[Connection, Subscriber] = {}
        self.gated: dict[Connection, list[Resume]] = {}
        self.watched = False  # a private conversation has told presence whose connections it wants
        self.in_flight = 0  # posts told to the ledger, not answered yet
        self.stored: deque[tuple[Entry, Receipt]] = deque()  # committed, neither acknowledged nor delivered
        self.acks: dict[Connection, list[bytes]] = {}  # to be sent by the next pass
        self.changes: deque[tuple[Wish | Enrollment, Reply | None]] = deque()
        self.changing = False  # one of them is being stored
        # What people said over their sockets while their first join is being stored, in order.
        self.behind: dict[int, list[Wish]] = {}
        self.held: list[Any] = []  # results that came while the room could not be read

    def ungate(self, resume: Resume) -> None:
        waiting = self.gated.get(resume.connection)
        if waiting is not None and resume in waiting:
            waiting.remove(resume)
            if not waiting:
                del self.gated[resume.connection]

    def forget(self, connection: Connection) -> None:
        """The connection has ended."""
        self.subscribers.pop(connection, None)
        self.gated.pop(connection, None)
        self.acks.pop(connection, None)
