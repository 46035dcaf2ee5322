"""What a policy's status says: each row of the table, exact counts, nothing over the bounds of the CRD."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecarpolicy import names
from sidecarpolicy.core.field_conflicts import FieldConflict
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.namespace_backoff import NamespaceBackoff
from sidecarpolicy.core.plan import RolloutState, plan
from sidecarpolicy.core.policy import CanaryGroup, Rollout
from sidecarpolicy.core.progress import Backoff, State, Target, in_conflict
from sidecarpolicy.core.record import Note
from sidecarpolicy.core.report import Rejection, Report, WaitingFor, Warned, other_finalizers
from sidecarpolicy.core.revision import Halt
from sidecarpolicy.core.selection import EVERYTHING
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.core.status import status_of
from sidecarpolicy.core.text_limits import cause, shortened
from sidecarpolicy.core.times import micro_timestamp, timestamp
from sidecarpolicy.core.tree import Json
from sidecarpolicy.names import (
    Approval,
    OnFailure,
    Reason,
    Removal,
    SkipReason,
    Strategy,
    WarningReason,
)
from tests.core.fleets import Everything, a_fleet
from tests.core.objects import START, WEB

CRD = Path(__file__).parent.parent.parent / "crds/sidecarpolicies.yaml"
NOW = START + 3600


def a_target(state: State, number: int = 1, **changes: Any) -> Target:
    """One target in *state*."""
    by_state: dict[State, Json] = {
        State.SKIPPED: {"skip": Skip(reason=SkipReason.OPTED_OUT, message="it has the label")},
        State.PENDING: {"revision": "web-a"},
        State.PROGRESSING: {"revision": "web-b", "holds_slot": True},
        State.UPDATED: {"revision": "web-b", "evidence": True, "available": True},
        State.FAILED: {
            "revision": "web-b",
            "holds_slot": True,
            "failing": True,
            "late_since": START + number,
            "reason": "ProgressDeadlineExceeded",
            "message": "stuck",
        },
    }
    fields = {"workload": WorkloadId(namespace="shop", name=f"cart-{number:02}"), **by_state[state], **changes}
    return Target(state=state, **fields)


def a_report(targets: list[Target] | None = None, **changes: Any) -> Report:
    """A report about *targets* and those *removing*; other *changes* are of the rollout or of the report."""
    fields: Json = {
        "rollout": Rollout(),
        "update": "web-b",
        "current": "web-a",
        "now": NOW,
        "stored": Everything(),
    } | {key: changes.pop(key) for key in list(changes) if key in RolloutState.__dataclass_fields__}
    state = RolloutState(policy=WEB, **fields)
    fleet = a_fleet(state.update, targets or (), changes.pop("removing", ()))
    return Report(generation=3, state=state, fleet=fleet, plan=plan(state, fleet), **changes)


def conditions(status: Json) -> dict[str, str]:
    """Status and reason of each condition."""
    return {each["type"]: f"{each['status']} {each['reason']}" for each in status["conditions"]}


def ready_of(status: Json) -> Json:
    """Its condition Ready."""
    (found,) = (each for each in status["conditions"] if each["type"] == "Ready")
    return dict(found)


S, P, G, U, F = State.SKIPPED, State.PENDING, State.PROGRESSING, State.UPDATED, State.FAILED
PAUSED = Rollout(paused=True)
# One failure is within what the author allows.
ONE = Rollout(max_failures=1)
HALTING = Rollout(on_failure=OnFailure.HALT)
LEFT = Rollout(max_failures=1, on_failure=OnFailure.HALT)


def of(*states: State, first: int = 1) -> list[Target]:
    """Targets in these states, numbered from *first*."""
    return [a_target(state, number) for number, state in enumerate(states, start=first)]


def fought(number: int, **changes: Any) -> Target:
    """A target that another writer keeps undoing."""
    conflict = FieldConflict(by="'helm'", what="init container 'proxy'", times=3, until=NOW + 600, waits=True)
    return in_conflict(a_target(State.UPDATED, number, **changes), conflict)


def rolled_back(number: int, **changes: Any) -> Target:
    """A failed one that is back at what it had before."""
    fields: Json = {"failing": False, "rolled_back": True, "holds_slot": False, "late_since": None, "message": ""}
    return a_target(State.FAILED, number, **(fields | {"revision": "web-a", "reason": ""} | changes))


REMOVING = [a_target(U, 90)]
# One that still has what is to be removed.
LEAVING = [a_target(U, 90, recorded=True)]

ROWS: list[tuple[str, Json, dict[str, str]]] = [
    (
        "refused",
        {"targets": of(U), "rejection": Rejection(reason=Reason.INVALID, message="no")},
        {"Accepted": "False Invalid", "Ready": "False Invalid", "Stalled": "True Invalid"},
    ),
    (
        "refused for a cycle, also while it is being deleted",
        {"targets": of(U), "deleting": True, "rejection": Rejection(reason=Reason.ORDER_CYCLE, message="no")},
        {"Accepted": "False OrderCycle", "Ready": "False OrderCycle", "Stalled": "True OrderCycle"},
    ),
    (
        "being deleted",
        {"removing": of(U, U), "deleting": True},
        {"Accepted": "True Accepted", "Ready": "Unknown Removing", "Reconciling": "True Removing"},
    ),
    (
        "the cluster is too old",
        {"targets": of(P), "rejection": Rejection(reason=Reason.UNSUPPORTED_CLUSTER, message="old")},
        {"Accepted": "True Accepted", "Ready": "False UnsupportedCluster", "Stalled": "True UnsupportedCluster"},
    ),
    ("nothing selected", {}, {"Accepted": "True Accepted", "Ready": "True NoTargets"}),
    (
        "nothing selected, and what would be injected could not be checked yet",
        {"problem": "no answer"},
        {
            "Accepted": "Unknown AcceptanceFailed",
            "Ready": "Unknown AcceptanceFailed",
            "Reconciling": "True AcceptanceFailed",
        },
    ),
    (
        "it could not be accepted yet, and is being deleted",
        {"targets": of(U), "problem": "no answer", "deleting": True},
        {"Accepted": "True Accepted", "Ready": "Unknown Removing", "Reconciling": "True Removing"},
    ),
    (
        "nothing selected but something to remove",
        {"removing": REMOVING},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "everything is skipped",
        {"targets": of(S, S)},
        {"Accepted": "True Accepted", "Ready": "False AllSkipped", "Stalled": "True AllSkipped"},
    ),
    (
        "nothing moves any more",
        {"targets": of(F, P, P), "rollout": LEFT},
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "nothing moves any more and it is paused",
        {"targets": of(F, P, P), "rollout": replace(LEFT, paused=True)},
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "a failed one holds the slot that a removal waits for",
        {"targets": of(F, U), "removing": REMOVING, "rollout": LEFT},
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "a removal that is stuck frees its slot",
        {"targets": of(U), "removing": [a_target(F, revision=None), *REMOVING]},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "nothing is left but a removal that is stuck",
        {"targets": of(U), "removing": [a_target(F, revision=None)]},
        {"Accepted": "True Accepted", "Ready": "False CompletedWithFailures", "Stalled": "True CompletedWithFailures"},
    ),
    (
        "one that is skipped makes no progress and holds the slot",
        {"targets": [*of(P), a_target(S, 2, holds_slot=True, late_since=START)]},
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "one failed, others go on",
        {"targets": of(F, G, P), "rollout": replace(ONE, max_concurrent=2), "tried": True},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "done but for the failed",
        {"targets": of(F, U), "rollout": ONE},
        {"Accepted": "True Accepted", "Ready": "False CompletedWithFailures", "Stalled": "True CompletedWithFailures"},
    ),
    (
        "done but for the failed and what is being removed",
        {"targets": of(F, U), "removing": [a_target(G, 90, revision=None)], "rollout": ONE},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "one failed and the others are spared",
        {"targets": of(F, P, P)},
        {"Accepted": "True Accepted", "Ready": "False RolledBack", "Stalled": "True RolledBack"},
    ),
    (
        "one failed and stays for inspection",
        {"targets": of(F, P, P), "rollout": HALTING},
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "more failed than are allowed, also while it is paused",
        {"targets": of(F, F, P), "rollout": replace(ONE, paused=True)},
        {"Accepted": "True Accepted", "Ready": "False RolledBack", "Stalled": "True RolledBack"},
    ),
    (
        "more failed than are allowed, and nothing is left to do",
        {"targets": of(F, F, U), "rollout": ONE},
        {"Accepted": "True Accepted", "Ready": "False RolledBack", "Stalled": "True RolledBack"},
    ),
    (
        "halted, and the failed one is back at what it had",
        {"targets": [*of(P), rolled_back(2)], "halted": True},
        {"Accepted": "True Accepted", "Ready": "False RolledBack", "Stalled": "True RolledBack"},
    ),
    (
        "halted, and the failed one has been deleted since",
        {"targets": of(P, U), "halted": True},
        {"Accepted": "True Accepted", "Ready": "False RolledBack", "Stalled": "True RolledBack"},
    ),
    (
        "halted, and everything is updated",
        {"targets": of(U), "halted": True, "rollout": HALTING},
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "halted, and it is being deleted",
        {"targets": of(F, P), "halted": True, "deleting": True},
        {"Accepted": "True Accepted", "Ready": "Unknown Removing", "Reconciling": "True Removing"},
    ),
    (
        "one was rolled back and others go on",
        {"targets": [rolled_back(1), *of(P, P)], "rollout": ONE},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "done but for one that was rolled back",
        {"targets": [*of(U), rolled_back(2)], "rollout": ONE},
        {
            "Accepted": "True Accepted",
            "Ready": "False CompletedWithFailures",
            "Stalled": "True CompletedWithFailures",
        },
    ),
    (
        "those that were unhealthy before do not count",
        {"targets": [a_target(F, 1, note=Note(unhealthy_before=True)), *of(P)], "tried": True},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "those whose namespace is to blame do not count",
        {"targets": [rolled_back(1, not_counted=True), *of(G, P)]},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "one that failed at an earlier revision does not count",
        {"targets": [a_target(F, 1, revision="web-0", outdated=True), *of(P)]},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "one that failed at an earlier revision waits while the first one fails, within what is allowed",
        {
            "targets": [a_target(F, 1, holds_slot=True), a_target(F, 2, revision="web-0", outdated=True)],
            "rollout": LEFT,
        },
        {"Accepted": "True Accepted", "Ready": "False RolloutHalted", "Stalled": "True RolloutHalted"},
    ),
    (
        "one that failed at an earlier revision gets the newest with its owner's next change",
        {
            "targets": [a_target(F, 1, revision="web-0", outdated=True), *of(U, first=2)],
            "rollout": Rollout(strategy=Strategy.ON_NEXT_CHANGE),
        },
        {"Accepted": "True Accepted", "Ready": "Unknown AwaitingOwners"},
    ),
    (
        "done but for one that another writer keeps undoing",
        {"targets": [*of(U), fought(2)]},
        {"Accepted": "True Accepted", "Ready": "False FieldConflict", "Stalled": "True FieldConflict"},
    ),
    (
        "done but for one that another writer undoes and one that failed",
        {"targets": [*of(F), fought(2)], "rollout": ONE},
        {"Accepted": "True Accepted", "Ready": "False FieldConflict", "Stalled": "True FieldConflict"},
    ),
    (
        "another writer keeps undoing one, and others go on",
        {"targets": [*of(G, P), fought(2)]},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "another writer keeps undoing one, and others failed",
        {"targets": [*of(F, U), fought(2)]},
        {"Accepted": "True Accepted", "Ready": "False RolledBack", "Stalled": "True RolledBack"},
    ),
    (
        "another writer keeps bringing back what is removed",
        {"targets": of(U), "removing": [fought(90)]},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    ("done", {"targets": of(U, S)}, {"Accepted": "True Accepted", "Ready": "True RolloutComplete"}),
    (
        "done, and paused",
        {"targets": of(U), "rollout": PAUSED},
        {"Accepted": "True Accepted", "Ready": "True RolloutComplete"},
    ),
    (
        "paused",
        {"targets": of(U, P), "rollout": PAUSED},
        {"Accepted": "True Accepted", "Ready": "Unknown Paused"},
    ),
    (
        "waiting for the owners' next changes",
        {"targets": of(U, P), "rollout": Rollout(strategy=Strategy.ON_NEXT_CHANGE)},
        {"Accepted": "True Accepted", "Ready": "Unknown AwaitingOwners"},
    ),
    (
        "an owner's change brings it, and others wait for theirs",
        {"targets": of(G, P), "rollout": Rollout(strategy=Strategy.ON_NEXT_CHANGE)},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "paused with something to remove",
        {"targets": of(U), "removing": REMOVING, "rollout": PAUSED},
        {"Accepted": "True Accepted", "Ready": "Unknown Paused"},
    ),
    (
        "rolling out",
        {"targets": of(U, G, P, P)},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
    (
        "done but something is being removed",
        {"targets": of(U), "removing": REMOVING},
        {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"},
    ),
]


OTHER = PolicyId(kind=WEB.kind, namespace="shop", name="other")
# Two that wait until another policy is taken out of them.
WAITING = [a_target(P, number, revision=None, waits_for=frozenset({OTHER})) for number in (1, 2)]


def waits(held: str = "") -> list[WaitingFor]:
    """What they wait for."""
    return [WaitingFor(policy=OTHER, workloads=WAITING, held=held)]


def test_who_waits_for_another_policy_to_be_taken_out_is_not_ready_and_says_so() -> None:
    status = status_of(a_report([*WAITING, a_target(U, 3)], waiting_for=waits()), {}, NOW)
    expected = {"Accepted": "True Accepted", "Ready": "Unknown RollingOut", "Reconciling": "True RollingOut"}
    assert conditions(status) == expected
    assert (status["targets"]["pending"], status["targets"]["skipped"]) == (2, 0)
    assert ready_of(status)["message"] == (
        "1 of 3 workloads run web-b; 2 waiting; shop/cart-01 (and 1 more) wait until the sidecars of SidecarPolicy "
        "shop/other are taken out"
    )


def test_who_waits_for_a_removal_that_is_held_says_why_and_is_not_reconciling() -> None:
    held = "set the annotation sidecars.dev/approve: removal@2 on SidecarPolicy shop/other to go on with its removal"
    status = status_of(a_report(WAITING, waiting_for=waits(held)), {}, NOW)
    assert conditions(status) == {"Accepted": "True Accepted", "Ready": "Unknown RemovalHeld"}
    assert ready_of(status)["message"].startswith(f"{held}; 0 of 2 workloads run web-b; 2 waiting; ")
    assert status["awaiting"] == [], "it is asked of the other policy"
    moving = status_of(a_report([*WAITING, a_target(G, 3)], waiting_for=waits(held)), {}, NOW)
    assert conditions(moving)["Ready"] == "Unknown RollingOut"
    assert f"; {held}" in ready_of(moving)["message"]


def test_a_rollout_is_complete_without_those_that_wait_for_another_policy() -> None:
    state = {"rollout": Rollout(), "update": "web-b", "current": "web-a"}
    assert a_report([*WAITING, a_target(U, 3)], **state).plan.completes
    assert not a_report([*of(P), a_target(U, 3)], **state).plan.completes
    assert not a_report(WAITING, **state).plan.completes, "nothing has proven it"


@pytest.mark.parametrize(("row", "report", "expected"), ROWS, ids=[row for row, _, _ in ROWS])
def test_the_row_of_the_table_that_applies(row: str, report: Json, expected: dict[str, str]) -> None:
    status = status_of(a_report(**report), {}, NOW)
    assert conditions(status) == expected
    assert status["observedGeneration"] == 3


def test_the_sentence_has_every_number() -> None:
    targets = of(*[U] * 34, *[G] * 3, *[P] * 80, *[S] * 3)
    (ready,) = (each for each in status_of(a_report(targets), {}, NOW)["conditions"] if each["type"] == "Ready")
    assert ready["message"] == "34 of 117 workloads run web-b; 3 in progress, 80 waiting, 3 skipped"


def test_where_owners_bring_it_none_is_said_to_go_first() -> None:
    report = a_report(of(G, P), rollout=Rollout(strategy=Strategy.ON_NEXT_CHANGE))
    message = ready_of(status_of(report, {}, NOW))["message"]
    assert message.endswith("; those waiting get it with their owner's next change of the Pod template")
    assert "one goes first" not in message


def test_the_sentence_of_a_conflict_says_where_who_what_and_when_next() -> None:
    report = a_report([*of(State.UPDATED), fought(2), fought(3)])
    assert ready_of(status_of(report, {}, NOW))["message"] == (
        "1 of 3 workloads run web-b; 2 failed; shop/cart-02 (and 1 more): 'helm' keeps undoing init container "
        "'proxy', 3 times so far; next attempt at 2026-01-01T01:10:00Z"
    )


def test_a_conflict_over_a_removal_is_told_too() -> None:
    report = a_report(of(State.UPDATED), removing=[fought(90)])
    assert "; shop/cart-90: 'helm' keeps undoing" in ready_of(status_of(report, {}, NOW))["message"]


def test_a_conflict_over_a_lost_record_is_told_with_the_revision_that_is_wanted() -> None:
    (failure,) = status_of(a_report([fought(1, revision=None)]), {}, NOW)["failures"]
    assert (failure["revision"], failure["reason"], failure["since"]) == ("web-b", "FieldConflict", timestamp(NOW))


def test_the_sentence_of_a_halt_says_who_since_when_and_what_to_do() -> None:
    held = status_of(a_report(of(F, P), rollout=LEFT), {}, NOW)
    assert ready_of(held)["message"] == (
        "all rollout slots are taken by failed workloads: fix them or edit the policy; 0 of 2 workloads run web-b; "
        "1 waiting, 1 failed; shop/cart-01 made no progress since 2026-01-01T00:00:01Z (progressDeadlineSeconds: 600): "
        "stuck"
    )


def test_the_sentence_of_too_many_failures_says_who_why_and_what_to_do() -> None:
    back = status_of(a_report(of(F, P), attempt="web-b#1"), {}, NOW)
    assert ready_of(back)["message"] == (
        "edit what the policy injects, or set the annotation sidecars.dev/resume: web-b#1 to try again; 0 of 2 "
        "workloads run web-b; 1 waiting, 1 failed; shop/cart-01 failed: stuck; rolled back (maxFailures: 0)"
    )
    left = status_of(a_report(of(F, F, F), attempt="web-b#2", rollout=replace(LEFT, max_failures=2)), {}, NOW)
    assert ready_of(left)["message"] == (
        "edit what the policy injects, or set the annotation sidecars.dev/resume: web-b#2 to try again; 0 of 3 "
        "workloads run web-b; 3 failed; shop/cart-01 (and 2 more) failed: stuck; left for inspection (maxFailures: 2)"
    )


def test_the_sentence_of_a_halt_outlives_the_one_that_failed() -> None:
    (gone, silent) = (
        ready_of(status_of(a_report(targets, halted=True, attempt="web-b#1"), {}, NOW))["message"]
        for targets in (of(P), [*of(P), rolled_back(2)])
    )
    assert "what failed has gone, recovered or been skipped since; rolled back" in gone
    assert "shop/cart-02 failed: the cause cannot be seen any more; rolled back" in silent
    left = status_of(a_report(of(P), halted=True, attempt="web-b#1", rollout=HALTING), {}, NOW)
    assert ready_of(left)["message"].endswith("what failed has gone, recovered or been skipped since (maxFailures: 0)")


def test_a_halt_says_that_a_higher_limit_ends_none() -> None:
    """A limit is no part of a revision; whoever raised it and reads on is told when it counts."""
    raised = a_report([*of(P), rolled_back(2)], halted=True, attempt="web-b#1", rollout=ONE)
    assert ready_of(status_of(raised, {}, NOW))["message"].endswith(
        "rolled back (maxFailures: 1, which counts from when it is tried again)"
    )


def test_a_failure_that_does_not_count_is_not_the_one_to_tell_about() -> None:
    sick = a_target(F, 1, note=Note(unhealthy_before=True), message="its own trouble")
    assert (
        "shop/cart-02 (and 1 more) failed: stuck"
        in ready_of(status_of(a_report([sick, *of(P, F)[1:]]), {}, NOW))["message"]
    )


def test_what_was_told_of_a_failure_is_told_again_once_it_is_rolled_back() -> None:
    first = status_of(a_report(of(F)), {}, NOW)
    assert first["failures"][0]["reason"] == "ProgressDeadlineExceeded"
    assert status_of(a_report([rolled_back(1)], halted=True), first, NOW + 60)["failures"] == first["failures"]


def test_a_failure_of_which_nothing_was_told_has_a_reason_all_the_same() -> None:
    assert status_of(a_report([rolled_back(1)], halted=True), {}, NOW)["failures"] == [
        {
            "namespace": "shop",
            "name": "cart-01",
            "revision": "web-b",
            "reason": "Failed",
            "message": "the cause cannot be seen any more",
            "since": timestamp(NOW),
        }
    ]


@pytest.mark.parametrize(
    ("count", "begin"), [(1, "the selected workload is skipped: "), (2, "all 2 selected workloads are skipped: ")]
)
def test_the_sentence_of_one_that_is_skipped_is_about_one(count: int, begin: str) -> None:
    status = status_of(a_report(of(*[S] * count)), {}, NOW)
    assert status["conditions"][1]["message"].startswith(f"{begin}OptedOut ({count}): shop/cart-01: it has the label")


def test_the_sentence_of_a_removal_that_is_stuck_says_where() -> None:
    status = status_of(a_report(removing=of(F, U), deleting=True), {}, NOW)
    assert status["conditions"][1]["message"] == (
        "the policy is being deleted; 2 workloads still carry its sidecars; shop/cart-01 made no progress since "
        "2026-01-01T00:00:01Z (progressDeadlineSeconds: 600): stuck"
    )


def test_a_policy_that_somebody_else_holds_says_who() -> None:
    assert other_finalizers(["b.example/y", names.FINALIZER]) == ()
    held = a_report(deleting=True, other_finalizers=other_finalizers(["b.example/y", "a.example/x"]))
    assert status_of(held, {}, NOW)["conditions"][1]["message"] == (
        "the policy is being deleted; its sidecars are gone, and it is held by the finalizer a.example/x "
        "and b.example/y"
    )


def test_a_deleted_policy_that_orphans_its_sidecars_takes_none_out() -> None:
    flying = a_target(F, 1, revision=None, failing=False, late_since=None, message="")
    orphaning: Json = {"deleting": True, "orphaning": True}
    rolls = status_of(a_report(removing=[flying], **orphaning), {}, NOW)
    assert "its sidecars are left to their owners, and 1 workload still rolls out" in ready_of(rolls)["message"]
    held = status_of(a_report(other_finalizers=("a.example/x",), **orphaning), {}, NOW)
    assert "are left to their owners, and it is held by the finalizer a.example/x" in ready_of(held)["message"]


def test_a_selector_that_selects_everything_is_mentioned() -> None:
    status = status_of(a_report(of(U, U), selects_everything=True), {}, NOW)
    assert status["conditions"][1]["message"].startswith("the empty selector selects 2 workloads; 2 of 2")


def test_revisions_are_named_where_there_are_any() -> None:
    status = status_of(a_report(of(U)), {}, NOW)
    assert (status["currentRevision"], status["updateRevision"]) == ("web-a", "web-b")
    assert not status_of(a_report(current=None, update=None), {}, NOW).keys() & {"currentRevision", "updateRevision"}


STATES = st.lists(st.sampled_from(State), max_size=40)


@given(STATES, STATES, st.booleans())
def test_counts_add_up_whatever_happens(states: list[State], leaving: list[State], paused: bool) -> None:
    report = a_report(
        of(*states), removing=of(*leaving, first=50), rollout=Rollout(paused=paused, strategy=Strategy.PROGRESSIVE)
    )
    counts = status_of(report, {}, NOW)["targets"]
    assert counts["matched"] == len(states) == sum(counts[state.value] for state in State)
    assert counts["removing"] == len(leaving)
    assert counts["available"] == states.count(U)


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = status_of(a_report(of(U, P)), {}, NOW)
    second = status_of(a_report(of(U, G)), first, NOW + 60)
    third = status_of(a_report(of(U, U)), second, NOW + 120)
    times = [
        {each["type"]: each["lastTransitionTime"] for each in status["conditions"]} for status in (first, second, third)
    ]
    assert times[0] == times[1]
    assert times[2] == {"Accepted": timestamp(NOW), "Ready": timestamp(NOW + 120)}


def test_the_same_report_gives_the_same_status() -> None:
    targets = of(U, G, P, F, S)
    first = status_of(a_report(targets), {}, NOW)
    assert status_of(a_report(targets[::-1]), first, NOW + 999) == first


def test_a_status_fills_what_the_schema_defaults_to() -> None:
    assert status_of(a_report(of(U)), {"observedGeneration": -1}, NOW)["conditions"][0][
        "lastTransitionTime"
    ] == timestamp(NOW)


# Bounds.


def over(value: Any, schema: Json, path: str = "status") -> list[str]:
    """What of *value* the schema does not allow."""
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: {value!r}")
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        found += [f"{path}.{key}: unknown" for key in value.keys() - properties.keys()]
        found += [f"{path}.{key}: missing" for key in set(schema.get("required", [])) - value.keys()]
        for key in value.keys() & properties.keys():
            found += over(value[key], properties[key], f"{path}.{key}")
    elif isinstance(value, list):
        found += [f"{path}: {len(value)} items"] if len(value) > schema.get("maxItems", 0) else []
        for index, each in enumerate(value):
            found += over(each, schema["items"], f"{path}[{index}]")
    elif isinstance(value, str):
        fits = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 1024)
        found += [] if fits else [f"{path}: {len(value)} characters"]
    return found


def test_nothing_is_over_the_bounds_of_the_crd() -> None:
    schema = yaml.safe_load(CRD.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    long = "x" * 5000
    targets = [
        *(
            a_target(F, number, message=long, workload=WorkloadId(namespace="n" * 63, name=f"{number:03}" + "d" * 250))
            for number in range(50)
        ),
        *(
            a_target(S, 100 + number, skip=Skip(reason=reason, message=long))
            for number, reason in enumerate([each for each in SkipReason for _ in range(5)])
        ),
    ]
    warnings = [
        Warned(reason=reason, message=long, where=f"shop/cart-{n}") for reason in WarningReason for n in range(20)
    ]
    status = status_of(a_report(targets, warnings=warnings), {}, NOW)
    assert over(status, schema) == []
    assert len(status["failures"]) == 10
    assert len(status["warnings"]) == min(20, len(WarningReason))
    assert len(status["skipped"]) == len(SkipReason)
    assert all(len(each["examples"]) == 3 and each["count"] == 5 for each in status["skipped"])
    listed = [*status["failures"], *status["warnings"], *status["skipped"], *status["conditions"]]
    assert all(len(each["message"]) <= 1024 for each in listed)
    rejected = a_report(of(U), rejection=Rejection(reason=Reason.INVALID, message=long))
    assert over(status_of(rejected, {}, NOW), schema) == []


def test_the_newest_failures_come_first() -> None:
    failures = status_of(a_report(of(*[F] * 12)), {}, NOW)["failures"]
    assert [each["name"] for each in failures[:2]] == ["cart-12", "cart-11"]
    assert failures[0] == {
        "namespace": "shop",
        "name": "cart-12",
        "revision": "web-b",
        "reason": "ProgressDeadlineExceeded",
        "message": "stuck",
        "since": "2026-01-01T00:00:12Z",
    }


def test_skips_are_counted_by_reason_with_an_example() -> None:
    other = a_target(S, 9, skip=Skip(reason=SkipReason.CONTROLLED, message="controlled by Shop/cart"))
    assert status_of(a_report([*of(S, S, U), other]), {}, NOW)["skipped"] == [
        {
            "reason": "Controlled",
            "count": 1,
            "examples": ["shop/cart-09"],
            "message": "shop/cart-09: controlled by Shop/cart",
        },
        {
            "reason": "OptedOut",
            "count": 2,
            "examples": ["shop/cart-01", "shop/cart-02"],
            "message": "shop/cart-01: it has the label",
        },
    ]


def test_equal_warnings_of_one_place_are_one() -> None:
    kept = Warned(reason=WarningReason.ENV_KEPT, message="kept", where="shop/b")
    other = Warned(reason=WarningReason.ENV_KEPT, message="kept", where="shop/a")
    status = status_of(a_report(of(U), warnings=[kept, kept, other]), {}, NOW)
    assert status["warnings"] == [{"reason": "EnvKept", "count": 2, "message": "shop/a: kept"}]


def test_times_are_written_as_kubernetes_writes_them() -> None:
    assert timestamp(START + 0.9) == "2026-01-01T00:00:00Z"
    assert micro_timestamp(START + 0.25) == "2026-01-01T00:00:00.250000Z"


def test_a_long_text_ends_in_an_ellipsis() -> None:
    assert shortened("x" * 1024) == "x" * 1024
    assert shortened("x" * 1025) == "x" * 1023 + "…"


# What others say hides nothing.

LOUD = "panic: \x1b[31mout of memory\x1b[0m\n\n\tgoroutine 1 [running]:\r\n" + "main.main()\u2028" * 400


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        (
            {"attempt": "web-b#1"},
            "edit what the policy injects, or set the annotation sidecars.dev/resume: web-b#1 to try again; ",
        ),
        ({"rollout": LEFT}, "all rollout slots are taken by failed workloads: fix them or edit the policy; "),
        (
            {"rollout": Rollout(removal=Removal.MANUAL), "deleting": True, "generation": 7, "removing": LEAVING},
            "set the annotation sidecars.dev/approve: removal@7 to go on with the removal; ",
        ),
    ],
    ids=["halted", "no slot left", "removal held"],
)
def test_what_to_do_comes_first_whatever_a_container_says(changes: Json, begins: str) -> None:
    ready = ready_of(status_of(a_report([a_target(F, 1, message=LOUD), *of(P, first=2)], **changes), {}, NOW))
    assert ready["message"].startswith(begins)
    assert "panic: [31mout of memory [0m goroutine 1 [running]: main.main() main.main()" in ready["message"]
    assert ready["message"].isprintable()
    assert len(ready["message"]) < 700, "one cause does not fill the message"


def test_every_text_of_a_status_is_one_line() -> None:
    skipped = a_target(S, 3, skip=Skip(reason=SkipReason.CONTROLLED, message=LOUD))
    warned = Warned(reason=WarningReason.MUTATED, message=LOUD)
    status = status_of(a_report([a_target(F, 1, message=LOUD), *of(P, first=2), skipped], warnings=[warned]), {}, NOW)
    texts = [each["message"] for listed in ("conditions", "failures", "skipped", "warnings") for each in status[listed]]
    assert len(texts) == 6
    assert [each for each in texts if not each.isprintable() or len(each) > 1024] == []


# Values for programs


def test_a_halt_has_a_field_with_the_value_that_ends_it() -> None:
    assert "halt" not in status_of(a_report(of(P, U)), {}, NOW)
    first = status_of(a_report(of(F, P), attempt="web-b#1"), {}, NOW)
    assert first["halt"] == {"id": "web-b#1", "since": timestamp(NOW)}
    later = a_report([*of(P), rolled_back(2)], halted=True, attempt="web-b#1")
    assert status_of(later, first, NOW + 60)["halt"] == first["halt"]
    written = Halt(id="web-b#1", reason="stuck", since="2026-01-01T00:30:00Z")
    assert status_of(replace(later, halt=written), first, NOW)["halt"] == {
        "id": "web-b#1",
        "since": "2026-01-01T00:30:00Z",
    }
    assert "halt" not in status_of(a_report(of(P), halted=True, deleting=True), {}, NOW)


MANUAL = Rollout(removal=Removal.MANUAL)
STAGED = Rollout(canary=(CanaryGroup(name="eu", most=1, approval=Approval.MANUAL),))


@pytest.mark.parametrize(
    ("changes", "awaited"),
    [
        ({"targets": of(U, P)}, []),
        ({"targets": of(U, P), "rollout": STAGED}, ["canary/eu@web-b"]),
        ({"targets": of(G, P), "rollout": STAGED}, []),
        ({"targets": of(F, P), "rollout": STAGED, "halted": True}, []),
        ({"targets": of(U, P), "rollout": replace(STAGED, paused=True)}, []),
        ({"targets": of(U, P), "rollout": STAGED, "stopped": True}, []),
        ({"targets": of(U, P), "rollout": STAGED, "rejection": Rejection(reason=Reason.INVALID, message="no")}, []),
        ({"targets": of(U), "removing": LEAVING, "rollout": MANUAL}, ["removal@3"]),
        (
            {"targets": of(U, P), "removing": LEAVING, "rollout": replace(STAGED, removal=Removal.MANUAL)},
            ["canary/eu@web-b", "removal@3"],
        ),
        ({"removing": LEAVING, "rollout": MANUAL, "deleting": True, "update": None}, ["removal@3"]),
        ({"removing": LEAVING, "rollout": MANUAL, "deleting": True, "approved": frozenset({"removal@3"})}, []),
    ],
)
def test_approvals_that_are_asked_for_have_a_field(changes: Json, awaited: list[str]) -> None:
    status = status_of(a_report(changes.pop("targets", []), **{"generation": 3} | changes), {}, NOW)
    assert status["awaiting"] == awaited
    message = ready_of(status)["message"]
    assert f"{names.APPROVE}: {awaited[0]} to go on" in message if awaited else names.APPROVE not in message


# What is in the way


def refused(number: int) -> Target:
    """A target whose change the API server refuses."""
    says = 'admission webhook "images.example" denied the request'
    fields: Json = {"revision": None, "holds_slot": False, "failing": False, "late_since": None, "not_counted": True}
    return a_target(F, number, reason=names.REFUSED, message=says, **fields)


def test_what_the_api_server_refuses_is_a_failure() -> None:
    status = status_of(a_report([*of(U), *map(refused, (2, 3, 4, 5))]), {}, NOW)
    assert conditions(status) == {
        "Accepted": "True Accepted",
        "Ready": "False CompletedWithFailures",
        "Stalled": "True CompletedWithFailures",
    }
    assert ready_of(status)["message"] == (
        "1 of 5 workloads run web-b; 4 failed; shop/cart-02 (and 3 more) cannot be changed: "
        'admission webhook "images.example" denied the request'
    )
    assert {each["reason"] for each in status["failures"]} == {"Refused"}


def test_a_write_that_is_tried_again_is_told() -> None:
    trouble = "patch deployments.apps shop/cart-02: no answer within 20 s"
    backoff = Backoff(until=NOW + 5, message=trouble, rejected=False)
    waiting = [a_target(P, number, message=trouble, backoff=backoff) for number in (2, 3)]
    assert ready_of(status_of(a_report([*of(U), *waiting]), {}, NOW))["message"] == (
        f"1 of 3 workloads run web-b; 2 waiting; trying again: shop/cart-02 (and 1 more): {trouble}"
    )
    late = a_report([*of(U), a_target(G, 2, message="ReplicaSet is progressing.", late_since=START, suspect=True)])
    assert "trying again" not in ready_of(status_of(late, {}, NOW))["message"], "nothing was written in vain there"
    leaving = a_report(removing=[a_target(P, 1, message=trouble, backoff=backoff)], deleting=True)
    assert ready_of(status_of(leaving, {}, NOW))["message"].endswith(f"; trying again: shop/cart-01: {trouble}")


def test_a_generation_that_cannot_be_accepted_yet_is_not_ready() -> None:
    problem = "create controllerrevisions.apps shop/sidepol-web-c: exceeded quota: objects"
    status = status_of(a_report(of(U, U), problem=problem), {}, NOW)
    assert conditions(status) == {
        "Accepted": "Unknown AcceptanceFailed",
        "Ready": "Unknown AcceptanceFailed",
        "Reconciling": "True AcceptanceFailed",
    }
    assert status["observedGeneration"] == 3
    assert ready_of(status)["message"] == (
        f"generation 3 cannot be accepted yet, and is tried again: {problem}; 2 of 2 workloads run web-b"
    )
    assert status["targets"]["updated"] == 2
    nothing = ready_of(status_of(a_report(of(P), update=None, current=None, problem=problem), {}, NOW))
    assert nothing["message"].endswith("; no accepted revision yet; 1 waiting")


def test_a_deletion_is_held_while_the_spec_cannot_be_read() -> None:
    unreadable = Rejection(reason=Reason.INVALID, message="spec.sidecars: must be a list", unreadable=True)
    status = status_of(a_report(deleting=True, removing=LEAVING, rejection=unreadable), {}, NOW)
    assert conditions(status) == {"Accepted": "False Invalid", "Ready": "Unknown RemovalHeld"}
    assert ready_of(status)["message"] == (
        "fix the spec to go on with the removal, or take the finalizer sidecars.dev/removal off to leave the sidecars "
        "where they are; nothing is removed while the spec cannot be read: spec.sidecars: must be a list"
    )


def test_those_that_were_not_available_before_are_told() -> None:
    sick = [a_target(F, number, note=Note(unhealthy_before=True)) for number in (2, 3)]
    well = a_target(U, 4, note=Note(unhealthy_before=True))
    message = ready_of(status_of(a_report([*of(U), *sick, well]), {}, NOW))["message"]
    assert message.startswith("2 of 4 workloads run web-b; 2 failed; 2 were not available before; ")


def test_those_that_their_owners_changed_meanwhile_are_told_and_do_not_count() -> None:
    amended = a_target(F, 2, failing=True, amended=True, theirs=True)
    assert not amended.counts
    assert a_target(F, 2, failing=True, amended=True).counts, "no node can run the Pod, say: it may be ours"
    assert a_target(F, 2, failing=True, amended=True, blamed=True).counts
    message = ready_of(status_of(a_report([*of(U), amended]), {}, NOW))["message"]
    assert message.startswith("1 of 2 workloads run web-b; 1 failed; 1 was changed by the owner meanwhile; ")


def test_a_way_back_that_is_gone_is_said_so() -> None:
    lost = a_target(F, 1, note=Note(previous="web-0"))
    told: Json = {"targets": [lost, *of(P, first=2)], "attempt": "web-b#1", "halted": True}
    report = a_report(**told, stored=frozenset({"web-a", "web-b"}))
    assert ready_of(status_of(report, {}, NOW))["message"].endswith(
        "failed: stuck; shop/cart-01 cannot be rolled back: revision web-0 is not stored any more (maxFailures: 0)"
    )
    kept = a_report(**told, stored=frozenset({"web-0", "web-b"}))
    assert "not stored" not in ready_of(status_of(kept, {}, NOW))["message"]


def test_a_deadline_that_does_not_apply_yet_is_not_named() -> None:
    """A ReplicaSet that can make no Pods has failed after a minute."""
    early = a_report(of(F, U), rollout=ONE, now=START + 62)
    assert ready_of(status_of(early, {}, NOW))["message"].endswith(
        "shop/cart-01 made no progress since 2026-01-01T00:00:01Z: stuck"
    )


def test_what_a_deletion_waits_for_is_counted_by_what_was_tried() -> None:
    """While it is in the record, even if only with a note, what is late there is another change than its removal."""
    noted = a_target(F, 1, revision=None, recorded=True, failing=False, late_since=None, message="")
    gone = a_target(F, 1, revision=None, failing=False, late_since=None, message="")
    untried = a_target(F, 2, recorded=True)
    report = a_report(removing=[gone, untried], deleting=True, generation=3)
    held = replace(report, plan=replace(report.plan, held="removal@3#stuck"))
    assert ready_of(status_of(held, {}, NOW))["message"].startswith(
        "set the annotation sidecars.dev/approve: removal@3#stuck to go on with the removal; the removal failed on "
        "1 workload (maxFailures: 0); the policy is being deleted; 1 workload still carries its sidecars"
    )
    rest = a_report(removing=[noted], deleting=True)
    assert rest.failed_removals == 0
    assert (
        "its sidecars are gone, and its record is still on 1 workload" in ready_of(status_of(rest, {}, NOW))["message"]
    )
    last = a_report(removing=[gone], deleting=True)
    assert "its sidecars are gone, and 1 workload still rolls out" in ready_of(status_of(last, {}, NOW))["message"]


def test_a_namespace_that_is_backed_off_is_told_with_the_reason() -> None:
    backoffs = {
        "bank": NamespaceBackoff(until=NOW + 600, seconds=600.0),
        "shop": NamespaceBackoff(until=NOW + 700, seconds=600.0),
    }
    assert ready_of(status_of(a_report(of(G, P), backoffs=backoffs, tried=True), {}, NOW))["message"] == (
        "0 of 2 workloads run web-b; 1 in progress, 1 waiting; backing off in namespace bank (and 1 more) until "
        "2026-01-01T01:10:00Z (quota, missing Secret or ConfigMap, or admission)"
    )


def test_a_canary_group_that_selects_nothing_is_warned_of() -> None:
    groups = tuple(CanaryGroup(name=name, selector=EVERYTHING) for name in ("early", "late"))
    report = a_report([a_target(U, 1, group="late"), *of(P, first=2)], rollout=Rollout(canary=groups))
    assert status_of(report, {}, NOW)["warnings"] == [
        {
            "reason": "EmptyCanaryGroup",
            "count": 1,
            "message": "spec.rollout.canary[early]: selects none of the Deployments that the policy selects, so "
            "nothing goes first for it",
        }
    ]
    assert status_of(a_report(rollout=Rollout(canary=groups)), {}, NOW)["warnings"] == []


def test_a_stop_names_the_namespace_and_how_to_lift_it() -> None:
    status = status_of(a_report(of(U, P), stopped=True, switch_bearer="namespace ops"), {}, NOW)
    assert ready_of(status)["reason"] == "Stopped"
    assert ready_of(status)["message"].startswith(
        f"run `sidecarpolicy start`, or take the annotation {names.STOP} off namespace ops, to go on; "
    )


def test_a_policy_that_selects_nothing_says_which_labels_there_are() -> None:
    said = ready_of(status_of(a_report(labels_there=["app=cart", "tier=web"]), {}, NOW))["message"]
    assert said == "the policy selects no Deployment; the Pod templates there have the labels app=cart, tier=web"
    assert ready_of(status_of(a_report(), {}, NOW))["message"] == "the policy selects no Deployment"


@pytest.mark.parametrize(
    ("said", "part"),
    [
        ("0/3 nodes are available.", "0/3 nodes are available"),
        ("no such\nimage", "no such image"),
        ("waiting...", "waiting..."),
        ("", ""),
    ],
)
def test_what_others_say_goes_on_as_part_of_a_sentence(said: str, part: str) -> None:
    assert cause(said) == part
