"""A whole server on real sockets with streams, as the tests of live streams have it; and files that lie about.

`air`, `on_air`  see `tests.live.conftest`
"""

from __future__ import annotations

import pytest

from tests.live.conftest import (
    air,
    build,
    chat_settings,
    database_url,
    house,
    inputs,
    on_air,
    settings,
    shared_database,
)

__all__ = [
    "air",
    "build",
    "chat_settings",
    "database_url",
    "house",
    "inputs",
    "on_air",
    "settings",
    "shared_database",
]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An account is gone with the answer, however long that takes here; elsewhere the answer does not wait for ever."""
    monkeypatch.setattr("veza.http.api.deletion.PATIENCE", 150.0)
