"""What a status warns of: things to know although nothing is refused."""

from __future__ import annotations

from collections.abc import Iterator, Set

from sidecarpolicy import names
from sidecarpolicy.core import counting
from sidecarpolicy.core.approvals import APPROVAL, approvals
from sidecarpolicy.core.configs import SECRET
from sidecarpolicy.core.identity import namespaces_in_words
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.rendering import dropped_fields, lacks_gate
from sidecarpolicy.core.revision import revision_name
from sidecarpolicy.core.status import Warned
from sidecarpolicy.core.text_limits import cause
from sidecarpolicy.core.times import is_timestamp
from sidecarpolicy.engine.cache import CachedPolicy
from sidecarpolicy.engine.context import Context
from sidecarpolicy.names import Strategy, WarningReason


def warnings_of(cached: CachedPolicy, context: Context) -> list[Warned]:
    """What an author should know about the policy itself and about each of its workloads."""
    remembered = context.memory.of_policy(cached.id)
    found = [warned for each in remembered.warned.values() for warned in each]
    found += [
        Warned(
            reason=WarningReason.INVALID_REVISION,
            message=f"cannot be read ({cause(problem)}): Deployments that have it stay as they are; restore it, or "
            "delete it: the update revision is written anew",
            where=f"ControllerRevision {place}",
        )
        for place, problem in context.cache.mangled(cached.id).items()
    ]
    if cached.policy is None:
        return found
    found += [
        Warned(
            reason=WarningReason.NO_STARTUP_GATE,
            message="WaitUntilReady has nothing to wait for: the container has neither a startupProbe nor a "
            "readinessProbe",
            where=f"spec.sidecars[{index}]",
        )
        for index, sidecar in enumerate(cached.policy.sidecars)
        if lacks_gate(sidecar)
    ]
    found += [
        Warned(
            reason=WarningReason.UNKNOWN_FIELD,
            message="is not known to this version of the operator and has no effect",
            where=path,
        )
        for path in cached.policy.unknown
    ]
    if served := context.cache.served:
        found.append(Warned(reason=WarningReason.NAMESPACED_INSTALL, message=_unseen(served), where=""))
    elif not context.cache.sees_nodes:
        message = (
            "no node is known, because there is none or because the operator may not list and watch nodes: whether "
            "their kubelets have native sidecars (1.29 and newer) cannot be told"
        )
        found.append(Warned(reason=WarningReason.NODES_UNKNOWN, message=message, where=""))
    update = context.cache.update_revision(cached.id)
    if update is not None and update.revision.name == revision_name(cached.id, cached.policy.words):
        found += [
            Warned(
                reason=WarningReason.DROPPED_FIELD,
                message="is not kept by the API server, which is too old for it or has the feature off: it has no "
                "effect",
                where=path,
            )
            for path in dropped_fields(cached.policy, update.revision)
        ]
    if wrong := sorted(each for each in approvals(cached.approve) if not APPROVAL.fullmatch(each)):
        message = (
            f"must be removal@<generation>, removal@<generation>#stuck or canary/<group>@<revision>, not {wrong[0]!r}"
        )
        where = f"metadata.annotations[{names.APPROVE}]"
        found.append(Warned(reason=WarningReason.INVALID_MARK, message=message, where=where))
    if cached.restarted_at and not is_timestamp(cached.restarted_at):
        message = f"must be a time such as 2026-11-29T15:04:05Z, not {cached.restarted_at!r}; it has no effect"
        where = f"metadata.annotations[{names.RESTARTED_AT}]"
        found.append(Warned(reason=WarningReason.INVALID_MARK, message=message, where=where))
    if cached.policy.rollout.strategy is Strategy.ON_NEXT_CHANGE and context.cache.has_admission is False:
        message = (
            "is carried out by the webhook, which is not installed: workloads wait until it is, or until the strategy "
            "is another"
        )
        found.append(Warned(reason=WarningReason.NEEDS_ADMISSION, message=message, where="spec.rollout.strategy"))
    found += [*_configs(cached.policy, context), *_declared(cached.policy, context)]
    return found + _unknown_names(cached.policy, context)


def _unseen(served: Set[str]) -> str:
    """What an operator that serves some namespaces only cannot see, and what follows from that."""
    return (
        f"the operator serves {namespaces_in_words(served)} only and may not read what is in no namespace, so it "
        "is unknown: nodes (a kubelet older than 1.29 is not noticed), the labels of namespaces (one that opts out has "
        "no effect, and no rule of Pod Security is known before a rollout fails), and ClusterSidecarPolicies (they "
        "are not served)"
    )


def _declared(policy: Policy, context: Context) -> list[Warned]:
    """How many workloads never restart for what `restartOn` names."""
    count = context.memory.of_policy(policy.id).fleet.count(counting.CONFIG_DECLARED)
    if not count:
        return []
    workloads = "1 Deployment does" if count == 1 else f"{count} Deployments do"
    message = (
        f"{workloads} not restart when a configuration changes: what was injected is applied from a file, the "
        f"annotation {names.RECORD} too, in which the operator would note it"
    )
    return [Warned(reason=WarningReason.CONFIG_NOT_NOTED, message=message, where="spec.restartOn")]


def _configs(policy: Policy, context: Context) -> Iterator[Warned]:
    """What of `restartOn` cannot be read, or is nowhere."""
    for config in policy.restart_on.objects:
        where = f"spec.restartOn.{'secrets' if config.kind == SECRET else 'configMaps'}"
        if problem := context.cache.configs.problem(config, policy.id.namespace):
            message = f"no Pod restarts when {config} changes, as long as it cannot be read: {cause(problem)}"
            yield Warned(reason=WarningReason.CONFIG_UNREADABLE, message=message, where=where)
        elif context.cache.configs.is_there(config, policy.id.namespace) is False:
            place = f"namespace {policy.id.namespace}" if policy.id.namespace else "any namespace"
            yield Warned(
                reason=WarningReason.CONFIG_NOT_FOUND,
                message=f"{config} is not in {place}; no Pod restarts before it is, and has changed",
                where=where,
            )


def _unknown_names(policy: Policy, context: Context) -> list[Warned]:
    """`startAfter` names that no policy provides; they bind nothing."""
    wanted = {name for sidecar in policy.sidecars for name in sidecar.start_after}
    if not wanted:
        return []
    provided = {
        sidecar.name
        for other in context.cache.policies.values()
        if other.policy is not None
        and (not policy.id.namespace or not other.id.namespace or other.id.namespace == policy.id.namespace)
        for sidecar in other.policy.sidecars
    }
    return [
        Warned(
            reason=WarningReason.UNKNOWN_START_AFTER,
            message=f"names {name!r}, which no policy provides",
            where=f"spec.sidecars[{index}].startAfter[{place}]",
        )
        for index, sidecar in enumerate(policy.sidecars)
        for place, name in enumerate(sidecar.start_after)
        if name not in provided
    ]
