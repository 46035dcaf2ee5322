"""What `explain` says of a Deployment of a cluster: judged, composed and diagnosed as the operator does it.

Only what a person asks for is computed: what becomes of this one Deployment when every policy has had its turn. Halted
rollouts have none; what is pinned goes where its owner pins it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from sidecarpolicy.cli.asking import Asked
from sidecarpolicy.cli.explaining import Explained, share
from sidecarpolicy.cli.offline import Did, Note, verdict_note
from sidecarpolicy.cli.operator_seen import look_at_operator
from sidecarpolicy.cli.snapshot import Snapshot, snapshot_of
from sidecarpolicy.cli.whereabouts import doing
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.progress import Target
from sidecarpolicy.core.record import INIT_CONTAINERS, Entry
from sidecarpolicy.core.skips import Skip
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Workload
from sidecarpolicy.engine.adjusted import as_adjusted
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.memory import Judgement
from sidecarpolicy.engine.observe import fleet_of
from sidecarpolicy.engine.preflight import preflight
from sidecarpolicy.engine.prepare import Prepared, prepare, warn
from sidecarpolicy.engine.skip_verdicts import judged
from sidecarpolicy.names import DeletionPolicy, SkipReason

REMOVING = "removing"
ORPHANED = "orphaned"  # no policy that may act here answers for it
UNKNOWN = "unknown"  # its policy cannot be read


def in_cluster(asked: Asked, place: tuple[str, str]) -> Explained:
    """Return what is to be said of the Deployment *place*; tell on standard error what is in the way of an answer.

    Raises click.ClickException where there is none, and ApiError.
    """
    namespace, name = place
    look = look_at_operator(asked)
    body = asked.deployment(namespace or asked.namespace, name)
    seen = look()
    found = snapshot_of(asked, body, seen.watches)
    for line in (*seen.banners, *found.short_notes):
        click.echo(line, err=True)
    (workload,) = found.context.cache.workloads.values()
    return _explained(found, workload, asked.cluster.server)


def _explained(found: Snapshot, workload: Workload, source: str) -> Explained:
    context = found.context
    targets = {policy: _target(found, workload, policy) for policy in sorted(context.cache.concerned(workload))}
    judgement = judged(workload, context)
    steps = {
        policy: step
        for policy, target in targets.items()
        if (step := _last_step(context.cache.policies[policy], target, judgement, found)) is not None
    }
    prepared = prepare(workload, steps, context)
    warn(prepared, workload, context)
    carried = {policy for policy, entry in judgement.record.entries.items() if entry.revision}  # others are notes only
    concerned = sorted({*judgement.verdicts, *carried, *targets})
    return Explained(
        workload=workload.id,
        source=source,
        before=workload.content.template,
        recorded=judgement.record,
        after=prepared.composed.template,
        record=prepared.composed.record,
        policies=[_policy(policy, targets.get(policy), prepared, found) for policy in concerned],
        notes=(*_notes(prepared, targets, found), *_warnings(concerned, prepared, found)),
    )


def _target(found: Snapshot, workload: Workload, policy: PolicyId) -> Target | None:
    """Where *workload* stands with *policy*; None where nothing of it is or shall be there."""
    cached = found.context.cache.policies[policy]
    found.fleet(cached)
    return fleet_of(policy, found.context).get(workload.id)


def _last_step(cached: CachedPolicy, target: Target | None, judgement: Judgement, found: Snapshot) -> Step | None:
    """The step after which the Deployment has what *cached* has for it; None where it has that, or gets no further."""
    entry, skip = judgement.record.entries.get(cached.id), judgement.verdicts.get(cached.id)
    (workload,) = found.context.cache.workloads
    if cached.id not in judgement.verdicts:
        if entry is None or cached.policy is None:
            return None
        orphans = cached.deleting and cached.deletion_policy is DeletionPolicy.ORPHAN
        return Step(workload=workload, revision=None, orphans=orphans, why="")
    update = found.context.cache.update_revision(cached.id)
    wanted = update.revision.name if update is not None else None
    if skip is not None:
        wanted = skip.pinned_to
    elif update is not None and (update.halt is not None or (target is not None and target.rolled_back)):
        return None
    return (
        Step(workload=workload, revision=wanted, why="") if wanted and (not entry or entry.revision != wanted) else None
    )


def _policy(policy: PolicyId, target: Target | None, prepared: Prepared, found: Snapshot) -> Json:
    cached = found.context.cache.policies.get(policy)
    before = prepared.judgement.record.entries.get(policy, Entry(revision=""))
    after = prepared.composed.record.entries.get(policy, Entry(revision=""))
    update = found.context.cache.update_revision(policy)
    skip = prepared.judgement.verdicts.get(policy)
    state, reason, message = ORPHANED if policy in prepared.judgement.missing else UNKNOWN, "", ""
    if target is not None:
        state = target.state.value if policy in prepared.judgement.verdicts else REMOVING
        reason, message = target.reason, target.message
        if skip is not None and not skip.waits_for:  # what waits for another policy is pending, and not skipped
            reason, message = skip.reason.value, skip.message
        if not message and target.holds_slot and cached is not None and cached.policy is not None:
            message = doing(found, target, cached.policy.rollout)
    return {
        "policy": policy.label,
        "revision": after.revision,
        "sidecars": sorted(after.names(INIT_CONTAINERS) | after.adopted),
        "skipped": sorted(after.adjustment.skipped),
        "overridden": [name for name, _ in after.adjustment.overrides],
        "maxConcurrent": share(cached.policy.rollout if cached is not None and cached.policy is not None else None),
        "runs": before.revision,
        "state": state,
        "reason": reason,
        "message": message,
        "pinnedTo": _pinned_to(skip),
        "halt": update.halt.id if update is not None and update.halt is not None else "",
        "paused": bool(cached is not None and cached.policy is not None and cached.policy.rollout.paused),
    }


def _pinned_to(skip: Skip | None) -> str:
    return (skip.pinned_to or "") if skip is not None and skip.reason is SkipReason.PINNED else ""


def _notes(prepared: Prepared, targets: Mapping[PolicyId, Target | None], found: Snapshot) -> Iterator[Note]:
    """Yield what becomes of each policy, as `inject` and `diff` say it, and of what no policy answers for."""
    cache, judgement, after = found.context.cache, prepared.judgement, prepared.composed.record
    for policy, skip in judgement.verdicts.items():
        revision = cache.update_revision(policy)
        if revision is not None:
            wanted = as_adjusted(revision.revision, judgement.wishes, judgement.record, found.context)
            entry = after.entries.get(policy)
            if skip is None and (entry is None or entry.revision != wanted.name):
                yield _held(policy, entry, cache.policies[policy])
            else:
                yield verdict_note(wanted, skip, judgement.record, prepared.changes_pods)
    for policy, entry in judgement.record.entries.items():
        if policy in judgement.verdicts or not entry.revision:
            continue
        what = f"{policy.label} at {entry.revision}"
        if policy in judgement.missing:
            why = "there is no such policy that may act here; `sidecarpolicy orphans` tells more"
            yield Note(did=Did.KEPT, text=f"{what}: {why}")
        elif policy in after.entries:
            yield Note(did=Did.KEPT, text=f"{what}: its policy cannot be read ({cache.policies[policy].problems})")
        elif entry.items & after.orphaned:
            yield Note(did=Did.KEPT, text=f"{what}: the owner's own from now on (Orphan)")
        else:
            why = "it is being deleted" if cache.policies[policy].deleting else "it does not select this Deployment"
            yield Note(did=Did.REMOVED, text=f"{what}: {why}")


def _held(policy: PolicyId, entry: Entry | None, cached: CachedPolicy) -> Note:
    """Say that a revision does not come here, although nothing of this Deployment is in its way."""
    has = f"{entry.revision} stays" if entry is not None and entry.revision else "it gets nothing"
    return Note(did=Did.KEPT, text=f"{policy.label}: its rollout is halted, or failed here: {has}")


def _warnings(concerned: list[PolicyId], prepared: Prepared, found: Snapshot) -> Iterator[Note]:
    """Yield what the policies' status warns of about this Deployment, each warning once.

    A status tells what a revision would cost also where its rollout is halted; here it does not come.
    """
    workload, memory = prepared.workload, found.context.memory
    foretold = preflight(workload, prepared.judgement, prepared.desired.assigned, prepared.desired.held, found.context)
    warned = {
        each: None
        for policy in concerned
        if policy in found.context.cache.policies
        for each in memory.of_policy(policy).warned.get(workload.id, ())
        if _comes(policy, prepared, found)
        or (each.reason, each.message) not in {(one.reason, one.message) for one in foretold.get(policy, ())}
    }
    for each in warned:
        yield Note(did=Did.WARNING, text=f"{each.reason}: {each.message}", reason=each.reason)


def _comes(policy: PolicyId, prepared: Prepared, found: Snapshot) -> bool:
    """Whether the Deployment is at the update revision of *policy*, or gets it."""
    update, entry = found.context.cache.update_revision(policy), prepared.composed.record.entries.get(policy)
    return update is not None and entry is not None and entry.revision == update.revision.name
