"""Facts: where each policy stands on one workload, put into the policies' fleets by difference.

A pure function of what is cached, of what this term remembers and of the time. It is called when one of those has
changed for a workload; nothing ever walks over all of them to find out what a rollout may do next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isinf

from sidecarpolicy import names
from sidecarpolicy.core.configs import state_of
from sidecarpolicy.core.decode import careful
from sidecarpolicy.core.fleet import Fleet
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.plan import proves_removal
from sidecarpolicy.core.policy import Policy, Rollout
from sidecarpolicy.core.progress import (
    Backoff,
    State,
    Target,
    in_conflict,
    is_config_step,
    observed,
    soak_ends,
    target,
)
from sidecarpolicy.core.sharing import shared
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.core.workload import Child, Workload, record_of
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.field_conflicts import conflict_of
from sidecarpolicy.engine.memory import Failed, Judgement
from sidecarpolicy.engine.pods import diagnosed, diagnosis_of
from sidecarpolicy.engine.retries import LONGEST
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.names import OnFailure, SkipReason

# How a policy is rolled out whose spec cannot be read: not at all.
DEFAULT_ROLLOUT = careful(Rollout())

# How long a removal that waits for its owner's word is left alone, in seconds; their word itself ends that at once.
AWAITS_SECONDS = 600.0


def observe(identity: WorkloadId, context: Context) -> float | None:
    """Bring every policy's fleet up to date with one workload; return when time alone changes something there."""
    cache, memory = context.cache, context.memory
    workload = cache.workloads.get(identity)
    if workload is None:
        forget(identity, context)
        return None
    remembered = memory.of(identity)
    if any(each.uid != workload.uid for each in remembered.written.values()):
        remembered.written = {}  # another one of its name
    children = cache.children(workload)
    concerned = shared(frozenset(cache.concerned(workload)))
    if (left := remembered.in_fleets - concerned) and observed(workload, children).behind:
        concerned = shared(concerned | (left & cache.policies.keys()))  # what is on its way out is not seen yet
    selecting = {each.id for each in cache.selecting(workload)}
    judgement = judged(workload, context)
    failed = failed_write(workload, context)
    moments = [failed.backoff.until] if failed is not None else []
    for policy in sorted(concerned):
        cached = cache.policies[policy]
        found = _target(cached, workload, children, judgement, context, wanted=policy in selecting, failed=failed)
        fleet = fleet_of(policy, context)
        before = fleet.get(identity)
        if policy not in selecting and proves_removal(before, found):
            memory.of_policy(policy).removal_proven = True
        if policy in selecting:
            fleet.put(found, wanted=True)
        elif (found.recorded or found.holds_slot) and not cache.goes(workload):
            fleet.put(found, wanted=False)
        else:
            fleet.drop(identity)
            _keep_no_more(policy, identity, context)
        if found.looks_again is not None:
            moments.append(found.looks_again)
    for policy in remembered.in_fleets - concerned:
        memory.of_policy(policy).fleet.drop(identity)
        _keep_no_more(policy, identity, context)
    remembered.in_fleets = concerned
    return min(moments, default=None)


def forget(identity: WorkloadId, context: Context) -> None:
    """Drop everything that is remembered of a workload that is gone."""
    remembered = context.memory.workloads.pop(identity, None)
    for policy in remembered.in_fleets if remembered is not None else ():
        context.memory.of_policy(policy).fleet.drop(identity)
        _keep_no_more(policy, identity, context)


def _keep_no_more(policy: PolicyId, identity: WorkloadId, context: Context) -> None:
    remembered = context.memory.of_policy(policy)
    remembered.warned.pop(identity, None)
    remembered.explained.pop(identity, None)
    remembered.uninspected.discard(identity)


def fleet_of(policy: PolicyId, context: Context) -> Fleet:
    """The fleet of *policy* on its way to its update revision; a new one where that is another than before.

    Then everything that concerns the policy is about to be observed anew: the cache has told so.
    """
    remembered, update = context.memory.of_policy(policy), context.cache.update_revision(policy)
    name = update.revision.name if update is not None else None
    if remembered.fleet.update != name:
        remembered.fleet = Fleet(name)
    return remembered.fleet


