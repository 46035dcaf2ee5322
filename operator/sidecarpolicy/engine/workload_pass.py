"""Bring one workload to what is assigned to it: compose, compare, one JSON Patch.

The pass decides nothing about a rollout. It takes the steps that the policies' plans left for it, keeps every other
policy at the revision that the record names, repairs what is not as that revision makes it, unless another writer
keeps undoing that, and carries out what the owner's own marks ask for. If it ran twice the second time would write
nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from sidecarpolicy import names
from sidecarpolicy.core.checks import invalid_marks
from sidecarpolicy.core.claims import template_items
from sidecarpolicy.core.drift import drifted, mends
from sidecarpolicy.core.identity import PolicyId, WorkloadId
from sidecarpolicy.core.injection import Composition
from sidecarpolicy.core.kinds import kind_of
from sidecarpolicy.core.patch import json_patch
from sidecarpolicy.core.plan import Step
from sidecarpolicy.core.record import ItemKey, text_of
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.status import Warned
from sidecarpolicy.core.tree import Json, at
from sidecarpolicy.core.undone import Decision, Wait
from sidecarpolicy.core.workload import Workload, is_mangled, record_of
from sidecarpolicy.engine.desired import Desired, composed_on, desired_on
from sidecarpolicy.engine.foresight import foreseen
from sidecarpolicy.engine.port import PATCH_DOES_NOT_FIT, Conflict, NotFound, ObjectRef, Rejected, Transient
from sidecarpolicy.engine.resources import DEPLOYMENTS
from sidecarpolicy.engine.undoing import decisions_on, noted, remember
from sidecarpolicy.engine.world import REFUSAL_SECONDS, Judgement, Mutation, World
from sidecarpolicy.names import EventReason, WarningReason

log = logging.getLogger(__name__)


async def workload_pass(identity: WorkloadId, world: World) -> None:
    """Write what is to be written on one workload; raises what the port raises where it should be tried again."""
    workload = world.store.workloads.get(identity)
    if workload is None:
        world.forget(identity)
        return
    steps = world.steps.pop(identity, {})
    world.looked_at.add(identity)
    if workload.deleting or world.store.namespace(identity.namespace).terminating:
        return
    world.writing[identity] = frozenset(steps)
    try:
        await _bring(workload, steps, world)
    finally:
        del world.writing[identity]
        if steps:
            world.queue_policies_on(identity)  # no other policy's step is planned while one is carried out


async def _bring(workload: Workload, steps: dict[PolicyId, Step], world: World) -> None:
    judgement = world.judgement(workload)
    steps = {policy: stamped(step, world.now()) for policy, step in steps.items()}
    desired = desired_on(judgement, {}, world)
    composed = composed_on(workload, judgement, desired, {}, world)
    decisions = decisions_on(workload, judgement, composed.template, steps, world)
    resting = _rest(workload, decisions, world)
    if resting:
        judgement = _without_the_lost(judgement, resting, workload)
    if steps or resting:
        desired = desired_on(judgement, steps, world, resting)
        composed = composed_on(workload, judgement, desired, steps, world)
    _warn(workload, judgement, desired, composed, world)
    _tell_of_missing(workload, judgement, world)
    if world.stopped:
        return
    if not _operations(workload, judgement, composed) or (is_mangled(workload.record) and not composed.record):
        return
    composed = replace(composed, record=noted(composed.record, desired.held, decisions, workload, world))
    operations = _operations(workload, judgement, composed)
    if _is_repair(judgement, composed) and not await _may_repair(workload, judgement, composed, operations, world):
        return
    answer = await _write(workload, operations, steps, desired, world)
    remember(composed.record, desired.held, decisions, workload, answer, world)
    world.note(DEPLOYMENTS, answer)
    _tell(workload, judgement, composed, desired, steps, world)


def _operations(workload: Workload, judgement: Judgement, composed: Composition) -> list[Json]:
    return json_patch(
        uid=workload.uid,
        generation=workload.generation,
        before=judgement.template,
        after=composed.template,
        annotated=workload.annotated,
        record=workload.record,
        new_record=text_of(composed.record),
        path=workload.template,
    )


def _rest(workload: Workload, decisions: Mapping[PolicyId, Decision], world: World) -> frozenset[PolicyId]:
    """The policies that wait here, because another writer keeps undoing them; the pass comes again when one is due."""
    waits = {policy: decision.until for policy, decision in decisions.items() if isinstance(decision, Wait)}
    if waits:
        world.queue.add_after(workload.id, max(0.05, min(waits.values()) - world.now()))
    return frozenset(waits)


def _without_the_lost(judgement: Judgement, resting: frozenset[PolicyId], workload: Workload) -> Judgement:
    """Return *judgement* without the entries that the record has lost and that wait: they are not written again yet."""
    lost = resting - record_of(workload.record).entries.keys()
    entries = {policy: entry for policy, entry in judgement.record.entries.items() if policy not in lost}
    return replace(judgement, record=replace(judgement.record, entries=entries))


def _is_repair(judgement: Judgement, composed: Composition) -> bool:
    """Whether the patch only mends: no policy comes, goes or changes its revision."""
    before = {policy: entry.revision for policy, entry in judgement.record.entries.items()}
    after = {policy: entry.revision for policy, entry in composed.record.entries.items()}
    return before == after and judgement.template != composed.template


async def _may_repair(
    workload: Workload, judgement: Judgement, composed: Composition, operations: list[Json], world: World
) -> bool:
    """Whether a repair is ours to make, and would not be undone at once by an admission webhook."""
    takes_down = workload.takes_down and workload.annotations.get(names.ALLOW_DOWNTIME) != "true"
    if workload.controller or takes_down or world.mutation(workload) is not None:
        return False
    answer = await world.api.json_patch(DEPLOYMENTS, workload.id.namespace, workload.id.name, operations, dry_run=True)
    template = at(answer, *workload.template)
    undone = drifted(judgement.template, judgement.record, composed.template)
    if mends(judgement.template, composed.template, template, undone):
        world.mutated.pop(workload.id, None)
        return True
    there = {key for key, _ in template_items(at(template, "spec"))}
    world.mutated[workload.id] = Mutation(
        body=workload.body,
        missing={policy: gone for policy, items in undone.items() if (gone := items - there)},
        until=world.now() + REFUSAL_SECONDS,
    )
    if world.mutated[workload.id].missing:
        world.queue.add_after(workload.id, REFUSAL_SECONDS + 1.0)
    world.queue.add(workload.id)  # to warn of it
    for policy in judgement.record.entries:
        world.queue.add(policy)
    return False


async def _write(
    workload: Workload, operations: list[Json], steps: dict[PolicyId, Step], desired: Desired, world: World
) -> Json:
    """Send the patch and return the server's answer, which has still to be noted."""
    identity = workload.id
    try:
        body = await world.api.json_patch(DEPLOYMENTS, identity.namespace, identity.name, operations)
    except NotFound:
        for key in world.store.forget(DEPLOYMENTS, identity.namespace, identity.name):
            world.queue.add(key)
        raise
    except (Transient, Rejected) as error:
        revisions = frozenset(each.name for each in desired.assigned.values())
        if isinstance(error, Transient):
            world.postpone(workload, error, revisions, seconds=error.retry_after or 1.0)
        elif error.reason == PATCH_DOES_NOT_FIT:  # somebody wrote first: the watch will bring what
            world.postpone(workload, error, revisions, seconds=0.05)
            raise Conflict(verb=error.verb, what=error.what, message=error.message, status=error.status) from error
        else:
            world.refuse(workload, str(error), revisions)
        raise
    finally:
        for policy in {*desired.assigned, *steps}:
            world.queue.add(policy)
    world.postponed.pop(identity, None)
    return body


