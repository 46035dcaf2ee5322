"""Simulated nodes: kwok plays kubelet for them, and Pods on them become ready without any process.

They carry the label ``type=kwok`` and, where a real node is beside them, a taint, so that only Pods
that tolerate it land there. Without a real node they are untainted and stand in for one.
"""

from __future__ import annotations

from typing import Any

from localcluster.apiserver import ApiServer
from localcluster.binaries import KWOK, STAGES
from localcluster.control_plane import Plan
from localcluster.supervisor import Command

ANNOTATION = "kwok.x-k8s.io/node"
TAINT = {"key": ANNOTATION, "value": "fake", "effect": "NoSchedule"}
_CAPACITY = {"cpu": "128", "memory": "512Gi", "ephemeral-storage": "1Ti", "pods": "1000"}


def kwok(plan: Plan) -> Command:
    """Return how kwok is started: on the nodes with its annotation, with the stages of its own module."""
    stages = [f"--config={KWOK.built / stage.rpartition('/')[2]}" for stage in STAGES]
    return Command(
        component="kwok",
        arguments=(
            str(plan.programs["kwok"]),
            f"--kubeconfig={plan.folder / 'kwok.kubeconfig'}",
            *stages,
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={ANNOTATION}=fake",
            "--node-lease-duration-seconds=40",
            f"--server-address=127.0.0.1:{plan.ports['kwok']}",
        ),
    )


def create_nodes(server: ApiServer, count: int, *, tainted: bool) -> None:
    """Create the nodes ``kwok-1`` to ``kwok-<count>``."""
    for number in range(1, count + 1):
        server.create("/api/v1/nodes", node(f"kwok-{number}", tainted=tainted))


def ready_nodes(server: ApiServer) -> int:
    """Return how many simulated nodes are ready for Pods."""
    nodes = server.read("/api/v1/nodes?labelSelector=type%3Dkwok")["items"]
    return sum(is_ready(node) for node in nodes)


def is_ready(node: dict[str, Any] | None) -> bool:
    """Return whether a Node, as read from the server, is ready and no taint says otherwise."""
    if node is None:
        return False
    conditions = node["status"].get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not any(taint["key"] == "node.kubernetes.io/not-ready" for taint in node["spec"].get("taints", []))


def node(name: str, *, tainted: bool) -> dict[str, Any]:
    """Return the manifest of one simulated node."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {ANNOTATION: "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {
                "type": "kwok",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "spec": {"taints": [TAINT]} if tainted else {},
        "status": {
            "allocatable": _CAPACITY,
            "capacity": _CAPACITY,
            "nodeInfo": {
                "kubeletVersion": "v1.37.2",
                "architecture": "amd64",
                "operatingSystem": "linux",
                "bootID": "",
                "containerRuntimeVersion": "",
                "kernelVersion": "",
                "kubeProxyVersion": "",
                "machineID": "",
                "osImage": "",
                "systemUUID": "",
            },
        },
    }
