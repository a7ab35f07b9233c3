"""`/ws/admin`: the living tree, once whole and then what changed, once a second, for administrators who watch.

One look at the tree a second serves all watchers, and none is taken while nobody watches. What is sent is bounded
however many sockets and rooms there are: a crowded supervisor is shown with its sums and its first children, and
sockets, which have no mailbox, with their sums alone. Numbers and names only: never a message, a token or an e-mail.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from veza.actors import requests
from veza.actors.errors import AUTH_FAILED, INVALID_FORMAT, RATE_LIMITED
from veza.actors.frames import error_frame, frame, now
from veza.actors.kernel import ActorInfo, NoSuchActor, System
from veza.actors.ports import Outlet
from veza.actors.registry import AuthFailed, Identity, Registry
from veza.config import Settings
from veza.db.errors import Unavailable
from veza.http import refusal
from veza.http.head import Head
from veza.http.sockets.chat import (
    GOING_AWAY,
    NOT_TEXT,
    PING,
    REVOKED,
    TRY_AGAIN,
    Admission,
    Credentials,
    Gate,
)
from veza.http.sockets.decode import Malformed, decode
from veza.security.origins import Origins
from veza.security.rates import Bucket
from veza.security.roles import at_least

SECOND: Final = 1.0
LISTED: Final = 200  # children shown of one supervisor
ABUSE: Final = 4008
_PER_USER, _PER_IP = 5, 20

Row = dict[str, Any]


class Tree:
    """The tree as watchers know it: one flat row a node, by path."""

    def __init__(self, system: System) -> None:
        self._system = system
        self.rows: dict[str, Row] = {}

    def look(self) -> dict[str, Any]:
        """Look again: what started, what stopped, and of the rest the fields that are different now."""
        before, self.rows = self.rows, self._read()
        started = [row for path, row in self.rows.items() if path not in before]
        stopped = [path for path in before if path not in self.rows]
        changed = []
        for path, row in self.rows.items():
            if (old := before.get(path)) is not None and old != row:
                changed.append({"path": path} | {k: v for k, v in row.items() if old.get(k, ...) != v})
        return {"started": started, "stopped": stopped, "changed": changed}

    def _read(self) -> dict[str, Row]:
        rows: dict[str, Row] = {}
        above = [self._system.inspect(depth=1)]
        while above:
            node = above.pop()
            rows[node.path] = row = _row(node)
            listed = 0
            for child in self._children(node):
                if child.kind == "Supervisor":
                    above.append(child)
                else:
                    rows[child.path] = _row(child)
                    listed += 1
            if node.child_count:
                row["listed"] = listed
        return rows

    def _children(self, node: ActorInfo) -> tuple[ActorInfo, ...]:
        """Those to be shown. Supervisors' own counters tell of all."""
        if node.kind == "System" or not node.child_count:
            return node.children
        try:
            # Sockets are many and all alike; one look at the first tells what a crowd is made of.
            first = self._system.inspect(node.path, depth=1, limit=1).children
            if (
                node.child_count > LISTED
                and first
                and first[0].kind != "Supervisor"
                and first[0].mailbox is None
            ):
                return ()
            return self._system.inspect(node.path, depth=1, limit=LISTED).children
        except NoSuchActor:
            return ()


def _row(info: ActorInfo) -> Row:
    row: Row = {
        "path": info.path,
        "kind": info.kind,
        "state": info.state,
        "handled": info.handled,
        "failures": info.failures,
        "restarts": info.restarts,
        "busy_ms": round(info.busy_s * 1000),
        "children": info.child_count,
        "summary": {
            name: round(value, 1) if isinstance(value, float) else value
            for name, value in info.summary.items()
            if name != "silent_s"  # a clock that runs in every socket would make every row a change
        },
    }
    if info.mailbox is not None:
        row |= {
            "depth": info.mailbox.depth,
            "capacity": info.mailbox.capacity,
            "peak": info.mailbox.peak,
            "lane": info.mailbox.lane,
            "blocked": info.mailbox.blocked,
            "jobs": info.jobs,
        }
    if info.handler_ms is not None:
        row |= {"mean_ms": round(info.handler_ms.mean, 3), "p99_ms": round(info.handler_ms.p99, 3)}
    if info.last_failures:
        row["last_failures"] = info.last_failures
    return row


class Watcher:
    """One socket on `/ws/admin`."""

    def __init__(self, identity: Identity, outlet: Outlet) -> None:
        self.identity = identity
        self.outlet = outlet
        self.next_ping = 0.0