def failed_write(workload: Workload, context: Context) -> Failed | None:
    """The failed write of *workload* as it is now, while nothing is tried again.

    A wait that is longer than any was begun with a clock that was ahead; one without an end is meant.
    """
    remembered, now = context.memory.of(workload.id), context.now()
    failed = remembered.failed
    if failed is None:
        return None
    if (failed.uid, failed.generation) != (workload.uid, workload.generation):
        remembered.failed = None  # it has changed since
        return None
    until = failed.backoff.until
    return failed if now < until <= now + 2 * LONGEST or isinf(until) else None


def _target(
    cached: CachedPolicy,
    workload: Workload,
    children: Sequence[Child],
    judgement: Judgement,
    context: Context,
    *,
    wanted: bool,
    failed: Failed | None,
) -> Target:
    cache = context.cache
    policy, identity = cached.policy, cached.id
    update, current = cache.update_revision(identity), cache.current_revision(identity)
    rollout = policy.rollout if policy is not None else DEFAULT_ROLLOUT
    name = update.revision.name if update is not None else ""
    of_another = failed is not None and (
        failed.updates.get(identity, name) != name if wanted else cached.orphaning and identity not in failed.orphaned
    )
    seen = diagnosed(workload, context)
    found = target(
        identity,
        update.revision.name if update else None,
        workload,
        children,
        judgement.verdicts.get(identity) if wanted else None,
        rollout=rollout,
        now=context.now(),
        attempt=update.attempt_id if update and wanted else "",
        current=current.revision.name if current else None,
        busy_until=_busy_until(identity, workload, children, context),
        group=rollout.canary_group(workload.pod_labels, cache.namespace(workload.id.namespace).labels)
        if rollout.canary
        else "",
        deselected_by_owner=policy is not None
        and not cached.deleting
        and not wanted
        and deselected_by_owner(policy, workload, context),
        backoff=failed.backoff
        if failed is not None and not of_another
        else (None if wanted else _awaits_its_owner(cached, workload, context)),
        cleared_at=seen.at if seen is not None and not seen.diagnosis.ours else 0.0,
        uncrashed_at=seen.at if seen is not None and not seen.diagnosis.ours_crashed else 0.0,
        changed=judgement.changed(identity) if wanted and not is_pinned(judgement.verdicts.get(identity)) else (),
        config_state=_config_state(identity, judgement),
        config_since=update.config_since if update is not None else 0.0,
        declared=identity in judgement.declared,
    )
    found = _explained(found, cached, workload, context)
    if (conflict := conflict_of(identity, workload, context, removing=not wanted)) is not None:
        found = in_conflict(found, conflict)
    return found


def is_pinned(verdict: Skip | None) -> bool:
    """Whether the owner keeps a workload at the revision that it has."""
    return verdict is not None and verdict.reason is SkipReason.PINNED


def _config_state(policy: PolicyId, judgement: Judgement) -> str:
    """What tells the content of now of what *policy* names from any other."""
    wanted, entry = judgement.configs.get(policy), judgement.record.entries.get(policy)
    if wanted is None or entry is None or not entry.config:
        return ""
    return state_of(entry.config, wanted)


def _awaits_its_owner(cached: CachedPolicy, workload: Workload, context: Context) -> Backoff | None:
    """Why sidecars are not taken out of *workload* now: all of its Pods would go down, and its owner allows none of it.

    To bring them in took the owner's word, and so does taking them out.
    """
    entry = record_of(workload.record).entries.get(cached.id)
    allowed = workload.annotations.get(names.ALLOW_DOWNTIME) == "true"
    if not workload.takes_down or allowed or cached.orphaning or entry is None or not entry.items:
        return None
    message = (
        f"the removal takes all Pods of the Deployment down at once ({workload.takes_down}); the annotation "
        f'{names.ALLOW_DOWNTIME}: "true" on it allows that'
        f"{', and its next change by its owner takes them out too' if context.cache.has_admission else ''}"
    )
    return Backoff(until=context.now() + AWAITS_SECONDS, message=message, rejected=True)


