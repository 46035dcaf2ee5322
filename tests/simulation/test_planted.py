"""What the simulation is worth: it finds defects that are planted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from tests.simulation.planted import DEFECTS, found

SEEDS = range(60)


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.long
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(defect: str, record_property: Callable[[str, object], None]) -> None:
    failures = found(defect, SEEDS)
    record_property("found in", f"{len(failures)} of {len(SEEDS)} seeds, first {min(failures, default='none')}")
    assert failures
