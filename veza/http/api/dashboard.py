"""What `/admin/dashboard` shows: counts from the database, shared by all who look, and what the actors know."""

from __future__ import annotations

import shutil

import trio
from msgspec import Struct

from veza.actors.kernel import NoSuchActor, Ref, System
from veza.actors.presence import Statistics
from veza.db import administration
from veza.db.administration import Counts
from veza.http.api.services import Services

_GOOD_FOR = 5.0  # seconds; counting large tables is not free


class Users(Struct, frozen=True):
    total: int
    active: int
    banned: int
    online: int


class RoomCounts(Struct, frozen=True):
    public: int
    private: int
    direct: int
    running: int


class Pool(Struct, frozen=True):
    open: int
    idle: int
    waiting: int


class Storage(Struct, frozen=True):
    """Bytes; the disk is the one the data directory is on (null where that cannot be asked)."""

    database: int
    disk_free: int | None
    disk_total: int | None


class Dashboard(Struct, frozen=True):
    """`posts_committed` counts since the start, `messages` all there are; `reports` those that are open."""

    users: Users
    sessions: int
    connections: int
    rooms: RoomCounts
    messages: int
    posts_committed: int
    reports: int
    pool: Pool
    storage: Storage
    uptime_s: float


class _Counted:
    """The last counts; who comes while others count waits for theirs."""

    def __init__(self) -> None:
        self.lock = trio.Lock()
        self.counts: Counts | None = None
        self.at = float("-inf")


async def _count(s: Services) -> Counts:
    counted: _Counted = s.extra.setdefault("dashboard", _Counted())
    async with counted.lock:
        if counted.counts is None or trio.current_time() - counted.at > _GOOD_FOR:
            counted.counts = await s.db.read(administration.counts)
            counted.at = trio.current_time()
        return counted.counts


async def look(s: Services, system: System, presence: Ref) -> Dashboard:
    """Raises Unavailable, or the kernel's errors where presence does not answer."""
    counts = await _count(s)
    live: dict[str, int] = await presence.ask(Statistics())
    pool = s.db.statistics()
    return Dashboard(
        users=Users(counts.users, counts.users_active, counts.users_banned, live["people"]),
        sessions=counts.sessions_active,
        connections=live["connections"],
        rooms=RoomCounts(
            counts.rooms_public,
            counts.rooms_private,
            counts.rooms_direct,
            s.rooms.count if s.rooms is not None else 0,
        ),
        messages=counts.messages,
        posts_committed=_committed(system),
        reports=counts.reports_open,
        pool=Pool(pool.open, pool.idle, pool.waiting),
        storage=await _storage(s, counts),
        uptime_s=round(system.inspect(depth=0).age_s, 3),
    )


def _committed(system: System) -> int:
    try:
        said = system.inspect("platform/ledger").summary.get("committed")
    except NoSuchActor:  # it is just being stopped
        return 0
    return said if isinstance(said, int) else 0


async def _storage(s: Services, counts: Counts) -> Storage:
    try:
        disk = await trio.to_thread.run_sync(shutil.disk_usage, s.settings.data)
    except OSError:
        return Storage(counts.database_bytes, None, None)
    return Storage(counts.database_bytes, disk.free, disk.total)
