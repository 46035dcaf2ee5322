"""What a Deployment really looks like: strategies, conditions that are not there, Rollouts that drive it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sidecarpolicy import names
from sidecarpolicy.core.argo_rollouts import Driven, driven_from
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.kinds import deployment as kind
from sidecarpolicy.core.policy import Rollout
from sidecarpolicy.core.progress import Health, State, Target, target
from sidecarpolicy.core.record import Note
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Child, Workload
from tests.core.objects import START, WEB, a_condition, a_record, a_replica_set, a_status_writer, a_workload

LOG = PolicyId(kind=names.POLICY, namespace="shop", name="log")
A = a_record("web-a")
B = a_record("web-b", note=Note(stepped=START + 10))
ROLLOUT = Rollout(progress_deadline_seconds=600, min_ready_seconds=30)
NO_DEADLINE = 2147483647


def seen(workload: Workload, *children: Child, now: float, rollout: Rollout = ROLLOUT) -> Target:
    """Where the workload stands, *now* seconds after START."""
    return target(WEB, "web-b", workload, children, None, rollout=rollout, now=START + now)


def quiet(
    available: str = "True", *, since: float = 0, changed: float | None = None, record: str | None = B, **fields: Any
) -> Workload:
    """A Deployment without the condition Progressing.

    *available*, and *since* when; *changed*: when its controller changed its status last. In seconds after START.
    """
    metadata = {"managedFields": [a_status_writer(changed)]} if changed is not None else {}
    conditions = [a_condition("Available", available, changed=since)]
    fields = {"progressDeadlineSeconds": NO_DEADLINE, "conditions": conditions, "metadata": metadata, **fields}
    return a_workload(record=record, **fields)


# Strategies.

SURGE_0 = {"maxSurge": 0}


@pytest.mark.parametrize(
    ("strategy", "replicas", "down"),
    [
        ({}, 1, False),
        ({"rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}}, 1, False),
        ({"rollingUpdate": {"maxUnavailable": 1}}, 1, True),
        ({"rollingUpdate": {"maxUnavailable": 1}}, 2, False),
        ({"rollingUpdate": {"maxUnavailable": 3}}, 3, True),
        ({"rollingUpdate": {"maxUnavailable": "25%", **SURGE_0}}, 1, True),
        ({"rollingUpdate": {"maxUnavailable": "25%", **SURGE_0}}, 2, False),
        ({"rollingUpdate": {"maxUnavailable": "99%"}}, 2, False),
        ({"rollingUpdate": {"maxUnavailable": "100%"}}, 7, True),
        ({"rollingUpdate": {"maxUnavailable": 1}}, 0, False),
        ({"type": "Recreate"}, 2, True),
    ],
)
def test_what_takes_all_pods_down(strategy: Json, replicas: int, down: bool) -> None:
    assert bool(kind.takes_down({"strategy": strategy, "replicas": replicas})) is down


# An Argo Rollout.


def test_a_rollout_drives_what_it_refers_to() -> None:
    body: Json = {
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
    }
    assert driven_from(body) == Driven(workload=WorkloadId("shop", "web"), by="Rollout cart")
    assert driven_from({**body, "spec": {"template": {}}}) is None


def test_who_scales_for_a_rollout_shows_among_the_field_managers() -> None:
    def managed(manager: str, field: str) -> Workload:
        entry = {"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {field: {}}}}
        return a_workload(metadata={"managedFields": [entry]})

    assert managed("rollouts-controller", "f:replicas").driven_by == "an Argo Rollout"
    assert managed("rollouts-controller", "f:paused").driven_by == ""
    assert managed("kubectl", "f:replicas").driven_by == ""


# progressDeadlineSeconds 2147483647: no condition Progressing.

ROLLING = [a_replica_set(1, A, 2, created=0, changed=12), a_replica_set(2, B, 1, created=11, changed=13)]
OVER = [a_replica_set(1, A, 0, created=0, changed=60), a_replica_set(2, B, 2, created=11, changed=60)]


def test_without_the_condition_the_policys_own_deadline_holds() -> None:
    stuck = quiet(status=(3, 1, 2), changed=13)
    before, late = (seen(stuck, *ROLLING, now=now) for now in (612, 613))
    assert (before.state, before.looks_again) == (State.PROGRESSING, START + 613)
    assert (late.state, late.counts, late.late_since) == (State.FAILED, True, START + 13)


def test_without_the_condition_it_soaks_from_when_the_last_old_pod_went() -> None:
    found = [seen(quiet(changed=60), *OVER, now=now) for now in (61, 89, 90)]
    assert [each.holds_slot for each in found] == [True, True, False]
    assert [each.evidence for each in found] == [False, False, True]


@pytest.mark.parametrize(
    ("what", "workload"),
    [
        ("a scale-up that is still available", quiet(status=(5, 5, 4), replicas=5, changed=2000)),
        ("a scale-up", quiet("False", since=2000, status=(5, 5, 2), replicas=5, changed=2000)),
        ("a node lost", quiet("False", since=2000, status=(2, 2, 0), changed=2000)),
        ("one Pod lost", quiet(status=(2, 2, 1), changed=2000)),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_without_the_condition_complete_is_complete(what: str, workload: Workload) -> None:
    for now in (2001, 9000):
        found = seen(workload, *OVER, now=now)
        assert (found.state, found.holds_slot, found.evidence) == (State.UPDATED, False, True)


def test_without_the_condition_a_workload_that_comes_up_for_a_moment_fails() -> None:
    crashing = quiet("False", since=70, status=(2, 2, 0), changed=70)
    assert seen(crashing, *OVER, now=300).state is State.PROGRESSING
    failed = seen(crashing, *OVER, now=660)
    assert (failed.state, failed.counts, failed.evidence) == (State.FAILED, True, False)


def test_without_the_condition_one_that_was_lost_later_than_its_soak_may_have_been_lost_in_it() -> None:
    """It may have been complete only shortly before: its Pods tell. What was lost later than that is no rollout."""
    lost = [seen(quiet("False", since=since, status=(2, 2, 0), changed=since), *OVER, now=661) for since in (120, 660)]
    assert [(each.state, each.suspect) for each in lost] == [(State.PROGRESSING, True), (State.UPDATED, False)]
    late = seen(quiet("False", since=120, status=(2, 2, 0), changed=120), *OVER, now=720)
    assert (late.state, late.suspect, late.late_at) == (State.PROGRESSING, True, START + 720)


def test_without_the_condition_a_recreated_workload_that_never_comes_up_fails() -> None:
    history = [a_replica_set(1, A, 0, created=0, changed=15), a_replica_set(2, B, 2, created=16, changed=17)]
    broken = quiet("False", since=11, status=(2, 2, 0), changed=17)
    found = [seen(broken, *history, now=now) for now in (616, 617)]
    assert [each.state for each in found] == [State.PROGRESSING, State.FAILED]


def test_a_step_that_lies_in_the_future_is_not_believed() -> None:
    wrong = a_record("web-b", note=Note(stepped=START + 99999))
    history = [OVER[0], a_replica_set(2, wrong, 2, created=11, changed=60)]
    assert seen(quiet(changed=60, record=wrong), *history, now=90).state is State.UPDATED


def test_without_any_time_nothing_is_said_to_have_failed() -> None:
    bare = quiet(status=(3, 1, 2), record=a_record("web-b"))
    assert seen(bare, a_replica_set(1, A, 2), a_replica_set(2, a_record("web-b"), 1), now=9000).state is (
        State.PROGRESSING
    )


# The Deployment's own minReadySeconds.


def test_its_own_waiting_is_added_to_the_deadline() -> None:
    rolling = [
        a_condition("Available", "True"),
        a_condition("Progressing", "True", "ReplicaSetUpdated", updated=100),
    ]
    waiting = a_workload(record=B, status=(3, 1, 2), conditions=rolling, minReadySeconds=900)
    found = [seen(waiting, *ROLLING, now=now) for now in (700, 1599, 1600)]
    assert [each.state for each in found] == [State.PROGRESSING, State.PROGRESSING, State.FAILED]


# What was broken before we came.


def fresh(*, created: float = 0, deadline: int = 600, **fields: Any) -> Workload:
    """A Deployment that has never been available, made *created* seconds after START."""
    conditions = [a_condition("Available", "False", changed=created)]
    if deadline != NO_DEADLINE:
        conditions.append(a_condition("Progressing", "True", "ReplicaSetUpdated", updated=created))
    metadata = {"creationTimestamp": "2026-01-01T00:00:00Z"}
    return a_workload(
        status=(2, 2, 0), conditions=conditions, metadata=metadata, progressDeadlineSeconds=deadline, **fields
    )


@pytest.mark.parametrize(("deadline", "until"), [(600, 605), (60, 65), (NO_DEADLINE, 605)])
def test_new_ends_with_the_time_that_a_first_rollout_may_take(deadline: int, until: int) -> None:
    workload, children = fresh(deadline=deadline, minReadySeconds=5), a_replica_set(1, created=0)
    before, after = (seen(workload, children, now=now) for now in (until - 1, until))
    assert (before.new, before.looks_again) == (True, START + until)
    assert (after.new, after.health, after.available_before) == (False, Health.UNHEALTHY, False)


def test_a_failure_where_nothing_was_well_before_is_the_owners_unless_ours_is_to_blame() -> None:
    sick = a_record("web-b", note=Note(stepped=START + 10, unhealthy_before=True))
    rolling = [a_condition("Available", "False"), a_condition("Progressing", "True", "ReplicaSetUpdated", updated=20)]
    found = seen(a_workload(record=sick, status=(3, 1, 0), conditions=rolling), *ROLLING, now=700)
    assert (found.state, found.available_before, found.is_its_owners, found.counts) == (
        State.FAILED,
        False,
        True,
        False,
    )
    assert replace(found, blamed=True).counts


# A template that cannot make Pods.

FORBIDDEN = a_condition("ReplicaFailure", "True", "FailedCreate", changed=5)


def refused(condition: Json, number: int) -> list[Child]:
    """The ReplicaSets of our rollout, of which that *number* cannot make Pods."""
    return [
        a_replica_set(1, A, 2, created=0, conditions=[condition] if number == 1 else []),
        a_replica_set(2, B, 0, created=11, conditions=[condition] if number == 2 else []),
    ]


def starting(*more: Json) -> Workload:
    """A Deployment whose rollout has just begun."""
    told = [a_condition("Available"), a_condition("Progressing", "True", "ReplicaSetUpdated", updated=11), *more]
    return a_workload(record=B, status=(2, 0, 2), conditions=told)


def test_a_template_that_cannot_make_pods_has_failed_after_a_minute_since_the_step() -> None:
    found = [seen(starting(), *refused(FORBIDDEN, 2), now=now) for now in (12, 70, 71)]
    assert [each.state for each in found] == [State.PROGRESSING, State.PROGRESSING, State.FAILED]


def test_the_old_templates_trouble_is_no_failure_of_the_new_one() -> None:
    """Nor the Deployment's condition, which Kubernetes does not renew."""
    found = seen(starting(FORBIDDEN), *refused(FORBIDDEN, 1), now=300)
    assert found.state is State.PROGRESSING


