"""What may change now, held against a planner that sorts all targets every time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from sidecarpolicy.core.approvals import removal_approval
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import UNKNOWN, RolloutState, Step, plan, proves_removal, step_in_exchange, steps
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import Health, State, Target
from sidecarpolicy.core.record import Note
from sidecarpolicy.names import OnFailure, Removal, Strategy
from tests.core.fleets import (
    BEFORE,
    IDS,
    NOBODY,
    OTHER,
    PINNED,
    SOME,
    TIER,
    UPDATE,
    Everything,
    a_fleet,
    backing_off,
    lots,
    states,
)
from tests.core.objects import START, WEB
from tests.core.old_planner import OldStage, Situation, old_plan

WANTED, REMOVING = IDS[:4] + IDS[6:10], IDS[4:6] + IDS[10:]


def situation_of(state: RolloutState, found: list[Target], gone: list[Target]) -> Situation:
    """The same for the old planner."""
    known = Situation.__dataclass_fields__.keys() & RolloutState.__dataclass_fields__
    fields = {name: getattr(state, name) for name in known}
    return Situation(**fields, targets=found, removing=gone)


def in_flight(fleet: Fleet, taken: list[Step]) -> set[WorkloadId]:
    """Who is in flight when *taken* are written, by the targets alone."""
    everyone = [*fleet.targets, *fleet.removing]
    free = {each.workload for each in everyone if each.health is Health.EMPTY}
    notes = {each.workload for each in fleet.removing if each.revision is None and not fleet.holds_slot(each.workload)}
    holding = {each.workload for each in everyone if fleet.holds_slot(each.workload)}
    return holding | {step.workload for step in taken if not step.joins and not step.orphans} - free - notes


PLACES = lots(WANTED), lots(REMOVING, wanted=False)


@given(states(), *PLACES)
def test_budgets_halts_and_counts_are_the_old_ones(
    state: RolloutState, found: list[Target], gone: list[Target]
) -> None:
    if state.deleting:
        found = []
    fleet = a_fleet(UPDATE, found, gone)
    made, old = plan(state, fleet), old_plan(situation_of(state, found, gone))
    assert (made.budget, made.in_flight, made.first_is_done) == (old.budget, old.in_flight, old.first_is_done)
    assert (made.halts, made.counts, made.looks_again) == (old.halts, old.counts, old.looks_again)
    assert bool(made.held) == bool(old.held)
    # Two things are meant to differ: to take a note alone away needs no slot, and removals in flight are bounded by
    # themselves (one first), also where the next one holds a slot already. Canary groups have tests of their own below.
    notes = any(each.revision is None and each.recorded for each in gone)
    if not notes and not fleet.removals_in_flight and not state.rollout.canary:
        assert made.acts == bool(old.steps), (list(steps(state, fleet, {})), old.steps)


@given(states(canary=False), *PLACES)
def test_where_everything_may_go_at_once_the_same_go(
    state: RolloutState, found: list[Target], gone: list[Target]
) -> None:
    if state.deleting:
        found = []
    state = replace(state, rollout=replace(state.rollout, max_concurrent=100), tried=True)
    old = old_plan(situation_of(state, found, gone)).steps
    made = list(steps(state, a_fleet(UPDATE, found, gone), {}))
    assert {(each.workload, each.revision, each.joins, each.orphans, each.note) for each in made} == {
        (each.workload, each.revision, each.joins, each.orphans, each.note) for each in old
    }
    assert len(made) == len(old)


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(states(canary=False), *PLACES)
def test_as_many_go_and_the_same_one_first(state: RolloutState, found: list[Target], gone: list[Target]) -> None:
    """Who holds a slot has its own rule: the next is of the namespace with the fewest in flight.

    What has no Pods proves nothing and takes no slot: where all others wait it goes, and once waited with them.
    """
    assume(not any(each.holds_slot for each in (*found, *gone)))
    if state.deleting:
        found = []
    old = old_plan(situation_of(state, found, gone)).steps
    made = [each for each in steps(state, a_fleet(UPDATE, found, gone), {}) if old or each.why != "has no Pods"]
    updates, before = ([each for each in all_ if each.why == "next within the budget"] for all_ in (made, old))
    assert len(updates) == len(before)
    if not any(each.revision != UPDATE for each in old):
        # Those that join are in no budget: which of them is the first is of no matter.
        first, first_before = ([each for each in all_ if not each.joins][:1] for all_ in (made, old))
        assert [each.workload for each in first] == [each.workload for each in first_before] or not first


@given(states(), *PLACES)
def test_never_more_than_the_budget(state: RolloutState, found: list[Target], gone: list[Target]) -> None:
    if state.deleting:
        found = []
    fleet = a_fleet(UPDATE, found, gone)
    taken = list(steps(state, fleet, {}))
    made, now = plan(state, fleet), in_flight(fleet, [])
    budget = state.rollout.budget(fleet.considered)
    if state.rollout.strategy is Strategy.ALL_AT_ONCE:
        budget = fleet.considered
    after = in_flight(fleet, taken)
    assert len(after) <= max(budget, len(now))
    ahead = [each for each in taken if each.revision == UPDATE and each.takes_slot]
    assert len(ahead) <= made.budget
    assert len({each.workload for each in taken}) == len(taken)


@given(states(), *PLACES, st.integers(0, 5))
def test_what_is_being_written_counts(
    state: RolloutState, found: list[Target], gone: list[Target], number: int
) -> None:
    """Whoever takes some and asks again is told the rest."""
    if state.deleting:
        found = []
    fleet = a_fleet(UPDATE, found, gone)
    everything = list(steps(state, fleet, {}))
    first = list(islice(steps(state, fleet, {}), number))
    assert first == everything[:number]
    assert list(steps(state, fleet, {each.workload: each for each in first})) == everything[number:]


GROUPS = st.sampled_from([(TIER,), (TIER, SOME), (SOME,), (NOBODY,)])
STAGED = st.builds(
    lambda state, groups: replace(
        state, deleting=False, orphaning=False, rollout=replace(state.rollout, canary=groups)
    ),
    states(),
    GROUPS,
)


@given(STAGED, lots(WANTED))
def test_stages_are_the_old_ones(state: RolloutState, found: list[Target]) -> None:
    made, old = plan(state, a_fleet(UPDATE, found)).stage, old_plan(situation_of(state, found, [])).stage
    assert (made is None) == (old is None)
    if made is None or old is None:
        return
    # A share is of those that have the update revision or failed at it; the old planner took what comes first in order.
    ahead = any(each.not_counted or each.outdated or (each.failing and each.is_its_owners) for each in found)
    if SOME.name not in (made.name, old.name) or not ahead:
        assert described(made) == described(old)


def described(stage: object) -> tuple[object, ...]:
    """What a status says of a stage."""
    return tuple(getattr(stage, name) for name in ("name", "size", "awaits"))


@given(STAGED, *PLACES)
def test_a_canary_group_goes_before_the_rest(state: RolloutState, found: list[Target], gone: list[Target]) -> None:
    stage = old_plan(situation_of(state, found, gone)).stage
    made = plan(state, a_fleet(UPDATE, found, gone)).stage
    assume(stage is not None and made is not None and stage.name and stage.name == made.name)
    ahead = [each for each in steps(state, a_fleet(UPDATE, found, gone), {}) if each.why.find("canary") > 0]
    groups = {each.workload: each.group for each in found}
    assert isinstance(stage, OldStage)
    if stage.name == "tier":
        assert {groups[each.workload] for each in ahead} <= {"tier"}
    rest = {each for each in stage.open if not groups[each]}
    have = {each.workload for each in found if not each.group and (each.revision == UPDATE or each.rolled_back)}
    skipped = {each.workload for each in found if each.skip is not None}
    fresh = {each.workload for each in ahead if not groups[each.workload]} - have
    assert len((have | fresh) - skipped) <= max(len(rest), len(have - skipped))


def a_target(number: int, state: State = State.PENDING, *, namespace: str = "shop", **fields: Any) -> Target:
    """One target that carries what came before."""
    there: dict[str, Any] = {"revision": BEFORE, "recorded": True}
    return Target(workload=WorkloadId(namespace, f"app-{number}"), state=state, **(there | fields))


def failing(number: int, **fields: Any) -> Target:
    """One that failed at the update revision."""
    late: dict[str, Any] = {"revision": UPDATE, "failing": True, "holds_slot": True, "late_since": START}
    return a_target(number, State.FAILED, **(late | fields))


def removed(number: int, **fields: Any) -> Target:
    """One from which the policy was taken out, and which is watched."""
    there: dict[str, Any] = {"revision": None, "recorded": False, "holds_slot": True, "state": State.PENDING}
    return a_target(number, **(there | fields))


def a_state(**fields: Any) -> RolloutState:
    """A rollout of web-b that has been tried, three at a time."""
    known: dict[str, Any] = {
        "policy": WEB,
        "rollout": Rollout(max_concurrent=3, max_failures=9),
        "update": UPDATE,
        "current": BEFORE,
        "stored": Everything(),
        "tried": True,
        "attempt": f"{UPDATE}#1",
        "now": START,
        "generation": 3,
    }
    return RolloutState(**(known | fields))


def names(made: Iterable[Step]) -> list[str]:
    """Who is picked."""
    return [each.workload.name for each in made]


def test_healthy_ones_go_before_those_that_are_known_to_be_broken() -> None:
    """A slot that was taken from them, and one that they still hold: neither lets them go first."""
    sick = Note(previous=BEFORE, unhealthy_before=True)
    released = [failing(number, revision="web-0", note=sick) for number in range(12)]
    broken = [failing(number, revision="web-0") for number in range(12, 14)]
    healthy = [a_target(number) for number in range(14, 20)]
    fleet = a_fleet(UPDATE, [*released, *broken, *healthy])
    state = a_state(rollout=Rollout(max_concurrent=3, max_failures=9, on_failure=OnFailure.HALT))
    picked = [int(name.removeprefix("app-")) for name in names(steps(state, fleet, {}))]
    assert picked[0] >= 14
    assert set(picked[1:]) <= {12, 13}, "they need no slot besides their own"
    state = a_state(tried=False, rollout=Rollout(max_concurrent=3, max_failures=99))
    (first,) = names(steps(state, a_fleet(UPDATE, [*released, *healthy]), {}))
    assert int(first.removeprefix("app-")) >= 14


def test_what_only_soaks_is_not_moved_on_while_more_are_in_flight_than_may_be() -> None:
    """Its author has lowered maxConcurrent, or an owner has opted out: to move it on would disturb a further one."""
    soaking = a_target(1, revision="web-0", state=State.PROGRESSING, holds_slot=True)
    removal = removed(2)

    def moved(target: Target, most: int) -> list[str]:
        state = a_state(rollout=Rollout(max_concurrent=most, max_failures=9))
        return names(steps(state, a_fleet(UPDATE, [target], [removal]), {}))

    assert moved(soaking, 1) == []
    assert moved(soaking, 2) == ["app-1"]
    assert moved(replace(soaking, under_way=True), 1) == ["app-1"], "its Pods are being replaced anyway"
    stuck = replace(soaking, state=State.FAILED, failing=True, outdated=True)
    assert moved(stuck, 1) == ["app-1"], "what has failed is never waited for"


def test_the_next_is_of_the_namespace_with_the_fewest_in_flight() -> None:
    there = [a_target(number, namespace=namespace) for namespace in ("a", "b", "c") for number in range(3)]
    moving = [a_target(number, State.PROGRESSING, namespace="a", holds_slot=True, revision=UPDATE) for number in (7, 8)]
    state = a_state(rollout=Rollout(max_concurrent=9))
    fleet = a_fleet(UPDATE, [*there, *moving])
    picked = [each.workload.namespace for each in steps(state, fleet, {})]
    assert sorted(picked[:4]) == ["b", "b", "c", "c"]
    first = next(steps(state, fleet, {}))
    assert next(steps(state, fleet, {first.workload: first})).workload.namespace != first.workload.namespace


@pytest.mark.parametrize("revision", ["", BEFORE], ids=["a repair", "a rollback"])
def test_a_write_that_is_on_its_way_frees_no_place_for_another_first_one(revision: str) -> None:
    """Whether it takes effect nobody knows yet; what somebody has taken away is put back, and the first stays first."""
    first = a_target(1, State.PROGRESSING, revision=UPDATE, holds_slot=True)
    soaking = a_target(2, State.PROGRESSING, holds_slot=True)
    fleet, state = a_fleet(UPDATE, [first, soaking]), a_state(tried=False)
    assert names(steps(state, fleet, {})) == []
    sent = Step(workload=first.workload, revision=revision, takes_slot=True, why="")
    assert names(steps(state, fleet, {first.workload: sent})) == []


def test_a_write_without_a_step_may_bring_the_update_revision_back() -> None:
    """The first one has lost its record, which is being written anew: until then it seems to have nothing."""
    lost = a_target(1, revision=None, recorded=False)
    soaking = a_target(2, State.PROGRESSING, holds_slot=True)
    fleet, state = a_fleet(UPDATE, [lost, soaking]), a_state(tried=False)
    assert names(steps(state, fleet, {})) == ["app-2"]
    sent = Step(workload=lost.workload, revision=UNKNOWN, takes_slot=True, why="")
    assert names(steps(state, fleet, {lost.workload: sent})) == []


def test_a_removal_goes_one_first() -> None:
    gone = [a_target(number) for number in range(6)]
    state = a_state()
    assert len(list(steps(state, a_fleet(UPDATE, [], gone), {}))) == 1
    assert len(list(steps(state, a_fleet(UPDATE, [], [*gone[1:], removed(0)]), {}))) == 0
    assert len(list(steps(replace(state, removal_proven=True), a_fleet(UPDATE, [], gone), {}))) == 3
    at_once = replace(state, rollout=Rollout(strategy=Strategy.ALL_AT_ONCE))
    assert len(list(steps(at_once, a_fleet(UPDATE, [], gone), {}))) == 6
    go_on = replace(state, approved=frozenset({removal_approval(3, stuck=True)}))
    assert len(list(steps(go_on, a_fleet(UPDATE, [], gone), {}))) == 3


def test_the_first_removal_does_not_wait_for_the_updates() -> None:
    moving = [a_target(number, State.PROGRESSING, revision=UPDATE, holds_slot=True) for number in range(2)]
    assert names(steps(a_state(), a_fleet(UPDATE, moving, [a_target(7), a_target(8)]), {})) in (["app-7"], ["app-8"])


def test_what_proves_a_removal() -> None:
    watched, over = removed(1), removed(1, holds_slot=False, taken_out=True)
    assert proves_removal(watched, over)
    assert not proves_removal(watched, watched)
    assert not proves_removal(watched, replace(over, taken_out=False)), "it was not watched to the end"
    assert not proves_removal(watched, None), "it was deleted"
    assert not proves_removal(a_target(1, holds_slot=True), over), "it still carried it"
    assert not proves_removal(None, over)


def test_only_removals_that_were_tried_count_as_stuck() -> None:
    """A policy is deleted after its injection failed: nothing was removed yet, so nothing did not get through it."""
    state = a_state(deleting=True, rollout=Rollout(max_concurrent=1))
    never = a_fleet(UPDATE, [], [failing(1), a_target(2)])
    assert plan(state, never).held == ""
    assert len(list(steps(state, never, {}))) == 1
    stuck = a_fleet(UPDATE, [], [removed(1, state=State.FAILED, failing=True, late_since=START), a_target(2)])
    assert plan(state, stuck).held == "removal@3#stuck"


def test_one_approval_of_a_removal_says_all_that_is_known_then() -> None:
    state = a_state(deleting=True, rollout=Rollout(max_concurrent=1, removal=Removal.MANUAL))
    stuck = removed(1, state=State.FAILED, failing=True, late_since=START)
    fleet = a_fleet(UPDATE, [], [stuck, a_target(2)])
    asked = plan(state, fleet).held
    assert plan(replace(state, approved=frozenset({asked})), fleet).held == ""


def test_a_rollback_to_a_revision_that_is_gone_is_no_step() -> None:
    lost, kept, none = (failing(1, note=Note(previous="web-x")), failing(2, note=Note(previous=BEFORE)), failing(3))
    fleet = a_fleet(UPDATE, [lost, kept, none])
    state = a_state(stored={"", BEFORE, UPDATE})
    assert {step.workload.name: step.revision for step in steps(state, fleet, {})} == {"app-2": BEFORE, "app-3": None}
    assert plan(state, fleet).stranded == (lost.workload,)
    assert plan(a_state(), fleet).stranded == ()


def test_a_pin_to_a_revision_that_is_gone_is_no_step() -> None:
    pinned = a_target(1, State.SKIPPED, skip=PINNED, pinned_to="web-0")
    assert names(steps(a_state(), a_fleet(UPDATE, [pinned]), {})) == ["app-1"]
    assert names(steps(a_state(stored={""}), a_fleet(UPDATE, [pinned]), {})) == []


@given(states(), *PLACES)
def test_nothing_is_tried_where_a_write_failed(state: RolloutState, found: list[Target], gone: list[Target]) -> None:
    waiting = [backing_off(each) for each in found], [backing_off(each) for each in gone]
    assert list(steps(state, a_fleet(UPDATE, *waiting), {})) == []


def test_a_revision_is_completed_when_everybody_has_it() -> None:
    done = [a_target(1, State.UPDATED, revision=UPDATE, evidence=True), a_target(2, State.SKIPPED, skip=PINNED)]
    assert plan(a_state(), a_fleet(UPDATE, done)).completes
    for state in (State.PENDING, State.PROGRESSING, State.FAILED):
        assert not plan(a_state(), a_fleet(UPDATE, [*done, a_target(3, state, not_counted=True)])).completes
    assert not plan(a_state(), a_fleet(UPDATE, [replace(done[0], evidence=False)])).completes
    for changes in ({"frozen": True}, {"current": UPDATE}, {"deleting": True}, {"halted": True}):
        assert not plan(a_state(**changes), a_fleet(UPDATE, done)).completes


def test_a_canary_group_that_selects_nothing_is_told() -> None:
    state = a_state(rollout=Rollout(canary=(TIER, SOME)))
    assert plan(state, a_fleet(UPDATE, [a_target(1)])).empty_groups == ("tier",)
    assert plan(state, a_fleet(UPDATE, [a_target(1, group="tier")])).empty_groups == ()
    assert plan(state, a_fleet(UPDATE)).empty_groups == (), "a policy that selects nothing has a word of its own"


# What comes in the write that takes another policy out.
PLACE = IDS[0]
GAINS = Target(workload=PLACE, state=State.PENDING, waits_for=frozenset({OTHER}))
FIRST = RolloutState(policy=WEB, rollout=Rollout(max_concurrent=2), update=UPDATE, stored=Everything())


def exchanged(state: RolloutState, *others: Target, gains: Target = GAINS, writing: Step | None = None) -> Step | None:
    """The step that the first workload takes in exchange, beside *others*."""
    steps_written = {writing.workload: writing} if writing is not None else {}
    return step_in_exchange(state, a_fleet(UPDATE, [gains, *others]), PLACE, steps_written)


@pytest.mark.parametrize(
    "changes", [{}, {"halted": True}, {"frozen": True}, {"rollout": Rollout(paused=True)}], ids=str
)
def test_what_was_rolled_out_completely_comes_in_exchange_under_the_other_policys_budget(changes: Any) -> None:
    busy = Target(workload=IDS[1], state=State.PROGRESSING, revision=UPDATE, holds_slot=True)
    step = exchanged(replace(FIRST, current=BEFORE, **changes), busy)
    assert step is not None
    assert (step.revision, step.joins, step.takes_slot) == (BEFORE, True, False)


@pytest.mark.parametrize("changes", [{"stopped": True}, {"deleting": True}], ids=str)
def test_nothing_comes_in_exchange_where_nothing_would_come_to_a_new_workload_either(changes: Any) -> None:
    assert exchanged(replace(FIRST, current=BEFORE, **changes)) is None


def test_what_is_halted_or_about_to_be_does_not_come_in_exchange() -> None:
    assert exchanged(replace(FIRST, current=UPDATE)) is not None
    assert exchanged(replace(FIRST, current=UPDATE, halted=True)) is None
    failed = Target(workload=IDS[1], state=State.FAILED, revision=UPDATE, failing=True)
    assert exchanged(replace(FIRST, current=UPDATE), failed) is None


def test_what_was_never_rolled_out_comes_in_exchange_as_an_update_within_its_own_budget() -> None:
    step = exchanged(FIRST)
    assert step is not None
    assert (step.revision, step.joins, step.takes_slot) == (UPDATE, False, True)
    arriving = Target(workload=IDS[1], state=State.PROGRESSING, revision=UPDATE, holds_slot=True)
    assert exchanged(FIRST, arriving) is None, "one goes first"
    sent = Step(workload=IDS[1], revision=UPDATE, takes_slot=True, why="")
    waiting_beside = replace(arriving, state=State.PENDING, revision=None, holds_slot=False)
    assert exchanged(FIRST, waiting_beside, writing=sent) is None, "it is on its way"
    done = Target(workload=IDS[2], state=State.UPDATED, revision=UPDATE, evidence=True)
    more = replace(FIRST, rollout=Rollout(max_concurrent=2))
    assert exchanged(more, arriving, done) is not None
    assert exchanged(more, arriving, replace(arriving, workload=IDS[3]), done) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"halted": True},
        {"rollout": Rollout(paused=True)},
        {"frozen": True},
        {"rollout": Rollout(strategy=Strategy.ON_NEXT_CHANGE)},
    ],
    ids=["halted", "paused", "frozen", "on-next-change"],
)
def test_what_was_never_rolled_out_and_may_not_go_now_does_not_come_in_exchange(changes: Any) -> None:
    assert exchanged(replace(FIRST, **changes)) is None


def test_what_was_never_rolled_out_comes_in_exchange_to_its_canary_group_first() -> None:
    state = replace(FIRST, rollout=Rollout(canary=(TIER,)))
    of_group = Target(workload=IDS[1], state=State.PENDING, group="tier")
    assert exchanged(state, of_group) is None
    assert exchanged(state, of_group, gains=replace(GAINS, group="tier")) is not None
