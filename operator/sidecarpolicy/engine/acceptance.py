"""From an accepted policy to a stored revision: the finalizer, the dry run, the ControllerRevision.

A policy is refused where the API server refuses what it would inject (400, 422), in the server's own words, with its
paths turned into those of the author's YAML. A quota, missing rights or a server in trouble say nothing about the
author: the policy stays as it was and is tried again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.ordering import order_cycle
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.rendering import (
    NativeSidecarsUnsupported,
    canonical_request,
    canonical_revision,
)
from sidecarpolicy.core.revision import (
    Halt,
    Revision,
    StoredRevision,
    halt_text,
    object_name,
    revision_name,
    to_controller_revision,
)
from sidecarpolicy.core.status import Rejection
from sidecarpolicy.core.times import micro_timestamp
from sidecarpolicy.engine.port import PATCH_DOES_NOT_FIT, Conflict, Json, Rejected
from sidecarpolicy.engine.resources import POD_TEMPLATES, POLICIES, REVISIONS
from sidecarpolicy.engine.store import SeenPolicy
from sidecarpolicy.engine.world import World
from sidecarpolicy.names import Reason

# Statuses that say something about what was sent, not about who sent it or when.
AUTHORS_FAULT = (400, 422)

# What a server that drops `restartPolicy: Always` says of the seal or of a probe.
STRIPPED = "may not be set for init containers without restartPolicy=Always"

SERVER_PATHS = (
    (re.compile(r"template\.spec\.initContainers\[(\d+)\]"), r"spec.sidecars[\1].container"),
    (re.compile(r"template\.spec\.containers\[0\]"), "spec.application"),
    (re.compile(r"template\.spec\.volumes"), "spec.volumes"),
)


async def ensure_finalizer(seen: SeenPolicy, world: World) -> None:
    """Put our finalizer on the policy, before anything of it is on a workload."""
    if names.FINALIZER in seen.finalizers:
        return
    path = "/metadata/finalizers"
    change: Json = (
        {"op": "add", "path": f"{path}/-", "value": names.FINALIZER}
        if seen.finalizers
        else {"op": "add", "path": path, "value": [names.FINALIZER]}
    )
    await _patch_metadata(seen, change, world)


async def drop_finalizer(seen: SeenPolicy, world: World) -> None:
    """Take our finalizer off: nothing of the policy is on a workload any more."""
    if names.FINALIZER in seen.finalizers:
        index = seen.finalizers.index(names.FINALIZER)
        await _patch_metadata(seen, {"op": "remove", "path": f"/metadata/finalizers/{index}"}, world)


async def _patch_metadata(seen: SeenPolicy, change: Json, world: World) -> None:
    resource = POLICIES[seen.id.kind]
    operations = [{"op": "test", "path": "/metadata/resourceVersion", "value": str(seen.version)}, change]
    try:
        body = await world.api.json_patch(resource, seen.id.namespace, seen.id.name, operations)
    except Rejected as error:
        if error.reason == PATCH_DOES_NOT_FIT:  # somebody wrote first, and the watch will tell what
            raise Conflict(verb=error.verb, what=error.what, message=error.message, status=error.status) from error
        raise
    world.note(resource, body)


async def ensure_revision(policy: Policy, world: World) -> Rejection | None:
    """Make what *policy* declares its update revision; return why not where it cannot be.

    Equal words give the same revision for ever: going back to an old spec takes the old ControllerRevision up again.
    """
    name = revision_name(policy.id, policy.words)
    stored = world.store.revision(policy.id, name)
    update = world.store.update_revision(policy.id)
    if stored is None:
        try:
            revision = await _canonical(policy, world)
        except NativeSidecarsUnsupported:
            return _unsupported("dropped `restartPolicy: Always` of an init container")
        except Rejected as error:
            if error.status not in AUTHORS_FAULT:
                raise
            if STRIPPED in error.message:
                return _unsupported(error.message)
            return Rejection(reason=Reason.INVALID, message=in_the_authors_words(error.message))
    else:
        revision = stored.revision
    if cycle := _order_cycle(revision, world):
        return cycle
    if stored is None:
        await _create(policy, revision, world)
    elif update is not None and update.revision.name != name:
        now = micro_timestamp(world.now())
        again = {names.SINCE: now, names.ATTEMPT: str(stored.attempt + 1), names.HALT: None, names.APPROVED: None}
        await _annotate(stored, policy.id, again, world)
    return None


async def mark_completed(stored: StoredRevision, policy: PolicyId, world: World) -> None:
    """Write down, once, that every workload that is not skipped has the revision."""
    await _annotate(stored, policy, {names.COMPLETED: micro_timestamp(world.now())}, world)


async def halt(stored: StoredRevision, policy: PolicyId, reason: str, world: World) -> None:
    """Write down that the rollout of *stored* is halted: a restart must not forget it."""
    halted = Halt(id=stored.attempt_id, reason=reason, since=micro_timestamp(world.now()))
    await _annotate(stored, policy, {names.HALT: halt_text(halted)}, world)


async def resume(stored: StoredRevision, policy: PolicyId, world: World) -> None:
    """Erase the halt of *stored* and begin its next attempt: what failed may be tried again."""
    await _annotate(stored, policy, {names.HALT: None, names.ATTEMPT: str(stored.attempt + 1)}, world)


async def approve(stored: StoredRevision, policy: PolicyId, approved: frozenset[str], world: World) -> None:
    """Write down what the author has approved: it holds when the policy's annotation is gone again."""
    await _annotate(stored, policy, {names.APPROVED: ",".join(sorted(approved))}, world)


