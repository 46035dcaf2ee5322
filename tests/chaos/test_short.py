"""`make chaos` in short: a few Deployments, a little harm. The whole of it is in docs/reliability.md."""

from __future__ import annotations

import pytest

import localcluster
from tests.chaos.running import run
from tests.chaos.scenarios import SCENARIOS

MANY = 20
LONG = [pytest.param(name, marks=pytest.mark.long) for name in ("frozen", "lost-answers", "restored")]


@pytest.mark.parametrize("name", ["killed", *LONG])
def test_whatever_goes_wrong_the_end_is_right(name: str, cluster: localcluster.Cluster) -> None:
    outcome = run(SCENARIOS[name], cluster, count=MANY, seed=1, short=True)
    assert outcome.done, "nothing went wrong"
    assert outcome.problems == []
