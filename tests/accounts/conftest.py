"""Accounts in the REST application, with a wall clock that stands still, for codes of authenticators."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyotp
import pytest

from tests.api.conftest import PASSWORD, Answer, Api, Clock, Person, clock, settings
from veza.config import Settings
from veza.db.pool import Database
from veza.http.api.app import create_app
from veza.http.api.services import assemble
from veza.mail import open_mailer

__all__ = ["clock", "settings"]

_numbers = itertools.count()


class Wall(Clock):
    """The time of day, by hand: in the middle of a step of 30 seconds."""

    def __init__(self) -> None:
        self.now = 1_800_000_015.0


class Phone:
    """An authenticator with its own idea of the time."""

    def __init__(self, secret: str, wall: Wall) -> None:
        self._totp = pyotp.TOTP(secret)
        self._wall = wall

    def code(self, off: float = 0.0) -> str:
        return self._totp.at(int(self._wall.now + off))


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(scope="session")
def shared_database(postgres: Any) -> Iterator[str]:
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(shared_database: str) -> str:
    """One database for all these tests: each has people of its own."""
    return shared_database


@pytest.fixture
async def api(db: Database, settings: Settings, clock: Clock, wall: Wall) -> AsyncIterator[Api]:
    async with open_mailer(settings) as mailer:
        services = assemble(settings, db, mailer, clock=clock, wall=wall)
        yield Api(create_app(services), services, _names=_numbers)


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.raw


async def secure(api: Api, person: Person, wall: Wall) -> tuple[Phone, list[str]]:
    """Give somebody a second factor; his phone and his recovery codes."""
    made = await api.post("/auth/2fa/setup", {"password": PASSWORD}, token=person.token)
    assert made.status == 200, made.raw
    phone = Phone(made.data["secret"], wall)
    done = await api.post("/auth/2fa/enable", {"code": phone.code()}, token=person.token)
    assert done.status == 200, done.raw
    wall.pass_(30)  # the next code is a fresh one
    return phone, done.data["recovery_codes"]
