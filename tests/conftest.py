"""A Kubernetes for the tests: one control plane per run, one namespace per test.

SIDECARPOLICY_CLUSTER=current takes the cluster of the current kubeconfig instead. The operator is not in it:
tests run it as a process of their own, under its own ServiceAccount.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pykube
import pytest

import localcluster
from localcluster.current import is_wanted
from tests import kube
from tests.results import pytest_addoption as pytest_addoption
from tests.results import pytest_terminal_summary as pytest_terminal_summary
from tests.running import Operator
from tests.scheduling import pytest_xdist_make_scheduler as pytest_xdist_make_scheduler

ROOT = Path(__file__).parent.parent

# Where Python writes no bytecode, as in many images of it, every program that a test starts compiles all that it
# imports: more than half of what the start of an operator costs.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

OPERATOR = "sidecarpolicy"
OPERATOR_NAMESPACE = "sidecarpolicy-system"

# Runs kubectl as the administrator: `Cluster.kubectl`.
Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cluster() -> Iterator[localcluster.Cluster]:
    """A control plane with simulated nodes, our kinds and the operator's rights; no operator."""
    started = localcluster.current() if is_wanted() else localcluster.start(f"test-{os.getpid()}", simulated_nodes=3)
    with started as running:
        kube.install_kinds(running)
        yield running


@pytest.fixture(scope="session")
def kubectl(cluster: localcluster.Cluster) -> Kubectl:
    """Kubectl, as the administrator."""
    return cluster.kubectl


@pytest.fixture(scope="session")
def api(cluster: localcluster.Cluster) -> pykube.HTTPClient:
    """The API server, as the administrator."""
    return kube.client(cluster.kubeconfig)


@pytest.fixture
def namespace(api: pykube.HTTPClient, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one test, named after it; deleted in the background."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    with kube.a_namespace(api, words[:40].strip("-")) as name:
        yield name


@pytest.fixture(scope="session")
def operator_kubeconfig(cluster: localcluster.Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kubeconfig with a token of the operator's ServiceAccount: what that may not do fails in tests too."""
    return kubeconfig_of(OPERATOR, cluster, tmp_path_factory.mktemp("operator"))


def kubeconfig_of(
    account: str, cluster: localcluster.Cluster, folder: Path, *, namespace: str = OPERATOR_NAMESPACE
) -> Path:
    """Write a kubeconfig with a token of one of our ServiceAccounts."""
    arguments = ("create", "token", account, f"--namespace={namespace}", "--duration=24h")
    token = cluster.kubectl(*arguments).stdout.strip()
    where = {"server": cluster.server} | ({"certificate-authority": str(cluster.ca_file)} if cluster.ca_file else {})
    context = {"cluster": "tests", "user": account, "namespace": namespace}
    path = folder / "kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "tests", "cluster": where}],
                "users": [{"name": account, "user": {"token": token}}],
                "contexts": [{"name": "tests", "context": context}],
                "current-context": "tests",
            }
        )
    )
    path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def operator_of_the_session(operator_kubeconfig: Path) -> Iterator[Operator]:
    """The operator, not started yet."""
    made = Operator(operator_kubeconfig)
    yield made
    made.stop()
    made.forget()


@pytest.fixture
def operator(operator_of_the_session: Operator) -> Operator:
    """The operator, running. It runs on from test to test, and is started again after those that run their own."""
    if not operator_of_the_session.started:
        operator_of_the_session.start()
    return operator_of_the_session
