"""Valid objects with one thing changed, as the core sees them."""

from __future__ import annotations

from typing import Any

from sidecarpolicy import names
from sidecarpolicy.core.decode import decode_policy
from sidecarpolicy.core.identity import PolicyId
from sidecarpolicy.core.kinds.deployment import child_from, workload_from
from sidecarpolicy.core.policy import Policy
from sidecarpolicy.core.record import Entry, ItemKey, Record, text_of
from sidecarpolicy.core.rendering import offline
from sidecarpolicy.core.revision import Revision
from sidecarpolicy.core.tree import Json
from sidecarpolicy.core.workload import Child, Workload
from tests.builders import a_cluster_policy, a_deployment, a_policy, a_sidecar

__all__ = ["a_cluster_policy", "a_deployment", "a_policy", "a_sidecar"]

WEB = PolicyId(kind=names.POLICY, namespace="shop", name="web")
EPOCH = "2026-01-01T00:00:00Z"
START = 1767225600.0  # the same in seconds


def at_second(seconds: float) -> str:
    """RFC 3339 text, *seconds* after START."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"2026-01-01T{hours:02}:{minutes:02}:{rest:02}Z"


def decoded(manifest: Json) -> Policy:
    """The policy that *manifest* declares."""
    return decode_policy(manifest)


def a_revision(*sidecars: Json, name: str = "web", created: str = "", cluster: bool = False, **spec: Any) -> Revision:
    """The revision of a policy with these sidecars, or with one."""
    build = a_cluster_policy if cluster else a_policy
    fields: Json = {"sidecars": list(sidecars), **spec} if sidecars else spec
    manifest = build(name, **fields)
    manifest["metadata"]["creationTimestamp"] = created
    return offline(decode_policy(manifest))


def a_record(revision: str | None, policy: PolicyId = WEB, **entry: Any) -> str:
    """A record that has *policy* at *revision*; empty for None."""
    if revision is None:
        return ""
    items = entry.pop("items", frozenset({ItemKey(list="initContainers", name="proxy")}))
    return text_of(Record(entries={policy: Entry(revision=revision, items=items, **entry)}))


def a_condition(
    kind: str, status: str = "True", reason: str = "", *, updated: float = 0, changed: float | None = None
) -> Json:
    """A condition of a Deployment; times in seconds after START."""
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": f"{kind} is {status}",
        "lastUpdateTime": at_second(updated),
        "lastTransitionTime": at_second(updated if changed is None else changed),
    }


def a_workload(
    name: str = "cart",
    *,
    record: str | None = None,
    generation: int = 1,
    observed: int | None = None,
    replicas: int = 2,
    status: tuple[int, int, int] | None = None,
    conditions: list[Json] | None = None,
    metadata: Json | None = None,
    **changes: Any,
) -> Workload:
    """A Deployment that is complete and available; *status*: all, updated and available replicas."""
    body = a_deployment(name, replicas=replicas, **changes)
    body["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": "1", "generation": generation} | (metadata or {})
    if record:
        body["metadata"]["annotations"] = body["metadata"]["annotations"] | {names.RECORD: record}
    everywhere, updated, available = status if status is not None else (replicas, replicas, replicas)
    body["status"] = {
        "observedGeneration": generation if observed is None else observed,
        "replicas": everywhere,
        "updatedReplicas": updated,
        "availableReplicas": available,
        "conditions": conditions
        if conditions is not None
        else [
            a_condition("Available", "True", "MinimumReplicasAvailable"),
            a_condition("Progressing", "True", "NewReplicaSetAvailable"),
        ],
    }
    return workload_from(body)


def a_replica_set(
    number: int,
    record: str | None = None,
    replicas: int = 0,
    owner: str = "uid-cart",
    *,
    created: float | None = None,
    changed: float | None = None,
    conditions: list[Json] | None = None,
) -> Child:
    """The ReplicaSet of a rollout, with its copy of the record.

    *created*, and *changed*, when its status was changed last: seconds after START; None for unknown.
    """
    annotations = {"deployment.kubernetes.io/revision": str(number)} | ({names.RECORD: record} if record else {})
    body: Json = {
        "metadata": {
            "name": f"cart-{number}",
            "namespace": "shop",
            "uid": f"uid-cart-{number}",
            "annotations": annotations,
            "ownerReferences": [{"kind": "Deployment", "name": "cart", "uid": owner, "controller": True}],
        },
        "spec": {"replicas": replicas},
        "status": {"replicas": replicas, "conditions": conditions or []},
    }
    if created is not None:
        body["metadata"]["creationTimestamp"] = at_second(created)
    if changed is not None:
        body["metadata"]["managedFields"] = [a_status_writer(changed)]
    found = child_from(body)
    assert found is not None
    return found


def a_status_writer(changed: float) -> Json:
    """The controller manager's entry in managedFields: it changed the status last, *changed* seconds after START."""
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "subresource": "status",
        "time": at_second(changed),
        "fieldsV1": {"f:status": {"f:replicas": {}}},
    }
