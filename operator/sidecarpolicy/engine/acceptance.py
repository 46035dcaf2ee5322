"""From an accepted policy to a stored revision: what has to be written next about a policy and its revisions.

`next_write` is a pure function of what is cached and remembered; the pass over the policy carries out what it returns
and asks again, until there is nothing. Only the canonical form needs a question to the API server, by dry run.

A policy is rejected where the API server refuses what it would inject (400, 422), in the server's own words, with its
paths turned into those of the author's YAML. A quota, missing rights or a server in trouble say nothing about the
author: the last accepted revision stays in force, the status says what is in the way, and it is tried again.
"""

from __future__ import annotations

import re

from sidecarpolicy import names
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.ordering import order_cycle
from sidecarpolicy.core.patch import escaped
from sidecarpolicy.core.pins import pinned_name
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.rendering import (
    NativeSidecarsUnsupported,
    canonical_request,
    canonical_revision,
)
from sidecarpolicy.core.revision import (
    Revision,
    StoredRevision,
    object_name,
    to_controller_revision,
)
from sidecarpolicy.core.status import Rejection
from sidecarpolicy.core.times import micro_timestamp
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import PolicyMemory
from sidecarpolicy.engine.port import Api, ApiError, Json, Rejected
from sidecarpolicy.engine.resources import POD_TEMPLATES
from sidecarpolicy.engine.write_requests import ChangeFinalizers, CreateRevision, MarkRevision, PolicyWrite
from sidecarpolicy.names import Reason

# Statuses that say something about what was sent, not about who sent it or when.
AUTHORS_FAULT = (400, 422)

# What a server that drops `restartPolicy: Always` says of the seal or of a probe.
STRIPPED = "may not be set for init containers without restartPolicy=Always"

# What a server answers, with a 500, where an object is larger than etcd or gRPC takes.
TOO_LARGE = ("request is too large", "message larger than max")

SERVER_PATHS = (
    (re.compile(r"template\.spec\.initContainers\[(\d+)\]"), r"spec.sidecars[\1].container"),
    (re.compile(r"template\.spec\.containers\[0\]"), "spec.application"),
    (re.compile(r"template\.spec\.volumes"), "spec.volumes"),
    (re.compile(r"template\.spec\.imagePullSecrets"), "spec.imagePullSecrets"),
    (re.compile(r"template\.(labels|annotations)"), r"spec.podMetadata.\1"),
)


STARTUP_PROBE = re.compile(r"spec\.sidecars\[(\d+)\]\.container\.startupProbe[\w.\[\]]*")


class Hindered(Exception):
    """Something that is no error of a request is in the way of a policy; the text says what, and what to do."""


def revisions_namespace(policy: PolicyId, context: Context) -> str:
    """Where the ControllerRevisions of *policy* are."""
    return policy.namespace or context.cache.operator_namespace


def with_finalizer(cached: CachedPolicy) -> ChangeFinalizers:
    """Put our finalizer on the policy, before anything of it is on a workload, and words for who meets it alone."""
    path, notes = "/metadata/finalizers", "/metadata/annotations"
    where = f"-n {cached.id.namespace} " if cached.id.namespace else ""
    release = f"sidecarpolicy release --keep-sidecars --without-operator {where}{pinned_name(cached.id)}"
    words = f"needs the operator; where that is gone: {release}"  # kubectl describe shows 138 bytes of it
    operations: list[Json] = [
        {"op": "add", "path": f"{path}/-", "value": names.FINALIZER}
        if cached.finalizers
        else {"op": "add", "path": path, "value": [names.FINALIZER]},
        {"op": "add", "path": f"{notes}/{escaped(names.DELETION)}", "value": words}
        if cached.annotated
        else {"op": "add", "path": notes, "value": {names.DELETION: words}},
    ]
    return ChangeFinalizers(policy=cached, operations=operations, why="accepted")


def without_finalizer(cached: CachedPolicy) -> ChangeFinalizers:
    """Take our finalizer off: nothing of the policy is on a workload any more."""
    path = f"/metadata/finalizers/{cached.finalizers.index(names.FINALIZER)}"
    return ChangeFinalizers(policy=cached, operations=[{"op": "remove", "path": path}], why="nothing of it is left")


def needs_canonical_form(cached: CachedPolicy, remembered: PolicyMemory, context: Context) -> bool:
    """Whether what *cached* declares has neither been stored nor asked about yet, or the cluster may be another now.

    An API server that does not know native sidecars is upgraded one day, and the policy need not be edited for that.
    """
    if not cached.declares or cached.deleting or context.cache.revision(cached.id, cached.declares) is not None:
        return False
    if context.cache.namespace(revisions_namespace(cached.id, context)).terminating:
        return False
    known = remembered.canonical.get(cached.declares)
    return known is None or (is_unsupported(known) and remembered.asks_again <= context.now())


def is_unsupported(known: Revision | Rejection | None) -> bool:
    """Whether it is the cluster that cannot have what a policy declares."""
    return isinstance(known, Rejection) and known.reason is Reason.UNSUPPORTED_CLUSTER


