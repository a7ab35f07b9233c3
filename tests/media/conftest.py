"""Fixtures of the tests of media."""

from __future__ import annotations

import pytest

from tests.media.inputs import Inputs


@pytest.fixture(scope="session")
def inputs() -> Inputs:
    return Inputs()
