"""A control plane as its users see it, and that nothing of it stays."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import localcluster
from localcluster import cache, control_plane, processes
from localcluster.errors import AlreadyRunningError, ComponentError, NotRunningError
from localcluster.supervisor import Command

NAME = f"local-{os.getpid()}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[localcluster.Cluster]:
    with localcluster.start(NAME, simulated_nodes=2) as cluster:
        yield cluster
    assert processes.marked(cache.clusters() / NAME) == []
    assert not (cache.clusters() / NAME).exists()
    cluster.stop()  # once more does no harm


def test_deployments_become_available_on_simulated_nodes(cluster: localcluster.Cluster) -> None:
    cluster.kubectl("create", "deployment", "shop", "--image=shop:1", "--replicas=3")
    cluster.kubectl("rollout", "status", "deployment/shop", "--timeout=60s")


def test_the_audit_log_counts_who_wrote_what(cluster: localcluster.Cluster) -> None:
    cluster.kubectl("create", "configmap", "counted")
    for number in range(3):
        cluster.kubectl("label", "--overwrite", "configmap/counted", f"number={number}")
    assert cluster.audit_log is not None

    def patches() -> Counter[str]:
        assert cluster.audit_log is not None
        events = [json.loads(line) for line in cluster.audit_log.read_text().splitlines()]
        return Counter(
            event["user"]["username"]
            for event in events
            if event["verb"] == "patch" and event["objectRef"].get("name") == "counted"
        )

    assert processes.until(lambda: patches() == {"admin": 3}, 5)


def test_another_user_has_the_rights_of_its_own(cluster: localcluster.Cluster) -> None:
    alice = cluster.user_kubeconfig("alice", "developers")
    refused = cluster.kubectl(f"--kubeconfig={alice}", "get", "nodes", check=False)
    assert 'User "alice" cannot list resource "nodes"' in refused.stderr


def test_a_component_that_was_killed_comes_back_with_its_data(cluster: localcluster.Cluster) -> None:
    cluster.kubectl("create", "configmap", "kept")
    cluster.kill("etcd")
    assert processes.until(lambda: not cluster.components["etcd"], 5)
    cluster.restart("etcd")
    cluster.kubectl("get", "configmap", "kept")


def test_a_restored_etcd_has_what_the_copy_had(cluster: localcluster.Cluster, tmp_path: Path) -> None:
    cluster.kubectl("create", "configmap", "in-the-copy")
    cluster.back_up(tmp_path / "etcd")
    cluster.kubectl("create", "configmap", "later")
    cluster.restore(tmp_path / "etcd")
    assert all(cluster.components.values())
    cluster.kubectl("get", "configmap", "in-the-copy")
    assert cluster.kubectl("get", "configmap", "later", check=False).returncode


def test_a_running_cluster_is_attached_to_and_not_started_twice(cluster: localcluster.Cluster) -> None:
    with pytest.raises(AlreadyRunningError, match=f"make cluster-down CLUSTER={NAME}"):
        localcluster.start(NAME)
    assert localcluster.attach(NAME).server == cluster.server
    with pytest.raises(NotRunningError):
        localcluster.attach(f"{NAME}-other")


def test_a_component_that_dies_at_the_start_is_named_and_takes_all_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        control_plane,
        "kube_apiserver",
        lambda _: Command(component="kube-apiserver", arguments=("/bin/sh", "-c", "echo out of luck; exit 3")),
    )
    folder = cache.clusters() / f"{NAME}-dies"
    with pytest.raises(ComponentError, match=r"(?s)kube-apiserver has died.*out of luck"):
        localcluster.start(folder.name, controllers=False)
    assert processes.marked(folder) == []
    assert [entry.name for entry in folder.iterdir()] == ["logs"]
    localcluster.stop(folder.name)
    assert not folder.exists()
