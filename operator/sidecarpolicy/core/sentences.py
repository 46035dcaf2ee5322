"""How a policy stands, in a sentence: the table of situations, of which the first that applies is told.

Each row gives the condition Ready, its reason and message, and the two abnormal-true conditions. Where a person has to
act the message begins with what to do; what others say (a termination message, the API server) is cut to a length that
never hides that. No program reads a message: what one needs is a field of the status.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass

from sidecarpolicy import names
from sidecarpolicy.core import counting
from sidecarpolicy.core.approvals import STUCK
from sidecarpolicy.core.configs import ConfigObject, plain
from sidecarpolicy.core.progress import State, Target
from sidecarpolicy.core.report import Report, held_by, what_became_of_them
from sidecarpolicy.core.revision import Halt
from sidecarpolicy.core.text_limits import cause
from sidecarpolicy.core.times import timestamp
from sidecarpolicy.names import OnFailure, Reason, Strategy

WITH_THE_OWNERS = "; those waiting get it with their owner's next change of the Pod template"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The row of the table that applies: Ready, its reason and sentence, and the two abnormal-true conditions."""

    ready: str
    reason: Reason
    message: str
    reconciling: bool = False
    stalled: bool = False


Row = Callable[[Report], Readiness | None]


def readiness(report: Report) -> Readiness:
    """Return the first row of the table that applies."""
    return next(found for row in TABLE if (found := row(report)))


def _unreadable_deletion(report: Report) -> Readiness | None:
    """The policy is being deleted, and not even its deletionPolicy is known."""
    rejection = report.rejection
    if rejection is None or not rejection.unreadable or not report.state.deleting:
        return None
    return Readiness(
        ready="Unknown",
        reason=Reason.REMOVAL_HELD,
        message=f"fix the spec to go on with the removal, or take the finalizer {names.FINALIZER} off to leave the "
        f"sidecars where they are; nothing is removed while the spec cannot be read: {rejection.message}",
    )


def _rejected(report: Report) -> Readiness | None:
    rejection = report.rejection
    if rejection is None or (report.state.deleting and rejection.reason is Reason.UNSUPPORTED_CLUSTER):
        return None
    return Readiness(ready="False", reason=rejection.reason, message=rejection.message, stalled=True)


def _being_deleted(report: Report) -> Readiness | None:
    if not report.state.deleting:
        return None
    held, stopped = report.plan.held, report.state.stopped
    act = f"{_stopping(report)}; " if stopped else f"{_holding(report)}; " if held else ""
    late = f"; {_late(report)}" if report.late else ""
    return Readiness(
        ready="Unknown",
        reason=Reason.REMOVAL_HELD if held and not stopped else Reason.REMOVING,
        message=f"{act}the policy is being deleted; {_carried(report)}{late}{_contested_removal(report)}"
        f"{_refused_removal(report)}{_retrying(report)}{_unwritten(report)}",
        reconciling=not held and not stopped,
    )


def _acceptance_failed(report: Report) -> Readiness | None:
    """The newest generation could not be accepted yet, for a reason that is not in it."""
    if not report.problem:
        return None
    return Readiness(
        ready="Unknown",
        reason=Reason.ACCEPTANCE_FAILED,
        message=f"{_unaccepted(report)}; {_progress(report)}",
        reconciling=True,
    )


def _no_targets(report: Report) -> Readiness | None:
    if report.matched or report.removing:
        return None
    return Readiness(
        ready="True", reason=Reason.NO_TARGETS, message=f"the policy selects no Deployment{_there(report)}"
    )


def _all_skipped(report: Report) -> Readiness | None:
    if not report.matched or report.count(State.SKIPPED) < report.matched or report.removing:
        return None
    all_of_them = "the selected workload is" if report.matched == 1 else f"all {report.matched} selected workloads are"
    return Readiness(
        ready="False",
        reason=Reason.ALL_SKIPPED,
        message=f"{all_of_them} skipped: {_why_skipped(report)}",
        stalled=True,
    )


def _budget_exceeded(report: Report) -> Readiness | None:
    """More have failed than maxFailures allows: nothing goes on until the policy is edited or resumed."""
    if not report.halted:
        return None
    failed = [each for each in report.failed if each.counts]
    were_rolled_back = bool(failed) and all(each.rolled_back for each in failed)  # before their author edited onFailure
    back = report.state.rollout.on_failure is OnFailure.ROLLBACK or were_rolled_back
    outcome = (_unrecoverable(report) or "rolled back") if back else "left for inspection" if report.failed else ""
    most = report.state.rollout.max_failures
    limit = f"maxFailures: {most}"
    if report.state.halted and 0 < len(failed) <= most:
        limit += ", which counts from when it is tried again"
    edits = "edit what the policy injects"
    if report.halt is not None and (halted := halted_by(report.halt)):
        namespace, config = halted[0]
        edits += f" or {config} in namespace {namespace}{_and_more(halted)}"
    return Readiness(
        ready="False",
        reason=Reason.ROLLED_BACK if back else Reason.ROLLOUT_HALTED,
        message=f"{edits}, or set the annotation {names.RESUME}: {report.state.attempt} to try again; "
        f"{_progress(report)}; {_worst(report)}{f'; {outcome}' if outcome else ''} ({limit})",
        stalled=True,
    )


