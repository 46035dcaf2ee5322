"""The real node of this machine: containers run, reach the API server and each other, and go without a trace."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import localcluster
from localcluster import bridge, cgroups, images, node_configs, node_lock, processes
from localcluster.errors import NodeTakenError

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="a real node needs root"),
]

NAME = f"node-{os.getpid()}"

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: sidecarpolicy.local/busybox:1
        command: [sh, -c, 'mkdir /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"""

NATIVE = """
apiVersion: v1
kind: Pod
metadata: {name: native}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  initContainers:
  - name: proxy
    image: sidecarpolicy.local/busybox:1
    restartPolicy: Always
    command: [sh, -c, 'mkdir /www; echo yes > /www/ready; sleep 1; exec httpd -f -p 15000 -h /www']
    startupProbe: {httpGet: {port: 15000, path: /ready}, periodSeconds: 1, failureThreshold: 30}
  containers:
  - name: app
    image: sidecarpolicy.local/busybox:2
    command:
    - sh
    - -c
    - |
      echo sidecar $(wget -q -O - http://localhost:15000/ready)
      wget -q -O - --no-check-certificate https://$KUBERNETES_SERVICE_HOST/version | grep gitVersion
      echo service $(wget -q -O - http://$WEB_SERVICE_HOST/)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[localcluster.Cluster]:
    with localcluster.start(NAME, node=True, simulated_nodes=1) as cluster:
        yield cluster
    assert traces() == []


def traces() -> list[str]:
    """Return what is left of a real node on this machine."""
    mounts = Path("/proc/self/mounts").read_text()
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    found = {
        "files": node_configs.ROOT.exists() or node_configs.RUN.exists(),
        "owner": node_lock.FILE.exists(),
        "mounts": str(node_configs.ROOT) in mounts or str(node_configs.RUN) in mounts,
        "bridge": Path("/sys/class/net", bridge.NAME).exists(),
        "rules": "KUBE-" in rules or "sidecarpolicy" in rules,
        "groups": any(Path("/sys/fs/cgroup").glob(f"*/{cgroups.NAME}")),
    }
    return [trace for trace, there in found.items() if there]


def test_a_native_sidecar_is_up_first_and_pods_reach_the_api_server_and_services(cluster: localcluster.Cluster) -> None:
    cluster.kubectl("apply", "--filename=-", input=WEB)
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s")
    cluster.kubectl("apply", "--filename=-", input=NATIVE)
    cluster.kubectl("wait", "pod/native", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    sidecar, server, service = cluster.kubectl("logs", "native", "--container=app").stdout.splitlines()
    assert sidecar == "sidecar yes"
    assert "v1.37." in server
    assert service.startswith("service web-")


def test_pods_that_do_not_tolerate_it_stay_off_the_simulated_node(cluster: localcluster.Cluster) -> None:
    placed = cluster.kubectl("get", "pods", "--output=jsonpath={.items[*].spec.nodeName}").stdout
    assert set(placed.split()) == {node_configs.NODE}


def test_an_image_made_here_runs(cluster: localcluster.Cluster) -> None:
    script = b"#!/bin/sh\necho made here\n"
    name = "sidecarpolicy.local/made-here:1"
    cluster.load_image(images.image_archive(name, {"/made": script}, ["/made"], with_busybox=True))
    cluster.kubectl("run", "made", f"--image={name}", "--restart=Never")
    cluster.kubectl("wait", "pod/made", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    assert cluster.kubectl("logs", "made").stdout == "made here\n"


def test_the_second_node_of_a_machine_is_refused(cluster: localcluster.Cluster) -> None:
    with pytest.raises(NodeTakenError, match=f"make cluster-down CLUSTER={NAME}"):
        localcluster.start(f"{NAME}-second", node=True)


def test_a_node_whose_parts_were_killed_leaves_no_trace_either(cluster: localcluster.Cluster) -> None:
    for component in ("kubelet", "containerd", "kube-apiserver"):
        cluster.kill(component)
    assert processes.until(lambda: not cluster.components["containerd"], 5)
    cluster.stop()
    assert traces() == []
