"""How far a change has come on one workload, read from the Deployment and its ReplicaSets alone.

ReplicaSets carry a copy of the Deployment's annotations, so each shows which revision of each policy its Pods bear.
That tells our rollouts from the owner's: it is ours while the Pods before the change bear another revision of the
policy. Revisions are compared, not items, so an owner's hotfix on top of our unfinished rollout ends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.workload import ReplicaSet, Workload, record_of

COMPLETE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"


def borne(record: str | None, policy: PolicyId) -> str | None:
    """The revision of *policy* that a record's text names, or None."""
    entry = record_of(record).entries.get(policy)
    return (entry.revision or None) if entry else None


def is_complete(workload: Workload) -> bool:
    """Whether the newest template has been rolled out: the rule of `kubectl rollout status`, or once was.

    Complete once is complete: a Pod or node lost later changes availability, not this. The reason alone does not do:
    the controller may have seen the newest generation (of a scaling, say) before it made the ReplicaSet for it.
    """
    return (
        workload.observed_generation >= workload.generation
        and workload.updated_replicas == workload.status_replicas
        and (
            workload.progressing.reason == COMPLETE
            or workload.replicas <= workload.updated_replicas <= workload.available_replicas
        )
    )


def is_ours(workload: Workload, replica_sets: Sequence[ReplicaSet], policy: PolicyId) -> bool:
    """Whether the last change of the workload's Pods was *policy*'s: those before it bear another revision.

    Those before it are the older ReplicaSets that still have replicas; where none has, the one before the newest. A
    newest ReplicaSet with another revision than the Deployment is itself an older one: the controller has not made
    the next yet. Where all replicas are in one with that revision, a change that the controller has not seen yet is
    another's. With no history to compare (revisionHistoryLimit 0) the change counts as ours.
    """
    revision = borne(workload.record, policy)
    ordered = sorted(replica_sets, key=lambda each: each.number)
    older = ordered[:-1]
    if ordered and borne(ordered[-1].record, policy) != revision:
        older.append(ordered[-1])
    elif older and workload.observed_generation < workload.generation and not any(each.replicas for each in older):
        return False
    before = [each for each in older if each.replicas > 0] or older[-1:]
    if not before:
        return revision is not None
    return any(borne(each.record, policy) != revision for each in before)


def has_arrived(workload: Workload, replica_sets: Sequence[ReplicaSet], policy: PolicyId) -> bool:
    """Whether the Pods of the newest, complete ReplicaSet bear the policy's revision that the Deployment does."""
    revision = borne(workload.record, policy)
    newest = max(replica_sets, key=lambda each: each.number, default=None)
    made = revision is None or newest is None or borne(newest.record, policy) == revision
    return made and is_complete(workload)


def soaked_at(workload: Workload, seconds: int, *, disturbed: bool = False) -> float:
    """When a complete workload has soaked for *seconds* (since the epoch); infinity while it must start again.

    The soak counts from the Deployment's completion. Losing availability within it starts it again when availability
    is back; a loss after it changes nothing. Times are whole seconds: a workload that is unavailable since the very
    second in which it completed has lost it again (a crash loop is up for a moment).
    """
    completed, changed = workload.progressing.updated, workload.available.changed
    ends = completed + seconds
    if workload.available.status == "True":
        return changed + seconds if disturbed or completed < changed < ends else ends
    return float("inf") if disturbed or completed <= changed < ends else ends


def is_new(workload: Workload, replica_sets: Sequence[ReplicaSet]) -> bool:
    """Whether it has never been available: still in its first rollout."""
    return (
        len(replica_sets) <= 1
        and workload.available.status != "True"
        and workload.progressing.reason not in (COMPLETE, TIMED_OUT)
        and workload.replicas > 0
    )


def last_progress(workload: Workload) -> float | None:
    """When a rollout under way last made a step forward (seconds since the epoch), None where that is not known yet.

    Giving up (ProgressDeadlineExceeded) is no step: the last one was the Deployment's own deadline earlier.
    """
    if workload.observed_generation < workload.generation or workload.progressing.reason == COMPLETE:
        return None
    if workload.progressing.reason == TIMED_OUT:
        return workload.progressing.updated - workload.progress_deadline
    return workload.progressing.updated or None