def halted_by(halt: Halt) -> list[tuple[str, ConfigObject]]:
    """What may be edited to end *halt*, by namespace; nothing where only the policy can be."""
    return [(namespace, each) for namespace, hashes in halt.configs for each, _ in hashes]


def _no_slot_left(report: Report) -> Readiness | None:
    """Workloads that make no progress hold every slot: nothing moves until somebody does something."""
    late = len(report.late) - report.late_removals - report.outdated  # a removal that is stuck frees its slot
    waiting = report.waiting or report.removals_wait
    moving = report.count(State.PROGRESSING) or report.removals_move
    if report.state.stopped or not waiting or moving or report.plan.acts or late < max(1, report.plan.budget):
        return None
    return Readiness(
        ready="False",
        reason=Reason.ROLLOUT_HALTED,
        message="all rollout slots are taken by failed workloads: fix them or edit the policy; "
        f"{_progress(report)}; {_late(report)}",
        stalled=True,
    )


def _undone(report: Report) -> Readiness | None:
    """Done, except where another writer keeps undoing us."""
    if not report.contested or _is_moving(report):
        return None
    return Readiness(
        ready="False",
        reason=Reason.FIELD_CONFLICT,
        message=f"{_progress(report)}; {_first(report.contested)}",
        stalled=True,
    )


def _done_with_failures(report: Report) -> Readiness | None:
    if not report.count(State.FAILED) + report.late_removals or _is_moving(report):
        return None
    lost = _unrecoverable(report)
    return Readiness(
        ready="False",
        reason=Reason.COMPLETED_WITH_FAILURES,
        message=f"{_progress(report)}; {_late(report)}" + (f"; {lost}" if lost else ""),
        stalled=True,
    )


def _is_moving(report: Report) -> bool:
    """Whether anything waits, goes on or is still to be removed; a removal that is stuck is none.

    What failed at an earlier revision waits for the newest one, which may be what mends it.
    """
    waiting = report.waiting + report.count(State.PROGRESSING)
    return waiting + report.removing - report.late_removals > 0


def _done(report: Report) -> Readiness | None:
    moving = report.count(State.PENDING) + report.count(State.PROGRESSING) + report.count(State.FAILED)
    if moving or report.removing:
        return None
    return Readiness(ready="True", reason=Reason.ROLLOUT_COMPLETE, message=_progress(report))


def _stopped(report: Report) -> Readiness | None:
    if not report.state.stopped:
        return None
    return Readiness(ready="Unknown", reason=Reason.STOPPED, message=f"{_stopping(report)}; {_progress(report)}")


def _paused(report: Report) -> Readiness | None:
    if not report.state.rollout.paused:
        return None
    return Readiness(ready="Unknown", reason=Reason.PAUSED, message=f"spec.rollout.paused is true; {_progress(report)}")


def _awaiting_approval(report: Report) -> Readiness | None:
    """A canary group is done, and its author wants to be asked before it goes on."""
    stage = report.plan.stage
    if stage is None or not stage.awaits or report.plan.acts:
        return None
    done = f"is done ({_workloads(stage.size)})" if stage.size else "selects no workload"
    return Readiness(
        ready="Unknown",
        reason=Reason.AWAITING_APPROVAL,
        message=f"set the annotation {names.APPROVE}: {stage.awaits} to go on; canary group {stage.name!r} {done}; "
        f"{_progress(report)}",
    )


def _removal_held(report: Report) -> Readiness | None:
    moving = report.count(State.PENDING) + report.count(State.PROGRESSING)
    if not report.plan.held or moving or report.plan.acts:
        return None
    return Readiness(ready="Unknown", reason=Reason.REMOVAL_HELD, message=f"{_holding(report)}; {_progress(report)}")


def _other_removal_held(report: Report) -> Readiness | None:
    """All that waits, waits for the sidecars of other policies to be taken out, and those are not taken out now."""
    waiting, held = report.waiting_for, report.waiting_for[0].held if report.waiting_for else ""
    others = report.count(State.PENDING) - report.fleet.count(counting.WAITING_FOR_OTHERS)
    moving = report.count(State.PROGRESSING) or report.removing
    if not held or not all(each.held for each in waiting) or others or moving or report.plan.acts:
        return None
    return Readiness(ready="Unknown", reason=Reason.REMOVAL_HELD, message=f"{held}; {_progress(report)}")


