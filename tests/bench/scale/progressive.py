"""A rollout within a budget of 10 % over real Deployments, against a driver that keeps as many in flight by watching.

With the controller manager, the scheduler and simulated nodes: what limits a good operator is how fast those roll a
Deployment out. A round is the bare driver, an edit, the same edit beside policies that select nothing, and the
removal of the sidecars from all; the policy is then created again, and that is not measured. The bare driver begins
with all its slots; the operator sends one Deployment first and waits for it, which is in its time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.bench.scale import bare, loading, workloads
from tests.bench.scale.processes import Profile, await_quiet, operator
from tests.bench.scale.requests import BARE_USER, Log
from tests.bench.scale.results import Figures, Result, figures
from tests.bench.scale.stage import Stage, a_stage, await_rolled_out

ROUNDS = 3
IDLE_POLICIES = 200
SHARE = 10
"""One in so many may be in flight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one turn took: seconds from the edit (or the first request) until every rollout was complete."""

    seconds: float
    cpu: float
    patches: int
    first_seconds: float = 0.0
    """From the edit until the second Deployment was patched: what the care for the first one takes."""


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure a fleet of *size*."""
    bares: list[Turn] = []
    edits: list[Turn] = []
    beside: list[Turn] = []
    removals: list[Turn] = []
    nodes = 1 + size // 300
    with a_stage(f"progressive-{size}", _nothing, controllers=True, simulated_nodes=nodes, keep=False) as stage:
        loading.create_deployments(stage.cluster, size, settled=False)
        await_rolled_out(stage)
        version = 0
        for number in range(1, (rounds or ROUNDS) + 1):
            _inject(stage, size, version := version + 1)
            bares.append(_bare(stage, size, number))
            edits.append(_edit(stage, size, version := version + 1))
            idle = workloads.idle_policies(IDLE_POLICIES)
            loading.create_policies(stage.cluster, idle)
            beside.append(_edit(stage, size, version := version + 1))
            removals.append(_removal(stage, size, idle))
            print(
                f"progressive, {size}, round {number}: {bares[-1]} {edits[-1]} {beside[-1]} {removals[-1]}", flush=True
            )
    return Result(
        measurement="progressive",
        size=size,
        figures=_figures(size, bares, edits, beside, removals),
        notes=[f"{len(edits)} rounds, {size // SHARE} in flight, {nodes} simulated nodes"],
    )


def _nothing(_cluster: object) -> None:
    """Everything is created afterwards: a copy of a fleet that is alive would wake up with its nodes lost."""


def _inject(stage: Stage, size: int, version: int) -> None:
    stage.apply_policy(version, rollout=workloads.ALL_AT_ONCE)
    with operator(stage.account):
        stage.await_updated(size)
    await_rolled_out(stage)


def _bare(stage: Stage, size: int, number: int) -> Turn:
    log = Log.begin(stage.cluster)
    did = bare.run("progressive", stage.bare, "--tag", str(number), "--concurrent", str(max(1, size // SHARE)))
    await_rolled_out(stage)
    return Turn(seconds=did["seconds"], cpu=did["cpu"], patches=len(log.patches(BARE_USER)))


def _edit(stage: Stage, size: int, version: int) -> Turn:
    with operator(stage.account) as process:
        stage.await_updated(size)
        await_quiet(process.pid)
        log, cpu = Log.begin(stage.cluster), process.cpu
        with Profile(process.pid, f"progressive-{size}-{version}"):
            edit = stage.apply_policy(version, rollout=workloads.TEN_PERCENT)
            stage.await_updated(size)
            seconds = time.time() - edit
            await_quiet(process.pid)
        patches = log.patches()
        return Turn(
            seconds=seconds,
            cpu=process.cpu - cpu,
            patches=len(patches),
            first_seconds=sorted(each.received for each in patches)[1] - edit,
        )


def _removal(stage: Stage, size: int, idle: list[workloads.Manifest]) -> Turn:
    with operator(stage.account) as process:
        stage.await_updated(size)
        loading.delete_policies(stage.cluster, idle)
        await_quiet(process.pid)
        log, cpu, began = Log.begin(stage.cluster), process.cpu, time.time()
        with Profile(process.pid, f"removal-{size}"):
            loading.delete_policies(stage.cluster, [workloads.policy(1, rollout={})])
            stage.await_gone()
            seconds = time.time() - began
            await_quiet(process.pid)
        patches = log.patches()
        turn = Turn(
            seconds=seconds,
            cpu=process.cpu - cpu,
            patches=len(patches),
            first_seconds=sorted(each.received for each in patches)[1] - began,
        )
    await_rolled_out(stage)
    return turn


def _figures(size: int, bares: list[Turn], edits: list[Turn], beside: list[Turn], removals: list[Turn]) -> Figures:
    return {
        "rate_ratio": figures([b.seconds / a.seconds for a, b in zip(edits, bares, strict=True)]),
        "cpu_ms_each": figures([1000 * each.cpu / size for each in edits]),
        "beside_ratio": figures([b.seconds / a.seconds for a, b in zip(edits, beside, strict=True)]),
        "beside_cpu_ms_each": figures([1000 * each.cpu / size for each in beside]),
        "removal_rate_ratio": figures([b.seconds / a.seconds for a, b in zip(removals, bares, strict=True)]),
        "removal_cpu_ms_each": figures([1000 * each.cpu / size for each in removals]),
        "bare_cpu_ms_each": figures([1000 * each.cpu / size for each in bares]),
        "bare_seconds": figures([each.seconds for each in bares]),
        "seconds": figures([each.seconds for each in edits]),
        "beside_seconds": figures([each.seconds for each in beside]),
        "removal_seconds": figures([each.seconds for each in removals]),
        "first_seconds": figures([each.first_seconds for each in edits]),
        "removal_first_seconds": figures([each.first_seconds for each in removals]),
        "patches": figures([each.patches for each in edits]),
        "removal_patches": figures([each.patches for each in removals]),
    }
