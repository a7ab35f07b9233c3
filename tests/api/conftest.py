"""The REST application on a real database, without the door: requests go in through Quart's test client.

`api`     speaks JSON, as one client from one address; `api.at("198.51.100.7")` is another one
`clock`   what rate limits count by; it stands still until a test turns it
`outbox`  the letters that were sent
"""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
import trio

from veza.config import Settings
from veza.db.pool import Database
from veza.http.api.app import create_app
from veza.http.api.services import Services, assemble
from veza.mail import open_mailer

SECRET = "a secret for tests, long enough for HS256, and for the algorithms that are refused"
PASSWORD = "correct horse"


class Clock:
    """Seconds, by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def data(self) -> Any:
        assert self.json["success"] is True, self.raw
        return self.json["data"]

    @property
    def code(self) -> str:
        """Of a failure, whose form is checked here once for all tests."""
        body = self.json
        assert body["success"] is False, body
        assert isinstance(body["error"], str) and body["error"], body
        assert isinstance(body["request_id"], str) and body["request_id"], body
        assert set(body) <= {"success", "error", "code", "details", "request_id"}, body
        return str(body["code"])

    @property
    def details(self) -> dict[str, str]:
        assert self.code
        return dict(self.json.get("details", {}))


@dataclass(frozen=True)
class Person:
    """Somebody with an account, logged in."""

    id: int
    username: str
    email: str
    token: str
    refresh_token: str
    password: str = PASSWORD


@dataclass
class Api:
    app: Any
    services: Services
    address: str = "192.0.2.1"
    _names: Any = field(default_factory=itertools.count)

    def at(self, address: str) -> Api:
        """The same application, seen from another address."""
        return Api(self.app, self.services, address, self._names)

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        raw: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        options: dict[str, Any] = {}
        if raw is not None:
            options["data"] = raw
            sent.setdefault("Content-Type", "application/json")
        elif body is not None:
            options["json"] = body
        full = (
            path
            if path.startswith(("/api", "/health", "/ready", "/metrics", "/docs", "/openapi"))
            else "/api/v1" + path
        )
        with trio.fail_after(60):
            response = await self.app.test_client(use_cookies=False).open(
                full, method=method, headers=sent, scope_base={"client": (self.address, 50000)}, **options
            )
            data = await response.get_data(as_text=False)
        return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, data)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.request("GET", path, **options)

    async def post(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.request("POST", path, body, **options)

    async def put(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.request("PUT", path, body, **options)

    async def delete(self, path: str, body: Any = None, **options: Any) -> Answer:
        return await self.request("DELETE", path, body, **options)

    async def person(self, username: str | None = None, **fields: Any) -> Person:
        """A new account, registered through the API."""
        username = username or f"person{next(self._names)}"
        email = fields.pop("email", f"{username}@example.org")
        password = fields.pop("password", PASSWORD)
        answer = await self.post(
            "/auth/register", {"username": username, "email": email, "password": password, **fields}
        )
        assert answer.status == 201, answer.raw
        data = answer.data
        return Person(
            data["user"]["id"], username, email, data["access_token"], data["refresh_token"], password
        )

    async def login(self, person: Person, password: str | None = None) -> Answer:
        return await self.post(
            "/auth/login", {"email": person.email, "password": password or person.password}
        )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """As in production but for the cost of passwords, which tests check hundreds of."""
    return Settings(
        data=tmp_path,
        jwt_secret=SECRET,
        secret_key=SECRET,
        argon2_memory_kib=64,
        argon2_time_cost=1,
        allowed_origins=("https://app.example", "http://localhost:*"),
        rate_rest_burst=10_000,
    )


@pytest.fixture
async def api(db: Database, settings: Settings, clock: Clock) -> AsyncIterator[Api]:
    async with open_mailer(settings) as mailer:
        services = assemble(settings, db, mailer, clock=clock)
        yield Api(create_app(services), services)


class Post:
    """What the outbox holds."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._seen: dict[Path, None] = {}  # in the order they came in: two names of one moment have none

    def all(self) -> list[EmailMessage]:
        for path in sorted(self.directory.glob("*.eml"), key=lambda path: path.stat().st_mtime_ns):
            self._seen.setdefault(path)
        files = list(self._seen)
        return [message_from_bytes(path.read_bytes(), policy=policy.default) for path in files]  # type: ignore[misc]

    async def wait(self, subject: str, count: int = 1) -> EmailMessage:
        """The `count`-th letter with this subject; they are written by a task of their own."""
        with trio.fail_after(60):
            while True:
                found = [letter for letter in self.all() if letter["Subject"] == subject]
                if len(found) >= count:
                    return found[count - 1]
                await trio.sleep(0.005)

    async def token(self, subject: str, count: int = 1) -> str:
        letter = await self.wait(subject, count)
        line = next(line for line in letter.get_content().splitlines() if line.startswith("Token: "))
        return str(line.removeprefix("Token: "))


@pytest.fixture
def outbox(settings: Settings) -> Post:
    return Post(settings.data / "outbox")
