"""Nodes come and go, and with them what may be injected. A Node is only an object here: no kubelet is behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest

import localcluster
from tests.builders import Manifest, a_deployment, a_node, a_policy, a_sidecar, a_waiting_deployment
from tests.fleet import Fleet, init_names
from tests.polling import poll

QUICK = {"minReadySeconds": 0}
OLD = "v1.28.15"


@pytest.fixture
def nodes(cluster: localcluster.Cluster, namespace: str) -> Iterator[Nodes]:
    """Nodes of a test's own, gone at its end."""
    found = Nodes(cluster, namespace)
    yield found
    found.leave_all()


class Nodes:
    """Nodes that join, are upgraded and leave; their names begin with that of the test's namespace."""

    def __init__(self, cluster: localcluster.Cluster, namespace: str) -> None:
        self._cluster, self._prefix = cluster, namespace
        self._there: set[str] = set()

    def join(self, name: str, kubelet: str = "v1.37.2", *, system: str = "linux", **labels: str) -> str:
        """Let a node join; return its full name."""
        full = f"{self._prefix}-{name}"
        self._there.add(full)
        node = a_node(full, kubelet=kubelet, labels=labels, system=system)
        self._cluster.kubectl("create", "--filename=-", input=json.dumps(node))
        return full

    def upgrade(self, full: str, kubelet: str) -> None:
        """Let its kubelet report another version."""
        patch = json.dumps({"status": {"nodeInfo": {"kubeletVersion": kubelet}}})
        self._cluster.kubectl("patch", "node", full, "--subresource=status", "--type=merge", f"--patch={patch}")

    def leave(self, full: str) -> None:
        """Take a node away."""
        self._cluster.kubectl("delete", "node", full)
        self._there.discard(full)

    def leave_all(self) -> None:
        """Take all of them away."""
        for each in sorted(self._there):
            self.leave(each)


def a_quick_policy(namespace: str, image: str = "example.test/proxy:1") -> Manifest:
    """A policy without a soak."""
    return a_policy("web", namespace, rollout=QUICK, sidecars=[a_sidecar(container={"image": image})])


def warnings(status: Manifest) -> dict[str, Manifest]:
    """What a status warns of, by reason, without what every policy of these tests is told."""
    return {each["reason"]: each for each in status.get("warnings", []) if each["reason"] != "NoStartupGate"}


def skipped(status: Manifest) -> dict[str, int]:
    """How many are skipped, by reason."""
    return {each["reason"]: each["count"] for each in status.get("skipped", [])}


def test_a_node_that_is_too_old_keeps_sidecars_out_until_it_leaves(fleet: Fleet, nodes: Nodes) -> None:
    old = nodes.join("old", OLD)
    fleet.apply(a_deployment("cart", fleet.namespace), a_quick_policy(fleet.namespace))
    status = fleet.wait("AllSkipped")
    assert skipped(status) == {"NodeTooOld": 1}
    assert f"node {old}, whose kubelet {OLD}" in status["skipped"][0]["message"]
    nodes.leave(old)
    assert skipped(fleet.wait("RolloutComplete")) == {}
    assert init_names(fleet.deployment()) == ["proxy"]


def test_what_is_there_when_an_old_node_joins_is_kept_and_told_and_goes_on_after_its_upgrade(
    fleet: Fleet, nodes: Nodes
) -> None:
    fleet.apply(a_deployment("cart", fleet.namespace), a_quick_policy(fleet.namespace))
    fleet.wait("RolloutComplete")
    old = nodes.join("old", OLD)
    status = poll(fleet.status, until=lambda found: "NodeTooOld" in warnings(found))
    assert (status["targets"]["updated"], skipped(status)) == (1, {})
    fleet.apply(a_quick_policy(fleet.namespace, "example.test/proxy:2"))
    assert skipped(fleet.wait("AllSkipped")) == {"NodeTooOld": 1}
    assert init_names(fleet.deployment()) == ["proxy"]
    nodes.upgrade(old, "v1.31.4")
    status = fleet.wait("RolloutComplete")
    (container,) = fleet.deployment()["spec"]["template"]["spec"]["initContainers"]
    assert container["image"] == "example.test/proxy:2"
    beta = poll(fleet.status, until=lambda found: "NativeSidecarsBeta" in warnings(found))
    assert f"node {old}, whose kubelet v1.31.4" in warnings(beta)["NativeSidecarsBeta"]["message"]
    nodes.upgrade(old, "v1.37.2")
    assert poll(fleet.status, until=lambda found: not warnings(found))


def test_an_old_pool_concerns_only_what_may_land_on_it(fleet: Fleet, nodes: Nodes) -> None:
    nodes.join("old", OLD, pool="old")
    elsewhere = {"nodeSelector": {"type": "kwok"}}
    fleet.apply(
        a_deployment("cart", fleet.namespace),
        a_deployment("elsewhere", fleet.namespace, pod=elsewhere),
        a_quick_policy(fleet.namespace),
    )
    status = fleet.wait("RolloutComplete")
    assert (skipped(status), status["targets"]["updated"]) == ({"NodeTooOld": 1}, 1)
    assert init_names(fleet.deployment("elsewhere")) == ["proxy"]


def test_where_no_node_fits_it_is_not_skipped_and_says_so(fleet: Fleet) -> None:
    fleet.apply(a_waiting_deployment("cart", fleet.namespace), a_quick_policy(fleet.namespace))
    fleet.wait_for(lambda found: init_names(found) == ["proxy"])
    status = poll(fleet.status, until=lambda found: "NodesUnknown" in warnings(found))
    assert warnings(status)["NodesUnknown"]["count"] == 1
    assert f"{fleet.namespace}/cart" in warnings(status)["NodesUnknown"]["message"]


def test_what_may_only_land_on_windows_by_its_pool_is_skipped(fleet: Fleet, nodes: Nodes) -> None:
    win = nodes.join("win", system="windows", agentpool=fleet.namespace)
    pool = {"nodeSelector": {"agentpool": fleet.namespace}}
    fleet.apply(a_deployment("cart", fleet.namespace, pod=pool), a_quick_policy(fleet.namespace))
    status = fleet.wait("AllSkipped")
    assert skipped(status) == {"WindowsNode": 1}
    assert f"node {win}" in status["skipped"][0]["message"]
    nodes.join("linux", agentpool=fleet.namespace)
    fleet.wait_for(lambda found: init_names(found) == ["proxy"])
    poll(partial(fleet.status), until=lambda found: skipped(found) == {})
