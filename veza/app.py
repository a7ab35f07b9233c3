"""The composition root: one nursery, opened top to bottom and closed in the reverse order.

The only place that knows everybody: it makes the parts, hands each what it needs, and ends them in order: no new
connections, sockets closed with 1001, actors drained, then the database.
"""

from __future__ import annotations

import errno
import gc
import math
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from veza import __version__, log
from veza.actors import listing_images, track_intake
from veza.actors.kernel import ActorError, Ref, System, open_system
from veza.actors.ledger import Balance, Books, LedgerActor
from veza.actors.market import Market
from veza.actors.notices import Notices
from veza.actors.notices.cards import RoomCards
from veza.actors.people import PeopleActor, follow
from veza.actors.presence import PresenceActor, Present, Statistics
from veza.actors.processing import Processing
from veza.actors.recordings import Keeper, Recordings
from veza.actors.rooms import Rooms
from veza.actors.streams import Streams
from veza.config import Settings
from veza.db import ledger as ledger_db
from veza.db.embedded import run_embedded
from veza.db.errors import Unavailable
from veza.db.lock import hold_data_directory, hold_database
from veza.db.migrate import migrate
from veza.db.pool import Database, open_database
from veza.errors import Problem
from veza.http import door, pages
from veza.http.api import letters
from veza.http.api.app import create_asgi
from veza.http.api.metrics import Metrics
from veza.http.api.services import Services, assemble
from veza.http.cors import Cors
from veza.http.endpoint import Endpoints
from veza.http.live_house import LiveHouse, hls_maker
from veza.http.media import MediaRooms, MediaRoutes
from veza.http.sending import Sender
from veza.http.sockets.admin import AdminSockets
from veza.http.sockets.chat import ChatSockets
from veza.http.tracks_shelf import TracksShelf
from veza.indexing import keep_quick
from veza.mail import open_mailer
from veza.media.library import Library
from veza.tidy import again_and_again, tidy

UPLOADS_TIDIED = 600.0  # seconds between two looks for uploads nobody came back for
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
    people: Ref
    notices: Notices
    books: Books
    closing: trio.Event

    async def ready(self) -> bool:
        """Do the actors that everything rests on answer?"""
        try:
            await self.presence.ask(Statistics(), timeout=1.0)
            await self.ledger.ask(Balance(), timeout=1.0)
        except ActorError:
            return False
        return True


