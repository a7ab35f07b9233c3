"""What the actors need from the layer above them, said as protocols, so that nothing here imports `http`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Outlet(Protocol):
    """The sending side of one connection. Nothing here blocks or awaits."""

    last_received: float  # trio.current_time() of the last byte that came in

    @property
    def closed(self) -> bool: ...

    @property
    def queued(self) -> int:
        """Bytes the kernel has not taken yet."""
        ...

    def post(self, blob: bytes, *, droppable: bool = False) -> bool:
        """Send whole frames; False once the connection is dead. Droppable ones are skipped when anything waits."""
        ...

    def close(self, code: int, reason: str = "") -> None:
        """Send a Close frame after what is queued, and nothing after it."""
        ...


class Connection:
    """One socket as the actors know it: who it is and where its bytes go. Compared by identity.

    Presence keeps name, platform role and a mute's end as they are now; whoever needs them asks here each time.
    """

    __slots__ = (
        "__weakref__",
        "ended",
        "id",
        "invisible",
        "muted_until",
        "outlet",
        "role",
        "seen_change",
        "sid",
        "user_id",
        "username",
    )

    def __init__(
        self,
        id: str,
        user_id: int,
        username: str,
        outlet: Outlet,
        sid: str = "",
        invisible: bool = False,
        role: str = "user",
        muted_until: datetime | None = None,
    ) -> None:
        self.id = id
        self.user_id = user_id
        self.username = username
        self.role = role
        self.muted_until = muted_until
        self.outlet = outlet
        self.sid = sid
        self.invisible = invisible
        # The last presence change this socket was told of: two people may share several rooms, and hear it once.
        self.seen_change = 0
        self.ended = False  # the socket is no more, and rooms are being told: they must not let it in now

    def __repr__(self) -> str:
        return f"<Connection {self.id} of user {self.user_id}>"