class AdminSockets:
    """The endpoint of `/ws/admin`, and all sockets on it."""

    def __init__(self, system: System, *, settings: Settings, registry: Registry, origins: Origins) -> None:
        self._settings = settings
        self._registry = registry
        self._credentials = Credentials(registry, origins)
        self._gate = Gate(_PER_USER, _PER_IP)
        self._tree = Tree(system)
        self._watchers: dict[Watcher, None] = {}
        self._somebody = trio.Event()
        self._closing = False
        registry.on_revoked(self._revoked)

    def __len__(self) -> int:
        return len(self._watchers)

    # The door asks -------------------------------------------------------------------------------------

    async def admit(self, head: Head, client: str) -> Admission:
        """Raises refusal.Refused: 403 for everybody below an administrator."""
        if self._closing:
            raise refusal.Refused(503)
        identity, subprotocol = await self._credentials.check(head)
        if not at_least(identity.role, "admin"):
            raise refusal.Refused(403)
        self._gate.enter(identity.user_id, client)
        return Admission(identity, client, subprotocol)

    def abandon(self, admission: Admission) -> None:
        self._gate.leave(admission.identity.user_id, admission.client)

    def subprotocol(self, admission: Admission) -> str | None:
        return admission.subprotocol

    async def run(self, admission: Admission, ws: WebSocketConnection, outlet: Outlet) -> None:
        """One socket's life."""
        watcher = Watcher(admission.identity, outlet)
        try:
            self._welcome(watcher)
            # Among the watchers first, confirmed then: a revocation in between closes it one way or the other.
            await self._confirm(watcher)
            await self._read(ws, watcher)
        except ConnectionClosed:
            pass
        except AuthFailed:
            outlet.close(REVOKED, "session ended")
        except Unavailable:
            outlet.close(TRY_AGAIN, "try again")
        finally:
            self._watchers.pop(watcher, None)

    def _welcome(self, watcher: Watcher) -> None:
        """The whole tree, as the changes that follow presume it."""
        if not self._watchers:
            self._tree.look()
        self._watchers[watcher] = None
        watcher.next_ping = trio.current_time() + self._settings.ws_ping_interval
        data = {"actors": list(self._tree.rows.values()), "every_s": SECOND, "server_time": now()}
        watcher.outlet.post(frame("tree", data))
        self._somebody.set()

    async def _confirm(self, watcher: Watcher) -> None:
        """Is this still an administrator's session? Raises AuthFailed; Unavailable."""
        watcher.identity = await self._registry.confirm(watcher.identity)
        if not at_least(watcher.identity.role, "admin"):
            raise AuthFailed("FORBIDDEN", "This is for administrators.")

    async def _read(self, ws: WebSocketConnection, watcher: Watcher) -> None:
        """Watchers say little: `ping`, and `auth` with a fresh token."""
        allowance = Bucket(5, 20)
        while True:
            text = await ws.get_message()
            outlet = watcher.outlet
            if outlet.closed:
                return
            if not isinstance(text, str):
                outlet.close(NOT_TEXT, "text frames only")
                return
            if allowance.take():
                outlet.post(error_frame(RATE_LIMITED, "Too fast."))
                outlet.close(ABUSE, "too many frames")
                return
            try:
                incoming = decode(text)
            except Malformed as malformed:
                outlet.post(error_frame(malformed.code, malformed.message, malformed.details, malformed.ref))
                continue
            match incoming.request:
                case requests.Ping():
                    outlet.post(frame("pong", {"timestamp": now()}))
                case requests.Auth(token=token):
                    await self._renew(watcher, token)
                case _:
                    outlet.post(error_frame(INVALID_FORMAT, "This socket only shows.", None, incoming.ref))

    async def _renew(self, watcher: Watcher, token: str) -> None:
        try:
            fresh = await self._registry.authenticate(token)
        except AuthFailed as error:
            watcher.outlet.post(error_frame(AUTH_FAILED, error.message))
            return
        if fresh.user_id != watcher.identity.user_id:
            watcher.outlet.post(error_frame(AUTH_FAILED, "This token is somebody else's."))
            return
        watcher.identity = fresh
        expires = datetime.fromtimestamp(fresh.expires_at).astimezone()
        watcher.outlet.post(frame("auth_ok", {"expires_at": expires}))

    # All sockets ---------------------------------------------------------------------------------------

    async def sweep(self) -> None:
        """Look once a second while somebody watches, and tell all who do; runs until cancelled."""
        while True:
            await self._somebody.wait()
            await trio.sleep(SECOND)
            if not self._watchers:
                self._somebody = trio.Event()
                continue
            blob = frame("tree_changes", self._tree.look())
            at = trio.current_time()
            for watcher in list(self._watchers):
                watcher.outlet.post(blob)
                if at - watcher.outlet.last_received > self._settings.ws_idle_timeout:
                    watcher.outlet.close(1000, "no sign of life")
                elif at >= watcher.next_ping:
                    watcher.next_ping = at + self._settings.ws_ping_interval
                    watcher.outlet.post(PING)
            # Sessions end, tokens run out, roles are taken away.
            for watcher in list(self._watchers):
                try:
                    await self._confirm(watcher)
                except AuthFailed as error:
                    watcher.outlet.post(error_frame(AUTH_FAILED, error.message))
                    watcher.outlet.close(REVOKED, "session ended")
                except Unavailable:
                    pass  # who was let in may watch on while the database is away

    def close_all(self) -> None:
        """The server goes: no new sockets, 1001 to all there are."""
        self._closing = True
        for watcher in self._watchers:
            watcher.outlet.close(GOING_AWAY, "server going away")

    def _revoked(self, user_id: int, sids: frozenset[str] | None) -> None:
        for watcher in self._watchers:
            identity = watcher.identity
            if identity.user_id == user_id and (sids is None or identity.sid in sids):
                watcher.outlet.close(REVOKED, "session ended")
