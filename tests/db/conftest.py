"""What all tests of the database share: a connection that is slow to come or to be mended is no broken one."""

from __future__ import annotations

import pytest

from tests.conftest import PATIENCE
from veza.db import connections


@pytest.fixture(autouse=True)
def all_the_time_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_TIMEOUT", PATIENCE)
    monkeypatch.setattr(connections, "MEND_TIMEOUT", PATIENCE)