def _busy_until(policy: PolicyId, workload: Workload, children: Sequence[Child], context: Context) -> float:
    """When another policy is done with *workload*: its rollout there soaks."""
    ends = 0.0
    for other, entry in record_of(workload.record).entries.items():
        cached, current = context.cache.policies.get(other), context.cache.current_revision(other)
        if other == policy or not entry.revision or entry.joined or cached is None or cached.policy is None:
            continue
        update = context.cache.update_revision(other)
        since = update.config_since if update is not None else 0.0
        soaked = current is not None and current.revision.name == entry.revision
        soaked = soaked and not is_config_step(entry.revision, entry.note, since)
        if not soaked:
            ends = max(ends, soak_ends(other, workload, children, rollout=cached.policy.rollout, now=context.now()))
    return ends


def deselected_by_owner(policy: Policy, workload: Workload, context: Context) -> bool:
    """Whether the owner took *workload* out of the selection: an older template of theirs would still be selected."""
    if policy.selector.matches(workload.pod_labels) or not context.cache.selects_namespace(
        policy, workload.id.namespace
    ):
        return False
    return any(policy.selector.matches(each.labels) for each in context.cache.children(workload))


def _still_to_roll_back(found: Target, cached: CachedPolicy, workload: Workload, context: Context) -> Target:
    """Return a target that halted its rollout as failed until it is rolled back, be it up again for a moment.

    A container that crashes again and again is up each time. What has decided about the fleet is not taken back by
    that: the status would say that it was rolled back, and its Pods would go on crashing.
    """
    update = context.cache.update_revision(cached.id)
    reason, message = context.memory.of_policy(cached.id).halted_by.get(workload.id, ("", ""))
    if not message or update is None or update.halt is None or found.failing or found.skip is not None:
        return found
    rollout = cached.policy.rollout if cached.policy is not None else DEFAULT_ROLLOUT
    if rollout.on_failure is not OnFailure.ROLLBACK or found.revision != update.revision.name:
        return found
    if found.note.failed or found.note.unhealthy_before:
        return found
    return replace(found, failing=True, suspect=False, blamed=True, reason=reason, message=message, state=State.FAILED)


def _explained(found: Target, cached: CachedPolicy, workload: Workload, context: Context) -> Target:
    """Return a late or failed target with what is known of the cause.

    Of one that has been rolled back nothing can be seen any more; what was seen of it is said again.
    """
    explained = context.memory.of_policy(cached.id).explained
    if found.rolled_back:
        reason, message = explained.get(workload.id, ("", ""))
        return replace(found, reason=reason, message=message) if message or not found.message else found
    diagnosis = diagnosis_of(workload, context, since=found.late_at or 0.0)
    if found.failing and diagnosis is None:
        # First its Pods are looked at: once it is rolled back they cannot be seen any more.
        state = State.PROGRESSING if found.skip is None else found.state
        return replace(found, failing=False, suspect=True, state=state)
    if (found.failing or found.suspect) and diagnosis is not None:
        # What has only just lost availability may be starting elsewhere: until it is late, a crash alone tells.
        failing = found.failing or (diagnosis.ours if found.late_at is not None else diagnosis.ours_crashed)
        not_counted = cached.id.cluster_wide and diagnosis.of_namespace
        # One that is left for inspection, for its namespace's own trouble, must not keep the others waiting for ever.
        left = (
            failing and not_counted and cached.policy is not None and cached.policy.rollout.on_failure is OnFailure.HALT
        )
        found = replace(
            found,
            holds_slot=found.holds_slot and not left,
            reason=diagnosis.reason,
            message=diagnosis.message,
            not_counted=not_counted,
            failing=failing,
            blamed=failing and diagnosis.ours,
            theirs=failing and bool(diagnosis.container) and not diagnosis.ours,
            state=State.FAILED if failing and found.skip is None else found.state,
        )
    found = _still_to_roll_back(found, cached, workload, context)
    if found.failing and found.message:
        explained[workload.id] = (found.reason, found.message)
    else:
        explained.pop(workload.id, None)
    return found
