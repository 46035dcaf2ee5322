"""Where a Deployment has no condition Progressing: what a real controller manager leaves instead."""

from __future__ import annotations

import json
import time
from typing import Any

import localcluster
from sidecarpolicy.core.kinds.deployment import child_from, own_of, workload_from
from sidecarpolicy.core.workload import NO_CONDITION, Child, Workload
from tests.builders import a_deployment
from tests.polling import poll


def test_the_last_old_pod_and_the_last_step_forward_leave_their_times(
    cluster: localcluster.Cluster, namespace: str
) -> None:
    kubectl = cluster.kubectl

    def listed(kind: str) -> list[dict[str, Any]]:
        answer = kubectl("get", kind, "--namespace", namespace, "--output=json", "--show-managed-fields")
        return list(json.loads(answer.stdout)["items"])

    def seen() -> tuple[Workload, list[Child]]:
        children = [child for each in listed("replicaset") if (child := child_from(each))]
        return workload_from(listed("deployment")[0]), sorted(children, key=lambda each: each.number)

    def is_over(found: tuple[Workload, list[Child]], replica_sets: int) -> bool:
        own, children = own_of(found[0]), found[1]
        return (
            own.observed_generation >= found[0].generation
            and own.status_replicas == own.updated_replicas == own.available_replicas == own.replicas
            and len(children) == replica_sets
            and not any(each.replicas for each in children[:-1])
        )

    body = a_deployment("cart", namespace, replicas=2, progressDeadlineSeconds=2147483647)
    kubectl("apply", "--filename=-", input=json.dumps(body))
    before, _ = poll(seen, until=lambda found: is_over(found, 1))
    assert own_of(before).progressing is NO_CONDITION
    begun = own_of(before).status_changed
    poll(lambda: time.time() >= begun + 2)  # times are whole seconds
    kubectl("set", "image", "deployment/cart", "app=example.test/cart:2", "--namespace", namespace)
    after, (old, new) = poll(seen, until=lambda found: is_over(found, 2))
    assert begun + 1 <= new.created <= old.status_changed, "the last old Pod went after the new ReplicaSet was made"
    assert own_of(after).status_changed >= new.created
