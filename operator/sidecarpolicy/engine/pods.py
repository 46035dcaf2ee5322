"""Look, on demand, why a late rollout makes no progress: its newest Pods and their Events.

Only late rollouts are looked at, and each at most every LOOK_AGAIN seconds: watching all Pods of a cluster for the few
that fail would cost more than everything else together.
"""

from __future__ import annotations

from sidecarpolicy.core.diagnosis import Diagnosis, diagnose, probe_limits
from sidecarpolicy.core.ordering import start_order
from sidecarpolicy.core.tree import Json, at, items
from sidecarpolicy.core.workload import Workload, record_of
from sidecarpolicy.engine.context import Context
from sidecarpolicy.engine.memory import Diagnosed
from sidecarpolicy.engine.port import Api
from sidecarpolicy.engine.resources import EVENTS, PODS

LOOK_AGAIN = 30.0


async def examine(workload: Workload, api: Api, context: Context) -> Diagnosis:
    """Return why *workload* makes no progress; raises what the port raises."""
    remembered = context.memory.of(workload.id)
    kept = remembered.diagnosed
    if (
        kept is not None
        and (kept.uid, kept.generation) == (workload.uid, workload.generation)
        and context.now() < kept.at + LOOK_AGAIN
    ):
        return kept.diagnosis
    pods = await _newest_pods(workload, api, context)
    events: list[Json] = []
    for pod in pods[:1]:
        name = at(pod, "metadata")["name"]
        events += await api.list_in(EVENTS, workload.id.namespace, field_selector=f"regarding.name={name}")
    revisions = [
        revision
        for policy, entry in record_of(workload.record).entries.items()
        if (revision := context.revision(policy, entry.revision)) is not None
    ]
    ours = [sidecar.name for _, sidecar in start_order(revisions)]
    found = diagnose(workload, pods, events, ours, probe_limits(workload.content.template))
    remembered.diagnosed = Diagnosed(
        uid=workload.uid, generation=workload.generation, at=context.now(), diagnosis=found
    )
    return found


async def _newest_pods(workload: Workload, api: Api, context: Context) -> list[Json]:
    """The Pods of the newest ReplicaSet, the newest first."""
    newest = max(context.cache.replica_sets(workload), key=lambda each: each.number, default=None)
    if newest is None or not newest.pod_template_hash:
        return []
    found = await api.list_in(
        PODS, workload.id.namespace, label_selector=f"pod-template-hash={newest.pod_template_hash}"
    )
    owned = [
        pod
        for pod in found
        if any(each.get("uid") == newest.uid for each in items(at(pod, "metadata"), "ownerReferences"))
    ]
    return sorted(owned, key=lambda pod: str(at(pod, "metadata").get("creationTimestamp")), reverse=True)
