"""Gather what a plan depends on: where each target of a policy stands, read from the store alone.

Nothing is written and nothing is asked of the API server, so a command line can gather from a few LISTs what the
operator gathers from its watches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf

from sidecarpolicy.core.decode import careful
from sidecarpolicy.core.held_back import HoldBack
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import Situation, Unwritable
from sidecarpolicy.core.policy import Policy, Rollout
from sidecarpolicy.core.revision import approvals
from sidecarpolicy.core.status import Rejection
from sidecarpolicy.core.targets import Backoff, State, Target, in_conflict, soak_ends, target
from sidecarpolicy.core.tree import Json, items
from sidecarpolicy.core.workload import Workload, borne, record_of
from sidecarpolicy.engine.store import SeenPolicy
from sidecarpolicy.engine.undoing import conflict_of
from sidecarpolicy.engine.world import World
from sidecarpolicy.names import DeletionPolicy, SkipReason


@dataclass(slots=True, kw_only=True)
class Memory:
    """What the passes over one policy keep; all of it can be found again.

    *passed*: when the last pass began (seconds since the epoch). *held_back*: by namespace. *unwritten*: since when,
    and why, workloads to remove from could not be written.
    *status_written*, *status_differs*: when it was last written, and since when there is something new to write.
    *explained*: why workloads failed, also when they have been turned back.
    """

    passed: float = 0.0
    generation: int = 0
    rejection: Rejection | None = None
    status_written: float = 0.0
    status_differs: float = 0.0
    skipped: dict[WorkloadId, SkipReason] | None = None
    held_back: dict[str, HoldBack] = field(default_factory=dict)
    unwritten: dict[WorkloadId, tuple[float, str]] = field(default_factory=dict)
    explained: dict[tuple[str, str], Json] = field(default_factory=dict)


def situation_of(seen: SeenPolicy, memory: Memory, world: World) -> Situation:
    """Gather everything that a plan depends on."""
    policy = seen.policy
    update = world.store.update_revision(seen.id)
    current = world.store.current_revision(seen.id)
    rollout = policy.rollout if policy is not None else careful(Rollout())
    told = {(each["namespace"], each["name"]): each for each in items(seen.status, "failures")}
    told |= memory.explained
    targets: list[Target] = []
    removing: list[Target] = []
    unwritable: dict[WorkloadId, Unwritable] = {}
    for workload in world.store.reached_by(seen.id):
        selected = policy is not None and world.store.selects(policy, workload)
        if not selected and not _carries(seen.id, workload, world):
            continue
        wanted = selected and not seen.deleting
        refusal = world.judgement(workload).verdicts.get(seen.id) if wanted else None
        each = target(
            seen.id,
            update.revision.name if update else None,
            workload,
            world.store.replica_sets(workload),
            refusal,
            rollout=rollout,
            now=world.now(),
            attempt=update.attempt_id if update and wanted else "",
            current=current.revision.name if current else None,
            busy_until=_busy_until(seen.id, workload, world),
            group=rollout.canary_group(workload.pod_labels, world.store.namespace(workload.id.namespace).labels),
            left=policy is not None and not seen.deleting and _left(policy, workload, world),
            backoff=_backoff(update.revision.name if update and wanted else None, workload, world),
        )
        each = _explained(each, seen.id, told, world)
        _keep(memory.explained, each)
        if (conflict := conflict_of(seen.id, workload, world, removing=not wanted)) is not None:
            each = in_conflict(each, conflict)
        if wanted:
            targets.append(each)
        elif not workload.deleting and (each.recorded or each.holds_slot):
            removing.append(each)
        if (refused := world.unwritable(workload)) is not None:
            unwritable[workload.id] = refused
    return Situation(
        policy=seen.id,
        rollout=rollout,
        update=update.revision.name if update else None,
        current=current.revision.name if current else None,
        tried=bool(update and update.completed),
        deleting=seen.deleting,
        orphaning=seen.deleting and seen.deletion_policy is DeletionPolicy.ORPHAN,
        frozen=memory.rejection is not None and not seen.deleting,
        attempt=update.attempt_id if update else "",
        halted=update is not None and update.halt is not None,
        now=world.now(),
        held_back=memory.held_back,
        stopped=world.stopped,
        generation=seen.generation,
        approved=approvals(seen.approve) | (update.approved if update is not None else frozenset()),
        unwritable=unwritable,
        targets=targets,
        removing=removing,
        assigned=frozenset(each for each, policies in world.writing.items() if seen.id in policies),
    )


def _backoff(update: str | None, workload: Workload, world: World) -> Backoff | None:
    """The last write of *workload* that the server would not have: that of *update*, or any where it is to be removed.

    Another revision may well pass, and is tried.
    """
    found = world.unwritable(workload)
    if found is None or (update is not None and update not in world.refused(workload)):
        return None
    return Backoff(until=found.until, message=found.message, rejected=True)


def _busy_until(policy: PolicyId, workload: Workload, world: World) -> float:
    """When another policy is done with *workload*: its rollout there soaks, or is about to begin."""
    assigned = {*world.steps.get(workload.id, ()), *world.writing.get(workload.id, ())}
    if assigned - {policy}:
        return inf
    replica_sets = world.store.replica_sets(workload)
    ends = [0.0]
    for other, entry in record_of(workload.record).entries.items():
        seen, current = world.store.policies.get(other), world.store.current_revision(other)
        if other == policy or not entry.revision or entry.joined or seen is None or seen.policy is None:
            continue
        soaked = current is not None and current.revision.name == entry.revision
        if not soaked:
            ends.append(soak_ends(other, workload, replica_sets, rollout=seen.policy.rollout, now=world.now()))
    return max(ends)


def _left(policy: Policy, workload: Workload, world: World) -> bool:
    """Whether the owner took *workload* out of the selection: an older template of his would still be selected."""
    if policy.selector.matches(workload.pod_labels) or not world.store.selects_namespace(policy, workload):
        return False
    return any(policy.selector.matches(each.labels) for each in world.store.replica_sets(workload))


def _explained(each: Target, policy: PolicyId, told: Mapping[tuple[str, str], Json], world: World) -> Target:
    """Return a late or failed target with what is known of the cause.

    Of one that has been turned back nothing can be seen any more; what was told of it is told again.
    """
    before = told.get((each.workload.namespace, each.workload.name), {})
    if each.turned_back and (before or not each.message):
        return replace(each, reason=before.get("reason", ""), message=before.get("message", ""))
    found = world.diagnosed.get(each.workload)
    workload = world.store.workloads.get(each.workload)
    if not (each.failing or each.suspect) or found is None or workload is None:
        return each
    if (found.uid, found.generation) != (workload.uid, workload.generation):
        return each
    diagnosis = found.diagnosis
    failing = each.failing or diagnosis.ours
    return replace(
        each,
        reason=diagnosis.reason,
        message=diagnosis.message,
        excused=policy.cluster_wide and diagnosis.of_namespace,
        failing=failing,
        blamed=diagnosis.ours,
        state=State.FAILED if failing and each.refusal is None else each.state,
    )


def _carries(policy: PolicyId, workload: Workload, world: World) -> bool:
    """Whether *workload* bears a revision of *policy*, or Pods of it may still do."""
    if policy in record_of(workload.record).entries:
        return True
    return any(borne(each.record, policy) is not None for each in world.store.replica_sets(workload))


def _keep(explained: dict[tuple[str, str], Json], each: Target) -> None:
    """Note why a workload fails: it may be turned back before the status has told it."""
    place = (each.workload.namespace, each.workload.name)
    if each.failing and each.message:
        explained[place] = {"reason": each.reason, "message": each.message}
    elif not each.turned_back:
        explained.pop(place, None)
