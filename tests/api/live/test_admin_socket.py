"""`/ws/admin` on a real socket: the tree, then what changes; for administrators, as long as they are."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, open_websocket_url

from tests.http.house import until
from veza.actors.kernel import Actor
from veza.actors.session import SessionActor
from veza.app import App, open_server
from veza.config import Settings
from veza.db import administration
from veza.db.audit import Act
from veza.db.pool import Database
from veza.http.sockets import admin
from veza.http.sockets.admin import LISTED, Tree


@pytest.fixture
async def server(settings: Settings, db: Database) -> AsyncIterator[App]:
    async with open_server(msgspec.structs.replace(settings, port=0), db) as app:
        yield app


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> trio.Semaphore:
    """The seconds between two looks at the tree: one passes for each that is released, and none by itself."""
    ticks = trio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        assert seconds == admin.SECOND
        await ticks.acquire()

    monkeypatch.setattr(
        admin, "trio", SimpleNamespace(Event=trio.Event, current_time=trio.current_time, sleep=sleep)
    )
    return ticks


async def _insert(conn: Any, role: str) -> tuple[int, str]:
    name, sid = f"p{uuid.uuid4().hex[:12]}", str(uuid.uuid4())
    user_id = await conn.fetchval(
        "INSERT INTO users (username, email, password_hash, role) VALUES ($1, $1 || '@example.org', 'none', $2)"
        " RETURNING id",
        name,
        role,
    )
    await conn.execute(
        "INSERT INTO sessions (id, user_id, expires_at) VALUES ($1, $2, now() + interval '1 day')",
        sid,
        user_id,
    )
    return user_id, sid


async def token(server: App, role: str) -> tuple[int, str]:
    user_id, sid = await server.core.db.write(_insert, role)
    return user_id, server.services.tokens.issue(user_id, "x", role, sid)[0]


@asynccontextmanager
async def watching(server: App, token: str, path: str = "/ws/admin") -> AsyncIterator[WebSocketConnection]:
    with trio.fail_after(60):
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}{path}?token={token}") as ws:
            yield ws


async def frame(ws: WebSocketConnection, kind: str) -> dict[str, Any]:
    while True:
        found = json.loads(await ws.get_message())
        if found["type"] == kind:
            data: dict[str, Any] = found["data"]
            return data


@pytest.mark.parametrize("role", ["user", "moderator"])
async def test_only_administrators_watch(server: App, role: str) -> None:
    _, mine = await token(server, role)
    with pytest.raises(HandshakeError) as refused:
        async with watching(server, mine):
            pass
    assert refused.value.status_code == 403
    with pytest.raises(HandshakeError) as refused:
        async with watching(server, "rubbish"):
            pass
    assert refused.value.status_code == 401


async def test_first_the_tree_then_what_changes(ticks: trio.Semaphore, server: App) -> None:
    _, mine = await token(server, "admin")
    async with watching(server, mine) as ws, watching(server, mine) as second:
        tree = await frame(ws, "tree")
        rows = {row["path"]: row for row in tree["actors"]}
        assert {"", "platform", "platform/ledger", "rooms", "sessions"} <= set(rows)
        assert (await frame(second, "tree"))["actors"] == tree["actors"], "one look serves both"
        server.core.rooms.ref(1)
        await until(lambda: server.core.system.inspect("rooms/1").state == "running")
        while True:
            ticks.release()
            changes = await frame(ws, "tree_changes")
            assert await frame(second, "tree_changes") == changes
            if started := [row for row in changes["started"] if row["path"] == "rooms/1"]:
                break
        assert started[0]["kind"] == "RoomActor" and started[0]["capacity"] > 0
        assert any(row["path"] == "rooms" and row["children"] == 1 for row in changes["changed"])
        await ws.send_message('{"type":"ping"}')
        await frame(ws, "pong")
        for bad in ("{", "[]", '{"type":"nothing"}', '{"type":"room_message","room":1,"content":"x"}'):
            await ws.send_message(bad)
            assert (await frame(ws, "error"))["code"] == "INVALID_FORMAT"


async def test_who_is_no_administrator_any_more_stops_watching(server: App) -> None:
    user_id, mine = await token(server, "admin")
    chief, _ = await token(server, "super_admin")
    async with watching(server, mine) as ws:
        await frame(ws, "tree")
        await server.core.db.write(
            administration.change_account, Act(chief, None), user_id, "user", None, lambda *_: None
        )
        server.services.registry.changed_user(user_id)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await ws.get_message()
        assert closed.value.reason.code == 4001


async def test_a_revoked_session_stops_watching(server: App) -> None:
    user_id, mine = await token(server, "admin")
    async with watching(server, mine) as ws:
        await frame(ws, "tree")
        server.services.registry.forget_user(user_id)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await ws.get_message()
        assert closed.value.reason.code == 4001


async def test_nobody_watching_costs_nothing(
    ticks: trio.Semaphore, server: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = Tree.look

    def counted(tree: Tree) -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return look(tree)

    monkeypatch.setattr(Tree, "look", counted)
    _, mine = await token(server, "admin")
    watchers = server.door._sockets.find("/ws/admin")
    async with watching(server, mine) as ws:
        ticks.release()
        await frame(ws, "tree_changes")
    with trio.fail_after(60):
        await until(lambda: not len(watchers))  # type: ignore[arg-type]
        seen = looks
        ticks.release()
        await until(lambda: not ticks.value)
        await trio.testing.wait_all_tasks_blocked()
        ticks.release()
        await trio.testing.wait_all_tasks_blocked()
    assert looks == seen
    assert ticks.value == 1, "time is not even looked at"


class _Silent(Actor):
    async def handle(self, message: Any) -> None:
        return None


async def test_a_crowd_of_sockets_is_summed_up(server: App) -> None:
    """9,000 sockets make no larger tree than 9, and looking at them stays cheap."""
    sessions = server.core.system._root._below["sessions"]
    for n in range(9000):
        sessions.attach(f"s{n}", _Silent())
    rooms = server.core.system.supervisor("many")
    for n in range(500):
        rooms.ensure(n, _Silent)
    tree = Tree(server.core.system)
    first = tree.look()["started"]
    assert len(first) < LISTED + 30
    assert len(json.dumps(first, default=str)) < 200_000
    row = tree.rows["sessions"]
    assert row["children"] == 9000 and row["listed"] == 0
    assert tree.rows["many"]["children"] == 500 and tree.rows["many"]["listed"] == LISTED
    assert not any(path.startswith("sessions/") for path in tree.rows)
    nothing = tree.look()
    assert not nothing["started"] and not nothing["stopped"] and len(nothing["changed"]) < LISTED + 30
    assert SessionActor.__name__ not in json.dumps(first, default=str)
