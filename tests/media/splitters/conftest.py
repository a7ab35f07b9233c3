"""Fixtures of the splitters' tests."""

from __future__ import annotations

import pytest

from tests.media.inputs import Inputs
from tests.media.splitters.sources import Sources


@pytest.fixture(scope="session")
def sources(inputs: Inputs) -> Sources:
    return Sources(inputs)