@asynccontextmanager
async def open_core(settings: Settings, db: Database) -> AsyncIterator[Core]:
    """Start the actors; on the way out they are drained and stopped, in order."""
    closing = trio.Event()
    async with open_system(stop_timeout=settings.shutdown_timeout) as system:
        platform = system.supervisor("platform")
        notices = Notices(system, db=db)
        presence = platform.ensure(
            "presence",
            partial(PresenceActor, db, attendants=notices),
            carry=Present,
            capacity=PresenceActor.mailbox_capacity,
            critical=True,
        )

        async def commit(posts: list[ledger_db.Post]) -> list[ledger_db.Receipt]:
            receipts = await db.write_shielded(ledger_db.append, posts)
            if any(post.tells for post in posts):
                notices.poke()
            return receipts

        make_ledger = partial(
            LedgerActor,
            commit,
            max_batch=settings.ledger_max_batch,
            max_waiting=settings.ledger_max_waiting,
            closing=closing,
        )
        books = Books()
        ledger = platform.ensure(
            "ledger", make_ledger, carry=lambda: books, capacity=LedgerActor.mailbox_capacity, critical=True
        )
        rooms = Rooms(system, db=db, ledger=ledger, presence=presence, settings=settings)
        people = platform.ensure("people", partial(PeopleActor, db, presence, rooms), carry=set)
        notices.open(RoomCards(db, rooms))
        try:
            yield Core(settings, db, system, ledger, presence, rooms, people, notices, books, closing)
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
        stack.callback(db.hurry)  # the last of all: whoever has the database afterwards need not hurry
        core = await stack.enter_async_context(open_core(settings, db))
        mailer = await stack.enter_async_context(open_mailer(settings))
        library = Library(settings.data)
        await trio.to_thread.run_sync(library.prepare)
        processing = Processing(
            core.system.supervisor("media"),
            db=db,
            library=library,
            presence=core.presence,
            workers=settings.media_workers,
            poke=core.notices.poke,
        )
        streams = Streams(
            core.system,
            db=db,
            settings=settings,
            library=library,
            make_hls=hls_maker(settings),
        )
        keeper = Keeper(db, library, processing=processing, most=settings.tracks_owned_max)
        recordings = Recordings(core.system.supervisor("recordings"), keeper)
        streams.on_ended(recordings.finish)
        streams.on_live(lambda stream_id: core.notices.poke())
        market = Market(core.system.supervisor("market"), db=db, poke=core.notices.poke)
        services = assemble(
            settings,
            db,
            mailer,
            library=library,
            system=core.system,
            rooms=core.rooms,
            presence=core.presence,
            streams=streams,
            processing=processing,
            recordings=recordings,
            market=market,
            notices=core.notices,
            actors_ready=core.ready,
        )
        if settings.digest_every:
            core.notices.open_digests(
                lambda digest: mailer.post(letters.digest(settings, digest)), settings.digest_every
            )
        chat = ChatSockets(
            core.system,
            settings=settings,
            db=db,
            registry=services.registry,
            rooms=core.rooms,
            presence=core.presence,
            origins=services.origins,
            messages=services.message_rates,
            notices=core.notices,
        )
        watch = AdminSockets(
            core.system, settings=settings, registry=services.registry, origins=services.origins
        )
        live = LiveHouse(services, streams)
        follow(services.registry, core.people)
        _measure(services.metrics, core, chat)
        _measure_processing(services.metrics, processing)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(chat.sweep)
        nursery.start_soon(tidy, db)
        nursery.start_soon(keep_quick, db)
        nursery.start_soon(services.departures.run)
        nursery.start_soon(again_and_again, "track files", partial(track_intake.sweep, db, library))
        nursery.start_soon(
            again_and_again, "uploads", partial(services.desk.sweep, db, library), UPLOADS_TIDIED
        )
        nursery.start_soon(
            again_and_again, "listing images", partial(listing_images.sweep, db, services.listing_images)
        )
        nursery.start_soon(watch.sweep)
        nursery.start_soon(live.sockets.sweep)
        await streams.resume()
        if settings.rtmp_port:
            nursery.start_soon(live.rtmp.serve, await _listen(settings.host, settings.rtmp_port, "RTMP_PORT"))
        rest = create_asgi(services)
        sender = Sender()
        nursery.start_soon(sender.files.sweep)
        shelf = TracksShelf(services.library, db, services.signer)
        tracks = MediaRoutes(settings, [shelf], cors=Cors(services.origins), sender=sender)
        services.metrics.gauge("veza_media_files_open", "Files open to be sent", lambda: sender.files.count)
        services.metrics.counter("veza_media_bytes_sent", "Bytes of files sent", lambda: sender.sent)
        opened: door.Door = await nursery.start(
            partial(
                door.serve,
                settings,
                asgi_app=rest,
                sockets=Endpoints({"/ws/chat": chat, "/ws": chat, "/ws/admin": watch}, live.sockets.find),
                media=MediaRooms(tracks, live.room, MediaRoutes(settings, [pages.shelf()], sender=sender)),
                body_limit=lambda head: None if rest.streams(head) else settings.body_limit,
                listeners=listeners,
            )
        )
        services.extra["port"] = opened.port
        try:
            yield App(core, services, chat, opened)
        finally:
            with trio.CancelScope(shield=True):
                time = settings.shutdown_timeout
                end = trio.current_time() + time
                opened.stop_accepting()
                processing.close()
                with trio.move_on_after(time / 3):
                    async with trio.open_nursery() as last:
                        last.start_soon(streams.close)
                        last.start_soon(core.rooms.drain)
                core.closing.set()
                db.hurry(time / 4)  # one that hangs must not keep us
                chat.close_all()
                watch.close_all()
                live.sockets.close_all()
                # What is left is for the actors, the database and PostgreSQL.
                await opened.shut(max(0.0, min(time / 2, end - time / 5 - trio.current_time())))
            nursery.cancel_scope.cancel()


