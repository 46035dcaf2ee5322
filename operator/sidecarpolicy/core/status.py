"""What a policy's status says: exact counts and kstatus-shaped conditions, from one report.

kstatus (cli-utils) and the tools on it read `observedGeneration`, then `Reconciling` and `Stalled` (abnormal-true:
absent when not true), then `Ready`; `sentences` has the table that gives all of them. Values that a program needs
(`halt`, `awaiting`) have fields of their own. Status is output only: nothing is decided from it. It never lists the
targets: 10,000 of them would not fit an object.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sidecarpolicy.core.configs import plain
from sidecarpolicy.core.progress import State
from sidecarpolicy.core.report import Rejection, Report, Warned
from sidecarpolicy.core.sentences import UNSEEN_CAUSE, Readiness, readiness
from sidecarpolicy.core.text_limits import MOST_MESSAGE, shortened
from sidecarpolicy.core.times import timestamp
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.names import Reason, WarningReason

__all__ = ["MOST_MESSAGE", "Rejection", "Report", "Warned", "shortened", "status_of"]

MOST_FAILURES = 10
MOST_WARNINGS = 20
MOST_EXAMPLES = 3


def status_of(report: Report, previous: Mapping[str, Any], now: float) -> Json:
    """Return the whole status; *previous* is the one on the object, from which transition times are kept."""
    state = report.state
    status: Json = {
        "observedGeneration": report.generation,
        "conditions": _conditions(report, readiness(report), items(previous, "conditions"), now),
        "targets": {
            "matched": report.matched,
            **{state.value: report.count(state) for state in State},
            "available": report.available,
            "removing": report.removing,
        },
        "awaiting": report.awaiting,
        "failures": _failures(report, items(previous, "failures"), now),
        "skipped": _skipped(report),
        "warnings": _warnings((*report.warnings, *_empty_groups(report))),
    }
    if report.halted:
        status["halt"] = _halt(report, at(previous, "halt"), now)
    if state.current:
        status["currentRevision"] = state.current
    if state.update:
        status["updateRevision"] = state.update
    return status


def _conditions(report: Report, found: Readiness, previous: Sequence[Json], now: float) -> list[Json]:
    wanted = [
        ("Accepted", *_accepted(report, found)),
        ("Ready", found.ready, found.reason.value, found.message),
        *([("Reconciling", "True", found.reason.value, found.message)] if found.reconciling else []),
        *([("Stalled", "True", found.reason.value, found.message)] if found.stalled else []),
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


def _accepted(report: Report, found: Readiness) -> tuple[str, str, str]:
    """Status, reason and message of the condition Accepted."""
    rejection = report.rejection
    if rejection is not None and rejection.reason is not Reason.UNSUPPORTED_CLUSTER:
        return "False", rejection.reason.value, rejection.message
    if found.reason is Reason.ACCEPTANCE_FAILED and not report.is_stored:
        return "Unknown", found.reason.value, found.message
    return "True", Reason.ACCEPTED.value, "the policy is valid"  # a cluster that is too old is not the author's fault


def _halt(report: Report, previous: Json, now: float) -> Json:
    """The value that resumes the rollout, and since when it is halted."""
    if report.halt is not None:
        return {"id": report.halt.id, "since": report.halt.since}
    attempt = report.state.attempt
    return {"id": attempt, "since": previous["since"] if previous.get("id") == attempt else timestamp(now)}


def _failures(report: Report, previous: Sequence[Json], now: float) -> list[Json]:
    """The newest failures. What was told of one that has been rolled back since cannot be seen again: it is kept."""
    told = {(each["namespace"], each["name"], each.get("revision", "")): each for each in previous}
    update = report.state.update or ""
    failures = []
    for each in report.failed:
        revision = plain(("" if each.rolled_back else each.revision) or update)
        before = told.get((each.workload.namespace, each.workload.name, revision), {})
        since = before.get("since") or timestamp(now if each.late_since is None else each.late_since)
        failures.append(
            {
                "namespace": each.workload.namespace,
                "name": each.workload.name,
                "revision": revision,
                "reason": each.reason or before.get("reason") or "Failed",
                "message": shortened(each.message or before.get("message") or UNSEEN_CAUSE),
                "since": since,
            }
        )
    failures.sort(key=lambda each: (each["namespace"], each["name"]))
    return sorted(failures, key=lambda each: str(each["since"]), reverse=True)[:MOST_FAILURES]


def _skipped(report: Report) -> list[Json]:
    return [
        {
            "reason": reason,
            "count": len(found),
            "examples": [str(each.workload) for each in found[:MOST_EXAMPLES]],
            "message": shortened(f"{found[0].workload}: {found[0].skip.message if found[0].skip else ''}"),
        }
        for reason, found in report.skipped.items()
    ]


def _empty_groups(report: Report) -> Iterable[Warned]:
    for name in report.empty_groups:
        message = "selects none of the Deployments that the policy selects, so nothing goes first for it"
        yield Warned(reason=WarningReason.EMPTY_CANARY_GROUP, message=message, where=f"spec.rollout.canary[{name}]")


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
    ][:MOST_WARNINGS]


def _located(warned: Warned) -> str:
    return f"{warned.where}: {warned.message}" if warned.where else warned.message
