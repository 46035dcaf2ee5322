"""Which new workloads join what has been rolled out completely."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import RolloutState, steps
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.core.record import Note
from sidecarpolicy.names import Strategy
from tests.core.fleets import TENTH, Everything, a_fleet
from tests.core.objects import WEB


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


def test_with_on_next_change_nobody_is_updated_but_who_is_new_joins() -> None:
    rollout = replace(TENTH, strategy=Strategy.ON_NEXT_CHANGE)
    state = RolloutState(policy=WEB, rollout=rollout, update="web-b", current="web-a", stored=Everything())
    old = Target(workload=WorkloadId(namespace="shop", name="old"), state=State.PENDING, revision="web-a")
    new = Target(workload=WorkloadId(namespace="shop", name="new"), state=State.PENDING, new=True)
    found = list(steps(state, a_fleet("web-b", [old, new]), {}))
    assert [(each.workload.name, each.revision) for each in found] == [("new", "web-a")]


def test_with_on_next_change_one_that_failed_is_rolled_back() -> None:
    rollout = replace(TENTH, strategy=Strategy.ON_NEXT_CHANGE)
    state = RolloutState(
        policy=WEB, rollout=rollout, update="web-b", current="web-a", attempt="web-b#1", stored=Everything()
    )
    failed = Target(
        workload=WorkloadId(namespace="shop", name="cart"),
        state=State.FAILED,
        revision="web-b",
        failing=True,
        blamed=True,
        note=Note(previous="web-a"),
    )
    assert [each.revision for each in steps(state, a_fleet("web-b", [failed]), {})] == ["web-a"]