def _warn(workload: Workload, judgement: Judgement, desired: Desired, composed: Composition, world: World) -> None:
    """Keep what the policies' status should mention about this workload."""
    where = str(workload.id)
    common = [
        Warned(reason=WarningReason.INVALID_MARK, message=sentence, where=where)
        for sentence in invalid_marks(workload.labels, workload.annotations)
    ]
    if problem := is_mangled(workload.record):
        common.append(
            Warned(
                reason=WarningReason.INVALID_RECORD,
                message=f"annotation {names.RECORD} cannot be read ({problem}); nothing is removed because of it",
                where=where,
            )
        )
    if (mutation := world.mutation(workload)) is not None and not mutation.missing:
        common.append(
            Warned(reason=WarningReason.MUTATED, message="an admission webhook changes what is injected", where=where)
        )
    to_come = foreseen(workload, judgement, desired.assigned, desired.held, world)
    by_policy: dict[PolicyId, tuple[Warned, ...]] = {}
    for policy in {*judgement.verdicts, *judgement.record.entries, *desired.assigned}:
        own = list(common)
        entry = composed.record.entries.get(policy)
        revision = desired.assigned.get(policy)
        if revision is not None and entry is not None:
            own += _of_composition(revision, composed, where)
        own += (Warned(reason=each.reason, message=each.message, where=where) for each in to_come.get(policy, ()))
        by_policy[policy] = tuple(own)
    previous = world.warned.get(workload.id, {})
    if by_policy != previous:
        world.warned[workload.id] = by_policy
        for policy in {*by_policy, *previous}:
            if by_policy.get(policy) != previous.get(policy):
                world.queue.add(policy)


