"""Who a token's bearer is, right now: session id → Identity, from a cache that forgets at once.

The claims inside a token are for clients. Role, activity and the session itself come from here, so that a logout, a
ban, a demotion or a password change counts from the moment it is committed, on sockets included.

Two invariants carry that. A session is only ever served from the cache if nothing was forgotten about it since the
query that brought it was sent (a look-up that is overtaken by a revocation is asked again, never believed). And whoever
changes a session in the database forgets it here *after* the commit, also when he does not know whether the commit
happened (`revoking`).
"""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final, Protocol
from uuid import UUID

import msgspec
import trio

from veza import log
from veza.db import sessions
from veza.db.errors import OutcomeUnknown
from veza.security.tokens import AccessTokens, TokenRefused

_log = log.get("registry")
_BATCH: Final = 500  # sessions looked up by one query

Listener = Callable[[int, frozenset[str] | None], None]


class AuthFailed(Exception):
    """No identity. `code` is for machines, the text a sentence for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def missing() -> AuthFailed:
    return AuthFailed("AUTH_REQUIRED", "Log in first.")


def invalid() -> AuthFailed:
    return AuthFailed("AUTH_FAILED", "This access token is not valid.")


def expired() -> AuthFailed:
    return AuthFailed("TOKEN_EXPIRED", "This access token has expired.")


def ended() -> AuthFailed:
    return AuthFailed("SESSION_ENDED", "This session has ended. Log in again.")


class Identity(msgspec.Struct, frozen=True):
    """A person behind a token, as the database knew him a moment ago.

    `expires_at` is the token's end, in seconds since 1970; the session may go on with a fresh one. `muted_until` may be
    over; the far end of time means for good.
    """

    user_id: int
    username: str
    role: str
    sid: str
    expires_at: float
    muted_until: datetime | None = None


class RegistryCounts(msgspec.Struct, frozen=True):
    """What the registry did so far."""

    cached: int
    hits: int
    lookups: int  # sessions asked of the database
    queries: int
    overtaken: int  # look-ups asked again, because a revocation overtook them


class _Entry(msgspec.Struct, frozen=True):
    user_id: int
    username: str
    role: str
    muted_until: datetime | None
    ends: float  # the session's end, seconds since 1970
    stale: float  # when to ask again, on the monotonic clock


class _Lookup:
    """One session being asked for, by any number of tasks."""

    __slots__ = ("done", "entry", "error")

    def __init__(self) -> None:
        self.done = False
        self.entry: _Entry | None = None
        self.error: Exception | None = None


class Database(Protocol):
    """What of the database the registry needs."""

    async def read(self, unit: Callable[..., Any], /, *args: Any) -> Any: ...


class Revocation:
    """What a `revoking` block ended; None until told: then everything of the person counts as ended."""

    sids: Collection[UUID] | None = None


class Registry:
    """The one place that turns tokens into identities.

    Args:
        max_sessions: entries kept; the ones unused for longest go first.
        max_age: seconds an entry is believed without asking again, for changes made by other programs.
    """

    def __init__(
        self,
        db: Database,
        tokens: AccessTokens,
        *,
        max_sessions: int = 50_000,
        max_age: float = 60.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._tokens = tokens
        self._max_sessions = max_sessions
        self._max_age = max_age
        self._clock = clock
        self._monotonic = monotonic
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # unused for longest first
        self._by_user: dict[int, set[str]] = {}  # the same entries' keys, by person
        self._waiting: dict[str, _Lookup] = {}  # not answered yet; the oldest go into the next query
        self._asking = False  # a query is in flight
        self._round = trio.Event()  # set when it ends
        self._forgotten_sids: set[str] = set()  # since it was sent
        self._forgotten_users: set[int] = set()
        self._on_revoked: list[Listener] = []
        self._on_changed: list[Callable[[int], None]] = []
        self._hits = self._lookups = self._queries = self._overtaken = 0

    # Asking ------------------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Identity:
        """Who bears this token. Raises AuthFailed; Unavailable when the database must be asked and is away.

        Safe to cancel. Calls that come together share their queries.
        """
        try:
            claims = self._tokens.read(token)
        except TokenRefused as refused:
            raise (expired() if refused.expired else invalid()) from None
        entry = self._cached(claims.sid) or await self._look_up(claims.sid)
        if entry is None or entry.user_id != claims.user_id:
            raise ended()
        return _identity(entry, claims.sid, claims.exp)

    async def confirm(self, identity: Identity) -> Identity:
        """The same person as of now, for who keeps an identity for long. Raises AuthFailed.

        A socket authenticates, shakes hands, makes itself known to whoever closes revoked sockets, and then confirms:
        so a revocation in between is not missed.
        """
        if identity.expires_at <= self._clock():
            raise expired()
        entry = self._cached(identity.sid) or await self._look_up(identity.sid)
        if entry is None or entry.user_id != identity.user_id:
            raise ended()
        return _identity(entry, identity.sid, identity.expires_at)

    # Forgetting --------------------------------------------------------------------------------------

    def forget_session(self, sid: UUID | str, user_id: int) -> None:
        """One session has ended (committed)."""
        self._forget(user_id, [str(sid)])

    def forget_sessions(self, user_id: int, sids: Collection[UUID | str] | None) -> None:
        """These sessions of a person have ended (committed); None: all of them."""
        if sids is None or sids:
            self._forget(user_id, None if sids is None else [str(sid) for sid in sids])

    def forget_user(self, user_id: int) -> None:
        """All of a person's sessions have ended: disabled, banned, deleted."""
        self._forget(user_id, None)

    def changed_user(self, user_id: int) -> None:
        """A person's name or role changed, or he was muted; the sessions go on, under what the database says now."""
        self._drop_user(user_id)
        _tell(self._on_changed, user_id)

    @contextmanager
    def revoking(self, user_id: int) -> Iterator[Revocation]:
        """Around the write that ends sessions: forgets them once it is done, or may have been done.

        The block sets `.sids` to what was ended; if it leaves without (cancelled, outcome unknown), all sessions of the
        person are asked about again and his sockets are closed. A write that surely did not happen changes nothing.
        """
        revocation = Revocation()
        try:
            yield revocation
        except OutcomeUnknown:
            self._forget(user_id, None)
            raise
        except Exception:
            raise
        except BaseException:  # cancelled: it may be stored
            self._forget(user_id, None)
            raise
        else:
            self.forget_sessions(user_id, revocation.sids)

    def on_revoked(self, listener: Listener) -> None:
        """`listener(user_id, sids)` is called, without awaiting, when sessions end; `sids` None means all."""
        self._on_revoked.append(listener)

    def on_changed(self, listener: Callable[[int], None]) -> None:
        """`listener(user_id)` is called when a person's name or role changed."""
        self._on_changed.append(listener)

    @property
    def counts(self) -> RegistryCounts:
        return RegistryCounts(len(self._entries), self._hits, self._lookups, self._queries, self._overtaken)

    # Inside ------------------------------------------------------------------------------------------

    def _cached(self, sid: str) -> _Entry | None:
        entry = self._entries.get(sid)
        if entry is None:
            return None
        if entry.ends <= self._clock() or entry.stale <= self._monotonic():
            self._drop(sid)
            return None
        self._hits += 1
        self._entries.move_to_end(sid)
        return entry

    async def _look_up(self, sid: str) -> _Entry | None:
        """Ask the database; whoever finds no query in flight sends the next one, for all that wait."""
        lookup = self._waiting.get(sid)
        if lookup is None:
            lookup = self._waiting[sid] = _Lookup()
        while not lookup.done:
            if self._asking:
                await self._round.wait()
            else:
                await self._ask()
        if lookup.error is not None:
            raise lookup.error
        return lookup.entry

    async def _ask(self) -> None:
        """One query for the oldest `_BATCH` that wait. Cancelled, it leaves them to the next who asks."""
        batch = dict(itertools.islice(self._waiting.items(), _BATCH))
        self._asking = True
        self._forgotten_sids.clear()
        self._forgotten_users.clear()
        try:
            holders = await self._query(batch)
        except Exception as error:
            for sid, lookup in batch.items():
                lookup.error = error
                self._answer(sid, lookup, None)
        else:
            for sid, lookup in batch.items():
                holder = holders.get(sid)
                if holder is None:
                    self._answer(sid, lookup, None)
                elif sid in self._forgotten_sids or holder.user_id in self._forgotten_users:
                    self._overtaken += 1  # stays in `_waiting`: asked again
                else:
                    self._answer(sid, lookup, self._keep(sid, holder))
        finally:
            self._asking = False
            self._round.set()
            self._round = trio.Event()

    async def _query(self, batch: dict[str, _Lookup]) -> dict[str, sessions.Holder]:
        sids = []
        for sid in batch:
            try:
                sids.append(UUID(sid))
            except ValueError:  # signed by us once, but no session id of ours: nobody's
                pass
        self._queries += 1
        self._lookups += len(batch)
        rows: list[sessions.Holder] = await self._db.read(sessions.holders, sids) if sids else []
        return {str(row.sid): row for row in rows}

    def _answer(self, sid: str, lookup: _Lookup, entry: _Entry | None) -> None:
        lookup.entry, lookup.done = entry, True
        del self._waiting[sid]

    def _keep(self, sid: str, holder: sessions.Holder) -> _Entry:
        entry = _Entry(
            holder.user_id,
            holder.username,
            holder.role,
            holder.muted_until,
            holder.expires_at.timestamp(),
            self._monotonic() + self._max_age,
        )
        self._entries[sid] = entry
        self._by_user.setdefault(holder.user_id, set()).add(sid)
        while len(self._entries) > self._max_sessions:
            self._drop(next(iter(self._entries)))
        return entry

    def _drop(self, sid: str) -> None:
        entry = self._entries.pop(sid, None)
        if entry is not None:
            siblings = self._by_user[entry.user_id]
            siblings.discard(sid)
            if not siblings:
                del self._by_user[entry.user_id]

    def _drop_user(self, user_id: int) -> None:
        self._forgotten_users.add(user_id)
        for sid in list(self._by_user.get(user_id, ())):
            self._drop(sid)

    def _forget(self, user_id: int, sids: list[str] | None) -> None:
        if sids is None:
            self._drop_user(user_id)
        else:
            self._forgotten_sids.update(sids)
            for sid in sids:
                self._drop(sid)
        _tell(self._on_revoked, user_id, None if sids is None else frozenset(sids))


def _identity(entry: _Entry, sid: str, expires_at: float) -> Identity:
    return Identity(entry.user_id, entry.username, entry.role, sid, expires_at, entry.muted_until)


def _tell(listeners: list[Callable[..., None]], *args: Any) -> None:
    for listener in listeners:
        try:
            listener(*args)
        except Exception as error:  # one deaf listener must not keep the others from hearing
            _log.error("a listener failed", error=type(error).__name__, exc_info=True)
