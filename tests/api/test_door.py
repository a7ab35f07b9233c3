"""Accounts as a client meets them: over TCP, through the door, with sockets open beside."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, HandshakeError, open_websocket_url

from tests.api.conftest import PASSWORD, Post
from veza.app import App, open_server
from veza.config import Settings
from veza.db.pool import Database


@pytest.fixture
async def server(db: Database, settings: Settings) -> AsyncIterator[App]:
    changed = msgspec.structs.replace(settings, port=0, trusted_proxies=("127.0.0.1",))
    async with open_server(changed, db) as app:
        yield app


@pytest.fixture
async def http(server: App) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=60) as client:
        yield client


async def register(http: httpx.AsyncClient, username: str = "nina") -> Any:
    body = {"username": username, "email": f"{username}@example.org", "password": PASSWORD}
    answer = await http.post("/api/v1/auth/register", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def bearer(data: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {data['access_token']}"}


async def test_a_whole_life_of_an_account(http: httpx.AsyncClient, outbox: Post) -> None:
    account = await register(http)
    me = await http.get("/api/v1/auth/me", headers=bearer(account))
    assert me.json()["data"]["username"] == "nina"
    token = await outbox.token("Confirm your e-mail address")
    assert (await http.post("/api/v1/auth/verify-email", json={"token": token})).status_code == 200
    again = await http.post("/api/v1/auth/login", json={"email": "nina@example.org", "password": PASSWORD})
    renewed = await http.post("/api/v1/auth/refresh", json={"refresh_token": again.json()["refresh_token"]})
    assert renewed.status_code == 200
    assert (await http.post("/api/v1/auth/logout-all", headers=bearer(account))).json()["data"] == {
        "ended": 2
    }
    for data in (account, again.json()["data"], renewed.json()["data"]):
        assert (await http.get("/api/v1/auth/me", headers=bearer(data))).status_code == 401


async def test_every_answer_carries_the_letterhead(http: httpx.AsyncClient) -> None:
    for path in ("/", "/docs", "/health", "/api/v1/auth/me", "/api/v1/nothing", "/nothing", "/openapi.json"):
        answer = await http.get(path, headers={"X-Request-ID": "my-own-id"})
        headers = answer.headers
        assert headers.get_list("x-request-id") == ["my-own-id"], path
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["x-frame-options"] == "DENY", path
        assert "script-src 'self'" in headers["content-security-policy"], path
        assert (
            "unsafe-inline"
            not in headers["content-security-policy"].partition("script-src")[2].partition(";")[0]
        )
        if answer.status_code >= 400:
            assert answer.json()["request_id"] == "my-own-id", path
            assert headers["content-type"] == "application/json", path


async def test_the_docs_page_works_without_anybody_else(http: httpx.AsyncClient) -> None:
    for page in ("/", "/docs"):
        answer = await http.get(page)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
        html = answer.text
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|javascript:|style=", html), "inline code"
        addresses = re.findall(r'(?:src|href)="([^"]+)"', html)
        assert addresses
        for address in addresses:
            assert address.startswith("/"), address  # never another host
            linked = await http.get(address)
            assert linked.status_code == 200, address
    script = await http.get("/docs/init.js")
    assert "javascript" in script.headers["content-type"]
    assert not re.search(r"https?://", script.text)
    bundle = await http.get("/docs/swagger-ui-bundle.js")
    assert len(bundle.content) > 1_000_000 and "javascript" in bundle.headers["content-type"]
    assert "text/css" in (await http.get("/docs/swagger-ui.css")).headers["content-type"]
    document = (await http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")


async def test_docs_serve_nothing_else(http: httpx.AsyncClient) -> None:
    for path in (
        "/docs/__init__.py",
        "/docs/..%2f..%2fconfig.py",
        "/docs/../config.py",
        "/docs/swagger-ui-bundle.js/",
    ):
        assert (await http.get(path)).status_code == 404, path


async def test_bodies_over_the_limit_and_bad_json(http: httpx.AsyncClient) -> None:
    big = await http.post("/api/v1/auth/login", content=b"x" * (1024 * 1024 + 1))
    assert (big.status_code, big.json()["success"]) == (413, False)
    bad = await http.post(
        "/api/v1/auth/login", content=b'{"email": \xff}', headers={"Content-Type": "application/json"}
    )
    assert (bad.status_code, bad.json()["code"]) == (400, "INVALID_JSON")
    form = await http.post("/api/v1/auth/login", data={"email": "a", "password": "b"})
    assert (form.status_code, form.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_the_address_comes_from_trusted_proxies(http: httpx.AsyncClient) -> None:
    """Wrong passwords from one address are slowed; the proxy's own word tells addresses apart."""
    account = await register(http)
    body = {"email": "nina@example.org", "password": "wrong one"}

    async def login(address: str, password: str = "wrong one") -> int:
        answer = await http.post(
            "/api/v1/auth/login", json={**body, "password": password}, headers={"X-Forwarded-For": address}
        )
        return answer.status_code

    assert [await login("198.51.100.1") for _ in range(6)] == [401] * 5 + [429]
    # What stands further left is only claimed.
    assert await login("203.0.113.9, 198.51.100.1", PASSWORD) == 429
    assert await login("198.51.100.2", PASSWORD) == 200
    sessions = await http.get("/api/v1/auth/sessions", headers=bearer(account))
    assert {session["ip"] for session in sessions.json()["data"]["sessions"]} == {"127.0.0.1", "198.51.100.2"}


