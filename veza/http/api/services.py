"""What views may use, gathered once by whoever puts the program together and handed to `create_app`.

Nothing here is made at import, and nothing is global: two applications in one process share nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trio
from quart import current_app

from veza.actors.departures import Departures
from veza.actors.kernel import Ref
from veza.actors.market import Market
from veza.actors.notices import Notices
from veza.actors.recordings import Recordings
from veza.actors.registry import Registry
from veza.actors.rooms import Rooms
from veza.actors.streams import Streams
from veza.actors.track_intake import Processing
from veza.actors.upload_desk import Desk
from veza.config import Settings
from veza.db.pool import Database
from veza.http.api.exporting import Exports
from veza.http.api.metrics import Metrics
from veza.mail import Mailer
from veza.media.images import AT_ONCE, AVATAR, LISTING, Pictures
from veza.media.library import Library
from veza.security.origins import Origins
from veza.security.passwords import Passwords
from veza.security.rates import Buckets, LoginGuard
from veza.security.second_factor import SecretBox
from veza.security.signing import Signer
from veza.security.tokens import AccessTokens

# Wrong ones; three of a million codes are right at a time, so a thief's chance is one in a hundred after two weeks.
CODES_PER_HOUR = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class Services:
    """Everything a view may reach."""

    settings: Settings
    db: Database
    registry: Registry
    tokens: AccessTokens
    passwords: Passwords
    mailer: Mailer
    metrics: Metrics
    origins: Origins
    rest_rates: Buckets
    message_rates: Buckets  # shared with the sockets: more ways in give no more words
    mail_rates: Buckets
    play_rates: Buckets  # by listener
    code_rates: Buckets  # codes of six digits tried for an account, from wherever
    logins: LoginGuard
    secrets: SecretBox
    library: Library
    avatars: Pictures
    listing_images: Pictures
    departures: Departures
    exports: Exports
    signer: Signer
    desk: Desk
    processing: Processing | None = None  # what makes tracks of what was uploaded
    system: Any = None  # the actors' System, for inspection
    rooms: Rooms | None = None
    presence: Ref | None = None
    streams: Streams | None = None
    recordings: Recordings | None = None
    market: Market | None = None  # the clock of offers
    notices: Notices | None = None  # carries what others are to hear of
    actors_ready: Callable[[], Awaitable[bool]] | None = None  # asked by /ready
    wall: Callable[[], float] = time.time  # what authenticators' codes are judged by
    extra: dict[str, Any] = field(default_factory=dict)

    def poke(self) -> None:
        """After a write that put something into the outbox, or may have: have it carried out. Never blocks."""
        if self.notices is not None:
            self.notices.poke()


def assemble(
    settings: Settings,
    db: Database,
    mailer: Mailer,
    *,
    tokens: AccessTokens | None = None,
    registry: Registry | None = None,
    metrics: Metrics | None = None,
    library: Library | None = None,
    system: Any = None,
    clock: Callable[[], float] = time.monotonic,
    **more: Any,
) -> Services:
    """Services as the settings ask for them. `clock` is what rate limits count by."""
    tokens = tokens or AccessTokens(settings.jwt_secret, settings.jwt_expiration)
    registry = registry or Registry(db, tokens)
    metrics = metrics or Metrics()
    library = library or Library(settings.data)
    passwords = Passwords(
        settings.argon2_memory_kib, settings.argon2_time_cost, waiting=settings.argon2_waiting
    )
    desk = Desk()
    decoders = trio.CapacityLimiter(AT_ONCE)
    avatars = Pictures(library.avatars, AVATAR, decoders)
    listing_images = Pictures(library.listings, LISTING, decoders)
    departures = Departures(
        db=db,
        library=library,
        avatars=avatars,
        listing_images=listing_images,
        **{part: more.get(part) for part in ("rooms", "streams", "processing")},
    )
    _measure(metrics, db, registry, passwords, mailer, desk)
    return Services(
        settings=settings,
        db=db,
        registry=registry,
        tokens=tokens,
        passwords=passwords,
        mailer=mailer,
        metrics=metrics,
        origins=Origins(settings.allowed_origins, settings.public_url),
        rest_rates=Buckets(settings.rate_rest_per_minute / 60, settings.rate_rest_burst, clock=clock),
        message_rates=Buckets(
            settings.rate_messages_per_minute / 60, settings.rate_messages_burst, clock=clock
        ),
        mail_rates=Buckets(
            settings.rate_mails_per_hour / 3600, math.ceil(settings.rate_mails_per_hour), clock=clock
        ),
        play_rates=Buckets(settings.rate_plays_per_minute / 60, settings.rate_plays_burst, clock=clock),
        code_rates=Buckets(CODES_PER_HOUR / 3600, CODES_PER_HOUR, clock=clock),
        logins=LoginGuard(settings.rate_login_per_minute, clock=clock),
        library=library,
        avatars=avatars,
        listing_images=listing_images,
        departures=departures,
        exports=Exports(clock),
        signer=Signer(settings.secret_key),
        secrets=SecretBox(settings.secret_key),
        desk=desk,
        system=system,
        **more,
    )


def _measure(
    metrics: Metrics, db: Database, registry: Registry, passwords: Passwords, mailer: Mailer, desk: Desk
) -> None:
    gauge = metrics.gauge
    gauge("veza_db_connections_open", "Connections to the database", lambda: db.statistics().open)
    gauge("veza_db_connections_idle", "Of those, unused", lambda: db.statistics().idle)
    gauge("veza_db_units_waiting", "Pieces of work waiting for one", lambda: db.statistics().waiting)
    gauge("veza_sessions_cached", "Sessions the registry remembers", lambda: registry.counts.cached)
    gauge("veza_uploads_open", "Uploads being received", lambda: desk.open)
    gauge("veza_passwords_waiting", "Passwords waiting to be checked", lambda: passwords.waiting)
    metrics.counter("veza_session_cache_hits", "Identities from memory", lambda: registry.counts.hits)
    metrics.counter("veza_session_lookups", "Identities from the database", lambda: registry.counts.lookups)
    metrics.counter("veza_session_queries", "Queries that took", lambda: registry.counts.queries)
    metrics.counter("veza_mails_delivered", "Mails handed on", lambda: mailer.delivered)
    metrics.counter("veza_mails_lost", "Mails given up", lambda: mailer.lost)


def services() -> Services:
    """Those of the application that answers the current request."""
    found: Services = current_app.extensions["veza"]
    return found
