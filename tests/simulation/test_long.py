"""Twenty thousand histories (LONG_HISTORIES: how many): more than an hour of one core."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulation.histories import history, report

BATCH = 500
COUNT = int(os.environ.get("LONG_HISTORIES", "20000"))


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.long
@pytest.mark.parametrize("begin", range(0, COUNT, BATCH))
def test_any_of_very_many_histories_comes_out_right(begin: int) -> None:
    failed = [told for seed in range(begin, begin + BATCH) if (told := report(history(seed)))]
    assert not failed, "\n\n\n".join(failed)
