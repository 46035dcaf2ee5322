"""Namespaces that are left alone for a while, because their own trouble made a workload fail.

A quota or an absent Secret is often seen only by failing again. So one workload is tried again after ten minutes, and
if that fails for such a reason too the wait doubles, up to an hour; when it completes the namespace is as any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sidecarpolicy.core.targets import State, Target

FIRST_SECONDS = 600.0
MOST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBack:
    """A namespace in which something failed for its own reasons.

    *until*: nothing is tried before (seconds since the epoch), and from then on one workload at a time. *seconds*: how
    long this wait is. *updated*: how many workloads there had the update revision by its end.
    """

    until: float
    seconds: float
    updated: int = 0


def holding_back(before: Mapping[str, HoldBack], targets: Iterable[Target], now: float) -> dict[str, HoldBack]:
    """Return, by namespace, what is held back after these *targets* were seen, given what was before."""
    targets = list(targets)
    updated = Counter(each.workload.namespace for each in targets if each.state is State.UPDATED)
    after: dict[str, HoldBack] = {}
    for namespace, kept in before.items():
        if now < kept.until:
            after[namespace] = HoldBack(until=kept.until, seconds=kept.seconds, updated=updated[namespace])
        elif updated[namespace] <= kept.updated:
            after[namespace] = kept
    for namespace in {each.workload.namespace for each in targets if each.failing and each.excused}:
        found = after.get(namespace)
        if found is None or found.until <= now:
            seconds = min(MOST_SECONDS, found.seconds * 2) if found else FIRST_SECONDS
            after[namespace] = HoldBack(until=now + seconds, seconds=seconds, updated=updated[namespace])
    return after