# A controller that goes on telling of the template before.


def recreated(
    available: str, changed: float, *, ready: int, told: float, record: str | None = B, complete: float = 6
) -> Workload:
    """A Deployment of one replica with Recreate; its controller calls the template of second *complete* complete."""
    strategy = {"type": "Recreate"}
    conditions = [
        a_condition("Available", available, changed=changed),
        a_condition("Progressing", "True", "NewReplicaSetAvailable", updated=complete),
    ]
    metadata = {"managedFields": [a_status_writer(told)]}
    return a_workload(
        record=record, status=(1, 1, ready), replicas=1, conditions=conditions, metadata=metadata, strategy=strategy
    )


@pytest.mark.parametrize("created", [10, 2], ids=["made", "taken up again"])
def test_recreate_is_not_complete_before_it_is_up_whatever_the_condition_says(created: float) -> None:
    """Where the write of the condition met a conflict, or an old ReplicaSet is taken up, it stays as it was."""
    children = [a_replica_set(2, A, 0, created=0), a_replica_set(3, B, 1, created=created)]
    down = recreated("False", 10, ready=0, told=11)
    found = [seen(down, *children, now=now) for now in (12, 610, 611)]
    assert [each.state for each in found] == [State.PROGRESSING, State.PROGRESSING, State.FAILED]
    assert (found[0].holds_slot, found[0].evidence, found[2].failing) == (True, False, True)