async def prune(policy: Policy, in_use: frozenset[str], world: World) -> None:
    """Delete the oldest stored revisions beyond the limit that nothing uses: neither a workload nor the rollout."""
    current = world.store.current_revision(policy.id)
    update = world.store.update_revision(policy.id)
    needed = in_use | {each.revision.name for each in (current, update) if each is not None}
    old = sorted(
        (each for each in world.store.revisions(policy.id) if each.revision.name not in needed),
        key=lambda each: each.since,
    )
    namespace = policy.id.namespace or world.operator_namespace
    for each in old[: max(0, len(old) - policy.revision_history_limit)]:
        await world.api.delete(REVISIONS, namespace, each.object_name)
        world.store.forget(REVISIONS, namespace, each.object_name)


async def _canonical(policy: Policy, world: World) -> Revision:
    namespace = policy.id.namespace or world.operator_namespace
    request = canonical_request(policy, namespace)
    answer = await world.api.create(POD_TEMPLATES, namespace, request, dry_run=True)
    return canonical_revision(policy, answer)


async def _create(policy: Policy, revision: Revision, world: World) -> None:
    namespace = policy.id.namespace or world.operator_namespace
    stored = StoredRevision(
        revision=revision,
        object_name=object_name(policy.id, revision.name),
        number=1 + max((each.number for each in world.store.revisions(policy.id)), default=0),
        since=micro_timestamp(world.now()),
    )
    body = to_controller_revision(stored, policy=policy, namespace=namespace)
    world.note(REVISIONS, await world.api.create(REVISIONS, namespace, body))


async def _annotate(stored: StoredRevision, policy: PolicyId, changes: Mapping[str, str | None], world: World) -> None:
    namespace = policy.namespace or world.operator_namespace
    body = {"metadata": {"annotations": dict(changes)}}
    world.note(REVISIONS, await world.api.merge_patch(REVISIONS, namespace, stored.object_name, body))


def _order_cycle(revision: Revision, world: World) -> Rejection | None:
    """Refuse *revision* where, with the policies it shares a workload with, `startAfter` cannot be met."""
    seen = world.store.policies.get(revision.policy)
    if seen is None or seen.policy is None or not any(each.start_after for each in revision.sidecars):
        return None  # a cycle through this policy needs one of its own sidecars to start after another
    others = {
        other.id
        for workload in world.store.reached_by(revision.policy)
        if world.store.selects(seen.policy, workload)
        for other in world.store.selecting(workload)
    } - {revision.policy}
    stored = [each for other in others if (each := world.store.update_revision(other)) is not None]
    found = order_cycle([revision, *(each.revision for each in stored)])
    if found is None or found[0] != revision.policy:
        return None
    owners = {
        sidecar.name: each.policy.label
        for each in (revision, *(each.revision for each in stored))
        for sidecar in each.sidecars
    }
    chain = " after ".join(f"{name!r} of {owners[name]}" for name in (*found[1], found[1][0]))
    return Rejection(
        reason=Reason.ORDER_CYCLE,
        message=f"spec.sidecars: startAfter makes a cycle with other policies on the same workload: {chain}",
    )


def _unsupported(why: str) -> Rejection:
    return Rejection(
        reason=Reason.UNSUPPORTED_CLUSTER,
        message=f"the API server does not keep native sidecars (Kubernetes 1.29 or newer has them): {why}",
    )


def in_the_authors_words(message: str) -> str:
    """Return the server's *message* with the paths of the dry run's PodTemplate turned into those of the policy."""
    _, _, tail = message.partition(" is invalid: ")
    text = tail or message
    for pattern, path in SERVER_PATHS:
        text = pattern.sub(path, text)
    return text
