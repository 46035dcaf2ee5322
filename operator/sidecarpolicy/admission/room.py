"""How many may carry a revision that nobody has completed, new workloads included.

Only a policy's very first rollout asks this: later a new workload gets what has been rolled out completely. The cache
is counted at most once a second, and what this process has let through counts too until a count has seen it. Two
replicas do not know of each other, so for that second each may let one more through.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.progress import target
from sidecarpolicy.core.workload import borne
from sidecarpolicy.engine.context import Context
from sidecarpolicy.names import Strategy

COUNTED_SECONDS = 1.0
LET_THROUGH_SECONDS = 30.0  # a create that failed after admission is forgotten after so long


@dataclass(slots=True, kw_only=True)
class _Count:
    """What the cache showed *at* a moment: how many are *moving* to a revision, and whether one has *proved* it."""

    at: float
    revision: str
    selected: int
    moving: int
    proved: bool


@dataclass(slots=True)
class Room:
    """Of one process."""

    _counts: dict[PolicyId, _Count] = field(default_factory=dict)
    _let_through: dict[PolicyId, dict[tuple[WorkloadId, str], float]] = field(default_factory=dict)

    def has_room(self, policy: Policy, revision: str, context: Context) -> bool:
        """Whether one more may carry *revision*, which has never been rolled out completely."""
        now, count = context.now(), self._counts.get(policy.id)
        if count is None or count.revision != revision or not 0 <= now - count.at < COUNTED_SECONDS:
            count = self._counts[policy.id] = _counted(policy, revision, context)
            self._drop_counted(policy.id, revision, context)
        if policy.rollout.strategy is Strategy.ALL_AT_ONCE:
            return True
        ahead = self._ahead(policy.id, now)
        most = policy.rollout.budget(count.selected + ahead) if count.proved else 1
        return count.moving + ahead < most

    def let_through(self, policy: PolicyId, workload: WorkloadId, context: Context, *, key: str = "") -> None:
        """Note that *workload* is being created with a revision of *policy* on it; *key*: see `Proposal`."""
        self._let_through.setdefault(policy, {})[workload, key] = context.now()

    def _drop_counted(self, policy: PolicyId, revision: str, context: Context) -> None:
        """Forget of those let through what the cache shows, which has just been counted."""
        noted, workloads = self._let_through.get(policy, {}), context.cache.workloads
        for workload, key in list(noted):
            seen = workloads.get(workload)
            if seen and borne(seen.record, policy) == revision:
                del noted[workload, key]

    def _ahead(self, policy: PolicyId, now: float) -> int:
        noted = self._let_through.get(policy, {})
        for each, at in list(noted.items()):
            if not 0 <= now - at < LET_THROUGH_SECONDS:
                del noted[each]
        return len(noted)


def _counted(policy: Policy, revision: str, context: Context) -> _Count:
    cache, now = context.cache, context.now()
    count = _Count(at=now, revision=revision, selected=0, moving=0, proved=False)
    for workload in cache.reached_by(policy.id):
        count.selected += cache.selects(policy, workload)
        if borne(workload.record, policy.id) != revision:
            continue
        found = target(policy.id, revision, workload, cache.children(workload), None, rollout=policy.rollout, now=now)
        count.moving += found.holds_slot
        count.proved = count.proved or found.evidence
    return count
