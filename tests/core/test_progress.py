"""How far a change has come, in the situations that clusters really show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import Any

import pytest

from sidecarpolicy.core.field_conflicts import FieldConflict
from sidecarpolicy.core.kinds import Facts
from sidecarpolicy.core.kinds import deployment as kind
from sidecarpolicy.core.kinds.deployment import REVISION_ANNOTATION
from sidecarpolicy.core.plan import proves_removal
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import Backoff, State, Target, in_conflict, target
from sidecarpolicy.core.record import Note
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Child, Workload
from tests.core.objects import START, WEB, a_condition, a_record, a_replica_set, a_status_writer, a_workload, at_second

A, B = a_record("web-a"), a_record("web-b")
ROLLOUT = Rollout(progress_deadline_seconds=600, min_ready_seconds=30)


def conditions(
    progressing: str = "NewReplicaSetAvailable",
    *,
    available: str = "True",
    updated: float = 0,
    changed: float = 0,
    status: str | None = None,
) -> list[Json]:
    """The two conditions of a Deployment; times in seconds after START."""
    given_up = progressing == "ProgressDeadlineExceeded"
    return [
        a_condition("Available", available, changed=changed),
        a_condition("Progressing", status or ("False" if given_up else "True"), progressing, updated=updated),
    ]


def seen(
    workload: Workload,
    *replica_sets: Child,
    now: float = 0,
    update: str | None = "web-b",
    cleared_at: float = 0,
    uncrashed_at: float = 0,
) -> Target:
    """Where the workload stands, *now* seconds after START."""
    return target(
        WEB,
        update,
        workload,
        replica_sets,
        None,
        rollout=ROLLOUT,
        now=START + now,
        cleared_at=cleared_at,
        uncrashed_at=uncrashed_at,
    )


def facts(workload: Workload, replica_sets: Sequence[Child] = (), *, now: float = 0) -> Facts:
    """What is known of a Deployment, *now* seconds after START."""
    return kind.observe(workload, replica_sets, WEB, now=START + now, patience=600, soak=30)


def told_at(seconds: float) -> Json:
    """The metadata of a Deployment whose controller changed the status last then."""
    return {"managedFields": [a_status_writer(seconds)]}


ROLLING = conditions("ReplicaSetUpdated")


@pytest.mark.parametrize(
    ("what", "workload", "complete"),
    [
        ("all updated and available", {"conditions": ROLLING}, True),
        ("not observed yet", {"generation": 2, "observed": 1}, False),
        ("new Pods are still missing", {"status": (2, 1, 2), "conditions": ROLLING}, False),
        ("old Pods are still there", {"status": (3, 2, 3), "conditions": ROLLING}, False),
        ("old Pods are still there, says the count, whatever the reason", {"status": (3, 2, 3)}, False),
        ("new Pods are not available", {"status": (2, 2, 1), "conditions": ROLLING}, False),
        ("a Pod was lost after it was complete", {"status": (2, 2, 1)}, True),
        ("it was scaled up after it was complete", {"replicas": 5, "status": (2, 2, 2)}, True),
        ("it has no replicas", {"replicas": 0, "status": (0, 0, 0), "conditions": ROLLING}, True),
        ("it has no conditions", {"conditions": []}, True),
        ("it has given up", {"status": (3, 1, 2), "conditions": conditions("ProgressDeadlineExceeded")}, False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_is_complete(what: str, workload: dict[str, Any], complete: bool) -> None:
    assert kind.is_complete(a_workload(**workload)) == complete


@pytest.mark.parametrize(
    ("what", "record", "history", "ours"),
    [
        ("we came to it", B, [(1, None, 2), (2, B, 1)], True),
        ("we moved it on", B, [(1, A, 1), (2, B, 1)], True),
        ("we moved it on, and it is over", B, [(1, A, 0), (2, B, 2)], True),
        ("the owner changed it afterwards", B, [(1, A, 0), (2, B, 1), (3, B, 1)], False),
        ("the owner's hotfix on top of our unfinished rollout", B, [(1, A, 1), (2, B, 1), (3, B, 1)], True),
        ("the owner's own rollout, never any of ours", None, [(1, None, 1), (2, None, 1)], False),
        ("we went from it", None, [(1, A, 1), (2, None, 1)], True),
        ("the ReplicaSet for it is not made yet", B, [(1, A, 2)], True),
        ("the same, with Recreate: the old one is scaled down", B, [(1, A, 0)], True),
        ("back to A half-way, its ReplicaSet is used again", A, [(2, B, 1), (3, A, 1)], True),
        ("undone in our soak and put right before a Pod was replaced", B, [(1, None, 0), (3, B, 2), (4, A, 0)], True),
        ("the same with nothing made since", A, [(1, A, 2)], True),
        ("revisionHistoryLimit 0, no history left", B, [(2, B, 2)], True),
        ("no history and nothing of ours", None, [(2, None, 2)], False),
        ("no ReplicaSet at all", B, [], True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_is_ours(what: str, record: str | None, history: list[tuple[int, str | None, int]], ours: bool) -> None:
    replica_sets = [a_replica_set(number, borne, replicas) for number, borne, replicas in history]
    for order in (replica_sets, replica_sets[::-1]):
        assert kind.is_ours(a_workload(record=record), order, WEB) == ours


@pytest.mark.parametrize(
    ("what", "history", "ours"),
    [
        ("all replicas have what it has: another changes it", [(1, A, 0), (2, B, 2)], False),
        ("its ReplicaSet is made, and old replicas are left", [(1, A, 2), (2, B, 0)], True),
        ("its ReplicaSet is made, and has not all replicas yet", [(1, A, 0), (2, B, 1)], True),
        ("its ReplicaSet is not made yet", [(1, None, 0), (2, A, 2)], True),
        ("there is no history to compare", [(2, B, 2)], True),
        ("there never was another ReplicaSet", [(1, B, 2)], False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_whose_a_change_is_that_the_controller_has_not_seen(
    what: str, history: list[tuple[int, str | None, int]], ours: bool
) -> None:
    replica_sets = [a_replica_set(number, borne, replicas) for number, borne, replicas in history]
    assert kind.is_ours(a_workload(record=B, generation=3, observed=2), replica_sets, WEB) == ours


@pytest.mark.parametrize(("told", "ours"), [("3", True), ("4", False), (None, False)])
def test_a_replica_set_seen_ahead_of_its_deployment_is_that_of_the_change(told: str | None, ours: bool) -> None:
    """Rolled back with Recreate: all replicas are in A's ReplicaSet again before the Deployment tells of it."""
    annotations = {} if told is None else {REVISION_ANNOTATION: told}
    workload = a_workload(record=A, generation=3, observed=2, metadata={"annotations": annotations})
    replica_sets = [a_replica_set(number, borne, replicas) for number, borne, replicas in [(3, B, 0), (4, A, 2)]]
    assert kind.is_ours(workload, replica_sets, WEB) == ours


