"""One policy leaves a Deployment and another one, which it has kept off, takes its place: one rollout of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any

import pykube
import pytest

import localcluster
from sidecarpolicy import names
from tests.api.replay import Replay, State
from tests.api.sampling import is_complete
from tests.builders import Manifest, a_cluster_policy, a_deployment, a_policy, a_sidecar
from tests.fleet import Fleet, image_of, init_names
from tests.kube import ClusterSidecarPolicy, SidecarPolicy

QUICK = {"minReadySeconds": 0}
# Seconds that a rollout takes at least, so that a status tells of it.
TOLD = 2
OLD, NEW = "example.test/proxy:old", "example.test/proxy:new"


def a_proxy_policy(namespace: str, name: str, image: str, tier: str = "web", **spec: Any) -> Manifest:
    """A policy that gives Deployments of *tier* a sidecar named proxy with *image*."""
    sidecars = [a_sidecar(container={"image": image})]
    return a_policy(name, namespace, sidecars=sidecars, selector={"matchLabels": {"tier": tier}}, rollout=QUICK, **spec)


def called(state: State, name: str) -> Manifest:
    """The object of that name in a collection; empty where there is none."""
    return next((each for each in state if each["metadata"]["name"] == name), {})


def proxies(deployments: Replay, name: str = "cart") -> list[str]:
    """Which proxies a Deployment's Pod template had, one after the other; empty for none."""
    images = (image_of(called(state, name), "proxy") for _, state in deployments.history)
    return [image for image, _ in groupby(images)]


def ready(policies: Replay, name: str) -> Iterator[tuple[float, str, Manifest]]:
    """When each other status of a policy was written, what its condition Ready said, and the whole status."""
    statuses = [(moment, called(state, name).get("status", {})) for moment, state in policies.history]
    for (_, before), (moment, status) in pairwise(statuses):
        if status != before:
            found = [each["status"] for each in status.get("conditions", []) if each["type"] == "Ready"]
            yield moment, found[0] if found else "", status


def assert_ready_last(policies: Replay, name: str, deployments: Replay) -> None:
    """Every status of a policy but the last says that it is not ready; the last is true, and a workload waited."""
    told = list(ready(policies, name))
    assert [said for _, said, _ in told if said == "True"] == ["True"]
    moment, said, _ = told[-1]
    assert said == "True"
    cart = called(deployments.at(moment), "cart")
    assert image_of(cart, "proxy") == NEW
    assert is_complete(cart)
    assert max(status["targets"]["pending"] + status["targets"]["progressing"] for _, _, status in told) > 0
    assert all(status["targets"]["skipped"] == 0 for _, _, status in told)


def replica_sets(fleet: Fleet, name: str = "cart") -> int:
    """How many Pod templates a Deployment has had."""
    found: Iterable[Manifest] = fleet.get("replicasets", version="apps/v1")["items"]
    return sum(each["metadata"]["ownerReferences"][0]["name"] == name for each in found)


def test_a_deployment_that_is_labelled_over_to_another_policy_rolls_out_once(
    fleet: Fleet, api: pykube.HTTPClient
) -> None:
    other = a_deployment("other", fleet.namespace)
    other["spec"]["template"]["metadata"]["labels"]["tier"] = "api"
    fleet.apply(a_deployment("cart", fleet.namespace, minReadySeconds=TOLD), other)
    fleet.apply(
        a_proxy_policy(fleet.namespace, "old", OLD),
        a_proxy_policy(fleet.namespace, "new", NEW, tier="api"),
    )
    for policy in ("old", "new"):
        fleet.wait("RolloutComplete", policy)
    assert replica_sets(fleet) == 2, "without sidecars, and with the first one"
    labels = {"spec": {"template": {"metadata": {"labels": {"tier": "api"}}}}}
    with (
        Replay(api, pykube.Deployment, fleet.namespace) as deployments,
        Replay(api, SidecarPolicy, fleet.namespace) as policies,
    ):
        fleet.kubectl("patch", "deployment", "cart", "--patch", json.dumps(labels))
        fleet.wait_for(lambda cart: image_of(cart, "proxy") == NEW)
        fleet.wait("NoTargets", "old")
        fleet.wait("RolloutComplete", "new")
    assert proxies(deployments) == [OLD, NEW]
    assert replica_sets(fleet) == 4, "its owner's own change of the labels, and the exchange"
    assert_ready_last(policies, "new", deployments)


def test_a_namespace_that_is_labelled_over_to_another_cluster_policy_rolls_out_once(
    fleet: Fleet, api: pykube.HTTPClient, cluster: localcluster.Cluster
) -> None:
    """The other one has never been anywhere: its first step is the exchange."""
    fleet.apply(a_deployment("cart", fleet.namespace, minReadySeconds=TOLD))
    for name, image in (("old", OLD), ("new", NEW)):
        selector = {"matchLabels": {"team": f"{name}-{fleet.namespace}"}}
        sidecars = [a_sidecar(container={"image": image})]
        rollout = QUICK | {"removal": "Automatic"}
        policy = a_cluster_policy(
            f"{name}-{fleet.namespace}", namespaceSelector=selector, sidecars=sidecars, rollout=rollout
        )
        fleet.apply(policy)
    kind, new = names.CLUSTER_POLICY, f"new-{fleet.namespace}"
    cluster.kubectl("label", "namespace", fleet.namespace, f"team=old-{fleet.namespace}")
    fleet.wait("RolloutComplete", f"old-{fleet.namespace}", kind=kind)
    fleet.wait("NoTargets", new, kind=kind)
    with (
        Replay(api, pykube.Deployment, fleet.namespace) as deployments,
        Replay(api, ClusterSidecarPolicy, None) as policies,
    ):
        cluster.kubectl("label", "namespace", fleet.namespace, f"team={new}", "--overwrite")
        fleet.wait_for(lambda cart: image_of(cart, "proxy") == NEW)
        fleet.wait("NoTargets", f"old-{fleet.namespace}", kind=kind)
        fleet.wait("RolloutComplete", new, kind=kind)
    assert proxies(deployments) == [OLD, NEW]
    assert replica_sets(fleet) == 3
    assert_ready_last(policies, new, deployments)
    cluster.kubectl("delete", "clustersidecarpolicy", new, f"old-{fleet.namespace}", "--timeout=60s")
    assert init_names(fleet.deployment()) == []


@pytest.mark.parametrize("proven", [True, False], ids=["proven", "never-rolled-out"])
def test_an_equal_policy_takes_the_place_of_a_deleted_one_without_a_rollout(fleet: Fleet, proven: bool) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace), a_deployment("other", fleet.namespace))
    heir, old = a_proxy_policy(fleet.namespace, "heir", OLD), a_proxy_policy(fleet.namespace, "old", OLD, priority=1)
    fleet.apply(heir if proven else old)
    fleet.wait("RolloutComplete", "heir" if proven else "old")
    before = fleet.templates()
    fleet.apply(heir, old)
    fleet.wait("RolloutComplete", "old")
    fleet.wait("AllSkipped", "heir")
    fleet.delete_policy("old")
    fleet.wait("RolloutComplete", "heir")
    assert fleet.templates() == before
    assert {replica_sets(fleet, name) for name in before} == {2}
