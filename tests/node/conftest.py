"""A real kubelet for the tests: what only running containers can show.

One node per machine: where another cluster has it, these tests wait for it. The operator runs as a process of its own,
under its ServiceAccount. Nothing here shares a fixture with the simulated cluster of the other tests.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pykube
import pytest

import localcluster
from localcluster import images, node_lock
from localcluster.errors import NodeTakenError
from tests import kube
from tests.fleet import Fleet
from tests.running import Operator

ROOT = Path(__file__).parents[2]
OPERATOR = "sidecarpolicy"
OPERATOR_NAMESPACE = "sidecarpolicy-system"
NAME = "node-tests"
ON_EMPTY = "test_install.py"
"""What is installed there would clash with what the other tests have in the cluster."""
PATIENCE = 300.0
"""Seconds to wait for the machine's one real node."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here takes a real node, and that takes root. First what takes an empty one, which it gives back."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.skipif(os.geteuid() != 0, reason="a real node needs root"))
    ours = [number for number, item in enumerate(items) if item.path.is_relative_to(here)]
    empties_first = sorted((items[number] for number in ours), key=lambda item: item.path.name != ON_EMPTY)
    for number, item in zip(ours, empties_first, strict=True):
        items[number] = item


@pytest.fixture(scope="session")
def node() -> Iterator[localcluster.Cluster]:
    """A Kubernetes whose containers run, with our kinds, the operator's rights, and Caddy's images; no operator."""
    with _start(time.monotonic() + PATIENCE) as running:
        running.kubectl("apply", "--filename", str(ROOT / "crds"))
        running.kubectl("apply", "--kustomize", str(ROOT / "deploy/base/access"))
        running.await_definitions()
        for tag in (1, 2):
            running.load_image(images.caddy(tag))
        yield running


@pytest.fixture(scope="module")
def empty_node() -> Iterator[localcluster.Cluster]:
    """A Kubernetes whose containers run, with nothing of ours in it; it is gone before another one is started."""
    with _start(time.monotonic() + PATIENCE) as running:
        yield running


def _start(deadline: float) -> localcluster.Cluster:
    while True:
        try:
            return localcluster.start(f"{NAME}-{os.getpid()}", node=True)
        except NodeTakenError:
            if time.monotonic() > deadline:
                raise
            owner = node_lock.owner()
            if owner is not None and owner.cluster.startswith(NAME) and not owner.starter.alive:
                localcluster.stop(owner.cluster)  # tests that were killed left it behind
            time.sleep(1)


@pytest.fixture(scope="session")
def node_api(node: localcluster.Cluster) -> pykube.HTTPClient:
    """Its API server, as the administrator."""
    return kube.client(node.kubeconfig)


@pytest.fixture(scope="session")
def node_operator(node: localcluster.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """The operator, with a token of its ServiceAccount and nothing else."""
    seen = node.kubectl("config", "view", "--minify", "--flatten", "--raw", "--output=json").stdout
    create = ("create", "token", OPERATOR, f"--namespace={OPERATOR_NAMESPACE}", "--duration=24h")
    config = json.loads(seen)
    config["users"][0]["user"] = {"token": node.kubectl(*create).stdout.strip()}
    path = tmp_path_factory.mktemp("operator") / "kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(config))
    with Operator(path) as running:
        yield running


@pytest.fixture
def fleet(
    node: localcluster.Cluster,
    node_api: pykube.HTTPClient,
    node_operator: Operator,
    request: pytest.FixtureRequest,
) -> Iterator[Fleet]:
    """An empty namespace named after the test, with the operator running."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    with kube.a_namespace(node_api, words[:40].strip("-")) as name:
        yield Fleet(node, name)