async def canonical_form(policy: Policy, api: Api, context: Context) -> Revision | Rejection:
    """Ask the API server for the canonical form; return why not where it refuses what *policy* declares.

    Raises ApiError for whatever says nothing about the author.
    """
    namespace = revisions_namespace(policy.id, context)
    try:
        answer = await api.create(POD_TEMPLATES, namespace, canonical_request(policy, namespace), dry_run=True)
        return canonical_revision(policy, answer)
    except NativeSidecarsUnsupported:
        return _unsupported("it dropped restartPolicy: Always")
    except Rejected as error:
        if error.status not in AUTHORS_FAULT:
            raise
        if STRIPPED in error.message:
            return _unsupported(f"it dropped restartPolicy: Always ({error.message})")
        return Rejection(reason=Reason.INVALID, message=in_the_authors_words(error.message, policy))


def is_too_large(error: ApiError) -> bool:
    """Whether an object can never be stored, however often it is tried."""
    return any(words in error.message for words in TOO_LARGE)


def too_large(error: ApiError) -> Rejection:
    """Refuse a policy whose revision cannot be stored."""
    message = f"spec: is too large: the API server cannot store the revision that it makes ({error.message})"
    return Rejection(reason=Reason.INVALID, message=message)


def accept(cached: CachedPolicy, remembered: PolicyMemory, context: Context) -> PolicyWrite | None:
    """Return what makes what *cached* declares its update revision; note in *remembered* why it cannot be.

    Equal words give the same revision for ever: going back to an old spec takes the old ControllerRevision up again.
    Raises Hindered where something is in the way.
    """
    if cached.policy is None or cached.problems:
        remembered.rejection = Rejection(reason=Reason.INVALID, message=cached.problems)
        remembered.accepted = cached.generation
        return None
    if names.FINALIZER not in cached.finalizers:
        return with_finalizer(cached)
    policy, cache, name = cached.policy, context.cache, cached.declares
    stored, update = cache.revision(policy.id, name), cache.update_revision(policy.id)
    found = stored.revision if stored is not None else remembered.canonical.get(name)
    if found is None:
        return None  # its canonical form has to be asked for first
    if isinstance(found, Rejection):
        remembered.rejection, remembered.accepted = found, cached.generation
        return None
    decided, decides = (remembered.accepted, remembered.met), (cached.generation, met_by(found, context))
    if update is None or update.revision.name != name or decided != decides:
        remembered.rejection = order_cycle_of(found, context)
        remembered.accepted, remembered.met = decides
    if remembered.rejection is not None:
        return None
    namespace = revisions_namespace(policy.id, context)
    if cache.namespace(namespace).terminating:
        return None  # its controller deletes the revisions before the policy, and nothing can be created there
    now = micro_timestamp(context.now())
    number = 1 + max((each.number for each in cache.revisions(policy.id)), default=0)
    if stored is None:
        place = object_name(policy.id, name)
        if cache.is_mangled(namespace, place):
            raise Hindered(
                f"ControllerRevision {namespace}/{place} is there and cannot be read: delete it with "
                f"`kubectl delete controllerrevision {place} -n {namespace}`, it is written anew"
            )
        new = StoredRevision(revision=found, object_name=place, number=number, since=now)
        body = to_controller_revision(new, policy=policy, namespace=namespace)
        return CreateRevision(namespace=namespace, body=body, why=f"generation {cached.generation}")
    if update is not None and update.revision.name != name:
        return MarkRevision(
            namespace=namespace,
            stored=stored,
            annotations={
                names.SINCE: now,
                names.ATTEMPT: str(stored.attempt + 1),
                names.HALT: None,
                names.APPROVED: None,
                names.CONFIG_SINCE: None,
            },
            number=number,
            why=f"generation {cached.generation} declares it again",
        )
    return None


def met_by(revision: Revision, context: Context) -> frozenset[str]:
    """The revisions of other policies with which `startAfter` of *revision* could make a cycle."""
    if not any(each.start_after for each in revision.sidecars):
        return frozenset()
    cache, namespace = context.cache, revision.policy.namespace
    others = (each for each in cache.policies if not (namespace and each.namespace) or each.namespace == namespace)
    stored = (cache.update_revision(each) for each in others if each != revision.policy)
    return frozenset(each.object_name for each in stored if each is not None)


def order_cycle_of(revision: Revision, context: Context) -> Rejection | None:
    """Refuse *revision* where, with the policies it shares a workload with, `startAfter` cannot be met."""
    cache = context.cache
    cached = cache.policies.get(revision.policy)
    if cached is None or cached.policy is None or not any(each.start_after for each in revision.sidecars):
        return None  # a cycle through this policy needs one of its own sidecars to start after another
    others = {
        other.id
        for workload in cache.reached_by(revision.policy)
        if cache.selects(cached.policy, workload)
        for other in cache.selecting(workload)
    } - {revision.policy}
    stored = [each for other in sorted(others) if (each := cache.update_revision(other)) is not None]
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
        message="native sidecars need Kubernetes 1.29 or newer, with the feature on, and no admission that takes "
        f"restartPolicy away: the API server does not keep them: {why}",
    )


def in_the_authors_words(message: str, policy: Policy) -> str:
    """Return the server's *message* with the paths of the dry run's PodTemplate turned into those of the policy.

    A startupProbe that the author never wrote was made from the readinessProbe, and is said to be.
    """
    _, _, tail = message.partition(" is invalid: ")
    text = tail or message
    for pattern, path in SERVER_PATHS:
        text = pattern.sub(path, text)

    def origin(found: re.Match[str]) -> str:
        number = int(found[1])
        own = number >= len(policy.sidecars) or "startupProbe" in policy.sidecars[number].container
        return found[0] if own else f"{found[0]} (made from its readinessProbe, because startup is WaitUntilReady)"

    return STARTUP_PROBE.sub(origin, text)
