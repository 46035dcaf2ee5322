"""A fleet is what its targets are, however it came about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy.core.counting import CONFIG, PIN, UPDATED_IN
from sidecarpolicy.core.counting import UPDATE as UPDATES
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.progress import State, Target
from tests.core.fleets import IDS, OTHER, UPDATE, a_fleet, backing_off, lots, targets, waiting

# What is done to a fleet: a workload is put (selected, or to be removed), or dropped.
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("put"), targets()),
        st.tuples(st.just("put"), targets().map(backing_off)),
        st.tuples(st.just("put"), targets().map(waiting)),
        st.tuples(st.just("remove"), targets(wanted=False)),
        st.tuples(st.just("drop"), targets()),
    ),
    max_size=40,
)


def done(
    moves: Iterable[tuple[str, Target]], fleet: Fleet
) -> tuple[dict[WorkloadId, Target], dict[WorkloadId, Target]]:
    """Do all of *moves*; return what is then selected and what is to be removed, found by other means."""
    wanted: dict[WorkloadId, Target] = {}
    removing: dict[WorkloadId, Target] = {}
    for move, each in moves:
        wanted.pop(each.workload, None)
        removing.pop(each.workload, None)
        if move == "drop":
            fleet.drop(each.workload)
        else:
            (wanted if move == "put" else removing)[each.workload] = each
            fleet.put(each, wanted=move == "put")
    return wanted, removing


@given(MOVES)
def test_any_history_gives_the_fleet_that_is_built_from_nothing(moves: list[tuple[str, Target]]) -> None:
    fleet = Fleet(UPDATE)
    wanted, removing = done(moves, fleet)
    assert fleet == a_fleet(UPDATE, wanted.values(), removing.values())


@given(MOVES)
def test_a_fleet_of_which_all_are_dropped_is_empty(moves: list[tuple[str, Target]]) -> None:
    fleet = Fleet(UPDATE)
    done(moves, fleet)
    for each in IDS:
        fleet.drop(each)
    assert fleet == Fleet(UPDATE)


@given(MOVES)
def test_its_counts_are_those_of_a_walk(moves: list[tuple[str, Target]]) -> None:
    fleet = Fleet(UPDATE)
    found, gone = (list(each.values()) for each in done(moves, fleet))
    everyone = [*found, *gone]
    assert fleet.counts == {state: sum(each.state is state for each in found) for state in State}
    assert (fleet.matched, fleet.removing_count) == (len(found), len(gone))
    assert fleet.considered == sum(each.state is not State.SKIPPED for each in found) + len(gone)
    assert fleet.available == sum(each.available for each in found)
    assert fleet.evidence == sum(each.evidence for each in found)
    assert fleet.counted == sum(each.counts for each in found)
    assert fleet.bearing == sum(each.revision is not None for each in everyone)
    assert fleet.slots == sum(fleet.holds_slot(each.workload) for each in everyone)
    assert fleet.slots_at_update == sum(fleet.holds_slot(each.workload) and each.revision == UPDATE for each in found)
    updated = Counter(each.workload.namespace for each in found if each.state is State.UPDATED)
    assert fleet.tally(UPDATED_IN) == updated
    used = {name for each in everyone for name in (each.revision, each.note.previous, each.pinned_to) if name}
    assert fleet.in_use == used


@given(MOVES)
def test_its_lists_are_in_the_order_of_the_status(moves: list[tuple[str, Target]]) -> None:
    fleet = Fleet(UPDATE)
    found, gone = (list(each.values()) for each in done(moves, fleet))
    late = [each for each in (*found, *gone) if each.late_since is not None]
    assert list(fleet.late) == sorted(late, key=lambda each: (each.late_since or 0.0, each.workload))
    failed = [each for each in found if each.state is State.FAILED]
    assert list(fleet.failed) == sorted(failed, key=lambda each: (not each.counts, not each.message, each.workload))
    assert fleet.failed[:2] == list(fleet.failed)[:2]
    skipped = sorted((each for each in found if each.skip is not None), key=lambda each: each.workload)
    assert {reason: list(listed) for reason, listed in fleet.skipped.items()} == {
        reason: [each for each in skipped if each.skip and each.skip.reason.value == reason]
        for reason in {each.skip.reason.value for each in skipped if each.skip}
    }
    assert {each.workload for each in fleet.in_backoff} == {each.workload for each in (*found, *gone) if each.backoff}


@given(MOVES, st.sampled_from([None, 0.0, 5.0, 15.0]))
def test_it_knows_who_is_due_and_when(moves: list[tuple[str, Target]], later: float | None) -> None:
    fleet = Fleet(UPDATE)
    found, gone = (list(each.values()) for each in done(moves, fleet))
    moments: dict[WorkloadId, float] = {}
    for each in (*found, *gone):
        until = each.backoff.until if each.backoff is not None else None
        if possible := [moment for moment in (each.looks_again, until) if moment is not None]:
            moments[each.workload] = min(possible)
    assert fleet.looks_again == min(moments.values(), default=None)
    now = (fleet.looks_again or 0.0) + (later or 0.0)
    due = {workload for workload, moment in moments.items() if moment <= now}
    assert set(fleet.due(now)) == due
    assert set(fleet.due(now)) == due, "to ask changes nothing"


@given(lots())
def test_putting_the_same_again_changes_nothing(found: list[Target]) -> None:
    fleet = a_fleet(UPDATE, found)
    for each in found:
        fleet.put(each, wanted=True)
    assert fleet == a_fleet(UPDATE, found)


def test_fleets_differ_by_one_target() -> None:
    one = Target(workload=IDS[0], state=State.PENDING)
    assert a_fleet(UPDATE, [one]) != a_fleet(UPDATE, [])
    assert a_fleet(UPDATE, [one]) != a_fleet(UPDATE, [], [one])
    assert a_fleet(UPDATE, [one]) != a_fleet("web-c", [one])


def test_what_is_not_there() -> None:
    fleet = Fleet(UPDATE)
    fleet.drop(IDS[0])
    assert fleet.get(IDS[0]) is None
    assert not fleet.holds_slot(IDS[0])
    with pytest.raises(IndexError):
        fleet.late[0]


@given(lots())
def test_nothing_is_picked_where_another_policy_is_still_to_be_taken_out(found: list[Target]) -> None:
    fleet = a_fleet(UPDATE, map(waiting, found))
    assert not any(fleet.queues(kind) for kind in (UPDATES, CONFIG, PIN))
    assert not (fleet.joining or fleet.rollbacks or fleet.skipped)
    pending = sorted(each.workload for each in found if waiting(each).state is State.PENDING)
    assert [each.workload for each in fleet.waiting_for.get(OTHER, ())] == pending