FIRST, AGAIN = (a_record("web-b", note=Note(stepped=START + seconds)) for seconds in (10, 900))


@pytest.mark.parametrize(
    ("what", "record", "history", "ours"),
    [
        ("stripped meanwhile, and brought again", AGAIN, [(2, FIRST, 1), (3, AGAIN, 1)], True),
        ("the same, and its ReplicaSet is not made yet", AGAIN, [(1, A, 0), (2, FIRST, 2)], True),
        ("the same, and its ReplicaSet is used again", AGAIN, [(3, FIRST, 1), (4, AGAIN, 1)], True),
        ("went back, and only what it had before is seen", AGAIN, [(1, A, 0), (2, B, 2)], True),
        ("brought to a new one at first, which says no time", AGAIN, [(2, B, 1), (3, AGAIN, 1)], True),
        ("its owner's hotfix afterwards", AGAIN, [(2, FIRST, 0), (3, AGAIN, 1), (4, AGAIN, 1)], False),
        ("its owner undoes to one of before", FIRST, [(3, AGAIN, 1), (4, FIRST, 1)], False),
    ],
    ids=lambda value: value if isinstance(value, str) and " " in value else None,
)
def test_what_was_brought_again_is_ours(
    what: str, record: str, history: list[tuple[int, str, int]], ours: bool
) -> None:
    """The controller takes no annotation off a ReplicaSet: one without our sidecars may still bear the record."""
    replica_sets = [a_replica_set(number, borne, replicas) for number, borne, replicas in history]
    assert kind.is_ours(a_workload(record=record, generation=3, observed=2), replica_sets, WEB) == ours


