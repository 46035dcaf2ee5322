"""What one term of the engine remembers."""

from __future__ import annotations

from sidecarpolicy.engine import memory
from sidecarpolicy.engine.memory import Memory
from tests.core.objects import WEB


def test_what_was_told_is_not_new_and_of_very_many_the_oldest_is_forgotten() -> None:
    told = Memory()
    assert [told.is_new("0", WEB, "missing") for _ in range(2)] == [True, False]
    assert told.is_new("0", WEB, "conflict")
    for uid in range(1, memory.MOST_TOLD):
        assert told.is_new(str(uid), WEB, "missing")
    assert len(told.told) == memory.MOST_TOLD
    assert not told.is_new(str(memory.MOST_TOLD - 1), WEB, "missing")
    assert told.is_new("0", WEB, "missing")
