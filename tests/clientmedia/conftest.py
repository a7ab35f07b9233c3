"""Media, and whole servers for clients of it: `House` as the chat tests have it."""

from __future__ import annotations

import pytest

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
    settings as settings,
)
from tests.chat.conftest import (
    shared_database as shared_database,
)
from tests.media.inputs import Inputs


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()
