"""One Chromium for all these tests, and whole servers: `House` as the chat tests have it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from tests.browser.browser import Browser, Chromium, open_browser, there
from tests.chat.conftest import (
    Person,
)
from tests.chat.conftest import (
    build as build,
)
from tests.chat.conftest import (
    database_url as database_url,
)
from tests.chat.conftest import (
    house as house,
)
from tests.chat.conftest import (
    settings as chat_settings,  # noqa: F401 (a fixture)
)
from tests.chat.conftest import (
    shared_database as shared_database,
)
from tests.media.inputs import Inputs
from veza.config import Settings


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One place for files as there is one database: what an earlier test left is shown with its pictures."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def settings(request: pytest.FixtureRequest, shared_data: Path) -> Settings:
    known: Settings = request.getfixturevalue("chat_settings")
    return msgspec.structs.replace(known, data=shared_data)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    if not there():
        pytest.skip("chromium is not installed")
    process = Chromium()
    yield process
    process.close()


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    async with open_browser(chromium) as opened:
        yield opened


def logged_in(person: Person) -> dict[str, str]:
    """What a page keeps of a login."""
    user = {"id": person.id, "username": person.name}
    return {"veza.session": json.dumps({"access_token": person.token, "refresh_token": "", "user": user})}
