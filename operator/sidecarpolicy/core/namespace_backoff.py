"""Namespaces that are left alone for a while, because their own trouble made a workload fail.

A quota or an absent Secret is often seen only by failing again. So when ten minutes are over one workload is tried
again, and if that fails for such a reason too the wait doubles, up to an hour; when it completes the namespace is as
any other. A failure is told once: one that is still there when the wait is over does not begin it anew. A namespace
in which nothing is left to be done is not waited for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from sidecarpolicy.core.counting import BEHIND_IN, UPDATED_IN
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import WorkloadId

FIRST_SECONDS = 600.0
MOST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceBackoff:
    """A namespace in which something failed for its own reasons.

    *until*: nothing is tried before (seconds since the epoch), and from then on one workload at a time. *seconds*: how
    long this wait is; 0 once a workload has completed since: then it is as any other. *updated*: how many workloads
    there had the update revision by its end. *failed*: those whose failures it has waited for already.
    """

    until: float
    seconds: float
    updated: int = 0
    failed: frozenset[WorkloadId] = frozenset()

    @property
    def is_over(self) -> bool:
        """Whether it only remembers failures that are still there."""
        return not self.seconds

    def waits(self, now: float) -> bool:
        """Whether nothing is tried there at *now*."""
        return now < self.until


def namespace_backoffs(before: Mapping[str, NamespaceBackoff], fleet: Fleet, now: float) -> dict[str, NamespaceBackoff]:
    """Return, by namespace, what is left alone, or tried one at a time, given what was *before*."""
    failing: dict[str, set[WorkloadId]] = defaultdict(set)
    for each in fleet.not_counted:
        failing[each.workload.namespace].add(each.workload)
    behind, updated = fleet.tally(BEHIND_IN), fleet.tally(UPDATED_IN)
    after: dict[str, NamespaceBackoff] = {}
    for namespace in sorted(before.keys() | failing.keys()):
        if not behind.get(namespace):
            continue
        there, kept = frozenset(failing.get(namespace, ())), before.get(namespace)
        count = updated.get(namespace, 0)
        if kept is not None and kept.waits(now):
            after[namespace] = replace(kept, updated=count, failed=there)
        elif kept is not None and there <= kept.failed:
            over = kept.is_over or count > kept.updated
            if there or not over:
                after[namespace] = replace(kept, seconds=0.0 if over else kept.seconds, failed=there)
        elif there:
            seconds = min(MOST_SECONDS, kept.seconds * 2) if kept and not kept.is_over else FIRST_SECONDS
            after[namespace] = NamespaceBackoff(until=now + seconds, seconds=seconds, updated=count, failed=there)
    return after