def _awaiting_owners(report: Report) -> Readiness | None:
    """Whoever has not got the revision gets it together with their owner's next change; nothing else goes on."""
    owners = report.state.rollout.strategy is Strategy.ON_NEXT_CHANGE
    moving = report.count(State.PROGRESSING) or report.removing
    if not owners or not report.waiting or moving or report.plan.acts:
        return None
    return Readiness(
        ready="Unknown",
        reason=Reason.AWAITING_OWNERS,
        message=f"{_progress(report)}{WITH_THE_OWNERS}",
    )


def _rolling_out(report: Report) -> Readiness | None:
    late = f"; {_late(report)}" if report.late else ""
    first = "" if report.plan.first_is_done or not report.count(State.PENDING) else "; one goes first"
    if report.state.rollout.strategy is Strategy.ON_NEXT_CHANGE and report.waiting:
        first = WITH_THE_OWNERS
    stage = report.plan.stage
    if stage is not None and stage.name:
        first += f"; canary group {stage.name!r}: {stage.done} of {stage.size} done"
    return Readiness(
        ready="Unknown",
        reason=Reason.ROLLING_OUT,
        message=f"{_progress(report)}{_held_elsewhere(report)}{first}{_busy(report)}{_backing_off(report)}"
        f"{_retrying(report)}{late}"
        f"{_contested_removal(report)}{_refused_removal(report)}",
        reconciling=True,
    )


TABLE: tuple[Row, ...] = (
    _unreadable_deletion,
    _rejected,
    _being_deleted,
    _acceptance_failed,
    _no_targets,
    _all_skipped,
    _budget_exceeded,
    _no_slot_left,
    _undone,
    _done_with_failures,
    _done,
    _stopped,
    _paused,
    _awaiting_approval,
    _removal_held,
    _other_removal_held,
    _awaiting_owners,
    _rolling_out,
)


# Parts of sentences: how far it is


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
    head = f"{report.count(State.UPDATED)} of {_workloads(counted)} {_verb(counted, 'runs', 'run')} "
    head = head + report.state.update if report.state.update else "no accepted revision yet"
    before = report.unavailable_before
    sick = f"; {before} {_verb(before, 'was', 'were')} not available before" if before else ""
    if report.amended:
        sick += f"; {report.amended} {_verb(report.amended, 'was', 'were')} changed by the owner meanwhile"
    changed = f"; {changed_configs(report.changed)}" if report.changed else ""
    head += " with the configuration of now" if report.changed and report.state.update else ""
    return everything + head + (f"; {', '.join(parts)}" if parts else "") + changed + sick + _waiting_for(report)


def _waiting_for(report: Report) -> str:
    """`; shop/cart waits until the sidecars of SidecarPolicy shop/web are taken out`; of several policies the first."""
    if not report.waiting_for:
        return ""
    first = report.waiting_for[0]
    workload, verb = first.workloads[0].workload, _verb(len(first.workloads), "waits", "wait")
    return f"; {workload}{_and_more(first.workloads)} {verb} until the sidecars of {first.policy.label} are taken out"


def changed_configs(found: Sequence[tuple[str, ConfigObject]]) -> str:
    """`ConfigMap otel-config changed in namespace shop`, of several the first."""
    namespace, config = found[0]
    return f"{config} changed in namespace {namespace}{_and_more(found)}"


def _carried(report: Report) -> str:
    """`2 workloads still carry its sidecars`; where none does, what is left of it."""
    them = what_became_of_them(orphaned=report.state.orphaning)
    if not report.carrying and report.recorded:
        return f"{them}, and its record is still on {_workloads(report.recorded)}"
    if not report.carrying and report.removing:
        verb = _verb(report.removing, "rolls", "roll")
        return f"{them}, and {_workloads(report.removing)} still {verb} out"
    if not report.carrying and report.other_finalizers:
        return held_by(report.other_finalizers, orphaned=report.state.orphaning)
    return f"{_workloads(report.carrying)} still {_verb(report.carrying, 'carries', 'carry')} its sidecars"


def _there(report: Report) -> str:
    """Which labels a selector that selects nothing could have meant."""
    if not report.labels_there:
        return ""
    return f"; the Pod templates there have the labels {cause(', '.join(report.labels_there))}"


def _unaccepted(report: Report) -> str:
    """It may be accepted, and that it is rolled out, halted or approved cannot be written down."""
    if report.is_stored:
        what = f"generation {report.generation} is accepted, and how far it is cannot be written down yet"
        return f"{what}; that is tried again: {cause(report.problem)}"
    return f"generation {report.generation} cannot be accepted yet, and is tried again: {cause(report.problem)}"


