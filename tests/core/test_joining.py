"""Which new workloads join what has been rolled out completely."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import Situation, plan
from sidecarpolicy.core.targets import State, Target
from tests.core.objects import WEB
from tests.core.stories import TENTH


def test_a_new_one_that_was_turned_back_does_not_join_again() -> None:
    new = Target(workload=WorkloadId(namespace="shop", name="cart"), state=State.PENDING, new=True, busy=True)
    failed = replace(new, state=State.FAILED, recorded=True, turned_back=True)
    situation = Situation(policy=WEB, rollout=TENTH, update="web-b", current="web-b", attempt="web-b#1")
    assert [each.joins for each in plan(replace(situation, targets=[new])).steps] == [True]
    assert plan(replace(situation, targets=[failed])).steps == ()
