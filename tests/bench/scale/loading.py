"""Bringing a fleet into a cluster: through the API, many at a time, and from then on from a copy of etcd's data.

Forty thousand objects through the API take a minute or two; etcd's folder, copied while etcd stands still (SIGSTOP),
is what a crash would leave, and a new cluster that begins with it has them in seconds. A copy is found again by
everything that its content depends on.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson

import localcluster
from localcluster import cache
from tests.bench.scale import workloads
from tests.bench.scale.bare import DEPLOYMENTS, collection
from tests.bench.scale.connecting import MERGE_PATCH, each_of, expect, session
from tests.bench.scale.processes import prefer

IN_FLIGHT = 32
ROOT = Path(__file__).parents[3]
KEPT = 6
"""Copies that are kept; older ones go."""
_CONTENT = (
    "tests/bench/scale/workloads.py",
    "tests/bench/scale/loading.py",
    "operator/sidecarpolicy/names.py",
    "operator/sidecarpolicy/core/record.py",
    "operator/sidecarpolicy/core/revision.py",
    "deploy/local/go/kubernetes/go.mod",
)


def with_fleet(
    cluster_name: str, purpose: str, make: Callable[[localcluster.Cluster], None], *, keep: bool = True, **options: Any
) -> localcluster.Cluster:
    """Start a cluster that holds what *make* creates in one, from a copy where there is one.

    *purpose* names the copy: letters, digits and dashes, with everything that *make* depends on.
    *keep*: whether one is made.
    """
    copy = _folder() / f"{purpose}-{_fingerprint()}"
    if copy.exists():
        copy.touch()
        return _preferred(localcluster.start(cluster_name, etcd_data=copy, **options))
    cluster = _preferred(localcluster.start(cluster_name, **options))
    try:
        make(cluster)
        if keep:
            _keep(cluster, copy)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _preferred(cluster: localcluster.Cluster) -> localcluster.Cluster:
    for component in cluster.components:
        prefer(cluster.pid(component))
    return cluster


def _folder() -> Path:
    return cache.root() / "bench-scale"


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for each in _CONTENT:
        file = ROOT / each
        digest.update(file.read_bytes() if file.exists() else b"")
    return digest.hexdigest()[:12]


def _keep(cluster: localcluster.Cluster, copy: Path) -> None:
    partial = copy.with_name(f".{copy.name}")
    shutil.rmtree(partial, ignore_errors=True)
    cluster.back_up(partial)
    partial.rename(copy)
    kept = sorted(copy.parent.iterdir(), key=lambda each: each.stat().st_mtime, reverse=True)
    for each in kept[KEPT:]:
        shutil.rmtree(each)


def create_namespaces(cluster: localcluster.Cluster, count: int) -> None:
    """Create the namespaces that *count* Deployments are in."""
    asyncio.run(_create(cluster.kubeconfig, [("/api/v1/namespaces", _a_namespace(each)) for each in _of(count)]))


def _of(count: int) -> list[str]:
    return workloads.namespaces(count)


def _a_namespace(name: str) -> workloads.Manifest:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}}


def _a_default_account() -> workloads.Manifest:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}


def create_deployments(cluster: localcluster.Cluster, count: int, *, settled: bool) -> None:
    """Create *count* Deployments; *settled*: each with the status of one that is rolled out."""
    create_namespaces(cluster, count)
    if settled:  # no controller is there to make what every Pod needs, one of a dry run too
        accounts = [(f"/api/v1/namespaces/{each}/serviceaccounts", _a_default_account()) for each in _of(count)]
        asyncio.run(_create(cluster.kubeconfig, accounts))
    asyncio.run(_create_deployments(cluster.kubeconfig, range(count), settled=settled))


async def _create_deployments(kubeconfig: Path, numbers: range, *, settled: bool) -> None:
    status = orjson.dumps({"status": workloads.settled_status(datetime.datetime.now(datetime.UTC))})
    async with session(kubeconfig, IN_FLIGHT) as api:

        async def work(number: int) -> None:
            body = workloads.deployment(number, marked="yes" if number == 0 else None)
            path = f"/apis/apps/v1/namespaces/{workloads.namespace(number)}/deployments"
            await _post(api, path, body)
            if settled:
                where = f"{path}/{workloads.name(number)}/status"
                async with api.patch(where, data=status, headers=MERGE_PATCH) as response:
                    await expect(response)

        await each_of(numbers, work, in_flight=IN_FLIGHT)


def create_replica_sets(cluster: localcluster.Cluster, *, old: int) -> None:
    """Create the ReplicaSets of every Deployment but the one with the label `FIRST`: *old* ones and the current one.

    That one gets none, so that it counts as complete after a patch although there is no controller to make the next.
    """
    asyncio.run(_create_replica_sets(cluster.kubeconfig, old))


async def _create_replica_sets(kubeconfig: Path, old: int) -> None:
    async with session(kubeconfig, IN_FLIGHT) as api:

        async def work(deployment: dict[str, Any]) -> None:
            if workloads.FIRST in deployment["spec"]["template"]["metadata"]["labels"]:
                return
            path = f"/apis/apps/v1/namespaces/{deployment['metadata']['namespace']}/replicasets"
            for each in workloads.replica_sets(deployment, old=old):
                await _post(api, path, each)

        await each_of(await collection(api, DEPLOYMENTS), work, in_flight=IN_FLIGHT)


def create_policies(cluster: localcluster.Cluster, policies: list[workloads.Manifest]) -> None:
    """Create policies of either kind."""
    asyncio.run(_create(cluster.kubeconfig, [(_path(each), each) for each in policies]))


def delete_policies(cluster: localcluster.Cluster, policies: list[workloads.Manifest]) -> None:
    """Ask for the deletion of policies; they go when the operator has let them go."""
    asyncio.run(_delete(cluster.kubeconfig, [f"{_path(each)}/{each['metadata']['name']}" for each in policies]))


def _path(policy: workloads.Manifest) -> str:
    base = f"/apis/{policy['apiVersion']}"
    if where := policy["metadata"].get("namespace"):
        return f"{base}/namespaces/{where}/sidecarpolicies"
    return f"{base}/clustersidecarpolicies"


async def _create(kubeconfig: Path, wanted: list[tuple[str, workloads.Manifest]]) -> None:
    async with session(kubeconfig, IN_FLIGHT) as api:

        async def work(each: tuple[str, workloads.Manifest]) -> None:
            await _post(api, *each)

        await each_of(wanted, work, in_flight=IN_FLIGHT)


async def _delete(kubeconfig: Path, paths: list[str]) -> None:
    async with session(kubeconfig, IN_FLIGHT) as api:

        async def work(path: str) -> None:
            async with api.delete(path, params={"propagationPolicy": "Background"}) as response:
                await expect(response)

        await each_of(paths, work, in_flight=IN_FLIGHT)


async def _post(api: aiohttp.ClientSession, path: str, body: workloads.Manifest) -> None:
    headers = {"Content-Type": "application/json"}
    async with api.post(path, data=orjson.dumps(body), params={"fieldManager": "helm"}, headers=headers) as response:
        await expect(response)