def _measure(metrics: Metrics, core: Core, chat: ChatSockets) -> None:
    """What `/metrics` says of the actors."""
    tally = core.rooms.tally
    metrics.gauge("veza_sockets_open", "Chat sockets open", lambda: len(chat))
    metrics.counter("veza_sockets_opened", "Chat sockets opened", lambda: chat.opened)
    metrics.gauge("veza_rooms_running", "Rooms with an actor", lambda: core.rooms.count)
    metrics.counter("veza_fanout_passes", "Passes over the members of a room", lambda: tally.passes)
    metrics.counter("veza_fanout_writes", "Writes of those passes, one a member", lambda: tally.writes)
    metrics.counter("veza_deliveries", "Frames delivered to members", lambda: tally.deliveries)
    notices = core.notices
    metrics.counter("veza_notifications_stored", "Notifications stored", lambda: notices.tally.stored)
    metrics.counter("veza_notifications_delivered", "Of those, sent to sockets", lambda: notices.delivered)
    metrics.gauge("veza_outbox_waiting", "Events not carried out yet", lambda: notices.tally.waiting)
    books = core.books
    metrics.counter("veza_posts_committed", "Messages made durable", lambda: books.committed)
    metrics.counter("veza_posts_refused", "Messages refused at the commit", lambda: books.refused)
    metrics.counter("veza_commits", "Commits they took", lambda: books.commits)
    metrics.gauge("veza_posts_waiting", "Messages waiting for a commit", lambda: len(books.gathered))


def _measure_processing(metrics: Metrics, processing: Processing) -> None:
    """What `/metrics` says of the tracks that are made."""
    tally = processing.tally
    metrics.gauge("veza_media_jobs_waiting", "Tracks waiting to be processed", lambda: tally.waiting)
    metrics.gauge("veza_media_jobs_running", "Tracks being processed", lambda: processing.running)
    metrics.counter("veza_media_jobs_done", "Tracks made ready", lambda: tally.done)
    metrics.counter("veza_media_jobs_failed", "Tracks that cannot be made ready", lambda: tally.failed)
    metrics.counter("veza_media_tries_failed", "Tries that failed", lambda: tally.tries_failed)
    metrics.counter("veza_media_seconds", "Seconds of media made ready", lambda: tally.media_seconds)
    metrics.counter("veza_media_work_seconds", "Seconds that took", lambda: tally.work_seconds)


async def serve(settings: Settings, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
    """Everything, until SIGTERM or SIGINT. Raises Problem for what a person can set right.

    Args:
        task_status: started with the port once requests are answered.
    """
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        # The port first: a second start must fail before it touches anything.
        listeners = await _listen(settings.host, settings.port, "PORT")
        for listener in listeners:
            stack.callback(listener.close)
        stack.enter_context(hold_data_directory(settings.data))
        url = settings.database_url
        end = math.inf
        if url is None:
            postgres = await stack.enter_async_context(run_embedded(settings.data))
            url = postgres.url

            @stack.callback
            def _() -> None:
                """Once all that comes before is over: PostgreSQL has the time left, for both its ways to stop."""
                left = (end - trio.current_time()) / 1.5
                postgres.patience = max(1.0, min(postgres.patience, left))

        db = await _open_database(stack, settings, url)
        app = await stack.enter_async_context(open_server(settings, db, listeners))
        _calm_collector()
        scheme = "https" if settings.tls_cert else "http"
        _log.info(
            "ready",
            version=__version__,
            url=f"{scheme}://{settings.host}:{app.port}",
            data=str(settings.data),
        )
        task_status.started(app.port)
        async for signum in signals:
            end = trio.current_time() + settings.shutdown_timeout
            _log.info("shutting down", signal=signal.Signals(signum).name)
            break
    _log.info("stopped")


async def _listen(host: str, port: int, setting: str) -> list[socket.socket]:
    try:
        return await door.open_listeners(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Problem(
                f"port {port} is taken: stop what uses it, or set {setting} to another one"
            ) from None
        raise Problem(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


async def _open_database(stack: AsyncExitStack, settings: Settings, url: str) -> Database:
    try:
        db = await stack.enter_async_context(
            open_database(
                url,
                size=settings.db_pool_size,
                acquire_timeout=settings.db_acquire_timeout,
                statement_timeout=settings.db_statement_timeout,
                close_patience=1.0,  # whoever had work for it has ended by then
            )
        )
        # Before the migrations: they must not run under another server, which may be an older one.
        await stack.enter_async_context(hold_database(db))
        await migrate(url)
        return db
    except Unavailable as error:
        raise Problem(f"the database cannot be used: {error} (check DATABASE_URL or DB_*)") from None


def _calm_collector() -> None:
    """Collect garbage by the tens of thousands of objects, and never look at the program itself again.

    Thousands of sockets are millions of live objects, each looked at by every full collection: at the usual thresholds
    that took half the time of opening connections, and made pauses of tens of milliseconds. Cycles are rare here.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def run(settings: Settings) -> None:
    """`veza serve`: returns once the server has ended in order."""
    trio.run(serve, settings)
