"""What a policy's status says: exact counts and kstatus-shaped conditions, from one plan.

kstatus (cli-utils) and the tools on it read `observedGeneration`, then `Reconciling` and `Stalled` (abnormal-true:
absent when not true), then `Ready`. The first situation in `_SITUATIONS` that applies gives all of them. Status is
output only: nothing is decided from it. It never lists the targets: 10,000 of them would not fit an object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.checks import Refusal
from sidecarpolicy.core.identity import WorkloadId
from sidecarpolicy.core.plan import Plan, Situation
from sidecarpolicy.core.targets import State, Target
from sidecarpolicy.core.times import timestamp
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.names import OnFailure, Reason, WarningReason

MOST_LISTED = 10
MOST_EXAMPLES = 3
MOST_MESSAGE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something to know although nothing is refused; *where* tells equal ones apart for the count."""

    reason: WarningReason
    message: str
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """Why a policy is not accepted."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything a status is made of."""

    generation: int
    situation: Situation
    plan: Plan
    rejection: Rejection | None = None
    selects_everything: bool = False
    warnings: Sequence[Warned] = ()

    @property
    def matched(self) -> int:
        """How many workloads are selected."""
        return len(self.situation.targets)

    @property
    def removing(self) -> int:
        """How many are not selected and still carry the policy."""
        return len(self.situation.removing)

    @property
    def late(self) -> list[Target]:
        """Those, skipped and removed ones too, that have made no progress for too long; the longest standing first."""
        everyone = (*self.situation.targets, *self.situation.removing)
        found = [each for each in everyone if each.late_since is not None]
        return sorted(found, key=lambda each: (each.late_since or 0.0, each.workload))

    def count(self, state: State) -> int:
        """How many targets are in *state*."""
        return self.plan.counts.get(state, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The row of the table that applies: Ready, its reason and sentence, and the two abnormal-true conditions."""

    ready: str
    reason: Reason
    message: str
    reconciling: bool = False
    stalled: bool = False


Row = Callable[[Report], Standing | None]


def status_of(report: Report, previous: Mapping[str, Any], now: float) -> Json:
    """Return the whole status; *previous* is the one on the object, from which transition times are kept."""
    standing = next(found for row in _SITUATIONS if (found := row(report)))
    targets, situation = report.situation.targets, report.situation
    status: Json = {
        "observedGeneration": report.generation,
        "conditions": _conditions(report, standing, items(previous, "conditions"), now),
        "targets": {
            "matched": report.matched,
            **{state.value: report.count(state) for state in State},
            "available": sum(each.available for each in targets),
            "removing": report.removing,
        },
        "failures": _failures(targets, situation.update, items(previous, "failures"), now),
        "skipped": _skipped(targets),
        "warnings": _warnings(report.warnings),
    }
    if situation.current:
        status["currentRevision"] = situation.current
    if situation.update:
        status["updateRevision"] = situation.update
    return status


def _rejected(report: Report) -> Standing | None:
    unsupported = report.rejection is not None and report.rejection.reason is Reason.UNSUPPORTED_CLUSTER
    if report.rejection is None or (unsupported and report.situation.deleting):
        return None
    return Standing(ready="False", reason=report.rejection.reason, message=report.rejection.message, stalled=True)


def _being_deleted(report: Report) -> Standing | None:
    if not report.situation.deleting:
        return None
    left = sum(each.revision is not None for each in (*report.situation.targets, *report.situation.removing))
    late = f"; {_late(report)}" if report.late else ""
    held, stopped = report.plan.held, report.situation.stopped
    wait = f"; {_stopping()}" if stopped else f"; {_holding(report)}" if held else ""
    return Standing(
        ready="Unknown",
        reason=Reason.REMOVAL_HELD if held and not stopped else Reason.REMOVING,
        message=f"the policy is being deleted; {_workloads(left)} still {_verb(left, 'carries', 'carry')} its sidecars"
        f"{late}{_fought_over(report)}{_refused(report)}{wait}",
        reconciling=not held and not stopped,
    )


def _no_targets(report: Report) -> Standing | None:
    if report.matched or report.removing:
        return None
    return Standing(ready="True", reason=Reason.NO_TARGETS, message="the policy selects no Deployment")


def _all_skipped(report: Report) -> Standing | None:
    if not report.matched or report.count(State.SKIPPED) < report.matched or report.removing:
        return None
    return Standing(
        ready="False",
        reason=Reason.ALL_SKIPPED,
        message=f"all {report.matched} selected workloads are skipped: {_why_skipped(report.situation.targets)}",
        stalled=True,
    )


def _budget_exceeded(report: Report) -> Standing | None:
    """More have failed than maxFailures allows: nothing goes on until the policy is edited or resumed."""
    if not (report.situation.halted or report.plan.halts):
        return None
    back = report.situation.rollout.on_failure is OnFailure.ROLLBACK
    done = "turned back" if back else "left for inspection"
    return Standing(
        ready="False",
        reason=Reason.ROLLED_BACK if back else Reason.ROLLOUT_HALTED,
        message=f"{_progress(report)}; {_worst(report)}; {done} "
        f"(maxFailures: {report.situation.rollout.max_failures}). "
        f"Edit the policy, or try again with the annotation {names.RESUME}: {report.situation.attempt}",
        stalled=True,
    )


def _halted(report: Report) -> Standing | None:
    """Workloads that make no progress hold every slot: nothing moves until somebody does something."""
    removing = report.situation.removing
    late = sum(each not in removing for each in report.late)  # a removal that is stuck frees its slot
    waiting = report.count(State.PENDING) or any(each.revision and not each.holds_slot for each in removing)
    moving = report.count(State.PROGRESSING) or any(each.holds_slot and each not in report.late for each in removing)
    if report.situation.stopped or not waiting or moving or report.plan.steps or late < max(1, report.plan.budget):
        return None
    return Standing(
        ready="False",
        reason=Reason.ROLLOUT_HALTED,
        message=f"{_progress(report)}; {_late(report)} and {_verb(late, 'holds', 'hold')} every slot: "
        "edit the policy, or mend the workload",
        stalled=True,
    )


def _undone(report: Report) -> Standing | None:
    """Done, except where another writer keeps undoing us."""
    contested = [each for each in report.situation.targets if each.reason == Reason.FIELD_CONFLICT]
    if not contested or _is_moving(report):
        return None
    first = min(contested, key=lambda each: each.workload)
    others = _and_more(contested)
    return Standing(
        ready="False",
        reason=Reason.FIELD_CONFLICT,
        message=f"{_progress(report)}; {first.workload}{others}: {first.message}",
        stalled=True,
    )


def _done_with_failures(report: Report) -> Standing | None:
    stuck = sum(each in report.late for each in report.situation.removing)
    if not report.count(State.FAILED) + stuck or _is_moving(report):
        return None
    return Standing(
        ready="False",
        reason=Reason.COMPLETED_WITH_FAILURES,
        message=f"{_progress(report)}; {_late(report)}",
        stalled=True,
    )


def _is_moving(report: Report) -> bool:
    """Whether anything waits, goes on or is still to be removed; a removal that is stuck is none."""
    stuck = sum(each in report.late for each in report.situation.removing)
    return report.count(State.PENDING) + report.count(State.PROGRESSING) + report.removing - stuck > 0


def _done(report: Report) -> Standing | None:
    moving = report.count(State.PENDING) + report.count(State.PROGRESSING) + report.count(State.FAILED)
    if moving or report.removing:
        return None
    return Standing(ready="True", reason=Reason.ROLLOUT_COMPLETE, message=_progress(report))


def _paused(report: Report) -> Standing | None:
    if not report.situation.rollout.paused:
        return None
    return Standing(ready="Unknown", reason=Reason.PAUSED, message=f"{_progress(report)}; spec.rollout.paused is true")


def _stopped(report: Report) -> Standing | None:
    if not report.situation.stopped:
        return None
    return Standing(ready="Unknown", reason=Reason.STOPPED, message=f"{_progress(report)}; {_stopping()}")


def _awaiting_approval(report: Report) -> Standing | None:
    """A canary group is done, and its author wants to be asked before it goes on."""
    stage = report.plan.stage
    if stage is None or not stage.awaits or report.plan.steps:
        return None
    done = f"{_workloads(stage.size)} done" if stage.size else "it selects no workload"
    return Standing(
        ready="Unknown",
        reason=Reason.AWAITING_APPROVAL,
        message=f"{_progress(report)}; canary group {stage.name!r}: {done}. Go on with the annotation "
        f"{names.APPROVE}: {stage.awaits}",
    )


def _removal_held(report: Report) -> Standing | None:
    moving = report.count(State.PENDING) + report.count(State.PROGRESSING)
    if not report.plan.held or moving or report.plan.steps:
        return None
    return Standing(ready="Unknown", reason=Reason.REMOVAL_HELD, message=f"{_progress(report)}; {_holding(report)}")


def _rolling_out(report: Report) -> Standing | None:
    late = f"; {_late(report)}" if report.late else ""
    first = "" if report.plan.first_is_done or not report.count(State.PENDING) else "; one goes first"
    stage = report.plan.stage
    if stage is not None and stage.name:
        first += f"; canary group {stage.name!r}: {stage.done} of {stage.size} done"
    return Standing(
        ready="Unknown",
        reason=Reason.ROLLING_OUT,
        message=f"{_progress(report)}{first}{_left_alone(report)}{late}{_fought_over(report)}{_refused(report)}",
        reconciling=True,
    )


_SITUATIONS: tuple[Row, ...] = (
    _rejected,
    _being_deleted,
    _no_targets,
    _all_skipped,
    _budget_exceeded,
    _halted,
    _undone,
    _done_with_failures,
    _done,
    _stopped,
    _paused,
    _awaiting_approval,
    _removal_held,
    _rolling_out,
)


def _progress(report: Report) -> str:
    """`34 of 117 workloads run web-7d21c0a9e1; 3 in progress, 80 waiting, 3 skipped`."""
    counted = report.matched - report.count(State.SKIPPED)
    parts = [
        f"{count} {word}"
        for count, word in (
            (report.count(State.PROGRESSING), "in progress"),
            (report.count(State.PENDING), "waiting"),
            (report.count(State.FAILED), "failed"),
            (report.count(State.SKIPPED), "skipped"),
            (report.removing, "to be removed" if report.plan.held else "being removed"),
        )
        if count
    ]
    everything = f"the empty selector selects {_workloads(report.matched)}; " if report.selects_everything else ""
    head = f"{everything}{report.count(State.UPDATED)} of {_workloads(counted)} {_verb(counted, 'runs', 'run')} "
    return head + (report.situation.update or "no revision") + (f"; {', '.join(parts)}" if parts else "")


def _refused(report: Report) -> str:
    """Of removals that the API server would not have, the first in its words."""
    refused = report.situation.unwritable
    if not refused:
        return ""
    first = min(refused)
    others = _and_more(refused)
    return f"; {first}{others} cannot be changed: {refused[first].message}"


def _left_alone(report: Report) -> str:
    held = {name: each for name, each in report.situation.held_back.items() if report.situation.now < each.until}
    if not held or not report.count(State.PENDING) + report.count(State.FAILED):
        return ""
    name = min(held, key=lambda name: (held[name].until, name))
    others = _and_more(held)
    return f"; namespace {name}{others} is left alone until {timestamp(held[name].until)}, for reasons of its own"


def _holding(report: Report) -> str:
    stuck = sum(each.state is State.FAILED for each in report.situation.removing)
    limit = report.situation.rollout.max_failures
    why = "spec.rollout.removal is Manual"
    if report.plan.held.endswith("#stuck"):
        why = f"{_workloads(stuck)} did not get through the removal (maxFailures: {limit})"
    return f"{why}: approve the removal with the annotation {names.APPROVE}: {report.plan.held}"


def _stopping() -> str:
    return f"no workload is changed while the operator's namespace has the annotation {names.STOP}"


def _late(report: Report) -> str:
    late = report.late
    if not late:
        return _worst(report)
    first = late[0]
    limit = report.situation.rollout.progress_deadline_seconds
    others = _and_more(late)
    return (
        f"{first.workload}{others} made no progress since {timestamp(first.late_since or 0.0)} "
        f"(progressDeadlineSeconds: {limit}): {first.message}"
    )


def _fought_over(report: Report) -> str:
    """`; shop/cart: 'helm' keeps undoing …`, of the first removal that another writer undoes, if any."""
    fought = [each for each in report.situation.removing if each.reason == Reason.FIELD_CONFLICT]
    first = min(fought, key=lambda each: each.workload, default=None)
    return f"; {first.workload}: {first.message}" if first else ""


def _worst(report: Report) -> str:
    """`shop/cart failed: proxy: ImagePullBackOff: …`; of several the first that is told about."""
    failed = sorted(
        (each for each in report.situation.targets if each.state is State.FAILED),
        key=lambda each: (not each.counts, not each.message, each.workload),
    )
    if not failed:
        return "what failed has gone or recovered since"
    others = _and_more(failed)
    said = f": {failed[0].message}" if failed[0].message else ""
    return f"{failed[0].workload}{others} failed{said}"


def _conditions(report: Report, standing: Standing, previous: Sequence[Json], now: float) -> list[Json]:
    rejection = report.rejection
    if rejection is None or rejection.reason is Reason.UNSUPPORTED_CLUSTER:  # that is not the author's fault
        accepted = ("Accepted", "True", Reason.ACCEPTED.value, "the policy is valid")
    else:
        accepted = ("Accepted", "False", rejection.reason.value, rejection.message)
    wanted = [
        accepted,
        ("Ready", standing.ready, standing.reason.value, standing.message),
        *([("Reconciling", "True", standing.reason.value, standing.message)] if standing.reconciling else []),
        *([("Stalled", "True", standing.reason.value, standing.message)] if standing.stalled else []),
    ]
    before = {each["type"]: each for each in previous}
    return [
        {
            "type": kind,
            "status": value,
            "reason": reason,
            "message": shortened(message),
            "observedGeneration": report.generation,
            "lastTransitionTime": before[kind]["lastTransitionTime"]
            if kind in before and before[kind]["status"] == value
            else timestamp(now),
        }
        for kind, value, reason, message in wanted
    ]


def _failures(targets: Iterable[Target], update: str | None, previous: Sequence[Json], now: float) -> list[Json]:
    """The newest failures. What was told of one that has been turned back since cannot be seen again: it is kept."""
    told = {(each["namespace"], each["name"], each["revision"]): each for each in previous}
    failures = []
    for each in targets:
        if each.state is not State.FAILED:
            continue
        revision = ("" if each.turned_back else each.revision) or update or ""
        before = told.get((each.workload.namespace, each.workload.name, revision), {})
        since = before.get("since") or timestamp(now if each.late_since is None else each.late_since)
        failures.append(
            {
                "namespace": each.workload.namespace,
                "name": each.workload.name,
                "revision": revision,
                "reason": each.reason or before.get("reason") or "Failed",
                "message": shortened(each.message or before.get("message") or "it failed before this operator started"),
                "since": since,
            }
        )
    failures.sort(key=lambda each: (each["namespace"], each["name"]))
    return sorted(failures, key=lambda each: str(each["since"]), reverse=True)[:MOST_LISTED]


def _skipped(targets: Iterable[Target]) -> list[Json]:
    by_reason: dict[str, list[tuple[WorkloadId, Refusal]]] = defaultdict(list)
    for each in sorted(targets, key=lambda each: each.workload):
        if each.state is State.SKIPPED and each.refusal is not None:
            by_reason[each.refusal.reason.value].append((each.workload, each.refusal))
    return [
        {
            "reason": reason,
            "count": len(found),
            "examples": [str(workload) for workload, _ in found[:MOST_EXAMPLES]],
            "message": shortened(f"{found[0][0]}: {found[0][1].message}"),
        }
        for reason, found in sorted(by_reason.items())
    ]


def _why_skipped(targets: Iterable[Target]) -> str:
    return ", ".join(f"{each['reason']} ({each['count']}): {each['message']}" for each in _skipped(targets))


def _warnings(warnings: Iterable[Warned]) -> list[Json]:
    by_reason: dict[str, set[Warned]] = defaultdict(set)
    for each in warnings:
        by_reason[each.reason.value].add(each)
    return [
        {
            "reason": reason,
            "count": len(found),
            "message": shortened(_located(min(found, key=lambda each: (each.where, each.message)))),
        }
        for reason, found in sorted(by_reason.items())
    ][:MOST_LISTED]


def _located(warned: Warned) -> str:
    return f"{warned.where}: {warned.message}" if warned.where else warned.message


def shortened(text: str) -> str:
    """Return *text* within what the schema allows for a message."""
    return text if len(text) <= MOST_MESSAGE else text[: MOST_MESSAGE - 1] + "…"


def _and_more(found: Sized) -> str:
    """What follows the first of several that is told about."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _workloads(count: int) -> str:
    return f"{count} workload" if count == 1 else f"{count} workloads"


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
