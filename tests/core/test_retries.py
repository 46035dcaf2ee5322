"""How long a workload is left alone after a write that failed."""

from __future__ import annotations

from dataclasses import replace
from math import inf

from sidecarpolicy.core.progress import Backoff
from sidecarpolicy.engine.cache import Cache
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Failed
from sidecarpolicy.engine.observe import failed_write
from tests.core.objects import START, a_workload


def test_a_wait_that_began_with_a_clock_that_was_ahead_is_not_believed() -> None:
    """The API server's clock was put right by a day; nobody waits until tomorrow."""
    workload, context = a_workload(), Context(cache=Cache(), now=lambda: START)
    backoff = Backoff(until=START + 600, message="refused", rejected=True)
    failed = Failed(uid=workload.uid, generation=workload.generation, updates={}, tries=1, backoff=backoff)
    context.memory.of(workload.id).failed = failed
    assert failed_write(workload, context) == failed
    context.memory.of(workload.id).failed = replace(failed, backoff=replace(backoff, until=START + 86400))
    assert failed_write(workload, context) is None
    endless = replace(failed, backoff=replace(backoff, until=inf))
    context.memory.of(workload.id).failed = endless
    assert failed_write(workload, context) == endless, "as the command line has it, which looks once"
