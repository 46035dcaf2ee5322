"""Single steps that are not planned: what was rolled back does not join again, what was refused waits."""

from __future__ import annotations

from dataclasses import replace

from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import Situation, Unwritable, plan
from sidecarpolicy.core.targets import State, Target
from tests.core.objects import START, WEB
from tests.core.stories import TENTH


def test_a_new_one_that_was_turned_back_does_not_join_again() -> None:
    new = Target(workload=WorkloadId(namespace="shop", name="cart"), state=State.PENDING, new=True, busy=True)
    failed = replace(new, state=State.FAILED, recorded=True, turned_back=True)
    situation = Situation(policy=WEB, rollout=TENTH, update="web-b", current="web-b", attempt="web-b#1")
    assert [each.joins for each in plan(replace(situation, targets=[new])).steps] == [True]
    assert plan(replace(situation, targets=[failed])).steps == ()


def test_a_refused_step_is_not_planned_again_at_once() -> None:
    """What was turned back, pinned or handed over in vain waits as removals do."""
    failed = Target(
        workload=WorkloadId(namespace="shop", name="cart"),
        state=State.FAILED,
        revision="web-b",
        failing=True,
        recorded=True,
        holds_slot=True,
    )
    situation = Situation(policy=WEB, rollout=TENTH, update="web-b", current="web-a", attempt="web-b#1", halted=True)
    pinned = replace(failed, failing=False, state=State.SKIPPED, pinned_to="web-a")
    leaving = replace(situation, deleting=True, update=None)
    refused = {failed.workload: Unwritable(until=START + 600, message="a change freeze")}
    for each in (
        replace(situation, targets=[failed]),
        replace(situation, targets=[pinned]),
        replace(leaving, removing=[failed], orphaning=True),
        replace(leaving, removing=[replace(failed, state=State.UPDATED, failing=False)]),
    ):
        assert len(plan(each).steps) == 1
        again = plan(replace(each, unwritable=refused))
        assert (again.steps, again.looks_again) == ((), START + 600)