def _unwritten(report: Report) -> str:
    """What keeps a policy that is being deleted from going, though its workloads do not."""
    return f"; trying again: {cause(report.problem)}" if report.problem else ""


# What waits, and for what


def _holding(report: Report) -> str:
    why = "spec.rollout.removal is Manual"
    if report.plan.held.endswith(STUCK):
        failed, limit = report.failed_removals, report.state.rollout.max_failures
        why = f"the removal failed on {_workloads(failed)} (maxFailures: {limit})"
    return f"set the annotation {names.APPROVE}: {report.plan.held} to go on with the removal; {why}"


def _held_elsewhere(report: Report) -> str:
    """Why the first policy that is to be taken out first is not, where it is not."""
    held = report.waiting_for[0].held if report.waiting_for else ""
    return f"; {held}" if held else ""


def _stopping(report: Report) -> str:
    place = report.switch_bearer or "the operator's namespace"
    return (
        f"run `sidecarpolicy start`, or take the annotation {names.STOP} off {place}, to go on; everything is stopped: "
        "no workload is changed"
    )


def _backing_off(report: Report) -> str:
    held = {name: each for name, each in report.state.backoffs.items() if each.waits(report.state.now)}
    if not held or not report.count(State.PENDING) + report.count(State.FAILED):
        return ""
    name = min(held, key=lambda name: (held[name].until, name))
    return (
        f"; backing off in namespace {name}{_and_more(held)} until {timestamp(held[name].until)} "
        "(quota, missing Secret or ConfigMap, or admission)"
    )


def _busy(report: Report) -> str:
    """Of a rollout in which nothing moves: the first that waits until another rollout there is over."""
    if report.plan.acts or report.count(State.PROGRESSING) or not report.busy:
        return ""
    verb = _verb(len(report.busy), "waits", "wait")
    return f"; {report.busy[0].workload}{_and_more(report.busy)} {verb} for another rollout there"


def _retrying(report: Report) -> str:
    """Of those whose write failed and is tried again by itself, the first."""
    return f"; trying again: {_first(report.retried)}" if report.retried else ""


# What failed


def _late(report: Report) -> str:
    late = report.late
    if not late:
        return _worst(report)
    first, limit = late[0], report.state.rollout.progress_deadline_seconds
    since = first.late_since or 0.0
    # What cannot make Pods at all fails before the deadline.
    deadline = f" (progressDeadlineSeconds: {limit})" if report.state.now >= since + limit else ""
    return (
        f"{first.workload}{_and_more(late)} made no progress since {timestamp(since)}{deadline}: {cause(first.message)}"
    )


def _worst(report: Report) -> str:
    """`shop/cart failed: proxy: ImagePullBackOff: …`; of several the first that is told about."""
    failed = report.failed
    if not failed:
        return "what failed has gone, recovered or been skipped since"
    first = failed[0]
    what = "cannot be changed" if first.reason == names.REFUSED else "failed"
    return f"{first.workload}{_and_more(failed)} {what}: {cause(first.message) or UNSEEN_CAUSE}"


UNSEEN_CAUSE = "the cause cannot be seen any more"


def _unrecoverable(report: Report) -> str:
    """Of failed ones that stay as they are, the first."""
    found = report.unrecoverable
    if not found:
        return ""
    lost = plain(found[0].note.previous)
    return f"{found[0].workload}{_and_more(found)} cannot be rolled back: revision {lost} is not stored any more"


def _contested_removal(report: Report) -> str:
    """`; shop/cart: 'helm' keeps undoing …`, of the first removal that another writer undoes, if any."""
    return f"; {_first(report.contested_removals)}" if report.contested_removals else ""


def _refused_removal(report: Report) -> str:
    """Of removals that the API server would not have, the first in its words."""
    refused = report.refused_removals
    if not refused:
        return ""
    workload, message = refused[0]
    return f"; {workload}{_and_more(refused)} cannot be changed: {cause(message)}"


def _why_skipped(report: Report) -> str:
    return ", ".join(
        f"{reason} ({len(found)}): {found[0].workload}: {cause(found[0].skip.message if found[0].skip else '')}"
        for reason, found in report.skipped.items()
    )


# Grammar


def _first(found: Sequence[Target]) -> str:
    """The first of several, and what is said of it."""
    return f"{found[0].workload}{_and_more(found)}: {cause(found[0].message)}"


def _and_more(found: Sized) -> str:
    """What follows the first of several that is told about."""
    return f" (and {len(found) - 1} more)" if len(found) > 1 else ""


def _workloads(count: int) -> str:
    return f"{count} workload" if count == 1 else f"{count} workloads"


def _verb(count: int, one: str, many: str) -> str:
    return one if count == 1 else many
