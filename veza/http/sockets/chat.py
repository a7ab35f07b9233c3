"""`/ws/chat`: who may open a chat socket, what happens on it from the first frame to the last.

The reading task of a socket is all it has: it decodes, and its SessionActor acts. Bytes to the client are written by
whoever has them, through the outlet. One sweep over all sockets pings them, ends the silent ones and those whose token
has run out.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from typing import Any

import msgspec
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from veza import log
from veza.actors.commands import Person
from veza.actors.errors import AUTH_FAILED, Refused
from veza.actors.frames import frame, now
from veza.actors.kernel import ActorCrashed, ActorStopped, Ref, System
from veza.actors.notices import Notices
from veza.actors.ports import Connection, Outlet
from veza.actors.presence import CloseAll, Connected, Disconnected
from veza.actors.registry import AuthFailed, Identity, Registry
from veza.actors.rooms import Rooms
from veza.actors.session import Frame, Limits, SessionActor
from veza.config import Settings
from veza.db import rooms as rooms_db
from veza.db.errors import Unavailable
from veza.db.pool import Database
from veza.db.together import Together
from veza.http import refusal
from veza.http.head import Head
from veza.http.sockets.decode import Malformed, decode
from veza.security.origins import Origins
from veza.security.rates import Buckets, neighbourhood

_log = log.get("sockets")

PROTOCOL = "veza.v1"
PING = b"\x89\x00"
GOING_AWAY, NOT_TEXT, INTERNAL_ERROR, TRY_AGAIN, REVOKED = 1001, 1003, 1011, 1013, 4001


class Admission(msgspec.Struct, frozen=True):
    """A handshake that may go on: who comes, from where, speaking what."""

    identity: Identity
    client: str
    subprotocol: str | None


class Gate:
    """Counts the sockets of persons and of addresses (a whole IPv6 /64 is one), from the admission on."""

    def __init__(self, per_user: int, per_ip: int) -> None:
        self._per_user = per_user
        self._per_ip = per_ip
        self._users: Counter[int] = Counter()
        self._ips: Counter[str] = Counter()

    def enter(self, user_id: int, client: str) -> None:
        if self._users[user_id] >= self._per_user:
            raise refusal.Refused(
                429,
                "TOO_MANY_CONNECTIONS",
                f"You have {self._per_user} connections already; close one.",
                headers=((b"retry-after", b"5"),),
            )
        address = neighbourhood(client)
        if self._ips[address] >= self._per_ip:
            raise refusal.Refused(
                429,
                "TOO_MANY_CONNECTIONS",
                "Too many connections from your address.",
                headers=((b"retry-after", b"5"),),
            )
        self._users[user_id] += 1
        self._ips[address] += 1

    def leave(self, user_id: int, client: str) -> None:
        _one_less(self._users, user_id)
        _one_less(self._ips, neighbourhood(client))


def _one_less(counter: Counter[Any], key: Any) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]


class Credentials:
    """Who a handshake's token belongs to: header, subprotocol pair or query, in this order."""

    def __init__(self, registry: Registry, origins: Origins) -> None:
        self._registry = registry
        self._origins = origins

    async def check(self, head: Head) -> tuple[Identity, str | None]:
        """Raises refusal.Refused: 401 for the token, 403 for the Origin, 503 when the database is away."""
        origin, host = head.get(b"origin"), head.get(b"host") or b""
        if origin is not None and not self._origins.opens(origin.decode("latin-1"), host.decode("latin-1")):
            raise refusal.Refused(403, "ORIGIN_REFUSED", "This page may not connect here.")
        token, subprotocol = shown_token(head)
        if not token:
            raise refusal.Refused(401, headers=((b"www-authenticate", b"Bearer"),))
        try:
            return await self._registry.authenticate(token), subprotocol
        except AuthFailed as error:
            challenge = (b"www-authenticate", b'Bearer error="invalid_token"')
            raise refusal.Refused(401, error.code, error.message, headers=(challenge,)) from None
        except Unavailable:
            raise refusal.Refused(503, headers=((b"retry-after", b"2"),)) from None


