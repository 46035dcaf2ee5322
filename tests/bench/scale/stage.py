"""A cluster with our kinds and rights in it, a policy to edit, and what can be seen of it from outside."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import localcluster
from sidecarpolicy import names
from tests import kube
from tests.audit import OPERATOR_USER
from tests.bench.scale import loading, workloads
from tests.bench.scale.bare import is_complete
from tests.bench.scale.processes import cpu_seconds
from tests.bench.scale.requests import BARE_USER

ROOT = Path(__file__).parents[3]
Seen = TypeVar("Seen")
GROUPS = ("system:serviceaccounts", "system:serviceaccounts:sidecarpolicy-system")
SECOND = "bench:second-replica"
"""A group that tells the second replica's requests from the first's in the audit log."""


class Stage:
    """One cluster to measure in."""

    def __init__(self, cluster: localcluster.Cluster) -> None:
        self.cluster = cluster
        self.api = kube.client(cluster.kubeconfig)
        self.account = cluster.user_kubeconfig(OPERATOR_USER, *GROUPS)
        """The operator's kubeconfig."""
        self.second_account = cluster.user_kubeconfig(OPERATOR_USER, *GROUPS, SECOND)
        self.bare = cluster.user_kubeconfig(BARE_USER, "bench:clients")
        """The yardsticks': another user with the same rights."""

    @property
    def server_cpu(self) -> float:
        """Seconds of CPU that the API server and etcd have used."""
        return sum(cpu_seconds(self.cluster.pid(each)) for each in ("kube-apiserver", "etcd"))

    def apply_policy(self, version: int, *, rollout: workloads.Manifest) -> float:
        """Create the policy, or edit it; return when that was done (seconds since the epoch)."""
        manifest = workloads.policy(version, rollout=rollout)
        path = names.PLURALS[names.CLUSTER_POLICY]
        at = time.time()
        answer = self.api.patch(
            version=names.API_VERSION,
            url=f"{path}/{workloads.POLICY}?fieldManager=bench&force=true",
            data=json.dumps(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        self.api.raise_for_status(answer)
        return at

    def read(self, path: str, *, version: str = "v1", namespace: str | None = None, **query: str) -> Any:
        """Read an object or a collection."""
        return kube.read(self.api, path, version=version, namespace=namespace, **query)

    def status(self) -> dict[str, Any]:
        """The policy's status; empty while it is not about the newest generation."""
        path = f"{names.PLURALS[names.CLUSTER_POLICY]}/{workloads.POLICY}"
        found = self.read(path, version=names.API_VERSION)
        status: dict[str, Any] = found.get("status", {})
        return status if status.get("observedGeneration") == found["metadata"]["generation"] else {}

    def await_reason(self, *reasons: str, timeout: float = 1800.0) -> dict[str, Any]:
        """Wait until Ready of the policy has one of *reasons*; return the status."""
        return awaited(self.status, lambda status: reason_of(status) in reasons, timeout=timeout)

    def await_updated(self, count: int, *, timeout: float = 1800.0) -> dict[str, Any]:
        """Wait until `is_updated` holds; return the status."""
        return awaited(self.status, partial(is_updated, count=count), timeout=timeout)

    def await_gone(self, *, timeout: float = 1800.0) -> None:
        """Wait until the policy is gone."""
        path = f"{names.PLURALS[names.CLUSTER_POLICY]}/{workloads.POLICY}"
        answer = lambda: self.api.get(version=names.API_VERSION, url=path).status_code  # noqa: E731
        awaited(answer, lambda code: code == HTTPStatus.NOT_FOUND, timeout=timeout)


def await_rolled_out(stage: Stage, *, timeout: float = 1800.0) -> None:
    """Wait until every Deployment is rolled out, as the controllers say; one LIST a second."""

    def under_way() -> int:
        found = stage.read("deployments", version="apps/v1")["items"]
        return sum(not is_complete(each) for each in found)

    awaited(under_way, lambda count: not count, timeout=timeout, every=1.0)


def awaited(look: Callable[[], Seen], holds: Callable[[Seen], bool], *, timeout: float, every: float = 0.25) -> Seen:
    """Look *every* so many seconds, so that looking costs the machine next to nothing, until *holds*."""
    deadline = time.monotonic() + timeout
    while not holds(seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout:g} s; seen last: {seen!r}")
        time.sleep(every)
    return seen


def is_updated(status: dict[str, Any], count: int) -> bool:
    """Whether a policy says of *count* Deployments that they are updated, and that it is complete."""
    return reason_of(status) == "RolloutComplete" and bool(status["targets"]["updated"] == count)


def reason_of(status: dict[str, Any]) -> str:
    """The reason of Ready in a policy's status."""
    conditions = status.get("conditions", [])
    return next((str(each["reason"]) for each in conditions if each["type"] == "Ready"), "")


def prepare(cluster: localcluster.Cluster) -> None:
    """Bring our kinds and rights into a new cluster, and the yardsticks' rights."""
    kube.install_kinds(cluster)
    binding = "clusterrolebinding/bench-clients"
    cluster.kubectl("create", *binding.split("/"), "--clusterrole=sidecarpolicy", "--group=bench:clients")


@contextmanager
def a_stage(
    purpose: str,
    make: Callable[[localcluster.Cluster], None],
    *,
    controllers: bool = False,
    simulated_nodes: int = 0,
    keep: bool = True,
) -> Iterator[Stage]:
    """A cluster of its own with our kinds and what *make* brings; *purpose* names the copy that is kept of it."""

    def everything(cluster: localcluster.Cluster) -> None:
        prepare(cluster)
        make(cluster)

    options = {"controllers": controllers, "simulated_nodes": simulated_nodes}
    with loading.with_fleet(f"bench-{purpose}"[:40].rstrip("-"), purpose, everything, keep=keep, **options) as cluster:
        yield Stage(cluster)
