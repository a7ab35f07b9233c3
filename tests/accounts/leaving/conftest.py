"""A whole server on real sockets with streams, as the tests of live streams have it; and files that lie about.

`air`, `on_air`  see `tests.live.conftest`
"""

from __future__ import annotations

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
