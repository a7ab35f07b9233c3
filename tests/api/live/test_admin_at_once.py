"""What is decided about an account counts at once on its open sockets, through a whole server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from veza.app import App, open_server
from veza.config import Settings
from veza.db import admins
from veza.db.pool import Database


class Site:
    """A server, spoken to over HTTP and sockets."""

    def __init__(self, server: App, http: httpx.AsyncClient) -> None:
        self.server = server
        self.http = http

    async def ask(self, method: str, path: str, token: str, body: Any = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"}
        return await self.http.request(method, f"/api/v1{path}", json=body, headers=headers)

    async def person(self, name: str, role: str = "user") -> tuple[int, str]:
        """A new account: id and access token."""
        form = {"username": name, "email": f"{name}@example.org", "password": "correct horse"}
        answer = await self.http.post("/api/v1/auth/register", json=form)
        assert answer.status_code == 201, answer.text
        data = answer.json()["data"]
        if role != "user":
            await self.server.core.db.write(admins.promote, name, role)
            self.server.services.registry.changed_user(data["user"]["id"])
        return data["user"]["id"], data["access_token"]

    @asynccontextmanager
    async def socket(self, token: str) -> AsyncIterator[WebSocketConnection]:
        async with open_websocket_url(f"ws://127.0.0.1:{self.server.port}/ws/chat?token={token}") as ws:
            await send(ws, "join_room", room="general")
            await frame(ws, "join_room_ack")
            yield ws


async def send(ws: WebSocketConnection, kind: str, **data: Any) -> None:
    await ws.send_message(json.dumps({"type": kind, "data": data}))


async def frame(ws: WebSocketConnection, *kinds: str) -> dict[str, Any]:
    while True:
        found = json.loads(await ws.get_message())
        if found["type"] in kinds:
            return {"type": found["type"], **found["data"]}


@pytest.fixture
async def site(settings: Settings, db: Database) -> AsyncIterator[Site]:
    with trio.fail_after(60):
        async with (
            open_server(msgspec.structs.replace(settings, port=0), db) as server,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as http,
        ):
            yield Site(server, http)


async def test_a_ban_closes_the_socket_with_4003(site: Site) -> None:
    _, admin = await site.person("chief", "admin")
    user_id, user = await site.person("user")
    async with site.socket(user) as ws:
        ban = await site.ask("POST", f"/admin/users/{user_id}/ban", admin, {"reason": "noise"})
        assert ban.status_code == 200
        notice = await frame(ws, "error")
        assert notice["code"] == "BANNED" and notice["details"]["reason"] == "noise"
        with pytest.raises(ConnectionClosed) as closed:
            await ws.get_message()
        assert closed.value.reason is not None and closed.value.reason.code == 4003
    assert (await site.ask("GET", "/auth/me", user)).status_code == 401


async def test_an_account_switched_off_loses_its_socket(site: Site) -> None:
    _, admin = await site.person("chief", "admin")
    user_id, user = await site.person("user")
    async with site.socket(user) as ws:
        assert (
            await site.ask("PUT", f"/admin/users/{user_id}", admin, {"is_active": False})
        ).status_code == 200
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await ws.get_message()
        assert closed.value.reason is not None and closed.value.reason.code == 4001


async def test_a_role_taken_away_counts_on_the_open_socket(site: Site) -> None:
    _, admin = await site.person("chief", "admin")
    moderator_id, moderator = await site.person("moderator", "moderator")
    _, user = await site.person("user")
    assert (await site.ask("POST", "/chat/rooms/general/join", user)).status_code == 200

    async def deleting(ws: WebSocketConnection) -> str:
        said = await site.ask("POST", "/chat/rooms/general/messages", user, {"content": "x"})
        await send(ws, "delete_message", id=said.json()["data"]["id"])
        answer = await frame(ws, "message_deleted", "error")
        return str(answer.get("code", answer["type"]))

    async with site.socket(moderator) as ws:
        assert await deleting(ws) == "message_deleted"
        change = await site.ask("PUT", f"/admin/users/{moderator_id}", admin, {"role": "user"})
        assert change.json()["data"]["role"] == "user"
        while (answer := await deleting(ws)) == "message_deleted":
            pass  # it reaches sockets beside the request
        assert answer == "PERMISSION_DENIED"


async def test_a_new_name_is_on_the_next_message_of_an_open_socket(site: Site) -> None:
    _, user = await site.person("user")
    async with site.socket(user) as ws:
        assert (await site.ask("PUT", "/users/me", user, {"username": "renamed"})).status_code == 200
        while True:
            await send(ws, "room_message", room="general", content="who am I?")
            if (await frame(ws, "room_message"))["username"] == "renamed":
                break
    page = (await site.ask("GET", "/chat/rooms/general/messages", user)).json()["data"]
    assert {message["username"] for message in page["messages"]} == {"renamed"}


async def test_rest_and_sockets_count_messages_together(settings: Settings, db: Database) -> None:
    few = msgspec.structs.replace(settings, port=0, rate_messages_burst=3, rate_messages_per_minute=0.1)
    with trio.fail_after(60):
        async with (
            open_server(few, db) as server,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as http,
        ):
            site = Site(server, http)
            _, user = await site.person("user")
            async with site.socket(user) as ws:
                for _ in range(2):
                    await send(ws, "room_message", room="general", content="x")
                    await frame(ws, "room_message")
                by_rest = [
                    (
                        await site.ask("POST", "/chat/rooms/general/messages", user, {"content": "x"})
                    ).status_code
                    for _ in range(2)
                ]
                assert by_rest == [201, 429]
                await send(ws, "room_message", room="general", content="x")
                assert (await frame(ws, "error"))["code"] == "RATE_LIMITED"


async def test_paths_go_through_the_door_as_they_were_sent(site: Site) -> None:
    _, admin = await site.person("chief", "admin")
    for path in ("platform%2Fledger", "platform/ledger"):
        answer = await site.ask("GET", f"/admin/actors/{path}", admin)
        assert answer.json()["data"]["path"] == "platform/ledger"
    assert (await site.ask("POST", "/admin/actors/platform%2Fpeople/restart", admin)).status_code == 200
    assert (await site.ask("POST", "/chat/rooms", admin, {"name": "a b?c#d%e"})).status_code == 201
    assert (await site.ask("GET", "/chat/rooms/a%20b%3Fc%23d%25e", admin)).json()["data"][
        "name"
    ] == "a b?c#d%e"
    assert (await site.ask("GET", "/chat/rooms/%00", admin)).status_code == 400
    assert (await site.ask("GET", "/chat/rooms/%ff%fe", admin)).status_code == 404
