"""What may change now, held against a planner that sorts all targets every time."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from hypothesis import assume, given
from hypothesis import strategies as st

from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import RolloutState, Step, plan, steps
from sidecarpolicy.core.targets import Health, State, Target
from sidecarpolicy.names import Strategy
from tests.core.fleets import IDS, UPDATE, lots, states
from tests.core.old_planner import OldStage, Situation, old_plan
from tests.core.world import a_fleet

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
    made, old = plan(state, a_fleet(UPDATE, found, gone)), old_plan(situation_of(state, found, gone))
    assert (made.budget, made.in_flight, made.first_is_done) == (old.budget, old.in_flight, old.first_is_done)
    assert (made.halts, made.counts, made.looks_again) == (old.halts, old.counts, old.looks_again)
    assert bool(made.held) == bool(old.held)
    assert made.acts == bool(old.steps)


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


@given(states(canary=False), *PLACES)
def test_as_many_go_and_the_same_one_first(state: RolloutState, found: list[Target], gone: list[Target]) -> None:
    """Who holds a slot has its own rule: the next is of the namespace with the fewest in flight."""
    assume(not any(each.holds_slot for each in (*found, *gone)))
    if state.deleting:
        found = []
    old = old_plan(situation_of(state, found, gone)).steps
    made = list(steps(state, a_fleet(UPDATE, found, gone), {}))
    updates, before = ([each for each in all_ if each.why == "next within the budget"] for all_ in (made, old))
    assert len(updates) == len(before)
    if not any(each.revision != UPDATE for each in old):
        assert made[:1] == [] or made[0].workload == old[0].workload


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


@given(states(), lots(WANTED))
def test_stages_are_the_old_ones(state: RolloutState, found: list[Target]) -> None:
    assume(not state.deleting and state.rollout.canary)
    made, old = plan(state, a_fleet(UPDATE, found)).stage, old_plan(situation_of(state, found, [])).stage
    assert (made is None) == (old is None)
    if made is None or old is None:
        return
    selected = state.rollout.canary[0].most is None
    if selected or not any(each.excused for each in found):
        assert described(made) == described(old)


def described(stage: object) -> tuple[object, ...]:
    """What a status says of a stage."""
    return tuple(getattr(stage, name) for name in ("name", "size", "awaits"))


@given(states(), *PLACES)
def test_a_canary_group_goes_before_the_rest(state: RolloutState, found: list[Target], gone: list[Target]) -> None:
    assume(not state.deleting)
    stage = old_plan(situation_of(state, found, gone)).stage
    made = plan(state, a_fleet(UPDATE, found, gone)).stage
    assume(stage is not None and made is not None and stage.name and stage.name == made.name)
    ahead = [each for each in steps(state, a_fleet(UPDATE, found, gone), {}) if each.why.find("canary") > 0]
    groups = {each.workload: each.group for each in found}
    assert isinstance(stage, OldStage)
    if stage.name == "tier":
        assert {groups[each.workload] for each in ahead} <= {"tier"}
    rest = {each for each in stage.open if not groups[each]}
    have = {each.workload for each in found if not each.group and (each.revision == UPDATE or each.turned_back)}
    skipped = {each.workload for each in found if each.refusal is not None}
    fresh = {each.workload for each in ahead if not groups[each.workload]} - have
    assert len((have | fresh) - skipped) <= max(len(rest), len(have - skipped))


def a_target(number: int, state: State = State.PENDING, *, namespace: str = "shop", **fields: object) -> Target:
    """One target."""
    return Target(workload=WorkloadId(namespace, f"app-{number}"), state=state, **fields)  # type: ignore[arg-type]
