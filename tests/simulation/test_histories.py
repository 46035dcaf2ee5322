"""Histories by seed. HISTORIES: how many; HISTORIES_FROM: the first seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.simulation import stories
from tests.simulation.histories import healthy, history, outcome, report

FIRST = int(os.environ.get("HISTORIES_FROM", "0"))
BATCH = 25
BATCHES = int(os.environ.get("HISTORIES", "500")) // BATCH


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("begin", range(FIRST, FIRST + BATCH * BATCHES, BATCH))
def test_any_history_comes_out_right(begin: int) -> None:
    failed = [told for seed in range(begin, begin + BATCH) if (told := report(history(seed)))]
    assert not failed, "\n\n\n".join(failed)


@pytest.mark.parametrize("begin", range(FIRST, FIRST + BATCH * max(1, BATCHES // 4), BATCH))
def test_people_alone_bring_nothing_out_of_order(begin: int) -> None:
    failed = [told for seed in range(begin, begin + BATCH) if (told := report(history(seed, troubled=False)))]
    assert not failed, "\n\n\n".join(failed)


@pytest.mark.parametrize("begin", range(FIRST, FIRST + BATCH * max(1, BATCHES // 10), BATCH))
def test_no_rollout_is_halted_where_nothing_is_wrong_with_it(begin: int) -> None:
    for seed in range(begin, begin + BATCH):
        failure, transcript = outcome(healthy(seed))
        assert not failure, f"{failure}\n\n{healthy(seed)}\n\n{transcript}"
        assert "!! halted" not in transcript, f"{healthy(seed)}\n\n{transcript}"


def test_what_was_found_while_a_clock_was_ahead_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its policy is deleted then, so everything is looked at: a soak seemed to be over that is not."""
    monkeypatch.setattr(stories, "LOOKS", 1)
    assert report(history(300_044)) == ""
