"""Look, on demand, why a late rollout makes no progress: its newest Pods and their Events.

Only late rollouts are looked at, and each at most every LOOK_AGAIN seconds: watching all Pods of a cluster for the few
that fail would cost more than everything else together.
"""

from __future__ import annotations

from sidecarpolicy.core.diagnosis import PROGRESS_DEADLINE, UNSEEN, Diagnosis, diagnose, probe_limits
from sidecarpolicy.core.ordering import start_order
from sidecarpolicy.core.progress import observed
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import Workload, record_of
from sidecarpolicy.engine.adjusted import as_recorded
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Diagnosed
from sidecarpolicy.engine.port import Api
from sidecarpolicy.engine.resources import EVENTS, PODS

LOOK_AGAIN = 30.0


def diagnosed(workload: Workload, context: Context, *, since: float = 0.0) -> Diagnosed | None:
    """What was found out about *workload* as it is now, *since* then; None where nobody has looked yet."""
    found = context.memory.of(workload.id).diagnosed
    if found is None or (found.uid, found.generation) != (workload.uid, workload.generation):
        return None
    return found if found.at >= since else None


def diagnosis_of(workload: Workload, context: Context, *, since: float = 0.0) -> Diagnosis | None:
    """The same without when that was."""
    found = diagnosed(workload, context, since=since)
    return found.diagnosis if found is not None else None


def is_known(workload: Workload, context: Context, *, since: float = 0.0) -> bool:
    """Whether its Pods were looked at *since* then, and not long ago."""
    found = diagnosed(workload, context, since=since)
    return found is not None and context.now() < found.at + LOOK_AGAIN


def assume(workload: Workload, context: Context) -> None:
    """Go on without a look at the Pods: then what was seen before, or the workload's own conditions, have to do."""
    _keep(diagnosis_of(workload, context) or Diagnosis(reason=PROGRESS_DEADLINE, message=UNSEEN), workload, context)


def _keep(diagnosis: Diagnosis, workload: Workload, context: Context) -> None:
    context.memory.of(workload.id).diagnosed = Diagnosed(
        uid=workload.uid, generation=workload.generation, at=context.now(), diagnosis=diagnosis
    )


async def examine(workload: Workload, api: Api, context: Context) -> Diagnosis:
    """Return why *workload* makes no progress, and keep it; raises what the port raises."""
    pods = await _newest_pods(workload, api, context)
    events: list[Json] = []
    for pod in pods[:1]:
        name = at(pod, "metadata")["name"]
        events += (await api.list_in(EVENTS, workload.id.namespace, field_selector=f"regarding.name={name}")).items
    record = record_of(workload.record)
    revisions = [
        as_recorded(revision, record)
        for policy, entry in record.entries.items()
        if (revision := context.revision(policy, entry.revision)) is not None
    ]
    ours = [sidecar.name for _, sidecar in start_order(revisions)]
    facts = observed(workload, context.cache.children(workload))
    limits = probe_limits(workload.content.template)
    found = diagnose(facts.said, facts.refused, pods, events, ours, limits)
    _keep(found, workload, context)
    return found


async def _newest_pods(workload: Workload, api: Api, context: Context) -> list[Json]:
    """The Pods of the newest ReplicaSet, the newest first."""
    newest = max(context.cache.children(workload), key=lambda each: each.number, default=None)
    if newest is None or not newest.pods:
        return []
    found = await api.list_in(PODS, workload.id.namespace, label_selector=newest.pods)
    owned = [
        pod
        for pod in found.items
        if any(each.get("uid") == newest.uid for each in items(at(pod, "metadata"), "ownerReferences"))
    ]
    return sorted(owned, key=lambda pod: str(at(pod, "metadata").get("creationTimestamp")), reverse=True)