@pytest.mark.parametrize("created", [10, 2], ids=["made", "taken up again"])
def test_recreate_that_is_up_is_watched_from_then_on_and_then_complete_for_good(created: float) -> None:
    """Whenever the condition is of: it may be days older than the step where a ReplicaSet is taken up again."""
    children = [a_replica_set(2, A, 0, created=0, changed=10), a_replica_set(3, B, 1, created=created)]
    for days_older in (0, 86_400):
        up = recreated("True", 40, ready=1, told=40, complete=6 - days_older)
        found = [seen(up, *children, now=now) for now in (41, 69, 70)]
        assert [each.state for each in found] == [State.PROGRESSING, State.PROGRESSING, State.UPDATED]
        lost = recreated("False", 5000, ready=0, told=5000, complete=6 - days_older)
        assert seen(lost, *children, now=9000).state is State.UPDATED


def test_a_removal_that_takes_up_the_replica_set_of_before_the_injection_waits_until_it_is_up() -> None:
    """There is no step in the record any more, and the condition is of the template that was taken out."""
    children = [a_replica_set(2, A, 0, created=5, changed=1010), a_replica_set(3, None, 1, created=0)]

    def gone(*fields: Any, now: float, **more: Any) -> Target:
        return target(
            WEB, "web-a", recreated(*fields, record=None, **more), children, None, rollout=ROLLOUT, now=START + now
        )

    down = [gone("False", 1010, ready=0, told=1011, now=now) for now in (1012, 1610, 1611)]
    assert [(each.holds_slot, each.taken_out) for each in down] == [(True, False)] * 3
    assert [each.failing for each in down] == [False, False, True]
    up = [gone("True", 1040, ready=1, told=1040, now=now) for now in (1069, 1070)]
    assert [(each.holds_slot, each.taken_out) for each in up] == [(True, False), (False, True)]
    lost = gone("False", 5000, ready=0, told=5000, now=9000)
    assert (lost.holds_slot, lost.failing) == (False, False), "once complete is complete"