def _of_composition(revision: Revision, composed: Composition, where: str) -> list[Warned]:
    env = {each["name"] for each in revision.application.env}
    kept = [
        Warned(
            reason=WarningReason.ENV_KEPT, message=f"the application sets {item} itself; its value is kept", where=where
        )
        for item in composed.env_kept
        if item.name in env
    ]
    unknown = [
        Warned(
            reason=WarningReason.UNKNOWN_CONTAINER,
            message=f"spec.application.containers names {name!r}, which the application does not have",
            where=where,
        )
        for name in composed.unknown_containers
        if name in revision.application.containers
    ]
    return [*kept, *unknown]


def _tell(
    workload: Workload,
    judgement: Judgement,
    composed: Composition,
    desired: Desired,
    steps: dict[PolicyId, Step],
    world: World,
) -> None:
    """Events for what has just been written, on the Deployment and on each policy concerned."""
    before, after = judgement.record.entries, composed.record.entries
    if problem := is_mangled(workload.record):
        what = f"annotation {names.RECORD} could not be read ({problem}) and was written anew from what is there"
        world.events.emit(reference(workload), reason=EventReason.RECORD_REBUILT, message=what, warning=True)
    for policy in sorted({*before, *after}):
        old, new = before.get(policy), after.get(policy)
        if old is not None and new is not None and old == new:
            continue
        if new is not None:
            reason = EventReason.INJECTED
            images = _images(world.revision(policy, old.revision) if old else None, desired.assigned.get(policy))
            what = f"{new.revision} of {policy.label}: {images}"
            if old is not None and old.revision == new.revision:
                what = f"repaired {what}"
        else:
            reason = EventReason.REMOVED
            left = _listed(item for item in composed.left_behind if old and item in old.items)
            how = "handed over to the owner" if policy in desired.orphaned else "removed"
            what = f"sidecars of {policy.label} {how}" + (f"; left because changed by others: {left}" if left else "")
        world.events.emit(reference(workload), reason=reason, message=what, action="Patch")
        if (ref := policy_reference(policy, world)) is not None:
            world.events.emit(ref, reason=reason, message=f"{workload.id}: {what}", action="Patch")
    log.info("%s: %s", workload.id, "; ".join(step.why for step in steps.values()) or "as recorded")


def _tell_of_missing(workload: Workload, judgement: Judgement, world: World) -> None:
    """An Event, once per process, where the record names a policy that does not exist: what it has there is held."""
    for policy in sorted(judgement.subject.missing):
        if (workload.uid, policy) in world.told_missing:
            continue
        world.told_missing.add((workload.uid, policy))
        message = f"carries sidecars of {policy.label}, which does not exist; they are left as they are"
        world.events.emit(reference(workload), reason=EventReason.POLICY_MISSING, message=message, warning=True)


def _images(old: Revision | None, new: Revision | None) -> str:
    """`proxy envoy:1 → envoy:2, logger fluent-bit:3`."""
    if new is None:
        return "as it was"
    parts = []
    for sidecar in new.sidecars:
        image = sidecar.container.get("image")
        before = old.sidecar(sidecar.name) if old else None
        was = before.container.get("image") if before else None
        parts.append(f"{sidecar.name} {was} → {image}" if was and was != image else f"{sidecar.name} {image}")
    return ", ".join(parts)


def _listed(items: Iterable[ItemKey]) -> str:
    return ", ".join(str(item) for item in items)


def stamped(step: Step, now: float) -> Step:
    """Return *step* with the time at which it is written noted, where a rollout of ours begins with it."""
    if step.revision is None or step.joins or step.orphans:
        return step
    return replace(step, note=replace(step.note, stepped=float(int(now))))


def reference(workload: Workload) -> ObjectRef:
    """What an Event about *workload* refers to."""
    address = kind_of(workload).ADDRESS
    return ObjectRef(
        api_version=address.api_version,
        kind=address.kind,
        namespace=workload.id.namespace,
        name=workload.id.name,
        uid=workload.uid,
    )


def policy_reference(policy: PolicyId, world: World) -> ObjectRef | None:
    """What an Event about *policy* refers to; None where it is gone."""
    seen = world.store.policies.get(policy)
    if seen is None:
        return None
    return ObjectRef(
        api_version=names.API_VERSION, kind=policy.kind, namespace=policy.namespace, name=policy.name, uid=seen.uid
    )
