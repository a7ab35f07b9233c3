"""What all tests of the door share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def linger(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused client is heard to its end, however slow the machine is: two seconds can pass between two steps of a
    test. Who waits for the end of that time by mistake is found out by his guard."""
    monkeypatch.setattr("veza.http.wire.LINGER", 300.0)
