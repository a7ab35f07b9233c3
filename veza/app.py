"""The composition root: one nursery, opened top to bottom and closed in the reverse order.

The only place that knows everybody: it makes the parts, hands each what it needs, and ends them in order: no new
connections, sockets closed with 1001, actors drained, then the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from veza import log
from veza.actors.kernel import Ref, System, open_system
from veza.actors.ledger import Books, LedgerActor
from veza.actors.presence import PresenceActor, Present
from veza.actors.rooms import Rooms
from veza.config import Settings
from veza.db import ledger as ledger_db
from veza.db.pool import Database

_log = log.get("app")


@dataclass(frozen=True, eq=False)
class Core:
    """The actors over a database: all of chat, but no socket and no HTTP."""

    settings: Settings
    db: Database
    system: System
    ledger: Ref
    presence: Ref
    rooms: Rooms
    closing: trio.Event


@asynccontextmanager
async def open_core(settings: Settings, db: Database) -> AsyncIterator[Core]:
    """Start the actors; on the way out they are drained and stopped, in order."""
    closing = trio.Event()
    async with open_system(stop_timeout=settings.shutdown_timeout) as system:
        platform = system.supervisor("platform")
        presence = platform.ensure("presence", PresenceActor, carry=Present, critical=True)
        make_ledger = partial(
            LedgerActor,
            partial(db.write_shielded, ledger_db.append),
            max_batch=settings.ledger_max_batch,
            max_waiting=settings.ledger_max_waiting,
            closing=closing,
        )
        ledger = platform.ensure(
            "ledger", make_ledger, carry=Books, capacity=LedgerActor.mailbox_capacity, critical=True
        )
        rooms = Rooms(system, db=db, ledger=ledger, presence=presence, settings=settings)
        try:
            yield Core(settings, db, system, ledger, presence, rooms, closing)
        finally:
            closing.set()