@pytest.mark.parametrize(
    ("what", "workload", "history", "arrived"),
    [
        ("complete", {"record": B}, [(1, A, 0), (2, B, 2)], True),
        ("scaled and changed in one sync: complete is the old template", {"record": B}, [(1, A, 2)], False),
        ("Recreate, between scaling down and making the next", {"record": B, "status": (0, 0, 0)}, [(1, A, 0)], False),
        ("still rolling", {"record": B, "status": (3, 1, 2), "conditions": ROLLING}, [(1, A, 2), (2, B, 1)], False),
        ("lost a node long after", {"record": B, "status": (2, 2, 0)}, [(1, A, 0), (2, B, 2)], True),
        ("removed", {"record": None}, [(1, A, 0), (2, None, 2)], True),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_has_arrived(
    what: str, workload: dict[str, Any], history: list[tuple[int, str | None, int]], arrived: bool
) -> None:
    replica_sets = [a_replica_set(number, borne, replicas) for number, borne, replicas in history]
    assert facts(a_workload(**workload), replica_sets).arrived == arrived


@pytest.mark.parametrize(
    ("what", "available", "changed", "ends"),
    [
        ("it has been available all the time", "True", 50, 130),
        ("it became available with its completion", "True", 100, 130),
        ("it lost availability while it was watched", "False", 110, inf),
        ("it lost availability in the very second of its completion", "False", 100, inf),
        ("it is available again, so it starts again", "True", 120, 150),
        ("it lost availability after that, perhaps not for the first time", "False", 131, inf),
        ("it lost availability when it would have failed before", "False", 701, 130),
        ("it is available again, and was lost who knows when", "True", 400, 430),
        ("it is available again, so late that it would have failed", "True", 700, 130),
        ("it has not been available for long, and yet is complete", "False", 50, 130),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_soaked_at(what: str, available: str, changed: float, ends: float) -> None:
    workload = a_workload(conditions=conditions(updated=100, available=available, changed=changed))
    assert facts(workload).soaked_at(30, 600) - START == ends


@pytest.mark.parametrize(
    ("what", "workload", "last"),
    [
        ("a step forward", {"conditions": conditions("ReplicaSetUpdated", updated=70)}, 70),
        (
            "given up: the last step was a deadline earlier",
            {"conditions": conditions("ProgressDeadlineExceeded", updated=700)},
            100,
        ),
        ("complete", {"conditions": conditions(updated=70)}, None),
        (
            "complete, it says, and old Pods are there",
            {"status": (3, 1, 2), "conditions": conditions(updated=70), "metadata": told_at(90)},
            90,
        ),
        ("the change was not seen yet", {"generation": 2, "observed": 1, "conditions": ROLLING}, None),
        ("no condition", {"conditions": []}, None),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_last_progress(what: str, workload: dict[str, Any], last: float | None) -> None:
    found = facts(a_workload(**workload)).progressed
    assert (None if found is None else found - START) == last


PAUSED: dict[str, Any] = {
    "paused": True,
    "status": (0, 0, 0),
    "metadata": {"creationTimestamp": at_second(0)},
    "conditions": conditions("DeploymentPaused", available="False", status="Unknown"),
}


@pytest.mark.parametrize(
    ("what", "workload", "history", "new"),
    [
        ("its first Pods are not up", {"conditions": conditions("ReplicaSetUpdated", available="False")}, 1, True),
        ("nothing has been made yet", {"conditions": []}, 0, True),
        ("it is up", {}, 1, False),
        ("it was up and has lost its Pods", {"conditions": conditions(available="False")}, 1, False),
        (
            "it never came up, and has given up",
            {"conditions": conditions("ProgressDeadlineExceeded", available="False")},
            1,
            False,
        ),
        ("a second rollout", {"conditions": conditions("ReplicaSetUpdated", available="False")}, 2, False),
        ("it has no replicas", {"replicas": 0, "conditions": []}, 1, False),
        ("it was created paused, long ago", PAUSED, 0, True),
        ("it was paused in its first rollout, long ago", PAUSED, 1, False),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_is_new(what: str, workload: dict[str, Any], history: int, new: bool) -> None:
    replica_sets = [a_replica_set(number) for number in range(1, history + 1)]
    assert facts(a_workload(**workload), replica_sets, now=10_000).new == new


# Where a target stands.

UNDER_WAY = [a_replica_set(1, A, 1), a_replica_set(2, B, 1)]
OVER = [a_replica_set(1, A, 0), a_replica_set(2, B, 2)]


def test_a_rollout_of_ours_holds_its_slot_from_the_write_until_it_has_soaked() -> None:
    written = seen(a_workload(record=B, generation=2, observed=1), a_replica_set(1, A, 2))
    rolling = seen(a_workload(record=B, status=(3, 1, 2), conditions=ROLLING), *UNDER_WAY)
    soaking = seen(a_workload(record=B, conditions=conditions(updated=100)), *OVER, now=110)
    soaked = seen(a_workload(record=B, conditions=conditions(updated=100)), *OVER, now=130)
    assert [each.state for each in (written, rolling, soaking, soaked)] == [
        State.PROGRESSING,
        State.PROGRESSING,
        State.PROGRESSING,
        State.UPDATED,
    ]
    assert [each.holds_slot for each in (written, rolling, soaking, soaked)] == [True, True, True, False]
    assert [each.evidence for each in (written, rolling, soaking, soaked)] == [False, False, False, True]
    assert soaking.looks_again == START + 130


def test_a_rollout_without_progress_has_failed_and_keeps_its_slot() -> None:
    stuck = a_workload(record=B, status=(3, 1, 2), conditions=conditions("ReplicaSetUpdated", updated=100))
    before = seen(stuck, *UNDER_WAY, now=699)
    assert (before.state, before.looks_again) == (State.PROGRESSING, START + 700)
    after = seen(stuck, *UNDER_WAY, now=700)
    assert (after.state, after.holds_slot, after.looks_again) == (State.FAILED, True, None)
    assert after.late_since == START + 100
    assert after.message == "Progressing is True"


def test_what_is_taken_up_again_fails_though_its_controller_says_that_it_is_complete() -> None:
    """The ReplicaSet of a revision that failed before: neither a step nor a time-out is told of it."""
    again = a_record("web-b", note=Note(stepped=START + 500))
    stuck = a_workload(
        record=again, status=(2, 1, 1), replicas=1, conditions=conditions(updated=400), metadata=told_at(499)
    )
    under_way = [a_replica_set(3, A, 1), a_replica_set(4, again, 1)]
    before, after = seen(stuck, *under_way, now=1099), seen(stuck, *under_way, now=1100)
    assert (before.state, before.looks_again) == (State.PROGRESSING, START + 1100)
    assert (after.state, after.failing, after.late_since) == (State.FAILED, True, START + 500)


def test_what_its_controller_calls_complete_is_waited_for_no_longer_than_a_rollout_may_take() -> None:
    undone = a_workload(status=(2, 1, 1), replicas=1, conditions=conditions(updated=40), metadata=told_at(400))
    history = [a_replica_set(3, None, 1), a_replica_set(4, None, 1)]
    assert [facts(undone, history, now=now).moving for now in (999, 1000)] == [True, False]


def test_giving_up_is_no_progress() -> None:
    stuck = a_workload(record=B, status=(3, 1, 2), conditions=conditions("ProgressDeadlineExceeded", updated=700))
    assert seen(stuck, *UNDER_WAY, now=701).late_since == START + 100


def test_a_workload_that_loses_its_availability_while_it_is_watched_fails_in_the_end() -> None:
    lost = a_workload(record=B, conditions=conditions(updated=100, available="False", changed=110))
    watched = seen(lost, *OVER, now=200)
    assert (watched.state, watched.holds_slot, watched.evidence) == (State.PROGRESSING, True, False)
    assert watched.looks_again == START + 700
    failed = seen(lost, *OVER, now=710)
    assert (failed.state, failed.holds_slot, failed.late_since) == (State.FAILED, True, START + 100)
    assert failed.message == "Available is False"


def test_a_node_lost_later_makes_nothing_in_flight() -> None:
    """Once its Pods have been looked at: they could be crashing."""
    after = seen(lost_at(900), *OVER, now=1000, cleared_at=START + 901)
    assert (after.state, after.holds_slot, after.busy, after.available) == (State.UPDATED, False, False, False)
    assert (after.suspect, after.evidence) == (False, True)
    current = target(WEB, "web-b", lost_at(900), OVER, None, rollout=ROLLOUT, now=START + 901, current="web-b")
    assert (current.suspect, current.holds_slot) == (False, False), "it has been rolled out completely"


@pytest.mark.parametrize("lost", [400, 900, 9_000])
def test_what_is_lost_after_its_soak_is_looked_at_at_once_and_once_more_where_it_lasts(lost: int) -> None:
    found = seen(lost_at(lost), *OVER, now=lost + 1)
    assert (found.suspect, found.failing, found.late_at) == (True, False, None)
    assert (found.state, found.holds_slot, found.evidence) == (State.PROGRESSING, True, False)
    cleared = seen(lost_at(lost), *OVER, now=lost + 3, cleared_at=START + lost + 2)
    assert (cleared.suspect, cleared.holds_slot, cleared.evidence) == (False, False, True)
    assert cleared.looks_again == START + lost + 600
    lasting = seen(lost_at(lost), *OVER, now=lost + 600, cleared_at=START + lost + 2)
    assert (lasting.suspect, lasting.failing, lasting.late_at) == (True, False, START + lost + 600)
    owners = seen(lost_at(lost), *OVER, now=lost + 602, cleared_at=START + lost + 601)
    assert (owners.suspect, owners.failing, owners.counts, owners.looks_again) == (False, False, False, None)


def test_what_starts_on_another_node_is_lost_as_long_as_none_of_ours_has_crashed() -> None:
    starting = seen(lost_at(400), *OVER, now=403, uncrashed_at=START + 402)
    assert (starting.suspect, starting.holds_slot) == (False, False)
    lasting = seen(lost_at(400), *OVER, now=1000, uncrashed_at=START + 1000)
    assert lasting.suspect, "it has had its time to start"


def test_what_was_scaled_up_from_none_is_watched_like_a_first_start() -> None:
    """It proved nothing without Pods, and its first ones may come long after the step."""
    up = a_workload(record=B, status=(2, 2, 0), conditions=conditions(updated=100, available="False", changed=9_000))
    assert seen(up, *OVER, now=9_001, cleared_at=START + 9_001).looks_again == START + 9_600
    assert seen(up, *OVER, now=9_600, cleared_at=START + 9_001).suspect


def lost_at(changed: float) -> Workload:
    """One that was complete at 100, and is not available since *changed*."""
    return a_workload(
        record=B, status=(2, 2, 0), conditions=conditions(updated=100, available="False", changed=changed)
    )


def test_a_new_one_is_busy_with_nothing_but_another_policys_own_rollout() -> None:
    workload = a_workload(record=None, status=(2, 2, 0), conditions=conditions("ReplicaSetUpdated", available="False"))
    first = a_replica_set(1, None, 2)

    def is_busy(until: float) -> bool:
        return target(WEB, "web-b", workload, [first], None, rollout=ROLLOUT, now=START, busy_until=until).busy

    assert kind.observe(workload, [first], WEB, now=START, patience=600, soak=30).new
    assert not is_busy(0.0)
    assert is_busy(START + 10)
    assert is_busy(START - 10), "it has not soaked, and goes on"


def test_a_restored_one_is_busy_with_another_policys_rollout_that_came_with_it() -> None:
    """Its one ReplicaSet has what both had there, so nothing tells whose its first rollout is."""
    rolling = conditions("ReplicaSetUpdated", available="False")
    workload, first = a_workload(record=A, status=(2, 2, 0), conditions=rolling), a_replica_set(1, A, 2)

    def is_busy(until: float) -> bool:
        return target(WEB, "web-b", workload, [first], None, rollout=ROLLOUT, now=START, busy_until=until).busy

    assert is_busy(START - 10), "it has not soaked, and goes on"
    assert not is_busy(0.0), "an edit half-way goes on"
    up = a_workload(record=A)
    assert not target(WEB, "web-b", up, [first], None, rollout=ROLLOUT, now=START, busy_until=START - 10).busy


@pytest.mark.parametrize(
    ("what", "history", "down_since"),
    [
        ("restored with it, by its owner", [(1, B, 2)], 100),
        ("Recreate: it went down with our step", [(1, A, 0), (2, B, 2)], 100),
        ("unhealthy before, and no old Pods are left", [(1, A, 0), (2, B, 2)], 1),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_has_never_come_up_since_our_step_proves_nothing_whoever_changes_it(
    what: str, history: list[tuple[int, str | None, int]], down_since: float
) -> None:
    children = [a_replica_set(number, borne, replicas, created=100) for number, borne, replicas in history]
    failed = conditions("ProgressDeadlineExceeded", available="False", changed=down_since, updated=700)
    told: dict[str, Any] = {"record": B, "status": (2, 2, 0), "conditions": failed}
    touched = seen(a_workload(**told, generation=3, observed=2), *children, now=9000)
    assert (touched.state, touched.evidence, touched.late_since) == (State.FAILED, False, START + 100)
    again = a_replica_set(len(history) + 1, B, 2, created=8990)
    rolling = conditions("ReplicaSetUpdated", available="False", changed=down_since, updated=8990)
    moved = [replace(each, replicas=0) for each in children]
    changed = seen(a_workload(record=B, status=(2, 2, 0), conditions=rolling), *moved, again, now=9000)
    assert (changed.state, changed.evidence, changed.busy) == (State.FAILED, False, True)
    up = conditions(available="True", changed=9010, updated=9010)
    assert seen(a_workload(record=B, conditions=up), *moved, again, now=9050).state is State.UPDATED


@pytest.mark.parametrize(
    ("what", "down_since", "history"),
    [
        ("it went down after it had come up", 103, [(1, A, 0, 0), (2, B, 0, 100), (3, B, 2, 8990)]),
        ("the ReplicaSet of our step is forgotten", 800, [(11, B, 0, 900), (12, B, 2, 8990)]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_may_have_come_up_since_our_step_is_its_owners_once_they_change_it(
    what: str, down_since: float, history: list[tuple[int, str | None, int, float]]
) -> None:
    children = [a_replica_set(number, borne, replicas, created=created) for number, borne, replicas, created in history]
    rolling = conditions("ReplicaSetUpdated", available="False", changed=down_since, updated=8990)
    found = seen(a_workload(record=B, status=(2, 2, 0), conditions=rolling), *children, now=9000)
    assert (found.state, found.holds_slot, found.busy) == (State.UPDATED, False, True)


def test_a_rollout_without_a_deadline_is_waited_for_as_long_as_the_policy_waits() -> None:
    workload = a_workload(record=None, status=(2, 2, 0), conditions=[a_condition("Available", "False")])
    first = a_replica_set(1, None, 2, created=0)
    assert facts(workload, [first], now=599).moving
    assert facts(workload, [first], now=599).gives_up == START + 600
    assert not facts(workload, [first], now=601).moving


def test_the_owners_rollout_makes_a_target_busy_and_holds_no_slot() -> None:
    history = [a_replica_set(1, A, 1), a_replica_set(2, A, 1)]
    owners = seen(a_workload(record=A, status=(3, 1, 2), conditions=ROLLING), *history)
    assert (owners.state, owners.busy, owners.holds_slot) == (State.PENDING, True, False)
    given_up = a_workload(record=A, status=(3, 1, 2), conditions=conditions("ProgressDeadlineExceeded"))
    assert not seen(given_up, *history).busy


def test_what_was_rolled_out_stays_evidence_while_another_changes_the_workload() -> None:
    history = [a_replica_set(1, A, 0), a_replica_set(2, B, 2)]
    unseen = seen(a_workload(record=B, generation=3, observed=2), *history, now=900)
    rolling = a_workload(record=B, generation=3, status=(3, 1, 2), conditions=ROLLING)
    for found in (unseen, seen(rolling, *history, a_replica_set(3, B, 1), now=900)):
        assert (found.state, found.evidence, found.holds_slot, found.busy) == (State.UPDATED, True, False, True)


@pytest.mark.parametrize(("now", "over"), [(55, False), (9000, True)])
def test_what_its_owner_stripped_in_our_rollout_is_in_flight_when_it_is_put_back(now: float, *, over: bool) -> None:
    """Its ReplicaSet of before is taken up again: that has the record by then, and was made long before our step."""
    record = a_record("web-b", note=Note(stepped=START + 10))
    history = a_replica_set(2, record, 1, created=20), a_replica_set(3, record, 1, created=-3600)
    rolling = a_workload(
        record=record, generation=4, observed=3, status=(2, 1, 1), conditions=[a_condition("Available", "True")]
    )
    found = seen(rolling, *history, now=now)
    assert (found.holds_slot, found.evidence) == (not over, over)


def test_a_workload_is_left_until_another_policy_is_done_with_it() -> None:
    history = [a_replica_set(1, None, 0), a_replica_set(2, A, 2)]
    found = target(
        WEB, "web-b", a_workload(record=A), history, None, rollout=ROLLOUT, now=START + 900, busy_until=START + 930
    )
    assert (found.state, found.busy, found.looks_again) == (State.PENDING, True, START + 930)


def test_what_joined_takes_no_slot_proves_nothing_and_is_left_to_its_own_first_rollout() -> None:
    joined = a_record("web-a", joined=True)
    first = seen(
        a_workload(record=joined, status=(3, 1, 0), conditions=conditions("ReplicaSetUpdated", available="False")),
        a_replica_set(1, None, 1),
        a_replica_set(2, joined, 1),
        now=5000,
    )
    assert (first.state, first.holds_slot, first.busy) == (State.PROGRESSING, False, True)


@pytest.mark.parametrize(
    ("what", "history"),
    [
        ("a new Deployment is scaled", [(1, "web-b", 2)]),
        ("a new Deployment is changed", [(1, "web-b", 0), (2, "web-b", 2)]),
        ("what came with its owner's change is changed again", [(1, "web-a", 0), (2, "web-b", 0), (3, "web-b", 2)]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("observed", [2, 3])
def test_what_joined_and_has_never_come_up_is_not_updated_by_its_owners_next_change(
    what: str, history: list[tuple[int, str, int]], observed: int
) -> None:
    records = {"web-a": A, "web-b": a_record("web-b", joined=True)}
    rolling = a_workload(
        record=records["web-b"],
        generation=3,
        observed=observed,
        status=(2, 2, 0),
        conditions=conditions("ReplicaSetUpdated", available="False", updated=900),
    )
    replica_sets = [a_replica_set(number, records[borne], replicas, created=0) for number, borne, replicas in history]
    found = seen(rolling, *replica_sets, now=1000)
    assert (found.state, found.evidence, found.holds_slot, found.suspect) == (State.PROGRESSING, False, False, False)
    late = seen(rolling, *replica_sets, now=1500)
    assert late.suspect == (observed == 3), "it has time anew, as every rollout of its owner's"


def test_what_came_with_its_owners_change_proves_something_when_it_has_soaked() -> None:
    """All of its Pods were down anyway, so it went outside of the budget; that opens none to the others at once."""
    joined = a_record("web-b", joined=True)
    history = a_replica_set(1, A, 0), a_replica_set(2, joined, 2)
    early, soaked = (seen(a_workload(record=joined), *history, now=now) for now in (5, 30))
    assert (early.holds_slot, early.evidence, early.looks_again) == (False, False, START + 30)
    assert (soaked.state, soaked.evidence) == (State.UPDATED, True)
    crashing = a_workload(record=joined, conditions=conditions(available="False", changed=8))
    assert not seen(crashing, *history, now=100).evidence


def test_a_workload_without_replicas_holds_nothing_and_proves_nothing() -> None:
    empty = seen(a_workload(record=B, replicas=0, status=(0, 0, 0)), a_replica_set(1, A, 0), a_replica_set(2, B, 0))
    assert (empty.state, empty.holds_slot, empty.evidence, empty.health) == (State.UPDATED, False, False, "empty")


def test_one_that_was_created_paused_is_as_one_without_replicas_until_it_is_resumed() -> None:
    pending = seen(a_workload(**PAUSED), now=10_000)
    assert (pending.state, pending.new, pending.busy, pending.health) == (State.PENDING, True, False, "empty")
    paused = seen(a_workload(record=B, **PAUSED), now=10_000)
    assert (paused.state, paused.holds_slot, paused.evidence) == (State.UPDATED, False, False)
    begun = seen(a_workload(record=B, **PAUSED), a_replica_set(1, None, 2), now=10_000)
    assert (begun.state, begun.holds_slot) == (State.PROGRESSING, False), "it was paused in its first rollout"
    resumed = a_workload(record=B, status=(2, 2, 0), conditions=conditions("ReplicaSetUpdated", available="False"))
    first = seen(resumed, a_replica_set(1, B, 2))
    assert (first.state, first.holds_slot, first.new) == (State.PROGRESSING, True, True)


def test_a_removal_holds_its_slot_until_it_has_soaked() -> None:
    rolling = a_workload(status=(3, 1, 2), conditions=ROLLING)
    going = seen(rolling, a_replica_set(1, A, 2), a_replica_set(2, None, 1), update=None)
    assert (going.state, going.holds_slot, going.revision) == (State.PROGRESSING, True, None)
    history = a_replica_set(1, A, 0), a_replica_set(2, None, 2)
    soaking, gone = (seen(a_workload(), *history, update=None, now=now) for now in (29, 30))
    assert (soaking.holds_slot, soaking.looks_again) == (True, START + 30)
    assert not gone.holds_slot


def test_a_removal_is_proven_where_its_pods_have_been_watched_to_the_end() -> None:
    rolling = a_workload(status=(3, 1, 2), conditions=ROLLING)
    going = seen(rolling, a_replica_set(1, A, 2), a_replica_set(2, None, 1))
    history = a_replica_set(1, A, 0), a_replica_set(2, None, 2)
    assert [proves_removal(going, seen(a_workload(), *history, now=now)) for now in (29, 30)] == [False, True]
    empty = a_workload(replicas=0, status=(0, 0, 0))
    assert not proves_removal(going, seen(empty, a_replica_set(1, A, 0), a_replica_set(2, None, 0))), "scaled to none"
    refused = backing_off(rolling, a_replica_set(1, A, 2), a_replica_set(2, None, 1))
    assert refused.holds_slot and not proves_removal(going, refused), "of another policy, or of what its owner wants"
    soaking = seen(a_workload(), *history, now=5)
    hotfixed = a_workload(generation=2, status=(3, 1, 2), conditions=conditions("ReplicaSetUpdated", updated=6))
    owners = seen(hotfixed, *history, a_replica_set(3, None, 1, created=6), now=7)
    assert not proves_removal(soaking, owners), "its owner's change came into the soak"
    brought_back = in_conflict(seen(a_workload(), *history, now=30), FieldConflict(by="'x'", what="y", times=3))
    assert not proves_removal(going, brought_back)


def test_a_change_of_the_record_alone_is_no_rollout() -> None:
    """Adopting writes only the record: the controller copies it to the newest ReplicaSet and rolls nothing."""
    adopted = seen(a_workload(record=B), a_replica_set(1, None, 0), a_replica_set(2, B, 2), now=40)
    assert (adopted.state, adopted.holds_slot) == (State.UPDATED, False)


def test_a_hotfix_in_the_soak_ends_neither_the_soak_nor_the_slot() -> None:
    """Whoever looks, and whatever was seen before: the record says when our step was written."""
    ours = a_record("web-b", note=Note(stepped=START + 90))
    soaking = seen(a_workload(record=ours, conditions=conditions(updated=100)), *soaked_with(ours), now=110)
    assert (soaking.holds_slot, soaking.evidence) == (True, False)
    hotfixed = a_workload(record=ours, status=(3, 1, 2), conditions=conditions("ReplicaSetUpdated", updated=112))
    rolling = seen(hotfixed, *soaked_with(ours), a_replica_set(3, ours, 1, created=112), now=113)
    assert (rolling.holds_slot, rolling.evidence, rolling.state) == (True, False, State.PROGRESSING)
    over = a_workload(record=ours, conditions=conditions(updated=150))
    history = [*soaked_with(ours), a_replica_set(3, ours, 2, created=112)]
    assert [seen(over, *history, now=now).holds_slot for now in (151, 179, 180)] == [True, True, False]


@pytest.mark.parametrize("replicas", [2, 5, 1])
def test_what_is_scaled_or_annotated_after_the_soak_stays_updated_while_its_controller_has_not_seen_it(
    replicas: int,
) -> None:
    ours = a_record("web-b", note=Note(stepped=START + 90))
    ahead, changed = (
        a_workload(
            record=ours,
            generation=3,
            observed=2,
            replicas=replicas,
            status=(2, 2, 2),
            conditions=conditions(updated=100),
            metadata={"annotations": {REVISION_ANNOTATION: told}},
        )
        for told in ("1", "2")
    )
    over = seen(changed, *soaked_with(ours), now=131)
    assert (over.state, over.holds_slot, over.evidence, over.busy) == (State.UPDATED, False, True, True)
    soaking = seen(changed, *soaked_with(ours), now=129)
    assert (soaking.state, soaking.holds_slot, soaking.evidence) == (State.PROGRESSING, True, False)
    put_back = seen(changed, *soaked_with(ours)[:1], a_replica_set(3, A, 0, created=130), now=131)
    assert (put_back.state, put_back.holds_slot, put_back.evidence) == (State.PROGRESSING, True, False)
    late = seen(ahead, *soaked_with(ours), now=131)
    assert (late.state, late.holds_slot, late.evidence) == (State.PROGRESSING, True, False), (
        "that is of before our step"
    )


def test_a_hotfix_long_after_our_step_is_the_owners() -> None:
    ours = a_record("web-b", note=Note(stepped=START + 90))
    rolling = a_workload(record=ours, status=(3, 1, 2), conditions=conditions("ReplicaSetUpdated", updated=800))
    found = seen(rolling, *soaked_with(ours), a_replica_set(3, ours, 1, created=720), now=800)
    assert (found.holds_slot, found.evidence, found.busy) == (False, True, True)


def test_a_hotfix_that_fails_is_the_owners() -> None:
    ours = a_record("web-b", note=Note(stepped=START + 90))
    stuck = a_workload(record=ours, status=(3, 1, 2), conditions=conditions("ReplicaSetUpdated", updated=112))
    history = [*soaked_with(ours), a_replica_set(3, ours, 1, created=112)]
    before, late = (seen(stuck, *history, now=now) for now in (711, 712))
    assert (before.holds_slot, before.looks_again) == (True, START + 712)
    assert (late.holds_slot, late.suspect) == (True, True), "the Pods tell whether a container of ours is to blame"
    cleared = seen(stuck, *history, now=713, cleared_at=START + 712)
    assert (cleared.holds_slot, cleared.failing, cleared.counts) == (False, False, False)
    assert (cleared.state, cleared.evidence) == (State.UPDATED, False)


def test_a_hotfix_that_crashes_frees_no_slot_before_its_pods_have_been_looked_at() -> None:
    """It was up for a moment, and may have been down since because of our container."""
    ours = a_record("web-b", note=Note(stepped=START + 90))
    down = a_workload(record=ours, conditions=conditions(updated=112, available="False", changed=115))
    history = [*soaked_with(ours), a_replica_set(3, ours, 2, created=112)]
    late = seen(down, *history, now=712)
    assert (late.holds_slot, late.evidence, late.suspect) == (True, False, True)
    cleared = seen(down, *history, now=713, cleared_at=START + 712)
    assert (cleared.holds_slot, cleared.evidence, cleared.failing) == (False, False, False)


def soaked_with(ours: str) -> list[Child]:
    """The ReplicaSets of our rollout from A, after the old Pods have gone."""
    return [a_replica_set(1, A, 0, created=0), a_replica_set(2, ours, 2, created=91)]


# A write that failed.

NO = Backoff(until=START + 600, message="image not allowed", rejected=True)


def backing_off(workload: Workload, *replica_sets: Child, backoff: Backoff = NO, now: float = 100) -> Target:
    """Where the workload stands after a write that failed."""
    return target(WEB, "web-b", workload, replica_sets, None, rollout=ROLLOUT, now=START + now, backoff=backoff)


def test_what_the_server_refuses_has_failed_and_is_not_counted() -> None:
    refused = backing_off(a_workload(record=A), a_replica_set(1, A, 2))
    assert (refused.state, refused.reason, refused.message) == (State.FAILED, "Refused", "image not allowed")
    assert (refused.holds_slot, refused.counts, refused.failing) == (False, False, False)
    assert (refused.looks_again, refused.not_before) == (START + 600, START + 600)


def test_a_refusal_ends_with_its_time() -> None:
    assert backing_off(a_workload(record=A), a_replica_set(1, A, 2), now=600).state is State.PENDING


def test_an_error_that_passes_leaves_a_target_pending_and_says_why() -> None:
    waiting = backing_off(a_workload(record=A), a_replica_set(1, A, 2), backoff=replace(NO, rejected=False))
    assert (waiting.state, waiting.reason, waiting.message) == (State.PENDING, "", "image not allowed")
    assert waiting.looks_again == START + 600


def test_a_refusal_takes_no_slot_from_a_rollout_and_excuses_no_failure() -> None:
    """The bad revision of a failed rollout stays where the way back is refused."""
    stuck = a_workload(record=B, status=(3, 1, 2), conditions=conditions("ReplicaSetUpdated", updated=100))
    rolling = backing_off(stuck, *UNDER_WAY, now=200)
    assert (rolling.state, rolling.holds_slot) == (State.PROGRESSING, True)
    failed = backing_off(stuck, *UNDER_WAY, backoff=replace(NO, until=START + 900), now=700)
    assert (failed.state, failed.failing, failed.counts, failed.holds_slot) == (State.FAILED, True, True, True)
    assert failed.reason == "ProgressDeadlineExceeded"
