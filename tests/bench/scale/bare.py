"""The yardsticks: what the same work takes with nothing but aiohttp and the API server.

Each is a process of its own, `python -m tests.bench.scale.bare WHAT KUBECONFIG …`, so that its CPU and memory are its
own; it prints one line of JSON. Deployments are changed as their owner would (the application's image), by a JSON
Patch of the size of the operator's, so that an operator that comes back has nothing to put right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests.bench.scale.connecting import JSON_PATCH, each_of, expect, session
from tests.bench.scale.workloads import TIER

IN_FLIGHT = 16
PAGE = 500
DEPLOYMENTS = "/apis/apps/v1/deployments"
COLLECTIONS = (
    DEPLOYMENTS,
    "/apis/apps/v1/replicasets",
    "/apis/apps/v1/controllerrevisions",
    "/apis/sidecars.dev/v1alpha1/sidecarpolicies",
    "/apis/sidecars.dev/v1alpha1/clustersidecarpolicies",
    "/apis/autoscaling/v2/horizontalpodautoscalers",
    "/api/v1/namespaces",
    "/api/v1/nodes",
)
"""What an operator must know before it may write."""
NOTE = "bench.example.test/bare"
"""An annotation as long as the operator's record."""


async def main() -> None:
    """Do one of the yardsticks and say what it took."""
    parser = argparse.ArgumentParser(prog="bare")
    parser.add_argument("what", choices=["patch", "list", "progressive"])
    parser.add_argument("kubeconfig", type=Path)
    parser.add_argument("--tag", default="1", help="the version that the application's image gets")
    parser.add_argument("--tier", default=TIER)
    parser.add_argument("--concurrent", type=int, default=60, help="progressive: how many may be in flight")
    chosen = parser.parse_args()
    async with session(chosen.kubeconfig, IN_FLIGHT + 2) as api:
        if chosen.what == "list":
            result = await listed(api)
        else:
            objects = [each for each in await collection(api, DEPLOYMENTS) if _tier(each) == chosen.tier]
            if chosen.what == "patch":
                result = await patched(api, objects, chosen.tag)
            else:
                result = await progressive(api, objects, chosen.tag, chosen.concurrent)
    print(json.dumps(result))


def run(what: str, kubeconfig: Path, *arguments: str) -> dict[str, Any]:
    """Run one of them as a process of its own; the wall time includes its start."""
    began = time.time()
    command = [sys.executable, "-m", "tests.bench.scale.bare", what, str(kubeconfig), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"the bare client failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result | {"with_start": time.time() - began}


def _tier(deployment: dict[str, Any]) -> str:
    return str(deployment["spec"]["template"]["metadata"]["labels"].get("tier", ""))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def collection(api: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    """Every object of a collection, page by page."""
    found: list[dict[str, Any]] = []
    after = ""
    while True:
        async with api.get(path, params={"limit": str(PAGE)} | ({"continue": after} if after else {})) as response:
            page = orjson.loads(await expect(response))
        found += page["items"]
        after = page["metadata"].get("continue", "")
        if not after:
            return found


async def listed(api: aiohttp.ClientSession) -> dict[str, Any]:
    """List everything, one collection after the other, into dicts."""
    began, cpu = time.monotonic(), _cpu()
    counts = {}
    kept = []
    for path in COLLECTIONS:
        objects = await collection(api, path)
        counts[path.rpartition("/")[2]] = len(objects)
        kept.append({each["metadata"]["uid"]: each for each in objects})
    return {
        "seconds": time.monotonic() - began,
        "cpu": _cpu() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "objects": counts,
    }


def change(deployment: dict[str, Any], tag: str) -> bytes:
    """The patch: guarded by the generation as the operator's is, and about as long."""
    metadata, containers = deployment["metadata"], deployment["spec"]["template"]["spec"]["containers"]
    image, _, _ = containers[0]["image"].rpartition(":")
    return orjson.dumps(
        [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": "/metadata/generation", "value": metadata["generation"]},
            {
                "op": "replace",
                "path": "/spec/template/spec/containers",
                "value": [containers[0] | {"image": f"{image}:bare-{tag}"}, *containers[1:]],
            },
            {
                "op": "add",
                "path": f"/metadata/annotations/{NOTE.replace('/', '~1')}",
                "value": f"{tag:-<400}",
            },
        ]
    )


async def _patch(api: aiohttp.ClientSession, deployment: dict[str, Any], tag: str) -> bytes:
    metadata = deployment["metadata"]
    path = f"/apis/apps/v1/namespaces/{metadata['namespace']}/deployments/{metadata['name']}"
    async with api.patch(path, data=change(deployment, tag), headers=JSON_PATCH) as response:
        return await expect(response)


async def patched(api: aiohttp.ClientSession, objects: list[dict[str, Any]], tag: str) -> dict[str, Any]:
    """One patch each, IN_FLIGHT at a time."""
    began, cpu = time.monotonic(), _cpu()

    async def work(deployment: dict[str, Any]) -> None:
        await _patch(api, deployment, tag)

    await each_of(objects, work, in_flight=IN_FLIGHT)
    return {"seconds": time.monotonic() - began, "cpu": _cpu() - cpu, "count": len(objects)}


def is_complete(deployment: dict[str, Any]) -> bool:
    """The rule of `kubectl rollout status`."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    return bool(
        status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
        and status.get("updatedReplicas", 0) >= wanted
        and status.get("replicas", 0) == status.get("updatedReplicas", 0)
        and status.get("availableReplicas", 0) >= wanted
    )


async def progressive(
    api: aiohttp.ClientSession, objects: list[dict[str, Any]], tag: str, concurrent: int
) -> dict[str, Any]:
    """Keep *concurrent* rollouts in flight by watching, until all are complete. No first one, no other care."""
    began, cpu = time.monotonic(), _cpu()
    waiting = {each["metadata"]["uid"]: each for each in objects}
    rolling: dict[str, int] = {}
    """The generation that each is being rolled out at."""
    async with api.get(DEPLOYMENTS, params={"limit": "1"}) as response:
        version = orjson.loads(await expect(response))["metadata"]["resourceVersion"]
    query = {"watch": "1", "resourceVersion": version}
    async with (
        api.get(DEPLOYMENTS, params=query, timeout=aiohttp.ClientTimeout(total=None)) as stream,
        asyncio.TaskGroup() as patches,
    ):
        while waiting or rolling:
            while waiting and len(rolling) < concurrent:
                uid, deployment = waiting.popitem()
                rolling[uid] = deployment["metadata"]["generation"] + 1
                patches.create_task(_patch(api, deployment, tag))
            deployment = orjson.loads(await stream.content.readline())["object"]
            uid = deployment["metadata"]["uid"]
            if uid in waiting:
                waiting[uid] = deployment
            elif is_complete(deployment) and deployment["metadata"]["generation"] >= rolling.get(uid, 0):
                rolling.pop(uid, None)
    return {"seconds": time.monotonic() - began, "cpu": _cpu() - cpu, "count": len(objects)}


if __name__ == "__main__":
    asyncio.run(main())