def shown_token(head: Head) -> tuple[str | None, str | None]:
    """The access token of a handshake, and the subprotocol to agree on: our own, if it is offered."""
    offered = head.elements(b"sec-websocket-protocol")
    subprotocol = PROTOCOL if PROTOCOL in offered else None
    scheme, _, bearer = (head.get(b"authorization") or b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and bearer.strip():
        return bearer.strip(), subprotocol
    others = [each for each in offered if each != PROTOCOL]
    if subprotocol and others:
        return others[0], subprotocol
    return head.argument("token"), subprotocol


def frame_of(text: bytes | str) -> Frame:
    """What a session is given for a text."""
    try:
        incoming = decode(text)
    except Malformed as malformed:
        return Frame(malformed, malformed.ref)
    return Frame(incoming.request, incoming.ref)


class ChatSockets:
    """The endpoint of `/ws/chat` and `/ws`, and all sockets on it."""

    def __init__(
        self,
        system: System,
        *,
        settings: Settings,
        db: Database,
        registry: Registry,
        rooms: Rooms,
        presence: Ref,
        origins: Origins,
        messages: Buckets | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._settings = settings
        self._db = db
        self._registry = registry
        self._rooms = rooms
        self._presence = presence
        self._notices = notices
        self._credentials = Credentials(registry, origins)
        self._gate = Gate(settings.ws_connections_per_user, settings.ws_connections_per_ip)
        self._arrivals = Together(db, rooms_db.arrivals)
        self._supervisor = system.supervisor("sessions")
        self._limits = Limits(
            # Not `or`: buckets nobody has used yet are empty, and an empty thing counts as false.
            Buckets(settings.rate_messages_per_minute / 60, settings.rate_messages_burst)
            if messages is None
            else messages,
            Buckets(settings.rate_frames_per_second, settings.rate_frames_burst),
            Buckets(settings.rate_statuses_per_minute / 60, settings.rate_statuses_burst),
            settings.abuse_refusals,
            settings.abuse_window,
        )
        self._sessions: dict[SessionActor, float] = {}  # with the time of the next ping
        self._closing = False
        self.opened = 0
        registry.on_revoked(self._revoked)

    def __len__(self) -> int:
        return len(self._sessions)

    # The door asks -------------------------------------------------------------------------------------

    async def admit(self, head: Head, client: str) -> Admission:
        """Raises refusal.Refused."""
        if self._closing:
            raise refusal.Refused(503)
        identity, subprotocol = await self._credentials.check(head)
        self._gate.enter(identity.user_id, client)
        return Admission(identity, client, subprotocol)

    def abandon(self, admission: Admission) -> None:
        """The handshake did not come about, or its socket has ended."""
        self._gate.leave(admission.identity.user_id, admission.client)

    def subprotocol(self, admission: Admission) -> str | None:
        return admission.subprotocol

    async def run(self, admission: Admission, ws: WebSocketConnection, outlet: Outlet) -> None:
        """One socket's life."""
        identity = admission.identity
        connection = Connection(
            secrets.token_hex(8),
            identity.user_id,
            identity.username,
            outlet,
            identity.sid,
            role=identity.role,
            muted_until=identity.muted_until,
        )
        actor = SessionActor(
            connection,
            Person(identity.user_id, identity.username, identity.role, identity.muted_until),
            identity.expires_at,
            rooms=self._rooms,
            presence=self._presence,
            db=self._db,
            limits=self._limits,
            authenticate=self._authenticate,
            decode=frame_of,
        )
        try:
            await self._welcome(connection)
            # Known to presence first, confirmed then: a revocation in between closes it one way or the other.
            confirmed = await self._registry.confirm(identity)
            connection.username, connection.role = confirmed.username, confirmed.role
            connection.muted_until = confirmed.muted_until
            self._sessions[actor] = trio.current_time() + self._settings.ws_ping_interval
            self.opened += 1
            with self._supervisor.attach(connection.id, actor) as slot:
                await self._read(ws, outlet, slot)
        except ConnectionClosed:
            pass
        except AuthFailed:
            outlet.close(REVOKED, "session ended")
        except Unavailable:
            outlet.close(TRY_AGAIN, "try again")
        except ActorStopped:
            outlet.close(GOING_AWAY, "server going away")
        except ActorCrashed:
            outlet.close(INTERNAL_ERROR, "internal error")
        finally:
            self._sessions.pop(actor, None)
            actor.leave_all()
            self._presence.answer(Disconnected(connection))

    async def _read(self, ws: WebSocketConnection, outlet: Outlet, slot: Any) -> None:
        while True:
            message = await ws.get_message()
            if outlet.closed:
                return  # it came in one piece with what closed the socket, or before somebody was shut out
            if not isinstance(message, str):
                outlet.close(NOT_TEXT, "text frames only")
                return
            await slot.handle(frame_of(message))

    async def _welcome(self, connection: Connection) -> None:
        if self._notices is None:
            return await self._welcome_now(connection)
        self._notices.expect(connection.user_id)
        try:
            await self._welcome_now(connection)
        finally:
            self._notices.expected(connection.user_id)

    async def _welcome_now(self, connection: Connection) -> None:
        arrival = await self._arrivals.read(connection.user_id)
        if arrival is None:
            raise AuthFailed("SESSION_ENDED", "This account does not exist.")
        connection.invisible = arrival.presence == "invisible"
        data = {
            "session_id": connection.id,
            "user_id": connection.user_id,
            "username": connection.username,
            "protocol": PROTOCOL,
            "heartbeat_s": self._settings.ws_ping_interval,
            "server_time": now(),
            "unread_notifications": arrival.unread_notifications,
            "conversations": [self._as_it_is(c, connection.user_id) for c in arrival.conversations],
        }
        connection.outlet.post(frame("welcome", data))
        known = {c.room_id: c.last_seq for c in arrival.conversations}
        friends = frozenset(c.with_user for c in arrival.conversations)
        whole = len(known) < rooms_db.CONVERSATIONS_LISTED
        await self._presence.ask(
            Connected(
                connection,
                arrival.presence,
                arrival.presence_text,
                known,
                whole,
                friends,
                nothing_untold=self._notices is not None and arrival.nothing_untold,
            )
        )

    def _as_it_is(self, conversation: rooms_db.Conversation, user_id: int) -> rooms_db.Conversation:
        """A running conversation knows how far its people have read before the database does."""
        glance = self._rooms.glance(conversation.room_id, user_id)
        if glance is None or glance.last_read_seq <= conversation.last_read_seq:
            return conversation
        return msgspec.structs.replace(conversation, last_read_seq=glance.last_read_seq)

    async def _authenticate(self, token: str) -> Identity:
        try:
            return await self._registry.authenticate(token)
        except AuthFailed as error:
            raise Refused(AUTH_FAILED, error.message) from None

    # All sockets ---------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Ping, and end what is silent or has outlived its token; runs until cancelled."""
        settings = self._settings
        tick = min(1.0, settings.ws_ping_interval / 4, settings.ws_idle_timeout / 4)
        while True:
            await trio.sleep(tick)
            at, unix = trio.current_time(), time.time()
            for i, (actor, due) in enumerate(list(self._sessions.items())):
                outlet = actor.connection.outlet
                if at - outlet.last_received > settings.ws_idle_timeout:
                    outlet.close(1000, "no sign of life")
                elif at >= due and actor in self._sessions:
                    self._sessions[actor] = at + settings.ws_ping_interval
                    outlet.post(PING, droppable=True)
                actor.expire_if_due(unix)
                if i % 256 == 255:
                    await trio.lowlevel.checkpoint()

    def close_all(self) -> None:
        """The server goes: no new sockets, 1001 to all there are."""
        self._closing = True
        for actor in list(self._sessions):
            actor.connection.outlet.close(GOING_AWAY, "server going away")

    def _revoked(self, user_id: int, sids: frozenset[str] | None) -> None:
        # On the lane: a revocation must not be lost to a full mailbox.
        self._presence.answer(CloseAll(user_id, sids, REVOKED, "session ended"))
