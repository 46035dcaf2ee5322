"""How the owner of a workload or of its namespace keeps sidecars out or lets them in; where that has no effect."""

from __future__ import annotations

from collections.abc import Iterator

from sidecarpolicy import names
from sidecarpolicy.core.adjusting import OPT_OUT, Wishes, skip_mark
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.record import Entry
from sidecarpolicy.core.workload import Namespace, Workload
from sidecarpolicy.names import OptOut


def let_in(workload: Workload) -> bool | None:
    """Return what its owner says on it or in its Pod template; None where they say nothing."""
    return next((value == "true" for _, value in _marks(workload) if value in ("true", "false")), None)


def opts_out(workload: Workload, namespace: Namespace) -> str:
    """Return where it is said that *workload* wants no sidecars, as a sentence, or nothing.

    What is said on it or in its Pod template goes before what is said on its namespace.
    """
    said = let_in(workload)
    if said is False:
        where = next(where for where, value in _marks(workload) if value == "false")
        return f'{where} {names.INJECT}: "false"'
    if said is None and namespace.labels.get(names.INJECT) == "false":
        return f'namespace {namespace.name} has the label {names.INJECT}: "false"'
    return ""


def without_effect(
    workload: Workload, namespace: Namespace, wishes: Wishes, policy: Policy, entry: Entry | None
) -> Iterator[str]:
    """Yield a sentence for each way in which an owner opts out of *policy*, where it forbids that, or has forbidden it.

    *entry*: what the record has of the policy. What is left out already, or was not, stays so until the next revision.
    """
    if policy.opt_out is not OptOut.FORBIDDEN:
        yield from _to_come(workload, namespace, wishes, policy, entry)
        return
    why = f"which has no effect on {policy.id.label} (optOut: {policy.opt_out})"
    if said := opts_out(workload, namespace):
        yield f"{said}, {why}"
    skipped = wishes.skipped & {each.name for each in policy.sidecars}
    there = skipped & (entry.adjustment.skipped if entry is not None else frozenset())
    if skipped - there:
        yield f"the annotation {names.SKIP} leaves out {_listed(skipped - there)}, {why}"
    if there:
        why = f"which {policy.id.label} forbids by now (optOut: {policy.opt_out}): its next revision brings it back"
        yield f"the annotation {names.SKIP} leaves out {_listed(there)}, {why}"


def _to_come(
    workload: Workload, namespace: Namespace, wishes: Wishes, policy: Policy, entry: Entry | None
) -> Iterator[str]:
    refused = entry.adjustment.refused if entry is not None else frozenset()
    why = f"which {policy.id.label} allows by now: it has its effect with the next revision"
    if OPT_OUT in refused and (said := opts_out(workload, namespace)):
        yield f"{said}, {why}"
    if waiting := frozenset(each for each in wishes.skipped if skip_mark(each) in refused):
        yield f"the annotation {names.SKIP} leaves out {_listed(waiting)}, {why}"


def _listed(sidecars: frozenset[str]) -> str:
    return ", ".join(map(repr, sorted(sidecars)))


def _marks(workload: Workload) -> Iterator[tuple[str, str]]:
    """Where the owner's mark stands, the one that counts first, and its value."""
    for where, marks in (
        ("the Deployment has the label", workload.labels),
        ("its Pod template has the label", workload.pod_labels),
        ("its Pod template has the annotation", workload.pod_annotations),
    ):
        if (value := marks.get(names.INJECT)) is not None:
            yield where, value
