"""Crashes at every write; every event late, or never told: the end is the same."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.faults import Fault
from tests.simulation.matrix import STORIES, crash_at, events, held_at, played, the_end, unheard_at, writes


@pytest.fixture(autouse=True)
def _silent() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("trouble", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_a_crash_at_any_write_changes_nothing(story: str, trouble: Fault) -> None:
    whole = played(story)
    for number in range(1, writes(whole) + 1):
        world = played(story, crash_at(number, trouble))
        assert the_end(world) == the_end(whole), f"{trouble} at write {number}:\n{world.transcript()}"
        world.cluster.end()


@pytest.mark.parametrize("story", STORIES)
def test_an_event_that_is_never_told_changes_nothing(story: str) -> None:
    whole = played(story)
    for resource, number in events(whole).items():
        for index in range(1, number + 1, 3):
            world = played(story, unheard_at(resource, index))
            assert the_end(world) == the_end(whole), f"{resource.plural} {index}:\n{world.transcript()}"
            world.cluster.end()


@pytest.mark.parametrize("story", STORIES)
def test_a_watch_that_lags_from_any_event_on_changes_nothing(story: str) -> None:
    whole = played(story)
    for resource, number in events(whole).items():
        for index in range(1, number + 1, 3):
            world = played(story, held_at(resource, index))
            assert the_end(world) == the_end(whole), f"{resource.plural} {index}:\n{world.transcript()}"
            world.cluster.end()
