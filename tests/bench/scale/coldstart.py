"""From the start of a process to its first write, at a size, and what it then costs to do nothing.

The fleet is injected and at rest: each Deployment has its current ReplicaSet and three old ones, and beside the policy
that selects all of them there are others that select nothing. Before each start the policy is edited, so that there is
something to write: one Deployment is a canary group of its own and is to be patched; then the rollout waits for its
author. The yardstick lists the same collections, page by page, into dicts. Both count from the start of the process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import localcluster
from tests.bench.scale import bare, loading, workloads
from tests.bench.scale.processes import Profile, await_quiet, known_switch, memory_mib, operator
from tests.bench.scale.requests import Log
from tests.bench.scale.results import Figure, Result, figures
from tests.bench.scale.stage import Stage, a_stage, awaited

ROUNDS = 3
IDLE_SECONDS = 60
OLD_REPLICA_SETS = 3
IDLE_POLICIES = 199
RELIST_SECONDS = 30
"""Seconds between two full LISTs in the start whose peak of memory is measured with some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start: seconds from the process's beginning to its first PATCH, and what that cost."""

    seconds: float
    cpu: float
    settled_mib: float
    peak_mib: float


def fleet(cluster: localcluster.Cluster, size: int) -> None:
    """Bring the whole fleet, injected."""
    loading.create_deployments(cluster, size, settled=True)
    stage = Stage(cluster)
    stage.apply_policy(0, rollout=workloads.ALL_AT_ONCE)
    with operator(stage.account):
        stage.await_updated(size)
    loading.create_replica_sets(cluster, old=OLD_REPLICA_SETS)
    loading.create_policies(cluster, workloads.idle_policies(IDLE_POLICIES))
    # Once, so that these have been seen before: each gets its finalizer, its first revision and its status.
    with operator(stage.account) as process:
        await_quiet(process.pid)


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure a fleet of *size*."""
    began = time.monotonic()
    with a_stage(f"cold-{size}", lambda cluster: fleet(cluster, size)) as stage:
        print(f"cold start, {size}: the cluster was there after {time.monotonic() - began:.0f} s", flush=True)
        starts, lists = [], []
        for number in range(1, (rounds or ROUNDS) + 1):
            lists.append(bare.run("list", stage.bare))
            starts.append(_start(stage, number))
            print(f"cold start, {size}, round {number}: {starts[-1]}, bare {lists[-1]}", flush=True)
        idle = _idle(stage)
        relisted = _relisted(stage)
    return Result(
        measurement="coldstart",
        size=size,
        figures={
            "ratio": figures([a.seconds / b["with_start"] for a, b in zip(starts, lists, strict=True)]),
            "seconds": figures([each.seconds for each in starts]),
            "bare_seconds": figures([each["with_start"] for each in lists]),
            "cpu_seconds": figures([each.cpu for each in starts]),
            "bare_cpu_seconds": figures([each["cpu"] for each in lists]),
            "settled_mib": figures([each.settled_mib for each in starts]),
            "peak_mib": figures([each.peak_mib for each in starts]),
            "bare_peak_mib": figures([each["peak_mib"] for each in lists]),
        }
        | idle
        | relisted,
        notes=[
            f"{len(starts)} starts; objects: " + ", ".join(f"{n} {what}" for what, n in lists[0]["objects"].items())
        ],
    )


def _start(stage: Stage, number: int) -> Start:
    stage.apply_policy(number, rollout=workloads.ONE_THEN_WAIT)
    log = Log.begin(stage.cluster)
    process = operator(stage.account).launch()
    try:
        with Profile(process.pid, f"coldstart-{number}"):
            awaited(log.patches, bool, timeout=1800)
            cpu = process.cpu
            stage.await_reason("AwaitingApproval")
            await_quiet(process.pid)
        return Start(
            seconds=log.patches()[0].received - process.started_at,
            cpu=cpu,
            settled_mib=memory_mib(process.pid),
            peak_mib=memory_mib(process.pid, "VmHWM"),
        )
    finally:
        process.stop()


def _idle(stage: Stage) -> dict[str, Figure]:
    """A minute in which nothing happens."""
    with operator(stage.account) as process:
        stage.await_reason("AwaitingApproval")
        await_quiet(process.pid)
        time.sleep(10)  # whatever is put off for a moment
        log, cpu = Log.begin(stage.cluster), process.cpu
        time.sleep(IDLE_SECONDS)
        used = process.cpu - cpu
        writes = log.count(lambda each: each.is_write and each.resource != "leases")
        return {
            "idle_cpu_percent": figures([100 * used / IDLE_SECONDS]),
            "idle_writes": figures([writes]),
            "idle_requests": figures([len(log.of())]),
            "idle_mib": figures([memory_mib(process.pid)]),
        }


def _relisted(stage: Stage) -> dict[str, Figure]:
    """The most memory there ever is, full LISTs after the first included."""
    switch = known_switch("--resync-seconds", "--sync-period")
    if switch is None:
        return {}
    with operator(stage.account, f"{switch}={RELIST_SECONDS}") as process:
        stage.await_reason("AwaitingApproval")
        cpu = process.cpu
        time.sleep(2.5 * RELIST_SECONDS)
        return {
            "relist_peak_mib": figures([memory_mib(process.pid, "VmHWM")]),
            "relist_cpu_seconds": figures([process.cpu - cpu]),
        }