@pytest.mark.parametrize("created", [20, 2], ids=["made", "taken up again"])
def test_recreate_is_not_complete_before_it_is_up_however_late_its_controller_begins(created: float) -> None:
    children = [a_replica_set(2, A, 0, created=3, changed=20), a_replica_set(3, B, 1, created=created)]
    found = [seen(recreated("False", 21, ready=0, told=21), *children, now=now) for now in (22, 620, 621)]
    assert [each.state for each in found] == [State.PROGRESSING, State.PROGRESSING, State.FAILED]


@pytest.mark.parametrize("created", [20, 2], ids=["made", "taken up again"])
def test_a_deployment_is_busy_for_another_policy_until_the_others_step_or_removal_is_up(created: float) -> None:
    both = a_record("log-a", LOG, note=Note(stepped=START - 9000))
    children = [a_replica_set(2, both, 0, created=3, changed=20), a_replica_set(3, both, 1, created=created)]

    def busy(workload: Workload, *, now: float) -> bool:
        return target(LOG, "log-b", workload, children, None, rollout=ROLLOUT, now=START + now).busy

    assert busy(recreated("False", 20, ready=0, told=21, record=both), now=300)
    assert not busy(recreated("True", 40, ready=1, told=40, record=both), now=300)
    assert not busy(recreated("False", 5000, ready=0, told=5000, record=both), now=5001)


