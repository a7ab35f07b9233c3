"""The composition root: one nursery, opened top to bottom and closed in the reverse order.

The only place that knows everybody: it makes the parts, hands each what it needs, and ends them in order: no new
connections, sockets closed with 1001, actors drained, then the database.
"""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from veza import __version__, log
from veza.actors.kernel import Ref, System, open_system
from veza.actors.ledger import Books, LedgerActor
from veza.actors.presence import PresenceActor, Present
from veza.actors.rooms import Rooms
from veza.config import Settings
from veza.db import ledger as ledger_db
from veza.db.embedded import run_embedded
from veza.db.errors import Unavailable
from veza.db.lock import hold_data_directory
from veza.db.migrate import migrate
from veza.db.pool import Database, open_database
from veza.errors import Problem
from veza.http import door, pages
from veza.http.api.app import create_app
from veza.http.api.services import Services, assemble
from veza.http.media import MediaRoutes
from veza.http.sockets.chat import ChatSockets
from veza.mail import open_mailer

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


@dataclass(frozen=True, eq=False)
class App:
    """A server that runs: what it is made of and where it listens."""

    core: Core
    services: Services
    chat: ChatSockets
    door: door.Door

    @property
    def port(self) -> int:
        return self.door.port


@asynccontextmanager
async def open_server(
    settings: Settings, db: Database, listeners: list[socket.socket] | None = None
) -> AsyncIterator[App]:
    """Actors, application and door over a database; on the way out shut down in order, nothing acknowledged lost."""
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(open_core(settings, db))
        mailer = await stack.enter_async_context(open_mailer(settings))
        services = assemble(
            settings, db, mailer, system=core.system, rooms=core.rooms, presence=core.presence
        )
        chat = ChatSockets(
            core.system,
            settings=settings,
            db=db,
            registry=services.registry,
            rooms=core.rooms,
            presence=core.presence,
            origins=services.origins,
        )
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(chat.sweep)
        opened: door.Door = await nursery.start(
            partial(
                door.serve,
                settings,
                asgi_app=create_app(services),
                sockets={"/ws/chat": chat, "/ws": chat},
                media=MediaRoutes(settings, [pages.shelf()]),
                listeners=listeners,
            )
        )
        try:
            yield App(core, services, chat, opened)
        finally:
            core.closing.set()
            with trio.CancelScope(shield=True):
                chat.close_all()
                await opened.shut()
            nursery.cancel_scope.cancel()


async def serve(settings: Settings, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """Everything, until SIGTERM or SIGINT. Raises Problem for what a person can set right.

    Args:
        task_status: started with the port once requests are answered.
    """
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        # The port first: a second start must fail before it touches anything.
        listeners = await _listen(settings)
        for listener in listeners:
            stack.callback(listener.close)
        stack.enter_context(hold_data_directory(settings.data))
        url = settings.database_url
        if url is None:
            postgres = await stack.enter_async_context(run_embedded(settings.data))
            url = postgres.url
        db = await _open_database(stack, settings, url)
        app = await stack.enter_async_context(open_server(settings, db, listeners))
        scheme = "https" if settings.tls_cert else "http"
        _log.info(
            "ready",
            version=__version__,
            url=f"{scheme}://{settings.host}:{app.port}",
            data=str(settings.data),
        )
        task_status.started(app.port)
        async for signum in signals:
            _log.info("shutting down", signal=signal.Signals(signum).name)
            break
    _log.info("stopped")


async def _listen(settings: Settings) -> list[socket.socket]:
    try:
        return await door.open_listeners(settings.host, settings.port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Problem(
                f"port {settings.port} is taken: stop what uses it, or set PORT to another one"
            ) from None
        raise Problem(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
        ) from None


async def _open_database(stack: AsyncExitStack, settings: Settings, url: str) -> Database:
    try:
        await migrate(url)
        return await stack.enter_async_context(
            open_database(
                url,
                size=settings.db_pool_size,
                acquire_timeout=settings.db_acquire_timeout,
                statement_timeout=settings.db_statement_timeout,
            )
        )
    except Unavailable as error:
        raise Problem(f"the database cannot be used: {error} (check DATABASE_URL or DB_*)") from None


def run(settings: Settings) -> None:
    """`veza serve`: returns once the server has ended in order."""
    trio.run(serve, settings)
