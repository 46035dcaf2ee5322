"""Every model ends with the test that made it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.simulation.stories import OPEN


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    while OPEN:
        OPEN[-1].end()
