"""The comparison that a reader thinks of first: a Kopf operator of sixty lines (naive_operator.py).

The same edit to the same fleet, the operator, the naive one and the bare client in turn, each alone in its turn. The
naive one's sidecar has another name and stands beside the operator's, and what it writes on its first start (Kopf's
annotation, into every Deployment) is there before the first round: all three patch the same objects.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from functools import partial

from tests.bench.scale import loading, workloads
from tests.bench.scale.fanout import Turn, bare_turn, operator_turn
from tests.bench.scale.processes import Program, await_quiet, operator
from tests.bench.scale.requests import NAIVE_USER, Answered, Log
from tests.bench.scale.results import Result, figures
from tests.bench.scale.stage import Stage, a_stage, awaited

ROUNDS = 2
READY = "naive operator: watching"
THEIR_CLIENT = "OpenAPI-Generator"
"""What the official client calls itself; the rest is Kopf's own."""


def measure(size: int, rounds: int | None = None) -> Result:
    """Measure a fleet of *size*."""
    ours: list[Turn] = []
    naive: list[Turn] = []
    theirs: list[Turn] = []
    with a_stage(f"fanout-{size}", partial(loading.create_deployments, count=size, settled=True)) as stage:
        stage.apply_policy(0, rollout=workloads.ALL_AT_ONCE)
        with operator(stage.account):
            stage.await_updated(size)
        account = stage.cluster.user_kubeconfig(NAIVE_USER, "system:masters")
        command = ["env", f"KUBECONFIG={account}", sys.executable, "-m", "tests.bench.scale.naive_operator"]
        start_writes = _first_start(stage, command, size)
        for number in range(1, (rounds or ROUNDS) + 1):
            ours.append(operator_turn(stage, size, number))
            with Program(command, ready=READY) as process:
                await_quiet(process.pid)
                naive.append(_edit(stage, process, size, 100 + number))
            theirs.append(bare_turn(stage, number))
            print(f"naive, {size}, round {number}: {naive[-1]}, operator {ours[-1]}", flush=True)
    return Result(
        measurement="naive",
        size=size,
        figures={
            "times_faster": figures([n.seconds / o.seconds for n, o in zip(naive, ours, strict=True)]),
            "rate_ratio": figures([b.seconds / n.seconds for n, b in zip(naive, theirs, strict=True)]),
            "seconds": figures([each.seconds for each in naive]),
            "operator_seconds": figures([each.seconds for each in ours]),
            "bare_seconds": figures([each.seconds for each in theirs]),
            "cpu_ms_each": figures([1000 * each.cpu / size for each in naive]),
            "operator_cpu_ms_each": figures([1000 * each.cpu / size for each in ours]),
            "bookkeeping_writes": figures([each.others.total() for each in naive]),
            "start_writes": figures([start_writes]),
            "operator_patches": figures([each.patches for each in ours]),
        },
        notes=[f"{len(naive)} rounds; bookkeeping: PATCHes of Deployments beyond one each, by Kopf itself"],
    )


def _first_start(stage: Stage, command: list[str], size: int) -> int:
    """Let the naive operator find the fleet and inject it; how often Kopf wrote for its own sake."""
    log = Log.begin(stage.cluster)
    with Program(command, ready=READY) as process:
        awaited(
            lambda: log.patches(NAIVE_USER) if process.is_ready() else [],
            lambda found: len(found) >= 2 * size,
            timeout=1800,
            every=1.0,
        )
        await_quiet(process.pid)
    return log.count(lambda each: each.is_patch and not each.agent.startswith(THEIR_CLIENT), NAIVE_USER)


def _edit(stage: Stage, process: Program, size: int, number: int) -> Turn:
    log, cpu = Log.begin(stage.cluster), process.cpu
    edit = stage.apply_policy(number, rollout=workloads.ALL_AT_ONCE)

    def useful() -> list[Answered]:
        return [each for each in log.patches(NAIVE_USER) if each.agent.startswith(THEIR_CLIENT)]

    patches = awaited(useful, lambda found: len({each.name for each in found}) == size, timeout=1800, every=1.0)
    complete = time.time() - edit
    await_quiet(process.pid)
    return Turn(
        seconds=max(each.answered for each in patches) - edit,
        cpu=process.cpu - cpu,
        server_cpu=0.0,
        patches=len(patches),
        others=Counter({"patch deployments": len(log.patches(NAIVE_USER)) - len(patches)}),
        complete_seconds=complete,
    )
