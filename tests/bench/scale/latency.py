"""A new Deployment gets its sidecar: how long that takes while a fan-out is under way, against a quiet time.

From the API server's answer to whoever created it to its answer to the operator's PATCH. New Deployments come at a
steady rate; those of a quiet time and those of a fan-out over the whole fleet are compared by their 99th percentile.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path

import orjson

from tests.bench.scale import loading, workloads
from tests.bench.scale.connecting import expect, session
from tests.bench.scale.processes import Profile, await_quiet, operator
from tests.bench.scale.requests import CREATOR_USER, Log
from tests.bench.scale.results import Result, figures, percentile
from tests.bench.scale.stage import Stage, a_stage, awaited

ROUNDS = 3
EVERY = 0.05
"""Seconds between two new Deployments."""
QUIET_COUNT = 150
FEWEST = 50
"""So many are created in a fan-out at least, however quick it is."""


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure a fleet of *size*."""
    quiet: list[float] = []
    busy: list[float] = []
    fresh = itertools.count(size)
    with a_stage(f"fanout-{size}", partial(loading.create_deployments, count=size, settled=True)) as stage:
        stage.apply_policy(0, rollout=workloads.ALL_AT_ONCE)
        with operator(stage.account) as process:
            stage.await_updated(size)
            for number in range(1, (rounds or ROUNDS) + 1):
                await_quiet(process.pid)
                quiet += _created(stage, fresh, lambda _log, made: made < QUIET_COUNT)
                await_quiet(process.pid)
                with Profile(process.pid, f"latency-{size}-{number}"):
                    busy += _created(stage, fresh, partial(_under_way, stage, number, size))
                print(
                    f"latency, {size}, round {number}: p99 {percentile(quiet, 0.99):.3f} s quiet, "
                    f"{percentile(busy, 0.99):.3f} s of {len(busy)} in a fan-out",
                    flush=True,
                )
    return Result(
        measurement="latency",
        size=size,
        figures={
            "p99_ratio": figures([percentile(busy, 0.99) / percentile(quiet, 0.99)]),
            "p99_seconds": figures([percentile(busy, 0.99)]),
            "p50_seconds": figures([percentile(busy, 0.5)]),
            "quiet_p99_seconds": figures([percentile(quiet, 0.99)]),
            "quiet_p50_seconds": figures([percentile(quiet, 0.5)]),
        },
        notes=[f"{len(quiet)} created in quiet, {len(busy)} in a fan-out; one every {1000 * EVERY:.0f} ms"],
    )


def _under_way(stage: Stage, version: int, size: int, log: Log, made: int) -> bool:
    """Edit at the first question; then whether the fan-out is still going on."""
    if not made:
        stage.apply_policy(version, rollout=workloads.ALL_AT_ONCE)
    return made < FEWEST or (made % 20 != 0 or len(log.patches()) < size)


def _created(stage: Stage, fresh: itertools.count[int], goes_on: Callable[[Log, int], bool]) -> list[float]:
    """Create Deployments while *goes_on*, wait until each is patched, delete them; seconds for each."""
    creator = stage.cluster.user_kubeconfig(CREATOR_USER, "system:masters")
    log = Log.begin(stage.cluster)
    names = asyncio.run(_create(creator, fresh, log, goes_on))
    created = {each.name: each for each in log.of(CREATOR_USER) if each.verb == "create"}

    def patched() -> dict[str, float]:
        first: dict[str, float] = {}
        for each in log.patches():
            first.setdefault(each.name, each.answered)
        return first

    times = awaited(patched, lambda found: names <= found.keys(), timeout=300)
    asyncio.run(_delete(creator, names))
    return [times[name] - created[name].answered for name in names]


async def _create(
    kubeconfig: Path, fresh: itertools.count[int], log: Log, goes_on: Callable[[Log, int], bool]
) -> set[str]:
    names: set[str] = set()
    async with session(kubeconfig, 8) as api, asyncio.TaskGroup() as sending:

        async def send(number: int) -> None:
            path = f"/apis/apps/v1/namespaces/{workloads.namespace(number)}/deployments"
            body = orjson.dumps(workloads.deployment(number))
            async with api.post(path, data=body, headers={"Content-Type": "application/json"}) as response:
                await expect(response)

        while goes_on(log, len(names)):
            number = next(fresh)
            names.add(workloads.name(number))
            sending.create_task(send(number))
            await asyncio.sleep(EVERY)
    return names


async def _delete(kubeconfig: Path, names: set[str]) -> None:
    async with session(kubeconfig, 8) as api:
        for name in names:
            where = workloads.namespace(int(name.rpartition("-")[2]))
            async with api.delete(f"/apis/apps/v1/namespaces/{where}/deployments/{name}") as response:
                await expect(response)