async def test_a_preflight_and_an_answer_for_an_allowed_page(http: httpx.AsyncClient) -> None:
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    preflight = await http.options("/api/v1/auth/login", headers=headers)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    answer = await http.get("/api/v1/auth/me", headers=headers)
    assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()


# Sockets beside ---------------------------------------------------------------------------------------


async def welcome(ws: Any) -> Any:
    frame = json.loads(await ws.get_message())
    assert frame["type"] == "welcome"
    return frame["data"]


@pytest.mark.parametrize("how", ["logout", "logout-all", "session", "reuse", "reset", "password"])
async def test_whatever_ends_a_session_ends_its_sockets(
    server: App, http: httpx.AsyncClient, outbox: Post, db: Database, how: str
) -> None:
    account = await register(http)
    other = (
        await http.post("/api/v1/auth/login", json={"email": "nina@example.org", "password": PASSWORD})
    ).json()
    ending = bearer(account)
    url = f"ws://127.0.0.1:{server.port}/ws/chat"
    with trio.fail_after(60):
        async with open_websocket_url(f"{url}?token={account['access_token']}") as ws:
            await welcome(ws)
            match how:
                case "logout":
                    await http.post("/api/v1/auth/logout", headers=ending)
                case "logout-all":
                    await http.post("/api/v1/auth/logout-all", headers=bearer(other))
                case "session":
                    listed = await http.get("/api/v1/auth/sessions", headers=ending)
                    sid = next(s["id"] for s in listed.json()["data"]["sessions"] if s["current"])
                    await http.delete(f"/api/v1/auth/sessions/{sid}", headers=bearer(other))
                case "reuse":
                    token = {"refresh_token": account["refresh_token"]}
                    await http.post("/api/v1/auth/refresh", json=token)

                    async def age(conn: Any) -> None:
                        await conn.execute(
                            "UPDATE refresh_tokens SET used_at = used_at - interval '61 seconds'"
                        )

                    await db.write(age)
                    await http.post("/api/v1/auth/refresh", json=token)
                case "reset":
                    await http.post("/api/v1/auth/forgot-password", json={"email": "nina@example.org"})
                    token = await outbox.token("Set a new password")
                    body = {"token": token, "new_password": "battery staple"}
                    await http.post("/api/v1/auth/reset-password", json=body)
                case "password":
                    body = {"current_password": PASSWORD, "new_password": "battery staple"}
                    changed = await http.put("/api/v1/users/me/password", json=body, headers=bearer(other))
                    assert changed.status_code == 200
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await ws.get_message()
            assert closed.value.reason.code == 4001
        with pytest.raises(HandshakeError):
            async with open_websocket_url(f"{url}?token={account['access_token']}"):
                pass


async def test_the_socket_of_the_session_that_changes_the_password_stays(
    server: App, http: httpx.AsyncClient
) -> None:
    account = await register(http)
    url = f"ws://127.0.0.1:{server.port}/ws/chat?token={account['access_token']}"
    with trio.fail_after(60):
        async with open_websocket_url(url) as ws:
            await welcome(ws)
            body = {"current_password": PASSWORD, "new_password": "battery staple"}
            changed = await http.put("/api/v1/users/me/password", json=body, headers=bearer(account))
            assert changed.status_code == 200
            await ws.send_message('{"type": "ping", "data": {}}')
            assert json.loads(await ws.get_message())["type"] == "pong"


async def test_a_refresh_token_opens_no_socket(server: App, http: httpx.AsyncClient) -> None:
    account = await register(http)
    for token in (account["refresh_token"], account["access_token"][:-4], "", "x"):
        with trio.fail_after(60), pytest.raises(HandshakeError):
            async with open_websocket_url(f"ws://127.0.0.1:{server.port}/ws/chat?token={token}"):
                pass
