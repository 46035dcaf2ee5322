"""Which new workloads join what has been rolled out completely."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import RolloutState, steps
from sidecarpolicy.core.targets import State, Target
from tests.core.objects import WEB
from tests.core.stories import TENTH
from tests.core.world import Everything, a_fleet


def test_a_new_one_that_was_rolled_back_does_not_join_again() -> None:
    new = Target(workload=WorkloadId(namespace="shop", name="cart"), state=State.PENDING, new=True)
    failed = replace(new, state=State.FAILED, recorded=True, rolled_back=True)
    state = RolloutState(
        policy=WEB, rollout=TENTH, update="web-b", current="web-b", attempt="web-b#1", stored=Everything()
    )
    assert [each.joins for each in steps(state, a_fleet("web-b", [new]), {})] == [True]
    assert list(steps(state, a_fleet("web-b", [failed]), {})) == []


def test_a_new_one_waits_for_another_policys_own_rollout_there() -> None:
    busy = Target(workload=WorkloadId(namespace="shop", name="cart"), state=State.PENDING, new=True, busy=True)
    state = RolloutState(
        policy=WEB, rollout=TENTH, update="web-b", current="web-b", attempt="web-b#1", stored=Everything()
    )
    assert list(steps(state, a_fleet("web-b", [busy]), {})) == []