def all_at_once(ready: int, *, grace: int, complete: float) -> Workload:
    """A Deployment of three replicas whose Pods may all go at once, so that it always counts as available."""
    strategy = {"rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}}
    conditions = [
        a_condition("Available", "True", changed=1),
        a_condition("Progressing", "True", "NewReplicaSetAvailable", updated=complete),
    ]
    return a_workload(
        status=(3, 3, ready),
        replicas=3,
        strategy=strategy,
        conditions=conditions,
        pod={"containers": [{"name": "app"}], "terminationGracePeriodSeconds": grace},
    )


def test_a_removal_of_what_may_all_go_at_once_waits_for_its_pods_and_not_for_the_end_of_the_old_ones() -> None:
    children = [a_replica_set(2, A, 0, created=5, changed=1040), a_replica_set(3, None, 3, created=0)]

    def gone(*fields: Any, **more: Any) -> Target:
        return target(WEB, "web-a", all_at_once(*fields, **more), children, None, rollout=ROLLOUT, now=START + 5000)

    assert gone(0, grace=30, complete=900).under_way
    assert not gone(3, grace=30, complete=900).under_way
    assert not gone(2, grace=30, complete=1015).under_way, "a Pod that is lost long after it was complete"


def test_where_no_pod_has_to_be_available_the_numbers_tell_whether_it_is_up() -> None:
    """All may go at once (maxUnavailable 100%), so the condition Available is always true."""
    children = [a_replica_set(4, A, 0, created=2, changed=11), a_replica_set(5, B, 3, created=0)]
    all_at_once = {"strategy": {"rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 0}}, "replicas": 3}
    conditions = [
        a_condition("Available", "True", changed=1),
        a_condition("Progressing", "True", "NewReplicaSetAvailable", updated=6),
    ]
    metadata = {"managedFields": [a_status_writer(11)]}
    fields: dict[str, Any] = {"record": B, "conditions": conditions, "metadata": metadata, **all_at_once}
    found = [seen(a_workload(status=(3, 3, 0), **fields), *children, now=now) for now in (12, 610, 611)]
    assert [each.state for each in found] == [State.PROGRESSING, State.PROGRESSING, State.FAILED]
    assert seen(a_workload(status=(3, 3, 3), **fields), *children, now=60).state is State.UPDATED
    same = [
        a_replica_set(4, A, 0, created=0, changed=1),
        a_replica_set(5, B, 3, created=2),
    ]  # a step of the record alone
    assert seen(a_workload(status=(3, 3, 2), **fields), *same, now=5000).state is State.UPDATED


def test_what_is_scaled_up_right_after_our_step_was_complete_without_pods() -> None:
    """The condition is of the very second of the step: that of this template, which had nothing to wait for."""
    step = a_record("web-b", note=Note(stepped=START + 6))
    children = [a_replica_set(4, A, 0, created=0), a_replica_set(5, step, 1, created=6)]
    facts = kind.observe(
        recreated("False", 7, ready=0, told=7, record=step), children, WEB, now=START + 8, patience=600, soak=30
    )
    assert facts.arrived


# A ReplicaSet that is not seen.


def told_of(number: int, record: str | None, **fields: Any) -> Workload:
    """A Deployment that is complete, and whose newest ReplicaSet has that *number*."""
    metadata = {"annotations": {kind.REVISION_ANNOTATION: str(number)}}
    return a_workload(record=record, metadata=metadata, **fields)


def test_while_the_newest_replica_set_is_not_seen_a_removal_holds_its_slot_and_is_not_late() -> None:
    """The injection was not seen either: nothing that is seen tells that it was there."""
    children = [a_replica_set(1, None, 2, created=0)]
    found = seen(told_of(3, None), *children, now=9000)
    assert (found.state, found.holds_slot, found.failing, found.taken_out) == (State.PENDING, True, False, False)
    assert not seen(told_of(1, None), *children, now=9000).holds_slot


def test_while_the_newest_replica_set_is_not_seen_a_deployment_is_busy_and_nothing_that_was_complete_fails() -> None:
    other = a_record("log-a", LOG, note=Note(stepped=START - 9000))
    children = [a_replica_set(1, None, 0, created=-9999), a_replica_set(2, other, 2, created=-9000)]
    for number, busy in ((3, True), (2, False)):
        found = target(LOG, "log-a", told_of(number, other), children, None, rollout=ROLLOUT, now=START + 9000)
        assert (found.state, found.busy, found.failing) == (State.UPDATED, busy, False)


def test_a_step_of_which_no_replica_set_is_seen_fails_after_its_deadline_all_the_same() -> None:
    conditions = [a_condition("Available"), a_condition("Progressing", "True", "ReplicaSetUpdated", updated=20)]
    stuck = told_of(2, B, status=(3, 1, 2), conditions=conditions)
    found = [seen(stuck, a_replica_set(1, None, 2, created=0), now=now) for now in (619, 620)]
    assert [each.state for each in found] == [State.PROGRESSING, State.FAILED]
